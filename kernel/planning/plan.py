"""What a change would do: the allocator made anew from a snapshot, with the change and without. Pure.

Two answers. *At once*: what would be offered then, when all that is offered is taken; nothing that runs ends for it, but what the master
would end for guarantees (`--preempt_for_guarantees`). *In the long run*: how the cluster is shared when everything that runs has ended and
is asked for again, beside all that waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master.allocator import Allocation, Allocator, RoleView, Run
from kernel.master.allocator import Quota as Quota
from kernel.master.allocator.snapshot import demand_of, options_of
from kernel.master.quota_validation import check_hierarchy, check_known, thousandths
from kernel.planning.amounts import parse_amounts
from kernel.wire.allocation import Awaited, FrameworkPart, RolePart, Snapshot
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.roles import ancestors
from kernel.wire.values import ValueType

NOBODY = "(nobody yet)"  # A framework that is only thought of.
ROUNDS_MAX = 100_000


class Demand(Struct, frozen=True):
    """Tasks that would be asked for in a role."""

    role: str
    shape: Resources
    count: int


class Change(Struct, frozen=True):
    """What is thought of. quotas: by role, None for none; weights by role; lost: ids of agents; demands: beside those that are."""

    quotas: Mapping[str, Quota | None] = {}
    weights: Mapping[str, float] = {}
    lost: Sequence[str] = ()
    demands: Sequence[Demand] = ()


class RolePlan(Struct):
    """One role and all below it; thousandths by name, tasks. held: used or offered now; after: when the change has taken effect at once;
    share_before, share_after: dominant shares in the long run, without the change and with it; not weighted."""

    role: str
    held: Counter[str]
    waiting: int
    after: Counter[str]
    waiting_after: int
    share_before: float
    share_after: float


class Capacity(Struct, frozen=True):
    """Of one resource: what there is and what is guaranteed to roles at the top, thousandths."""

    name: str
    total: int
    guaranteed: int

    @property
    def fits(self) -> bool:
        return self.guaranteed <= self.total


class Plan(Struct):
    """lost: how many tasks would be lost with their agents, by framework. preempted: how many would end for guarantees, by framework and
    role, where the master is set to do that."""

    roles: list[RolePlan]
    capacity: list[Capacity]
    lost: Counter[str]
    beyond: list[str]
    preempted: Counter[tuple[str, str]]


def quota_amounts(text: str, field: str) -> dict[str, int]:
    """What is guaranteed, or a limit, as people write it; thousandths by name. Raises CallError."""
    return {name: thousandths(milli / 1000, name, field) for name, milli in parse_amounts(text, field, exact=True).items()}


def check(snapshot: Snapshot, change: Change) -> None:
    """Whether the master would set such quotas, were there room enough. Raises CallError as it does."""
    quotas = {role.name: Quota(role.guarantees, role.limits) for role in snapshot.roles if role.guarantees or role.limits}
    for role, quota in change.quotas.items():
        if quota is not None:
            quotas[role] = quota
        elif quotas.pop(role, None) is None:
            raise CallError(f"role: '{role}' has no quota; `meseta quota list` shows what there is")
    check_hierarchy(quotas)
    check_known({role: quota for role, quota in change.quotas.items() if quota is not None}, _totals(snapshot))


def plan(snapshot: Snapshot, change: Change) -> Plan:
    """Raises CallError for an agent that is not there."""
    changed, lost = apply(snapshot, change)
    now, then = Standing(snapshot), Standing(snapshot)
    before, after = Standing(_from_scratch(snapshot)), Standing(_from_scratch(changed))
    then.settle()  # What the master has decided already is not decided again.
    then.change(snapshot, changed)
    for standing in (then, before, after):
        standing.settle()
    preempted = then.make_room(changed) if changed.rules.preempts else Counter[tuple[str, str]]()
    roles = [
        RolePlan(
            role,
            now.held(role),
            now.waiting(role),
            then.held(role),
            then.waiting(role),
            before.share(role),
            after.share(role),
        )
        for role in sorted({*now.roles(), *then.roles()})
    ]
    return Plan(roles, _capacity(changed), lost, then.beyond_limits(changed.roles), preempted)


def apply(snapshot: Snapshot, change: Change) -> tuple[Snapshot, Counter[str]]:
    """The snapshot as it would be, and the tasks that are lost: who states a demand asks for them again."""
    known = {agent.id for agent in snapshot.agents}
    for agent_id in change.lost:
        if agent_id not in known:
            raise CallError(f"agent: there is no agent {agent_id!r}")
    gone = [agent for agent in snapshot.agents if agent.id in change.lost]
    lost: Counter[str] = Counter()
    again: dict[str, list[Awaited]] = {}
    for agent in gone:
        for held in agent.held:
            again.setdefault(held.framework_id, []).append(Awaited("", held.role, held.resources, held.count))
            if not held.offered:
                lost[held.framework_id] += held.count
    frameworks = [
        msgspec.structs.replace(framework, awaited=(*framework.awaited, *_merged(again.get(framework.id, ()))))
        if framework.demands
        else framework
        for framework in snapshot.frameworks
    ]
    if change.demands:
        wanted = [Awaited(f"{number}", demand.role, demand.shape.messages(), demand.count) for number, demand in enumerate(change.demands)]
        roles = tuple(dict.fromkeys(demand.role for demand in change.demands))
        frameworks.append(
            FrameworkPart(NOBODY, NOBODY, True, roles, (), True, tuple(wanted), gpu_aware=True, refined=True, region_aware=True)
        )
    return msgspec.structs.replace(
        snapshot,
        roles=_roles(snapshot.roles, change),
        frameworks=tuple(frameworks),
        agents=tuple(agent for agent in snapshot.agents if agent.id not in change.lost),
    ), lost


def _merged(awaited: Iterable[Awaited]) -> list[Awaited]:
    """Alike ones as one; named by what they are, so that none is taken for a demand there is."""
    counts: Counter[Awaited] = Counter()
    for one in awaited:
        counts[msgspec.structs.replace(one, count=1)] += one.count
    return [msgspec.structs.replace(one, count=count, name=f"again {Resources.of(one.resources)}") for one, count in counts.items()]


def _roles(roles: Iterable[RolePart], change: Change) -> tuple[RolePart, ...]:
    found = {role.name: role for role in roles}
    for name, weight in change.weights.items():
        found[name] = msgspec.structs.replace(found.get(name, RolePart(name)), weight=weight)
    for name, quota in change.quotas.items():
        quota = quota or Quota()
        found[name] = msgspec.structs.replace(found.get(name, RolePart(name)), guarantees=dict(quota.guarantees), limits=dict(quota.limits))
    return tuple(found.values())


def _from_scratch(snapshot: Snapshot) -> Snapshot:
    """The same when all that runs has ended and is asked for again. Of whoever states no demand, what it has counts as one."""
    again: dict[str, list[Awaited]] = {}
    for agent in snapshot.agents:
        for held in agent.held:
            again.setdefault(held.framework_id, []).append(Awaited("", held.role, held.resources, held.count))
    frameworks = tuple(
        msgspec.structs.replace(
            framework,
            active=True,
            suppressed=(),
            demands=True,
            awaited=(*framework.awaited, *_merged(one for one in again.get(framework.id, ()) if one.role in framework.roles)),
        )
        for framework in snapshot.frameworks
    )
    agents = tuple(msgspec.structs.replace(agent, held=(), refused=()) for agent in snapshot.agents)
    return msgspec.structs.replace(snapshot, frameworks=frameworks, agents=agents, made={})


def _capacity(snapshot: Snapshot) -> list[Capacity]:
    """Guarantees of roles below another with one count in that."""
    totals = _totals(snapshot)
    guaranteed: Counter[str] = Counter()
    of = {role.name: role.guarantees for role in snapshot.roles}
    for role, guarantees in of.items():
        for name, amount in guarantees.items():
            if not any(of.get(above, {}).get(name) for above in ancestors(role)):
                guaranteed[name] += amount
    return [Capacity(name, totals[name], guaranteed[name]) for name in sorted(guaranteed)]


def _totals(snapshot: Snapshot) -> Counter[str]:
    """What agents have of scalars, for good; thousandths by name."""
    totals: Counter[str] = Counter()
    for agent in snapshot.agents:
        totals.update(Resources.of(agent.total).where(lambda key: key.kind is ValueType.SCALAR and not key.revocable, plain=True).scalars())
    return totals


class Standing:
    """A cluster that is only imagined: the allocator and who holds what in it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.now = Now(0.0, 0.0)
        self.allocator = Allocator.restored(snapshot, self.now)
        self._names = [framework.id for framework in snapshot.frameworks]
        self._views: dict[str, RoleView] | None = None

    def change(self, before: Snapshot, after: Snapshot) -> None:
        """Things become as they are in another snapshot, in the order in which a master would be told."""
        allocator, left = self.allocator, {agent.id for agent in after.agents}
        for agent in before.agents:
            if agent.id not in left:
                for held in agent.held:
                    resources = Resources.sum([Resources.of(held.resources)] * held.count)
                    allocator.recover(held.framework_id, held.role, agent.id, resources, self.now)
                allocator.remove_agent(agent.id)
        known = {role.name: role for role in before.roles}
        for role in after.roles:
            if role.weight != known.get(role.name, RolePart(role.name)).weight:
                allocator.set_weight(role.name, role.weight)
        quotas, old = (
            {role.name: Quota(role.guarantees, role.limits) for role in roles if role.guarantees or role.limits}
            for roles in (after.roles, before.roles)
        )
        if quotas != old:
            allocator.set_quotas(quotas)
        were = {framework.id: framework for framework in before.frameworks}
        for framework in after.frameworks:
            if framework.id not in were:
                self._names.append(framework.id)
                allocator.add_framework(framework.id, framework.roles, (), options_of(framework))
            if framework.demands and framework != were.get(framework.id):
                allocator.request(framework.id, map(demand_of, framework.awaited), self.now)

    def settle(self) -> None:
        """Offer and take until nothing is left to decide. Offers that go beyond a quota are held: who has them keeps them."""
        for _ in range(ROUNDS_MAX):
            if not self.allocator.unsettled:
                return
            result = self.allocator.allocate(self.now)
            for allocation in result.rescind:
                self.allocator.close_offers((allocation,), EMPTY, None, self.now)
            for allocation in result.allocations:
                self._take(allocation)
        raise AssertionError(f"after {ROUNDS_MAX} passes there is still something to decide")

    def make_room(self, snapshot: Snapshot) -> Counter[tuple[str, str]]:
        """Let end what stands in the way of guarantees; how many, by framework and role. Of what a role has, nobody knows here what is
        newest, or a pod."""
        runs: dict[object, Run] = {}
        for agent in snapshot.agents:
            for held in agent.held:
                for _ in range(0 if held.offered else held.count):
                    runs[len(runs)] = Run(len(runs), held.framework_id, held.role, agent.id, Resources.of(held.resources), 0.0)
        ended: Counter[tuple[str, str]] = Counter()
        while chosen := [run for relief in self.allocator.reliefs(runs.values()) for run in relief.ended]:
            for run in chosen:
                del runs[run.key]
                self.allocator.recover(run.framework_id, run.role, run.agent_id, run.resources, self.now)
                ended[run.framework_id, run.role] += 1
            self.settle()
        return ended

    def _take(self, allocation: Allocation) -> None:
        """Use all of an offer."""
        self.allocator.close_offers((allocation,), allocation.resources, None, self.now)
        shapes = [entry.demand.shape for entry, times in allocation.cover for _ in range(times)]
        self.allocator.launched(allocation.framework_id, allocation.role, shapes)

    def roles(self) -> Mapping[str, RoleView]:
        """As they are when it is settled."""
        if self._views is None:
            self._views = {view.role: view for view in self.allocator.shares()}
        return self._views

    def held(self, role: str) -> Counter[str]:
        view = self.roles().get(role)
        return Counter(view.allocated if view is not None else {})

    def share(self, role: str) -> float:
        """The dominant share, without its weight: how much of the cluster a role has."""
        view = self.roles().get(role)
        return view.share * view.weight if view is not None else 0.0

    def waiting(self, role: str) -> int:
        """Tasks that wait in a role and below."""
        entries = (entry for name in self._names for entry in self.allocator.waiting(name))
        return sum(entry.needed for entry in entries if entry.demand.role == role or entry.demand.role.startswith(f"{role}/"))

    def beyond_limits(self, roles: Iterable[RolePart]) -> list[str]:
        """Roles that would hold more than their limits: what runs goes on."""
        return sorted(role.name for role in roles if any(self.held(role.name)[name] > limit for name, limit in role.limits.items()))


def figures(found: Plan) -> dict[str, Any]:
    """Plain numbers, amounts in units."""
    return {
        "roles": [
            {
                "role": role.role,
                "held": _units(role.held),
                "waiting": role.waiting,
                "after": _units(role.after),
                "waiting_after": role.waiting_after,
                "share_before": round(role.share_before, 4),
                "share_after": round(role.share_after, 4),
            }
            for role in found.roles
        ],
        "capacity": [
            {"resource": one.name, "total": one.total / 1000, "guaranteed": one.guaranteed / 1000, "fits": one.fits}
            for one in found.capacity
        ],
        "lost": dict(found.lost),
        "beyond_limits": found.beyond,
        "preempted": [{"framework": framework, "role": role, "tasks": count} for (framework, role), count in found.preempted.items()],
    }


def _units(amounts: Counter[str]) -> dict[str, float]:
    return {name: amount / 1000 for name, amount in sorted(amounts.items()) if amount}
