"""Every decision of the agent. Equal inputs in equal order give equal effects.

This module only hands each input to whoever it concerns: `registration` (the link), `orders` (what the master wants),
`tasks` and `executors` (what runs), `containers` (what the launcher tells), `updates` (what is owed to schedulers).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kernel.agent import checkpoint, reconfiguration, views
from kernel.agent.config import CLEANUP, RECONNECT, AgentConfig
from kernel.agent.containerizer.kinds import LAUNCHED
from kernel.agent.containers import Containers
from kernel.agent.draining import Draining
from kernel.agent.effects import (
    CloseMasterLink,
    ContainerExited,
    ContainerFailed,
    ContainerLimited,
    ContainerStarted,
    ExecutorData,
    ExecutorStreamClosed,
    ExecutorUnknown,
    ExecutorUpdate,
    FromMaster,
    KillContainer,
    LauncherState,
    LaunchOperated,
    MasterConnected,
    MasterLost,
    Measured,
    Probed,
    RemoveOperated,
    Stop,
    SubscribeExecutor,
    View,
    VolumeRemoved,
    VolumesNotLinked,
)
from kernel.agent.executors import Executors
from kernel.agent.frameworks import Frameworks
from kernel.agent.operations import Operations
from kernel.agent.operator_containers import OperatorContainers
from kernel.agent.orders import Orders
from kernel.agent.oversubscription.oversubscription import Oversubscription
from kernel.agent.registration import Registration
from kernel.agent.state import AgentState, Identity, Kind, Node
from kernel.agent.tasks import Tasks
from kernel.agent.updates import Updates
from kernel.clock import Now
from kernel.errors import PeerError, StoreError, Unavailable
from kernel.mainloop import Persist, Reply, Tick
from kernel.wire.agent import (
    AcknowledgeOperation,
    AcknowledgeUpdate,
    ApplyOperation,
    DrainAgent,
    FrameworkMessage,
    FrameworkUpdated,
    KillTask,
    MasterHeartbeat,
    ReconcileTasks,
    Registered,
    RunTask,
    RunTaskGroup,
    ShutdownAgent,
    ShutdownExecutor,
    ShutdownFramework,
)
from kernel.wire.resources import Resources
from kernel.wire.task import Reason, TaskState

log = logging.getLogger(__name__)


class AgentCore:
    """One agent, rebuilt from what it kept. Its first input should be the launcher's state."""

    def __init__(self, config: AgentConfig, identity: Identity, node: Node, entries: Mapping[str, bytes], now: Now) -> None:
        """entries: all that the store holds. Raises StoreError when they cannot be read, ConfigError when what runs here does not allow
        these settings."""
        self.state = state = AgentState(config, identity, node)
        state.now, state.started_wall_s = now, now.wall_s
        self.updates = Updates(state)
        self.frameworks = Frameworks(state)
        self.tasks = Tasks(state, self.updates, self.frameworks)
        self.executors = Executors(state, self.updates, self.frameworks, self.tasks)
        self.orders = Orders(state, self.updates, self.frameworks, self.tasks, self.executors)
        self.operations = Operations(state)
        self.draining = Draining(state, self.tasks, self.executors)
        self.operators = OperatorContainers(state)
        self.oversubscription = Oversubscription(state, self.tasks, self.executors)
        self.registration = Registration(
            state,
            self.updates,
            self.frameworks,
            self.orders,
            self.draining,
            self.operators,
            self.operations,
            self.oversubscription,
        )
        self.containers = Containers(state, self.tasks, self.executors, self.operators)
        self._recover(entries)
        registration, orders = self.registration, self.orders
        self._inputs: dict[type, Callable[[Any], None]] = {
            FromMaster: self._from_master,
            ContainerStarted: self.containers.started,
            ContainerFailed: self.containers.failed,
            ContainerExited: self.containers.exited,
            ContainerLimited: self.containers.limited,
            Probed: self.tasks.checks.probed,
            Measured: self.oversubscription.measured,
            Tick: lambda _: self._tick(),
            MasterConnected: lambda _: registration.connected(),
            MasterLost: lambda _: registration.lost(),
            LauncherState: self._launcher_state,
            SubscribeExecutor: self._when_recovered(self.executors.subscribe),
            ExecutorUpdate: self._when_recovered(self.executors.update),
            ExecutorData: self._when_recovered(self.executors.data),
            ExecutorUnknown: self._when_recovered(self.executors.unknown),
            ExecutorStreamClosed: self.executors.stream_closed,
            VolumesNotLinked: self.executors.volumes_not_linked,
            VolumeRemoved: self.operations.volume_removed,
            KillContainer: self._when_recovered(self.containers.kill),
            LaunchOperated: self._when_recovered(self.operators.launch),
            RemoveOperated: self._when_recovered(self.operators.remove),
            Stop: registration.stop,
            View: lambda view: state.emit(Reply(views.render(state, view.name, view.arguments))),
        }
        self._orders: dict[type, Callable[[Any], None]] = {
            RunTask: orders.run_task,
            AcknowledgeUpdate: orders.acknowledge,
            KillTask: orders.kill_task,
            RunTaskGroup: orders.run_group,
            FrameworkUpdated: lambda message: self.frameworks.inform(message.framework),
            ReconcileTasks: orders.reconcile,
            ShutdownFramework: self._shut_down_framework,
            ShutdownExecutor: orders.shut_down_executor,
            FrameworkMessage: orders.framework_message,
            ApplyOperation: self.operations.apply,
            AcknowledgeOperation: self.operations.acknowledge,
            MasterHeartbeat: lambda _: None,
            DrainAgent: lambda message: self.draining.follow(message.config),
            Registered: registration.registered,
            ShutdownAgent: registration.expelled,
        }

    @property
    def unsettled(self) -> bool:
        return False

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        """Nothing is ever left over."""
        return ()

    def receive(self, message: Any, now: Now) -> list[Any]:
        """Take one input, return what to do, in order. Raises KernelError before the first change."""
        state = self.state
        state.now = now
        self._inputs[type(message)](message)
        out, state.out = state.out, []
        return out

    def _from_master(self, message: FromMaster) -> None:
        """A master that breaks the rules gets another link, on which everything is told anew."""
        body = message.message
        self.registration.heard()
        kind = type(body)
        try:
            if not self.state.registered and kind not in (Registered, ShutdownAgent):
                raise PeerError(f"{kind.__name__} before the registration")
            self._orders[kind](body)
        except PeerError as error:
            self.state.emit(CloseMasterLink(str(error)))

    def _shut_down_framework(self, message: ShutdownFramework) -> None:
        self.operations.forget_framework(message.framework_id)
        self.orders.shut_down_framework(message)

    def _tick(self) -> None:
        self.registration.check()
        self.state.check_deadlines()

    def _launcher_state(self, message: LauncherState) -> None:
        state = self.state
        first = not state.recovered and message.told_of >= LAUNCHED
        state.recovered |= first
        self.containers.reconcile(message)
        if not first:
            return
        state.recovery_s = state.now.wall_s - state.started_wall_s
        for framework in list(state.frameworks.values()):
            for executor in list(framework.executors.values()):
                if executor.kind is Kind.CUSTOM:
                    self.executors.resume(executor)
                else:
                    self.tasks.check_done(executor)
            if framework.terminating:
                self.orders.end_framework(framework)
        self.frameworks.forget_idle()
        if state.config.recover == CLEANUP:
            self.registration.clean_up()
        if state.connected:
            self.registration.register()

    def _when_recovered(self, handle: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(message: Any) -> None:
            if not self.state.recovered:
                raise Unavailable("Agent has not finished recovery")
            handle(message)

        return guarded

    def _recover(self, entries: Mapping[str, bytes]) -> None:
        """Read back what was kept. What it takes to bring the store up to date goes out with the first input."""
        state = self.state
        self._take_up(entries)
        state.total = Resources.of(state.node.resources)
        checkpoint.load_resources(state, entries)
        self.operations.resume()
        for framework in state.frameworks.values():
            for task in framework.tasks.values():
                if task.run is not None:
                    self.tasks.resume(task)

    def _take_up(self, entries: Mapping[str, bytes]) -> None:
        state = self.state
        try:
            record = checkpoint.agent_record(entries)
        except StoreError as error:
            if state.config.strict:
                raise
            log.error("%s", error)
            state.counts["slave/recovery_errors"] += 1
            record = checkpoint.AgentRecord("", "", departed=True)
        if record is None or record.departed:  # That agent is gone, and with it whatever it had but its resources.
            state.out += [Persist(key, None) for key in entries if key != "resources"]
            return
        state.agent_id = record.agent_id
        checkpoint.load(state, entries)
        checkpoint.load_operations(state, entries)
        if record.boot_id != state.identity.boot_id:
            self._machine_restarted()
        if record.node is not None and state.containers and state.config.recover == RECONNECT:
            state.node = reconfiguration.settle(record.node, state.node, state.config.reconfiguration_policy)
        if record.node != state.node:
            state.emit(checkpoint.keep_agent(state))

    def _machine_restarted(self) -> None:
        """Nothing survives a restart of the machine: every task is reported, so that its scheduler may start another."""
        state = self.state
        state.emit(checkpoint.keep_agent(state))
        state.containers.clear()
        self.operators.machine_restarted()
        for framework in list(state.frameworks.values()):
            for task in list(framework.tasks.values()):
                if not task.terminal:
                    lost = framework.lost(TaskState.TASK_GONE)
                    self.updates.report(task, lost, "The agent's machine restarted", Reason.REASON_AGENT_RESTARTED)
                    task.run = None
                if framework.terminating:
                    self.frameworks.task_done(task)
            for executor in list(framework.executors.values()):
                self.frameworks.executor_gone(executor, None)
