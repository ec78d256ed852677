"""Show the roles that share the cluster and what each has, and set their weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, WrongUsage, credential, master_options, masters
from kernel.commands.lookup import SHOWN_MAX, value
from kernel.wire.roles import WEIGHT_MAX, WEIGHT_MIN, is_same_or_below

HEADINGS = ("ROLE", "WEIGHT", "FRAMEWORKS", "CPUS", "MEM", "GPUS")
TREE = ("ROLE", "WEIGHT", "SHARE", "GUARANTEE", "LIMIT", "ALLOCATED", "OFFERED", "RESERVED", "FRAMEWORKS")
FRAMEWORKS = ("FRAMEWORK", "NAME", "ROLE", "OFFERS")
PREEMPTIONS = ("PREEMPTED", "NAME", "ROLE", "FOR WHAT IS GUARANTEED TO", "ENDS", "ANSWER")
SHOWN = ("cpus", "mem", "gpus", "disk")  # First, in this order.


@click.group("role")
def role() -> None:
    """Show the roles that share the cluster, and set their weights."""


@role.command("list")
@master_options
def role_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List the roles in use and what each has.

    In use is what a framework uses, what is reserved for, and what has a weight or quota; and all roles above those.
    """
    roles = roles_of(Master(masters(master), credential(credential_file)))
    if as_json:
        output.emit_json(roles)
    else:
        output.table(HEADINGS, [_row(one) for one in roles], empty="No role is in use.")


@role.command("show")
@click.argument("role")
@master_options
def role_show(role: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show one role and those below it: weight, share, quota, what they have, and which frameworks are in them.

    A share is that of the resource of which a role has the largest part, divided by its weight.
    """
    asked = Master(masters(master), credential(credential_file))
    roles = roles_of(asked)
    shown = role_named(roles, role)
    below = [one for one in roles if one["name"].startswith(f"{role}/")]
    if as_json:
        output.emit_json({**shown, "roles": below})
        return
    quota = shown["quota"]
    output.details(
        {
            "role": role,
            "weight": output.number(shown["weight"]),
            "share": _share(shown),
            "guarantee": amounts(quota["guarantee"]),
            "limit": amounts(quota["limit"]),
            "consumed": amounts(quota["consumed"]),
            "allocated": amounts(shown["allocated"]),
            "offered": amounts(shown["offered"]),
            "reserved": amounts(shown["reserved"]),
        }
    )
    if below:
        click.echo()
        depth = role.count("/")
        output.table(TREE, [_branch(one, one["name"].count("/") - depth) for one in (shown, *below)], empty="")
    _show_preemption(asked.get("/explain?limit=0"), role)
    frameworks = _frameworks(asked, (shown, *below))
    if frameworks:
        click.echo()
        output.table(FRAMEWORKS, frameworks, empty="")


@role.command("weight", context_settings={"ignore_unknown_options": True})  # So that -1 is told why not.
@click.argument("role")
@click.argument("weight", type=float)
@master_options
def role_weight(role: str, weight: float, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Set the weight of a role: with 2 it may have twice as much as a role beside it with 1, which is what others have."""
    if not math.isfinite(weight):  # JSON has no form for it.
        raise WrongUsage(f"weight: {weight} is not allowed; a number above 0, from {WEIGHT_MIN} to {WEIGHT_MAX}, is")
    asked = Master(masters(master), credential(credential_file))
    asked.call("UPDATE_WEIGHTS", weight_infos=[{"role": role, "weight": weight}])
    if as_json:
        output.emit_json({"role": role, "weight": weight})
    else:
        click.echo(f"Role {role} has weight {output.number(weight)}.")


def roles_of(master: Master) -> list[dict[str, Any]]:
    """All roles, as /roles tells them. Raises CommandError."""
    roles: list[dict[str, Any]] = master.get("/roles")["roles"]
    return roles


def role_named(roles: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The role of that name. Raises CommandError."""
    found = next((role for role in roles if role["name"] == name), None)
    if found is not None:
        return found
    like = [role["name"] for role in roles if name and name in role["name"]][:SHOWN_MAX]
    hint = f"is it {' or '.join(like)}?" if like else "`meseta role list` shows what there is"
    raise CommandError(f"no role {name!r} is in use", field="role", hint=hint)


def amounts(units: Mapping[str, float]) -> str:
    """`cpus 2, mem 512M`; empty for none."""
    names = sorted(units, key=lambda name: (SHOWN.index(name) if name in SHOWN else len(SHOWN), name))
    return ", ".join(f"{name} {output.amount(name, units[name])}" for name in names)


def _share(role: dict[str, Any]) -> str:
    return f"{output.number(100 * role['share'])}%" if "share" in role else ""


def _branch(role: dict[str, Any], depth: int) -> tuple[str, ...]:
    name = role["name"] if not depth else "  " * depth + role["name"].rpartition("/")[2]
    quota, suppressed = role["quota"], len(role.get("suppressed", ()))
    return (
        name,
        output.number(role["weight"]),
        _share(role),
        amounts(quota["guarantee"]),
        amounts(quota["limit"]),
        *(amounts(role[part]) for part in ("allocated", "offered", "reserved")),
        str(len(role["frameworks"])) + (f" ({suppressed} suppressed)" if suppressed else ""),
    )


def _frameworks(master: Master, roles: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    infos = [framework["framework_info"] for framework in master.call("GET_FRAMEWORKS").get("frameworks", [])]
    names = {value(info, "id"): info["name"] for info in infos}
    return [
        (framework_id, names.get(framework_id, ""), role["name"], "suppressed" if framework_id in role.get("suppressed", ()) else "wanted")
        for role in roles
        for framework_id in role["frameworks"]
    ]


def _show_preemption(found: dict[str, Any], role: str) -> None:
    """The tasks of the role, or below it, that are to end for others, and those of others that are to end for it."""
    now_s = time.time()
    rows = [
        (
            task_id,
            one["framework"],
            one["role"],
            one["guarantee"],
            "now" if one["ending"] else f"in {max(0.0, one['due'] - now_s):.0f}s",
            one["answer"].lower() if one["answer"] != "UNKNOWN" else "",
        )
        for one in found.get("preemptions", [])
        if any(is_same_or_below(of, role) for of in (one["role"], one["guarantee"]))
        for task_id in one["tasks"]
    ]
    if rows:
        click.echo()
        output.table(PREEMPTIONS, rows, empty="")
    for one in found.get("unmet", []):
        if is_same_or_below(one["guarantee"], role):
            click.echo(
                f"\nRole {one['guarantee']} has less than it is guaranteed, which framework {one['framework']} wants; no more tasks that "
                "would help are on revocable resources or of roles above their limit."
            )


def _row(role: dict[str, Any]) -> tuple[str, ...]:
    used = role.get("allocated") or role.get("resources", {})
    return (
        role["name"],
        output.number(role.get("weight", 1.0)),
        str(len(role.get("frameworks", []))),
        output.number(used.get("cpus", 0)),
        output.mebibytes(used.get("mem", 0)),
        output.number(used.get("gpus", 0)),
    )
