"""Show at a glance how the cluster and its daemons are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Master
from kernel.commands.context import CommandError, LastUp, credential, master_options, masters
from kernel.commands.framework import state as framework_state
from kernel.commands.lookup import scalars
from kernel.commands.node import known
from kernel.commands.node import state as agent_state

DAEMON_HEADINGS = ("DAEMON", "STATE", "URL", "PID", "RESTARTS", "LAST ERROR")
DAEMON_KEYS = ("name", "state", "url", "pid", "restarts", "last_error")


@click.command("status")
@master_options
def status(master: str | None, credential_file: str | None, as_json: bool) -> None:
    """Show at a glance how the cluster is."""
    urls = masters(master)
    asked = Master(urls, credential(credential_file))
    cluster = LastUp.asked_by(urls)
    try:
        summary = summarise(asked.call("GET_STATE"), asked.call("GET_MASTER"), urls[0])
    except CommandError:
        if cluster is not None:  # Most wanted when the master is the one that is gone.
            _show({}, cluster, as_json=as_json)
        raise
    _show(summary, cluster, as_json=as_json)


def _show(summary: dict[str, Any], cluster: LastUp | None, *, as_json: bool) -> None:
    """Print what is known. summary: empty when the master does not answer."""
    daemons = cluster.daemons if cluster is not None else []
    if as_json:
        supervised = cluster.supervised if cluster is not None else None
        shown = [{key: daemon.get(key) for key in DAEMON_KEYS} for daemon in daemons]
        output.emit_json({**summary, "supervised": supervised, "daemons": shown})
        return
    if summary:
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
    if daemons:
        output.table(DAEMON_HEADINGS, [_row(daemon) for daemon in daemons], empty="")
    if summary and cluster is not None and not cluster.supervised:
        click.echo(f"\nThe process of `meseta up` is gone; {cluster.way_back}.")


def summarise(state: dict[str, Any], leader: dict[str, Any], url: str) -> dict[str, Any]:
    """The numbers of a GET_STATE and a GET_MASTER answer."""
    answer = state.get("get_agents", {})
    frameworks = state.get("get_frameworks", {}).get("frameworks", [])
    tasks = state.get("get_tasks", {})
    resources: dict[str, dict[str, float]] = {}
    for agent in answer.get("agents", []):
        for key, field in (("total", "total_resources"), ("allocated", "allocated_resources")):
            for name, amount in scalars(agent.get(field, []), apart=True).items():
                part = resources.setdefault(name, {"total": 0.0, "allocated": 0.0})
                part[key] += amount
    return {
        "master": {"url": url, "id": leader.get("master_info", {}).get("id"), "start_time": leader.get("start_time")},
        "agents": dict(Counter(agent_state(agent) for agent in known(answer))),
        "frameworks": dict(Counter(framework_state(framework) for framework in frameworks)),
        "tasks": dict(Counter(task["state"] for name in ("tasks", "unreachable_tasks") for task in tasks.get(name, []))),
        "resources": resources,
    }


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
