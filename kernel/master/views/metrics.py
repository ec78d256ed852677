"""The numbers of `/metrics/snapshot` that the master's state holds (spec: mesos-v1, section 5.4).

What only the process knows (its uptime, the machine, the main loop, the registry's store) is added by the edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from kernel.master.state import Framework, MasterState
from kernel.master.transitions import AgentState, FrameworkState
from kernel.wire.resources import Resources, quantity
from kernel.wire.task import TERMINAL, TaskState

_RESOURCES = ("cpus", "gpus", "mem", "disk")
_ACTIVE_STATES = ("task_staging", "task_starting", "task_running", "task_killing", "task_unreachable")
_TERMINAL_STATES = tuple(sorted(state.value.lower() for state in TERMINAL))

# Counters that are told from the start, at 0.
_MESSAGES = """
    register_framework reregister_framework unregister_framework deactivate_framework kill_task status_update_acknowledgement
    operation_status_update_acknowledgement resource_request launch_tasks decline_offers revive_offers suppress_offers
    reconcile_tasks reconcile_operations framework_to_executor executor_to_framework register_slave reregister_slave
    unregister_slave update_slave status_update exited_executor authenticate
"""
_CHECKED = """
    status_updates status_update_acknowledgements framework_to_executor_messages executor_to_framework_messages
    operation_status_updates operation_status_update_acknowledgements
"""
_OTHERS = """
    dropped_messages recovery_slave_removals http_cache_hits
    slave_registrations slave_reregistrations slave_removals
    slave_removals/reason_registered slave_removals/reason_unhealthy slave_removals/reason_unregistered
    slave_unreachable_scheduled slave_unreachable_canceled slave_unreachable_completed
    slave_shutdowns_scheduled slave_shutdowns_canceled slave_shutdowns_completed
    operations/total operations/pending operations/recovering operations/unreachable operations/finished operations/failed
    operations/error operations/dropped operations/gone_by_operator
"""
_COUNTERS = (
    *(f"master/messages_{name}" for name in _MESSAGES.split()),
    *(f"master/{verdict}_{name}" for name in _CHECKED.split() for verdict in ("valid", "invalid")),
    *(f"master/{name}" for name in _OTHERS.split()),
    *(f"master/{name.replace('task_', 'tasks_', 1)}" for name in _TERMINAL_STATES),
)

# Messages that are counted by what became of them.
_SUMS = {
    "master/messages_register_slave": ("master/slave_registrations",),
    "master/messages_reregister_slave": ("master/slave_reregistrations",),
    "master/messages_status_update": ("master/valid_status_updates", "master/invalid_status_updates"),
    "master/messages_executor_to_framework": (
        "master/valid_executor_to_framework_messages",
        "master/invalid_executor_to_framework_messages",
    ),
}

# By our counter of a framework's calls: what v1 calls them.
_CALLS = {
    "events/subscribed": "subscribe",  # Each that is let in is told so.
    "master/messages_unregister_framework": "teardown",
    "master/messages_launch_tasks": "accept",
    "master/messages_decline_offers": "decline",
    "accept_inverse_offers": "accept_inverse_offers",
    "decline_inverse_offers": "decline_inverse_offers",
    "master/messages_revive_offers": "revive",
    "master/messages_suppress_offers": "suppress",
    "master/messages_kill_task": "kill",
    "shutdown": "shutdown",
    "master/messages_status_update_acknowledgement": "acknowledge",
    "master/messages_operation_status_update_acknowledgement": "acknowledge_operation_status",
    "master/messages_reconcile_tasks": "reconcile",
    "master/messages_reconcile_operations": "reconcile_operations",
    "master/messages_framework_to_executor": "message",
    "master/messages_resource_request": "request",
    "update_framework": "update_framework",
}
_EVENT_NAMES = """
    subscribed offers inverse_offers rescind rescind_inverse_offer update update_operation_status message failure error heartbeat
"""
_EVENTS = tuple(f"events/{name}" for name in _EVENT_NAMES.split())
_OFFERS = ("offers/sent", "offers/accepted", "offers/declined", "offers/rescinded")


def numbers(state: MasterState, arguments: Any = None) -> dict[str, float]:
    """All numbers by name. Cost: one look at every agent, framework and live task."""
    found = dict.fromkeys(_COUNTERS, 0.0)
    for name, count in state.counts.items():
        if name.startswith("master/"):
            found[_mesos_name(name)] = float(count)
    for name, parts in _SUMS.items():
        found[name] = sum(found[part] for part in parts)
    found["master/elected"] = 1.0
    found["master/outstanding_offers"] = float(len(state.offers))
    found["master/operator_event_stream_subscribers"] = float(len(state.operators))
    found |= _of_agents(state)
    found |= _of_frameworks(state)
    found |= {f"allocator/mesos/roles/{view.role}/shares/dominant": view.share for view in state.allocator.shares()}
    return found


def _mesos_name(name: str) -> str:
    """Reasons and sources still have the old word for agents."""
    return name.replace("agent", "slave") if name.startswith("master/task_") else name


def _of_agents(state: MasterState) -> dict[str, float]:
    agents = [agent for agent in state.agents.values() if agent.state is not AgentState.RECOVERED]
    connected = sum(agent.state is AgentState.REGISTERED for agent in agents)
    registered = len(agents)
    total, used = _sum(agent.total for agent in agents), _sum(agent.used for agent in agents)
    found = {
        "master/slaves_active": float(connected),
        "master/slaves_connected": float(connected),
        "master/slaves_disconnected": float(registered - connected),
        "master/slaves_inactive": float(registered - connected),
        "master/slaves_unreachable": float(len(state.unreachable)),
    }
    for name in (*_RESOURCES, *(f"{name}_revocable" for name in _RESOURCES)):
        found[f"master/{name}_total"] = total[name] / 1000
        found[f"master/{name}_used"] = used[name] / 1000
        found[f"master/{name}_percent"] = used[name] / total[name] if total[name] else 0.0
        if name in ("cpus", "mem", "disk"):
            found[f"allocator/mesos/resources/{name}/total"] = total[name] / 1000
    return found


def _sum(parts: Iterable[Resources]) -> Counter[str]:
    """Scalars in thousandths by name, reserved or not, revocable apart."""
    cpus = mem = disk = gpus = 0
    sums: Counter[str] = Counter()
    for part in parts:
        cpus += part.cpus
        mem += part.mem
        disk += part.disk
        gpus += part.gpus
        for key, amount in (part.other or {}).items():
            if isinstance(amount, int):
                sums[f"{key.name}_revocable" if key.revocable else key.name] += quantity(key, amount)
    sums.update(cpus=cpus, mem=mem, disk=disk, gpus=gpus)
    return sums


def _of_frameworks(state: MasterState) -> dict[str, float]:
    found: dict[str, float] = {}
    live: Counter[str] = Counter()
    held: Counter[str] = Counter()
    by_principal: Counter[str] = Counter()
    for framework in state.frameworks.values():
        active = _active_tasks(framework)
        live.update(active)
        for sums in (framework.used, framework.offered):
            held.update({"cpus": sums.cpus, "mem": sums.mem, "disk": sums.disk})
        found |= _of_framework(framework, active)
        if framework.info.principal is not None:
            by_principal[framework.info.principal] += sum(framework.counts[name] for name in _CALLS)
    for name in _ACTIVE_STATES:
        found[f"master/{name.replace('task_', 'tasks_', 1)}"] = float(live[name])
    for name in ("cpus", "mem", "disk"):
        found[f"allocator/mesos/resources/{name}/offered_or_allocated"] = held[name] / 1000
    for principal, count in by_principal.items():
        found[f"frameworks/{principal}/messages_received"] = found[f"frameworks/{principal}/messages_processed"] = float(count)
    active_count = sum(framework.state is FrameworkState.ACTIVE for framework in state.frameworks.values())
    connected = sum(framework.connected for framework in state.frameworks.values())
    found["master/frameworks_active"] = float(active_count)
    found["master/frameworks_inactive"] = float(len(state.frameworks) - active_count)
    found["master/frameworks_connected"] = float(connected)
    found["master/frameworks_disconnected"] = float(len(state.frameworks) - connected)
    return found


_STATE_NAMES: Mapping[str, str] = {state.value: state.value.lower() for state in TaskState}


def _active_tasks(framework: Framework) -> Counter[str]:
    """How many live tasks are in each state, in lower case."""
    # `_value_` is what `value` gives, without the two calls that it takes: there may be many tasks.
    counts = Counter([task.state._value_ for task in framework.tasks.values()])
    active = Counter({_STATE_NAMES[name]: count for name, count in counts.items()})
    active["task_unreachable"] += len(framework.unreachable)
    return active


def _of_framework(framework: Framework, active: Counter[str]) -> dict[str, float]:
    prefix = f"master/frameworks/{quote(framework.info.name, safe='')}/{framework.framework_id}/"
    counts = framework.counts
    calls = {kind: counts[name] for name, kind in _CALLS.items()}
    found = {f"{prefix}calls/{kind}": float(count) for kind, count in calls.items()}
    found[f"{prefix}calls"] = float(sum(calls.values()))
    for name in (*_EVENTS, *_OFFERS):
        found[prefix + name] = float(counts[name])
    found[f"{prefix}events"] = float(sum(counts[name] for name in _EVENTS))
    found[f"{prefix}operations"] = 0.0
    found[f"{prefix}subscribed"] = float(framework.connected)
    for name in _ACTIVE_STATES:
        found[f"{prefix}tasks/active/{name}"] = float(active[name])
    for name in _TERMINAL_STATES:
        found[f"{prefix}tasks/terminal/{name}"] = float(counts[f"tasks/terminal/{name}"])
    for role in framework.roles:
        found[f"{prefix}roles/{role}/suppressed"] = float(role in framework.suppressed)
    return found
