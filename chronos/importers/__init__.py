"""What other schedulers have written down, as jobs: each reads text and returns jobs and notes; none touches a disk or runs anything.

A note says of a line what cannot be carried over and why (`lost`), or what is done in another way. What comes out has passed the
same checks as a job that is posted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import UNSET, Struct

from chronos.job import Defaults, Job, job_of
from chronos.validation import NAME_CHARS_MAX, check_job, schedule_of
from kernel.errors import CallError

UNSAID = Defaults(0.0, 0.0, 0.0, "")  # What a source does not say is the scheduler's to say.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


class Found(Struct, frozen=True):
    """A job and where it was found. line: from 1."""

    job: Job
    source: str
    line: int


class Note(Struct, frozen=True):
    """Something people should know of a line (0: of all of the source). job: the name of the one it is about, "" when none came of it."""

    source: str
    line: int
    job: str
    text: str
    lost: bool


class Imported(Struct, frozen=True):
    found: tuple[Found, ...]
    notes: tuple[Note, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        return tuple(found.job for found in self.found)


class Collector:
    """Takes in what an importer finds in one source. Names are unique in it; names taken before by other sources are handed in."""

    def __init__(self, source: str, taken: Iterable[str] = ()) -> None:
        self.source = source
        self._taken = set(taken)
        self._found: list[Found] = []
        self._notes: list[Note] = []

    def name(self, *parts: str) -> str:
        """A name for a job, of some words, that none has yet."""
        words = [_NOT_IN_NAMES.sub("-", part).strip("-.") for part in parts]
        base = "-".join(word for word in words if word)[: NAME_CHARS_MAX - 6] or "job"
        name, number = base, 2
        while name in self._taken:
            name, number = f"{base}-{number}", number + 1
        self._taken.add(name)
        return name

    def add(self, fields: Mapping[str, Any], line: int) -> Job | None:
        """Take in a job of these fields, or note why it is none."""
        try:
            job = job_of(fields, UNSAID)
            check_job(job)
            if job.schedule is not UNSET:
                schedule_of(job, posted_ms=0)
        except CallError as error:
            self.lost(line, f"{fields.get('name', '')}: {error}".removeprefix(": "))
            return None
        self._found.append(Found(job, self.source, line))
        return job

    def lost(self, line: int, text: str, job: str = "") -> None:
        """Note what cannot be carried over."""
        self._notes.append(Note(self.source, line, job, text, lost=True))

    def differs(self, line: int, text: str, job: str = "") -> None:
        """Note what is done in another way."""
        self._notes.append(Note(self.source, line, job, text, lost=False))

    def imported(self) -> Imported:
        return Imported(tuple(self._found), tuple(sorted(self._notes, key=lambda note: note.line)))
