"""Tasks from ACCEPT to their acknowledged end (spec: mesos-v1, sections 2.7-2.9 and 2.13-2.15)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import CallError, NotFound
from kernel.master import events, render
from kernel.master.effects import KillTaskByOperator
from kernel.master.state import Agent, Executor, Framework, MasterState, Offer, Task
from kernel.master.transitions import AgentState, advance
from kernel.master.validation import (
    TaskFault,
    check_executor,
    check_group_task,
    check_launch_choice,
    check_task,
    check_task_id,
)
from kernel.wire import scheduler
from kernel.wire.agent import (
    AcknowledgeUpdate,
    ExecutorMessage,
    FrameworkMessage,
    KillTask,
    RunTask,
    RunTaskGroup,
    ShutdownExecutor,
    StatusUpdate,
)
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OperationID
from kernel.wire.offer import Filters, LaunchGroup, Operation, OperationState, OperationStatus, OperationType
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.task import (
    TERMINAL,
    CheckType,
    ExecutorInfo,
    HealthCheck,
    Reason,
    Source,
    TaskInfo,
    TaskState,
    TaskStatus,
)

REFUSE_S_DEFAULT = 5.0
REFUSE_S_MAX = 365 * 86400.0
UUID_BYTES = 16


def refuse_seconds(filters: Filters | None) -> float:
    """For how long refused resources stay away: 0 for no filter (section 7.2)."""
    if filters is None:
        return REFUSE_S_DEFAULT
    seconds = filters.refuse_seconds
    if math.isnan(seconds) or seconds < 0:
        return REFUSE_S_DEFAULT
    return min(seconds, REFUSE_S_MAX)


# ---- ACCEPT and DECLINE ---------------------------------------------------------------------------------


def decline(s: MasterState, framework: Framework, call: scheduler.Decline, now: Now) -> None:
    """DECLINE; offers that ended already are passed over."""
    refuse_s = refuse_seconds(call.filters)
    for offer_id in call.offer_ids:
        offer = framework.offers.get(offer_id.value)
        if offer is not None:
            s.drop_offer(offer)
            s.allocator.close_offers((offer.allocation,), EMPTY, refuse_s, now)
            framework.counts["offers/declined"] += 1


@dataclass(slots=True)
class _Pool:
    """What is left of the offers being accepted."""

    framework: Framework
    agent: Agent
    role: str
    left: Resources


def accept(s: MasterState, framework: Framework, call: scheduler.Accept, now: Now) -> None:
    """ACCEPT: run the operations in order against the offered resources; the rest is declined."""
    offers, fault = _accepted_offers(framework, call)
    if fault is not None:
        for offer in offers:
            s.rescind(offer, now, tell=False)
        _drop_operations(s, framework, call, fault, now)
        return
    agent, role = offers[0].agent, offers[0].role
    offered = offers[0].resources
    for offer in islice(offers, 1, None):
        offered += offer.resources
    for offer in offers:
        s.drop_offer(offer)
    framework.counts["offers/accepted"] += len(offers)
    pool = _Pool(framework, agent, role, offered)
    shapes: list[Resources] = []
    for operation in call.operations:
        if operation.type is OperationType.LAUNCH:
            _launch(s, pool, operation, shapes, now)
        elif operation.type is OperationType.LAUNCH_GROUP:
            _launch_group(s, pool, operation, shapes, now)
        else:
            name = operation.type.value if operation.type is not None else "of unknown type"
            _operation_error(s, framework, operation, f"operation {name} is not supported by this master")
    s.allocator.close_offers([offer.allocation for offer in offers], offered - pool.left, refuse_seconds(call.filters), now)
    if shapes:
        s.allocator.launched(framework.framework_id, role, shapes)


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
    if offers[0].agent.state is not AgentState.REGISTERED:
        return offers, f"Agent {offers[0].agent.agent_id} is disconnected"
    return offers, None


def _drop_operations(s: MasterState, framework: Framework, call: scheduler.Accept, fault: str, now: Now) -> None:
    state = s.lost_as(framework, TaskState.TASK_DROPPED)
    for operation in call.operations:
        tasks = _tasks_of(operation)
        if tasks is None:
            _operation_error(s, framework, operation, fault)
        else:
            for task in tasks:
                held = framework.tasks.get(task.task_id.value)
                if held is not None:  # An ACCEPT that came twice: what it launched is not dropped.
                    _send_known(s, framework, held, now)
                    continue
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


def _operation_error(s: MasterState, framework: Framework, operation: Operation, message: str) -> None:
    if operation.id is not None:
        status = OperationStatus(OperationState.OPERATION_ERROR, operation.id, message)
        s.tell(framework, scheduler.Event("UPDATE_OPERATION_STATUS", update_operation_status=scheduler.UpdateOperationStatus(status)))


# ---- Launching ------------------------------------------------------------------------------------------


def _launch(s: MasterState, pool: _Pool, operation: Operation, shapes: list[Resources], now: Now) -> None:
    """LAUNCH: each task stands for itself; an invalid one becomes TASK_ERROR, the others run."""
    for info in operation.launch.task_infos if operation.launch is not None else ():
        try:
            if operation.id is not None:
                raise TaskFault("LAUNCH operation must not have an 'id'")
            task, executor = _prepare(s, pool, info)
        except TaskFault as fault:
            _refuse_task(s, pool.framework, info, TaskState.TASK_ERROR, str(fault), Reason.REASON_TASK_INVALID, now)
            continue
        pool.left -= task.resources
        if executor is not None:
            pool.left -= executor.resources
            s.add_executor(pool.framework, pool.agent, executor)
        s.add_task(pool.framework, pool.agent, task)
        shapes.append(task.resources)
        run = RunTask(pool.framework.framework_id, task.info, executor is not None or task.info.executor is None)
        s.tell_agent(pool.agent, run, pool.framework)
        events.task_added(s, task)


def _prepare(s: MasterState, pool: _Pool, info: TaskInfo) -> tuple[Task, Executor | None]:
    """Check one task of a LAUNCH against the state (section 2.9). Raises TaskFault."""
    framework, agent = pool.framework, pool.agent
    check_task_id(info)
    _check_unused(framework, info.task_id.value)
    if info.health_check is not None and info.health_check.type is None:
        info = replace(info, health_check=_infer_type(info.health_check))
    if info.executor is not None and info.executor.framework_id is None:
        info = replace(info, executor=replace(info.executor, framework_id=FrameworkID(framework.framework_id)))
    resources = check_task(info, agent.agent_id, pool.role)
    check_launch_choice(info)
    executor: Executor | None = None
    needed = resources
    executor_id = ""
    if info.executor is not None:
        executor_id = info.executor.executor_id.value
        executor_resources = check_executor(info.executor, framework.framework_id, pool.role, group=False)
        executor = _new_executor(pool, info.executor, executor_resources)
        if executor is not None:
            needed = _sum(resources, executor_resources)
    _check_pool(pool, needed)
    return Task(framework.framework_id, info, pool.role, resources, executor_id), executor


def _sum(task: Resources, executor: Resources) -> Resources:
    try:
        return task + executor
    except ValueError as error:
        raise TaskFault(f"Task and its executor use overlapping resources: {error}") from error


def _check_unused(framework: Framework, task_id: str) -> None:
    if task_id in framework.tasks:
        raise TaskFault(f"Task has duplicate ID: {task_id}")
    if task_id in framework.unreachable:
        raise TaskFault(f"Task reuses the ID of an unreachable task: {task_id}")


def _check_pool(pool: _Pool, needed: Resources) -> None:
    if not pool.left.contains(needed):
        raise TaskFault(f"Total resources {needed} required by task and its executor is more than available {pool.left}")


def _new_executor(pool: _Pool, info: ExecutorInfo, resources: Resources) -> Executor | None:
    """The executor to start, None when it runs already. Raises TaskFault when that one differs."""
    running = pool.agent.executors.get((pool.framework.framework_id, info.executor_id.value))
    if running is None:
        return Executor(pool.framework.framework_id, pool.agent.agent_id, info, pool.role, resources)
    if render.without_allocation(running.info) != render.without_allocation(info):
        raise TaskFault("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID")
    return None


def _infer_type(health: HealthCheck) -> HealthCheck:
    if health.command is not None and health.http is None:
        return replace(health, type=CheckType.COMMAND)
    if health.http is not None and health.command is None:
        return replace(health, type=CheckType.HTTP)
    return health


def _launch_group(s: MasterState, pool: _Pool, operation: Operation, shapes: list[Resources], now: Now) -> None:
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
        pool.left -= task.resources
        s.add_task(pool.framework, pool.agent, task)
        shapes.append(task.resources)
        events.task_added(s, task)
    run = RunTaskGroup(pool.framework.framework_id, group.executor, tuple(task.info for task in tasks), executor is not None)
    s.tell_agent(pool.agent, run, pool.framework)


def _prepare_group(pool: _Pool, group: LaunchGroup) -> tuple[list[Task], Executor | None]:
    framework = pool.framework
    executor_resources = check_executor(group.executor, framework.framework_id, pool.role, group=True)
    executor = _new_executor(pool, group.executor, executor_resources)
    needed = executor_resources if executor is not None else EMPTY
    tasks: list[Task] = []
    if not group.task_group.tasks:
        raise TaskFault("Task group cannot be empty")
    seen: set[str] = set()
    for info in group.task_group.tasks:
        check_task_id(info)
        task_id = info.task_id.value
        if task_id in seen:
            raise TaskFault(f"Task has duplicate ID: {task_id}")
        seen.add(task_id)
        _check_unused(framework, task_id)
        check_group_task(info, group.executor)
        resources = check_task(info, pool.agent.agent_id, pool.role)
        needed = _sum(needed, resources)
        executor_id = group.executor.executor_id.value
        tasks.append(Task(framework.framework_id, replace(info, executor=group.executor), pool.role, resources, executor_id))
    _check_pool(pool, needed)
    return tasks, executor


# ---- Updates and acknowledgements -----------------------------------------------------------------------


def status_update(s: MasterState, agent: Agent, message: StatusUpdate, now: Now) -> None:
    """An update from an agent: its latest state frees resources, the update itself goes to the scheduler."""
    framework = s.frameworks.get(message.framework_id)
    if framework is None:
        s.counts["master/invalid_status_updates"] += 1
        return
    status = message.status
    task = framework.tasks.get(status.task_id.value)
    if task is not None and task.agent_id == agent.agent_id:
        task.owed = status
        _note_update(s, framework, agent, task, message, now)
    s.counts["master/valid_status_updates" if task is not None else "master/invalid_status_updates"] += 1
    # Sent even when the task is unknown here: only an acknowledgement ends the agent's sending it again.
    if s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status))) and task is not None:
        task.sent = status


def _note_update(s: MasterState, framework: Framework, agent: Agent, task: Task, message: StatusUpdate, now: Now) -> None:
    status = message.status
    before = task.statuses[-1] if task.statuses else None
    if before is None or before.uuid != status.uuid:
        task.note(status)
    was, task.state = task.state, advance(task.state, message.latest_state)
    if task.state is not was and task.state in TERMINAL:
        s.free_task(framework, agent, task, now)
        s.count_end(framework, task.state, status if status.state is task.state else None)
    if before is None or before.state is not status.state or before.healthy != status.healthy:
        events.task_updated(s, task, status)


def acknowledge(s: MasterState, framework: Framework, call: scheduler.Acknowledge, now: Now) -> None:
    """ACKNOWLEDGE: pass it on; the end of a task, once acknowledged, moves it to the history."""
    agent = s.agents.get(call.agent_id.value)
    task = framework.tasks.get(call.task_id.value)
    if task is not None and task.agent_id != call.agent_id.value:
        task = None  # Another run of this id, elsewhere: the agent still wants to hear of its own.
    lost = framework.unreachable.get(call.task_id.value)
    if lost is not None and lost.owed is not None and lost.owed.uuid == call.uuid and lost.owed.state in TERMINAL:
        del framework.unreachable[lost.task_id]  # Its end is known: the id may be used again before the agent is back.
        framework.completed.append(lost)
    if agent is None or agent.link is None or (task is not None and task.sent is None):
        s.counts["master/invalid_status_update_acknowledgements"] += 1
        return
    s.counts["master/valid_status_update_acknowledgements"] += 1
    s.tell_agent(agent, AcknowledgeUpdate(framework.framework_id, call.task_id.value, call.uuid), framework)
    if task is not None and task.owed is not None and task.owed.uuid == call.uuid:
        task.owed = None
    if task is not None and task.sent is not None and task.sent.uuid == call.uuid and task.sent.state in TERMINAL:
        s.complete_task(framework, agent, task, now)


def send_owed(s: MasterState, framework: Framework) -> None:
    """A scheduler is back: send it the updates it has not acknowledged, rather than when their agents try again."""
    for task in framework.tasks.values():
        if task.owed is not None and s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(task.owed))):
            task.sent = task.owed


def check_acknowledge(call: scheduler.Acknowledge) -> None:
    if len(call.uuid) != UUID_BYTES:
        raise CallError(f"acknowledge.uuid: must be {UUID_BYTES} bytes, got {len(call.uuid)}")


# ---- Kill, shutdown, messages ---------------------------------------------------------------------------


def kill(s: MasterState, framework: Framework, call: scheduler.Kill, now: Now) -> None:
    """KILL: passed to the agent, remembered while that is away; of an unknown task: its reconciliation."""
    task = framework.tasks.get(call.task_id.value)
    if task is None:
        _reconcile_one(s, framework, scheduler.ReconcileTask(call.task_id, call.agent_id), now)
        return
    if call.agent_id is not None and call.agent_id.value != task.agent_id:
        return
    task.killing, task.kill = True, call.kill_policy
    agent = s.agents.get(task.agent_id)
    if agent is not None:
        s.tell_agent(agent, KillTask(framework.framework_id, task.task_id, call.kill_policy), framework)


def kill_by_operator(s: MasterState, call: KillTaskByOperator, now: Now) -> None:
    """KILL_TASK, our operator call. Raises NotFound."""
    framework = s.frameworks.get(call.framework_id)
    task = framework.tasks.get(call.task_id) if framework is not None else None
    if framework is None:
        raise NotFound(f"framework_id: no framework '{call.framework_id}' is known")
    if task is None:
        raise NotFound(f"task_id: framework '{call.framework_id}' has no live task '{call.task_id}'")
    kill(s, framework, scheduler.Kill(task.info.task_id, kill_policy=call.kill_policy), now)


def shutdown(s: MasterState, framework: Framework, call: scheduler.Shutdown) -> None:
    agent = s.agents.get(call.agent_id.value)
    if agent is not None and (framework.framework_id, call.executor_id.value) in agent.executors:
        s.tell_agent(agent, ShutdownExecutor(framework.framework_id, call.executor_id.value), framework)


def message(s: MasterState, framework: Framework, call: scheduler.Message) -> None:
    """MESSAGE to an executor; dropped silently when that cannot be reached."""
    agent = s.agents.get(call.agent_id.value)
    if agent is not None and agent.link is not None:
        s.tell_agent(agent, FrameworkMessage(framework.framework_id, call.executor_id.value, call.data), framework)
        s.counts["master/valid_framework_to_executor_messages"] += 1
    else:
        s.counts["master/invalid_framework_to_executor_messages"] += 1


def executor_message(s: MasterState, agent: Agent, sent: ExecutorMessage) -> None:
    framework = s.frameworks.get(sent.framework_id)
    if framework is None:
        s.counts["master/invalid_executor_to_framework_messages"] += 1
        return
    s.counts["master/valid_executor_to_framework_messages"] += 1
    body = scheduler.EventMessage(AgentID(agent.agent_id), ExecutorID(sent.executor_id), sent.data)
    s.tell(framework, scheduler.Event("MESSAGE", message=body))


# ---- Reconciliation -------------------------------------------------------------------------------------


def reconcile(s: MasterState, framework: Framework, call: scheduler.Reconcile, now: Now) -> None:
    """RECONCILE: explicit for the tasks named, implicit for all when none are (section 2.14)."""
    if call.tasks:
        for wanted in call.tasks:
            _reconcile_one(s, framework, wanted, now)
    else:
        for task in framework.tasks.values():
            _send_known(s, framework, task, now)


def _send_known(s: MasterState, framework: Framework, task: Task, now: Now) -> None:
    sent = task.sent
    status = TaskStatus(
        task_id=task.info.task_id,
        state=sent.state if sent is not None else _unsent_state(task),
        message=_told_again(sent),
        source=Source.SOURCE_MASTER,
        reason=Reason.REASON_RECONCILIATION,
        agent_id=AgentID(task.agent_id),
        executor_id=ExecutorID(task.executor_id) if task.executor_id else None,
        timestamp=now.wall_s,
        healthy=sent.healthy if sent is not None else None,
        check_status=sent.check_status if sent is not None else None,
        container_status=sent.container_status if sent is not None else None,
        labels=sent.labels if sent is not None else None,
    )
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))


def _told_again(sent: TaskStatus | None) -> str:
    """The end of a task keeps what it said, such as an exit status: the scheduler may have missed the update."""
    if sent is not None and sent.message and sent.state in TERMINAL:
        return f"Reconciliation: Latest task state: {sent.message}"
    return "Reconciliation: Latest task state"


def _unsent_state(task: Task) -> TaskState:
    """What to say of a task of which no update was sent: its end must come as an update of its own, with a
    uuid, so an end that is only known here is not told this way."""
    return TaskState.TASK_STAGING if task.terminal else task.state


def _reconcile_one(s: MasterState, framework: Framework, wanted: scheduler.ReconcileTask, now: Now) -> None:
    task_id = wanted.task_id.value
    task = framework.tasks.get(task_id)
    if task is not None:
        _send_known(s, framework, task, now)
        return
    agent_id = wanted.agent_id.value if wanted.agent_id is not None else ""
    agent = s.agents.get(agent_id) if agent_id else None
    unreachable_s: float | None = None
    if agent is not None and agent.state is AgentState.RECOVERED:
        return  # The agent may still come and report it.
    if not agent_id and s.recovered:
        return
    if agent is not None:
        state, text = TaskState.TASK_GONE, "Task is unknown to the agent"
    elif agent_id in s.unreachable:
        state, text = TaskState.TASK_UNREACHABLE, "Task is unreachable"
        unreachable_s = s.unreachable[agent_id].wall_s
    elif agent_id in s.gone:
        state, text = TaskState.TASK_GONE_BY_OPERATOR, "Task is gone by operator"
    else:
        state, text = TaskState.TASK_UNKNOWN, "Task is unknown"
    status = s.status(
        task_id, s.lost_as(framework, state), now, f"Reconciliation: {text}", Reason.REASON_RECONCILIATION, agent_id, "", unreachable_s
    )
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))


def reconcile_operations(s: MasterState, framework: Framework, call: scheduler.ReconcileOperations) -> None:
    """RECONCILE_OPERATIONS: none are ever under way yet, so each is answered by what is known of its agent."""
    for wanted in call.operations:
        agent_id = wanted.agent_id.value if wanted.agent_id is not None else ""
        agent = s.agents.get(agent_id)
        if agent is not None and agent.state is AgentState.RECOVERED:
            state = OperationState.OPERATION_RECOVERING
        elif agent_id in s.unreachable:
            state = OperationState.OPERATION_UNREACHABLE
        elif agent_id in s.gone:
            state = OperationState.OPERATION_GONE_BY_OPERATOR
        else:
            state = OperationState.OPERATION_UNKNOWN
        status = OperationStatus(state, OperationID(wanted.operation_id.value), agent_id=wanted.agent_id)
        s.tell(framework, scheduler.Event("UPDATE_OPERATION_STATUS", update_operation_status=scheduler.UpdateOperationStatus(status)))
