"""Sums of resources over many agents, kept up to date by each change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from kernel.wire.resources import Amount, Key, Resources, quantity
from kernel.wire.values import coalesce


class Quantities:
    """One sum. Scalars that every agent has are thousandths; of all else it is known how often there is how much, because
    ranges and sets, which many agents have alike, do not add up."""

    __slots__ = ("cpus", "disk", "gpus", "mem", "other")

    def __init__(self) -> None:
        self.cpus = self.mem = self.disk = self.gpus = 0
        self.other: dict[tuple[Key, Amount], int] = {}

    def __bool__(self) -> bool:
        return bool(self.cpus or self.mem or self.disk or self.gpus or self.other)

    def add(self, more: Resources) -> None:
        self._change(more, 1)

    def take(self, less: Resources) -> None:
        self._change(less, -1)

    def copy(self) -> Quantities:
        """The same sum, which does not change with this one."""
        copied = Quantities()
        copied.cpus, copied.mem, copied.disk, copied.gpus = self.cpus, self.mem, self.disk, self.gpus
        copied.other = dict(self.other)
        return copied

    def _change(self, amount: Resources, sign: int) -> None:
        self.cpus += sign * amount.cpus
        self.mem += sign * amount.mem
        self.disk += sign * amount.disk
        self.gpus += sign * amount.gpus
        if amount.other is not None:
            other = self.other
            for held in amount.other.items():
                times = other.get(held, 0) + sign
                if times:
                    other[held] = times
                else:
                    del other[held]

    def scalars(self, *, free_only: bool = False) -> Counter[str]:
        """Thousandths by name, ranges and sets by their size; names with nothing are left out. free_only: without what is
        reserved."""
        sums = Counter({"cpus": self.cpus, "mem": self.mem, "disk": self.disk, "gpus": self.gpus})
        for (key, amount), times in self.other.items():
            if not (free_only and key.reservations):
                sums[key.name] += quantity(key, amount) * times
        return Counter({name: milli for name, milli in sums.items() if milli})


class Holdings:
    """What a framework holds, by role."""

    __slots__ = ("by_role",)

    def __init__(self) -> None:
        self.by_role: dict[str, Quantities] = {}

    def add(self, role: str, more: Resources) -> None:
        if not more:
            return
        quantities = self.by_role.get(role)
        if quantities is None:
            quantities = self.by_role[role] = Quantities()
        quantities.add(more)

    def take(self, role: str, less: Resources) -> None:
        if not less:  # What holds nothing is no reason to know the role.
            return
        quantities = self.by_role[role]
        quantities.take(less)
        if not quantities:
            del self.by_role[role]

    def total(self) -> Resources:
        """All of it; of ranges and sets their union."""
        return total(self.by_role.values())


def total(sums: Iterable[Quantities]) -> Resources:
    """Several sums as one amount; of ranges and sets the union."""
    cpus = mem = disk = gpus = 0
    other: dict[Key, Amount] = {}
    spans: dict[Key, list[tuple[int, int]]] = {}
    for part in sums:
        cpus += part.cpus
        mem += part.mem
        disk += part.disk
        gpus += part.gpus
        for (key, amount), times in part.other.items():
            held = other.get(key)
            if isinstance(amount, int):
                other[key] = amount * times + (held if isinstance(held, int) else 0)
            elif isinstance(amount, tuple):
                spans.setdefault(key, []).extend(amount)
            else:
                other[key] = amount | (held if isinstance(held, frozenset) else frozenset())
    for key, pairs in spans.items():
        other[key] = coalesce(sorted(pairs))
    return Resources(cpus, mem, disk, gpus, other or None)
