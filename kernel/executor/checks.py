"""Checks and health checks of a task: when to probe, what a result means, when it ends the task.

Pure: told the time and what probes found. Who probes, and how, is `kernel.agent.checks` and `kernel.agent.probes`. What was found is
a CheckStatusInfo; its part is empty when a probe failed or took too long. Rules: spec mesos-v1, sections 3.6 and 8.8.
"""

from __future__ import annotations

import math
import os

from msgspec import Struct

from kernel.wire.command import (
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckStatusCommand,
    CheckStatusHttp,
    CheckStatusInfo,
    CheckStatusTcp,
    CheckTcp,
    CheckType,
    CommandInfo,
    HealthCheck,
    HTTPCheckInfo,
    TCPCheckInfo,
)
from kernel.wire.container import Protocol

LOOPBACK = {Protocol.IPv4: "127.0.0.1", Protocol.IPv6: "::1"}  # The task's own: it shares the network of its agent.
SIGNALLED = 128  # Exit code of a command that a signal ended, as in a shell: this and the signal.


# ---- What is probed -------------------------------------------------------------------------------------


class HttpTarget(Struct, frozen=True):
    """Something that answers to GET. scheme: http or https; path: begins with `/`."""

    scheme: str
    host: str
    port: int
    path: str


class TcpTarget(Struct, frozen=True):
    """Something that takes connections."""

    host: str
    port: int


Target = CommandInfo | HttpTarget | TcpTarget


def target(info: CheckInfo | HealthCheck) -> Target | None:
    """What a check probes; None when it does not say, as no honest master lets pass."""
    if info.type is CheckType.COMMAND:
        command = info.command.command if isinstance(info.command, CheckCommand) else info.command
        return command if command is not None and command.value else None
    if info.type is CheckType.HTTP and info.http is not None:
        scheme = (info.http.scheme if isinstance(info.http, HTTPCheckInfo) else None) or "http"
        path = info.http.path or "/"
        return HttpTarget(scheme, _host(info.http), info.http.port, path if path.startswith("/") else f"/{path}")
    if info.type is CheckType.TCP and info.tcp is not None:
        return TcpTarget(_host(info.tcp), info.tcp.port)
    return None


def _host(part: CheckHttp | CheckTcp | HTTPCheckInfo | TCPCheckInfo) -> str:
    return LOOPBACK[part.protocol if isinstance(part, HTTPCheckInfo | TCPCheckInfo) else Protocol.IPv4]


def fault(info: CheckInfo | HealthCheck) -> str | None:
    """Why a check cannot be carried out; None when it can."""
    if target(info) is None:
        return "it needs a type, and what is to be probed"
    durations = [info.delay_seconds, info.interval_seconds, info.timeout_seconds]
    if isinstance(info, HealthCheck):
        durations.append(info.grace_period_seconds)
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in durations):
        return "its durations must be finite and not negative"
    return None


# ---- What was found -------------------------------------------------------------------------------------


def nothing(kind: CheckType) -> CheckStatusInfo:
    """What is known before the first probe, and after one that failed or took too long."""
    return CheckStatusInfo(
        kind,
        CheckStatusCommand() if kind is CheckType.COMMAND else None,
        CheckStatusHttp() if kind is CheckType.HTTP else None,
        CheckStatusTcp() if kind is CheckType.TCP else None,
    )


def exited(status: int) -> CheckStatusInfo:
    """A command has ended. status: as waitpid gives it."""
    code = SIGNALLED + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return CheckStatusInfo(CheckType.COMMAND, command=CheckStatusCommand(code))


def answered(status_code: int) -> CheckStatusInfo:
    """A web server has answered."""
    return CheckStatusInfo(CheckType.HTTP, http=CheckStatusHttp(status_code))


def connected(succeeded: bool) -> CheckStatusInfo:
    """A connection was taken, or not."""
    return CheckStatusInfo(CheckType.TCP, tcp=CheckStatusTcp(succeeded))


def passed(found: CheckStatusInfo) -> bool:
    """Whether it speaks for a healthy task."""
    if found.command is not None:
        return found.command.exit_code == 0
    if found.http is not None:
        return found.http.status_code is not None and 200 <= found.http.status_code < 400
    return found.tcp is not None and found.tcp.succeeded is True


# ---- When, and what of it -------------------------------------------------------------------------------


class Verdict(Struct, frozen=True):
    """What a result leads to: the scheduler is told; the task is killed."""

    report: bool = False
    kill: bool = False


class Watch:
    """When one check probes: after its delay, then an interval after each result; one probe at a time.

    since_s: when its task began to run, None before. due_s: of the next probe, None when it waits for nothing. probing: the name of
    the probe under way. timeout_s: how long one may take, None for as long as it likes (0 in the check).
    """

    __slots__ = ("_delay_s", "_interval_s", "due_s", "probing", "since_s", "stopped", "target", "timeout_s", "type")

    def __init__(self, info: CheckInfo | HealthCheck) -> None:
        """info: without `fault`."""
        wanted = target(info)
        assert wanted is not None
        assert info.type is not None
        self.target, self.type = wanted, info.type
        self.timeout_s = info.timeout_seconds or None
        self._delay_s, self._interval_s = info.delay_seconds, info.interval_seconds
        self.since_s: float | None = None
        self.due_s: float | None = None
        self.probing: str | None = None
        self.stopped = False

    def begin(self, now_s: float, part: float) -> bool:
        """The task runs. False when that was known: a repeat changes nothing.

        part: from 0 to 1, which part of the interval to wait when the check goes on after a restart of whoever probes, so that not
        all checks are due at once.
        """
        if self.stopped or self.due_s is not None or self.probing is not None:
            return False
        if self.since_s is None:
            self.since_s = now_s
            self.due_s = now_s + self._delay_s
        else:
            self.due_s = max(self.since_s + self._delay_s, now_s + part * self._interval_s)
        return True

    def probe(self, name: str, now_s: float) -> bool:
        """Whether a probe is due. It is under way from now on, by this name."""
        if self.due_s is None or now_s < self.due_s:
            return False
        self.due_s, self.probing = None, name
        return True

    def take(self, found: CheckStatusInfo | None, now_s: float) -> Verdict:
        """Take what the probe under way found; None: nobody can tell any more, from which nothing follows."""
        if self.probing is None:
            return Verdict()
        self.probing, self.due_s = None, now_s + self._interval_s
        return Verdict() if found is None else self._judge(found, now_s)

    def stop(self) -> None:
        """The task is ending: no more probes, and no more results."""
        self.stopped, self.due_s, self.probing = True, None, None

    def _judge(self, found: CheckStatusInfo, now_s: float) -> Verdict:
        raise NotImplementedError


class CheckWatch(Watch):
    """A check: any change is reported. found: the last result."""

    __slots__ = ("found",)

    def __init__(self, info: CheckInfo) -> None:
        super().__init__(info)
        self.found = nothing(self.type)

    def _judge(self, found: CheckStatusInfo, now_s: float) -> Verdict:
        changed = found != self.found
        self.found = found
        return Verdict(report=changed)


class HealthWatch(Watch):
    """A health check: each failure is reported, and the first success after the start or a failure; too many failures kill.

    healthy: as last reported, None before. failures: since the last success. Failures within the grace period, which the first
    success ends, do not count.
    """

    __slots__ = ("_failures_max", "_grace_s", "failures", "healthy")

    def __init__(self, info: HealthCheck) -> None:
        super().__init__(info)
        self._grace_s, self._failures_max = info.grace_period_seconds, info.consecutive_failures
        self.healthy: bool | None = None
        self.failures = 0

    def _judge(self, found: CheckStatusInfo, now_s: float) -> Verdict:
        if passed(found):
            news = self.healthy is not True
            self.healthy, self.failures = True, 0
            return Verdict(report=news)
        assert self.since_s is not None, "a result before the task ran"
        if self.healthy is None and now_s - self.since_s <= self._grace_s and self._grace_s > 0:
            return Verdict()
        self.healthy = False
        self.failures += 1
        return Verdict(report=True, kill=self.failures >= self._failures_max)
