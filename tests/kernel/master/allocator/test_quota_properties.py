"""What quota keeps to whatever happens: the rule of headroom against an oracle, and random histories with quotas set at random."""

from __future__ import annotations

import pytest
from hypothesis import example, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from kernel.master.allocator import Quota
from tests.kernel.master.allocator import test_properties as histories
from tests.kernel.master.allocator.cluster import TestCluster, demand

ROLES = ("a", "a/x", "a/x/1", "a/y", "b", "b/z", "*")


# ---- The rule of headroom -------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@drawn(
    st.dictionaries(st.sampled_from(ROLES), st.tuples(st.integers(0, 6), st.none() | st.integers(0, 8)), max_size=6),
    st.dictionaries(st.sampled_from(ROLES), st.integers(0, 4), max_size=5),
    st.integers(0, 20),
    st.sampled_from(ROLES),
)
def test_headroom_is_what_the_oracle_says(quotas: dict[str, tuple[int, int | None]], held: dict[str, int], free: int, role: str) -> None:
    """A leaf may take x iff no limit on its path is passed and what is then free covers what is then to be kept, or falls no further
    short of it than before; the oracle tries every x and adds everything up anew."""
    c = TestCluster()
    for number, (of, amount) in enumerate(held.items()):
        c.framework(f"f{number}", of)
        if amount:
            c.agent(f"a{number}", f"cpus:{amount};mem:100")
            for offer in c.allocate():
                c.launch(offer)
            c.allocator.suppress(f"f{number}", [])
    c.allocator.add_framework("leaf", [role], [role], histories.FrameworkOptions())
    if free:
        c.agent("free", f"cpus:{free};mem:100")
    c.quotas = {of: Quota({"cpus": g * 1000}, {} if limit is None else {"cpus": limit * 1000}) for of, (g, limit) in quotas.items()}
    c.allocator.set_quotas(c.quotas)
    state = c.allocator._state
    leaf = state.frameworks["leaf"].leaves[role]
    total = (free and state.agents["free"].free) or histories.Resources()
    may = state.quota.shrink(leaf, total).cpus // 1000

    def allowed(x: int) -> bool:
        before = max(0, c.unmet("cpus") - free * 1000)
        c.tasks.append(("leaf", role, "free", histories.Resources(cpus=x * 1000)))
        within = all(
            limit is None or not x or c.consumed(of).get("cpus", 0) <= limit * 1000
            for of, (_, limit) in quotas.items()
            if role == of or role.startswith(f"{of}/")
        )
        after = max(0, c.unmet("cpus") - (free - x) * 1000)
        c.tasks.pop()
        return within and after <= before

    assert may == max(x for x in range(free + 1) if allowed(x))


# ---- Histories ------------------------------------------------------------------------------------------

WORDS = (*histories.WORDS, "quota", "quota", "quota", "reserve")
steps = st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 5), st.integers(0, 5), st.integers(0, 3)), max_size=60)


class History(histories.History):
    """With quotas set, and resources reserved, at random. TestCluster checks after each pass that no offer passes a limit or takes
    what is kept."""

    def quota(self, a: int, b: int, c: int) -> None:
        role = histories.ROLES[a % 4]
        guarantee = ("", "cpus:2", "cpus:1;mem:400", "mem:700", "gpus:1", "cpus:9")[b]
        limit = ("", "cpus:3", "cpus:2;mem:500", "mem:100;gpus:0")[c]
        beyond = self.cluster.quota(role, guarantee, limit)
        assert len(beyond) == len(set(beyond))
        consumed = self.cluster.consumed(role)
        if role in self.cluster.quotas:
            for name, most in self.cluster.quotas[role].limits.items():
                still = [o for o in self.cluster.offers if o.role == role or o.role.startswith(f"{role}/")]
                assert consumed.get(name, 0) <= most or not any(
                    o.resources.where(lambda _: False, plain=True).scalars().get(name) for o in still
                )

    def reserve(self, a: int, b: int, c: int) -> None:
        """An agent has other resources: some of it is reserved now."""
        if self.cluster.totals:
            agent_id = list(self.cluster.totals)[a % len(self.cluster.totals)]
            held = [offer for offer in self.cluster.offers if offer.agent_id == agent_id]
            self.cluster.rescind(*held)
            if not any(task[2] == agent_id for task in self.cluster.tasks):
                role = histories.ROLES[1 + b % 3]
                self.cluster.update_agent(agent_id, f"cpus:2;mem:1000;cpus({role}):2;mem({role}):300" if c else "cpus:4;mem:1300")


def check_nothing_was_overlooked(player: History) -> None:
    """Nobody can have anything that is free. An offer may still be taken back: if what it holds was guaranteed to its role when that was
    looked into, and no longer is, a demand waits until it starves, at most."""
    state, taken_back = player.cluster.allocator._state, len(player.cluster.rescinded)
    for agent in state.agents.values():
        if agent.free:
            state.look_at(agent)
    for framework in state.frameworks.values():
        for leaf in framework.leaves.values():
            state.unsettle(leaf)
    made = player.cluster.allocate()
    assert made == [] or len(player.cluster.rescinded) > taken_back


# At its limit, but for one more cpu beside what was reserved for it, which was kept for others until an agent came.
@example([
    ("request", 1, 2, 1), ("quota", 0, 5, 0), ("request", 2, 0, 0), ("active", 0, 0, 0), ("quota", 1, 0, 1), ("agent", 0, 0, 0),
])  # fmt: skip
@settings(max_examples=300, deadline=None)
@drawn(steps)
def test_no_limit_is_passed_nothing_kept_is_given_and_nothing_is_overlooked(history: list[histories.Step]) -> None:
    player = History()
    player.play(history)
    histories.check_sums(player)
    histories.check_demands(player)
    check_nothing_was_overlooked(player)


# What was refused without what was kept for a guarantee was not offered with it, when it no longer was.
@example(history=[("launch", 0, 0, 0), ("quota", 1, 4, 0), ("decline", 2, 0, 1), ("decline", 2, 0, 1), ("agent", 2, 0, 0)])
@pytest.mark.parametrize("slice_steps", [1, 3])
@settings(max_examples=50, deadline=None)
@drawn(history=steps)
def test_slices_keep_quotas_too(slice_steps: int, history: list[histories.Step]) -> None:
    player = History()
    ticks = iter(range(10**9))
    cluster = player.cluster
    whole = cluster.allocate
    cluster.allocate = lambda *_: whole(slice_steps, lambda: float(next(ticks)))  # type: ignore[method-assign]
    player.play(history)
    histories.check_demands(player)
    check_nothing_was_overlooked(player)


@settings(max_examples=100, deadline=None)
@drawn(steps, st.sampled_from(("a", "a/x", "b")))
def test_a_guarantee_is_met_in_bounded_time(history: list[histories.Step], role: str) -> None:
    """Whatever happened before: while others keep launching what they get and every task ends some time, a role that is guaranteed what
    one agent can give has it soon."""
    player = History()
    player.cluster.agent("first", "cpus:4;mem:4000")
    player.play(history)
    cluster = player.cluster
    if "first" not in cluster.totals or cluster.totals["first"].cpus < 4000:
        return
    for other in list(cluster.quotas):
        cluster.quota(other)
    cluster.allocator.set_agent_active("first", True)
    cluster.quota(role, "cpus:3;mem:300")
    cluster.framework("last", role, demands=True)
    cluster.request("last", demand("cpus:1;mem:100", 3, role))
    rounds = 0
    while cluster.allocator.explain("last") and cluster.consumed(role).get("cpus", 0) < 3000:  # Others may be in the role, too.
        rounds += 1
        assert rounds < 200, cluster.allocator.explain("last")
        for offer in list(cluster.offers):
            if rounds % 3 == 0 and offer.framework_id != "last":
                cluster.launch(offer, refuse_s=None)
        if cluster.tasks:
            cluster.finish(0)
        cluster.wait(1)
