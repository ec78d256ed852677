"""Jobs as they are sent to a scheduler."""

from __future__ import annotations

import msgspec

from chronos.cli.client import Scheduler
from chronos.job import Job, write_job


def post(scheduler: Scheduler, job: Job) -> None:
    """Create a job, or put it in the place of the one of its name. Raises CommandError."""
    scheduler.put(msgspec.json.decode(write_job(job)))
