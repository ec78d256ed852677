"""Whether what ran is what was due: matches the processes that machines saw and the runs that history tells of to the slots of jobs. Pure.

Instants are those of the scheduler's clock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct

from chronos.catch_up import NOT_CAUGHT_UP, SUPERSEDED, TOO_LATE
from chronos.run import OVER, Cause, Run, RunState

EPSILON_S = 1.0
MISSED = frozenset({NOT_CAUGHT_UP, SUPERSEDED, TOO_LATE})  # Such slots are not counted by `Rn`.


class Posted(Struct, frozen=True):
    """A job that was posted. parents, root: of one that depends on others; it has no slots of its own."""

    name: str
    start_ms: int
    interval_s: int
    repeats: int
    overlap: str
    retry_unreachable: bool
    parents: tuple[str, ...] = ()
    root: str = ""


class Ran(Struct, frozen=True):
    """A process. status: as wait() tells it."""

    task_id: str
    began_s: float
    ended_s: float
    status: int


def check(posted: Mapping[str, Posted], history: Mapping[str, Run], ran: Iterable[Ran], well_s: float) -> None:
    """Raises AssertionError for a slot that is missing without a reason, one that ran twice, and one that was not served in its window
    after everything was well."""
    by_job: dict[str, list[Run]] = defaultdict(list)
    for run in history.values():
        by_job[run.job].append(run)
    by_task: dict[str, list[Ran]] = defaultdict(list)
    for process in ran:
        by_task[process.task_id].append(process)
    for job in posted.values():
        runs = sorted(by_job[job.name], key=lambda run: (run.slot_ms, run.run_id))
        if job.parents:
            _check_followed(job, runs, by_job[job.root])
        else:
            _check_slots(job, runs)
            _check_windows(job, runs, by_task, well_s)
    for run in history.values():
        _check_run(run, posted.get(run.job), by_task)
    asked_for = {attempt.task_id for run in history.values() for attempt in run.attempts}
    strangers = [task_id for task_id in by_task if task_id not in asked_for]
    assert not strangers, f"nobody knows why these ran: {strangers[:5]}"


def _check_slots(job: Posted, runs: Sequence[Run]) -> None:
    """Every slot is in history once, and `repeats` of them were not missed."""
    at_ms, counted = job.start_ms, 0
    for run in runs:
        assert run.slot_ms == at_ms, f"{job.name}: after the slots up to {at_ms - job.interval_s * 1000} history goes on with {run.run_id}"
        slots = ((run.last_slot_ms or run.slot_ms) - run.slot_ms) // (job.interval_s * 1000) + 1
        assert slots == run.slots, f"{run.run_id} stands for {run.slots} slots; it leaps over {slots}"
        at_ms += slots * job.interval_s * 1000
        counted += 0 if run.reason in MISSED else slots
    assert counted == job.repeats, f"{job.name} is to run {job.repeats} times; history has {counted} slots that were not missed"


def _check_followed(job: Posted, runs: Sequence[Run], roots: Iterable[Run]) -> None:
    """Each run of the root came to one run of this job: it ran, or was skipped for what its parents came to."""
    expected = sorted(run.run_id for run in roots if run.state is not RunState.SKIPPED)
    found = sorted(run.identity for run in runs)
    missing = set(expected) - set(found)
    assert not missing, f"{job.name} has no run for {sorted(missing)[:3]}"
    assert len(found) == len(set(found)), f"{job.name} has several runs for one of its root: {found}"


def _check_run(run: Run, job: Posted | None, by_task: Mapping[str, Sequence[Ran]]) -> None:
    assert run.state in OVER, f"{run.run_id} is {run.state} in history"
    assert run.reason or run.state is RunState.SUCCEEDED or run.attempts, f"{run.run_id} is {run.state} for no reason"
    processes: list[Ran] = []
    for attempt in run.attempts:
        started = by_task.get(attempt.task_id, ())
        assert len(started) <= 1, f"{attempt.task_id} was started {len(started)} times"
        processes += started
    processes.sort(key=lambda process: process.began_s)
    for earlier, later in pairwise(processes):
        assert later.began_s >= earlier.ended_s, f"two attempts of {run.run_id} were live at once"
    good = [process for process in processes if process.status == 0]
    if run.state is RunState.SUCCEEDED:
        assert good, f"{run.run_id} is told to have succeeded; its processes are {processes}"
    elif run.state is RunState.SKIPPED:
        assert not processes, f"{run.run_id} is told to be skipped; it ran"
    told = [attempt for attempt in run.attempts if attempt.exit_status == 0]
    assert len(told) <= 1, f"{run.run_id} succeeded twice"
    lost = any("unknown" in attempt.message or "unreachable" in attempt.message for attempt in run.attempts[:-1])
    assert len(good) <= 1 or lost, f"{run.run_id} ran again after it had succeeded: {run.attempts}"
    if job is not None and not job.retry_unreachable:
        gave_up = [attempt for attempt in run.attempts[:-1] if "unreachable" in attempt.message]
        assert not gave_up, f"{run.run_id} was tried again although its agent might come back"


def _check_windows(job: Posted, runs: Sequence[Run], by_task: Mapping[str, Sequence[Ran]], well_s: float) -> None:
    """Runs do not overlap unless they may; and once all is well each begins within epsilon, unless one before it is in the way."""
    free_s = 0.0  # When the last of the earlier runs came to its end.
    ended_s = 0.0
    for run in runs:
        processes = [process for attempt in run.attempts for process in by_task.get(attempt.task_id, ())]
        began_s = min((process.began_s for process in processes), default=None)
        slot_s = run.slot_ms / 1000
        if began_s is not None:
            assert began_s >= slot_s, f"{run.run_id} began {slot_s - began_s:.2f} s before its time"
            assert job.overlap == "allow" or began_s >= ended_s, f"{run.run_id} began before the run before it had ended"
            ended_s = max(process.ended_s for process in processes)
        if run.cause is Cause.SCHEDULE and slot_s > well_s and (job.overlap == "allow" or slot_s >= free_s):
            assert began_s is not None, f"{run.run_id} is {run.state} ({run.reason}) though all was well and nothing in its way"
            assert began_s <= slot_s + EPSILON_S, f"{run.run_id} began {began_s - slot_s:.2f} s late though all was well"
        free_s = max(free_s, run.ended_ms / 1000)
