"""What stands in the tree of roles: a role, the virtual child of a role, the root; and, as its leaves, frameworks in their roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kernel.master.allocator.demand import Wanted
from kernel.wire.offer import RoleConstraints

if TYPE_CHECKING:
    from kernel.master.allocator.demand import Demand, Entry
    from kernel.master.allocator.quota import Bound, Line
    from kernel.master.allocator.rooms import Room
    from kernel.master.allocator.state import Allocation, Framework

VIRTUAL = "."

PlaceKey = tuple[float, int, str, Any]  # Share, allocations, name, node: never compared, names differ.


class Node:
    """A role, the virtual child of a role, or the root.

    cpus .. extra: thousandths used or offered in its subtree. count: allocations ever made there. place: its entry in the parent's
    `wanting`, None when nothing below wants anything. owed: those of `wanting` below which something is owed; is_owed: whether it
    stands there itself. at, walk, lane: where the walk of that number stands in which list; those before it got nothing. bounds: the
    guarantees of the role itself. drawn: it stands by its lot, when it strikes next, and not by its share; struck: the latest lot below
    it that got something.
    """

    __slots__ = (
        "at", "bounds", "children", "count", "cpus", "disk", "drawn", "extra", "gpus", "is_owed", "lane", "lot", "mem", "name", "owed",
        "parent", "path", "place", "struck", "walk", "wanting", "weight",
    )  # fmt: skip

    def __init__(self, name: str, path: str, parent: Node | None, weight: float = 1.0) -> None:
        self.name, self.path, self.parent, self.weight = name, path, parent, weight
        self.cpus = self.mem = self.disk = self.gpus = self.count = 0
        self.extra: dict[str, int] | None = None
        self.place: PlaceKey | None = None
        self.children: dict[str, Node] = {}
        self.wanting: list[PlaceKey] = []
        self.owed: list[PlaceKey] = []
        self.is_owed = False
        self.lane = self.wanting
        self.at = self.walk = 0
        self.bounds: tuple[Bound, ...] = ()
        self.drawn, self.lot, self.struck = False, 0.0, 0.0

    @property
    def wants(self) -> bool:
        return bool(self.wanting)

    @property
    def owes(self) -> bool:
        """Whether all below may take on the role's own guarantee."""
        for bound in self.bounds:  # noqa: SIM110  # any() would cost more, and this is asked for each place in the walk.
            if bound.unmet > bound.below:
                return True
        return False

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in it or below."""
        return not self.children or (len(self.children) == 1 and VIRTUAL in self.children and not self.children[VIRTUAL].children)

    def change(self, cpus: int, mem: int, disk: int, gpus: int, extra: Mapping[str, int] | None) -> None:
        """So much more is used or offered below it. extra: other scalars by name."""
        self.cpus += cpus
        self.mem += mem
        self.disk += disk
        self.gpus += gpus
        if extra:
            self.change_extra(extra)

    def change_extra(self, extra: Mapping[str, int]) -> None:
        held = self.extra if self.extra is not None else {}
        for name, amount in extra.items():
            held[name] = held.get(name, 0) + amount
        self.extra = {name: amount for name, amount in held.items() if amount} or None


class Leaf(Node):
    """One framework in one of its roles.

    subscribed: the role is one of the framework's (else it only still holds something there). minimums: an offer reaches all
    amounts of one of these. constraints: the framework's, for offers of the role. entries: its demand, if it states one; open: those
    that need something and have turns, needed in all; gangs: those that have none, as they need several tasks placed at once; rooms:
    where they may fit; alike: entries by `demand.likeness`; answered: what the offers covered that were closed last. generation,
    soft_generation: refusals made under an older number are void; refusals, soft_refusals: how many of either kind are in force.
    lines: what quotas bound it; apart: what of its resources is reserved or revocable, by name; capped: at a limit, so that it is
    left out until it may have more; parked: where it waits for that. slack_open: how many of `open` want something revocable.
    """

    __slots__ = (
        "alike", "answered", "apart", "capped", "constraints", "entries", "framework", "gangs", "generation", "lines", "minimums",
        "needed", "offers", "open", "parked", "refusals", "role", "rooms", "slack_open", "slack_wanted", "soft_generation", "soft_refusals",
        "softly_refused",
        "subscribed", "suppressed", "wanted",
    )  # fmt: skip

    def __init__(self, framework: Framework, role: str, parent: Node, wanted: Wanted, slack_wanted: Wanted) -> None:
        super().__init__(framework.framework_id, role, parent)
        self.wanted, self.slack_wanted = wanted, slack_wanted
        self.framework, self.role = framework, role
        self.subscribed, self.suppressed = True, False
        self.minimums: tuple[Mapping[str, int], ...] = ()
        self.constraints: RoleConstraints | None = None
        self.entries: dict[Demand, Entry] = {}
        self.open: dict[Entry, None] = {}
        self.gangs: dict[Entry, None] = {}
        self.rooms: dict[object, Room] = {}
        self.answered: list[tuple[Entry, int]] = []
        self.alike: dict[object, list[Entry]] = {}
        self.needed = self.slack_open = 0
        self.offers: dict[Allocation, None] = {}
        self.generation = self.soft_generation = 0
        self.refusals = self.soft_refusals = 0
        self.softly_refused = False
        self.lines: tuple[Line, ...] = ()
        self.apart: dict[str, int] | None = None
        self.capped = False
        self.parked: dict[Bound, None] = {}

    def unreserved(self, name: str) -> int:
        """How much of an unreserved, non-revocable scalar it uses or is offered."""
        if name in ("cpus", "mem", "disk", "gpus"):
            held: int = getattr(self, name)
        else:
            held = (self.extra or {}).get(name, 0)
        return held - (self.apart or {}).get(name, 0)

    @property
    def wants(self) -> bool:
        return not self.capped and self.waits

    @property
    def takes_slack(self) -> bool:
        """Whether what is revocable is of use to it."""
        return self.framework.options.revocable and (self.slack_open > 0 or not self.framework.demands)

    @property
    def live(self) -> bool:
        """Whether its framework is there and takes offers for it."""
        return self.subscribed and not self.suppressed and self.framework.active

    @property
    def waits(self) -> bool:
        """Whether it would take more, if it might have it. Gangs are not asked."""
        if self.suppressed or not self.subscribed or not self.framework.active:
            return False
        return self.needed > 0 if self.framework.demands else True
