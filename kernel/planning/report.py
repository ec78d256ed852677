"""What a replay showed, in figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kernel.planning.replay import Course, Outcome, Policy, Replay
from kernel.planning.trace import Job
from kernel.wire.resources import Resources


def figures(outcome: Outcome) -> dict[str, Any]:
    """Plain numbers: seconds, parts of the cluster. Kinds of jobs and roles by name."""
    return {
        "end_s": round(outcome.end_s, 3),
        "utilisation": {name: round(series.mean(outcome.end_s), 4) for name, series in outcome.used.items()},
        "kinds": {kind: _kind(courses) for kind, courses in by_kind(outcome.courses).items()},
        "roles": {
            role: {"mean_share": round(series.mean(outcome.end_s), 4), **_waits(outcome.waits.get(role, ()))}
            for role, series in sorted(outcome.shares.items())
        },
        "stuck": [_stuck(course) for course in outcome.courses if course.stuck is not None],
    }


def by_kind(courses: Iterable[Course]) -> dict[str, list[Course]]:
    found: dict[str, list[Course]] = {}
    for course in courses:
        found.setdefault(course.job.kind, []).append(course)
    return dict(sorted(found.items()))


def whole_jobs(courses: Iterable[Course]) -> list[list[Course]]:
    """Courses, by number, as they belong together: what follows another of its kind at once goes on with it, as reduces with maps."""
    found: dict[int, list[Course]] = {}
    for course in courses:
        job = course.job
        begun = found.get(job.after) if job.after is not None and not job.arrival_s else None
        if begun is None or begun[0].job.kind != job.kind:
            begun = []
        begun.append(course)
        found[job.number] = begun
    return list({id(job): job for job in found.values()}.values())


def completion_s(courses: Iterable[Course]) -> float | None:
    """The mean time from a job's arrival to its end; None when none ended."""
    times = []
    for parts in whole_jobs(courses):
        begin_s, ends = parts[0].arrived_s, [part.end_s for part in parts]
        if begin_s is not None and None not in ends:
            times.append(max(end_s for end_s in ends if end_s is not None) - begin_s)
    return sum(times) / len(times) if times else None


def apart(agents: Sequence[Resources], jobs: Sequence[Job]) -> dict[str, float]:
    """The mean completion time by kind when each framework has an equal part of the agents for itself (static partitioning)."""
    frameworks = sorted({job.framework for job in jobs})
    found: dict[str, list[Course]] = {}
    for place, framework in enumerate(frameworks):
        part = agents[place :: len(frameworks)]
        own = [job for job in jobs if job.framework == framework]
        for kind, courses in by_kind(Replay(part, own, Policy()).run().courses).items():
            found.setdefault(kind, []).extend(courses)
    return {kind: mean_s for kind, courses in found.items() if (mean_s := completion_s(courses)) is not None}


def _kind(courses: Sequence[Course]) -> dict[str, Any]:
    mean_s = completion_s(courses)
    started = sum(course.started for course in courses)
    return {
        "jobs": len(whole_jobs(courses)),
        "tasks": sum(course.job.tasks for course in courses),
        "completion_s": None if mean_s is None else round(mean_s, 3),
        "wait_mean_s": round(sum(course.waited_s for course in courses) / started, 3) if started else None,
    }


def _waits(waits: Iterable[tuple[float, int]]) -> dict[str, Any]:
    """Of the waits of tasks."""
    ordered = sorted(waits)
    count = sum(times for _, times in ordered)
    if not count:
        return {"tasks": 0}
    return {
        "tasks": count,
        "wait_mean_s": round(sum(wait_s * times for wait_s, times in ordered) / count, 3),
        "wait_p50_s": round(_quantile(ordered, count, 0.5), 3),
        "wait_p95_s": round(_quantile(ordered, count, 0.95), 3),
        "wait_max_s": round(ordered[-1][0], 3),
    }


def _quantile(ordered: Sequence[tuple[float, int]], count: int, part: float) -> float:
    seen = 0
    for wait_s, times in ordered:
        seen += times
        if seen >= part * count:
            return wait_s
    return ordered[-1][0]


def _stuck(course: Course) -> dict[str, Any]:
    job = course.job
    return {
        "line": job.number + 2,
        "kind": job.kind,
        "role": job.role,
        "shape": str(job.shape),
        "tasks": course.waiting,
        "why": course.stuck,
    }
