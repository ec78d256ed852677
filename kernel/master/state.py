"""What the master knows, with its sums kept up to date by each change.

Only the handlers beside this module write here, one input at a time. Nothing in it knows sockets or disks:
whatever must happen is appended to `MasterState.out` as an effect.
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from typing import Any

from kernel.clock import Now
from kernel.master import registry
from kernel.master.allocator import Allocation, Allocator, Quota
from kernel.master.config import MasterConfig
from kernel.master.deadlines import Deadlines
from kernel.master.effects import CloseLink, ToAgent, ToStream
from kernel.master.machines import Machines
from kernel.master.model import Address, Agent, Executor, Framework, InverseOffer, Offer, Task, Unreachable
from kernel.master.notices import Notices
from kernel.master.pictures import Pictures
from kernel.master.waits import Waits
from kernel.metrics import Timer
from kernel.wire.agent import FrameworkUpdated, MasterMessage
from kernel.wire.ids import AgentID, ExecutorID, OfferID, TaskID
from kernel.wire.resources import EMPTY
from kernel.wire.scheduler import Event, Rescind
from kernel.wire.task import (
    TERMINAL,
    MasterInfo,
    Reason,
    Source,
    TaskState,
    TaskStatus,
    TimeInfo,
)

_EVENTS = "SUBSCRIBED OFFERS INVERSE_OFFERS RESCIND RESCIND_INVERSE_OFFER UPDATE UPDATE_OPERATION_STATUS MESSAGE FAILURE ERROR HEARTBEAT"
_EVENT_COUNTS = {name: f"events/{name.lower()}" for name in _EVENTS.split()}
_END_COUNTS = {
    state: (f"master/{state.value.lower().replace('task_', 'tasks_')}", f"tasks/terminal/{state.value.lower()}") for state in TERMINAL
}


class MasterState:
    """Everything the master knows; the handlers' common ground.

    Offers, tasks and executors hang on their framework and their agent; both sides are changed together by
    the methods here, which also keep the sums and the allocator in step.
    """

    def __init__(self, config: MasterConfig, master: MasterInfo) -> None:
        self.config = config
        self.master = master
        self.out: list[Any] = []  # Effects of the input being handled.
        self.agents: dict[str, Agent] = {}
        self.unreachable: OrderedDict[str, Unreachable] = OrderedDict()
        self.gone: OrderedDict[str, float] = OrderedDict()
        self.deactivated: dict[str, registry.Deactivation] = {}  # By agent id, unreachable ones included.
        self.emptied: dict[str, None] = {}  # Agents that drain and have lost what may have been their last task.
        self.frameworks: dict[str, Framework] = {}
        self.completed: OrderedDict[str, Framework] = OrderedDict()
        self.removed_ids: OrderedDict[str, None] = OrderedDict()
        self.offers: dict[str, Offer] = {}
        self.offer_of: dict[Allocation, Offer] = {}
        self.inverse_offers: dict[str, InverseOffer] = {}
        self.asked_slice = 0  # Of the agents: whose users were asked last to leave.
        self.machines = Machines()  # Under maintenance, now or later.
        self.recovered: set[str] = set()  # Agents of an earlier master that are still waited for.
        self.links: dict[int, Agent] = {}
        self.streams: dict[str, Framework] = {}
        self.operators: OrderedDict[str, None] = OrderedDict()
        self.addresses: dict[Address, str] = {}  # Of agents that are not gone: the one last registered there.
        self.runs: dict[str, str] = {}  # Agent process run -> agent id, while registered.
        self.allocator = Allocator(config.allocator, seed=zlib.crc32(master.id.encode()))
        self.quotas: dict[str, Quota] = {}  # By role; one that says nothing was reset and is still told.
        self.weights: dict[str, float] = {}  # By role: those that were set.
        self.notices = Notices()  # To tasks that stand in the way of guarantees.
        self.paused_until: int | None = None  # Nothing is offered until no more than so many are `recovered`.
        self.deadlines = Deadlines()
        self.counts: Counter[str] = Counter()
        self.pictures = Pictures()
        self.allocation_run = Timer()
        self.allocation_latency = Timer()  # From the input that gave the allocator something to do.
        self.waits = Waits()
        self.started: Now | None = None
        self.operation_number = 0
        self._offer_number = 0
        self._framework_number = 0
        self._agent_number = 0

    # ---- ids --------------------------------------------------------------------------------------------

    def next_offer_id(self) -> str:
        self._offer_number += 1
        return f"{self.master.id}-O{self._offer_number}"

    def next_framework_id(self) -> str:
        """An id that nobody has; frameworks may choose theirs, and so have chosen this one."""
        while True:
            self._framework_number += 1
            framework_id = f"{self.master.id}-{self._framework_number - 1:04d}"
            if framework_id not in self.frameworks and framework_id not in self.removed_ids:
                return framework_id

    def next_agent_id(self) -> str:
        """An id that nobody has, whatever agents say they are called."""
        while True:
            self._agent_number += 1
            agent_id = f"{self.master.id}-S{self._agent_number - 1}"
            if agent_id not in self.agents and agent_id not in self.unreachable and agent_id not in self.gone:
                return agent_id

    # ---- telling ----------------------------------------------------------------------------------------

    def tell(self, framework: Framework, event: Event) -> bool:
        """Send an event when the framework listens; say whether it does."""
        if framework.stream is None:
            return False
        self.out.append(ToStream(framework.stream, event))
        self.counts["events"] += 1
        framework.counts[_EVENT_COUNTS[event.type or ""]] += 1
        return True

    def tell_agent(self, agent: Agent, message: MasterMessage, framework: Framework | None = None) -> None:
        """Send a message on the agent's link, first what it must know of the framework."""
        if agent.link is not None:
            if framework is not None:
                self.introduce(agent, framework)
            self.out.append(ToAgent(agent.link, message))

    def introduce(self, agent: Agent, framework: Framework) -> None:
        """Tell a linked agent who the framework is, once a link."""
        if framework.framework_id not in agent.frameworks_known and agent.link is not None:
            self.acquaint(agent, framework)
            self.out.append(ToAgent(agent.link, FrameworkUpdated(framework.info)))

    def acquaint(self, agent: Agent, framework: Framework) -> None:
        """Note that the agent, on this link, knows who the framework is: it is told of changes and of the end."""
        agent.frameworks_known.add(framework.framework_id)
        framework.linked[agent.agent_id] = agent

    def unlink(self, agent: Agent, reason: str = "") -> None:
        """The agent's link is over: nothing more can be told there."""
        if agent.link is not None:
            del self.links[agent.link]
            self.out.append(CloseLink(agent.link, reason))
            agent.link = None
        for framework_id in agent.frameworks_known:
            del self.frameworks[framework_id].linked[agent.agent_id]
        agent.frameworks_known.clear()

    # ---- changing ---------------------------------------------------------------------------------------

    def before(self, item: Task | Agent) -> None:
        """What is shown of it is about to change: who reads the state still sees it as it is."""
        item.rendered = None
        if self.pictures:
            self.pictures.keep(item)

    def enter(self, framework: Framework, task: Task, state: TaskState) -> None:
        """The one place where a task's state changes."""
        if state is not task.state:
            self.before(task)
            if framework.tasks.get(task.task_id) is task:
                framework.live[task.state._value_] -= 1  # `value` would take two calls.
                framework.live[state._value_] += 1
            task.state = state

    def note(self, task: Task, status: TaskStatus) -> None:
        """Add to a task's history."""
        self.before(task)
        task.note(status)

    def deactivate(self, agent_id: str, deactivation: registry.Deactivation | None) -> None:
        """Note that nothing more is offered on an agent, and why; None: it is offered again, or no more."""
        if self.deactivated.get(agent_id) == deactivation:
            return
        if deactivation is None:
            del self.deactivated[agent_id]
        else:
            self.deactivated[agent_id] = deactivation
        self.out.append(registry.keep_deactivation(agent_id, deactivation))
        agent = self.agents.get(agent_id)
        if agent is not None:
            self.before(agent)
            agent.deactivation = deactivation
            self.allocator.set_agent_active(agent_id, agent.active)

    # ---- offers -----------------------------------------------------------------------------------------

    def add_offer(self, allocation: Allocation, now: Now) -> Offer:
        framework, agent = self.frameworks[allocation.framework_id], self.agents[allocation.agent_id]
        offer = Offer(self.next_offer_id(), framework, agent, allocation, now.mono_s)
        self.offers[offer.offer_id] = framework.offers[offer.offer_id] = agent.offers[offer.offer_id] = offer
        self.offer_of[allocation] = offer
        self.before(agent)
        agent.offered += offer.resources
        framework.offered.add(offer.role, offer.resources)
        return offer

    def drop_offer(self, offer: Offer) -> None:
        """Forget an offer; what it held must be given to the allocator by the caller."""
        del self.offers[offer.offer_id]
        del self.offer_of[offer.allocation]
        del offer.framework.offers[offer.offer_id]
        del offer.agent.offers[offer.offer_id]
        self.before(offer.agent)
        offer.agent.offered -= offer.resources
        offer.framework.offered.take(offer.role, offer.resources)

    def rescind(self, offer: Offer, now: Now, tell: bool, refuse_s: float | None = None) -> None:
        """End an offer; what it held is free again, refused for refuse_s when given. tell: send RESCIND."""
        self.drop_offer(offer)
        self.allocator.close_offers((offer.allocation,), EMPTY, refuse_s, now)
        if tell:
            offer.framework.counts["offers/rescinded"] += 1
            self.tell(offer.framework, Event("RESCIND", rescind=Rescind(OfferID(offer.offer_id))))

    def rescind_all(self, agent: Agent, now: Now) -> None:
        """End every offer of an agent, and say so."""
        for offer in list(agent.offers.values()):
            self.rescind(offer, now, tell=True)

    # ---- tasks and executors ----------------------------------------------------------------------------

    def add_task(self, framework: Framework, agent: Agent, task: Task) -> None:
        """Put a task on its agent. Its resources count as used unless freed; the allocator's charge is the
        caller's matter (an offer's resources are charged already)."""
        framework.tasks[task.task_id] = task
        agent.tasks[framework.framework_id, task.task_id] = task
        framework.live[task.state._value_] += 1
        if not task.freed:
            self.before(agent)
            agent.used += task.resources
            framework.used.add(task.role, task.resources)

    def free_task(self, framework: Framework, agent: Agent, task: Task, now: Now) -> None:
        """Give back what a task held, once."""
        if not task.freed:
            task.freed = True
            self.before(agent)
            agent.used -= task.resources
            framework.used.take(task.role, task.resources)
            self.allocator.recover(framework.framework_id, task.role, agent.agent_id, task.resources, now)

    def detach_task(self, framework: Framework, agent: Agent | None, task: Task) -> None:
        """Take a freed task off the live lists."""
        if framework.tasks.pop(task.task_id, None) is not None:
            framework.live[task.state._value_] -= 1
        if agent is not None:
            agent.tasks.pop((framework.framework_id, task.task_id), None)
            if agent.deactivation is not None and not agent.tasks:
                self.emptied[agent.agent_id] = None

    def complete_task(self, framework: Framework, agent: Agent | None, task: Task, now: Now) -> None:
        """Move a task that ended, and whose end the scheduler knows, to the framework's history."""
        if agent is not None:
            self.free_task(framework, agent, task, now)
        self.detach_task(framework, agent, task)
        framework.completed.append(task)

    def add_executor(self, framework: Framework, agent: Agent, executor: Executor) -> None:
        framework.executors[agent.agent_id, executor.executor_id] = executor
        agent.executors[framework.framework_id, executor.executor_id] = executor
        self.before(agent)
        agent.used += executor.resources
        framework.used.add(executor.role, executor.resources)

    def remove_executor(self, framework: Framework, agent: Agent, executor: Executor, now: Now) -> None:
        framework.executors.pop((agent.agent_id, executor.executor_id), None)
        agent.executors.pop((framework.framework_id, executor.executor_id), None)
        self.before(agent)
        agent.used -= executor.resources
        framework.used.take(executor.role, executor.resources)
        self.allocator.recover(framework.framework_id, executor.role, agent.agent_id, executor.resources, now)

    # ---- counting ---------------------------------------------------------------------------------------

    def count_end(self, framework: Framework, state: TaskState, status: TaskStatus | None) -> None:
        """Count a task's end; status: the one that told it, when it is at hand."""
        by_state, by_framework = _END_COUNTS[state]
        self.counts[by_state] += 1
        framework.counts[by_framework] += 1
        if status is not None and status.reason is not None and status.source is not None:
            self.counts[f"master/{state.value}/{status.source.value}/{status.reason.value}".lower()] += 1

    # ---- statuses ---------------------------------------------------------------------------------------

    def status(
        self,
        task_id: str,
        state: TaskState,
        now: Now,
        message: str,
        reason: Reason,
        agent_id: str = "",
        executor_id: str = "",
        unreachable_wall_s: float | None = None,
    ) -> TaskStatus:
        """A status of the master's own making: no uuid, so nobody acknowledges it."""
        return TaskStatus(
            task_id=TaskID(task_id),
            state=state,
            message=message,
            source=Source.SOURCE_MASTER,
            reason=reason,
            agent_id=AgentID(agent_id) if agent_id else None,
            executor_id=ExecutorID(executor_id) if executor_id else None,
            timestamp=now.wall_s,
            unreachable_time=None if unreachable_wall_s is None else TimeInfo(int(unreachable_wall_s * 1e9)),
        )

    def lost_as(self, framework: Framework, state: TaskState) -> TaskState:
        """The state as this framework understands it: TASK_LOST for all five of the newer names."""
        return state if framework.partition_aware else TaskState.TASK_LOST
