"""What containers are held to, and what they use. Values only; who holds them is beside this module."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct

from kernel.wire.resources import Resource, Resources
from kernel.wire.values import Scalar

SHARES_A_CPU, SHARES_A_REVOCABLE_CPU = 1024, 10
SHARES_MIN = 2


class Limits(Struct, frozen=True, gc=False):
    """What a container is held to. cpu_milli: its share when cpus are scarce; mem_mib: what it was given. At most, None for any
    amount: cpu_limit_milli, mem_limit_mib, pids_max (processes and threads), disk_mib (of its sandbox). allowed, denied: devices of
    GPUs, as `c MAJOR:MINOR`. yields: when cpus are scarce, it gets next to nothing beside others."""

    cpu_milli: int
    mem_mib: int
    cpu_limit_milli: int | None = None
    mem_limit_mib: int | None = None
    pids_max: int | None = None
    disk_mib: int | None = None
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    yields: bool = False

    @property
    def cpu_shares(self) -> int:
        """Its weight, as cgroups of version 1 count it."""
        return max(SHARES_MIN, self.cpu_milli * (SHARES_A_REVOCABLE_CPU if self.yields else SHARES_A_CPU) // 1000)


class Usage(Struct, frozen=True, gc=False):
    """What a container uses and has used. Times are seconds; memory is bytes. None: nobody counts it here."""

    user_s: float | None = None
    system_s: float | None = None
    mem_bytes: int | None = None
    mem_peak_bytes: int | None = None
    mem_limit_bytes: int | None = None
    rss_bytes: int | None = None
    cache_bytes: int | None = None
    mapped_bytes: int | None = None
    periods: int | None = None
    throttled: int | None = None
    throttled_s: float | None = None
    processes: int | None = None
    threads: int | None = None
    disk_bytes: int | None = None


def limits_of(
    given: Iterable[Resource], beyond: Mapping[str, Scalar], *, quota: bool, pids_max: int | None, low_priority: bool = False
) -> Limits:
    """The limits that resources mean. beyond: `limits` of a task, how far it may go beyond what it was given (infinite: as far as
    there is any). quota: hold it to its cpus also while others leave some unused. low_priority: let it yield if its cpus are revocable."""
    resources = Resources.of(tuple(given))
    if resources.other is not None:  # Volumes and disks of their own are no part of the sandbox.
        resources = resources.where(lambda key: key.disk is None, plain=True)
    held = resources.scalars()
    cpu_milli, mem_milli = held.get("cpus", 0), held.get("mem", 0)
    cpu_limit = _milli(beyond["cpus"]) if "cpus" in beyond else cpu_milli if quota else None
    mem_limit = _milli(beyond["mem"]) if "mem" in beyond else mem_milli
    disk_mib = held["disk"] // 1000 if "disk" in held else None
    yields = low_priority and any(key.revocable and key.name == "cpus" for key in resources.other or ())
    mem_limit_mib = None if mem_limit is None else mem_limit // 1000
    return Limits(cpu_milli, mem_milli // 1000, cpu_limit, mem_limit_mib, pids_max, disk_mib, yields=yields)


def _milli(limit: Scalar) -> int | None:
    return None if math.isinf(limit.value) else round(limit.value * 1000)
