"""What a process tells of its machine and of itself (spec: mesos-v1, section 5.4, `system/`)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping


class Uptime:
    """For how long this process has run, by when this was made."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self._started_s


def machine() -> dict[str, float]:
    """This machine: cpus, load, memory; what the system does not tell is left out. Also what this process has in memory."""
    found = {"system/cpus_total": float(os.cpu_count() or 1)}
    try:
        found |= zip(("system/load_1min", "system/load_5min", "system/load_15min"), os.getloadavg(), strict=True)
    except OSError:
        pass
    kib = _fields("/proc/meminfo")
    if "MemTotal" in kib:
        free = kib.get("MemAvailable", kib.get("MemFree", 0))
        found |= {"system/mem_total_bytes": kib["MemTotal"] * 1024.0, "system/mem_free_bytes": free * 1024.0}
    resident = _fields("/proc/self/status").get("VmRSS")
    if resident is not None:
        found["process/resident_memory_bytes"] = resident * 1024.0
    return found


def _fields(path: str) -> Mapping[str, int]:
    """The numbers of a file of `Name: 123 kB` lines."""
    try:
        with open(path) as file:
            parts = [line.split() for line in file]
    except OSError:
        return {}
    return {line[0].removesuffix(":"): int(line[1]) for line in parts if len(line) > 1 and line[1].isdigit()}
