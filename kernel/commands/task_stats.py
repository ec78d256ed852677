"""`meseta task stats`: what a task uses, measured by its agent."""

from __future__ import annotations

import time
from typing import Any

import click

from kernel.commands import output
from kernel.commands.api import Peer
from kernel.commands.context import CommandError
from kernel.commands.lookup import value
from kernel.net.client import Unreachable

INTERVAL_S = 1.0


def sample(agent: Peer, task: dict[str, Any]) -> dict[str, Any]:
    """The resource statistics of a task's container. Raises CommandError when there are none."""
    task_id, executor_id = value(task, "task_id"), value(task, "executor_id") or value(task, "task_id")
    statuses = task.get("statuses") or [{}]
    own = statuses[-1].get("container_status", {}).get("container_id", {}).get("value", "")
    try:
        containers = agent.call("GET_CONTAINERS", show_nested=True).get("containers", [])
    except Unreachable as error:
        raise CommandError(f"cannot ask the task's agent: {error}", hint="is it running? see `meseta node list`") from error
    ids = value(task, "framework_id"), executor_id
    ours = [one for one in containers if (value(one, "framework_id"), value(one, "executor_id")) == ids]
    found = next((one for one in ours if value(one, "container_id") == own), ours[0] if ours else None)
    statistics: dict[str, Any] = (found or {}).get("resource_statistics", {})
    if not statistics:
        hint = "it does not run (any more); see `meseta task show`"
        raise CommandError(f"nothing is measured of task {task_id}", field="task", hint=hint)
    return statistics


def show(agent: Peer, task: dict[str, Any], *, watch: bool, as_json: bool) -> None:
    """Print it once, or again and again until it ends. Cores are those used since the look before."""
    before = sample(agent, task)
    while True:
        time.sleep(INTERVAL_S)
        now = sample(agent, task)
        cores = max(0.0, _cpu_s(now) - _cpu_s(before)) / max(1e-3, now["timestamp"] - before["timestamp"])
        if as_json:
            output.emit_json({"task_id": value(task, "task_id"), "cpus_used": round(cores, 3), **now})
        elif watch:
            click.echo("   ".join(f"{name} {text}" for name, text in _lines(now, cores).items()))
        else:
            output.details({"task": value(task, "task_id"), **_lines(now, cores)})
        if not watch:
            return
        before = now


def _cpu_s(statistics: dict[str, Any]) -> float:
    return float(statistics.get("cpus_user_time_secs", 0.0)) + float(statistics.get("cpus_system_time_secs", 0.0))


def _lines(now: dict[str, Any], cores: float) -> dict[str, str]:
    mebibyte = 1 << 20
    memory = f"{now.get('mem_total_bytes', 0) / mebibyte:.0f} of {now.get('mem_limit_bytes', 0) / mebibyte:.0f} MiB"
    lines = {
        "cpus": f"{cores:.2f} of {output.number(now.get('cpus_limit', 0))}",
        "cpu time": f"{_cpu_s(now):.1f} s",
        "memory": memory,
        "processes": str(now.get("processes", "")),
    }
    if now.get("cpus_nr_throttled"):
        lines["throttled"] = f"{now['cpus_nr_throttled']} of {now.get('cpus_nr_periods', 0)} periods"
    return lines
