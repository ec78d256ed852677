"""The numbers of `/metrics/snapshot` (spec: mesos-v1, section 5.4)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kernel.agent.state import AgentState, Kind
from kernel.agent.views.parts import executors
from kernel.wire.resources import Resources

_LIVE = ("staging", "starting", "running", "killing")


def numbers(state: AgentState, _: Any = None) -> dict[str, float]:
    """Every number that is known, by name."""
    total, used = Resources.of(state.node.resources), Resources()
    live: Counter[str] = Counter()
    running = terminating = 0
    for framework in state.frameworks.values():
        live.update(task.state.value.removeprefix("TASK_").lower() for task in framework.tasks.values() if not task.terminal)
        running += len(framework.executors) + sum(task.kind is Kind.COMMAND and not task.terminal for task in framework.tasks.values())
        terminating += len(framework.executors) if framework.terminating else 0
        for executor in executors(state, framework)[0]:
            used += executor.resources
    found = {
        "slave/uptime_secs": state.now.wall_s - state.started_wall_s,
        "slave/registered": float(state.registered),
        "slave/frameworks_active": float(len(state.frameworks)),
        "slave/executors_running": float(running - terminating),
        "slave/executors_terminating": float(terminating),
        "slave/recovery_errors": 0.0,
    }
    for name in _LIVE:
        found[f"slave/tasks_{name}"] = float(live[name])
    found |= {name: float(count) for name, count in state.counts.items()}
    for name in ("cpus", "mem", "disk", "gpus"):
        have, taken = getattr(total, name) / 1000, getattr(used, name) / 1000
        found |= {f"slave/{name}_total": have, f"slave/{name}_used": taken, f"slave/{name}_percent": taken / have if have else 0.0}
    return found
