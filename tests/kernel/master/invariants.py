"""What holds in a master's state between any two inputs, whatever came in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from kernel.master.allocator.quota import unreserved_amount
from kernel.master.model import Agent, Framework
from kernel.master.quantities import Holdings
from kernel.master.roles import consumed_by
from kernel.master.state import MasterState
from kernel.master.transitions import NEXT, AgentState, FrameworkState
from kernel.wire.conversion import unshared
from kernel.wire.resources import EMPTY, Resources, ValueType
from kernel.wire.roles import is_same_or_below


def check(state: MasterState) -> None:
    for agent_id, agent in state.agents.items():
        assert agent.agent_id == agent_id
        _check_agent(state, agent)
    for framework_id, framework in state.frameworks.items():
        assert framework.framework_id == framework_id
        _check_framework(state, framework)
    _check_indexes(state)
    _check_allocator(state)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum of parts of which no two have a number or item in common."""
    whole, sizes = EMPTY, Counter[str]()
    for part in parts:
        whole += part
        sizes.update(unshared(part).scalars())
    assert unshared(whole).scalars() == {name: size for name, size in sizes.items() if size}, "something is held twice"
    return whole


def _check_agent(state: MasterState, agent: Agent) -> None:
    held = [task.resources for task in agent.tasks.values() if not task.freed] + [e.resources for e in agent.executors.values()]
    assert agent.used == total(held)
    assert agent.offered == total(offer.resources for offer in agent.offers.values())
    total([agent.used, agent.offered])
    assert agent.total.without(unshared(agent.used)).contains(agent.offered), "what is offered is not there, or used"
    assert agent.state in (AgentState.REGISTERED, AgentState.DISCONNECTED, AgentState.RECOVERED)
    assert (agent.link is not None) == (agent.state is AgentState.REGISTERED)
    assert agent.link is None or state.links[agent.link] is agent
    assert not agent.offers or agent.active
    assert agent.deactivation == state.deactivated.get(agent.agent_id)
    assert (agent.agent_id in state.recovered) == (agent.state is AgentState.RECOVERED)
    assert agent.agent_id not in state.gone
    assert agent.agent_id not in state.unreachable
    for (framework_id, task_id), task in agent.tasks.items():
        assert (task.framework_id, task.task_id, task.agent_id) == (framework_id, task_id, agent.agent_id)
        assert state.frameworks[framework_id].tasks[task_id] is task
        assert task.state in NEXT
        assert task.freed == task.terminal
    for uuid, operation in agent.operations.items():
        assert (operation.uuid, operation.agent_id) == (uuid, agent.agent_id)
        if operation.operation_id and operation.framework_id in state.frameworks:
            assert state.frameworks[operation.framework_id].operations[operation.operation_id] is operation
    for (framework_id, executor_id), executor in agent.executors.items():
        assert state.frameworks[framework_id].executors[agent.agent_id, executor_id] is executor


def _check_framework(state: MasterState, framework: Framework) -> None:
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for task_id, task in framework.tasks.items():
        assert state.agents[task.agent_id].tasks[framework.framework_id, task_id] is task
        if not task.freed:
            sums[task.role].update(task.resources.scalars())
    for (agent_id, executor_id), executor in framework.executors.items():
        assert state.agents[agent_id].executors[framework.framework_id, executor_id] is executor
        sums[executor.role].update(executor.resources.scalars())
    assert _by_role(framework.used) == _without_nothing(sums)
    offered: dict[str, Counter[str]] = defaultdict(Counter)
    for offer in framework.offers.values():
        offered[offer.role].update(offer.resources.scalars())
    assert _by_role(framework.offered) == _without_nothing(offered)
    assert +framework.live == Counter(task.state.value for task in framework.tasks.values())
    assert (framework.stream is not None) == (framework.state is FrameworkState.ACTIVE)
    assert not framework.offers or framework.state is FrameworkState.ACTIVE
    assert framework.suppressed <= set(framework.roles)
    assert (framework.failover_due_s is None) == (framework.stream is not None)
    assert framework.framework_id not in state.removed_ids
    for agent_id, agent in framework.linked.items():
        assert state.agents[agent_id] is agent
        assert framework.framework_id in agent.frameworks_known
    for task_id, task in framework.unreachable.items():
        assert task.task_id == task_id
        assert (framework.framework_id, task_id) in state.unreachable[task.agent_id].tasks
    for operation_id, operation in framework.operations.items():
        assert operation.operation_id == operation_id
        assert state.agents[operation.agent_id].operations[operation.uuid] is operation
    assert len(framework.unreachable) <= state.config.max_unreachable_tasks_per_framework


def _by_role(holdings: Holdings) -> dict[str, Counter[str]]:
    return {role: quantities.scalars() for role, quantities in holdings.by_role.items()}


def _without_nothing(sums: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    return {role: +amounts for role, amounts in sums.items() if +amounts}


def _check_indexes(state: MasterState) -> None:
    assert {link: agent.agent_id for link, agent in state.links.items()} == {
        agent.link: agent.agent_id for agent in state.agents.values() if agent.link is not None
    }
    assert {stream: f.framework_id for stream, f in state.streams.items()} == {
        f.stream: f.framework_id for f in state.frameworks.values() if f.stream is not None
    }
    for offers in (
        [o for a in state.agents.values() for o in a.offers.values()],
        [o for f in state.frameworks.values() for o in f.offers.values()],
    ):
        assert {offer.offer_id for offer in offers} == set(state.offers)
    assert {offer.offer_id for offer in state.offer_of.values()} == set(state.offers)
    for agent in state.agents.values():
        for framework_id in agent.frameworks_known:
            assert state.frameworks[framework_id].linked[agent.agent_id] is agent
    for address, agent_id in state.addresses.items():
        known = state.agents.get(agent_id) or state.unreachable[agent_id]
        assert known.address == address
    assert set(state.runs.values()) <= set(state.agents)
    assert len(state.runs) <= len(state.agents)
    assert not set(state.frameworks) & set(state.completed)
    assert not set(state.deactivated) - set(state.agents) - set(state.unreachable)
    assert not state.emptied
    _check_maintenance(state)


def _check_maintenance(state: MasterState) -> None:
    machines = state.machines
    assert machines.down <= set(machines.windows)
    for agent in state.agents.values():
        assert agent.unavailability == machines.unavailability(agent.info.hostname, agent.ip)
        assert not machines.is_down(agent.info.hostname, agent.ip)
        for framework_id, inquiry in agent.inquiries.items():
            offer = inquiry.offer
            assert agent.unavailability is not None
            if offer is not None:
                assert state.inverse_offers[offer.offer_id] is offer
                assert (offer.agent, offer.framework) == (agent, state.frameworks[framework_id])
                assert agent.link is not None
    for key, notice in state.notices.of.items():
        assert key in notice.tasks
        assert notice.inquiry.offer is None or not notice.killed
    inquiries = [inquiry for agent in state.agents.values() for inquiry in agent.inquiries.values()]
    inquiries += [notice.inquiry for notice in state.notices.all()]
    out = {inquiry.offer.offer_id for inquiry in inquiries if inquiry.offer is not None}
    assert out == set(state.inverse_offers)
    assert out == {offer_id for framework in state.frameworks.values() for offer_id in framework.inverse_offers}
    for framework in state.frameworks.values():
        assert not framework.inverse_offers or framework.stream is not None


def _shared(resources: Resources) -> dict[str, int]:
    """What counts into shares: ranges and sets do not."""
    return resources.where(lambda key: key.kind is ValueType.SCALAR, plain=True).scalars()


def _check_allocator(state: MasterState) -> None:
    inner = state.allocator._state
    assert set(inner.agents) == set(state.agents)
    assert set(inner.frameworks) == set(state.frameworks)
    for agent_id, agent in state.agents.items():
        seen = inner.agents[agent_id]
        assert seen.total == agent.total
        assert seen.held == total([unshared(agent.used), agent.offered])
        assert seen.free == agent.total.without(seen.held)
        assert seen.active == agent.active
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for framework_id, framework in state.frameworks.items():
        assert inner.frameworks[framework_id].active == (framework.stream is not None)
        for holder in [*(task for task in framework.tasks.values() if not task.freed), *framework.executors.values()]:
            sums[framework_id, holder.role].update(_shared(unshared(holder.resources)))
        for offer in framework.offers.values():
            sums[framework_id, offer.role].update(_shared(offer.resources))
        for role, leaf in inner.frameworks[framework_id].leaves.items():
            amounts = {"cpus": leaf.cpus, "mem": leaf.mem, "disk": leaf.disk, "gpus": leaf.gpus, **(leaf.extra or {})}
            expected = sums.pop((framework_id, role), Counter())
            seen_there = {name: amount for name, amount in amounts.items() if amount}
            assert seen_there == {name: amount for name, amount in expected.items() if amount}, (framework_id, role)
    assert not any(any(amounts.values()) for amounts in sums.values()), "held in a role the allocator knows nothing of"
    _check_quotas(state)


def _check_quotas(state: MasterState) -> None:
    """What the allocator counts against quotas is what is reserved, used and offered."""
    quota = state.allocator._state.quota
    assert quota.quotas == state.quotas
    for role, bounds in quota.bounds.items():
        consumed = consumed_by(state, role)
        for framework in state.frameworks.values():
            for of, held in framework.offered.by_role.items():
                if is_same_or_below(of, role):
                    consumed.update(held.scalars(free_only=True))
        for bound in bounds:
            assert bound.consumed == consumed[bound.name], (role, bound.name)
    free: Counter[str] = Counter()
    for agent in state.allocator._state.agents.values():
        if agent.open and agent.claim is None:
            free.update({pool.name: unreserved_amount(agent.free, pool.name) for pool in quota.pools})
    for pool in quota.pools:
        assert pool.free == free[pool.name]
        tops = [bound for bounds in quota.bounds.values() for bound in bounds if bound.name == pool.name and bound.parent is None]
        assert pool.below == sum(bound.unmet for bound in tops)
