"""`meseta task why`: the reason a task waits, and what would unblock it."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, credential, master_options, masters
from kernel.commands.lookup import SHOWN_MAX, Ambiguous, value
from kernel.commands.tasks import TERMINAL, find_task, last_status, word


@click.command("why")
@click.argument("name", required=False)
@master_options
def task_why(name: str | None, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Say why tasks wait, and what would unblock them.

    NAME is what their framework calls them, as in `meseta run --name NAME`; without it all are shown that wait. Of a task that does not
    wait, by id or name, its state is told.
    """
    asked = Master(masters(master), credential(credential_file))
    found = asked.get("/explain" + (f"?name={quote(name, safe='')}" if name is not None else ""))
    waiting: list[dict[str, Any]] = found["demands"]
    launched = [] if waiting or name is None else [_launched(asked, name, found.get("silent", []))]
    if as_json:
        output.emit_json(waiting or launched)
        return
    if not waiting and not launched:
        click.echo("No task waits.", err=True)
    for number, one in enumerate(waiting):
        if number:
            click.echo()
        _show(one)
    for one in launched:
        output.details({"task": one["task_id"], "framework": one["framework_id"], "state": one["state"], "why": one["reason"]})
    if found["more"]:
        click.echo(f"\nand {found['more']} more", err=True)


def _launched(asked: Master, given: str, silent: list[dict[str, Any]]) -> dict[str, Any]:
    """A task that waits for no offer. Raises CommandError when nothing is known of one."""
    try:
        found = find_task(asked, given)
    except Ambiguous:
        raise
    except CommandError as error:
        raise CommandError(f"no task called {given!r} waits, runs or has ended", field="name", hint=_where_to_look(silent)) from error
    state, status = found["state"], last_status(found)
    told = f": {status['message']}" if status.get("message") else ""
    if state in TERMINAL:
        reason = f"it waits for nothing, it has ended{told}"
    else:
        reason = f"it waits for no offer, it is on agent {value(found, 'agent_id')}{told}"
    return {
        "task_id": value(found, "task_id"),
        "framework_id": value(found, "framework_id"),
        "name": found.get("name", ""),
        "state": word(state),
        "reason": reason,
    }


def _where_to_look(silent: list[dict[str, Any]]) -> str:
    if not silent:
        return "`meseta task list --all` shows those that run or have ended"
    names = ", ".join(one["framework"] for one in silent[:SHOWN_MAX]) + (", ..." if len(silent) > SHOWN_MAX else "")
    return (
        f"if it is of a framework that states no demand ({names}), the master cannot know that it waits: `meseta role show ROLE` says what "
        "that is offered, and the framework's own log why it declines"
    )


def _show(one: dict[str, Any]) -> None:
    amounts = ", ".join(f"{name} {output.number(amount)}" for name, amount in one["resources"].items())
    offered = f", {one['offered']} more are offered" if one.get("offered") else ""
    room = one.get("room")
    output.details({
        "task": one["name"] or "(no name)",
        "framework": f"{one['framework']} ({one['framework_id']})",
        "role": one["role"],
        "waiting": f"{one['waiting']} of {amounts}, for {output.age(one['since'], time.time())}{offered}",
        "why": one["reason"],
        **({"guarantee": _room(room, time.time())} if room is not None else {}),
        "unblocks": one["unblocks"],
    })  # fmt: skip


def _room(room: dict[str, Any], now_s: float) -> str:
    """What is done so that the task gets what its role is guaranteed."""
    told = []
    if room["tasks"]:
        tasks = "1 task" if room["tasks"] == 1 else f"{room['tasks']} tasks"
        when = f"within {room['due'] - now_s:.0f}s" if room["due"] > now_s else "now"
        told.append(f"{tasks} of {', '.join(room['frameworks'])} must end {when} for what role {room['guarantee']} is guaranteed")
    if room["lacks"]:
        told.append(
            f"role {room['guarantee']} has less than it is guaranteed, and {'no more' if told else 'no'} tasks may be ended for it: none "
            "that would help are on revocable resources or of roles above their limit"
        )
    return "; ".join(told)
