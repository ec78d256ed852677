"""What `meseta serve` and `meseta up` know of the scheduler of jobs."""

from __future__ import annotations

from kernel.daemons import Daemon, Embedded


def _arguments(place: Embedded) -> list[str]:
    return ["--master", place.master, "--http-port", str(place.ports[0]), "--work-dir", place.work_dir]


CHRONOS = Daemon("chronos", "chronos.main:command", (4400,), "/health", _arguments)
