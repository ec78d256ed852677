"""Show at a glance how the cluster and its daemons are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from kernel import endpoints
from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import credential, master_options, masters
from kernel.commands.framework import state as framework_state
from kernel.commands.lookup import scalars
from kernel.commands.node import known
from kernel.commands.node import state as agent_state

DAEMON_HEADINGS = ("DAEMON", "STATE", "URL", "PID", "RESTARTS", "LAST ERROR")


@click.command("status")
@master_options
def status(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show at a glance how the cluster is."""
    urls = masters(master)
    asked = Master(urls, credential(credential_file))
    state = asked.call("GET_STATE")
    leader = asked.call("GET_MASTER")
    daemons = _daemons(urls)
    summary = summarise(state, leader, urls[0])
    if as_json:
        output.emit_json({**summary, "daemons": daemons})
        return
    output.details(
        {
            "master": f"{summary['master']['url']}, up {output.age(summary['master']['start_time'])}",
            "agents": _counts(summary["agents"], "none"),
            "frameworks": _counts(summary["frameworks"], "none"),
            "tasks": _counts(summary["tasks"], "none"),
            **{
                name: f"{output.number(part['allocated'])} of {output.number(part['total'])} allocated"
                for name, part in summary["resources"].items()
            },
        }
    )
    if daemons:
        click.echo()
        output.table(DAEMON_HEADINGS, [_row(daemon) for daemon in daemons], empty="")


def summarise(state: dict[str, Any], leader: dict[str, Any], url: str) -> dict[str, Any]:
    """The numbers of a GET_STATE and a GET_MASTER answer."""
    answer = state.get("get_agents", {})
    frameworks = state.get("get_frameworks", {}).get("frameworks", [])
    tasks = state.get("get_tasks", {})
    resources: dict[str, dict[str, float]] = {}
    for agent in answer.get("agents", []):
        for key, field in (("total", "total_resources"), ("allocated", "allocated_resources")):
            for name, amount in scalars(agent.get(field, [])).items():
                part = resources.setdefault(name, {"total": 0.0, "allocated": 0.0})
                part[key] += amount
    return {
        "master": {"url": url, "id": leader.get("master_info", {}).get("id"), "start_time": leader.get("start_time")},
        "agents": dict(Counter(agent_state(agent) for agent in known(answer))),
        "frameworks": dict(Counter(framework_state(framework) for framework in frameworks)),
        "tasks": dict(Counter(task["state"] for name in ("tasks", "unreachable_tasks") for task in tasks.get(name, []))),
        "resources": resources,
    }


def _daemons(urls: list[str]) -> list[dict[str, Any]]:
    """What the supervisor of the last `up` says, when it is that cluster we ask."""
    state = endpoints.read_json(endpoints.last_work_dir() / "up.json")
    daemons: list[dict[str, Any]] = state.get("daemons", [])
    if not any(daemon.get("url") in urls for daemon in daemons):
        return []
    return [{key: daemon.get(key) for key in ("name", "state", "url", "pid", "restarts", "last_error")} for daemon in daemons]


def _row(daemon: dict[str, Any]) -> tuple[str, ...]:
    return (
        daemon["name"],
        daemon["state"],
        daemon["url"] or "-",
        str(daemon["pid"] or "-"),
        str(daemon["restarts"] or 0),
        daemon["last_error"] or "-",
    )


def _counts(counts: dict[str, int], none: str) -> str:
    return ", ".join(f"{count} {name.removeprefix('TASK_').lower()}" for name, count in sorted(counts.items())) or none
