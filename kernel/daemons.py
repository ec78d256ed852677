"""What `meseta serve` and `meseta up` know of a daemon without importing it.

The entry-point group `meseta.daemons` names one `Daemon` per daemon. Modules holding one import nothing heavy:
`up` reads them all, and whoever asks for `--help` reads their summaries.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NamedTuple

LOOPBACK = "127.0.0.1"
PORTS_OFFERED = (31000, 32000)  # What an agent offers to tasks, as in Mesos.
RESERVED_MEM_MB = 1024  # Left to the system, as in Mesos; of a small machine half.
RESERVED_DISK_MB = 5 * 1024


class Embedded(NamedTuple):
    """One daemon's place in the embedded cluster.

    work_dir: its own, absolute. ports: its own, shifted already. master: URL of the master. number, total: which of how
    many of its kind it is, from 1.
    """

    work_dir: str
    ports: tuple[int, ...]
    master: str
    number: int
    total: int


class Daemon(NamedTuple):
    """A daemon. main: `module:attribute` of its click command. ports: before any offset; the first serves HTTP.

    health: path on the first port that answers 200 once the daemon works; None: it works as soon as it runs.
    arguments: its command line in the embedded cluster, after `meseta serve NAME`. many: `--agents` says how many, and
    the second and later ones listen on `many_port` + number. end_signal: makes it end its tasks before it stops.
    stop_phase: lower ones are stopped first.
    """

    name: str
    main: str
    ports: tuple[int, ...]
    health: str | None
    arguments: Callable[[Embedded], list[str]]
    many_port: int | None = None
    end_signal: int = signal.SIGTERM
    stop_phase: int = 0


def _master_arguments(place: Embedded) -> list[str]:
    # On one machine, GPUs kept for those who ask for them would keep everybody else from all of it.
    return ["--ip", LOOPBACK, "--port", str(place.ports[0]), "--work-dir", place.work_dir, "--no-filter-gpu-resources"]


def _agent_arguments(place: Embedded) -> list[str]:
    arguments = ["--master", place.master, "--ip", LOOPBACK, "--port", str(place.ports[0]), "--work-dir", place.work_dir]
    if not any(f"{prefix}RECONFIGURATION_POLICY" in os.environ for prefix in ("MESETA_", "MESOS_")):
        arguments += ["--reconfiguration-policy", "any"]  # How many share the machine may change while tasks run.
    if place.total > 1:  # Several agents must not offer the same machine twice; a single one detects for itself.
        arguments += ["--resources", share(place.work_dir, place.number, place.total)]
    return arguments


def share(work_dir: str, number: int, total: int) -> str:
    """One agent's part of this machine, in the text form of resources: everything divided by the number of agents, but the GPUs, which
    are the first one's."""
    cpus = len(os.sched_getaffinity(0)) / total
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    while not os.path.isdir(work_dir):
        work_dir = os.path.dirname(work_dir)
    disk = os.statvfs(work_dir)
    disk_mb = disk.f_frsize * disk.f_blocks >> 20
    first, last = PORTS_OFFERED
    ports = (last - first + 1) // total
    begin = first + (number - 1) * ports
    return (
        f"cpus:{cpus:g};mem:{max(memory_mb - RESERVED_MEM_MB, memory_mb // 2) // total};"
        f"disk:{max(disk_mb - RESERVED_DISK_MB, disk_mb // 2) // total};ports:[{begin}-{begin + ports - 1}]"
        f"{'' if number == 1 else ';gpus:0'}"
    )


MASTER = Daemon("master", "kernel.master.main:command", (5050,), "/health", _master_arguments, stop_phase=2)
AGENT = Daemon(
    "agent", "kernel.agent.main:command", (5051,), "/health", _agent_arguments, many_port=15050, end_signal=signal.SIGUSR2, stop_phase=1
)
