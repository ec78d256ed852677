"""The numbers of `/metrics/snapshot` that the master's state holds (spec: mesos-v1, section 5.4).

What only the process knows (its uptime, the machine, the main loop, the registry's store) is added by the edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, starmap
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from kernel.master.model import Framework
from kernel.master.notices import Notices
from kernel.master.quantities import Quantities
from kernel.master.roles import RoleSums, role_sums
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState, FrameworkState
from kernel.master.waits import RoleWaits
from kernel.metrics import Tally
from kernel.wire.resources import Resources, quantity
from kernel.wire.task import TERMINAL

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

Numbers = dict[str, float]


def numbers(state: MasterState, arguments: Any = None) -> Iterator[Numbers]:
    """All numbers by name: first those of the cluster, then those of each role and framework. Cost: one look at every agent and at every
    framework in each of its roles; what is of roles and frameworks gets its names when it is asked for."""
    found = _counters(state)
    found |= _of_agents(state)
    found |= _of_frameworks(state)
    found |= _of_allocator(state)
    found["master/outstanding_offers"] = float(len(state.offers))
    found["master/outstanding_inverse_offers"] = float(len(state.inverse_offers))
    found["master/machines_draining"] = float(len(state.machines.windows) - len(state.machines.down))
    found["master/machines_down"] = float(len(state.machines.down))
    found["master/operator_event_stream_subscribers"] = float(len(state.operators))
    roles = [(role, state.allocator.headroom(role.name)) for role in role_sums(state)]
    waits = [(name, of_role.copy()) for name, of_role in state.waits]
    found |= _of_preemption(state.notices)
    frameworks = [_seen(state, framework) for framework in state.frameworks.values()]
    return chain((found,), starmap(_of_role, roles), starmap(_of_waits, waits), map(_of_framework, frameworks))


def _counters(state: MasterState) -> Numbers:
    found = dict.fromkeys(_COUNTERS, 0.0)
    for name, count in state.counts.items():
        if name.startswith("master/"):
            found[_mesos_name(name)] = float(count)
    for name, parts in _SUMS.items():
        found[name] = sum(found[part] for part in parts)
    return found


def _mesos_name(name: str) -> str:
    """Reasons and sources still have the old word for agents."""
    return name.replace("agent", "slave") if name.startswith("master/task_") else name


def _of_agents(state: MasterState) -> Numbers:
    known = len(state.agents) - len(state.recovered)
    connected, active = len(state.links), sum(agent.active for agent in state.links.values())
    drains = Counter(deactivation.draining for deactivation in state.deactivated.values() if deactivation.drain is not None)
    found = {
        "master/slaves_active": float(active),
        "master/slaves_connected": float(connected),
        "master/slaves_disconnected": float(known - connected),
        "master/slaves_inactive": float(known - active),
        "master/slaves_unreachable": float(len(state.unreachable)),
        "master/slaves_deactivated": float(len(state.deactivated)),
        "master/slaves_draining": float(drains[True]),
        "master/slaves_drained": float(drains[False]),
    }
    total = _total(agent.total for agent in state.agents.values() if agent.state is not AgentState.RECOVERED)
    used = _used(sums for framework in state.frameworks.values() for sums in framework.used.by_role.values())
    for name in (*_RESOURCES, *(f"{name}_revocable" for name in _RESOURCES)):
        found[f"master/{name}_total"] = total[name] / 1000
        found[f"master/{name}_used"] = used[name] / 1000
        found[f"master/{name}_percent"] = used[name] / total[name] if total[name] else 0.0
        if name in ("cpus", "mem", "disk"):
            found[f"allocator/mesos/resources/{name}/total"] = total[name] / 1000
    return found


def _total(parts: Iterable[Resources]) -> Counter[str]:
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


def _used(parts: Iterable[Quantities]) -> Counter[str]:
    """The same."""
    sums: Counter[str] = Counter()
    for part in parts:
        sums.update(cpus=part.cpus, mem=part.mem, disk=part.disk, gpus=part.gpus)
        for (key, amount), times in part.other.items():
            if isinstance(amount, int):
                sums[f"{key.name}_revocable" if key.revocable else key.name] += quantity(key, amount) * times
    return sums


def _of_allocator(state: MasterState) -> Numbers:
    allocator, held = state.allocator, Counter[str]()
    for framework in state.frameworks.values():
        for sums in (*framework.used.by_role.values(), *framework.offered.by_role.values()):
            held.update(cpus=sums.cpus, mem=sums.mem, disk=sums.disk)
    found = {f"allocator/mesos/resources/{name}/offered_or_allocated": held[name] / 1000 for name in ("cpus", "mem", "disk")}
    found["allocator/mesos/allocation_runs"] = float(state.allocation_run.total)
    found |= state.allocation_run.numbers("allocator/mesos/allocation_run_ms")
    found |= state.allocation_latency.numbers("allocator/mesos/allocation_run_latency_ms")
    for name in ("allocator/mesos/event_queue_dispatches", "allocator/event_queue_dispatches"):
        found[name] = float(allocator.backlog)
    for load in allocator.loads():
        found[f"allocator/mesos/roles/{load.role}/shares/dominant"] = load.share
        found[f"allocator/mesos/offer_filters/roles/{load.role}/active"] = float(load.refusals)
    return found


def _of_role(role: RoleSums, headroom: dict[str, int]) -> Numbers:
    """What it has, consumes of its quota, and may still have."""
    prefix = f"allocator/mesos/roles/{role.name}/"
    found = {f"{prefix}weight": role.weight}
    for kind, sums in (("allocated", role.allocated), ("offered", role.offered), ("reserved", role.reserved)):
        for name, milli in sums.items():
            found[f"{prefix}resources/{name}/{kind}"] = milli / 1000
    prefix = f"allocator/mesos/quota/roles/{role.name}/resources/"
    held = role.allocated + role.offered
    for name, milli in role.consumed.items():
        found[f"{prefix}{name}/consumed"] = milli / 1000
    for kind, amounts in (("guarantee", role.quota.guarantees), ("limit", role.quota.limits)):
        for name, milli in amounts.items():
            found[f"{prefix}{name}/{kind}"] = milli / 1000
            found[f"{prefix}{name}/offered_or_allocated"] = held[name] / 1000
            found.setdefault(f"{prefix}{name}/consumed", 0.0)
    for name, milli in role.quota.guarantees.items():
        found[f"{prefix}{name}/unmet"] = max(0, milli - role.consumed[name]) / 1000
    for name, milli in headroom.items():
        found[f"{prefix}{name}/headroom"] = milli / 1000
    return found


def _of_waits(role: str, waits: RoleWaits) -> Numbers:
    prefix = f"allocator/mesos/roles/{role}/"
    return waits.first_offer.numbers(f"{prefix}first_offer_ms") | waits.allocation.numbers(f"{prefix}allocation_latency_ms")


def _of_preemption(notices: Notices) -> Numbers:
    """Tasks that were ended for guarantees: of which role they were, and which was to have their room."""
    found = {f"allocator/mesos/roles/{role}/preempted": float(count) for role, count in notices.ended.items()}
    return found | {f"allocator/mesos/roles/{role}/preempted_for": float(count) for role, count in notices.gained.items()}


def _of_frameworks(state: MasterState) -> Numbers:
    found: Numbers = {}
    live: Counter[str] = Counter()
    by_principal: Counter[str] = Counter()
    active = connected = unreachable = 0
    for framework in state.frameworks.values():
        live.update(framework.live)
        unreachable += len(framework.unreachable)
        active += framework.state is FrameworkState.ACTIVE
        connected += framework.connected
        if framework.info.principal is not None:
            by_principal[framework.info.principal] += sum(framework.counts[name] for name in _CALLS)
    live["TASK_UNREACHABLE"] = unreachable
    for name in _ACTIVE_STATES:
        found[f"master/{name.replace('task_', 'tasks_', 1)}"] = float(live[name.upper()])
    for principal, count in by_principal.items():
        found[f"frameworks/{principal}/messages_received"] = found[f"frameworks/{principal}/messages_processed"] = float(count)
    found["master/frameworks_active"] = float(active)
    found["master/frameworks_inactive"] = float(len(state.frameworks) - active)
    found["master/frameworks_connected"] = float(connected)
    found["master/frameworks_disconnected"] = float(len(state.frameworks) - connected)
    return found


class _Seen(Struct, gc=False):
    """A framework at one instant. live: its tasks by state. shares, used, offered, first_offer_s, allocation: by role."""

    framework_id: str
    name: str
    connected: bool
    roles: tuple[str, ...]
    suppressed: frozenset[str]
    counts: dict[str, int]
    live: dict[str, int]
    unreachable: int
    shares: dict[str, float]
    used: dict[str, Quantities]
    offered: dict[str, Quantities]
    first_offer_s: dict[str, float]
    allocation: dict[str, Tally]


def _seen(state: MasterState, framework: Framework) -> _Seen:
    return _Seen(
        framework.framework_id,
        framework.info.name,
        framework.connected,
        framework.roles,
        framework.suppressed,
        dict(framework.counts),
        dict(framework.live),
        len(framework.unreachable),
        state.allocator.framework_shares(framework.framework_id),
        {role: sums.copy() for role, sums in framework.used.by_role.items()},
        {role: sums.copy() for role, sums in framework.offered.by_role.items()},
        dict(framework.waits.first_offer_s),
        dict(framework.waits.allocation),
    )


def _of_framework(seen: _Seen) -> Numbers:
    prefix, counts = f"master/frameworks/{quote(seen.name, safe='')}/{seen.framework_id}/", seen.counts
    calls = {kind: counts.get(name, 0) for name, kind in _CALLS.items()}
    found = {f"{prefix}calls/{kind}": float(count) for kind, count in calls.items()}
    found[f"{prefix}calls"] = float(sum(calls.values()))
    for name in (*_EVENTS, *_OFFERS):
        found[prefix + name] = float(counts.get(name, 0))
    found[f"{prefix}events"] = float(sum(counts.get(name, 0) for name in _EVENTS))
    found[f"{prefix}operations"] = 0.0
    found[f"{prefix}subscribed"] = float(seen.connected)
    for name in _ACTIVE_STATES:
        found[f"{prefix}tasks/active/{name}"] = float(seen.live.get(name.upper(), 0))
    found[f"{prefix}tasks/active/task_unreachable"] = float(seen.unreachable)
    for name in _TERMINAL_STATES:
        found[f"{prefix}tasks/terminal/{name}"] = float(counts.get(f"tasks/terminal/{name}", 0))
    for role in seen.roles:
        found[f"{prefix}roles/{role}/suppressed"] = float(role in seen.suppressed)
    for role, share in seen.shares.items():
        found[f"{prefix}roles/{role}/shares/dominant"] = share
    for kind, holdings in (("allocated", seen.used), ("offered", seen.offered)):
        for role, sums in holdings.items():
            for name, milli in sums.scalars().items():
                found[f"{prefix}roles/{role}/resources/{name}/{kind}"] = milli / 1000
    for role, waited_s in seen.first_offer_s.items():
        found[f"{prefix}roles/{role}/first_offer_ms"] = waited_s * 1e3
    for role, tally in seen.allocation.items():
        found |= tally.numbers(f"{prefix}roles/{role}/allocation_latency_ms")
    return found
