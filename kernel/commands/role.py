"""Show the roles that share the cluster, and what each has."""

from __future__ import annotations

from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import credential, master_options, masters

HEADINGS = ("ROLE", "WEIGHT", "FRAMEWORKS", "CPUS", "MEM", "GPUS")


@click.group("role")
def role() -> None:
    """Show the roles that share the cluster."""


@role.command("list")
@master_options
def role_list(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """List the roles in use and what each has.

    In use is what a framework uses or what has a weight or quota.
    """
    roles: list[dict[str, Any]] = Master(masters(master), credential(credential_file)).get("/roles")["roles"]
    if as_json:
        output.emit_json(roles)
    else:
        output.table(HEADINGS, [_row(one) for one in roles], empty="No role is in use.")


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
