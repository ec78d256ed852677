"""What `meseta serve` and `meseta up` know of the scheduler of jobs."""

from __future__ import annotations

import os

from kernel.daemons import Daemon, Embedded


def _arguments(place: Embedded) -> list[str]:
    arguments = ["--master", place.master, "--http-port", str(place.ports[0]), "--work-dir", place.work_dir]
    return arguments if os.geteuid() == 0 else [*arguments, "--user", ""]  # Chronos' default is root; who is not root runs all as himself.


CHRONOS = Daemon("chronos", "chronos.main:command", (4400,), "/health", _arguments)
