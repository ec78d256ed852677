"""What history holds of a run, and how it is shown. Plain values; where they are kept is `chronos/history.py`'s matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from chronos.job import Job
from chronos.joins import Outcome
from chronos.run import OUTCOMES, Attempt, Run, RunState


class Record(Struct, frozen=True, rename="camel"):
    """One run that is over, or one that goes on, as clients see it. Times are ms since the epoch, 0 when not (yet).

    slots: how many were skipped together, from `slot` to `lastSlot`. started: its first attempt; duration_ms: from then to the end.
    executor: of its tasks, when it is not the task's own. framework_id: whose they were.
    """

    id: str
    job: str
    slot: int
    last_slot: int
    slots: int
    identity: str
    cause: str
    state: str
    reason: str
    due: int
    created: int
    started: int
    ended: int
    duration_ms: int
    late_ms: int
    attempts: tuple[Attempt, ...]
    arguments: str
    parents: dict[str, str]
    owner: str
    framework_id: str
    executor: str


def record_of(run: Run, job: Job | None, framework_id: str) -> Record:
    """job: None when it is gone."""
    first = run.attempts[0] if run.attempts else None
    started = (first.started_ms or first.launched_ms or first.asked_ms) if first is not None else 0
    return Record(
        run.run_id,
        run.job,
        run.slot_ms,
        run.last_slot_ms or run.slot_ms,
        run.slots,
        run.identity,
        run.cause.value,
        run.state.value,
        run.reason,
        run.due_ms,
        run.created_ms,
        started,
        run.ended_ms,
        max(0, run.ended_ms - started) if started and run.ended_ms else 0,
        run.late_ms,
        run.attempts,
        run.arguments,
        {name: outcome.value for name, outcome in run.parents.items()},
        job.owner if job is not None else "",
        framework_id,
        job.name if job is not None and job.executor else "",
    )


class Output(Struct, frozen=True):
    """The end of what a run printed."""

    stdout: bytes
    stderr: bytes


def outcome_of(state: str) -> Outcome:
    """What a run of this (last) state is to those below it."""
    return OUTCOMES[RunState(state)]


class Percentiles(Struct, frozen=True):
    """How long runs took, in ms, under Chronos' names. count: how many were measured."""

    p75: float = msgspec.field(name="75thPercentile", default=0.0)
    p95: float = msgspec.field(name="95thPercentile", default=0.0)
    p98: float = msgspec.field(name="98thPercentile", default=0.0)
    p99: float = msgspec.field(name="99thPercentile", default=0.0)
    median: float = 0.0
    mean: float = 0.0
    count: int = 0


NOT_MEASURED = Percentiles()


def percentiles(took_ms: Sequence[int]) -> Percentiles:
    """Of any number of durations, in any order. As in Chronos `mean` is the median."""
    if not took_ms:
        return NOT_MEASURED
    ordered = sorted(took_ms)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return Percentiles(at(0.75), at(0.95), at(0.98), at(0.99), at(0.5), at(0.5), len(ordered))


CSV_COLUMNS = (
    *("id", "job", "slot", "lastSlot", "slots", "identity", "cause", "state", "reason", "due", "created", "started", "ended"),
    *("durationMs", "lateMs", "attempts", "exitStatus", "agent", "owner"),
)


def csv_row(record: Record) -> list[Any]:
    """Values of CSV_COLUMNS. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    last = record.attempts[-1] if record.attempts else None
    row = [
        *(record.id, record.job, record.slot, record.last_slot, record.slots, record.identity, record.cause, record.state, record.reason),
        *(record.due, record.created, record.started, record.ended, record.duration_ms, record.late_ms, len(record.attempts)),
        *(last.exit_status if last is not None else None, last.hostname if last is not None else "", record.owner),
    ]
    return [f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value for value in row]
