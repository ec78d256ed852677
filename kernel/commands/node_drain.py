"""`meseta node drain`, `undrain` and `gone`: empty an agent, offer it again, declare it lost."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from kernel.commands import output, times
from kernel.commands.api import Master
from kernel.commands.context import CommandError, credential, master_options, masters
from kernel.commands.lookup import address, agent_names, find_agent, value
from kernel.commands.tasks import TERMINAL
from kernel.commands.times import show_duration

POLL_S = 0.5
AWAY_S = 5.0  # How long an agent may be missing before whoever waits is told.


@click.command("drain")
@click.argument("node")
@click.option("--grace", metavar="DURATION", type=times.duration, help="Longest time tasks get to end, such as 60s (default: their own).")
@click.option("--mark-gone", is_flag=True, help="Once it is empty it never comes back under this id; its tasks are reported gone.")
@click.option("--wait", is_flag=True, help="Return when nothing is left there.")
@master_options
def node_drain(
    node: str, grace: int | None, mark_gone: bool, wait: bool, master: str | None, credential_file: str | None, as_json: bool
) -> None:
    """Kill what runs on an agent, gently, and give it nothing new. `meseta node undrain` takes it back."""
    asked = Master(masters(master), credential(credential_file))
    agent_id, name = _named(asked, node)
    body: dict[str, Any] = {"agent_id": {"value": agent_id}, "mark_gone": mark_gone}
    if grace is not None:
        body["max_grace_period"] = {"seconds": grace // 10**9, "nanos": grace % 10**9}
    asked.call("DRAIN_AGENT", **body)
    if wait:
        _wait(asked, agent_id, name, mark_gone)
    state, left = _progress(asked, agent_id)
    if as_json:
        output.emit_json({"agent_id": agent_id, "state": state, "tasks": left})
    elif state == "draining":
        tasks = f"{left} task{'s' if left != 1 else ''} left" if left else "all has ended, and is to be acknowledged"
        terms = f", which get at most {show_duration(grace)}" if grace is not None and left else ""
        click.echo(f"{name} is draining: {tasks}{terms}. `meseta node drain {node} --wait` waits for it.")
    elif state == "away":
        gone = " It is marked gone." if mark_gone else " It is drained when it is back."
        click.echo(f"{name} is not registered now.{gone}")
    else:
        click.echo(f"{name} is drained.")


@click.command("undrain")
@click.argument("node")
@master_options
def node_undrain(node: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Offer a drained or deactivated agent again."""
    asked = Master(masters(master), credential(credential_file))
    agent_id, name = _named(asked, node)
    try:
        asked.call("REACTIVATE_AGENT", agent_id={"value": agent_id})
    except CommandError as error:
        if "still draining" in error.problem:
            raise CommandError(f"{name} is still draining", field="node", hint=f"`meseta node drain {node} --wait` waits for it") from error
        if "not registered now" not in error.problem:
            raise
        state, text = "away", f"{name} is not registered now; it is offered again when it is."
    else:
        state, text = "active", f"{name} is offered again."
    if as_json:
        output.emit_json({"agent_id": agent_id, "state": state})
    else:
        click.echo(text)


@click.command("gone")
@click.argument("node")
@master_options
def node_gone(node: str, master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Declare that an agent never comes back: its tasks are reported gone at once, and it is told to end them."""
    asked = Master(masters(master), credential(credential_file))
    agent_id, name = _named(asked, node)
    asked.call("MARK_AGENT_GONE", agent_id={"value": agent_id})
    if as_json:
        output.emit_json({"agent_id": agent_id, "state": "gone"})
    else:
        click.echo(f"{name} is gone for good.")


def _named(master: Master, node: str) -> tuple[str, str]:
    """The id of an agent, and what to call it. Unreachable ones are in no list, so they are named by their whole id."""
    answer = master.call("GET_AGENTS")
    known = [*answer.get("agents", []), *({"agent_info": info} for info in answer.get("recovered_agents", []))]
    try:
        found = find_agent(node, known)
    except CommandError:
        if "-S" in node and not any(name.startswith(node) for agent in known for name in agent_names(agent)):
            return node, f"agent {node}"
        raise
    return value(found["agent_info"], "id"), f"{address(found)} ({value(found['agent_info'], 'id')})"


def _progress(master: Master, agent_id: str) -> tuple[str, int]:
    """How an agent is (draining, drained, away or active), and how many tasks it still has."""
    agents = master.call("GET_AGENTS").get("agents", [])
    agent = next((one for one in agents if value(one["agent_info"], "id") == agent_id), None)
    if agent is None:
        return "away", 0
    state = str(agent.get("drain_info", {}).get("state", "active")).lower()
    if state != "draining":
        return state, 0
    tasks = master.call("GET_TASKS").get("tasks", [])
    return state, sum(value(task, "agent_id") == agent_id and task["state"] not in TERMINAL for task in tasks)


def _wait(master: Master, agent_id: str, name: str, mark_gone: bool) -> None:
    """Wait until nothing is left, telling a terminal how far it is. Raises CommandError when that will not be."""
    shown = sys.stderr.isatty()
    told = away_s = 0.0
    try:
        while True:
            state, left = _progress(master, agent_id)
            if state == "drained" or (state == "away" and mark_gone):
                return
            if state == "active":
                raise CommandError(f"{name} is not draining any more: somebody reactivated it", field="node")
            away_s = away_s + POLL_S if state == "away" else 0.0
            if away_s >= AWAY_S:
                raise CommandError(f"{name} is not registered now", field="node", hint="it goes on draining when it is back")
            if shown:
                told = max(told, float(left))
                how = f"{left} of {told:.0f} tasks left" if left else "all has ended; its frameworks are to acknowledge that"
                click.echo(f"\r{name}: {how} \x1b[K", err=True, nl=False)
            time.sleep(POLL_S)
    finally:
        if shown:
            click.echo("\r\x1b[K", err=True, nl=False)
