"""What the launcher tells: containers that started, failed or ended, and all it has after each connection to it."""

from __future__ import annotations

import signal

from kernel.agent.containerizer.kinds import LAUNCHED, Containerizer
from kernel.agent.effects import (
    ContainerEnded,
    ContainerExited,
    ContainerFailed,
    ContainerLimited,
    ContainerStarted,
    Exit,
    ForgetContainer,
    KillContainer,
    LauncherState,
    SignalContainer,
)
from kernel.agent.executors import Executors
from kernel.agent.launch import executor_container, task_container
from kernel.agent.operator_containers import OperatorContainers
from kernel.agent.state import AgentState, Executor, Kind, Task
from kernel.agent.tasks import Tasks
from kernel.executor.command import Limitation, Phase


class Containers:
    """Routes the launcher's news to whom the container belongs."""

    def __init__(self, state: AgentState, tasks: Tasks, executors: Executors, operators: OperatorContainers) -> None:
        self.state, self.tasks, self.executors, self.operators = state, tasks, executors, operators
        self.checks = tasks.checks

    def started(self, message: ContainerStarted) -> None:
        owner = self.state.containers.get(message.container_id)
        if isinstance(owner, Task):
            self.tasks.started(owner, message.pid, message.networks)
        elif owner is not None:
            self.executors.started(owner, message.pid, message.networks)
        elif (found := self.state.operator_containers.get(message.container_id)) is not None:
            self.operators.started(found, message.pid)
        else:
            self.checks.command_started(message.container_id)

    def failed(self, message: ContainerFailed) -> None:
        if (found := self.state.operator_containers.get(message.container_id)) is not None:
            self.operators.failed(found, message.message)
            return
        owner = self._end(message.container_id, None)
        self.state.counts["slave/container_launch_errors"] += 1
        if isinstance(owner, Task):
            self.tasks.launch_failed(owner, message.message)
        elif owner is not None:
            self.executors.launch_failed(owner, message.message)
        else:
            self.checks.command_failed(message.container_id)

    def limited(self, message: ContainerLimited) -> None:
        """End a container that uses too much; its end will be told with the reason."""
        if message.container_id in self.state.containers or message.container_id in self.state.operator_containers:
            self.state.limitations[message.container_id] = message.limitation
            self.state.emit(SignalContainer(message.container_id, signal.SIGKILL))

    def exited(self, message: ContainerExited) -> None:
        limitation = message.limitation or self.state.limitations.get(message.container_id)
        if (found := self.state.operator_containers.get(message.container_id)) is not None:
            self.operators.exited(found, message.exit, limitation)
            return
        owner = self._end(message.container_id, message.exit, limitation)
        if isinstance(owner, Task):
            self.tasks.exited(owner, message.exit.status, limitation)
        elif owner is not None:
            self.executors.exited(owner, message.exit.status, limitation)
        else:
            self.checks.command_exited(message.container_id, message.exit.status)

    def _end(self, container_id: str, exit: Exit | None, limitation: Limitation | None = None) -> Task | Executor | None:
        """A container without an owner is the command of a check, or one whose end was recorded before; it is forgotten all the same."""
        self.state.emit(ForgetContainer(container_id))
        self.state.limitations.pop(container_id, None)
        owner = self.state.containers.pop(container_id, None)
        if owner is not None:
            name = self.state.container_name(owner)
            self.state.emit(ContainerEnded(container_id, name, exit, limitation))
            self.operators.around_ended(name)
        return owner

    def reconcile(self, message: LauncherState) -> None:
        """Compare all containers with what those who run them have, after a restart of either side.

        One that it never saw is launched now: an exit stays known to it until we have recorded it. One that it has and
        we do not is ended: so are the commands of checks that the agent before us started.
        """
        known = {container.container_id: container for container in message.containers}
        for container_id, owner in list(self.state.containers.items()):
            if owner.containerizer not in message.told_of:
                continue
            container = known.pop(container_id, None)
            if container is None:
                self._missing(container_id, owner)
                continue
            if container.failure is not None:
                self.failed(ContainerFailed(container_id, container.failure))
                continue
            if container.pid is not None:
                self.started(ContainerStarted(container_id, container.pid, container.networks))
            if container.exit is not None:
                self.exited(ContainerExited(container_id, container.exit, container.limitation))
            elif isinstance(owner, Task):
                self.tasks.repeat_signal(owner)
            else:
                self.executors.repeat(owner)
        if message.told_of >= LAUNCHED:
            self.operators.reconcile(known)
        for container_id in self.checks.commands():
            container = known.pop(container_id, None)
            if container is None:
                self.checks.command_lost(container_id)
            elif container.failure is not None:
                self.failed(ContainerFailed(container_id, container.failure))
            elif container.exit is not None:
                self.exited(ContainerExited(container_id, container.exit))
            elif container.pid is not None:
                self.checks.command_started(container_id)
        for container in known.values():
            if container.exit is not None or container.failure is not None:
                self.state.emit(ForgetContainer(container.container_id))
            elif self.state.config.docker_kill_orphans or Containerizer.DOCKER not in message.told_of:
                self.state.emit(SignalContainer(container.container_id, signal.SIGKILL))

    def _missing(self, container_id: str, owner: Task | Executor) -> None:
        if isinstance(owner, Task):
            assert owner.run is not None
            if owner.run.phase is not Phase.LAUNCHING:
                self.exited(ContainerExited(container_id, Exit(None, self.state.now.wall_s)))
            elif owner.run.kill is not None:
                self.failed(ContainerFailed(container_id, "ended before it started"))
            else:
                self.state.emit(task_container(self.state, owner))
        elif self.executors.may_launch(owner):
            self.state.emit(executor_container(self.state, owner))
        else:
            self.exited(ContainerExited(container_id, Exit(None, self.state.now.wall_s)))

    def kill(self, message: KillContainer) -> None:
        """Send an operator's signal to a container; a default executor is nothing but its tasks."""
        if (found := self.state.operator_containers.get(message.container_id)) is not None:
            self.operators.kill(found, message.signal)
            return
        owner = self.state.find_container(message.container_id)
        if isinstance(owner, Executor) and owner.kind is Kind.DEFAULT:
            for task in owner.tasks():
                if not task.terminal:
                    self.state.emit(SignalContainer(task.container_id, message.signal))
        else:
            self.state.emit(SignalContainer(owner.container_id, message.signal))
