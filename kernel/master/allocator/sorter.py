"""Who is next: the tree of roles with frameworks as leaves, ordered by weighted dominant share (spec: mesos-v1, section 7.3).

Each node holds what is used or offered below it. Siblings that want something stand in a list sorted by (share, number of
allocations so far, name); a depth-first walk through these lists is the order of DRF. A framework in `eng` competes with the roles below
`eng` inside the virtual child `eng/.`, which weighs 1. Sums change at once, places lazily (`refresh`) or, during a walk, in place.

Siblings below which something is owed to somebody who wants it (`quota`) stand in a second list, too, in the same order: the walk of
guarantees goes through those alone, and through all that is below a role which is owed something itself.

With the random sorter (`--role_sorter=random`, `--framework_sorter=random`) siblings have lots in place of shares: each is a clock that
strikes at random, as often as its weight says, and whose clock strikes first is next. So each allocation goes to any of them with the
chance of its weight, whatever went before, and an event costs no more than it does with shares.

Source: Ghodsi et al., Dominant Resource Fairness, NSDI 2011; hierarchical as in Mesos.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from kernel.master.allocator.chance import Chance
from kernel.master.allocator.demand import Wanted
from kernel.master.allocator.nodes import VIRTUAL, Leaf, Node, PlaceKey
from kernel.wire.resources import Resources
from kernel.wire.shapes import MANY, Shape

if TYPE_CHECKING:
    from kernel.master.allocator.quota import Bound
    from kernel.master.allocator.state import Framework

# Two demands of equal weight take turns; so small a difference of shares is not worth another turn.
SLACK = 0.001


class RoleTree:
    """The tree, its totals and its order."""

    def __init__(self, excluded: frozenset[str], chance: Chance, drawn_roles: bool = False, drawn_frameworks: bool = False) -> None:
        """excluded: names of resources that do not count into shares. drawn_roles, drawn_frameworks: the order is random."""
        self.excluded = excluded
        self._chance, self._drawn_roles, self._drawn_frameworks = chance, drawn_roles, drawn_frameworks
        self.root = Node("", "", None)
        self.wanted = Wanted()
        self.takers: set[Leaf] = set()  # Leaves in their places that want whole agents.
        self.picky: set[Leaf] = set()  # Those of them whose least offer is not the usual one.
        self.slackers: dict[Leaf, None] = {}  # Leaves that want what is revocable, and some that did just before.
        self.slack_takers: set[Leaf] = set()  # Those of them that take what there is.
        self.slack_wanted = Wanted()  # Of it, by the others.
        self.minimums: tuple[Mapping[str, int], ...] = ()
        self.bounds: Mapping[str, tuple[Bound, ...]] = {}  # By role.
        self.owing = False  # Whether anything is guaranteed to anybody.
        self.roles: dict[str, Node] = {}
        self.weights: dict[str, float] = {}
        self.totals: dict[str, int] = {}
        self._cpus = self._mem = self._disk = self._gpus = math.inf
        self._walks = 0
        self._owed_only = False
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
            node.bounds = self.bounds.get(path, ())
            node.drawn = self._drawn_roles
            parent.children[name] = node
        return node

    def _make_virtual(self, role: Node) -> None:
        """The role gets its first role below: its frameworks move into the virtual child."""
        virtual = Node(VIRTUAL, role.path, role)
        virtual.drawn, virtual.struck = self._drawn_roles, role.struck
        virtual.children, role.children = role.children, {VIRTUAL: virtual}
        virtual.wanting, role.wanting = role.wanting, []
        role.owed = []
        virtual.cpus, virtual.mem, virtual.disk, virtual.gpus, virtual.count = role.cpus, role.mem, role.disk, role.gpus, role.count
        virtual.extra = role.extra.copy() if role.extra is not None else None
        for child in virtual.children.values():
            child.parent = virtual
        self._relist(virtual)
        self._stale[role] = None

    def add_leaf(self, framework: Framework, role: str) -> Leaf:
        home = self.role(role)
        home = home.children.get(VIRTUAL, home)
        leaf = Leaf(framework, role, home, self.wanted, self.slack_wanted)
        leaf.drawn = self._drawn_frameworks
        home.children[leaf.name] = leaf
        self._stale[leaf] = None
        return leaf

    def remove_leaf(self, leaf: Leaf) -> None:
        """Take a leaf out; what it still held no longer counts. Roles without anybody go too."""
        node: Node = leaf
        if leaf in self.slackers:
            self._leave_slack(leaf)
        self.add(leaf, -leaf.cpus, -leaf.mem, -leaf.disk, -leaf.gpus, {name: -held for name, held in (leaf.extra or {}).items()})
        while node.parent is not None and node.is_empty:
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

    def set_bounds(self, bounds: Mapping[str, tuple[Bound, ...]], owing: bool) -> None:
        """What roles are guaranteed now."""
        self.bounds, self.owing = bounds, owing
        for path, node in self.roles.items():
            node.bounds = bounds.get(path, ())
            self._stale[node] = None
        self._relist_all(self.root)

    def _relist_all(self, node: Node) -> None:
        for child in node.children.values():
            self._relist_all(child)
            self._relist(child)

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
            node.change(cpus, mem, disk, gpus, extra)
            node.count += allocations
            if allocations and node.drawn:
                self._draw_again(node)
            node = node.parent

    # ---- order ------------------------------------------------------------------------------------------

    def _rank(self, node: Node) -> float:
        """By what it stands among its siblings."""
        return node.lot if node.drawn else self.share(node)

    def _draw_again(self, node: Node) -> None:
        """Its lot got something."""
        assert node.parent is not None
        node.parent.struck = max(node.parent.struck, node.lot)
        node.lot = node.parent.struck + self._chance.wait(node.weight)

    def touch(self, node: Node) -> None:
        """Something on which its place, or whether it wants anything, depends has changed."""
        self._stale[node] = None

    def touch_role(self, path: str) -> None:
        """The same for a role, or the nearest above that is there."""
        while path:
            if path in self.roles:
                self._stale[self.roles[path]] = None
                return
            path = path.rpartition("/")[0]

    def refresh(self) -> None:
        """Put everything that changed into its place."""
        if self._all_stale:
            self._all_stale = False
            self._replace_all(self.root)
        if not self._stale:
            return
        stale, self._stale = self._stale, {}
        while stale:
            above: dict[Node, None] = {}
            for node in stale:
                if node.parent is not None:
                    self._relist(node)
                    above[node.parent] = None
            stale = above

    def _replace_all(self, node: Node) -> None:
        for child in [place[3] for place in node.wanting]:
            child.place = (self._rank(child), child.count, child.name, child)
            self._replace_all(child)
        node.wanting = sorted(place[3].place for place in node.wanting)
        if node.owed:
            node.owed = sorted(place[3].place for place in node.owed)

    def _relist(self, node: Node) -> None:
        stood = node.place is not None
        self._unlist(node)
        if node.wants and node.parent is not None:
            if node.drawn and not stood:
                node.lot = node.parent.struck + self._chance.wait(node.weight)
            node.place = (self._rank(node), node.count, node.name, node)
            insort(node.parent.wanting, node.place)
            if self.owing and (node.owed or (node.bounds and node.owes)):
                node.is_owed = True
                insort(node.parent.owed, node.place)
            if isinstance(node, Leaf):
                if not node.framework.demands:
                    self.takers.add(node)
                    if node.minimums is not self.minimums:
                        self.picky.add(node)
                if node.framework.options.revocable and node.takes_slack:
                    self.slackers[node] = None
                    if not node.framework.demands:
                        self.slack_takers.add(node)
        elif node in self.slackers:
            self._leave_slack(node)

    def _unlist(self, node: Node) -> None:
        if node.place is not None and node.parent is not None:
            siblings = node.parent.wanting
            del siblings[bisect_left(siblings, node.place)]
            if node.is_owed:
                node.is_owed, siblings = False, node.parent.owed
                del siblings[bisect_left(siblings, node.place)]
            node.place = None
            if isinstance(node, Leaf):
                self.takers.discard(node)
                self.picky.discard(node)
                if node in self.slackers:
                    self._leave_slack(node)

    def _leave_slack(self, leaf: Leaf) -> None:
        del self.slackers[leaf]
        self.slack_takers.discard(leaf)

    def path_key(self, leaf: Leaf, turns: bool = False) -> tuple[tuple[float, int, str], ...]:
        """Compares two leaves by their shares, level by level: lower has less. turns: as the walk would, lower comes first."""
        key: list[tuple[float, int, str]] = []
        node: Node = leaf
        while node.parent is not None:
            key.append((self._rank(node) if turns else self.share(node), node.count, node.name))
            node = node.parent
        return tuple(reversed(key))

    # ---- a walk for one agent ---------------------------------------------------------------------------

    def begin(self, owed_only: bool = False) -> None:
        """Start a walk from the lowest share. owed_only: of those to whom something is owed. `refresh` must have been called since the
        last change."""
        self._walks += 1
        self._owed_only = owed_only

    def next(self) -> Leaf | None:
        """The wanting leaf that is lowest, of those not passed over in this walk."""
        node, walk = self.root, self._walks
        while True:
            if node.walk != walk:
                node.walk, node.at, node.lane = walk, 0, self._lane(node) if self._owed_only else node.wanting
            elif self._owed_only and (lane := self._lane(node)) is not node.lane:
                node.at, node.lane = 0, lane  # What was owed to all below is paid.
            if node.at < len(node.lane):
                node = node.lane[node.at][3]
                if isinstance(node, Leaf):
                    return node
            elif node.parent is None:
                return None
            else:
                node = node.parent
                node.at += 1

    def _lane(self, node: Node) -> list[PlaceKey]:
        """Through which of its children the walk of what is owed goes."""
        parent = node.parent
        return node.wanting if parent is not None and (parent.lane is parent.wanting or (node.bounds and node.owes)) else node.owed

    def pass_over(self, leaf: Leaf) -> None:
        """The leaf, just returned by `next`, can get nothing in this walk."""
        assert leaf.parent is not None
        leaf.parent.at += 1

    def grant(self, leaf: Leaf, cpus: int, mem: int, disk: int, gpus: int, extra: Mapping[str, int] | None) -> None:
        """The leaf, just returned by `next`, gets so much more; it and the roles above take their new places. Its quota must have been
        charged."""
        node: Node = leaf
        share, wants = self.share, leaf.wants
        while True:
            node.cpus += cpus
            node.mem += mem
            node.disk += disk
            node.gpus += gpus
            if extra is not None:
                node.change_extra(extra)
            node.count += 1
            parent = node.parent
            if parent is None:
                return
            if node.drawn:
                self._draw_again(node)
            lane, at = parent.lane, parent.at
            both = lane is not parent.wanting or node.is_owed  # It stands, or may stand, in both lists.
            if both:
                self._leave_other(node, parent)
            if wants:
                node.place = place = (node.lot if node.drawn else share(node), node.count, node.name, node)
                if both or node.owed or (node.bounds and node.owes):
                    del lane[at]
                    self._take_both(node, parent)
                elif at + 1 == len(lane) or place < lane[at + 1]:  # Its turn still, as often above those that got it.
                    lane[at] = place
                else:
                    del lane[at]
                    insort(lane, place, at)
            else:
                del lane[at]
                node.place = None
            node, wants = parent, bool(parent.wanting)

    def _leave_other(self, node: Node, parent: Node) -> None:
        """Take the place out of the list that is not walked."""
        assert node.place is not None
        if parent.lane is not parent.wanting:
            del parent.wanting[bisect_left(parent.wanting, node.place)]
        elif node.is_owed:
            del parent.owed[bisect_left(parent.owed, node.place)]
        node.is_owed = False

    def _take_both(self, node: Node, parent: Node) -> None:
        assert node.place is not None
        walked = parent.lane is parent.wanting
        insort(parent.wanting, node.place, parent.at if walked else 0)
        if node.owed or (node.bounds and node.owes):
            node.is_owed = True
            insort(parent.owed, node.place, 0 if walked else parent.at)

    def room(self, leaf: Leaf, shape: Shape, cpus: int, mem: int) -> int:
        """How many of the shape the leaf, just returned by `next`, gets before it is another's turn; 0: it is another's already.
        cpus, mem: what it is to get in this turn anyway."""
        turns = MANY
        node: Node = leaf
        while node.parent is not None:
            parent = node.parent
            if not node.drawn and parent.at + 1 < len(parent.lane):
                limit = (parent.lane[parent.at + 1][0] + SLACK) * node.weight
                rest = limit * self._cpus - node.cpus - cpus
                if rest < 0:
                    return 0
                if shape.all_cpus and rest < math.inf:
                    turns = min(turns, int(rest // shape.all_cpus) + 1)
                rest = limit * self._mem - node.mem - mem
                if rest < 0:
                    return 0
                if shape.all_mem and rest < math.inf:
                    turns = min(turns, int(rest // shape.all_mem) + 1)
                if shape.disk and self._disk < math.inf:
                    turns = min(turns, int((limit * self._disk - node.disk) // shape.disk) + 1)
                if shape.gpus and self._gpus < math.inf:
                    turns = min(turns, int((limit * self._gpus - node.gpus) // shape.gpus) + 1)
                for name, wanted in shape.scalars.items():
                    if (total := self.totals.get(name)) and name not in self.excluded:
                        held = node.extra.get(name, 0) if node.extra else 0
                        turns = min(turns, int((limit * total - held) // wanted) + 1)
            node = parent
        return max(0, turns)


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
