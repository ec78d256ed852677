"""Where jobs stand, in Chronos' words (spec: chronos-v1, 2.10) and in ours. Pure."""

from __future__ import annotations

from chronos.entry import Entry, Status
from chronos.life import Life
from chronos.run import Run, RunState

IDLE, QUEUED = "idle", "queued"


def last_state(status: Status) -> str:
    """`fresh`, `success` or `failure`: the newer of the two; equal times count as failure."""
    if not status.last_success_ms and not status.last_error_ms:
        return "fresh"
    return "success" if status.last_success_ms > status.last_error_ms else "failure"


def current_state(life: Life, name: str) -> str:
    """`idle`, `queued` or `N running`."""
    runs = [life.runs[run_id] for run_id in life.by_job.get(name, ())]
    running = sum(map(_runs, runs))
    if running:
        return f"{running} running"
    return QUEUED if any(run.state in (RunState.QUEUED, RunState.LAUNCHING) for run in runs) else IDLE


def _runs(run: Run) -> bool:
    if run.state is RunState.LAUNCHING:
        return run.attempt is not None and bool(run.attempt.launched_ms)
    return run.state in (RunState.RUNNING, RunState.UNREACHABLE, RunState.ENDING)


STATES = (IDLE, QUEUED, "running", "disabled", "paused", "quarantined")


def has_state(entry: Entry, life: Life, wanted: str) -> bool:
    """Whether a job is in one of STATES; it may be in several."""
    if wanted == "disabled":
        return entry.status.disabled
    if wanted == "paused":
        return bool(life.pauses.of(entry.job))
    if wanted == "quarantined":
        return bool(entry.fault)
    return current_state(life, entry.name).endswith(wanted)
