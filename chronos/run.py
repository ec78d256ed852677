"""The life of a run: one slot of a job, or one call for it, from the record made before anything is launched to its place in history.

A run has attempts; an attempt is one task, or one call of another kind. Plain values, made to be stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec
from msgspec import Struct

from chronos.joins import Outcome
from kernel.wire.ids import ID_BYTES_MAX

TASK_ID_ARGUMENTS_MAX = 100


class RunState(Enum):
    """Where a run stands."""

    WAITING = "waiting"  # For its time: jitter, or the delay before another attempt.
    QUEUED = "queued"  # For others to end: of its job, owner or label.
    LAUNCHING = "launching"  # For resources, or to be heard of.
    RUNNING = "running"
    UNREACHABLE = "unreachable"  # Its agent fell silent: it may be back.
    ENDING = "ending"  # It is being killed.
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    SKIPPED = "skipped"  # It never ran; the reason says why.


OVER = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.KILLED, RunState.SKIPPED})
_ENDS = OVER - {RunState.SKIPPED}
NEXT: Mapping[RunState, frozenset[RunState]] = {
    RunState.WAITING: frozenset({RunState.QUEUED, RunState.LAUNCHING, RunState.FAILED, RunState.KILLED, RunState.SKIPPED}),
    RunState.QUEUED: frozenset({RunState.LAUNCHING, RunState.KILLED, RunState.SKIPPED}),
    RunState.LAUNCHING: _ENDS | {RunState.RUNNING, RunState.UNREACHABLE, RunState.ENDING, RunState.WAITING},
    RunState.RUNNING: _ENDS | {RunState.UNREACHABLE, RunState.ENDING, RunState.WAITING},
    RunState.UNREACHABLE: _ENDS | {RunState.LAUNCHING, RunState.RUNNING, RunState.ENDING, RunState.WAITING},
    RunState.ENDING: _ENDS | {RunState.UNREACHABLE},
    **dict.fromkeys(OVER, frozenset()),
}
OUTCOMES: Mapping[RunState, Outcome] = {
    RunState.SUCCEEDED: Outcome.SUCCESS,
    RunState.FAILED: Outcome.FAILURE,
    RunState.KILLED: Outcome.KILLED,
    RunState.SKIPPED: Outcome.SKIPPED,
}


class Cause(Enum):
    """Why there is a run."""

    SCHEDULE = "schedule"
    MANUAL = "manual"
    PARENT = "parent"
    BACKFILL = "backfill"
    AGAIN = "again"  # One that was over.
    MARK = "mark"  # Somebody said that it had succeeded.


FOR_DISABLED = frozenset({Cause.BACKFILL, Cause.AGAIN})  # Of the past: whether the job is disabled now does not matter.


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One try. Times are ms since the epoch, 0 when not yet. state: of the task, as Mesos names it. exit_status: as a shell would see
    it, None when nobody knows. agent_url: where its output is."""

    number: int
    task_id: str
    asked_ms: int
    launched_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    state: str = ""
    exit_status: int | None = None
    message: str = ""
    agent_id: str = ""
    hostname: str = ""
    agent_url: str = ""


class Run(Struct, frozen=True, omit_defaults=True):
    """One run, or, of slots skipped in a row for one reason, all of these: from slot_ms to last_slot_ms.

    run_id: `JOB@KEY`, the key being the slot, and `~` with the time of the call where a slot is run once more. identity: what it shares
    with the runs below it in the graph: the id of the root's run; "" for parents of different roots.
    due_ms: when it is to begin, after jitter. not_before_ms: when the next attempt may begin. parents: what its parents came to.
    late_ms: how long after it was due its first attempt was handed on. ending: it is to be killed, also when it comes back.
    missed: its deadline has passed, and that was told. occasions: what people are to be told of its end.
    """

    run_id: str
    job: str
    slot_ms: int
    cause: Cause
    state: RunState
    due_ms: int
    created_ms: int
    identity: str = ""
    not_before_ms: int = 0
    attempts: tuple[Attempt, ...] = ()
    arguments: str = ""
    parents: dict[str, Outcome] = {}
    reason: str = ""
    priority: int = 0
    late_ms: int = 0
    ending: bool = False
    ended_ms: int = 0
    last_slot_ms: int = 0
    slots: int = 1
    missed: bool = False
    occasions: tuple[str, ...] = ()

    @property
    def attempt(self) -> Attempt | None:
        """The last one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def key(self) -> str:
        """What its id has beside the name of its job. Runs that it sets off below it have the same."""
        return self.run_id.partition("@")[2]

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def live(self) -> bool:
        """Whether an attempt of it may be at work, or comes again by itself: it holds its place before others of its job."""
        return not self.over and self.state is not RunState.QUEUED and (self.state is not RunState.WAITING or bool(self.attempts))


def task_id(run: Run, attempt: int) -> str:
    """What Chronos called its tasks: made from job, slot (or the call for it) and attempt, so that no restart makes two of one (spec:
    chronos-v1, 4)."""
    slot, _, called = run.key.partition("~")
    shown = "".join(
        character if character.isascii() and (character.isalnum() or character in "-_.=,+") else "_" for character in run.arguments
    )
    begin, again = f"ct:{slot}:{attempt}:{run.job}:", f"~{called}" if called else ""  # No argument has this character.
    room = min(TASK_ID_ARGUMENTS_MAX, ID_BYTES_MAX - len(begin) - len(again))
    return f"{begin}{shown[:room]}{again}"


def moved(run: Run, state: RunState, **changes: object) -> Run:
    """The run in another state (or the same, for other changes)."""
    assert state is run.state or state in NEXT[run.state], f"{run.run_id}: {run.state} cannot become {state}"
    return msgspec.structs.replace(run, state=state, **changes)


def with_attempt(run: Run, attempt: Attempt) -> Run:
    """The run with its last attempt, or one more, as given."""
    kept = run.attempts[: attempt.number]
    assert len(kept) == attempt.number, f"{run.run_id}: attempt {attempt.number} comes after {len(run.attempts)}"
    return msgspec.structs.replace(run, attempts=(*kept, attempt))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Run)


def write_run(run: Run) -> bytes:
    return _encoder.encode(run)


def read_run(body: bytes) -> Run:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(body)
