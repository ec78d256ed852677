"""The numbers of `/metrics/snapshot` that the agent's state holds (spec: mesos-v1, section 5.4).

Of what is not built yet (fetcher, images) the names are missing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from kernel.agent.state import AgentState, Kind
from kernel.agent.transitions import ExecutorState
from kernel.agent.views.parts import executors
from kernel.wire.resources import Resources, quantity

_LIVE = ("staging", "starting", "running", "killing")
_RESOURCES = ("cpus", "gpus", "mem", "disk")

# Counters that are told from the start, at 0.
_COUNTERS = """
    tasks_finished tasks_failed tasks_killed tasks_lost tasks_gone tasks_error tasks_dropped executors_terminated executors_preempted
    valid_status_updates invalid_status_updates valid_framework_messages invalid_framework_messages container_launch_errors
    recovery_errors
"""


def numbers(state: AgentState, _: Any = None) -> dict[str, float]:
    """Every number that is known, by name."""
    found = {f"slave/{name}": 0.0 for name in _COUNTERS.split()} | {name: float(count) for name, count in state.counts.items()}
    found |= {
        "slave/uptime_secs": state.now.wall_s - state.started_wall_s,
        "slave/registered": float(state.registered),
        "slave/frameworks_active": float(len(state.frameworks)),
    }
    if state.recovery_s is not None:
        found["slave/recovery_time_secs"] = state.recovery_s
    return found | _of_executors(state) | _of_tasks(state) | _of_resources(state)


def _of_executors(state: AgentState) -> dict[str, float]:
    counts: Counter[ExecutorState] = Counter()
    for framework in state.frameworks.values():
        counts.update(ExecutorState.TERMINATING if framework.terminating else executor.state for executor in framework.executors.values())
        counts[ExecutorState.RUNNING] += sum(task.kind is Kind.COMMAND and not task.terminal for task in framework.tasks.values())
    return {
        "slave/executors_registering": float(counts[ExecutorState.REGISTERING]),
        "slave/executors_running": float(counts[ExecutorState.RUNNING] + counts[ExecutorState.REREGISTERING]),
        "slave/executors_terminating": float(counts[ExecutorState.TERMINATING]),
    }


def _of_tasks(state: AgentState) -> dict[str, float]:
    live: Counter[str] = Counter()
    for framework in state.frameworks.values():
        live.update(task.state.value.removeprefix("TASK_").lower() for task in framework.tasks.values() if not task.terminal)
    return {f"slave/tasks_{name}": float(live[name]) for name in _LIVE}


def _of_resources(state: AgentState) -> dict[str, float]:
    """Reserved or not, revocable apart."""
    used = Resources()
    for framework in state.frameworks.values():
        for executor in executors(state, framework)[0]:
            used += executor.resources
    total, taken = _by_name(state.total + state.slack), _by_name(used)
    found = {}
    for name in (*_RESOURCES, *(f"{name}_revocable" for name in _RESOURCES)):
        found[f"slave/{name}_total"] = total[name] / 1000
        found[f"slave/{name}_used"] = taken[name] / 1000
        found[f"slave/{name}_percent"] = taken[name] / total[name] if total[name] else 0.0
    return found


def _by_name(resources: Resources) -> Counter[str]:
    """Scalars in thousandths."""
    sums = Counter({name: getattr(resources, name) for name in _RESOURCES})
    for key, amount in (resources.other or {}).items():
        if isinstance(amount, int):
            sums[f"{key.name}_revocable" if key.revocable else key.name] += quantity(key, amount)
    return sums
