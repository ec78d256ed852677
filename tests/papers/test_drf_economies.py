"""Sharing incentive, strategy-proofness, Pareto efficiency and envy-freeness (Ghodsi et al., NSDI 2011) of the master's own allocator,
on random economies.

The paper proves them for tasks that can be cut at will. With whole tasks they hold up to one task of each user, and that is what is
asserted here, without a margin; how the bounds come about is in docs/decisions/allocator.md. Exactly hold: Pareto efficiency, and
that the turns are those of the paper's algorithm. A failure names its seed.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest

from tests.kernel.master.allocator.cluster import demand, parse
from tests.papers.economies import (
    LEAD,
    Economy,
    Tie,
    allocated,
    by_turns,
    continuous,
    fits,
    opened,
    random_claim,
    random_economy,
    tasks_of,
    text,
)  # fmt: skip

COUNT, SOAK = 300, 100_000
MACHINES_COUNT, MACHINES_SOAK = 50, 10_000


def economies(count: int, soak: int, *more: int) -> pytest.MarkDecorator:
    """The seeds: a few, and some more, in `make test`, all of the bar in `make soak`."""
    whole = pytest.param(range(soak), marks=[pytest.mark.soak, pytest.mark.timeout(3600)], id=f"{soak} economies")
    return pytest.mark.parametrize("seeds", [pytest.param((*range(count), *more), id=f"{count} economies"), whole])


# ---- the yardstick: what the paper proves holds for the continuous solution ------------------------------------------------------


@pytest.mark.parametrize("zeros", [False, True], ids=["all needed", "not all needed"])
def test_the_continuous_solution_has_the_four_properties(zeros: bool) -> None:
    for seed in range(COUNT):
        economy = random_economy(seed, zeros)
        tasks = continuous(economy)
        for user in economy.users:
            mine, fair = tasks[user.name], Fraction(user.weight, economy.weights)
            assert mine >= fits(dict.fromkeys(economy.machine, fair), economy, user), f"no sharing incentive, seed {seed}"
            for other in economy.users:
                ratio = tasks[other.name] * Fraction(user.weight, other.weight)
                bundle = {name: ratio * economy.part(other, name) for name in economy.machine}
                assert fits(bundle, economy, user) <= mine, f"envy, seed {seed}"
        used = {name: sum(tasks[user.name] * economy.part(user, name) for user in economy.users) for name in economy.machine}
        for user in economy.users:
            assert any(used[name] == 1 and economy.part(user, name) for name in used), f"not efficient, seed {seed}"
        if not zeros:
            liar = economy.users[seed % len(economy.users)]
            claim = random_claim(seed, economy, liar)
            lying = economy.instead(liar, task=claim)
            got = continuous(lying)[liar.name]
            assert got * usefulness(economy, liar.name, claim) <= tasks[liar.name], f"a lie pays, seed {seed}"


def usefulness(economy: Economy, name: str, claim: Mapping[str, int]) -> Fraction:
    """How many tasks (cut at will) one task as it is claimed can run."""
    liar = next(user for user in economy.users if user.name == name)
    return min(Fraction(claim[name], amount) for name, amount in liar.task.items() if amount)


# ---- one machine -----------------------------------------------------------------------------------------------------------------


@economies(COUNT, SOAK)
def test_the_turns_are_those_of_the_papers_algorithm(seeds: Sequence[int]) -> None:
    """Task by task the same, wherever the algorithm says whose turn it is."""
    compared = 0
    for seed in seeds:
        economy = random_economy(seed, zeros=seed % 3 == 0)
        if min(map(economy.dominant, economy.users)) < Fraction(1, 200):
            continue  # Thousands of turns.
        try:
            expected = by_turns(economy)
        except Tie:
            continue
        assert allocated(economy) == expected, f"seed {seed}"
        compared += 1
    assert compared > len(seeds) // 20


@economies(COUNT, SOAK)
def test_pareto_efficiency_no_task_of_anybody_fits_in_what_is_left(seeds: Sequence[int]) -> None:
    for seed in seeds:
        economy = random_economy(seed, zeros=seed % 2 == 0)
        tasks = allocated(economy)
        left = {
            name: size - sum(tasks[user.name] * user.task.get(name, 0) for user in economy.users) for name, size in economy.machine.items()
        }
        assert min(left.values()) >= 0
        for user in economy.users:
            assert any(amount > left[name] for name, amount in user.task.items()), f"seed {seed}: {user.name} fits in {left}"


@economies(COUNT, SOAK)
def test_sharing_incentive_everybody_has_its_part_of_the_machine_up_to_one_task_of_each(seeds: Sequence[int]) -> None:
    """Equal levels of all, at a user's, and one task more for each do not fit: its level times all weights and one task each pass
    the whole of some resource."""
    for seed in seeds:
        economy = random_economy(seed, zeros=seed % 2 == 0)
        tasks = allocated(economy)
        for user in economy.users:
            reached = (economy.level(user, tasks[user.name]) + LEAD) * economy.weights
            over = max(economy.one_each(name) for name in economy.machine if economy.part(user, name))
            assert reached + over > 1, f"seed {seed}: {user.name}"


@economies(COUNT, SOAK)
def test_everybody_is_within_one_task_of_each_of_the_continuous_solution(seeds: Sequence[int]) -> None:
    """The level of no user is lower than the common one by more than what it rises when each runs one task more."""
    for seed in seeds:
        economy = random_economy(seed)
        tasks, exact = allocated(economy), continuous(economy)
        step = max(economy.one_each(name) / economy.pull(name) for name in economy.machine)
        for user in economy.users:
            short = economy.level(user, exact[user.name] - tasks[user.name])
            assert short < LEAD + step, f"seed {seed}: {user.name} has {tasks[user.name]} of {float(exact[user.name])}"


@economies(COUNT, SOAK)
def test_envy_freeness_nobody_could_run_more_tasks_with_what_another_has_but_for_one_task_of_each(seeds: Sequence[int]) -> None:
    """Without its last task, what another has, by weight, holds less than one task more than one's own."""
    for seed in seeds:
        economy = random_economy(seed, zeros=seed % 2 == 0)
        tasks = allocated(economy)
        for user in economy.users:
            lead = LEAD * user.weight / economy.dominant(user)
            for other in economy.users:
                if other is user or not tasks[other.name]:
                    continue
                ratio = Fraction(user.weight, other.weight)
                bundle = {name: ratio * (tasks[other.name] - 1) * economy.part(other, name) for name in economy.machine}
                assert fits(bundle, economy, user) < tasks[user.name] + ratio + lead, f"seed {seed}: {user.name} envies {other.name}"


@economies(COUNT, SOAK)
def test_strategy_proofness_a_lie_gains_no_task_over_the_continuous_solution_but_for_one_task_of_each(seeds: Sequence[int]) -> None:
    """Whatever a user claims to need, its honest tasks that fit in what it gets are no more than cut tasks would give it for the
    truth, one task as claimed, and what one task of one other user holds."""
    for seed in seeds:
        economy = random_economy(seed)
        liar = economy.users[seed % len(economy.users)]
        claim = random_claim(seed, economy, liar)
        useful = usefulness(economy, liar.name, claim)
        got = allocated(economy.instead(liar, task=claim))[liar.name] * useful
        last = max(
            economy.part(other, name) / economy.part(liar, name) for other in economy.users for name in economy.machine if other is not liar
        )
        lead = LEAD * liar.weight / economy.dominant(liar)
        assert got <= continuous(economy)[liar.name] + useful + last + lead, f"seed {seed}: {liar.name} claims {claim}"


# ---- many machines ---------------------------------------------------------------------------------------------------------------


def machines(seed: int) -> tuple[list[dict[str, int]], Economy]:
    """Two to twelve machines, some alike, and users whose tasks fit on one of them at least."""
    dice, economy = random.Random(f"machines {seed}"), random_economy(seed, zeros=seed % 2 == 0)
    found = [dict(economy.machine)]
    for _ in range(dice.randint(1, 11)):
        found.append({name: max(1, round(size * dice.choice((1, 1, 0.5, dice.random())))) for name, size in economy.machine.items()})
    return found, economy


@economies(MACHINES_COUNT, MACHINES_SOAK)
def test_many_machines_are_used_efficiently_no_task_of_anybody_fits_on_any(seeds: Sequence[int]) -> None:
    for seed in seeds:
        found, economy = machines(seed)
        cluster = opened(found, economy.users)
        cluster.allocate()
        for agent in cluster.allocator._state.agents.values():
            for user in economy.users:
                assert not agent.free.contains(parse(text(user.task))), f"seed {seed}: {user.name} on {agent.agent_id}"


@economies(MACHINES_COUNT, MACHINES_SOAK, 1297)  # There, one that starved always came when another had just taken the turn.
def test_on_many_machines_nobody_starves(seeds: Sequence[int]) -> None:
    """Everybody always wants more and whoever ran longest ends first: each user runs a task within bounded time."""
    for seed in seeds:
        found, economy = machines(seed)
        waiting = {user.name for user in economy.users}
        cluster = opened(found, economy.users, count=1000)
        rounds = 0
        while waiting:
            rounds += 1
            assert rounds < 200, f"seed {seed}: {waiting} wait, {tasks_of(cluster, economy.users)}"
            for offer in list(cluster.offers):
                waiting.discard(offer.framework_id)
                cluster.launch(offer, refuse_s=None)
            for _ in range(-(-len(cluster.tasks) // 10)):
                cluster.finish(0)
            for user in economy.users:
                cluster.request(user.name, demand(text(user.task), 1000, user.name))
            cluster.wait(1)
