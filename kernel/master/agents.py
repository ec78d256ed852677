"""Agents after they have registered: heard, silent, lost, gone (spec: mesos-v1, sections 8.1 and 2.14)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import NotFound, PeerError
from kernel.master import events, inverse_offers, operations, registry
from kernel.master.effects import CloseLink, FromAgent, LinkClosed, MarkAgentGone, ToAgent
from kernel.master.model import Address, Agent, Framework, Task, Unreachable
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.wire import scheduler
from kernel.wire.agent import ExecutorExited, Goodbye, MasterHeartbeat, ShutdownAgent
from kernel.wire.constraints import Site
from kernel.wire.ids import AgentID
from kernel.wire.offer import OperationState
from kernel.wire.resources import Resources
from kernel.wire.task import AgentInfo, Reason, TaskState

REMEMBERED_MAX = 102_400  # Unreachable agents, and gone ones.
REMEMBERED_S = 14 * 86_400.0
FORGET_S = 900.0  # How often those beyond either are forgotten.
_LOST_OPERATIONS = {
    AgentState.UNREACHABLE: OperationState.OPERATION_UNREACHABLE,
    AgentState.GONE: OperationState.OPERATION_GONE_BY_OPERATOR,
}


def site(info: AgentInfo) -> Site:
    """What of an agent constraints look at."""
    return Site(info.hostname, info.attributes, info.domain)


# ---- Liveness -------------------------------------------------------------------------------------------


def from_agent(s: MasterState, message: FromAgent) -> Agent:
    """Raises PeerError when the link has not registered."""
    agent = s.links.get(message.link)
    if agent is None:
        raise PeerError("the first message of an agent link must be Register")
    return agent


def touch(s: MasterState, agent: Agent, now: Now) -> None:
    """The agent was heard; its deadline, once pushed at registration, moves itself on (see Deadlines)."""
    agent.contact_due_s = now.mono_s + s.config.agent_silence_s


def heartbeat(s: MasterState, agent: Agent) -> None:
    s.tell_agent(agent, MasterHeartbeat())


def goodbye(s: MasterState, agent: Agent, message: Goodbye, now: Now) -> None:
    """It stops on purpose: for good, or to be started again. Nothing is offered there any more, while it ends tasks before it does."""
    if message.final:
        s.counts["master/messages_unregister_slave"] += 1
        s.counts["master/slave_removals/reason_unregistered"] += 1
        remove_agent(s, agent, now, AgentState.GONE, TaskState.TASK_LOST, "Agent unregistered")
        events.agent_removed(s, agent.agent_id)
    else:
        agent.contact_due_s = now.mono_s + s.config.agent_reregister_timeout_s
        s.before(agent)
        agent.leaving = True
        s.allocator.set_agent_active(agent.agent_id, agent.active)
        s.rescind_all(agent, now)


def link_closed(s: MasterState, closed: LinkClosed, now: Now) -> None:
    """The connection broke."""
    agent = s.links.get(closed.link)
    if agent is not None:
        disconnect(s, agent, now)


def drop_link(s: MasterState, link: int, reason: str, now: Now) -> None:
    """Its other end broke the rules: end it. An agent that was known by it is away; it may register anew."""
    agent = s.links.get(link)
    if agent is not None:
        disconnect(s, agent, now, reason)
    else:
        s.out.append(CloseLink(link, reason))


def expel(s: MasterState, link: int, reason: str, now: Now) -> None:
    """Whoever registers there may not be here: told to end everything."""
    s.out.append(ToAgent(link, ShutdownAgent(reason)))
    s.counts["master/slave_refusals"] += 1
    drop_link(s, link, reason, now)


def disconnect(s: MasterState, agent: Agent, now: Now, reason: str = "") -> None:
    """Nothing more is offered there; its silence decides the rest."""
    s.unlink(agent, reason)
    s.before(agent)
    agent.state = AgentState.DISCONNECTED
    s.allocator.set_agent_active(agent.agent_id, False)
    s.rescind_all(agent, now)
    inverse_offers.withdraw_all(s, agent)


def contact_due(s: MasterState, agent_id: str, now: Now) -> None:
    """Deadline: has the agent been silent for too long?"""
    agent = s.agents.get(agent_id)
    if agent is None:
        return
    if agent.contact_due_s > now.mono_s:
        s.deadlines.push(agent.contact_due_s, "agent", agent_id)
    else:
        s.counts["master/slave_removals/reason_unhealthy"] += 1
        s.counts["master/slave_unreachable_scheduled"] += 1
        if agent.state is AgentState.RECOVERED:
            s.counts["master/recovery_slave_removals"] += 1
        remove_agent(s, agent, now, AgentState.UNREACHABLE, TaskState.TASK_UNREACHABLE, "Agent is unreachable")


# ---- Losing ---------------------------------------------------------------------------------------------


def remove_agent(s: MasterState, agent: Agent, now: Now, to: AgentState, state: TaskState, message: str) -> None:
    """Take an agent out, its tasks with it: to UNREACHABLE (may come back) or GONE (never). Its link ends."""
    agent_id = agent.agent_id
    _remember(s, agent, to, now)
    s.rescind_all(agent, now)
    inverse_offers.forget_agent(s, agent)
    operations.lose(s, agent, _LOST_OPERATIONS[to], message)
    for key, task in list(agent.tasks.items()):
        _lose_task(s, s.frameworks[key[0]], agent, task, to, state, message, now)
    for key, executor in list(agent.executors.items()):
        s.remove_executor(s.frameworks[key[0]], agent, executor, now)
    s.allocator.remove_agent(agent_id)
    s.unlink(agent)
    s.runs.pop(agent.run, None)
    s.recovered.discard(agent_id)
    s.before(agent)
    agent.state = to
    del s.agents[agent_id]
    s.counts["master/slave_removals"] += 1
    failure = scheduler.Event("FAILURE", failure=scheduler.Failure(agent_id=AgentID(agent_id)))
    for framework in s.streams.values():
        s.tell(framework, failure)


def _remember(s: MasterState, agent: Agent, to: AgentState, now: Now) -> None:
    agent_id, record = agent.agent_id, registry.AgentRecord(agent.info, agent.ip, agent.registered_wall_s)
    if to is AgentState.UNREACHABLE:
        s.unreachable[agent_id] = Unreachable(agent.info, agent.ip, now.wall_s, tuple(agent.tasks))
        s.out.append(registry.keep_agent(agent_id, replace(record, unreachable_wall_s=now.wall_s)))
        s.counts["master/slave_unreachable_completed"] += 1
    else:
        s.gone[agent_id] = now.wall_s
        s.out.append(registry.keep_agent(agent_id, replace(record, gone_wall_s=now.wall_s)))
        s.deactivate(agent_id, None)
        leave_address(s, agent_id, agent.address)


def leave_address(s: MasterState, agent_id: str, address: Address) -> None:
    if s.addresses.get(address) == agent_id:
        del s.addresses[address]


def _lose_task(
    s: MasterState, framework: Framework, agent: Agent, task: Task, to: AgentState, state: TaskState, message: str, now: Now
) -> None:
    """Take a task off its agent; its framework is told, unless what waits to be acknowledged is its end."""
    s.free_task(framework, agent, task, now)
    s.detach_task(framework, agent, task)
    if not task.terminal:
        unreachable = to is AgentState.UNREACHABLE
        task.unreachable_wall_s = now.wall_s if unreachable else None
        _tell_lost(s, framework, task, state, Reason.REASON_AGENT_REMOVED, message, now)
        if unreachable:  # Whatever its framework calls it.
            s.enter(framework, task, TaskState.TASK_UNREACHABLE)
        else:
            s.count_end(framework, task.state, task.statuses[-1])
    if to is not AgentState.UNREACHABLE:
        framework.completed.append(task)
        return
    if task.preempted:  # When the agent is back, it may be needless.
        task.killing, task.preempted = False, ""
    framework.unreachable[task.task_id] = task
    while len(framework.unreachable) > s.config.max_unreachable_tasks_per_framework:
        framework.unreachable.popitem(last=False)


def _tell_lost(s: MasterState, framework: Framework, task: Task, state: TaskState, reason: Reason, message: str, now: Now) -> None:
    s.enter(framework, task, s.lost_as(framework, state))
    if task.state is TaskState.TASK_GONE_BY_OPERATOR:
        reason = Reason.REASON_AGENT_REMOVED_BY_OPERATOR
    status = s.status(task.task_id, task.state, now, message, reason, task.agent_id, task.executor_id, task.unreachable_wall_s)
    s.note(task, status)
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))
    events.task_updated(s, task, status)


def drop_task(s: MasterState, framework: Framework, agent: Agent, task: Task, now: Now) -> None:
    """A task that was launched and of which its agent never heard."""
    s.free_task(framework, agent, task, now)
    _tell_lost(s, framework, task, TaskState.TASK_DROPPED, Reason.REASON_RECONCILIATION, "The agent never heard of it", now)
    s.count_end(framework, task.state, task.statuses[-1])
    s.complete_task(framework, agent, task, now)


def give_up_agent(s: MasterState, agent_id: str, state: TaskState, reason: Reason, message: str, now: Now) -> None:
    """An unreachable agent will never come back."""
    lost = s.unreachable.pop(agent_id)
    s.gone[agent_id] = now.wall_s
    s.out.append(registry.keep_agent(agent_id, registry.AgentRecord(lost.info, lost.ip, lost.wall_s, gone_wall_s=now.wall_s)))
    s.deactivate(agent_id, None)
    leave_address(s, agent_id, lost.address)
    give_up(s, lost, agent_id, state, reason, message, now)


def give_up(s: MasterState, lost: Unreachable, agent_id: str, state: TaskState, reason: Reason, message: str, now: Now) -> None:
    """Tasks that were unreachable with this agent and still are will never come back."""
    for framework, task in _take_lost(s, lost, agent_id):
        if not task.terminal:
            task.unreachable_wall_s = None
            _tell_lost(s, framework, task, state, reason, message, now)
            s.count_end(framework, task.state, task.statuses[-1])


def _take_lost(s: MasterState, lost: Unreachable, agent_id: str) -> list[tuple[Framework, Task]]:
    """Move what is still unreachable with an agent to the history of its framework; return it."""
    found = []
    for framework_id, task_id in lost.tasks:
        framework = s.frameworks.get(framework_id)
        task = framework.unreachable.get(task_id) if framework is not None else None
        if framework is not None and task is not None and task.agent_id == agent_id:
            del framework.unreachable[task_id]
            framework.completed.append(task)
            found.append((framework, task))
    return found


# ---- Gone -----------------------------------------------------------------------------------------------


def mark_gone(s: MasterState, call: MarkAgentGone, now: Now) -> None:
    """MARK_AGENT_GONE: its tasks are reported gone, it is told to shut down and never comes back. Raises NotFound."""
    agent_id, state, text = call.agent_id, TaskState.TASK_GONE_BY_OPERATOR, "Agent marked gone"
    if agent_id in s.gone:
        return
    agent = s.agents.get(agent_id)
    if agent is not None:
        s.tell_agent(agent, ShutdownAgent("marked gone by an operator"))
        remove_agent(s, agent, now, AgentState.GONE, state, text)
    elif agent_id in s.unreachable:
        give_up_agent(s, agent_id, state, Reason.REASON_AGENT_REMOVED, text, now)
    else:
        raise NotFound(f"agent_id: no agent '{agent_id}' is known")


def forget_due(s: MasterState, key: str, now: Now) -> None:
    """Deadline: forget what nobody will ask about any more, the oldest first."""
    s.deadlines.push(now.mono_s + FORGET_S, "forget", key)
    before_s = now.wall_s - REMEMBERED_S
    while s.unreachable:
        agent_id, lost = next(iter(s.unreachable.items()))
        if len(s.unreachable) <= REMEMBERED_MAX and lost.wall_s >= before_s:
            break
        del s.unreachable[agent_id]
        _take_lost(s, lost, agent_id)  # Nothing is told: whoever asks about them hears that they are unknown.
        leave_address(s, agent_id, lost.address)
        s.deactivate(agent_id, None)
        s.out.append(registry.forget_agent(agent_id))
    while s.gone:
        agent_id, gone_wall_s = next(iter(s.gone.items()))
        if len(s.gone) <= REMEMBERED_MAX and gone_wall_s >= before_s:
            break
        del s.gone[agent_id]
        s.out.append(registry.forget_agent(agent_id))


# ---- What else they tell --------------------------------------------------------------------------------


def executor_exited(s: MasterState, agent: Agent, message: ExecutorExited, now: Now) -> None:
    """An executor ended: what it held is free, its framework is told by FAILURE."""
    s.counts["master/messages_exited_executor"] += 1
    executor = agent.executors.get((message.framework_id, message.executor_id))
    framework = s.frameworks.get(message.framework_id)
    if executor is None or framework is None:
        return
    s.remove_executor(framework, agent, executor, now)
    failure = scheduler.Failure(AgentID(agent.agent_id), executor.info.executor_id, message.status)
    s.tell(framework, scheduler.Event("FAILURE", failure=failure))


def recover(s: MasterState, records: Mapping[str, registry.AgentRecord], now: Now) -> None:
    """Put the agents of the registry back after a start of the master; they are waited for."""
    for agent_id, record in sorted(records.items(), key=lambda item: item[1].lost_wall_s):
        _recover(s, record, agent_id, now)


def _recover(s: MasterState, record: registry.AgentRecord, agent_id: str, now: Now) -> None:
    if record.gone_wall_s is not None:
        s.gone[agent_id] = record.gone_wall_s
        return
    s.addresses[record.ip, record.info.port] = agent_id
    if record.unreachable_wall_s is not None:
        s.unreachable[agent_id] = Unreachable(record.info, record.ip, record.unreachable_wall_s)
    else:
        agent = Agent(agent_id, record.info, record.ip, Resources.of(record.info.resources))
        agent.registered_wall_s = record.registered_wall_s
        agent.contact_due_s = now.mono_s + s.config.agent_reregister_timeout_s
        agent.deactivation = s.deactivated.get(agent_id)
        agent.unavailability = s.machines.unavailability(record.info.hostname, record.ip)
        s.agents[agent_id] = agent
        s.recovered.add(agent_id)
        s.deadlines.push(agent.contact_due_s, "agent", agent_id)
        s.allocator.add_agent(agent_id, agent.total, site(record.info), now)
        s.allocator.set_agent_active(agent_id, False)
