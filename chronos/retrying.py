"""Whether a failed attempt is tried again, and when. Pure."""

from __future__ import annotations

import hashlib

from msgspec import UNSET

from chronos.entry import Status
from chronos.job import Job
from chronos.schedule import read_duration

LOST_DELAY_MS = 1_000  # An attempt that ended through no fault of its own.


def tries_again(job: Job, status: Status, attempts: int, *, lost: bool) -> bool:
    """attempts: made so far. A job that does not say is tried again as in Chronos: not after a run that used up its retries, until one
    succeeds (spec: chronos-v1, 6.4). lost: its agent or its place was lost, which is no failure of the job."""
    if attempts > job.retries:
        return False
    return lost or job.more.retry is not UNSET or not status.last_error_ms or status.last_success_ms >= status.last_error_ms


def delay_ms(job: Job, run_id: str, attempts: int, default_ms: int, *, lost: bool) -> int:
    """From the end of the last attempt to the next. default_ms: where the job does not say."""
    if lost:
        return LOST_DELAY_MS
    retry = job.more.retry
    if retry is UNSET:
        return default_ms
    first_ms = default_ms if retry.delay is UNSET else read_duration(retry.delay, "meseta.retry.delay")
    most_ms = read_duration(retry.delay_max, "meseta.retry.delayMax")
    wait_ms = min(most_ms, first_ms * retry.factor ** min(attempts - 1, 1000)) if first_ms else 0
    return int(wait_ms * (1 - retry.jitter * _part(f"{run_id}:{attempts}")))


def _part(text: str) -> float:
    """A number of [0, 1) that is always the same for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32
