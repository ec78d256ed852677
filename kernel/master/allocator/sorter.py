"""Who is next: the tree of roles with frameworks as leaves, ordered by weighted dominant share (spec: mesos-v1, section 7.3).

Each node holds what is used or offered below it. Siblings that want something stand in a list sorted by (share, number of
allocations so far, name); a depth-first walk through these lists is the order of DRF. A framework in `eng` competes with the roles below
`eng` inside the virtual child `eng/.`, which weighs 1. Sums change at once, places lazily (`refresh`) or, during a walk, in place.

Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011; hierarchical as in Mesos.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kernel.master.allocator.demand import MANY, Shape, Wanted
from kernel.wire.offer import RoleConstraints
from kernel.wire.resources import Resources

if TYPE_CHECKING:
    from kernel.master.allocator.demand import Demand, Entry
    from kernel.master.allocator.state import Allocation, Framework

VIRTUAL = "."
# Two demands of equal weight take turns; so small a difference of shares is not worth another turn.
SLACK = 0.001

PlaceKey = tuple[float, int, str, Any]  # Share, allocations, name, node: never compared, names differ.


class Node:
    """A role, the virtual child of a role, or the root.

    cpus .. extra: thousandths used or offered in its subtree. count: allocations ever made there. place: its entry in the parent's
    `wanting`, None when nothing below wants anything. at, walk: where the walk of that number stands in `wanting`; those before it
    got nothing.
    """

    __slots__ = (
        "at", "children", "count", "cpus", "disk", "extra", "gpus", "mem", "name", "parent", "path", "place", "walk", "wanting", "weight",
    )  # fmt: skip

    def __init__(self, name: str, path: str, parent: Node | None, weight: float = 1.0) -> None:
        self.name, self.path, self.parent, self.weight = name, path, parent, weight
        self.cpus = self.mem = self.disk = self.gpus = self.count = 0
        self.extra: dict[str, int] | None = None
        self.place: PlaceKey | None = None
        self.children: dict[str, Node] = {}
        self.wanting: list[PlaceKey] = []
        self.at = self.walk = 0

    @property
    def wants(self) -> bool:
        return bool(self.wanting)


class Leaf(Node):
    """One framework in one of its roles.

    subscribed: the role is one of the framework's (else it only still holds something there). minimums: an offer reaches all
    amounts of one of these. constraints: the framework's, for offers of the role. entries: its demand, if it states one; open: those
    that need something, needed in all; alike: entries by `demand.likeness`. generation, soft_generation: refusals made under an older
    number are void; refusals, soft_refusals: how many of either kind are in force.
    """

    __slots__ = (
        "alike", "constraints", "entries", "framework", "generation", "minimums", "needed", "offers", "open", "refusals", "role",
        "soft_generation", "soft_refusals", "softly_refused", "subscribed", "suppressed", "wanted",
    )  # fmt: skip

    def __init__(self, framework: Framework, role: str, parent: Node, wanted: Wanted) -> None:
        super().__init__(framework.framework_id, role, parent)
        self.wanted = wanted
        self.framework, self.role = framework, role
        self.subscribed, self.suppressed = True, False
        self.minimums: tuple[Mapping[str, int], ...] = ()
        self.constraints: RoleConstraints | None = None
        self.entries: dict[Demand, Entry] = {}
        self.open: dict[Entry, None] = {}
        self.alike: dict[object, list[Entry]] = {}
        self.needed = 0
        self.offers: dict[Allocation, None] = {}
        self.generation = self.soft_generation = 0
        self.refusals = self.soft_refusals = 0
        self.softly_refused = False

    @property
    def wants(self) -> bool:
        if self.suppressed or not self.subscribed or not self.framework.active:
            return False
        return self.needed > 0 if self.framework.demands else True


class RoleTree:
    """The tree, its totals and its order."""

    def __init__(self, excluded: frozenset[str]) -> None:
        """excluded: names of resources that do not count into shares."""
        self.excluded = excluded
        self.root = Node("", "", None)
        self.wanted = Wanted()
        self.takers: set[Leaf] = set()  # Leaves in their places that want whole agents.
        self.roles: dict[str, Node] = {}
        self.weights: dict[str, float] = {}
        self.totals: dict[str, int] = {}
        self._cpus = self._mem = self._disk = self._gpus = math.inf
        self._walks = 0
        self._stale: dict[Node, None] = {}
        self._all_stale = False

    # ---- the tree ---------------------------------------------------------------------------------------

    def role(self, path: str) -> Node:
        """The node of a role, made when new."""
        node = self.roles.get(path)
        if node is None:
            above, _, name = path.rpartition("/")
            parent = self.role(above) if above else self.root
            if above and VIRTUAL not in parent.children:
                self._make_virtual(parent)
            node = self.roles[path] = Node(name, path, parent, self.weights.get(path, 1.0))
            parent.children[name] = node
        return node

    def _make_virtual(self, role: Node) -> None:
        """The role gets its first role below: its frameworks move into the virtual child."""
        virtual = Node(VIRTUAL, role.path, role)
        virtual.children, role.children = role.children, {VIRTUAL: virtual}
        virtual.wanting, role.wanting = role.wanting, []
        virtual.cpus, virtual.mem, virtual.disk, virtual.gpus, virtual.count = role.cpus, role.mem, role.disk, role.gpus, role.count
        virtual.extra = role.extra.copy() if role.extra is not None else None
        for child in virtual.children.values():
            child.parent = virtual
        self._relist(virtual)
        self._stale[role] = None

    def add_leaf(self, framework: Framework, role: str) -> Leaf:
        home = self.role(role)
        home = home.children.get(VIRTUAL, home)
        leaf = Leaf(framework, role, home, self.wanted)
        home.children[leaf.name] = leaf
        self._stale[leaf] = None
        return leaf

    def remove_leaf(self, leaf: Leaf) -> None:
        """Take a leaf out; what it still held no longer counts. Roles without anybody go too."""
        node: Node = leaf
        self.add(leaf, -leaf.cpus, -leaf.mem, -leaf.disk, -leaf.gpus, {name: -held for name, held in (leaf.extra or {}).items()})
        while node.parent is not None and _is_empty(node):
            parent = node.parent
            if node.name == VIRTUAL:  # Goes with its role: what is below a role never changes its level again.
                self._stale[node] = None
            else:
                self._unlist(node)
                self._stale.pop(node, None)
                del parent.children[node.name]
                if self.roles.get(node.path) is node:
                    del self.roles[node.path]
                node.parent = None  # Whoever still refers to it changes nothing here.
            node = parent
        if node.parent is not None:
            self._stale[node] = None

    def set_weight(self, path: str, weight: float) -> None:
        self.weights[path] = weight
        if path in self.roles:
            self.roles[path].weight = weight
            self._stale[self.roles[path]] = None

    def leaves(self, node: Node) -> Iterator[Leaf]:
        """All leaves below."""
        for child in node.children.values():
            if isinstance(child, Leaf):
                yield child
            else:
                yield from self.leaves(child)

    # ---- sums -------------------------------------------------------------------------------------------

    def set_totals(self, totals: dict[str, int]) -> None:
        """What the cluster has, thousandths by name. Every share changes."""
        self.totals = totals
        counted = {name: total or math.inf for name, total in totals.items() if name not in self.excluded}
        self._cpus, self._mem = counted.get("cpus", math.inf), counted.get("mem", math.inf)
        self._disk, self._gpus = counted.get("disk", math.inf), counted.get("gpus", math.inf)
        self._all_stale = True

    def share(self, node: Node) -> float:
        """Weighted dominant share. A quotient of the integers themselves, so that equal shares compare equal."""
        share = node.cpus / self._cpus
        part = node.mem / self._mem
        if part > share:
            share = part
        if node.disk and (part := node.disk / self._disk) > share:
            share = part
        if node.gpus and (part := node.gpus / self._gpus) > share:
            share = part
        if node.extra:
            for name, held in node.extra.items():
                total = self.totals.get(name)
                if total and name not in self.excluded and held / total > share:
                    share = held / total
        return share if node.weight == 1.0 else share / node.weight

    def add(self, leaf: Leaf, cpus: int, mem: int, disk: int, gpus: int, extra: Mapping[str, int] | None, allocations: int = 0) -> None:
        """Change what a leaf, and so every node above, holds. allocations: how many were made to it by that."""
        node: Node | None = leaf
        self._stale[leaf] = None
        while node is not None:
            _change(node, cpus, mem, disk, gpus, extra)
            node.count += allocations
            node = node.parent

    # ---- order ------------------------------------------------------------------------------------------

    def touch(self, node: Node) -> None:
        """Something on which its place, or whether it wants anything, depends has changed."""
        self._stale[node] = None

    def refresh(self) -> None:
        """Put everything that changed into its place."""
        if self._all_stale:
            self._all_stale = False
            self._replace_all(self.root)
        if not self._stale:
            return
        stale, self._stale = self._stale, {}
        for node in stale:
            climbing: Node | None = node
            while climbing is not None and climbing.parent is not None:
                self._relist(climbing)
                climbing = climbing.parent

    def _replace_all(self, node: Node) -> None:
        for child in [place[3] for place in node.wanting]:
            child.place = (self.share(child), child.count, child.name, child)
            self._replace_all(child)
        node.wanting = sorted(place[3].place for place in node.wanting)

    def _relist(self, node: Node) -> None:
        self._unlist(node)
        if node.wants and node.parent is not None:
            node.place = (self.share(node), node.count, node.name, node)
            insort(node.parent.wanting, node.place)
            if isinstance(node, Leaf) and not node.framework.demands:
                self.takers.add(node)

    def _unlist(self, node: Node) -> None:
        if node.place is not None and node.parent is not None:
            siblings = node.parent.wanting
            del siblings[bisect_left(siblings, node.place)]
            node.place = None
            if isinstance(node, Leaf):
                self.takers.discard(node)

    def path_key(self, leaf: Leaf) -> tuple[tuple[float, int, str], ...]:
        """Compares two leaves as the walk would: lower comes first."""
        key: list[tuple[float, int, str]] = []
        node: Node = leaf
        while node.parent is not None:
            key.append((self.share(node), node.count, node.name))
            node = node.parent
        return tuple(reversed(key))

    # ---- a walk for one agent ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Start a walk from the lowest share. `refresh` must have been called since the last change."""
        self._walks += 1

    def next(self) -> Leaf | None:
        """The wanting leaf that is lowest, of those not passed over in this walk."""
        node, walk = self.root, self._walks
        while True:
            if node.walk != walk:
                node.walk, node.at = walk, 0
            if node.at < len(node.wanting):
                node = node.wanting[node.at][3]
                if isinstance(node, Leaf):
                    return node
            elif node.parent is None:
                return None
            else:
                node = node.parent
                node.at += 1

    def pass_over(self, leaf: Leaf) -> None:
        """The leaf, just returned by `next`, can get nothing in this walk."""
        assert leaf.parent is not None
        leaf.parent.at += 1

    def grant(self, leaf: Leaf, cpus: int, mem: int, disk: int, gpus: int, extra: Mapping[str, int] | None) -> None:
        """The leaf, just returned by `next`, gets so much more; it and the roles above take their new places."""
        node: Node = leaf
        while True:
            _change(node, cpus, mem, disk, gpus, extra)
            node.count += 1
            parent = node.parent
            if parent is None:
                return
            siblings = parent.wanting
            del siblings[parent.at]
            if node.wants:
                node.place = (self.share(node), node.count, node.name, node)
                insort(siblings, node.place, parent.at)
            else:
                node.place = None
            node = parent

    def room(self, leaf: Leaf, shape: Shape, cpus: int, mem: int) -> int:
        """How many of the shape the leaf, just returned by `next`, gets before it is another's turn; 0: it is another's already.
        cpus, mem: what it is to get in this turn anyway."""
        turns = MANY
        node: Node = leaf
        while node.parent is not None:
            parent = node.parent
            if parent.at + 1 < len(parent.wanting):
                limit = (parent.wanting[parent.at + 1][0] + SLACK) * node.weight
                rest = limit * self._cpus - node.cpus - cpus
                if rest < 0:
                    return 0
                if shape.cpus and rest < math.inf:
                    turns = min(turns, int(rest // shape.cpus) + 1)
                rest = limit * self._mem - node.mem - mem
                if rest < 0:
                    return 0
                if shape.mem and rest < math.inf:
                    turns = min(turns, int(rest // shape.mem) + 1)
                if shape.disk and self._disk < math.inf:
                    turns = min(turns, int((limit * self._disk - node.disk) // shape.disk) + 1)
                if shape.gpus and self._gpus < math.inf:
                    turns = min(turns, int((limit * self._gpus - node.gpus) // shape.gpus) + 1)
            node = parent
        return max(0, turns)


def _is_empty(node: Node) -> bool:
    return not node.children or (len(node.children) == 1 and VIRTUAL in node.children and not node.children[VIRTUAL].children)


def _change(node: Node, cpus: int, mem: int, disk: int, gpus: int, extra: Mapping[str, int] | None) -> None:
    node.cpus += cpus
    node.mem += mem
    node.disk += disk
    node.gpus += gpus
    if extra:
        held = node.extra if node.extra is not None else {}
        for name, amount in extra.items():
            held[name] = held.get(name, 0) + amount
        node.extra = {name: amount for name, amount in held.items() if amount} or None


def shared_amounts(resources: Resources) -> tuple[int, int, int, int, dict[str, int] | None]:
    """What counts into shares: cpus, mem, disk, gpus and other scalars by name; reserved too, ranges and sets not."""
    cpus, mem, disk, gpus = resources.cpus, resources.mem, resources.disk, resources.gpus
    extra: dict[str, int] | None = None
    if resources.other is not None:
        for key, amount in resources.other.items():
            if isinstance(amount, int):
                amount = amount if key.size is None else key.size
                if key.name == "cpus":
                    cpus += amount
                elif key.name == "mem":
                    mem += amount
                elif key.name == "disk":
                    disk += amount
                elif key.name == "gpus":
                    gpus += amount
                else:
                    extra = extra or {}
                    extra[key.name] = extra.get(key.name, 0) + amount
    return cpus, mem, disk, gpus, extra
