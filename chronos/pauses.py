"""Whose slots are skipped for a while."""

from __future__ import annotations

import logging

import msgspec
from msgspec import Struct

from chronos.job import Job

log = logging.getLogger(__name__)


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


def read_pauses(body: bytes) -> Pauses:
    """What was stored. Where it makes no sense all jobs are paused, as somebody paused some for a reason."""
    try:
        return msgspec.json.decode(body, type=Pauses)
    except msgspec.MsgspecError as error:
        log.error("all jobs are paused: what was stored of pauses cannot be read (`meseta cron resume --all` ends that): %s", error)
        return Pauses(everything=True)
