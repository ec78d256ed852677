"""Sessions of frameworks: subscribe, fail over, change, leave (spec: mesos-v1, sections 2.2-2.5, 2.10, 2.11)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import CallError, Forbidden
from kernel.master import events, inverse_offers, registry, render
from kernel.master.allocator import Demand, FrameworkOptions
from kernel.master.effects import CloseStream, SchedulerCall, StreamClosed, SubscribeFramework, TeardownFramework, ToStream
from kernel.master.model import Framework, Task, roles_of
from kernel.master.state import MasterState
from kernel.master.transitions import FrameworkState
from kernel.master.validation import constraints_fault, framework_fault, groups_fault, immutable_fault, suppressed_fault
from kernel.wire import scheduler
from kernel.wire.agent import FrameworkUpdated, ShutdownFramework
from kernel.wire.resources import Resource, Resources
from kernel.wire.revocable import firm
from kernel.wire.task import FrameworkCapability, FrameworkInfo, Reason, TaskState

HEARTBEAT_S = 15.0
FORSAKEN_S = 5.0  # How often it is looked whether a framework that is away is to end with its tasks.
REMOVED_MESSAGE = "Framework has been removed"


# ---- Subscribing ----------------------------------------------------------------------------------------


def subscribe(s: MasterState, call: SubscribeFramework, now: Now) -> Framework | None:
    """SUBSCRIBE; return the framework unless it was refused.

    Raises CallError for what fails before a stream exists. Faults of the content come as one ERROR event on the
    stream, which then ends (section 2.4).
    """
    info = call.body.framework_info
    framework_id = info.id.value if info.id is not None else ""
    if framework_id != call.framework_id:
        raise CallError("'framework_id' differs from 'subscribe.framework_info.id'")
    if call.principal is not None:
        if info.principal is None:
            info = replace(info, principal=call.principal)
        elif info.principal != call.principal:
            raise CallError(f"framework_info.principal: '{info.principal}' is not the authenticated principal '{call.principal}'")
    fault = _content_fault(s, info, framework_id, call.body)
    if fault is not None:
        s.out.append(ToStream(call.stream, scheduler.Event("ERROR", error=scheduler.Error(fault))))
        s.out.append(CloseStream(call.stream))
        return None
    framework = s.frameworks.get(framework_id) if framework_id else None
    if framework is None:
        framework_id = framework_id or s.next_framework_id()
        framework = add_framework(s, framework_id, replace(info, id=render.framework_id(framework_id)), now)
        added = True
    else:
        added = False
        _change_info(s, framework, replace(info, user=framework.info.user, checkpoint=framework.info.checkpoint), now)
        if framework.stream is not None:
            s.out.append(ToStream(framework.stream, scheduler.Event("ERROR", error=scheduler.Error("Framework failed over"))))
            s.out.append(CloseStream(framework.stream))
            del s.streams[framework.stream]
            take_back_offers(s, framework, now, tell=False)
            inverse_offers.take_back(s, framework)
    known = framework.state is not FrameworkState.RECOVERED
    framework.state = FrameworkState.ACTIVE
    framework.stream = call.stream
    framework.failover_due_s = None
    framework.suppressed = frozenset(call.body.suppressed_roles)
    framework.offer_constraints = call.body.offer_constraints
    if known and not added:
        framework.reregistered_wall_s = now.wall_s
    s.streams[call.stream] = framework
    s.allocator.update_framework(framework.framework_id, framework.roles, framework.suppressed, options(framework))
    s.allocator.set_framework_active(framework.framework_id, True)
    s.allocator.forget_demand(framework.framework_id)  # A framework that wants demand mode says so again.
    _note_wants(framework, now)
    s.tell(
        framework,
        scheduler.Event(
            "SUBSCRIBED",
            subscribed=scheduler.Subscribed(
                render.framework_id(framework.framework_id), heartbeat_interval_seconds=HEARTBEAT_S, master_info=s.master
            ),
        ),
    )
    s.tell(framework, scheduler.Event("HEARTBEAT"))
    events.framework_changed(s, framework, added)
    return framework


def _content_fault(s: MasterState, info: FrameworkInfo, framework_id: str, body: scheduler.Subscribe) -> str | None:
    fault = framework_fault(info, s.config.roles_allowed, s.config.root_submissions)
    if fault is not None:
        return fault
    if framework_id in s.removed_ids:
        return REMOVED_MESSAGE
    roles = roles_of(info)
    fault = suppressed_fault(body.suppressed_roles, roles) or constraints_fault(body.offer_constraints, roles)
    if fault is not None:
        return fault
    known = s.frameworks.get(framework_id)
    if known is not None and known.info.principal != info.principal:
        return "Changing framework's principal is not allowed."
    return None


def add_framework(s: MasterState, framework_id: str, info: FrameworkInfo, now: Now) -> Framework:
    """Begin to know a framework, in state RECOVERED, and keep it in the registry."""
    framework = Framework(framework_id, info, s.config.max_completed_tasks_per_framework)
    framework.registered_wall_s = now.wall_s
    s.frameworks[framework_id] = framework
    s.allocator.add_framework(framework_id, framework.roles, framework.suppressed, options(framework))
    s.allocator.set_framework_active(framework_id, False)
    s.out.append(registry.keep_framework(framework_id, registry.FrameworkRecord(info, now.wall_s)))
    return framework


def options(framework: Framework) -> FrameworkOptions:
    capabilities = {capability.type for capability in framework.info.capabilities}
    return FrameworkOptions(
        gpu_aware=FrameworkCapability.GPU_RESOURCES in capabilities,
        revocable=framework.revocable,
        shared=FrameworkCapability.SHARED_RESOURCES in capabilities,
        refined=framework.refinement,
        region_aware=FrameworkCapability.REGION_AWARE in capabilities,
        offer_filters=framework.info.offer_filters,
        constraints=framework.offer_constraints,
    )


def _change_info(s: MasterState, framework: Framework, info: FrameworkInfo, now: Now) -> bool:
    """Take on a new FrameworkInfo and tell the agents that know the framework; say whether it differs."""
    if info.id is None or not info.id.value:
        info = replace(info, id=render.framework_id(framework.framework_id))
    if info == framework.info:
        return False
    framework.update_info(info)
    s.out.append(registry.keep_framework(framework.framework_id, registry.FrameworkRecord(info, framework.registered_wall_s)))
    for agent in framework.linked.values():
        s.tell_agent(agent, FrameworkUpdated(info))
    return True


# ---- Leaving --------------------------------------------------------------------------------------------


def stream_closed(s: MasterState, closed: StreamClosed, now: Now) -> None:
    """A scheduler's (or operator's) stream broke: offers go back at once, the failover time begins."""
    s.operators.pop(closed.stream, None)
    framework = s.streams.pop(closed.stream, None)
    if framework is None:
        return
    framework.stream = None
    framework.state = FrameworkState.DISCONNECTED
    take_back_offers(s, framework, now, tell=False)
    inverse_offers.take_back(s, framework)
    s.allocator.set_framework_active(framework.framework_id, False)
    _note_wants(framework, now)
    await_failover(s, framework, framework.info.failover_timeout, now)


def await_failover(s: MasterState, framework: Framework, timeout_s: float, now: Now) -> None:
    """Wait for its scheduler for so long, then remove it."""
    framework.failover_due_s = now.mono_s + timeout_s
    if framework.ends_with_tasks:
        s.deadlines.push(now.mono_s + FORSAKEN_S, "forsaken", framework.framework_id)
    if timeout_s <= 0:
        remove_framework(s, framework, now)
    else:
        s.deadlines.push(framework.failover_due_s, "framework", framework.framework_id)


def failover_due(s: MasterState, framework_id: str, now: Now) -> None:
    """Deadline: the framework had its time to come back."""
    framework = s.frameworks.get(framework_id)
    if framework is None or framework.failover_due_s is None:
        return
    if framework.failover_due_s > now.mono_s:  # It was back in between.
        s.deadlines.push(framework.failover_due_s, "framework", framework_id)
    else:
        remove_framework(s, framework, now)


def forsaken_due(s: MasterState, framework_id: str, now: Now) -> None:
    """Deadline: whether a framework that nobody comes back for has ended with its tasks."""
    framework = s.frameworks.get(framework_id)
    if framework is None or framework.connected:
        return
    # Agents that are still waited for after a start of the master may bring more.
    if s.recovered or framework.unreachable or any(not task.terminal for task in framework.tasks.values()):
        s.deadlines.push(now.mono_s + FORSAKEN_S, "forsaken", framework_id)
        s.emptied |= {task.agent_id: None for task in framework.tasks.values() if task.terminal}
    else:
        remove_framework(s, framework, now)


def teardown(s: MasterState, framework: Framework, now: Now) -> None:
    """TEARDOWN by the framework or an operator."""
    remove_framework(s, framework, now)


def teardown_by_operator(s: MasterState, call: TeardownFramework, now: Now) -> None:
    framework = s.frameworks.get(call.framework_id)
    if framework is None:
        raise CallError(f"framework_id: no framework '{call.framework_id}' is known")
    remove_framework(s, framework, now)


def remove_framework(s: MasterState, framework: Framework, now: Now) -> None:
    """End a framework with all it runs; its id never comes back (section 2.5)."""
    framework_id = framework.framework_id
    take_back_offers(s, framework, now, tell=False)
    inverse_offers.take_back(s, framework)
    for task in list(framework.tasks.values()):
        s.complete_task(framework, s.agents[task.agent_id], task, now)
        _end_task(s, framework, task, now)
    for task in framework.unreachable.values():
        framework.completed.append(task)
        _end_task(s, framework, task, now)
    framework.unreachable.clear()
    framework.operations.clear()
    for executor in list(framework.executors.values()):
        s.remove_executor(framework, s.agents[executor.agent_id], executor, now)
    for agent in framework.linked.values():
        s.tell_agent(agent, ShutdownFramework(framework_id))
        agent.frameworks_known.discard(framework_id)
    framework.linked.clear()
    if framework.stream is not None:
        s.out.append(CloseStream(framework.stream))
        del s.streams[framework.stream]
        framework.stream = None
    framework.state = FrameworkState.REMOVED
    framework.unregistered_wall_s = now.wall_s
    s.allocator.remove_framework(framework_id)
    del s.frameworks[framework_id]
    _remember_removed(s, framework)
    s.out.append(registry.keep_framework(framework_id, registry.FrameworkRecord(framework.info, framework.registered_wall_s, now.wall_s)))
    while len(s.removed_ids) > registry.REMOVED_MAX:
        s.out.append(registry.forget_framework(s.removed_ids.popitem(last=False)[0]))
    events.framework_removed(s, framework)


def _end_task(s: MasterState, framework: Framework, task: Task, now: Now) -> None:
    if task.terminal:
        return
    status = s.status(task.task_id, TaskState.TASK_KILLED, now, "Framework removed", Reason.REASON_FRAMEWORK_REMOVED, task.agent_id)
    s.enter(framework, task, TaskState.TASK_KILLED)
    s.note(task, status)
    s.count_end(framework, task.state, status)
    events.task_updated(s, task, status)


def _remember_removed(s: MasterState, framework: Framework) -> None:
    s.removed_ids[framework.framework_id] = None
    s.completed[framework.framework_id] = framework
    while len(s.completed) > s.config.max_completed_frameworks:
        s.completed.popitem(last=False)


def take_back_offers(s: MasterState, framework: Framework, now: Now, tell: bool, roles: frozenset[str] | None = None) -> None:
    """Return a framework's offers (of these roles) to the pool; tell: send RESCIND for each."""
    for offer in list(framework.offers.values()):
        if roles is None or offer.role in roles:
            s.rescind(offer, now, tell)


# ---- Calls of a subscribed framework --------------------------------------------------------------------


def authorise(s: MasterState, call: SchedulerCall) -> Framework:
    """The checks before any call but SUBSCRIBE, in their order (section 2.1). Raises CallError, Forbidden."""
    framework = s.frameworks.get(call.framework_id)
    if framework is None:
        raise CallError("Framework cannot be found")
    if call.principal is not None and framework.info.principal != call.principal:
        raise CallError(f"Authenticated principal '{call.principal}' is not the framework's")
    if framework.stream is None:
        raise Forbidden("Framework is not subscribed")
    if call.stream_id is None:
        raise CallError("All non-subscribe calls should include the 'Mesos-Stream-Id' header")
    if call.stream_id != framework.stream:
        raise CallError(
            "The stream ID included in this request didn't match the stream ID currently associated with framework ID " + call.framework_id
        )
    return framework


def suppress(s: MasterState, framework: Framework, call: scheduler.Suppress, now: Now) -> None:
    """SUPPRESS. A role that is not the framework's drops the whole call (section 2.10)."""
    roles = dict.fromkeys(call.roles)
    if roles.keys() <= set(framework.roles):
        framework.suppressed |= frozenset(roles or framework.roles)
        s.allocator.suppress(framework.framework_id, roles)
        _note_wants(framework, now)


def revive(s: MasterState, framework: Framework, call: scheduler.Revive, now: Now) -> None:
    """REVIVE: clears suppression and filters of the roles (all when none are named)."""
    roles = dict.fromkeys(call.roles)
    if roles.keys() <= set(framework.roles):
        framework.suppressed -= frozenset(roles or framework.roles)
        s.allocator.revive(framework.framework_id, roles, now)
        _note_wants(framework, now)
        inverse_offers.revive(s, framework)


def _note_wants(framework: Framework, now: Now) -> None:
    """Whether it can get offers, and where, has changed."""
    wanted = [role for role in framework.roles if role not in framework.suppressed] if framework.connected else []
    framework.waits.want(framework.roles, wanted, now.mono_s)


def request(s: MasterState, framework: Framework, call: scheduler.Request, now: Now) -> None:
    """REQUEST replaces what the framework waits for (our use of a call that Mesos ignored)."""
    demands = []
    for index, item in enumerate(call.requests):
        at = f"request.requests[{index}]"
        role = item.role if item.role is not None else (framework.roles[0] if framework.roles else "*")
        if role not in framework.roles:
            raise CallError(f"{at}.role: '{role}' is not one of the framework's roles")
        if item.min is not None and item.min > item.count:
            raise CallError(f"{at}.min: {item.min} is more than count, {item.count}")
        fault = groups_fault(item.constraints, f"{at}.constraints")
        if fault is not None:
            raise CallError(fault)
        demands.append(
            Demand(
                name=item.name,
                role=role,
                shape=_shape(framework, item.resources, f"{at}.resources"),
                count=item.count,
                min=item.min,
                agent_id=item.agent_id.value if item.agent_id is not None else None,
                constraints=item.constraints,
                priority=item.priority,
                prefer=tuple(agent_id.value for agent_id in item.prefer),
            )
        )
    s.allocator.request(framework.framework_id, demands, now)


def _shape(framework: Framework, messages: tuple[Resource, ...], at: str) -> Resources:
    """What one task of a demand needs. Raises CallError."""
    shape = Resources.of(messages, at)
    slack = {key.name for key in shape.other or () if key.revocable}
    if slack and not framework.revocable:
        raise CallError(f"{at}: revocable resources are for frameworks with the capability REVOCABLE_RESOURCES")
    both = sorted(slack & firm(shape).scalars().keys())
    if both:
        raise CallError(f"{at}: '{both[0]}' must be revocable or not, not both")
    return shape


def check_update(call: SchedulerCall) -> None:
    """Raises CallError when an UPDATE_FRAMEWORK is of another framework than its sender."""
    info: FrameworkInfo = call.body.framework_info
    if info.id is None or info.id.value != call.framework_id:
        raise CallError("'framework_id' differs from 'update_framework.framework_info.id'")


def update_framework(s: MasterState, framework: Framework, call: scheduler.UpdateFramework, now: Now) -> None:
    """UPDATE_FRAMEWORK, all or nothing (section 2.11)."""
    info = call.framework_info
    roles = roles_of(info)
    fault = (
        framework_fault(info, s.config.roles_allowed, s.config.root_submissions)
        or suppressed_fault(call.suppressed_roles, roles)
        or constraints_fault(call.offer_constraints, roles)
        or immutable_fault(framework.info, info)
    )
    if fault is not None:
        raise CallError(fault)
    removed = frozenset(framework.roles) - frozenset(roles)
    suppressed = frozenset(call.suppressed_roles)
    unsuppressed = tuple(role for role in roles if role in framework.suppressed and role not in suppressed)
    changed = _change_info(s, framework, info, now)
    framework.suppressed = suppressed
    framework.offer_constraints = call.offer_constraints
    if removed:
        take_back_offers(s, framework, now, tell=True, roles=removed)
    s.allocator.update_framework(framework.framework_id, framework.roles, framework.suppressed, options(framework))
    if unsuppressed:
        s.allocator.revive(framework.framework_id, unsuppressed, now)
    _note_wants(framework, now)
    if changed:
        events.framework_changed(s, framework, added=False)


def recover(s: MasterState, records: Mapping[str, registry.FrameworkRecord], now: Now) -> None:
    """Put the frameworks of the registry back after a start of the master; of those removed, the last are shown again."""
    removed = sorted((record.removed_wall_s, framework_id) for framework_id, record in records.items() if record.removed_wall_s is not None)
    s.removed_ids.update((framework_id, None) for _, framework_id in removed)
    for removed_wall_s, framework_id in removed[-s.config.max_completed_frameworks :]:
        framework = _recovered(s, records[framework_id], framework_id)
        framework.state = FrameworkState.REMOVED
        framework.unregistered_wall_s = removed_wall_s
        _remember_removed(s, framework)
    for framework_id, record in records.items():
        if record.removed_wall_s is None:
            _recover(s, record, framework_id, now)


def _recovered(s: MasterState, record: registry.FrameworkRecord, framework_id: str) -> Framework:
    framework = Framework(framework_id, record.info, s.config.max_completed_tasks_per_framework)
    framework.registered_wall_s = record.registered_wall_s
    return framework


def _recover(s: MasterState, record: registry.FrameworkRecord, framework_id: str, now: Now) -> None:
    """It gets its failover time, and at least what agents and schedulers need to find the new master."""
    framework = _recovered(s, record, framework_id)
    s.frameworks[framework_id] = framework
    s.allocator.add_framework(framework_id, framework.roles, framework.suppressed, options(framework))
    s.allocator.set_framework_active(framework_id, False)
    await_failover(s, framework, max(record.info.failover_timeout, s.config.framework_recovery_s), now)
