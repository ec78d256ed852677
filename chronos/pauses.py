"""Whose slots are skipped for a while."""

from __future__ import annotations

from msgspec import Struct

from chronos.job import Job


class Pauses(Struct, frozen=True):
    """Of all jobs, of some, of those with some label (`KEY=VALUE`)."""

    everything: bool = False
    jobs: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()

    def of(self, job: Job) -> str:
        """Why a job is paused, "" if it is not."""
        if self.everything:
            return "all jobs are paused"
        if job.name in self.jobs:
            return "the job is paused"
        label = next((f"{key}={value}" for key, value in job.more.labels.items() if f"{key}={value}" in self.labels), None)
        return f"jobs with the label {label} are paused" if label is not None else ""
