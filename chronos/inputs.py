"""What the scheduler can be asked and told: the inputs of its core, and the effects of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from chronos.book import Book
from chronos.job import Job
from chronos.joins import Outcome
from chronos.life import Life
from chronos.run import Attempt, Run
from chronos.schedule import Calendar


class _Message(Struct, frozen=True):
    """Base of inputs and effects."""


# ---- Inputs ---------------------------------------------------------------------------------------------


class Put(_Message, frozen=True):
    """Create a job, or put it in the place of the one of its name. create_only: refuse the latter."""

    job: Job
    create_only: bool = False


class Delete(_Message, frozen=True):
    name: str


class RunNow(_Message, frozen=True):
    """arguments: None for the job's own. Replies with the run's id."""

    name: str
    arguments: str | None = None


class Backfill(_Message, frozen=True):
    """Run the slots of a job in [from_ms, to_ms), in order, whether or not they have run; with all that depends on it. Replies with ids.
    dry_run: run none, and reply with the slots."""

    name: str
    from_ms: int
    to_ms: int
    dry_run: bool = False


class RunAgain(_Message, frozen=True):
    """Run a job again within the run of a graph of this identity, and what depends on it. outcomes: what history knows of the others.
    Replies with the run's id."""

    name: str
    identity: str
    slot_ms: int
    outcomes: tuple[tuple[str, Outcome], ...] = ()


class KillRuns(_Message, frozen=True):
    """All runs of a job, or one. Replies with how many."""

    name: str
    run_id: str | None = None


class ClearQueues(_Message, frozen=True):
    """End all runs of which no attempt is at work. Replies with how many."""


class FinishTask(_Message, frozen=True):
    """A client says how an attempt went (Chronos 2.x). One that is over already stays what it is."""

    name: str
    task_id: str
    outcome: Outcome


class MarkSuccess(_Message, frozen=True):
    """Replies whether there is such a job."""

    name: str


class SetEnabled(_Message, frozen=True):
    name: str
    enabled: bool


class Pause(_Message, frozen=True):
    """Skip the slots of a job, of those with a label (`KEY=VALUE`), or, with neither, of all; or no more."""

    paused: bool
    name: str = ""
    label: str = ""


class PutCalendar(_Message, frozen=True):
    """None removes it."""

    name: str
    calendar: Calendar | None


class Recorded(_Message, frozen=True):
    """History has the ends of these runs."""

    run_ids: tuple[str, ...]


class CallBegan(_Message, frozen=True):
    """An attempt that is no task (`celery`, `http`) is under way."""

    run_id: str
    task_id: str


class CallEnded(_Message, frozen=True):
    """It is over. lost: nobody knows how it went, or it was never taken."""

    run_id: str
    task_id: str
    outcome: Outcome
    message: str
    exit_status: int | None = None
    lost: bool = False


class Look(_Message, frozen=True):
    """Read what is decided and written. Replies with what `read` makes of it, which must not be changed later."""

    read: Callable[[Book, Life, int], Any]


# ---- Effects --------------------------------------------------------------------------------------------


class StartCall(_Message, frozen=True):
    """Begin an attempt that is no task, or, after a restart, follow it."""

    job: Job
    run: Run
    attempt: Attempt
    again: bool = False


class CancelCall(_Message, frozen=True):
    """End it; `CallEnded` tells when."""

    run_id: str
    task_id: str


class Over(_Message, frozen=True):
    """A run for history, and for whoever is to be told. job: as it is now, None when it is gone. framework_id: whose its tasks were."""

    job: Job | None
    run: Run
    framework_id: str


class Missed(_Message, frozen=True):
    """A run has not finished by its deadline; it goes on."""

    job: Job
    run: Run


class Removed(_Message, frozen=True):
    """A job is gone."""

    job: Job
