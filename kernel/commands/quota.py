"""Show and set what roles are guaranteed and limited to."""

from __future__ import annotations

from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, WrongUsage, credential, master_options, masters
from kernel.commands.role import amounts, role_named, roles_of

HEADINGS = ("ROLE", "GUARANTEE", "LIMIT", "CONSUMED")


@click.group("quota")
def quota() -> None:
    """Show and set what roles are guaranteed and limited to.

    Any role of the tree may have a quota. What is used, offered or reserved below a role counts.
    """


@quota.command("list")
@master_options
def quota_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List the quotas, and what is consumed of them."""
    found = [role["quota"] for role in roles_of(Master(masters(master), credential(credential_file))) if is_set(role)]
    if as_json:
        output.emit_json(found)
    else:
        rows = [
            (
                one["role"],
                amounts(one["guarantee"]),
                amounts(one["limit"]),
                amounts({name: one["consumed"].get(name, 0.0) for name in _names(one)}),
            )
            for one in found
        ]
        output.table(HEADINGS, rows, empty="No role has a quota.")


@quota.command("set")
@click.argument("role")
@click.option("--guarantee", metavar="AMOUNTS", help="What is kept for the role, such as cpus=8,mem=16g.")
@click.option("--limit", metavar="AMOUNTS", help="What it may not pass, such as cpus=32.")
@click.option("--force", is_flag=True, help="Even if the cluster cannot give it, or more is in use (no task is ended).")
@click.option("--dry-run", is_flag=True, help="Only say whether it could be set.")
@master_options
def quota_set(
    role: str,
    guarantee: str | None,
    limit: str | None,
    force: bool,
    dry_run: bool,
    master: str | None,
    credential_file: str | None,
    as_json: bool,
) -> None:
    """Set the whole quota of a role: what is not named is not guaranteed, or not limited."""
    if guarantee is None and limit is None:
        raise click.UsageError("give --guarantee, --limit or both; `meseta quota rm ROLE` removes a quota")
    guarantees, limits = _scalars(guarantee, "--guarantee"), _scalars(limit, "--limit")
    config = {"role": role, "guarantees": guarantees, "limits": limits}
    asked = Master(masters(master), credential(credential_file))
    asked.call("UPDATE_QUOTA", force=force, quota_configs=[config], **({"dry_run": True} if dry_run else {}))
    told = {"guarantee": _units(guarantees), "limit": _units(limits)}
    if as_json:
        output.emit_json({"role": role, **told, "dry_run": dry_run})
        return
    parts = [f"{name} {amounts(units)}" for name, units in told.items() if units]
    click.echo(f"Role {role}: {', '.join(parts)}{'; nothing was set' if dry_run else ''}.")


@quota.command("rm")
@click.argument("role")
@master_options
def quota_rm(role: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Remove the quota of a role."""
    asked = Master(masters(master), credential(credential_file))
    if not is_set(role_named(roles_of(asked), role)):
        raise CommandError(f"role {role!r} has no quota", field="role", hint="`meseta quota list` shows what there is")
    asked.call("REMOVE_QUOTA", role=role)
    if as_json:
        output.emit_json({"role": role})
    else:
        click.echo(f"Role {role} has no quota any more.")


def is_set(role: dict[str, Any]) -> bool:
    return bool(role["quota"]["guarantee"] or role["quota"]["limit"])


def _names(quota: dict[str, Any]) -> dict[str, None]:
    return dict.fromkeys((*quota["guarantee"], *quota["limit"]))


def _scalars(text: str | None, option: str) -> dict[str, dict[str, float]]:
    from kernel.errors import CallError
    from kernel.planning.amounts import parse_amounts

    if text is None:
        return {}
    try:
        return {name: {"value": milli / 1000} for name, milli in parse_amounts(text, option, exact=True).items()}
    except CallError as error:
        raise WrongUsage(str(error)) from error


def _units(scalars: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: scalar["value"] for name, scalar in scalars.items()}
