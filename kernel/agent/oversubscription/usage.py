"""What executors have used of late, from measurements. Pure: times are told.

Usage is counted by container, for containers of one executor come and go; an executor's is their sum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct

from kernel.agent.isolators.limits import Usage

MIB = 1 << 20

ExecutorKey = tuple[str, str]  # Framework id, executor id.


class Work(Struct, frozen=True):
    """An executor that lives, command tasks included. containers: their ids. cpus, mem: what it was given for good; lent_cpus, lent_mem:
    as revocable; thousandths. launched_s: when, any clock."""

    key: ExecutorKey
    containers: tuple[str, ...]
    cpus: int = 0
    mem: int = 0
    lent_cpus: int = 0
    lent_mem: int = 0
    launched_s: float = 0.0

    @property
    def revocable(self) -> bool:
        return bool(self.lent_cpus or self.lent_mem)


class Use(Struct, frozen=True):
    """What an executor uses: cpus, mem at the last measurement; peak_cpus, peak_mem: at most within the window. Thousandths of cpus and
    of MiB. observed_s: how long each of its containers has been looked at, at least."""

    cpus: int = 0
    mem: int = 0
    peak_cpus: int = 0
    peak_mem: int = 0
    observed_s: float = 0.0


class _Peak:
    """The largest of the values of a window. Keeps only those that may still become it."""

    def __init__(self) -> None:
        self._values: deque[tuple[float, int]] = deque()

    def add(self, at_s: float, value: int, window_s: float) -> int:
        values = self._values
        while values and values[-1][1] <= value:
            values.pop()
        values.append((at_s, value))
        while values[0][0] < at_s - window_s:
            values.popleft()
        return values[0][1]


class _Series:
    """Of one container. cpu_s: all the time of cpus it has used by the last measurement."""

    def __init__(self, at_s: float, cpu_s: float, mem: int) -> None:
        self.began_s = self.at_s = at_s
        self.cpu_s, self.mem = cpu_s, mem
        self.cpus: int | None = None  # Not known before the second measurement.
        self.peak_cpus = self.peak_mem = 0
        self._cpus, self._mem = _Peak(), _Peak()

    def add(self, at_s: float, cpu_s: float, mem: int, window_s: float) -> None:
        if at_s <= self.at_s:
            return
        self.cpus = max(0, round((cpu_s - self.cpu_s) / (at_s - self.at_s) * 1000))  # Less: a process has ended, its time with it.
        self.at_s, self.cpu_s, self.mem = at_s, cpu_s, mem
        self.peak_cpus = self._cpus.add(at_s, self.cpus, window_s)
        self.peak_mem = self._mem.add(at_s, mem, window_s)


class History:
    """What the containers of an agent used within the window."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._series: dict[str, _Series] = {}

    def observe(self, at_s: float, usages: Mapping[str, Usage], live: Collection[str]) -> None:
        """Take a measurement in; forget containers that live no more."""
        for container_id in [name for name in self._series if name not in live]:
            del self._series[container_id]
        for container_id, usage in usages.items():
            if container_id not in live or usage.user_s is None or usage.system_s is None:
                continue
            cpu_s, mem = usage.user_s + usage.system_s, _resident(usage)
            known = self._series.get(container_id)
            if known is None:
                self._series[container_id] = _Series(at_s, cpu_s, mem)
            else:
                known.add(at_s, cpu_s, mem, self._window_s)

    def use(self, work: Work) -> Use | None:
        """What an executor uses; None while that is not known of all its containers."""
        found = [self._series[name] for name in work.containers if name in self._series]
        if not found or len(found) < len(work.containers) or any(series.cpus is None for series in found):
            return None
        return Use(
            sum(series.cpus or 0 for series in found),
            sum(series.mem for series in found),
            sum(series.peak_cpus for series in found),
            sum(series.peak_mem for series in found),
            min(series.at_s - series.began_s for series in found),
        )


def _resident(usage: Usage) -> int:
    """What cannot be had back without an end, thousandths of MiB: the kernel's cache of files can."""
    in_use = usage.rss_bytes if usage.rss_bytes is not None else usage.mem_bytes
    return (in_use or 0) * 1000 // MIB


def containers_of(works: Iterable[Work]) -> set[str]:
    return {container_id for work in works for container_id in work.containers}
