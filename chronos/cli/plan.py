"""What `meseta cron apply` is to do: the jobs that files say, beside those that a scheduler has. Pure.

A schedule that moves as it runs (`R5/START/PERIOD`) is the same as long as what is left of it is a part of what the file says. Counters
are the scheduler's, and so is whether a job is disabled, unless the file says that it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from chronos.graph import Graph
from chronos.job import Job, job_of, write_job
from chronos.schedule import next_run, parse, read_instant
from chronos.schedule.iso8601 import split
from kernel.errors import CallError

COUNTERS = ("success_count", "error_count", "errors_since_last_success", "last_success", "last_error")
DEFAULTED = ("cpus", "mem", "disk", "run_as_user")  # What a file does not say is the scheduler's to say.


class Difference(Struct, frozen=True):
    """A field that changes; None where it was not, or is not to be."""

    field: str
    before: Any
    after: Any


class Step(Struct, frozen=True):
    """verb: `create`, `change` or `remove`. job: what is to be posted, None to delete."""

    verb: str
    name: str
    differences: tuple[Difference, ...]
    job: Job | None


class Plan(Struct, frozen=True):
    """steps: in the order they can be done. unchanged: how many jobs stay; others: those the files do not name and that stay, too."""

    steps: tuple[Step, ...]
    unchanged: int
    others: tuple[str, ...]


def plan(said: Iterable[Job], there: Iterable[Mapping[str, Any]], prune: bool) -> Plan:
    """said: what the files hold; there: jobs as the scheduler shows them. Raises CallError when what would be there makes no sense."""
    wanted = {job.name: job for job in said}
    known = {str(shown["name"]): job_of(dict(shown)) for shown in there}
    others = [name for name in known if name not in wanted]
    after = {name: job.parent_names for name, job in {**({} if prune else known), **wanted}.items()}
    order = _order(after)
    steps: list[Step] = []
    for name in order:
        if name in wanted:
            step = _step(wanted[name], known.get(name))
            steps += [step] if step is not None else []
    kept = len(wanted) - len(steps)
    if prune:
        going = _order({name: known[name].parent_names for name in known}, strict=False)
        steps += [Step("remove", name, (), None) for name in reversed(going) if name in others]
    return Plan(tuple(steps), kept, () if prune else tuple(others))


def _order(parents: Mapping[str, Sequence[str]], strict: bool = True) -> list[str]:
    """Parents first. Raises CallError for a cycle, and for a parent that is missing."""
    graph = Graph(dict.fromkeys(parents, ()))
    for name, above in parents.items():
        missing = next((parent for parent in above if parent not in parents), None)
        if missing is not None and strict:
            raise CallError(f"parents: {name} is to run after {missing}, which is not there")
        graph.put(name, tuple(parent for parent in above if parent in parents))
    return list(graph.order())


def _step(said: Job, known: Job | None) -> Step | None:
    if known is None:
        others = _differences(_fields(Job(said.name)), _fields(said))
        return Step("create", said.name, tuple(Difference(part.field, None, part.after) for part in others), said)
    kept = {field: getattr(known, field) for field in COUNTERS}
    kept |= {field: getattr(known, field) for field in DEFAULTED if not getattr(said, field)}
    job = msgspec.structs.replace(said, **kept, disabled=said.disabled or known.disabled)
    compared = known
    if same_schedule(said, known):
        compared = msgspec.structs.replace(known, schedule=said.schedule, schedule_time_zone=said.schedule_time_zone)
    differences = _differences(_fields(compared), _fields(job))
    return Step("change", said.name, differences, job) if differences else None


def same_schedule(said: Job, known: Job) -> bool:
    """Whether what a scheduler shows is what is left of what a file says."""
    if said.schedule is UNSET or known.schedule is UNSET or (said.schedule_time_zone or "") != (known.schedule_time_zone or ""):
        return False
    if said.schedule == known.schedule:
        return True
    if not (said.schedule.startswith("R") and known.schedule.startswith("R")):
        return False
    whole, left = split(said.schedule), split(known.schedule)
    if whole.period != left.period or (whole.repeats is None) != (left.repeats is None):
        return False
    if whole.repeats is not None and left.repeats is not None and left.repeats > whole.repeats:
        return False
    return not whole.start or _is_slot(said, left.start)


def _is_slot(said: Job, start: str) -> bool:
    assert said.schedule is not UNSET, "it is scheduled"
    schedule = parse(said.schedule, said.schedule_time_zone or "", now_ms=0)
    at_ms = read_instant(start, schedule.zone, "schedule")
    return next_run(schedule, at_ms - 1) == at_ms


def _fields(job: Job) -> dict[str, Any]:
    """What is said, flat: `meseta.overlap` and so on; texts, lists and objects that are empty are left out."""
    value = msgspec.json.decode(write_job(msgspec.structs.replace(job, meseta=job.more)))
    more = value.pop("meseta")
    return {name: part for name, part in {**value, **{f"meseta.{key}": part for key, part in more.items()}}.items() if part not in _NOTHING}


_NOTHING: tuple[Any, ...] = ("", [], {}, None)
_OF_THE_SCHEDULER = frozenset({"successCount", "errorCount", "errorsSinceLastSuccess", "lastSuccess", "lastError", "name"})


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Difference, ...]:
    names = [name for name in {**before, **after} if name not in _OF_THE_SCHEDULER and before.get(name) != after.get(name)]
    return tuple(Difference(name, before.get(name), after.get(name)) for name in names)
