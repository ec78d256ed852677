"""ACCEPT and DECLINE: what becomes of offers, and tasks until they are sent to their agent (spec: mesos-v1, 2.7-2.10)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import islice

from msgspec.structs import replace

from kernel.clock import Now
from kernel.master import events, operations, reconciliation
from kernel.master.model import Agent, Executor, Framework, Offer, Task
from kernel.master.operation_validation import OperationFault
from kernel.master.state import MasterState
from kernel.master.task_validation import (
    TaskFault,
    check_apart,
    check_choice,
    check_executor,
    check_group_task,
    check_own_cgroups,
    check_task,
    check_task_id,
    is_same_executor,
    shares_cgroups,
)
from kernel.wire import scheduler
from kernel.wire.agent import RunTask, RunTaskGroup
from kernel.wire.conversion import Conversion, apply, once, unshared
from kernel.wire.ids import FrameworkID
from kernel.wire.nodes import AgentCapability
from kernel.wire.offer import Filters, LaunchGroup, Operation, OperationType
from kernel.wire.resources import EMPTY, AllocationInfo, Resource, Resources
from kernel.wire.task import CheckType, ExecutorInfo, HealthCheck, Reason, TaskInfo, TaskState

REFUSE_S_DEFAULT = 5.0
REFUSE_S_MAX = 365 * 86400.0


def refuse_seconds(filters: Filters | None) -> float:
    """For how long refused resources stay away: 0 for no filter (section 7.2)."""
    if filters is None:
        return REFUSE_S_DEFAULT
    seconds = filters.refuse_seconds
    if math.isnan(seconds) or seconds < 0:
        return REFUSE_S_DEFAULT
    return min(seconds, REFUSE_S_MAX)


def decline(s: MasterState, framework: Framework, call: scheduler.Decline, now: Now) -> None:
    """DECLINE; offers that ended already are passed over."""
    refuse_s = refuse_seconds(call.filters)
    for offer_id in call.offer_ids:
        offer = framework.offers.get(offer_id.value)
        if offer is not None:
            s.drop_offer(offer)
            s.allocator.close_offers((offer.allocation,), EMPTY, refuse_s, now)
            framework.counts["offers/declined"] += 1


# ---- ACCEPT ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Pool:
    """The offers being accepted. left: what no operation has taken; later: what operations made for later offers only; changes:
    what operations made of which resources; shapes: what each launched task took."""

    framework: Framework
    agent: Agent
    role: str
    left: Resources
    later: Resources = EMPTY
    changes: list[Conversion] = field(default_factory=list)
    shapes: list[Resources] = field(default_factory=list)


def accept(s: MasterState, framework: Framework, call: scheduler.Accept, now: Now) -> None:
    """ACCEPT: run the operations in order against the offered resources; the rest is declined."""
    offers, fault = _accepted_offers(framework, call)
    if fault is not None:
        for offer in offers:
            s.rescind(offer, now, tell=False)
        _drop_operations(s, framework, call, fault, now)
        return
    agent, role, offered = offers[0].agent, offers[0].role, offers[0].resources
    for offer in islice(offers, 1, None):
        offered += offer.resources
    for offer in offers:
        s.drop_offer(offer)
    framework.counts["offers/accepted"] += len(offers)
    pool = _Pool(framework, agent, role, offered)
    for operation in call.operations:
        if operation.type is OperationType.LAUNCH:
            _launch(s, pool, operation, now)
        elif operation.type is OperationType.LAUNCH_GROUP:
            _launch_group(s, pool, operation, now)
        else:
            _convert(s, pool, operation)
    _close(s, pool, offers, offered, refuse_seconds(call.filters), now)
    if pool.shapes:
        s.allocator.launched(framework.framework_id, role, pool.shapes)


def _convert(s: MasterState, pool: _Pool, info: Operation) -> None:
    """Do an operation on resources; those that follow see what it made."""
    try:
        change = operations.check_offered(pool.framework, pool.agent, pool.role, pool.left, info)
    except OperationFault as fault:
        operations.tell_error(s, pool.framework, info, f"Invalid operation: {fault}")
        return
    pool.changes.append(change)
    pool.left -= change.consumed
    if info.type in operations.NOT_SPECULATIVE:
        pool.later += change.converted
    else:
        pool.left += change.converted
    operations.order(s, pool.agent, pool.framework, info, change)


def _close(s: MasterState, pool: _Pool, offers: list[Offer], offered: Resources, refuse_s: float, now: Now) -> None:
    """The rest of the offers is free again; what was offered and left as it was is refused."""
    made = offered
    for change in pool.changes:
        made = apply(made, change)
    rest = pool.left + pool.later
    allocations = [offer.allocation for offer in offers]
    s.allocator.close_offers(allocations, made - rest, refuse_s, now, pool.changes, rest.without(offered) if pool.changes else EMPTY)


def _accepted_offers(framework: Framework, call: scheduler.Accept) -> tuple[list[Offer], str | None]:
    """The live offers the call names, and why it may not combine them (None: it may)."""
    ids = [offer_id.value for offer_id in call.offer_ids]
    offers = [framework.offers[offer_id] for offer_id in dict.fromkeys(ids) if offer_id in framework.offers]
    if not ids:
        return offers, "No offers specified"
    if len(set(ids)) != len(ids):
        return offers, "Duplicate offer in offer list"
    if len(offers) != len(ids):
        gone = next(offer_id for offer_id in ids if offer_id not in framework.offers)
        return offers, f"Offer {gone} is no longer valid"
    if any(offer.role != offers[0].role for offer in offers):
        return offers, "Aggregated offers must be allocated to the same role"
    if any(offer.agent is not offers[0].agent for offer in offers):
        return offers, "Aggregated offers must belong to one single agent"
    return offers, None


def _drop_operations(s: MasterState, framework: Framework, call: scheduler.Accept, fault: str, now: Now) -> None:
    """Tell of every task that it is not launched. An ACCEPT may have come twice: what it launched is told as it is."""
    state = s.lost_as(framework, TaskState.TASK_DROPPED)
    for operation in call.operations:
        tasks = _tasks_of(operation)
        if tasks is None:
            operations.tell_error(s, framework, operation, f"Invalid offers: {fault}")
            continue
        for task in tasks:
            task_id = task.task_id.value
            if task_id in framework.tasks or task_id in framework.unreachable:
                reconciliation.reconcile_one(s, framework, scheduler.ReconcileTask(task.task_id, task.agent_id), now)
            else:
                message = f"Task launched with invalid offers: {fault}"
                _refuse_task(s, framework, task, state, message, Reason.REASON_INVALID_OFFERS, now)


def _tasks_of(operation: Operation) -> tuple[TaskInfo, ...] | None:
    if operation.type is OperationType.LAUNCH:
        return operation.launch.task_infos if operation.launch is not None else ()
    if operation.type is OperationType.LAUNCH_GROUP:
        return operation.launch_group.task_group.tasks if operation.launch_group is not None else ()
    return None


def _refuse_task(s: MasterState, framework: Framework, task: TaskInfo, state: TaskState, message: str, reason: Reason, now: Now) -> None:
    status = s.status(task.task_id.value, state, now, message, reason, task.agent_id.value)
    s.count_end(framework, status.state, status)
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))


# ---- Launching ------------------------------------------------------------------------------------------


def _launch(s: MasterState, pool: _Pool, operation: Operation, now: Now) -> None:
    """LAUNCH: each task stands for itself; an invalid one becomes TASK_ERROR, the others run."""
    framework, agent = pool.framework, pool.agent
    for info in operation.launch.task_infos if operation.launch is not None else ():
        try:
            if operation.id is not None:
                raise TaskFault("LAUNCH operation must not have an 'id'")
            task, executor = _prepare(pool, info)
        except TaskFault as fault:
            _refuse_task(s, framework, info, TaskState.TASK_ERROR, str(fault), Reason.REASON_TASK_INVALID, now)
            continue
        if executor is not None:
            pool.left -= executor.resources
            s.add_executor(framework, agent, executor)
        _add_task(s, pool, task)
        run = RunTask(framework.framework_id, task.info, executor is not None or task.info.executor is None)
        s.tell_agent(agent, run, framework)


def _add_task(s: MasterState, pool: _Pool, task: Task) -> None:
    pool.left -= unshared(task.resources)
    pool.shapes.append(task.resources)
    s.add_task(pool.framework, pool.agent, task)
    events.task_added(s, task)


def _prepare(pool: _Pool, info: TaskInfo) -> tuple[Task, Executor | None]:
    """Check one task of a LAUNCH (section 2.9); return it and the executor to start for it. Raises TaskFault."""
    framework, agent = pool.framework, pool.agent
    check_task_id(info)
    _check_unused(framework, info.task_id.value)
    if info.health_check is not None and info.health_check.type is None:
        info = replace(info, health_check=_infer_type(info.health_check))
    if info.executor is not None and info.executor.framework_id is None:
        info = replace(info, executor=replace(info.executor, framework_id=FrameworkID(framework.framework_id)))
    needed = resources = check_task(info, agent.agent_id, pool.role, _knows_limits(agent))
    check_choice(info)
    executor: Executor | None = None
    executor_id = ""
    if info.executor is not None:
        executor_id = info.executor.executor_id.value
        executor_resources = check_executor(info.executor, framework.framework_id, pool.role, group=False)
        executor = _new_executor(pool, info.executor, executor_resources)
        if executor is not None:
            check_apart((resources, executor_resources), "Task and its executor")
            needed = resources + executor_resources
    _check_pool(pool, needed, "task and its executor")
    check_own_cgroups(info)
    return Task(framework.framework_id, _allocated(info, pool.role), pool.role, resources, executor_id), executor


def _allocated(info: TaskInfo, role: str) -> TaskInfo:
    """The task with the role its resources are allocated to: by it the next master knows whose they are."""
    if info.executor is None:
        return replace(info, resources=_allocate(info.resources, role))
    executor = replace(info.executor, resources=_allocate(info.executor.resources, role))
    return replace(info, resources=_allocate(info.resources, role), executor=executor)


def _allocate(resources: tuple[Resource, ...], role: str) -> tuple[Resource, ...]:
    allocation = AllocationInfo(role)
    return tuple([replace(resource, allocation_info=allocation) for resource in resources])


def _check_unused(framework: Framework, task_id: str) -> None:
    if task_id in framework.tasks:
        raise TaskFault(f"Task has duplicate ID: {task_id}")
    if task_id in framework.unreachable:
        raise TaskFault(f"Task reuses the ID of an unreachable task: {task_id}")


def _check_pool(pool: _Pool, needed: Resources, of: str) -> None:
    if not pool.left.contains(once(needed)):
        raise TaskFault(f"Total resources {needed} required by {of} is more than available {pool.left}")


def _new_executor(pool: _Pool, info: ExecutorInfo, resources: Resources) -> Executor | None:
    """The executor to start, None when it runs already. Raises TaskFault when that one differs."""
    running = pool.agent.executors.get((pool.framework.framework_id, info.executor_id.value))
    if running is None:
        info = replace(info, resources=_allocate(info.resources, pool.role))
        return Executor(pool.framework.framework_id, pool.agent.agent_id, info, pool.role, resources)
    if not is_same_executor(running.info, info):
        raise TaskFault("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID")
    return None


def _infer_type(health: HealthCheck) -> HealthCheck:
    if health.command is not None and health.http is None:
        return replace(health, type=CheckType.COMMAND)
    if health.http is not None and health.command is None:
        return replace(health, type=CheckType.HTTP)
    return health


# ---- Groups ---------------------------------------------------------------------------------------------


def _launch_group(s: MasterState, pool: _Pool, operation: Operation, now: Now) -> None:
    """LAUNCH_GROUP: all of its tasks or none."""
    group = operation.launch_group
    if group is None:
        return
    try:
        if operation.id is not None:
            raise TaskFault("LAUNCH_GROUP operation must not have an 'id'")
        tasks, executor = _prepare_group(pool, group)
    except TaskFault as fault:
        for info in group.task_group.tasks:
            _refuse_task(s, pool.framework, info, TaskState.TASK_ERROR, str(fault), Reason.REASON_TASK_GROUP_INVALID, now)
        return
    if executor is not None:
        pool.left -= executor.resources
        s.add_executor(pool.framework, pool.agent, executor)
    for task in tasks:
        _add_task(s, pool, task)
    runs = executor.info if executor is not None else group.executor
    run = RunTaskGroup(pool.framework.framework_id, runs, tuple(task.info for task in tasks), executor is not None)
    s.tell_agent(pool.agent, run, pool.framework)


def _prepare_group(pool: _Pool, group: LaunchGroup) -> tuple[list[Task], Executor | None]:
    """Check a group; return its tasks and the executor to start for it. Raises TaskFault."""
    framework, infos = pool.framework, group.task_group.tasks
    if not infos:
        raise TaskFault("Task group cannot be empty")
    seen: set[str] = set()
    parts: list[Resources] = []
    for info in infos:
        try:
            parts.append(_check_group_task(pool, group, info, seen))
        except TaskFault as fault:
            raise TaskFault(f"Task '{info.task_id.value}' is invalid: {fault}") from fault
    executor_resources = check_executor(group.executor, framework.framework_id, pool.role, group=True)
    executor = _new_executor(pool, group.executor, executor_resources)
    together = parts if executor is None else [*parts, executor_resources]
    check_apart(together, "Task group and its executor")
    _check_pool(pool, Resources.sum(together), "task group and its executor")
    _check_shared_cgroups(pool, group, executor)
    executor_id = group.executor.executor_id.value
    tasks = [
        Task(framework.framework_id, _allocated(replace(info, executor=group.executor), pool.role), pool.role, resources, executor_id)
        for info, resources in zip(infos, parts, strict=True)
    ]
    return tasks, executor


def _check_group_task(pool: _Pool, group: LaunchGroup, info: TaskInfo, seen: set[str]) -> Resources:
    check_task_id(info)
    task_id = info.task_id.value
    if task_id in seen:
        raise TaskFault(f"Task has duplicate ID: {task_id}")
    seen.add(task_id)
    _check_unused(pool.framework, task_id)
    resources = check_task(info, pool.agent.agent_id, pool.role, _knows_limits(pool.agent))
    check_group_task(info, group.executor)
    return resources


def _check_shared_cgroups(pool: _Pool, group: LaunchGroup, starting: Executor | None) -> None:
    """All tasks under one executor share its limits, or none does. Raises TaskFault."""
    choices = {shares_cgroups(info) for info in group.task_group.tasks}
    executor = starting or pool.agent.executors[pool.framework.framework_id, group.executor.executor_id.value]
    if executor.shares_cgroups is not None:
        choices.add(executor.shares_cgroups)
    if len(choices) > 1:
        raise TaskFault("Tasks under one executor must agree on 'container.linux_info.share_cgroups'")
    executor.shares_cgroups = choices.pop()


def _knows_limits(agent: Agent) -> bool:
    return AgentCapability.TASK_RESOURCE_LIMITS in agent.capabilities
