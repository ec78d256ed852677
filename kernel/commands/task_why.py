"""`meseta task why`: the reason a task waits, and what would unblock it."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, credential, master_options, masters


@click.command("why")
@click.argument("name", required=False)
@master_options
def task_why(name: str | None, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Say why tasks wait, and what would unblock them.

    NAME is what their framework calls them, as in `meseta run --name NAME`; without it all are shown that wait.
    """
    asked = Master(masters(master), credential(credential_file))
    found = asked.get("/explain" + (f"?name={quote(name, safe='')}" if name is not None else ""))
    waiting: list[dict[str, Any]] = found["demands"]
    if as_json:
        output.emit_json(waiting)
        return
    if not waiting and name is not None:
        raise CommandError(
            f"no task called {name!r} waits", field="name", hint="`meseta task list --all` shows those that run or have ended"
        )
    if not waiting:
        click.echo("No task waits.", err=True)
    for number, one in enumerate(waiting):
        if number:
            click.echo()
        _show(one)
    if found["more"]:
        click.echo(f"\nand {found['more']} more", err=True)


def _show(one: dict[str, Any]) -> None:
    amounts = ", ".join(f"{name} {output.number(amount)}" for name, amount in one["resources"].items())
    offered = f", {one['offered']} more are offered" if one.get("offered") else ""
    output.details({
        "task": one["name"] or "(no name)",
        "framework": f"{one['framework']} ({one['framework_id']})",
        "role": one["role"],
        "waiting": f"{one['waiting']} of {amounts}, for {output.age(one['since'], time.time())}{offered}",
        "why": one["reason"],
        "unblocks": one["unblocks"],
    })  # fmt: skip
