"""The checks of tasks that the agent runs itself: probes go out, what they find becomes updates, and kills.

The rules are in `kernel.executor.checks`; here they meet the agent's containers, updates and deadlines. A probe that runs a command
is a container of the launcher's that has no owner in `AgentState.containers`: one that nobody waits for any more is signalled once
and forgotten when it has ended, as all such containers are (`kernel.agent.containers`).
"""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Callable

from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.effects import DropProbe, Probe, Probed, SignalContainer
from kernel.agent.launch import probe_container
from kernel.agent.state import AgentState, Probing, Task
from kernel.agent.updates import Updates
from kernel.executor.checks import Watch, exited, nothing
from kernel.wire.command import CheckStatusInfo, CommandInfo
from kernel.wire.task import Reason, Source, TaskState

KILL_WAIT_S = 60.0  # How long a command may take to end that was killed; then it has failed, whatever becomes of it.


class Checks:
    """Watches tasks while they run. kill: ends one whose health check says so."""

    def __init__(self, state: AgentState, updates: Updates, kill: Callable[[Task], None]) -> None:
        self.state, self.updates, self._kill = state, updates, kill

    def begin(self, task: Task) -> None:
        """A task runs. A repeat is harmless; after a restart its checks go on."""
        part = zlib.crc32(task.container_id.encode()) / 2**32
        for watch in task.watches:
            if watch.begin(self.state.now.mono_s, part):
                self._wait(task, watch)

    def stop(self, task: Task) -> None:
        """A task is being ended, or has."""
        for watch in task.watches:
            if watch.probing is not None:
                self._drop(watch.probing)
            watch.stop()

    # ---- Probes ---------------------------------------------------------------------------------------

    def _wait(self, task: Task, watch: Watch) -> None:
        if watch.due_s is not None:
            self.state.look_at(watch.due_s, self._probe, Probing(task, watch))

    def _probe(self, wanted: Probing) -> None:
        state, watch = self.state, wanted.watch
        name = state.new_container_id()
        if not watch.probe(name, state.now.mono_s):
            return
        state.probes[name] = wanted
        if isinstance(watch.target, CommandInfo):  # Its time begins when it has started: a launcher may be away.
            state.emit(probe_container(state, name, wanted.task, watch, watch.target))
        else:
            state.emit(Probe(name, watch.target, _network(wanted.task), _address(wanted.task)))
            self._limit(name, watch)

    def _limit(self, name: str, watch: Watch) -> None:
        if watch.timeout_s is not None:
            self.state.look_at(self.state.now.mono_s + watch.timeout_s, self._time_out, name)

    def _time_out(self, name: str) -> None:
        """It has taken too long. Of a command its end is still waited for: it may have ended well, and the launcher been away."""
        probing = self.state.probes.get(name)
        if probing is None or probing.late:
            return
        if isinstance(probing.watch.target, CommandInfo):
            probing.late = True
            self.state.emit(SignalContainer(name, signal.SIGKILL))
            self.state.look_at(self.state.now.mono_s + KILL_WAIT_S, self._give_up, name)
        else:
            self._give_up(name)

    def _give_up(self, name: str) -> None:
        probing = self.state.probes.get(name)
        if probing is not None:
            self._drop(name)
            self._take(probing, nothing(probing.watch.type))

    def _drop(self, name: str) -> None:
        """Nobody waits for it any more."""
        probing = self.state.probes.pop(name)
        command = isinstance(probing.watch.target, CommandInfo)
        self.state.emit(SignalContainer(name, signal.SIGKILL) if command else DropProbe(name))

    # ---- What they found -------------------------------------------------------------------------------

    def probed(self, message: Probed) -> None:
        self._found(message.probe_id, message.found)

    def commands(self) -> list[str]:
        """The containers of the commands under way."""
        return [name for name, probing in self.state.probes.items() if isinstance(probing.watch.target, CommandInfo)]

    def command_started(self, name: str) -> None:
        """It runs. A repeat is harmless."""
        probing = self.state.probes.get(name)
        if probing is not None and probing.late:
            self.state.emit(SignalContainer(name, signal.SIGKILL))  # The launcher was away: what was sent to it may be lost.
        elif probing is not None:
            self._limit(name, probing.watch)

    def command_exited(self, name: str, status: int | None) -> None:
        """status: as waitpid gives it; None, when nobody saw it, says nothing of the task."""
        probing = self.state.probes.get(name)
        if probing is None:
            return
        if status is None:
            self._found(name, None)
        elif probing.late and os.WIFSIGNALED(status):
            self._found(name, nothing(probing.watch.type))
        else:
            self._found(name, exited(status))

    def command_failed(self, name: str) -> None:
        """It could not be started."""
        probing = self.state.probes.get(name)
        if probing is not None:
            self._found(name, nothing(probing.watch.type))

    def command_lost(self, name: str) -> None:
        """The launcher does not know it: it may never have started, or is still to."""
        probing = self.state.probes.get(name)
        if probing is not None:
            self._drop(name)
            self._take(probing, None)

    def _found(self, name: str, found: CheckStatusInfo | None) -> None:
        """Late answers, of which nobody waits for, are none."""
        probing = self.state.probes.pop(name, None)
        if probing is not None:
            self._take(probing, found)

    def _take(self, probing: Probing, found: CheckStatusInfo | None) -> None:
        task, watch = probing.task, probing.watch
        verdict = watch.take(found, self.state.now.mono_s)
        if verdict.report:
            of_check = watch is task.check
            reason = Reason.REASON_TASK_CHECK_STATUS_UPDATED if of_check else Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED
            self.updates.report(task, TaskState.TASK_RUNNING, None, reason, Source.SOURCE_EXECUTOR)
        if verdict.kill:
            self._kill(task)
        else:
            self._wait(task, watch)


def _network(task: Task) -> int:
    """A process in the task's network, 0 where that is surely ours."""
    if task.containerizer is Containerizer.PROCESS or task.run is None:
        return 0
    return task.run.pid or 0


def _address(task: Task) -> str:
    """The first address that the task has in networks of its own."""
    found = (address.ip_address for network in task.networks for address in network.ip_addresses)
    return next(filter(None, found), "")
