"""Containers that operators launch: started, followed and ended like those of tasks, kept until somebody removes them, and never longer
than the container they are in (spec: mesos-v1, section 4.2, LAUNCH_CONTAINER and its kin).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

from kernel.agent import checkpoint
from kernel.agent.effects import (
    ContainerBegan,
    ContainerEnded,
    Exit,
    ForgetContainer,
    KnownContainer,
    LaunchOperated,
    RemoveOperated,
    SignalContainer,
)
from kernel.agent.nested import operator_container, place, problem
from kernel.agent.state import AgentState, Ending, OperatorContainer
from kernel.errors import CallError, Conflict, NotFound, Unavailable
from kernel.executor.command import Limitation, describe
from kernel.mainloop import Reply

CONTAINERS_MAX = 1000  # Those that have ended and were not removed included.
NAME_BYTES_MAX = 242  # It becomes the name of files, and of a control group.


class OperatorContainers:
    """An agent's."""

    def __init__(self, state: AgentState) -> None:
        self.state = state

    # ---- What operators ask for -------------------------------------------------------------------------

    def launch(self, message: LaunchOperated) -> None:
        """Start one. The reply: whether it is new."""
        state, name = self.state, message.name
        known = state.operator_containers.get(name)
        if known is not None and known.ending is not None:
            raise Conflict(f"Container {name} has ended; it can be launched again once it is removed")
        if known is not None or self._is_other(name):
            state.emit(Reply(False))
            return
        if state.departure is not None or not state.agent_id:
            raise Unavailable("the agent is about to leave" if state.agent_id else "the agent is not registered yet")
        if len(name.encode()) > NAME_BYTES_MAX:
            raise CallError(f"container_id: it and the ids of those it is in have at most {NAME_BYTES_MAX} bytes together")
        if len(state.operator_containers) >= CONTAINERS_MAX:
            raise Conflict(f"operators have {CONTAINERS_MAX} containers here already; remove those that have ended")
        found = OperatorContainer(message.asked, name, state.now.wall_s)
        try:
            beside = place(state, found.parent) if found.parent else None
        except NotFound as error:
            raise CallError(f"Parent container {found.parent} does not run") from error
        wrong = problem(message.asked, beside, state.config)
        if wrong is not None:
            raise CallError(wrong)
        state.operator_containers[name] = found
        state.emit(checkpoint.keep_container(found))
        state.emit(operator_container(state, found))
        state.emit(Reply(True))

    def _is_other(self, name: str) -> bool:
        """Whether a container of a task, an executor or a check goes by this name."""
        if name in self.state.probes:
            return True
        try:
            self.state.find_container(name)
        except NotFound:
            return False
        return True

    def kill(self, found: OperatorContainer, number: int) -> None:
        if found.ending is not None:
            raise NotFound(f"Container {found.name} has ended already")
        self.state.emit(SignalContainer(found.name, number))

    def remove(self, message: RemoveOperated) -> None:
        """Forget one that has ended."""
        found = removable(self.state, message.name)
        self._drop(found)

    # ---- What the launcher tells ------------------------------------------------------------------------

    def started(self, found: OperatorContainer, pid: int) -> None:
        """A repeat is harmless; after a restart of the agent it tells the pid anew."""
        if found.ending is not None:
            return
        found.pid = pid or None
        if not found.runs:
            found.runs = True
            self.state.emit(checkpoint.keep_container(found))
            self.state.emit(ContainerBegan(found.name))
        if self._is_orphan(found):
            self.state.emit(SignalContainer(found.name, signal.SIGKILL))

    def failed(self, found: OperatorContainer, message: str) -> None:
        """It could not be started: its name is free again."""
        if found.ending is None:
            self.state.emit(ForgetContainer(found.name))
            self.state.emit(ContainerBegan(found.name, message))
            self._over(found, None)
            self._drop(found)

    def exited(self, found: OperatorContainer, exit: Exit, limitation: Limitation | None) -> None:
        """It has ended, and with it what is inside."""
        self.state.emit(ForgetContainer(found.name))
        if found.ending is not None:
            return
        found.ending, found.pid = Ending(exit.status, describe(exit.status), limitation), None
        self.state.emit(ContainerBegan(found.name))
        if self._is_orphan(found):
            self._drop(found)
        else:
            self.state.emit(checkpoint.keep_container(found))
        self._over(found, exit, limitation)

    def _over(self, found: OperatorContainer, exit: Exit | None, limitation: Limitation | None = None) -> None:
        self.state.limitations.pop(found.name, None)
        self.state.emit(ContainerEnded(found.name, found.name, exit, limitation))
        self.around_ended(found.name)

    def around_ended(self, name: str) -> None:
        """A container has ended: what is inside is killed, and forgotten once it has ended, too."""
        for found in self._inside(name):
            if found.ending is None:
                self.state.emit(SignalContainer(found.name, signal.SIGKILL))
            else:
                self._drop(found)
                self.around_ended(found.name)

    def _inside(self, name: str) -> list[OperatorContainer]:
        return [found for found in self.state.operator_containers.values() if found.parent == name]

    def _is_orphan(self, found: OperatorContainer) -> bool:
        """Whether what it is in has ended."""
        if not found.parent:
            return False
        around = self.state.operator_containers.get(found.parent)
        if around is not None:
            return around.ending is not None
        try:
            place(self.state, found.parent)
        except NotFound:
            return True
        return False

    def _drop(self, found: OperatorContainer) -> None:
        if self.state.operator_containers.pop(found.name, None) is not None:
            self.state.emit(checkpoint.forget_container(found))

    # ---- After a restart --------------------------------------------------------------------------------

    def reconcile(self, known: dict[str, KnownContainer]) -> None:
        """Compare with what the launcher has, from which ours are taken out. After tasks and executors, in which some of ours are."""
        for found in list(self.state.operator_containers.values()):
            container = known.pop(found.name, None)
            if found.ending is not None:
                if container is not None:
                    self.state.emit(ForgetContainer(found.name))
                if self._is_orphan(found):
                    self._drop(found)
            elif container is None:
                self._missing(found)
            elif container.failure is not None:
                self.failed(found, container.failure)
            else:
                if container.pid is not None:
                    self.started(found, container.pid)
                if container.exit is not None:
                    self.exited(found, container.exit, container.limitation)

    def _missing(self, found: OperatorContainer) -> None:
        """One that it never saw is launched now, see `kernel.agent.containers`."""
        if found.runs:
            self.exited(found, Exit(None, self.state.now.wall_s), None)
        elif self._is_orphan(found):
            self.failed(found, "what it was to be in has ended")
        else:
            self.state.emit(operator_container(self.state, found))

    def machine_restarted(self) -> None:
        """None of them runs any more; of those that stood alone the end is still told."""
        for found in list(self.state.operator_containers.values()):
            if found.parent:
                self._drop(found)
            elif found.ending is None:
                found.ending = Ending(None, "The agent's machine restarted")
                self.state.emit(checkpoint.keep_container(found))

    def end_all(self) -> None:
        """The agent leaves, and nothing may stay. What is inside others ends with those."""
        for found in self.live():
            if not found.parent:
                self.state.emit(SignalContainer(found.name, signal.SIGKILL))

    def live(self) -> Iterator[OperatorContainer]:
        return (found for found in self.state.operator_containers.values() if found.ending is None)


def removable(state: AgentState, name: str) -> OperatorContainer:
    """Raises NotFound; Conflict for one that runs, or has some inside that do."""
    found = state.operator_containers.get(name)
    if found is None:
        raise NotFound(f"Container {name} cannot be found")
    if found.ending is None:
        raise Conflict(f"Container {name} has not terminated yet")
    if any(other.name.startswith(f"{name}.") for other in state.operator_containers.values()):
        raise Conflict(f"Container {name} has some inside that have not terminated yet")
    return found
