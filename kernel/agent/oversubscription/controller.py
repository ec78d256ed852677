"""When what is lent must be taken back, and from whom first (spec: mesos-v1, section 8.9). Pure.

An executor with anything revocable counts as lent to as a whole, as in Mesos. For cpus the newest are ended first, for they lose least;
for memory the largest, for these help most. Ties go by framework and executor id.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from kernel.agent.oversubscription.config import LOAD, USAGE, ControllerParameters
from kernel.agent.oversubscription.usage import ExecutorKey, Use, Work
from kernel.wire.values import format_milli

Measured = Sequence[tuple[Work, Use | None]]
UNKNOWN = Use()


class Machine(Struct, frozen=True):
    """What is measured of the machine as a whole. load_5, load_15: its load averages; mem, mem_available: MiB, 0 when not known."""

    load_5: float = 0.0
    load_15: float = 0.0
    mem: int = 0
    mem_available: int = 0


class Correction(Struct, frozen=True):
    """End this executor. why: for its framework."""

    work: Work
    why: str


class Controller:
    """Remembers what it found before, so that a moment is no reason."""

    def __init__(self, kind: str, parameters: ControllerParameters, interval_s: float) -> None:
        """interval_s: the least time between two corrections."""
        self._kind, self._parameters, self._interval_s = kind, parameters, interval_s
        self._found = 0  # Measurements in a row with too few cpus left.
        self._corrected_s = self._strained_s = float("-inf")

    def corrections(self, at_s: float, works: Measured, cpus: int, machine: Machine) -> list[Correction]:
        """Whom to end now. works: those that live and are not being ended; cpus: what the agent has for good, thousandths."""
        if self._kind == LOAD:
            wanted = self._for_load(works, machine)
        elif self._kind == USAGE:
            wanted = self._for_memory(works, machine) or self._for_cpus(works, cpus)
        else:
            return []
        if not wanted:
            return []
        self._strained_s = at_s
        if at_s < self._corrected_s + self._interval_s:
            return []
        self._corrected_s, self._found = at_s, 0
        return wanted

    def is_calm(self, at_s: float) -> bool:
        """Whether anything may be lent: else what was taken back would be given to the next."""
        return at_s >= self._strained_s + self._parameters.calm_s

    # ---- Reasons ----------------------------------------------------------------------------------------

    def _for_load(self, works: Measured, machine: Machine) -> list[Correction]:
        limits = ((5, machine.load_5, self._parameters.load_threshold_5min), (15, machine.load_15, self._parameters.load_threshold_15min))
        for minutes, load, limit in limits:
            if limit is not None and load > limit:
                why = f"preempted: the machine's load of {minutes} minutes is {load:g}, which is more than {limit:g}"
                return [Correction(work, why) for work, _ in works if work.revocable]
        return []

    def _for_cpus(self, works: Measured, cpus: int) -> list[Correction]:
        """The agent is busy, and what is lent does not fit beside what others use."""
        firm = sum((use or UNKNOWN).cpus for work, use in works if not work.revocable)
        used = sum((use or UNKNOWN).cpus for _, use in works)
        lent = sum(work.lent_cpus for work, _ in works)
        if not lent or firm + lent <= cpus or used < cpus * self._parameters.busy:
            self._found = 0
            return []
        self._found += 1
        if self._found < self._parameters.patience:
            return []
        why = (
            f"preempted: tasks that may not be preempted use {format_milli(firm)} of the agent's {format_milli(cpus)} cpus, "
            f"and {format_milli(lent)} are lent"
        )
        return _until(max(0, cpus - firm), lent, sorted((work for work, _ in works if work.lent_cpus), key=_newest), why)

    def _for_memory(self, works: Measured, machine: Machine) -> list[Correction]:
        """The machine runs out of memory."""
        missing = round(machine.mem * self._parameters.memory_least) - machine.mem_available
        if machine.mem <= 0 or missing <= 0:
            return []
        why = (
            f"preempted: {machine.mem_available} of the machine's {machine.mem} MB of memory are available, "
            f"which is less than {self._parameters.memory_least:.0%}"
        )
        found = []
        lent = [(work, use) for work, use in works if work.revocable and use is not None and use.mem]
        for work, use in sorted(lent, key=lambda pair: (-pair[1].mem, *_newest(pair[0]))):
            found.append(Correction(work, why))
            missing -= use.mem // 1000
            if missing <= 0:
                break
        return found


def _newest(work: Work) -> tuple[float, ExecutorKey]:
    return (-work.launched_s, work.key)


def _until(room: int, lent: int, order: Sequence[Work], why: str) -> list[Correction]:
    """As many as it takes, so that what is lent fits again."""
    found = []
    for work in order:
        if lent <= room:
            break
        found.append(Correction(work, why))
        lent -= work.lent_cpus
    return found
