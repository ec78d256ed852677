"""The subscription of one framework: a pure state machine that keeps it alive and says what is wanted.

It knows phases, deadlines and calls, but no task and no socket: `scheduler` puts tasks beside it, `framework` performs
what it decides. A stream is named by a session number; whatever comes from an older session is ignored. Calls are
sent only while subscribed: what was lost with a stream is made good by reconciliation, by the agents' retries and by
telling the demand again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from frameworks.sdk.tasks import Shape
from kernel.clock import Now
from kernel.net.backoff import delay_s
from kernel.wire.ids import FrameworkID
from kernel.wire.scheduler import Call, Event, Request, Revive, Subscribe, Suppress
from kernel.wire.task import FrameworkInfo

RETRY_MAX_S = 10.0
SUBSCRIBE_TIMEOUT_S = 15.0
HEARTBEATS_MISSED_MAX = 3
OTHER_PRINCIPAL = "Changing framework's principal"  # How Mesos' own error begins.
HEARTBEAT_DEFAULT_S = 15.0
SHAPES_MAX = 1_000  # What a REQUEST names at most; the rest of a longer demand is told as this is met.
COUNT_MAX = 1_000_000
REMOVED = "Framework has been removed"  # How the ERROR event begins when the id can never be used again.


class Phase(Enum):
    """Where a subscription stands."""

    IDLE = "idle"  # Not connected; subscribes at `due_s`.
    SUBSCRIBING = "subscribing"  # A stream was asked for; SUBSCRIBED must come before `due_s`.
    SUBSCRIBED = "subscribed"  # Some event must come before `due_s`.
    STOPPED = "stopped"  # For good.


NEXT: Mapping[Phase, frozenset[Phase]] = {
    Phase.IDLE: frozenset({Phase.SUBSCRIBING, Phase.STOPPED}),
    Phase.SUBSCRIBING: frozenset({Phase.SUBSCRIBED, Phase.IDLE, Phase.STOPPED}),
    Phase.SUBSCRIBED: frozenset({Phase.IDLE, Phase.STOPPED}),
    Phase.STOPPED: frozenset(),
}


# ---- Inputs: what the edge tells ------------------------------------------------------------------------


class Heard(Struct, frozen=True):
    """An event came on the stream of this session."""

    session: int
    event: Event


class Lost(Struct, frozen=True):
    """The stream of this session broke or never came to be. refused: the master said no (4xx): asking again the same
    way is useless."""

    session: int
    reason: str
    refused: bool = False


class CallRefused(Struct, frozen=True):
    """The master answered a call with 400; it changed nothing there."""

    call: Call
    reason: str


# ---- Effects: what the edge does ------------------------------------------------------------------------


class Connect(Struct, frozen=True):
    """Open the event stream `session` with this SUBSCRIBE call."""

    session: int
    call: Call


class Disconnect(Struct, frozen=True):
    """Close the stream `session`; its calls not sent yet are dropped."""

    session: int


class Send(Struct, frozen=True):
    """Send a call after those before it. Lost when the stream of `session` is."""

    session: int
    call: Call


class Stop(Struct, frozen=True):
    """End the framework once everything before this effect is sent. error: None when all is well."""

    error: str | None


Effect = Connect | Disconnect | Send | Stop


class Driver:
    """See the module's text. Its methods return effects in order; none raises.

    info: `info.id` is set: the framework's own id, kept in its store before it gets here. spread: a number in [0, 1),
    different in each process, so that frameworks do not come back all at once.
    """

    def __init__(self, info: FrameworkInfo, spread: float) -> None:
        assert info.id is not None, "the framework chooses its id"
        self.info = info
        self.phase = Phase.IDLE
        self.session = 0
        self.due_s = 0.0  # On the monotonic clock; what for depends on the phase.
        self.failures = 0  # In a row, since the last SUBSCRIBED.
        self.told: dict[Shape, int] = {}  # The demand as the master has it.
        self.suppressed = True
        self.refused_offers = False  # Since the last REVIVE: filters may hide what a new demand could use.
        self._heartbeat_s = HEARTBEAT_DEFAULT_S
        self._spread = spread

    @property
    def framework_id(self) -> FrameworkID:
        assert self.info.id is not None
        return self.info.id

    @property
    def subscribed(self) -> bool:
        return self.phase is Phase.SUBSCRIBED

    def tick(self, now: Now) -> list[Effect]:
        """Look at the deadline of the phase."""
        if self.phase is Phase.STOPPED or now.mono_s < self.due_s:
            return []
        if self.phase is Phase.IDLE:
            return self._connect(now)
        waited_for = "SUBSCRIBED" if self.phase is Phase.SUBSCRIBING else "a heartbeat"
        return [Disconnect(self.session), *self.lost(Lost(self.session, f"waited too long for {waited_for}"), now)]

    def heard(self, event: Event, now: Now) -> list[Effect]:
        """Take an event of the current session (`of_current` says whether it is)."""
        self.due_s = now.mono_s + HEARTBEATS_MISSED_MAX * self._heartbeat_s
        if event.type == "SUBSCRIBED" and self.phase is Phase.SUBSCRIBING:
            if event.subscribed is not None and event.subscribed.heartbeat_interval_seconds:
                self._heartbeat_s = event.subscribed.heartbeat_interval_seconds
                self.due_s = now.mono_s + HEARTBEATS_MISSED_MAX * self._heartbeat_s
            self._enter(Phase.SUBSCRIBED)
            self.failures = 0
            # Suppressed until the demand is told: no whole agents are offered to one that asks for pieces.
            self.suppressed, self.refused_offers, self.told = True, False, {}
        if event.type == "ERROR":
            return self.stop(self._explained(event.error.message) if event.error is not None else "the master gave no reason")
        return []

    def _explained(self, error: str) -> str:
        """What a master told, with the way out where it does not say."""
        if not error.startswith(OTHER_PRINCIPAL):
            return error
        name = self.framework_id.value
        return f"{error} Framework {name} began with another credential: use that one, or end it by `meseta framework teardown {name}`"

    def of_current(self, session: int) -> bool:
        """Whether something from this session still counts."""
        return session == self.session and self.phase in (Phase.SUBSCRIBING, Phase.SUBSCRIBED)

    def lost(self, lost: Lost, now: Now) -> list[Effect]:
        """The stream is gone: try again later, or stop when the master refused us."""
        if not self.of_current(lost.session):
            return []
        if lost.refused:
            return self.stop(lost.reason)
        self._enter(Phase.IDLE)
        self.failures += 1
        self.due_s = now.mono_s + delay_s(self.failures, self._spread, most_s=RETRY_MAX_S)
        return []

    def stop(self, error: str | None) -> list[Effect]:
        """End for good. The stream closes after what was sent before."""
        if self.phase is Phase.STOPPED:
            return []
        self._enter(Phase.STOPPED)
        return [Stop(error)]

    def renew(self, framework_id: str, now: Now) -> list[Effect]:
        """The old id was removed for good: begin again under another one, at once."""
        old = self.session
        self.info = msgspec.structs.replace(self.info, id=FrameworkID(framework_id))
        self.phase, self.failures = Phase.IDLE, 0  # Not by the table: this is another subscription.
        return [Disconnect(old), *self._connect(now)]

    def want(self, demand: Mapping[Shape, int]) -> list[Effect]:
        """Make the master know how many tasks of each shape wait, the most important first. Says nothing when it knows."""
        if not self.subscribed:
            return []
        if len(demand) > SHAPES_MAX:
            demand = dict(islice(demand.items(), SHAPES_MAX))
        effects: list[Effect] = []
        grown = any(count > self.told.get(shape, 0) for shape, count in demand.items())
        if demand != self.told:
            requests = tuple(shape.request(min(count, COUNT_MAX)) for shape, count in demand.items())
            effects.append(self.send("REQUEST", request=Request(requests)))
            self.told = dict(demand)
        if demand and (self.suppressed or (grown and self.refused_offers)):
            effects.append(self.send("REVIVE", revive=Revive()))
            self.suppressed, self.refused_offers = False, False
        elif not demand and not self.suppressed:
            effects.append(self.send("SUPPRESS", suppress=Suppress()))
            self.suppressed = True
        return effects

    def covered(self, shape: Shape, count: int) -> None:
        """An ACCEPT launches `count` tasks of this shape: the master takes them off the demand by itself."""
        left = self.told.get(shape, 0) - count
        if left > 0:
            self.told[shape] = left
        else:
            self.told.pop(shape, None)

    def send(self, type_: str, **body: Any) -> Send:
        """Return the effect that sends a call of the current session. body: its part of `Call`, by name."""
        return Send(self.session, Call(framework_id=self.framework_id, type=type_, **body))

    def _connect(self, now: Now) -> list[Effect]:
        self._enter(Phase.SUBSCRIBING)
        self.session += 1
        self.due_s = now.mono_s + SUBSCRIBE_TIMEOUT_S
        subscribe = Subscribe(framework_info=self.info, suppressed_roles=self.info.roles)
        return [Connect(self.session, Call(framework_id=self.framework_id, type="SUBSCRIBE", subscribe=subscribe))]

    def _enter(self, phase: Phase) -> None:
        assert phase in NEXT[self.phase], f"{self.phase} cannot become {phase}"
        self.phase = phase
