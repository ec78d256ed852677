"""One job as the scheduler has it: what it says, and what is known of it."""

from __future__ import annotations

from msgspec import Struct

from chronos.job import Job
from chronos.schedule import Schedule


class Status(Struct, frozen=True, gc=False, omit_defaults=True):
    """What the scheduler knows of a job. Times are ms since the epoch, 0 for never. posted_ms: what an empty START stands for. next_ms:
    the first slot not dealt with, None when there is none; left: runs that remain of `Rn`."""

    posted_ms: int
    next_ms: int | None = None
    left: int | None = None
    disabled: bool = False
    success_count: int = 0
    error_count: int = 0
    errors_since_success: int = 0
    last_success_ms: int = 0
    last_error_ms: int = 0


class Entry(Struct, eq=False, gc=False):
    """One job. schedule: None for a dependent or quarantined one. fault: why it is quarantined."""

    job: Job
    schedule: Schedule | None
    status: Status
    fault: str = ""

    @property
    def name(self) -> str:
        return self.job.name

    def copy(self) -> Entry:
        """As it is now, to be looked at later."""
        return Entry(self.job, self.schedule, self.status, self.fault)
