"""Sessions of agents: admit, reconcile, lose, readmit (spec: mesos-v1, sections 8.1 and 2.14).

An agent tells all it runs each time it registers; the master compares and corrects, so whatever a broken
link swallowed is found out then. Registering is idempotent: only differences change anything.
"""

from __future__ import annotations

from kernel.clock import Now
from kernel.errors import CallError, NotFound, PeerError
from kernel.master import events, frameworks, registry
from kernel.master.effects import CloseLink, FromAgent, LinkClosed, MarkAgentGone, ToAgent
from kernel.master.state import Agent, Executor, Framework, MasterState, Task, Unreachable
from kernel.master.transitions import AgentState, advance
from kernel.wire import scheduler
from kernel.wire.agent import (
    LINK_VERSION,
    ExecutorExited,
    ExecutorReport,
    Goodbye,
    KillTask,
    MasterHeartbeat,
    ReconcileTasks,
    Register,
    Registered,
    ShutdownAgent,
    ShutdownFramework,
    TaskReport,
)
from kernel.wire.ids import AgentID, validate_id
from kernel.wire.resources import Resources
from kernel.wire.task import TERMINAL, AgentInfo, FrameworkInfo, Reason, TaskState

UNREACHABLE_MAX = 102_400


# ---- Registering ----------------------------------------------------------------------------------------


def register(s: MasterState, link: int, message: Register, now: Now) -> None:
    """First message on a link. Raises PeerError for what no honest agent sends; the edge closes the link."""
    if message.version != LINK_VERSION:
        _refuse(s, link, f"the master speaks version {LINK_VERSION} of the agent link, not {message.version}")
        return
    try:
        if message.agent_id:
            validate_id(message.agent_id, "agent_id")
        total = Resources.of(message.resources)
    except CallError as error:
        raise PeerError(f"registration refused: {error}") from error
    agent_id = message.agent_id or s.runs.get(message.run, "")
    if agent_id in s.gone:
        _refuse(s, link, f"agent {agent_id} was marked gone")
        return
    returned = s.unreachable.get(agent_id)
    agent = s.agents.get(agent_id) if agent_id else None
    if agent is not None and agent.link is not None and agent.link != link:
        _detach_link(s, agent, now)  # A newer connection of the same agent: the old one is dead.
    info = AgentInfo(
        hostname=message.hostname,
        port=message.port,
        resources=message.resources,
        attributes=message.attributes,
        id=AgentID(agent_id) if agent_id else None,
        domain=message.domain,
    )
    if agent is None:
        if not agent_id:
            _replace_at(s, (message.ip, message.port), now)
            agent_id = s.next_agent_id()
        agent = _admit(s, agent_id, info, message.ip, total, now)
    s.addresses[message.ip, message.port] = agent_id
    first = agent.state is AgentState.RECOVERED
    if agent.state is AgentState.RECOVERED or agent.total != total or agent.info != info:
        _take_info(s, agent, info, message.ip, total, now)
    agent.run, agent.software = message.run, message.software
    s.runs[message.run] = agent_id
    s.recovered.discard(agent_id)
    if not first:
        agent.reregistered_wall_s = now.wall_s
    agent.link = link
    agent.goodbye = False
    agent.state = AgentState.REGISTERED
    s.links[link] = agent
    touch(s, agent, now)
    s.deadlines.push(agent.contact_due_s, "agent", agent_id)
    s.counts["master/slave_reregistrations" if message.agent_id else "master/slave_registrations"] += 1
    s.out.append(ToAgent(link, Registered(agent_id, s.master.id, s.config.agent_heartbeat_s, s.config.agent_silence_s)))
    spent = _reconcile(s, agent, message, returned, now)
    for framework_id in spent:
        s.out.append(ToAgent(link, ShutdownFramework(framework_id)))
    s.allocator.set_agent_active(agent_id, True)
    if first:
        events.agent_added(s, agent)


def _replace_at(s: MasterState, address: tuple[str, int], now: Now) -> None:
    """A new agent listens where another one did, so that one is dead for good (section 8.1)."""
    old_id = s.addresses.pop(address, "")
    old = s.agents.get(old_id)
    if old is not None:
        if old.link is not None:
            _detach_link(s, old, now)
        text = "A new agent registered from its address"
        remove_agent(s, old, now, AgentState.GONE, TaskState.TASK_LOST, Reason.REASON_AGENT_REMOVED, text)
    elif old_id in s.unreachable:
        lost = s.unreachable.pop(old_id)
        s.gone[old_id] = now.wall_s
        s.out.append(registry.keep_agent(old_id, registry.AgentRecord(lost.info, address[0], now.wall_s, gone_wall_s=now.wall_s)))
        text = "A new agent registered from its agent's address"
        _give_up(s, lost, old_id, TaskState.TASK_GONE, Reason.REASON_AGENT_REMOVED, text, now)


def _refuse(s: MasterState, link: int, reason: str) -> None:
    s.out.append(ToAgent(link, ShutdownAgent(reason)))
    s.out.append(CloseLink(link))
    s.counts["master/slave_refusals"] += 1


def _admit(s: MasterState, agent_id: str, info: AgentInfo, ip: str, total: Resources, now: Now) -> Agent:
    """Begin to know an agent: new, back from unreachable, or forgotten by a lost registry."""
    agent = Agent(agent_id, _with_id(info, agent_id), ip, total)
    agent.registered_wall_s = now.wall_s
    s.unreachable.pop(agent_id, None)
    s.agents[agent_id] = agent
    s.out.append(registry.keep_agent(agent_id, registry.AgentRecord(agent.info, ip, now.wall_s)))
    s.allocator.add_agent(agent_id, total, info.hostname, info.attributes, now)
    return agent


def _take_info(s: MasterState, agent: Agent, info: AgentInfo, ip: str, total: Resources, now: Now) -> None:
    """Take on what the agent says of itself (it may have been reconfigured while it was away)."""
    changed = agent.info != _with_id(info, agent.agent_id) or agent.ip != ip
    agent.info, agent.ip, agent.total = _with_id(info, agent.agent_id), ip, total
    if changed:
        s.out.append(registry.keep_agent(agent.agent_id, registry.AgentRecord(agent.info, ip, agent.registered_wall_s)))
    s.allocator.update_agent(agent.agent_id, total, info.hostname, info.attributes, now)


def _with_id(info: AgentInfo, agent_id: str) -> AgentInfo:
    return AgentInfo(
        hostname=info.hostname,
        port=info.port,
        resources=info.resources,
        attributes=info.attributes,
        id=AgentID(agent_id),
        domain=info.domain,
    )


def _reconcile(s: MasterState, agent: Agent, message: Register, returned: Unreachable | None, now: Now) -> list[str]:
    """Make the master's picture of an agent equal to what it reports; return ids of spent frameworks there."""
    infos = {info.id.value: info for info in message.frameworks if info.id is not None}
    spent: dict[str, None] = {framework_id: None for framework_id in infos if framework_id in s.removed_ids}
    reported: set[tuple[str, str]] = set()
    executors_reported: set[tuple[str, str]] = set()
    for executor_report in message.executors:
        framework = _framework_of(s, executor_report.framework_id, infos, spent, now)
        if framework is not None:
            executors_reported.add((framework.framework_id, executor_report.executor.executor_id.value))
            _learn_executor(s, agent, framework, executor_report)
    for report in message.tasks:
        framework = _framework_of(s, report.framework_id, infos, spent, now)
        if framework is not None:
            reported.add((framework.framework_id, report.task.task_id.value))
            _learn_task(s, agent, framework, report, returned is not None, now)
    for key, executor in list(agent.executors.items()):
        if key not in executors_reported:
            s.remove_executor(s.frameworks[key[0]], agent, executor, now)
    missing = []
    for key, task in list(agent.tasks.items()):
        if key in reported:
            if task.killing and not task.terminal:
                s.tell_agent(agent, KillTask(task.framework_id, task.task_id, task.kill), s.frameworks[key[0]])
        elif task.terminal:  # Acknowledged at the agent, which has forgotten it.
            s.complete_task(s.frameworks[key[0]], agent, task, now)
        else:
            s.introduce(agent, s.frameworks[key[0]])
            missing.append(key)
    if missing:
        s.tell_agent(agent, ReconcileTasks(tuple(missing)))
    if returned is not None:
        _give_up(s, returned, agent.agent_id, TaskState.TASK_GONE, Reason.REASON_AGENT_REREGISTERED, "The agent came back without it", now)
    return list(spent)


def _framework_of(s: MasterState, framework_id: str, infos: dict[str, FrameworkInfo], spent: dict[str, None], now: Now) -> Framework | None:
    framework = s.frameworks.get(framework_id)
    if framework is not None:
        return framework
    info = infos.get(framework_id)
    if framework_id in s.removed_ids or info is None:
        spent[framework_id] = None
        return None
    framework = frameworks.add_framework(s, framework_id, info, now)
    frameworks.await_failover(s, framework, max(info.failover_timeout, s.config.framework_recovery_s), now)
    return framework


def _role_of(framework: Framework, message: TaskReport | ExecutorReport) -> str:
    resources = message.task.resources if isinstance(message, TaskReport) else message.executor.resources
    for resource in resources:
        if resource.allocation_info is not None and resource.allocation_info.role:
            return resource.allocation_info.role
    return framework.roles[0] if framework.roles else "*"


def _learn_executor(s: MasterState, agent: Agent, framework: Framework, report: ExecutorReport) -> None:
    if (framework.framework_id, report.executor.executor_id.value) not in agent.executors:
        role, info = _role_of(framework, report), report.executor
        executor = Executor(framework.framework_id, agent.agent_id, info, role, Resources.of(info.resources))
        s.add_executor(framework, agent, executor)
        s.allocator.charge(framework.framework_id, role, agent.agent_id, executor.resources)


def _learn_task(s: MasterState, agent: Agent, framework: Framework, report: TaskReport, returned: bool, now: Now) -> None:
    task_id = report.task.task_id.value
    task = framework.tasks.get(task_id)
    if task is not None and task.agent_id != agent.agent_id:
        return  # Two agents claim one task id: the one the master knows stays; the other's updates are forwarded.
    if task is None:
        task = framework.unreachable.pop(task_id, None)
        if task is None:
            task = Task(
                framework.framework_id, report.task, _role_of(framework, report), Resources.of(report.task.resources), report.executor_id
            )
            task.state = report.state
            if report.status is not None:
                task.note(report.status)
                task.sent = report.status
        else:
            task.state = report.state
            task.unreachable_wall_s = None
        task.freed = report.state in TERMINAL
        s.add_task(framework, agent, task)
        if not task.freed:
            s.allocator.charge(framework.framework_id, task.role, agent.agent_id, task.resources)
        events.task_added(s, task)
    else:
        task.state = advance(task.state, report.state)
        if task.terminal:
            s.free_task(framework, agent, task, now)
    if returned and not task.terminal:  # An end comes as an update of its own, with what it has to say.
        status = s.status(
            task_id, task.state, now, "Agent re-registered", Reason.REASON_AGENT_REREGISTERED, agent.agent_id, task.executor_id
        )
        task.note(status)
        s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))


# ---- Liveness -------------------------------------------------------------------------------------------


def touch(s: MasterState, agent: Agent, now: Now) -> None:
    """The agent was heard; its deadline, once pushed at registration, moves itself on (see Deadlines)."""
    agent.contact_due_s = now.mono_s + s.config.agent_silence_s


def heartbeat(s: MasterState, agent: Agent) -> None:
    s.tell_agent(agent, MasterHeartbeat())


def goodbye(s: MasterState, agent: Agent, message: Goodbye, now: Now) -> None:
    """It stops on purpose: for good, or to be started again with its tasks running."""
    if message.final:
        link = agent.link
        remove_agent(s, agent, now, AgentState.GONE, TaskState.TASK_LOST, Reason.REASON_AGENT_REMOVED, "Agent unregistered")
        if link is not None:
            s.out.append(CloseLink(link))
        return
    agent.goodbye = True
    agent.contact_due_s = now.mono_s + s.config.agent_reregister_timeout_s
    s.deadlines.push(agent.contact_due_s, "agent", agent.agent_id)


def link_closed(s: MasterState, closed: LinkClosed, now: Now) -> None:
    """The connection broke: nothing more is offered there; its silence decides the rest."""
    agent = s.links.get(closed.link)
    if agent is not None:
        _detach_link(s, agent, now)


def _detach_link(s: MasterState, agent: Agent, now: Now) -> None:
    assert agent.link is not None
    del s.links[agent.link]
    s.out.append(CloseLink(agent.link))
    agent.link = None
    agent.state = AgentState.DISCONNECTED
    agent.frameworks_known.clear()
    s.allocator.set_agent_active(agent.agent_id, False)
    for offer in list(agent.offers.values()):
        s.rescind(offer, now, tell=True)


def contact_due(s: MasterState, agent_id: str, now: Now) -> None:
    """Deadline: has the agent been silent for too long?"""
    agent = s.agents.get(agent_id)
    if agent is None:
        return
    if agent.contact_due_s > now.mono_s:
        s.deadlines.push(agent.contact_due_s, "agent", agent_id)
        return
    link = agent.link
    remove_agent(s, agent, now, AgentState.UNREACHABLE, TaskState.TASK_UNREACHABLE, Reason.REASON_AGENT_REMOVED, "Agent is unreachable")
    if link is not None:
        s.out.append(CloseLink(link))


def remove_agent(s: MasterState, agent: Agent, now: Now, to: AgentState, state: TaskState, reason: Reason, message: str) -> None:
    """Take an agent out, its tasks with it: to UNREACHABLE (may come back) or GONE (never)."""
    agent_id = agent.agent_id
    record = registry.AgentRecord(agent.info, agent.ip, agent.registered_wall_s)
    if to is AgentState.UNREACHABLE:
        s.unreachable[agent_id] = Unreachable(agent.info, now.wall_s, tuple(agent.tasks))
        record = registry.AgentRecord(agent.info, agent.ip, agent.registered_wall_s, unreachable_wall_s=now.wall_s)
        s.counts["master/slave_unreachable_completed"] += 1
        s.counts["master/slave_removals/reason_unhealthy"] += 1
    else:
        s.gone[agent_id] = now.wall_s
        record = registry.AgentRecord(agent.info, agent.ip, agent.registered_wall_s, gone_wall_s=now.wall_s)
        s.counts["master/slave_removals/reason_unregistered"] += 1
    s.counts["master/slave_removals"] += 1
    s.out.append(registry.keep_agent(agent_id, record))
    _forget_oldest(s)
    for offer in list(agent.offers.values()):
        s.rescind(offer, now, tell=True)
    for key, task in list(agent.tasks.items()):
        framework = s.frameworks[key[0]]
        _lose_task(s, framework, agent, task, to, state, reason, message, now)
    for key, executor in list(agent.executors.items()):
        s.remove_executor(s.frameworks[key[0]], agent, executor, now)
    s.allocator.remove_agent(agent_id)
    if agent.link is not None:
        s.links.pop(agent.link, None)
        agent.link = None
    s.runs.pop(agent.run, None)
    s.recovered.discard(agent_id)
    agent.state = to
    del s.agents[agent_id]
    failure = scheduler.Event("FAILURE", failure=scheduler.Failure(agent_id=AgentID(agent_id)))
    for framework in s.streams.values():
        s.tell(framework, failure)
    if to is AgentState.GONE:
        events.agent_removed(s, agent_id)


def _lose_task(
    s: MasterState, framework: Framework, agent: Agent, task: Task, to: AgentState, state: TaskState, reason: Reason, message: str, now: Now
) -> None:
    s.free_task(framework, agent, task, now)
    s.detach_task(framework, agent, task)
    if task.terminal:  # Its end waits for an acknowledgement, which the agent still keeps.
        if to is AgentState.UNREACHABLE:
            framework.unreachable[task.task_id] = task
        else:
            framework.completed.append(task)
        return
    told = s.lost_as(framework, state)
    status = s.status(
        task.task_id, told, now, message, reason, agent.agent_id, task.executor_id, now.wall_s if to is AgentState.UNREACHABLE else None
    )
    task.state = TaskState.TASK_UNREACHABLE if to is AgentState.UNREACHABLE else told
    task.note(status)
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))
    events.task_updated(s, task, status)
    if to is AgentState.UNREACHABLE:
        task.unreachable_wall_s = now.wall_s
        framework.unreachable[task.task_id] = task
        while len(framework.unreachable) > s.config.max_unreachable_tasks_per_framework:
            framework.unreachable.popitem(last=False)
    else:
        framework.completed.append(task)
        s.count_end(framework, task.state, task.statuses[-1])


def _forget_oldest(s: MasterState) -> None:
    for kept in (s.unreachable, s.gone):
        while len(kept) > UNREACHABLE_MAX:
            s.out.append(registry.forget_agent(kept.popitem(last=False)[0]))


def mark_gone(s: MasterState, call: MarkAgentGone, now: Now) -> None:
    """MARK_AGENT_GONE: its tasks are reported gone, it is told to shut down and never comes back."""
    agent_id = call.agent_id
    if agent_id in s.gone:
        return
    agent = s.agents.get(agent_id)
    if agent is not None:
        link = agent.link
        if link is not None:
            s.out.append(ToAgent(link, ShutdownAgent("marked gone by an operator")))
        remove_agent(
            s, agent, now, AgentState.GONE, TaskState.TASK_GONE_BY_OPERATOR, Reason.REASON_AGENT_REMOVED_BY_OPERATOR, "Agent marked gone"
        )
        if link is not None:
            s.out.append(CloseLink(link))
        return
    if agent_id not in s.unreachable:
        raise NotFound(f"agent_id: no agent '{agent_id}' is known")
    lost = s.unreachable.pop(agent_id)
    s.gone[agent_id] = now.wall_s
    s.out.append(registry.keep_agent(agent_id, registry.AgentRecord(lost.info, "", now.wall_s, gone_wall_s=now.wall_s)))
    _forget_oldest(s)
    _give_up(s, lost, agent_id, TaskState.TASK_GONE_BY_OPERATOR, Reason.REASON_AGENT_REMOVED_BY_OPERATOR, "Agent marked gone", now)


def _give_up(s: MasterState, lost: Unreachable, agent_id: str, state: TaskState, reason: Reason, message: str, now: Now) -> None:
    """Tasks that were unreachable with this agent and still are will never come back."""
    for framework_id, task_id in lost.tasks:
        framework = s.frameworks.get(framework_id)
        task = framework.unreachable.get(task_id) if framework is not None else None
        if framework is None or task is None or task.agent_id != agent_id:
            continue
        del framework.unreachable[task_id]
        framework.completed.append(task)
        if task.terminal:
            continue
        told = s.lost_as(framework, state)
        status = s.status(task_id, told, now, message, reason, agent_id, task.executor_id)
        task.state = told
        task.note(status)
        s.count_end(framework, told, status)
        s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))
        events.task_updated(s, task, status)


def executor_exited(s: MasterState, agent: Agent, message: ExecutorExited, now: Now) -> None:
    """An executor ended: what it held is free, its framework is told by FAILURE."""
    executor = agent.executors.get((message.framework_id, message.executor_id))
    framework = s.frameworks.get(message.framework_id)
    if executor is None or framework is None:
        return
    s.remove_executor(framework, agent, executor, now)
    s.tell(
        framework,
        scheduler.Event("FAILURE", failure=scheduler.Failure(AgentID(agent.agent_id), executor.info.executor_id, message.status)),
    )


def recover(s: MasterState, record: registry.AgentRecord, agent_id: str, now: Now) -> None:
    """Put an agent of the registry back after a start of the master; it is waited for."""
    if record.gone_wall_s is not None:
        s.gone[agent_id] = record.gone_wall_s
        return
    s.addresses[record.ip, record.info.port] = agent_id
    if record.unreachable_wall_s is not None:
        s.unreachable[agent_id] = Unreachable(record.info, record.unreachable_wall_s)
    else:
        agent = Agent(agent_id, record.info, record.ip, Resources.of(record.info.resources))
        agent.registered_wall_s = record.registered_wall_s
        agent.contact_due_s = now.mono_s + s.config.agent_reregister_timeout_s
        s.agents[agent_id] = agent
        s.recovered.add(agent_id)
        s.deadlines.push(agent.contact_due_s, "agent", agent_id)
        s.allocator.add_agent(agent_id, agent.total, record.info.hostname, record.info.attributes, now)
        s.allocator.set_agent_active(agent_id, False)


def from_agent(s: MasterState, message: FromAgent) -> Agent:
    """Raises PeerError when the link has not registered."""
    agent = s.links.get(message.link)
    if agent is None:
        raise PeerError("the first message of an agent link must be Register")
    return agent
