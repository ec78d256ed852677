"""The life of a task that is one process of its own: STARTING, RUNNING, [KILLING], a terminal state.

Mesos starts an executor process beside each such task; here it is a state machine inside the agent, told what
the launcher saw. It knows no task ids, sockets or stores: each event gives back what to report and which signals
to send, in order. Rules and texts: spec mesos-v1, sections 2.15 and 3.6.
"""

from __future__ import annotations

import os
import signal
from enum import Enum

from msgspec import Struct

from kernel.wire.command import KillPolicy
from kernel.wire.resources import Resource
from kernel.wire.task import Reason, Source, TaskResourceLimitation, TaskState

KILL_GRACE_S = 3.0


def kill_grace_s(*policies: KillPolicy | None) -> float:
    """Seconds between SIGTERM and SIGKILL: the first policy that says it wins."""
    for policy in policies:
        if policy is not None and policy.grace_period is not None:
            return max(0.0, policy.grace_period.nanoseconds / 1e9)
    return KILL_GRACE_S


class KillCause(Enum):
    """Why a task is being ended; it decides what its end is called."""

    REQUEST = "request"  # Its scheduler, or the end of its executor or framework.
    COMPLETION_TIME = "completion_time"  # It ran longer than max_completion_time.
    GROUP = "group"  # Another task of its group failed or was killed.
    HEALTH = "health"  # Its health check failed too often.


class Kill(Struct, frozen=True):
    """A task's end was asked for at since_s (on the caller's clock); SIGKILL follows grace_s later."""

    cause: KillCause
    since_s: float
    grace_s: float


class Limitation(Struct, frozen=True, gc=False):
    """What of its resources a container used up, which ended it. message: with the limit and the usage, for its user."""

    reason: Reason
    message: str
    resources: tuple[Resource, ...] = ()


class Report(Struct, frozen=True, gc=False):
    """Tell the scheduler: the task is in this state."""

    state: TaskState
    message: str | None = None
    reason: Reason | None = None
    source: Source = Source.SOURCE_EXECUTOR
    limitation: TaskResourceLimitation | None = None


class SendSignal(Struct, frozen=True, gc=False):
    """Send a signal to the task's whole process group."""

    number: int


Action = Report | SendSignal


class Phase(Enum):
    """Where the process is, seen from the agent."""

    LAUNCHING = "launching"
    RUNNING = "running"
    ENDED = "ended"


NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.LAUNCHING: frozenset({Phase.RUNNING, Phase.ENDED}),
    Phase.RUNNING: frozenset({Phase.ENDED}),
    Phase.ENDED: frozenset(),
}


class CommandRun:
    """One process and what was asked of it. Late or repeated events are harmless: they give nothing back."""

    __slots__ = ("hard", "kill", "phase", "pid")

    def __init__(self, phase: Phase = Phase.LAUNCHING, kill: Kill | None = None) -> None:
        self.phase = phase
        self.pid: int | None = None
        self.kill = kill
        self.hard = False  # SIGKILL was sent.

    def started(self, pid: int) -> list[Action]:
        """The process runs, or did: pid 0 when it is gone. Nothing to report when it is being killed: no RUNNING may follow a KILLING."""
        if Phase.RUNNING not in NEXT[self.phase]:
            return []
        self.phase, self.pid = Phase.RUNNING, pid or None
        return [] if self.kill else [Report(TaskState.TASK_RUNNING)]

    def end(self, kill: Kill, announce: bool) -> list[Action]:
        """Ask for the task's end. A further request only shortens the grace, counted from the first one.

        announce: report TASK_KILLING (the framework has the capability for it).
        """
        if self.phase is Phase.ENDED:
            return []
        if self.kill is not None:
            if kill.grace_s < self.kill.grace_s:
                self.kill = Kill(self.kill.cause, self.kill.since_s, kill.grace_s)
            return []
        self.kill = kill
        actions: list[Action] = []
        if announce and kill.cause is not KillCause.COMPLETION_TIME:
            actions.append(Report(TaskState.TASK_KILLING))
        if kill.grace_s > 0:
            actions.append(SendSignal(signal.SIGTERM))
        return actions

    @property
    def kill_due_s(self) -> float | None:
        """When SIGKILL is due; None when it is not, or was sent."""
        return None if self.kill is None or self.hard or self.phase is Phase.ENDED else self.kill.since_s + self.kill.grace_s

    def expire(self, now_s: float) -> list[Action]:
        """Look at the deadline."""
        due = self.kill_due_s
        if due is None or now_s < due:
            return []
        self.hard = True
        return [SendSignal(signal.SIGKILL)]

    def exited(self, status: int | None, limitation: Limitation | None = None) -> list[Action]:
        """The process ended. status: as waitpid gives it; None when nobody saw it."""
        if self.phase is Phase.ENDED:
            return []
        self.phase = Phase.ENDED
        message = describe(status)
        if limitation is not None and self.kill is None:
            used_up = TaskResourceLimitation(limitation.resources)
            return [Report(TaskState.TASK_FAILED, f"{limitation.message}; {message}", limitation.reason, Source.SOURCE_AGENT, used_up)]
        if self.kill is not None:
            if self.kill.cause is KillCause.COMPLETION_TIME:
                return [Report(TaskState.TASK_FAILED, message, Reason.REASON_MAX_COMPLETION_TIME_REACHED)]
            return [Report(TaskState.TASK_KILLED, message)]
        return [Report(TaskState.TASK_FINISHED if status == 0 else TaskState.TASK_FAILED, message)]

    def failed(self, message: str) -> list[Action]:
        """The process could not be started."""
        if self.phase is Phase.ENDED:
            return []
        self.phase = Phase.ENDED
        text = f"Failed to launch container: {message}"
        if self.kill is not None and self.kill.cause is not KillCause.COMPLETION_TIME:
            return [Report(TaskState.TASK_KILLED, text)]
        return [Report(TaskState.TASK_FAILED, text, Reason.REASON_CONTAINER_LAUNCH_FAILED, Source.SOURCE_AGENT)]


def describe(status: int | None) -> str:
    """A wait status in words: `Command exited with status 3`, `Command terminated with signal Killed`."""
    if status is None:
        return "exit status unknown"
    if os.WIFSIGNALED(status):
        return f"Command terminated with signal {signal.strsignal(os.WTERMSIG(status))}"
    return f"Command exited with status {os.WEXITSTATUS(status)}"
