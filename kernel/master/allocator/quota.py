"""What roles are guaranteed and limited to, and how much a framework may still be offered under that (spec: mesos-v1, 6.4, 7.2, 7.4).

Any role of the tree may have a quota. What a role consumes is what of unreserved, non-revocable scalars is used or offered below it,
and all that is reserved for it and for roles below, used or not. Each (role, resource) of a quota is a `Bound`; the bounds of one
resource form a tree, which holds only roles that have a quota for it. All is adjusted by each change, in time of the depth.

Limits: a framework may take the least of `limit - consumed` on its path.

Guarantees: what must be kept free is, for a bound, `unmet = max(guarantee - consumed, sum of unmet of those right below, 0)`, and
for the cluster the sum over the roots, f(0). If a framework takes x, only its own path changes: f(x) = max(max_i(A_i - x), B), where
B is the sum of `unmet` beside its path, and below the nearest bound on it. x + f(x) is f(0) up to x = f(0) - B, and x + B from
there on. So of what is free, H, it may take any x <= max(H, f(0)) - B: what is kept stays covered, or is no worse uncovered than
before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from kernel.wire.resources import EMPTY, Key, Resources, quantity
from kernel.wire.roles import ancestors
from kernel.wire.shapes import MANY

if TYPE_CHECKING:
    from kernel.master.allocator.nodes import Leaf
    from kernel.master.allocator.state import Agent, Allocation

_WHOLE = 1000  # GPUs are not divided.


class Quota(Struct, frozen=True):
    """What a role is guaranteed and limited to, thousandths by name. A missing guarantee is 0, a missing limit none."""

    guarantees: Mapping[str, int] = {}
    limits: Mapping[str, int] = {}


class Pool:
    """One resource of which something is guaranteed. free: unreserved and non-revocable, on agents that may be offered and are kept
    for nobody. below: what must be kept of it. denied: the least surplus at which somebody got less than there was."""

    __slots__ = ("below", "denied", "free", "name")

    def __init__(self, name: str) -> None:
        self.name, self.free, self.below, self.denied = name, 0, 0, MANY

    @property
    def surplus(self) -> int:
        """What is free for anybody."""
        return max(0, self.free - self.below)


class Bound:
    """The guarantee and the limit of one resource for one role. below: the sum of `unmet` of the bounds right below. parked: who
    got less than there was on account of it, to be looked at again when it is consumed less."""

    __slots__ = ("below", "consumed", "guarantee", "limit", "name", "parent", "parked", "pool", "role", "unmet")

    def __init__(self, role: str, name: str, guarantee: int, limit: int | None, parent: Bound | None, pool: Pool | None) -> None:
        self.role, self.name, self.guarantee, self.limit, self.parent, self.pool = role, name, guarantee, limit, parent, pool
        self.consumed = self.below = self.unmet = 0
        self.parked: dict[Leaf, None] = {}

    @property
    def owes(self) -> bool:
        """Whether anybody below may take something on its own guarantee, beyond those of roles below it."""
        return self.unmet > self.below

    def path(self) -> Iterator[Bound]:
        """It and those above."""
        bound: Bound | None = self
        while bound is not None:
            yield bound
            bound = bound.parent


class Line(NamedTuple):
    """What bounds a leaf for one resource: the nearest bound on its path, if any, and the pool, if any of it is guaranteed."""

    name: str
    bound: Bound | None
    pool: Pool | None


class Quotas:
    """All of it. wake: called with a leaf that may get more than before."""

    def __init__(self, wake: Callable[[Leaf], None]) -> None:
        self.quotas: dict[str, Quota] = {}
        self.bounds: dict[str, tuple[Bound, ...]] = {}
        self.pools: tuple[Pool, ...] = ()
        self._lines: dict[str, tuple[Line, ...]] = {}
        self._nearest: dict[tuple[str, str], Bound] = {}
        self._reserved: dict[tuple[str, str], int] = {}
        self._wake = wake

    # ---- what is set ------------------------------------------------------------------------------------

    def put(self, quotas: Mapping[str, Quota], leaves: Iterable[Leaf], agents: Iterable[Agent]) -> None:
        """These are all quotas now. Everything is counted anew. Cost: one look at each leaf and agent."""
        self.quotas = dict(quotas)
        guaranteed = dict.fromkeys(name for quota in quotas.values() for name, amount in quota.guarantees.items() if amount)
        pools = {name: Pool(name) for name in guaranteed}
        self.pools = tuple(pools.values())
        self._nearest, self.bounds, self._lines = {}, {}, {}
        made: list[Bound] = []
        for role in sorted(quotas, key=lambda role: role.count("/")):
            quota = quotas[role]
            for name in dict.fromkeys((*quota.guarantees, *quota.limits)):
                parent = self._bound_of(role, name)
                made.append(Bound(role, name, quota.guarantees.get(name, 0), quota.limits.get(name), parent, pools.get(name)))
                self._nearest[role, name] = made[-1]
        for bound in made:
            self.bounds[bound.role] = (*self.bounds.get(bound.role, ()), bound)
        for (role, name), amount in self._reserved.items():
            nearest = self._bound_of(role, name)
            for bound in nearest.path() if nearest is not None else ():
                bound.consumed += amount
        for leaf in leaves:
            leaf.parked.clear()
            leaf.capped = False
            leaf.lines = self.lines(leaf.role)
            for line in leaf.lines:
                for bound in line.bound.path() if line.bound is not None else ():
                    bound.consumed += leaf.unreserved(line.name)
        for bound in reversed(made):  # Those below come after those above.
            bound.unmet = max(bound.guarantee - bound.consumed, bound.below, 0)
            above = bound.parent or bound.pool
            if above is not None:
                above.below += bound.unmet
        for agent in agents:
            agent.spare = [0] * len(self.pools)
            self.recount(agent)

    def lines(self, role: str) -> tuple[Line, ...]:
        """What bounds the leaves of a role."""
        lines = self._lines.get(role)
        if lines is None:
            pools = {pool.name: pool for pool in self.pools}
            names = dict.fromkeys((*pools, *(name for _, name in self._nearest)))
            found = [Line(name, self._bound_of(role, name), pools.get(name)) for name in names]
            lines = self._lines[role] = tuple(line for line in found if line.bound is not None or line.pool is not None)
        return lines

    def _bound_of(self, role: str, name: str) -> Bound | None:
        """The bound of the role, or of the nearest role above that has one."""
        for path in (role, *reversed(ancestors(role))):
            bound = self._nearest.get((path, name))
            if bound is not None:
                return bound
        return None

    # ---- what is consumed and free ----------------------------------------------------------------------

    def charge(self, leaf: Leaf, resources: Resources, sign: int) -> None:
        """The leaf uses, or is offered, so much more (sign 1) or less (-1)."""
        for name, bound, _ in leaf.lines:
            if bound is not None and (amount := unreserved_amount(resources, name)):
                _consume(bound, sign * amount)
                if sign < 0:
                    self._unpark(bound)

    def count_reserved(self, total: Resources, sign: int) -> set[str]:
        """An agent has come (sign 1) or gone (-1): what is reserved there counts. Returns for which roles."""
        roles = set()
        for key, amount in (total.other or {}).items():
            if key.reservations and isinstance(amount, int):
                at, amount = (key.role, key.name), sign * quantity(key, amount)
                roles.add(key.role)
                self._reserved[at] = self._reserved.get(at, 0) + amount
                if not self._reserved[at]:
                    del self._reserved[at]
                bound = self._bound_of(*at) if self._nearest else None
                if bound is not None:
                    _consume(bound, amount)
                    if sign < 0:
                        self._unpark(bound)
        return roles

    def recount(self, agent: Agent) -> None:
        """What is free on an agent, or whether it may be offered, has changed."""
        spare, free = agent.spare, agent.free
        counts = free is not EMPTY and agent.open and agent.claim is None
        for index, pool in enumerate(self.pools):
            now = unreserved_amount(free, pool.name) if counts else 0
            if now != spare[index]:
                pool.free += now - spare[index]
                spare[index] = now

    # ---- what a leaf may have ---------------------------------------------------------------------------

    def shrink(self, leaf: Leaf, piece: Resources, limits_only: bool = False) -> Resources:
        """What of a piece the leaf may be offered: its unreserved scalars are cut, things that cannot be cut stay or go. The piece
        itself if it is all. limits_only: as if nothing were guaranteed."""
        for name, bound, pool in leaf.lines:
            have = unreserved_amount(piece, name)
            if have and (room := _room(bound, None if limits_only else pool)) < have:
                piece = cut_to(piece, name, room)
        return piece

    def allowance(self, leaf: Leaf, kept: Iterable[Agent]) -> dict[str, int]:
        """What the leaf may be offered in all, thousandths by name, of what quotas bound; kept: agents that are kept for it."""
        found = {}
        for name, bound, pool in leaf.lines:
            room, _ = _limit_room(bound)
            if pool is not None:
                free = pool.free + sum(unreserved_amount(agent.free, name) for agent in kept if agent.open)
                room = min(room, max(0, max(free, pool.below) - _kept_for_others(bound, pool)))
            found[name] = room
        return found

    def note(self, leaf: Leaf, piece: Resources) -> None:
        """The leaf would take more of the piece than it may: look at it again when it may have more."""
        for name, bound, pool in leaf.lines:
            have = unreserved_amount(piece, name)
            room, at = _limit_room(bound)
            if room < have:
                assert at is not None
                self._park(leaf, at)
            if pool is not None and _headroom(bound, pool) < have:
                for above in bound.path() if bound is not None else ():
                    if above.guarantee:
                        self._park(leaf, above)
        self.note_kept(leaf, piece)

    def note_kept(self, leaf: Leaf, piece: Resources) -> None:
        """The same, but only where what is kept for guarantees is in its way."""
        for name, bound, pool in leaf.lines:
            if pool is not None and _headroom(bound, pool) < unreserved_amount(piece, name):
                pool.denied = min(pool.denied, pool.surplus)

    def slack(self, leaf: Leaf) -> dict[str, int]:
        """What the leaf may take on a guarantee: by so much less must then be kept."""
        found = {}
        for name, bound, pool in leaf.lines:
            if bound is not None and pool is not None and (slack := pool.below - _kept_for_others(bound, pool)) > 0:
                found[name] = slack
        return found

    def may_keep(self, leaf: Leaf, agent: Agent) -> bool:
        """Whether what is free on an agent may be kept for the leaf, or guarantees need it."""
        for index, pool in enumerate(self.pools):
            line = next(line for line in leaf.lines if line.name == pool.name)
            others = _kept_for_others(line.bound, pool)
            if pool.free - agent.spare[index] < others and unreserved_amount(agent.free, pool.name) > pool.below - others:
                return False
        return True

    def is_capped(self, leaf: Leaf) -> bool:
        """Whether limits leave nothing that the leaf could use of agents where nothing is reserved."""
        rooms = {line.name: room for line in leaf.lines if (room := _limit_room(line.bound)[0]) < MANY}
        if not rooms:
            return False
        if leaf.framework.demands:
            return bool(leaf.open) and all(
                any(unreserved_amount(entry.shape.resources, name) > room for name, room in rooms.items()) for entry in leaf.open
            )
        return bool(leaf.minimums) and all(
            any(rooms.get(name, MANY) < least for name, least in minimum.items()) for minimum in leaf.minimums
        )

    def shrink_after(self, leaf: Leaf, piece: Resources, returned: Allocation) -> Resources:
        """What `shrink` would leave if an offer came back first."""
        freed = [unreserved_amount(returned.resources, pool.name) for pool in self.pools]
        self.lend(returned.leaf, returned.resources, 1)
        for pool, amount in zip(self.pools, freed, strict=True):
            pool.free += amount
        left = self.shrink(leaf, piece)
        self.lend(returned.leaf, returned.resources, -1)
        for pool, amount in zip(self.pools, freed, strict=True):
            pool.free -= amount
        return left

    def lend(self, leaf: Leaf, resources: Resources, sign: int) -> None:
        """For a question only: as if the leaf did not have these resources (sign 1); as it was (-1)."""
        for name, bound, _ in leaf.lines:
            if bound is not None:
                _consume(bound, -sign * unreserved_amount(resources, name))

    def headroom(self, role: str) -> dict[str, int]:
        """How much more may be offered to the role, or reserved for it, before it or one above it is at a limit."""
        rooms = {line.name: _limit_room(line.bound)[0] for line in self.lines(role)}
        return {name: room for name, room in rooms.items() if room < MANY}

    # ---- who waits for more -----------------------------------------------------------------------------

    @property
    def relieved(self) -> bool:
        """Whether more may go to anybody than when somebody was denied it."""
        return any(pool.free - pool.below > pool.denied for pool in self.pools)

    def relieve(self) -> None:
        """Everybody is looked at again."""
        for pool in self.pools:
            pool.denied = MANY

    def deny(self) -> None:
        """Whoever it may be got less than there was, to keep what is guaranteed."""
        for pool in self.pools:
            pool.denied = min(pool.denied, pool.surplus)

    def reach(self, cpus: int, mem: int) -> tuple[int, int]:
        """What of so much is not kept for guarantees."""
        for pool in self.pools:
            if pool.name == "cpus":
                cpus = min(cpus, pool.surplus)
            elif pool.name == "mem":
                mem = min(mem, pool.surplus)
        return cpus, mem

    def _park(self, leaf: Leaf, bound: Bound) -> None:
        bound.parked[leaf] = leaf.parked[bound] = None

    def forget(self, leaf: Leaf) -> None:
        """The leaf is looked at again, or gone."""
        for bound in leaf.parked:
            bound.parked.pop(leaf, None)
        leaf.parked.clear()

    def _unpark(self, bound: Bound) -> None:
        for above in bound.path():
            if not above.parked:
                continue
            for leaf in list(above.parked):
                if leaf.capped and not leaf.gangs and self.is_capped(leaf):
                    self.park_capped(leaf)
                else:
                    self._wake(leaf)

    def park_capped(self, leaf: Leaf) -> None:
        """Wait, for each resource, for the bound on the path that leaves least: no other can leave more before."""
        self.forget(leaf)
        for line in leaf.lines:
            _, at = _limit_room(line.bound)
            if at is not None:
                self._park(leaf, at)

    # ---- answers ----------------------------------------------------------------------------------------

    def excess(self, role: str, amounts: Mapping[str, int]) -> Bound | None:
        """The first limit on a role's path that consuming so much more (thousandths by name) would pass, None if none. For who
        would reserve something that is not offered to the role."""
        for name, amount in amounts.items():
            nearest = self._bound_of(role, name)
            for bound in nearest.path() if nearest is not None else ():
                if bound.limit is not None and bound.consumed + amount > bound.limit:
                    return bound
        return None

    def binding(self, leaf: Leaf, resources: Resources) -> Bound | None:
        """The limit that keeps the leaf from these resources, None if none does."""
        for name, bound, _ in leaf.lines:
            room, at = _limit_room(bound)
            if room < unreserved_amount(resources, name):
                return at
        return None

    def withholding(self, leaf: Leaf, resources: Resources) -> Pool | None:
        """The pool of which too much is kept for others' guarantees to give the leaf these resources, None if there is none."""
        for name, bound, pool in leaf.lines:
            if pool is not None and _headroom(bound, pool) < unreserved_amount(resources, name):
                return pool
        return None

    def owed(self, name: str) -> list[Bound]:
        """The bounds of a resource whose guarantees are not met, those at the top."""
        return [bound for (_, of), bound in self._nearest.items() if of == name and bound.parent is None and bound.unmet]

    def owing(self) -> Iterator[Bound]:
        """The bounds on whose own guarantees something may be taken."""
        return (bound for bound in self._nearest.values() if bound.guarantee and bound.owes)


def _consume(bound: Bound, amount: int) -> None:
    """Adjust the consumption of a bound and of those above, and what must be kept."""
    pool, climbing, change = bound.pool, bound, 0
    while True:
        climbing.consumed += amount
        if pool is not None:
            climbing.below += change
            unmet = climbing.guarantee - climbing.consumed
            if unmet < climbing.below:  # max() would cost twice as much, for each grant and level.
                unmet = climbing.below
            if unmet < 0:
                unmet = 0
            change = unmet - climbing.unmet
            climbing.unmet = unmet
        if climbing.parent is None:
            break
        climbing = climbing.parent
    if pool is not None:
        pool.below += change


def _limit_room(bound: Bound | None) -> tuple[int, Bound | None]:
    """What limits leave, and the bound that leaves least; MANY and None without any."""
    room, at = MANY, None
    while bound is not None:
        if bound.limit is not None and bound.limit - bound.consumed < room:
            room, at = bound.limit - bound.consumed, bound
        bound = bound.parent
    return max(0, room), at


def _kept_for_others(bound: Bound | None, pool: Pool) -> int:
    """B: what must be kept whatever is taken below the bound."""
    if bound is None:
        return pool.below
    others = bound.below
    while bound.parent is not None:
        others += bound.parent.below - bound.unmet
        bound = bound.parent
    return others + pool.below - bound.unmet


def _headroom(bound: Bound | None, pool: Pool) -> int:
    return max(pool.free, pool.below) - _kept_for_others(bound, pool)


def _room(bound: Bound | None, pool: Pool | None) -> int:
    """The least of `_limit_room` and, with a pool, `_headroom`, in one climb: asked for each piece and resource."""
    if pool is None:
        return _limit_room(bound)[0]
    free, below = pool.free, pool.below
    if free < below:
        free = below
    if bound is None:
        return free - below
    room, others = MANY, bound.below
    while True:
        limit = bound.limit
        if limit is not None and limit - bound.consumed < room:
            room = limit - bound.consumed
        above = bound.parent
        if above is None:
            break
        others += above.below - bound.unmet
        bound = above
    free -= others + below - bound.unmet
    if free < room:
        room = free
    return room if room > 0 else 0


# ---- resources ------------------------------------------------------------------------------------------


def unreserved_amount(resources: Resources, name: str) -> int:
    """How much of a scalar is neither reserved nor revocable, thousandths."""
    amount = 0
    if name == "cpus":
        amount = resources.cpus
    elif name == "mem":
        amount = resources.mem
    elif name == "disk":
        amount = resources.disk
    elif name == "gpus":
        amount = resources.gpus
    if resources.other is not None:
        for key, held in resources.other.items():  # Mostly of one: ports.
            if key.name == name and isinstance(held, int) and not key.reservations and not key.revocable:
                amount += quantity(key, held)
    return amount


def set_apart(resources: Resources) -> dict[str, int] | None:
    """Scalars that are reserved or revocable, thousandths by name; None when there are none."""
    found: dict[str, int] | None = None
    for key, held in (resources.other or {}).items():
        if isinstance(held, int) and (key.reservations or key.revocable):
            found = found or {}
            found[key.name] = found.get(key.name, 0) + quantity(key, held)
    return found


def cut_to(piece: Resources, name: str, room: int) -> Resources:
    """The piece with no more than so much of the unreserved, non-revocable scalar. What cannot be cut goes first, the largest first, as
    long as it has room; what can fills up the rest."""
    if name == "gpus":
        room -= room % _WHOLE
    other = piece.other
    if other is not None:
        parts = [
            (key, held)
            for key, held in other.items()
            if key.name == name and isinstance(held, int) and not key.reservations and not key.revocable
        ]
        if parts:
            left: dict[Key, object] = {key: held for key, held in other.items() if (key, held) not in parts}
            whole = sorted((part for part in parts if part[0].size is not None), key=lambda part: -quantity(*part))
            for key, held in (*whole, *(part for part in parts if part[0].size is None)):
                part = held if key.size is not None and quantity(key, held) <= room else 0 if key.size is not None else min(held, room)
                if part:
                    left[key] = part
                    room -= quantity(key, part)
            other = left or None  # type: ignore[assignment]  # As in `piece`.
    cpus, mem, disk, gpus = piece.cpus, piece.mem, piece.disk, piece.gpus
    if name == "cpus":
        cpus = min(cpus, room)
    elif name == "mem":
        mem = min(mem, room)
    elif name == "disk":
        disk = min(disk, room)
    elif name == "gpus":
        gpus = min(gpus, room)
    return Resources(cpus, mem, disk, gpus, other)
