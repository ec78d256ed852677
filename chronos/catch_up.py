"""Which due slots run and which are skipped, when one or many have come due: on time, after a stop, after a week. Pure.

No slot is lost: each is either run or in a range that is skipped with its reason.
"""

from __future__ import annotations

from msgspec import UNSET, Struct

from chronos.job import Job
from chronos.schedule import Schedule, last_run, next_run, read_duration
from chronos.schedule.iso8601 import Elapsed

GRACE_MS = 5_000  # A slot that is no later than this is on time.
AT_ONCE_MAX = 100  # Slots of one job that are run together at most; the others follow.
COUNTED_MAX = 100_000  # Skipped slots that are counted one by one.

NOT_CAUGHT_UP = "missed, and missed slots are not caught up (catchUp: none)"
SUPERSEDED = "missed; a later slot runs instead (catchUp: latest)"
TOO_LATE = "missed by more than is caught up (catchUpDeadline)"


class Rules(Struct, frozen=True):
    """What a job says. policy: of CATCH_UPS. deadline_ms: by how much a slot may be late, None for any."""

    policy: str
    deadline_ms: int | None


class Skipped(Struct, frozen=True):
    """Slots in a row that do not run. count: how many, at least."""

    first_ms: int
    last_ms: int
    count: int
    reason: str


class Taken(Struct, frozen=True):
    """What becomes of due slots, in order. next_ms: the first slot not dealt with; left: repeats."""

    runs: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    next_ms: int | None
    left: int | None


def rules_of(job: Job) -> Rules:
    """`epsilon`, of Chronos 2, is a deadline."""
    more = job.more
    said = more.catch_up_deadline if more.catch_up_deadline is not UNSET else job.epsilon
    return Rules(more.catch_up, None if said is UNSET else read_duration(said, "catchUpDeadline"))


def take(schedule: Schedule, rules: Rules, next_ms: int, left: int | None, now_ms: int) -> Taken:
    """Deal with the slots from next_ms to now_ms; next_ms is a slot and due."""
    if now_ms - next_ms <= GRACE_MS:  # As nearly always: one slot, on time.
        remaining = None if left is None else left - 1
        at = next_run(schedule, next_ms, remaining)
        if at is None or at > now_ms:
            return Taken((next_ms,), (), at, remaining)
    skipped: list[Skipped] = []
    runs: list[int] = []
    first: int | None = next_ms
    if rules.deadline_ms is not None:
        first = _skip(skipped, schedule, next_ms, now_ms - max(rules.deadline_ms, GRACE_MS) - 1, left, TOO_LATE)
    if first is not None and first <= now_ms and rules.policy != "all":
        on_time_ms = now_ms - GRACE_MS
        if rules.policy == "none":
            first = _skip(skipped, schedule, first, on_time_ms - 1, left, NOT_CAUGHT_UP)
        else:
            last = last_run(schedule, first - 1, now_ms, left)
            assert last is not None, "the first is one"
            first = _skip(skipped, schedule, first, min(on_time_ms, last) - 1, left, SUPERSEDED)
    at = first
    while at is not None and at <= now_ms and len(runs) < AT_ONCE_MAX:
        runs.append(at)
        left = None if left is None else left - 1
        at = next_run(schedule, at, left)
    return Taken(tuple(runs), tuple(skipped), at, left)


def _skip(skipped: list[Skipped], schedule: Schedule, first_ms: int, until_ms: int, left: int | None, reason: str) -> int | None:
    """Skip the slots from first_ms up to until_ms; return the first that is later."""
    last_ms = last_run(schedule, first_ms - 1, until_ms, left)
    if last_ms is None:
        return first_ms
    skipped.append(Skipped(first_ms, last_ms, _count(schedule, first_ms, last_ms, left), reason))
    return next_run(schedule, last_ms, left)


def _count(schedule: Schedule, first_ms: int, last_ms: int, left: int | None) -> int:
    rule = schedule.rule
    if isinstance(rule, Elapsed) and schedule.window.days is None and rule.period_ms:
        return (last_ms - first_ms) // rule.period_ms + 1
    count, at = 1, first_ms
    while at < last_ms and count < COUNTED_MAX:
        following = next_run(schedule, at, left)
        assert following is not None, "the last is one"
        count, at = count + 1, following
    return count
