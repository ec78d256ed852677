"""Tasks from their launch to their acknowledged end: updates, acknowledgements, kills, messages (spec: mesos-v1, 2.13, 2.15)."""

from __future__ import annotations

from kernel.clock import Now
from kernel.errors import NotFound, PeerError
from kernel.master import events
from kernel.master.effects import KillTaskByOperator
from kernel.master.model import Agent, Framework, Task
from kernel.master.reconciliation import reconcile_one
from kernel.master.state import MasterState
from kernel.master.transitions import REPORTABLE, advance
from kernel.wire import scheduler
from kernel.wire.agent import AcknowledgeUpdate, ExecutorMessage, FrameworkMessage, KillTask, ShutdownExecutor, StatusUpdate
from kernel.wire.ids import AgentID, ExecutorID
from kernel.wire.task import TERMINAL

# ---- Updates and acknowledgements -----------------------------------------------------------------------


def status_update(s: MasterState, agent: Agent, message: StatusUpdate, now: Now) -> None:
    """An update from an agent: its latest state frees resources, the update itself goes to the scheduler. Raises PeerError."""
    status = message.status
    if status.agent_id is None or status.agent_id.value != agent.agent_id or not status.uuid:
        raise PeerError(f"an update of task '{status.task_id.value}' that names another agent or cannot be acknowledged")
    if status.state not in REPORTABLE or message.latest_state not in REPORTABLE:
        raise PeerError(f"an update of task '{status.task_id.value}' with a state no agent knows of")
    framework = s.frameworks.get(message.framework_id)
    if framework is None:
        s.counts["master/invalid_status_updates"] += 1
        return
    task = framework.tasks.get(status.task_id.value)
    if task is not None and task.agent_id == agent.agent_id:
        task.owed = status
        _note_update(s, framework, agent, task, message, now)
        s.counts["master/valid_status_updates"] += 1
    else:
        task = None
        s.counts["master/invalid_status_updates"] += 1
    # Sent even when the task is unknown here: only an acknowledgement ends the agent's sending it again.
    if s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status))) and task is not None:
        s.before(task)
        task.sent = status


def _note_update(s: MasterState, framework: Framework, agent: Agent, task: Task, message: StatusUpdate, now: Now) -> None:
    status = message.status
    before = task.statuses[-1] if task.statuses else None
    if before is None or before.uuid != status.uuid:
        s.note(task, status)
    was = task.state
    state = advance(was, message.latest_state)
    s.enter(framework, task, advance(state, status.state) if status.state in TERMINAL else state)
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
    _acknowledge_lost(framework, call)
    if agent is None or agent.link is None or (task is not None and task.sent is None):
        s.counts["master/invalid_status_update_acknowledgements"] += 1
        return
    s.counts["master/valid_status_update_acknowledgements"] += 1
    s.tell_agent(agent, AcknowledgeUpdate(framework.framework_id, call.task_id.value, call.uuid), framework)
    if task is not None and task.owed is not None and task.owed.uuid == call.uuid:
        task.owed = None
    if task is not None and task.sent is not None and task.sent.uuid == call.uuid and task.sent.state in TERMINAL:
        s.complete_task(framework, agent, task, now)


def _acknowledge_lost(framework: Framework, call: scheduler.Acknowledge) -> None:
    """The end of a task whose agent is away is known: its id may be used again before the agent is back."""
    lost = framework.unreachable.get(call.task_id.value)
    if lost is not None and lost.owed is not None and lost.owed.uuid == call.uuid and lost.owed.state in TERMINAL:
        del framework.unreachable[lost.task_id]
        framework.completed.append(lost)


def send_owed(s: MasterState, framework: Framework) -> None:
    """A scheduler is back: send it the updates it has not acknowledged, rather than when their agents try again."""
    for task in framework.tasks.values():
        if task.owed is not None and s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(task.owed))):
            s.before(task)
            task.sent = task.owed


# ---- Kill, shutdown, messages ---------------------------------------------------------------------------


def kill(s: MasterState, framework: Framework, call: scheduler.Kill, now: Now) -> None:
    """KILL: passed to the agent, remembered while that is away; of an unknown task: its reconciliation."""
    task = framework.tasks.get(call.task_id.value)
    if task is None:
        lost = framework.unreachable.get(call.task_id.value)
        if lost is not None and (call.agent_id is None or call.agent_id.value == lost.agent_id):
            lost.killing, lost.kill = True, call.kill_policy  # For when its agent is back.
        reconcile_one(s, framework, scheduler.ReconcileTask(call.task_id, call.agent_id), now)
        return
    if call.agent_id is not None and call.agent_id.value != task.agent_id:
        return
    task.killing, task.kill, task.preempted = True, call.kill_policy, ""
    s.tell_agent(s.agents[task.agent_id], KillTask(framework.framework_id, task.task_id, call.kill_policy), framework)


def kill_by_operator(s: MasterState, call: KillTaskByOperator, now: Now) -> None:
    """KILL_TASK, our operator call. Raises NotFound."""
    framework = s.frameworks.get(call.framework_id)
    if framework is None:
        raise NotFound(f"framework_id: no framework '{call.framework_id}' is known")
    task = framework.tasks.get(call.task_id)
    if task is None:
        raise NotFound(f"task_id: framework '{call.framework_id}' has no live task '{call.task_id}'")
    kill(s, framework, scheduler.Kill(task.info.task_id, kill_policy=call.kill_policy), now)


def preempt(s: MasterState, framework: Framework, task: Task, why: str) -> None:
    """End a task as others need the room; told again like any kill."""
    task.killing, task.preempted = True, why
    s.tell_agent(s.agents[task.agent_id], KillTask(framework.framework_id, task.task_id, None, why), framework)


def shutdown(s: MasterState, framework: Framework, call: scheduler.Shutdown, now: Now) -> None:
    """SHUTDOWN of an executor; dropped silently when there is none. A command task's own bears the task's id."""
    agent, executor_id = s.agents.get(call.agent_id.value), call.executor_id.value
    if agent is None:
        return
    task = framework.tasks.get(executor_id)
    of_command = task is not None and task.agent_id == agent.agent_id and not task.executor_id
    if of_command or (framework.framework_id, executor_id) in agent.executors:
        s.tell_agent(agent, ShutdownExecutor(framework.framework_id, executor_id), framework)


def message(s: MasterState, framework: Framework, call: scheduler.Message, now: Now) -> None:
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
