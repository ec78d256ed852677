"""How often what a task needs fits a piece of an agent, and cutting it out of it. Pure: masters offer by it, frameworks launch by it.

What is reserved for a role, or one above it, is as good to it as what is not: a task needs so many cpus, and gets them of what is reserved
most narrowly first.
"""

from __future__ import annotations

from kernel.wire.resources import Amount, Key, Resources
from kernel.wire.values import ValueType, span_size, span_take

MANY = 1 << 62
_ANY_PORTS = Key("ports")
_PORTS = Key("ports", ValueType.RANGES)


class Shape:
    """What one task needs, made ready for fitting.

    exact: what must be there as it is (certain ports, sets, volumes); such a shape fits once at most. scalars: names beyond the
    four of the slots; wanted: those and the slots, as pairs. ports: how many of any. slack: revocable scalars by name. cpus, mem: not
    revocable; all_cpus, all_mem: of either kind.
    """

    __slots__ = (
        "all_cpus", "all_mem", "cpus", "disk", "exact", "gpus", "mem", "plain", "ports", "resources", "scalars", "slack", "wanted",
    )  # fmt: skip

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self.cpus, self.mem, self.disk, self.gpus = resources.cpus, resources.mem, resources.disk, resources.gpus
        self.ports = 0
        self.scalars: dict[str, int] = {}
        self.slack: dict[str, int] = {}
        exact: dict[Key, Amount] = {}
        for key, amount in (resources.other or {}).items():
            if key == _ANY_PORTS and isinstance(amount, int):
                self.ports = -(-amount // 1000)
            elif key == Key(key.name) and isinstance(amount, int):
                self.scalars[key.name] = amount
            elif key == Key(key.name, revocable=True) and isinstance(amount, int):
                self.slack[key.name] = amount
            else:
                exact[key] = amount
        self.exact = Resources(other=exact or None)
        self.plain = resources.other is None
        named = [("cpus", self.cpus), ("mem", self.mem), ("disk", self.disk), ("gpus", self.gpus), *self.scalars.items()]
        self.wanted = [(name, wanted) for name, wanted in named if wanted]
        self.all_cpus, self.all_mem = self.cpus + self.slack.get("cpus", 0), self.mem + self.slack.get("mem", 0)

    @property
    def corner(self) -> tuple[int, int]:
        """The cpus and mem by which agents are looked for: of slack, where any is wanted."""
        return (self.slack.get("cpus", 0), self.slack.get("mem", 0)) if self.slack else (self.cpus, self.mem)

    def fits(self, piece: Resources, uniform: bool) -> int:
        """How many of this shape can be cut out of the piece. uniform: nothing in the piece is reserved or revocable."""
        if not uniform:
            return self._fits_reserved(piece)
        times = MANY
        if self.cpus:
            times = piece.cpus // self.cpus
        if self.mem:
            times = min(times, piece.mem // self.mem)
        if self.disk:
            times = min(times, piece.disk // self.disk)
        if self.gpus:
            times = min(times, piece.gpus // self.gpus)
        return times if self.plain or not times else self._fits_rest(piece, times)

    def _fits_rest(self, piece: Resources, times: int) -> int:
        if self.slack:
            return 0
        other = piece.other or {}
        if self.exact:
            if not piece.contains(self.exact):
                return 0
            times = min(times, 1)
        for name, wanted in self.scalars.items():
            held = other.get(Key(name), 0)
            times = min(times, held // wanted if isinstance(held, int) else 0)
        if self.ports:
            spans = (piece.without(self.exact) if self.exact else piece).other or {}
            free = spans.get(_PORTS, ())
            times = min(times, span_size(free) // self.ports if isinstance(free, tuple) else 0)
        return times

    def _fits_reserved(self, piece: Resources) -> int:
        """The same where parts of a scalar are reserved: what counts is their sum."""
        if self.exact:
            if not piece.contains(self.exact):
                return 0
            piece = piece.without(self.exact)
        times = 1 if self.exact else MANY
        sums = _divisible(piece)
        for name, wanted in self.wanted:
            times = min(times, sum(amount for _, amount in sums.get(name, ())) // wanted)
        if self.ports:
            times = min(times, sum(span_size(spans) for _, spans in _port_spans(piece)) // self.ports)
        for name, wanted in self.slack.items():
            held = (piece.other or {}).get(Key(name, revocable=True), 0)
            times = min(times, held // wanted if isinstance(held, int) else 0)
        return times

    def cut(self, piece: Resources, times: int, uniform: bool) -> Resources:
        """So many of this shape out of a piece in which they fit; what is reserved most narrowly goes first."""
        if uniform and self.plain:
            return Resources(self.cpus * times, self.mem * times, self.disk * times, self.gpus * times)
        taken, rest = self.exact, piece.without(self.exact) if self.exact else piece
        sums = _divisible(rest)
        for name, wanted in self.wanted:
            missing = wanted * times
            for key, amount in sums[name]:
                part = min(missing, amount)
                if part:
                    taken += _scalar(key, name, part)
                    missing -= part
        for name, wanted in self.slack.items():
            taken += Resources(other={Key(name, revocable=True): wanted * times})
        missing = self.ports * times
        for key, spans in _port_spans(rest):
            if missing:
                part_spans = span_take(spans, missing)
                taken += Resources(other={key: part_spans})
                missing -= span_size(part_spans)
        return taken


def is_uniform(piece: Resources) -> bool:
    """Whether nothing in it is reserved or revocable."""
    return piece.other is None or not any(key.reservations or key.revocable for key in piece.other)


def _divisible(piece: Resources) -> dict[str, list[tuple[Key | None, int]]]:
    """Scalars that can be cut, by name: (key, amount), the narrowest reservation first, the unreserved (None) last."""
    found: dict[str, list[tuple[Key | None, int]]] = {}
    for key, amount in sorted((piece.other or {}).items(), key=lambda item: -len(item[0].role)):
        if isinstance(amount, int) and key.size is None and key.disk is None and not key.revocable:
            found.setdefault(key.name, []).append((key, amount))
    for name in ("cpus", "mem", "disk", "gpus"):
        if amount := getattr(piece, name):
            found.setdefault(name, []).append((None, amount))
    return found


def _port_spans(piece: Resources) -> list[tuple[Key, tuple[tuple[int, int], ...]]]:
    held = [
        (key, amount)
        for key, amount in (piece.other or {}).items()
        if key.name == "ports" and isinstance(amount, tuple) and not key.revocable
    ]
    return sorted(held, key=lambda item: -len(item[0].role))


def _scalar(key: Key | None, name: str, amount: int) -> Resources:
    if key is not None:
        return Resources(other={key: amount})
    return Resources(**{name: amount})  # type: ignore[arg-type]  # One of the four slots.
