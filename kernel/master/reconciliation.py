"""RECONCILE: what the master knows of tasks, said again (spec: mesos-v1, section 2.14)."""

from __future__ import annotations

from kernel.clock import Now
from kernel.master.model import Framework, Task
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.wire import scheduler
from kernel.wire.ids import AgentID, ExecutorID
from kernel.wire.task import TERMINAL, Reason, Source, TaskState, TaskStatus


def reconcile(s: MasterState, framework: Framework, call: scheduler.Reconcile, now: Now) -> None:
    """RECONCILE: explicit for the tasks named, implicit for all when none are."""
    if call.tasks:
        for wanted in call.tasks:
            reconcile_one(s, framework, wanted, now)
    else:
        for task in framework.tasks.values():
            _send_known(s, framework, task, now)


def reconcile_one(s: MasterState, framework: Framework, wanted: scheduler.ReconcileTask, now: Now) -> None:
    """Say how a task is, or what is known of its agent; nothing while that may still come and report it."""
    task_id = wanted.task_id.value
    task = framework.tasks.get(task_id)
    if task is not None:
        _send_known(s, framework, task, now)
        return
    agent_id = wanted.agent_id.value if wanted.agent_id is not None else ""
    agent = s.agents.get(agent_id) if agent_id else None
    unreachable_s: float | None = None
    if agent is not None and agent.state is AgentState.RECOVERED:
        return
    if not agent_id and s.recovered:
        return
    if agent is not None:
        state, text = TaskState.TASK_GONE, "Task is unknown to the agent"
    elif agent_id in s.unreachable:
        state, text = TaskState.TASK_UNREACHABLE, "Task is unreachable"
        unreachable_s = s.unreachable[agent_id].wall_s
    elif agent_id in s.gone:
        state, text = TaskState.TASK_GONE_BY_OPERATOR, "The agent is gone for good"
    else:
        state, text = TaskState.TASK_UNKNOWN, "Task is unknown"
    status = s.status(
        task_id, s.lost_as(framework, state), now, f"Reconciliation: {text}", Reason.REASON_RECONCILIATION, agent_id, "", unreachable_s
    )
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))


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
