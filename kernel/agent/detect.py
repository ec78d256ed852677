"""What this machine has to offer, and who it is (spec: mesos-v1, section 6.1)."""

from __future__ import annotations

import os
from pathlib import Path

from kernel.daemons import PORTS_OFFERED, RESERVED_DISK_MB, RESERVED_MEM_MB
from kernel.errors import CallError, ConfigError
from kernel.wire.resources import Resource, Resources

PLAIN_NAMES = ("cpus", "mem", "disk")


def resources(given: str, default_role: str, work_dir: Path) -> tuple[Resource, ...]:
    """The resources to announce: what was given, and detected what it does not name. Raises ConfigError.

    Of memory 1 GB is left to the system, of the disk 5 GB; of a small machine half.
    """
    try:
        total = Resources.parse(given, default_role, "--resources") if given.strip() else Resources()
        named = {message.name for message in total.messages()}
        for name, text in detected(work_dir).items():
            if name not in named:
                total += Resources.parse(f"{name}:{text}", default_role, "--resources")
    except CallError as error:
        raise ConfigError(str(error)) from error
    return total.messages()


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
