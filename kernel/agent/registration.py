"""The agent's side of its link: registering with all it has, heartbeats, silence, leaving (spec: mesos-v1, 8.1)."""

from __future__ import annotations

from kernel import __version__
from kernel.agent import checkpoint, layout
from kernel.agent.draining import Draining
from kernel.agent.effects import AgentNamed, CloseMasterLink, Leave, Stop, ToMaster
from kernel.agent.frameworks import Frameworks
from kernel.agent.operations import Operations
from kernel.agent.operator_containers import OperatorContainers
from kernel.agent.orders import Orders
from kernel.agent.oversubscription.oversubscription import Oversubscription
from kernel.agent.state import AgentState, Departure, Kind
from kernel.agent.updates import Updates
from kernel.errors import CallError, PeerError
from kernel.wire.agent import (
    LINK_VERSION,
    AgentHeartbeat,
    ExecutorReport,
    Goodbye,
    Register,
    Registered,
    ShutdownAgent,
    TaskReport,
)

ANSWER_S = 10.0  # How long the master may take to answer a Register.
DEPARTURE_S = 25.0  # How long everything may take to end before the agent leaves all the same; supervisors wait longer.
ACKNOWLEDGED_S = 1.0  # How long the updates of what ended may take, before they are left for the next start.
NEVER_S = float("inf")


class Registration:
    """Says who we are and keeps the link honest."""

    def __init__(
        self,
        state: AgentState,
        updates: Updates,
        frameworks: Frameworks,
        orders: Orders,
        draining: Draining,
        operators: OperatorContainers,
        operations: Operations,
        oversubscription: Oversubscription,
    ) -> None:
        self.state, self.updates, self.frameworks, self.orders = state, updates, frameworks, orders
        self.draining, self.operators, self.operations = draining, operators, operations
        self.oversubscription = oversubscription

    # ---- The link --------------------------------------------------------------------------------------

    def connected(self) -> None:
        """Register, unless it is not known yet what runs here."""
        self.state.connected = True
        if self.state.recovered:
            self.register()

    def register(self) -> None:
        """Tell the master everything."""
        state = self.state
        tasks, executors = [], []
        for framework in state.frameworks.values():
            if framework.terminating:
                continue
            for task in framework.tasks.values():
                queue = task.updates
                sent = queue.pending[0] if queue.pending else queue.acknowledged
                executor_id = "" if task.kind is Kind.COMMAND else task.executor_id
                tasks.append(TaskReport(framework.framework_id, task.info, task.state, executor_id, sent))
            executors += [ExecutorReport(framework.framework_id, executor.info) for executor in framework.executors.values()]
        config, node = state.config, state.node
        message = Register(
            LINK_VERSION,
            state.agent_id,
            state.identity.run,
            config.public_hostname,
            config.public_ip,
            config.public_port,
            node.resources,
            node.attributes,
            __version__,
            state.identity.boot_id,
            tuple(framework.info for framework in state.frameworks.values() if not framework.terminating),
            tuple(executors),
            tuple(tasks),
            node.domain,
            state.capabilities,
            state.total.messages(),
            self.operations.reports(),
            state.slack.messages(),
        )
        state.slack_told = state.slack
        state.emit(ToMaster(message))
        state.silence_due_s = state.now.mono_s + ANSWER_S

    def registered(self, message: Registered) -> None:
        """We are admitted: send what is pending."""
        state = self.state
        try:
            layout.agent_dir(state.config.work_dir, message.agent_id)
        except CallError as error:
            raise PeerError(str(error)) from error
        if not 0 < message.heartbeat_s < NEVER_S or not 0 < message.silence_s < NEVER_S:
            raise PeerError(f"heartbeats every {message.heartbeat_s} s and silence of {message.silence_s} s make no sense")
        if state.agent_id and state.agent_id != message.agent_id:
            state.emit(CloseMasterLink(f"the master calls us {message.agent_id}, we are {state.agent_id}"))
            return
        if not state.agent_id:
            state.agent_id = message.agent_id
            state.emit(checkpoint.keep_agent(state))
            state.emit(AgentNamed(state.agent_id))
        state.master_id = message.master_id
        state.heartbeat_s, state.silence_s = message.heartbeat_s, message.silence_s
        state.heartbeat_due_s = state.now.mono_s + message.heartbeat_s
        if not state.registered:
            state.registered = True
            self.updates.send_all()
            self.operations.send_all()
            self.oversubscription.tell()
            if state.departure is not None:
                state.emit(ToMaster(Goodbye(False)))  # This link has not heard it yet.
        self.draining.follow(message.drain)

    def heard(self) -> None:
        """A frame came in."""
        if self.state.registered:
            self.state.silence_due_s = self.state.now.mono_s + self.state.silence_s

    def lost(self) -> None:
        """The link is gone; what was sent and not acknowledged goes out again after the next registration."""
        state = self.state
        state.connected = state.registered = False
        state.heartbeat_due_s = state.silence_due_s = NEVER_S
        state.orphans.clear()
        self.frameworks.forget_idle()

    def check(self) -> None:
        """Look at the link's deadlines."""
        state = self.state
        now_s = state.now.mono_s
        if now_s >= state.silence_due_s:
            state.silence_due_s = NEVER_S
            state.emit(CloseMasterLink("the master is silent"))
        elif now_s >= state.heartbeat_due_s:
            state.heartbeat_due_s = now_s + state.heartbeat_s
            state.emit(ToMaster(AgentHeartbeat()))
        if state.departure is not None:
            self.check_departure()

    # ---- Leaving --------------------------------------------------------------------------------------

    def stop(self, message: Stop) -> None:
        """Leave for now, with everything running on or ended, or for good."""
        state = self.state
        if message.final:
            self._depart(Departure.FINAL, "left for good as asked")
        elif message.end_tasks:
            self._depart(Departure.EMPTY, "stopped as asked; no task is left")
        elif state.departure is None:
            if state.registered:
                state.emit(ToMaster(Goodbye(False)))
            state.emit(Leave(0, "stopped as asked; tasks go on"))

    def clean_up(self) -> None:
        """End what an agent before this one left here, and leave for good."""
        self._depart(Departure.FINAL, "what ran here has ended, as asked by --recover=cleanup")

    def expelled(self, message: ShutdownAgent) -> None:
        """The master does not want us: end everything and leave."""
        self._depart(Departure.EXPELLED, message.reason)

    def _depart(self, departure: Departure, reason: str) -> None:
        state = self.state
        if state.leaves_for_good or state.departure is departure:
            return
        state.departure, state.departure_reason = departure, reason
        state.departure_due_s = state.now.mono_s + DEPARTURE_S
        state.emit(checkpoint.keep_agent(state))
        if departure is not Departure.EXPELLED and state.registered:
            state.emit(ToMaster(Goodbye(False)))  # Nothing is offered here any more.
        for framework in list(state.frameworks.values()):
            if departure is Departure.EMPTY:
                self.orders.end_work(framework)
            else:
                self.orders.end_framework(framework)
        self.operators.end_all()
        self.check_departure()

    def check_departure(self) -> None:
        """Leave when nothing runs here any more and nothing is owed, or when that took too long."""
        state = self.state
        if state.departure is None:
            return
        if not state.containers and next(self.operators.live(), None) is None:
            awaited = self._owes() if state.registered else state.departure is Departure.FINAL  # Else the master would wait for us.
            wait_s = ACKNOWLEDGED_S if awaited else 0.0
            state.departure_due_s = min(state.departure_due_s, state.now.mono_s + wait_s)
        if state.now.mono_s < state.departure_due_s:
            return
        if state.departure is not Departure.EXPELLED and state.registered:
            state.emit(ToMaster(Goodbye(state.leaves_for_good)))
        state.emit(Leave(1 if state.departure is Departure.EXPELLED else 0, state.departure_reason, True))
        state.departure_due_s = NEVER_S

    def _owes(self) -> bool:
        frameworks = self.state.frameworks.values()
        return bool(self.state.orphans) or any(task.updates.pending for framework in frameworks for task in framework.tasks.values())
