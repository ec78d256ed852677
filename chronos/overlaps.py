"""What a job says of runs that are under way at the same time, and which gates they pass. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from chronos.gates import Gate, Ticket
from chronos.job import Job
from chronos.run import Cause, Run


def overlap_of(job: Job) -> str:
    """What its job says of it, or what Chronos did: `allow`, `skip`, `queue` or `replace`."""
    return job.more.overlap or ("allow" if job.concurrent else "queue")


def refusal(job: Job, run: Run, others: Sequence[str], waiting: Iterable[Run]) -> str:
    """Why a run does not happen beside others of its job; "" where it may begin, or wait. others: those under way, by id. waiting: those
    that wait for them."""
    if not others:
        return ""
    overlap = overlap_of(job)
    if overlap == "skip" or (not job.more.overlap and overlap == "queue" and run.cause is Cause.MANUAL):
        return f"{others[0]} was still running (overlap: {job.more.overlap or 'not said'})"
    if overlap == "queue" and run.cause is Cause.SCHEDULE and job.more.catch_up != "all":
        same = next((other for other in waiting if other.cause is run.cause), None)
        if same is not None:
            return f"{same.run_id} waits already for {others[0]} to end (overlap: queue)"
    return ""


def ticket_of(run: Run, job: Job | None, limits: Mapping[Gate, int]) -> Ticket:
    """The gates a run passes: its job's, and those of its owner and labels that an operator has limited. job: None when it is gone."""
    gates: list[tuple[Gate, int]] = []
    if job is not None:
        limit = 1 if overlap_of(job) != "allow" else job.more.max_running
        if limit:
            gates.append((Gate("job", job.name), limit))
        if limits:
            named = [Gate("owner", job.owner), *(Gate("label", f"{key}={value}") for key, value in job.more.labels.items())]
            gates += [(gate, limits[gate]) for gate in named if gate in limits]
    return Ticket(-run.priority, run.due_ms, run.run_id, tuple(gates))
