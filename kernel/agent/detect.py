"""What this machine has to offer, and who it is (spec: mesos-v1, section 6.1)."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from kernel.agent.gpus import NO_GPUS, Gpu, GpusFound, offered
from kernel.agent.volumes.places import root_of
from kernel.daemons import PORTS_OFFERED, RESERVED_DISK_MB, RESERVED_MEM_MB
from kernel.errors import CallError, ConfigError
from kernel.wire.conversion import checkpointed
from kernel.wire.resources import Resource, Resources

PLAIN_NAMES = ("cpus", "mem", "disk")


class Offered(Struct, frozen=True):
    """What there is to announce. detected: names of what no operator gave; gpus: which the resource of this name stands for."""

    resources: tuple[Resource, ...]
    detected: tuple[str, ...]
    gpus: tuple[Gpu, ...]


def resources(
    given: str, default_role: str, work_dir: Path, gpus: GpusFound = NO_GPUS, gpu_devices: Collection[int] | None = None
) -> Offered:
    """The resources to announce: what was given, and detected what it does not name. gpu_devices: numbers of the GPUs that may be
    offered, None all. Raises ConfigError.

    Of memory 1 GB is left to the system, of the disk 5 GB; of a small machine half.
    """
    try:
        total = Resources.parse(given, default_role, "--resources") if given.strip() else Resources()
        named = {message.name for message in total.messages()} | _named(given)
        count = total.scalars().get("gpus", 0) // 1000 if "gpus" in named else None
        chosen = offered(gpus.found, gpu_devices, count, gpus.trouble)
        guessed = detected(work_dir) | ({"gpus": str(len(chosen))} if chosen else {})
        names = tuple(name for name in guessed if name not in named)
        for name in names:
            total += Resources.parse(f"{name}:{guessed[name]}", default_role, "--resources")
        _check(total, work_dir)
    except CallError as error:
        raise ConfigError(str(error)) from error
    return Offered(total.messages(), names, chosen)


def _check(total: Resources, work_dir: Path) -> None:
    """What is there from the start. Raises CallError."""
    made = checkpointed(total)
    if made:
        raise CallError(
            f"--resources: {{{made}}} is reserved dynamically or a volume: such are made by operations; static reservations are allowed"
        )
    for key in total.other or ():
        try:
            root = root_of(str(work_dir), key)
        except CallError as error:
            raise CallError(f"--resources: {error}") from error
        if root is not None and not os.path.isdir(root):
            raise CallError(f"--resources: disk.source: {root} is no folder of this machine")


def _named(given: str) -> set[str]:
    """What the text form of resources names, be it an amount of nothing: `gpus:0` offers none."""
    return set() if given.lstrip().startswith("[") else {part.partition(":")[0].partition("(")[0].strip() for part in given.split(";")}


def detected(work_dir: Path) -> dict[str, str]:
    """This machine's resources by name, as text. Memory and disk in megabytes."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    disk = os.statvfs(work_dir)
    disk_mb = disk.f_frsize * disk.f_blocks >> 20
    first, last = PORTS_OFFERED
    return {
        "cpus": str(len(os.sched_getaffinity(0)) or 1),
        "mem": str(memory_mb - RESERVED_MEM_MB if memory_mb >= 2 * RESERVED_MEM_MB else memory_mb // 2),
        "disk": str(disk_mb - RESERVED_DISK_MB if disk_mb >= 2 * RESERVED_DISK_MB else disk_mb // 2),
        "ports": f"[{first}-{last}]",
    }


def boot_id() -> str:
    """The kernel's name for the time since it started; another one after each restart of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
