"""Agents register: who they are, and all that runs there (spec: mesos-v1, section 8.1).

An agent tells all it runs each time it registers; the master compares and corrects, so whatever a broken link swallowed is
found out then. Registering is idempotent: only differences change anything. All of it is checked before the first change
(`kernel.master.reports`).
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import PeerError
from kernel.master import agents, draining, events, frameworks, inverse_offers, operations, registry
from kernel.master.config import MasterConfig
from kernel.master.effects import ToAgent
from kernel.master.model import Agent, Executor, Framework, Task, Unreachable
from kernel.master.reports import Claim, Report, read
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState, advance
from kernel.wire import scheduler
from kernel.wire.agent import (
    LINK_VERSION,
    ExecutorReport,
    KillTask,
    ReconcileTasks,
    Register,
    Registered,
    ShutdownFramework,
    TaskReport,
)
from kernel.wire.conversion import once
from kernel.wire.ids import AgentID
from kernel.wire.resources import EMPTY, Resources, ValueType
from kernel.wire.revocable import firm
from kernel.wire.task import TERMINAL, AgentInfo, Reason, TaskState


def register(s: MasterState, link: int, message: Register, now: Now) -> None:
    """First message on a link. Raises PeerError for what no honest agent sends; the caller closes the link."""
    if message.version != LINK_VERSION:  # Not told to end its tasks: a master or an agent of the other version will come.
        raise PeerError(f"the master speaks version {LINK_VERSION} of the agent link, not {message.version}")
    agent_id = message.agent_id or s.runs.get(message.run, "")
    if agent_id in s.gone:
        agents.expel(s, link, f"agent {agent_id} was marked gone", now)
        return
    if s.machines.is_down(message.hostname, message.ip):
        agents.expel(s, link, f"machine {message.hostname} ({message.ip}) is DOWN for maintenance", now)
        return
    agent = s.agents.get(agent_id)
    if agent is not None and agent.link is not None and agent.run != message.run and _moved(agent, message):
        agents.expel(s, link, f"agent {agent_id} is at {agent.info.hostname} ({agent.ip}:{agent.info.port}) already", now)
        return
    if s.links.get(link, agent) is not agent:
        raise PeerError(f"the agent of this link is {s.links[link].agent_id}, not {agent_id or 'a new one'}")
    report = read(s, agent_id, message)
    _check_domain(s.config, message)
    if not agent_id:
        _replace_former(s, message, now)
    if agent is not None and agent.link is not None and agent.link != link:
        agents.disconnect(s, agent, now)  # A newer connection of the same agent: the old one is dead.
    returned = s.unreachable.get(agent_id)
    readmitted = agent is None and bool(agent_id)
    if agent is None:
        agent = _admit(s, agent_id or s.next_agent_id(), message, report.total, now)
    else:
        _take_info(s, agent, message, report.total, now)
    first = agent.state is AgentState.RECOVERED
    _link(s, agent, link, message, now)
    s.counts["master/slave_reregistrations" if message.agent_id else "master/slave_registrations"] += 1
    told = Registered(agent.agent_id, s.master.id, s.config.agent_heartbeat_s, s.config.agent_silence_s, draining.order(agent))
    s.out.append(ToAgent(link, told))
    _reconcile(s, agent, message, report, returned, readmitted, now)
    s.allocator.set_agent_active(agent.agent_id, agent.active)
    s.emptied[agent.agent_id] = None
    if first:
        events.agent_added(s, agent)
    else:
        s.before(agent)
        agent.reregistered_wall_s = now.wall_s


def _check_domain(config: MasterConfig, message: Register) -> None:
    """Raises PeerError for an agent of which nobody knows how far away it is."""
    if message.domain is not None and config.domain is None:
        raise PeerError("registration refused: domain: the agent has one and the master has none (--domain)")
    if message.domain is None and config.require_agent_domain:
        raise PeerError("registration refused: domain: the agent has none (--domain), and --require-agent-domain is set")


def _moved(agent: Agent, message: Register) -> bool:
    return (agent.info.hostname, agent.ip) != (message.hostname, message.ip)


# ---- Admitting ------------------------------------------------------------------------------------------


def _replace_former(s: MasterState, message: Register, now: Now) -> None:
    """A new agent listens where another one did, so that one is dead for good, and its tasks with it."""
    former_id = s.addresses.get((message.ip, message.port), "")
    former, text = s.agents.get(former_id), "A new agent registered from its address"
    if former is not None:
        s.counts["master/slave_removals/reason_registered"] += 1
        agents.remove_agent(s, former, now, AgentState.GONE, TaskState.TASK_LOST, text)
        events.agent_removed(s, former_id)
    elif former_id in s.unreachable:
        agents.give_up_agent(s, former_id, TaskState.TASK_GONE, Reason.REASON_AGENT_REMOVED, text, now)


def _info(agent_id: str, message: Register) -> AgentInfo:
    return AgentInfo(
        hostname=message.hostname,
        port=message.port,
        resources=message.resources,
        attributes=message.attributes,
        id=AgentID(agent_id),
        domain=message.domain,
    )


def _admit(s: MasterState, agent_id: str, message: Register, total: Resources, now: Now) -> Agent:
    """Begin to know an agent: new, back from unreachable, or forgotten long ago."""
    agent = Agent(agent_id, _info(agent_id, message), message.ip, total)
    agent.registered_wall_s = now.wall_s
    agent.deactivation = s.deactivated.get(agent_id)
    agent.unavailability = s.machines.unavailability(message.hostname, message.ip)
    lost = s.unreachable.pop(agent_id, None)
    if lost is not None:
        agents.leave_address(s, agent_id, lost.address)
    s.agents[agent_id] = agent
    s.out.append(registry.keep_agent(agent_id, registry.AgentRecord(agent.info, agent.ip, now.wall_s)))
    s.allocator.add_agent(agent_id, total, agents.site(agent.info), now)
    return agent


def _take_info(s: MasterState, agent: Agent, message: Register, total: Resources, now: Now) -> None:
    """Take on what the agent says of itself (it may have been reconfigured while it was away)."""
    info = _info(agent.agent_id, message)
    if (info, message.ip, total) == (agent.info, agent.ip, agent.total):
        return
    s.rescind_all(agent, now)
    agents.leave_address(s, agent.agent_id, agent.address)
    s.before(agent)
    agent.info, agent.ip, agent.total = info, message.ip, total
    planned = s.machines.unavailability(info.hostname, agent.ip)
    if planned != agent.unavailability:  # It is on another machine.
        agent.unavailability = planned
        inverse_offers.forget_agent(s, agent)
    s.out.append(registry.keep_agent(agent.agent_id, registry.AgentRecord(info, agent.ip, agent.registered_wall_s)))
    s.allocator.update_agent(agent.agent_id, total, agents.site(info), now)


def _link(s: MasterState, agent: Agent, link: int, message: Register, now: Now) -> None:
    """The agent is heard on this link from now on."""
    s.runs.pop(agent.run, None)
    s.addresses[agent.address] = agent.agent_id
    s.before(agent)
    agent.run, agent.software = message.run, message.software
    agent.capabilities = message.capabilities
    agent.leaving = False
    s.runs[message.run] = agent.agent_id
    s.recovered.discard(agent.agent_id)
    agent.link = link
    agent.state = AgentState.REGISTERED
    s.links[link] = agent
    agents.touch(s, agent, now)
    s.deadlines.push(agent.contact_due_s, "agent", agent.agent_id)


# ---- Comparing ------------------------------------------------------------------------------------------


def _reconcile(
    s: MasterState, agent: Agent, message: Register, report: Report, returned: Unreachable | None, readmitted: bool, now: Now
) -> None:
    """Make the master's picture of an agent equal to what it reports."""
    _meet_frameworks(s, agent, message, report, now)
    operations.meet(s, agent, message.operations)
    executors: set[tuple[str, str]] = set()
    tasks: set[tuple[str, str]] = set()
    charges: dict[tuple[str, str], Resources] = {}  # By framework and role.
    for executor_report, claim in zip(message.executors, report.executors, strict=True):
        framework = s.frameworks.get(executor_report.framework_id)
        if framework is not None:
            executors.add((framework.framework_id, executor_report.executor.executor_id.value))
            if claim is not None:
                learnt = _learn_executor(s, agent, framework, executor_report, claim, now)
                key = (framework.framework_id, learnt.role)
                charges[key] = charges.get(key, EMPTY) + learnt.resources
    for task_report, claim in zip(message.tasks, report.tasks, strict=True):
        framework = s.frameworks.get(task_report.framework_id)
        if framework is not None:
            tasks.add((framework.framework_id, task_report.task.task_id.value))
            task = _learn_task(s, agent, framework, task_report, claim, readmitted, now)
            if task is not None and not task.freed:
                key = (framework.framework_id, task.role)
                charges[key] = charges.get(key, EMPTY) + task.resources
    for (framework_id, role), resources in charges.items():
        s.allocator.charge(framework_id, role, agent.agent_id, resources)
    for key, executor in list(agent.executors.items()):
        if key not in executors:
            s.remove_executor(s.frameworks[key[0]], agent, executor, now)
    _ask_for_missing(s, agent, tasks, now)
    if returned is not None:
        text = "The agent came back without it"
        agents.give_up(s, returned, agent.agent_id, TaskState.TASK_GONE, Reason.REASON_AGENT_REREGISTERED, text, now)


def _meet_frameworks(s: MasterState, agent: Agent, message: Register, report: Report, now: Now) -> None:
    """Learn of frameworks from the agent, or tell it what it does not know: who they are now, or that they are removed."""
    spent: dict[str, None] = {}
    for framework_id in (*report.infos, *_named(message)):
        if framework_id in s.removed_ids:
            spent[framework_id] = None
        elif framework_id not in s.frameworks:
            info = report.infos[framework_id]
            framework = frameworks.add_framework(s, framework_id, info, now)
            s.acquaint(agent, framework)
            frameworks.await_failover(s, framework, max(info.failover_timeout, s.config.framework_recovery_s), now)
    for framework_id, info in report.infos.items():
        framework_known = s.frameworks.get(framework_id)
        if framework_known is not None:
            if info == framework_known.info:
                s.acquaint(agent, framework_known)
            else:
                s.introduce(agent, framework_known)
    for framework_id in spent:
        s.tell_agent(agent, ShutdownFramework(framework_id))


def _named(message: Register) -> Iterator[str]:
    yield from (report.framework_id for report in message.executors)
    yield from (report.framework_id for report in message.tasks)


def _ask_for_missing(s: MasterState, agent: Agent, reported: set[tuple[str, str]], now: Now) -> None:
    """Send the kills again that it may have missed, and ask for tasks it did not report."""
    missing = []
    lacks = not agent.total.contains(firm(once(agent.used)))  # An operation was lost on its way, and with it all that counted on it.
    for key, task in list(agent.tasks.items()):
        framework = s.frameworks[key[0]]
        if key in reported:
            if task.killing and not task.terminal:
                s.tell_agent(agent, KillTask(task.framework_id, task.task_id, task.kill, task.preempted), framework)
        elif task.terminal:  # Acknowledged at the agent, which has forgotten it.
            s.complete_task(framework, agent, task, now)
        elif lacks:
            agents.drop_task(s, framework, agent, task, now)
        else:
            s.introduce(agent, framework)
            missing.append(key)
    if missing:
        s.tell_agent(agent, ReconcileTasks(tuple(missing)))


# ---- Learning -------------------------------------------------------------------------------------------


def _held(s: MasterState, agent: Agent, claim: Claim, now: Now) -> Resources:
    """Make room for what runs there already; return what it holds. Of numbers and items that others on the agent hold, too, it
    gets none: no port is counted twice, so none is freed twice."""
    if agent.offers:
        s.rescind_all(agent, now)
    resources = claim.resources
    if resources.other is not None and agent.used.other is not None:
        resources = resources.without(agent.used.where(lambda key: key.kind is not ValueType.SCALAR))
    return resources


def _role(framework: Framework, claim: Claim) -> str:
    return claim.role or (framework.roles[0] if framework.roles else "*")


def _learn_executor(s: MasterState, agent: Agent, framework: Framework, report: ExecutorReport, claim: Claim, now: Now) -> Executor:
    role, resources = _role(framework, claim), _held(s, agent, claim, now)
    executor = Executor(framework.framework_id, agent.agent_id, report.executor, role, resources)
    s.add_executor(framework, agent, executor)
    return executor


def _learn_task(
    s: MasterState, agent: Agent, framework: Framework, report: TaskReport, claim: Claim | None, readmitted: bool, now: Now
) -> Task | None:
    """Return the task if it is new here."""
    task_id = report.task.task_id.value
    task = framework.tasks.get(task_id)
    if task is None:
        assert claim is not None, "a task of this agent is one of its framework's"
        task = _add_task(s, agent, framework, report, claim, now)
    elif task.agent_id == agent.agent_id:
        s.enter(framework, task, advance(task.state, report.state))
        if task.terminal:
            s.free_task(framework, agent, task, now)
    else:
        _refuse_copy(s, agent, framework, report)
        return None
    if readmitted and not task.terminal:  # An end comes as an update of its own, with what it has to say.
        _tell_return(s, agent, framework, task, report, now)
    return task if claim is not None else None


def _add_task(s: MasterState, agent: Agent, framework: Framework, report: TaskReport, claim: Claim, now: Now) -> Task:
    """A task the master lost sight of, or never knew."""
    task_id = report.task.task_id.value
    lost = framework.unreachable.get(task_id)
    if lost is not None and lost.agent_id == agent.agent_id:
        del framework.unreachable[task_id]
        task = lost
        s.before(task)
        s.enter(framework, task, advance(task.state, report.state))
        task.unreachable_wall_s = None
        task.resources = _held(s, agent, claim, now)
    else:
        resources = _held(s, agent, claim, now)
        task = Task(framework.framework_id, report.task, _role(framework, claim), resources, report.executor_id)
        task.state = report.state
        if report.status is not None:
            task.note(report.status)
            task.sent = report.status
    task.freed = task.terminal
    s.add_task(framework, agent, task)
    events.task_added(s, task)
    return task


def _refuse_copy(s: MasterState, agent: Agent, framework: Framework, report: TaskReport) -> None:
    """Two agents have a task of one id: the framework gave the id away again while this one was away. What the master knows
    stays; the older copy is ended, and its updates are sent on as they come, for only an acknowledgement stops them."""
    lost = framework.unreachable.get(report.task.task_id.value)
    if lost is not None and lost.agent_id == agent.agent_id:
        del framework.unreachable[lost.task_id]
        framework.completed.append(lost)
    if report.state not in TERMINAL:
        s.tell_agent(agent, KillTask(framework.framework_id, report.task.task_id.value), framework)


def _tell_return(s: MasterState, agent: Agent, framework: Framework, task: Task, report: TaskReport, now: Now) -> None:
    status = s.status(
        task.task_id, task.state, now, "Agent re-registered", Reason.REASON_AGENT_REREGISTERED, agent.agent_id, task.executor_id
    )
    last = report.status
    if last is not None:
        status = replace(status, healthy=last.healthy, check_status=last.check_status, container_status=last.container_status)
    s.note(task, status)
    s.tell(framework, scheduler.Event("UPDATE", update=scheduler.Update(status)))
    events.task_updated(s, task, status)
