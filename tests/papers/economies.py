"""Economies of the paper on Dominant Resource Fairness (NSDI 2011): users who run as many tasks of one shape as they get.

The continuous solution, in which tasks can be cut at will, is reckoned here in exact fractions by raising the levels (dominant share
by weight) of all users at once, until what they need is used up. What the allocator does with whole tasks is compared with it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from kernel.master.allocator.sorter import SLACK
from tests.kernel.master.allocator.cluster import TestCluster, demand

ENDLESS = 10**9
# So much further may a level be raised than that of the next in line before it is another's turn.
LEAD = Fraction(SLACK).limit_denominator(10**6)

Amounts = Mapping[str, int]  # Thousandths by name.


@dataclass(frozen=True)
class User:
    name: str
    task: Amounts
    weight: int = 1


@dataclass(frozen=True)
class Economy:
    """One machine and its users."""

    machine: Amounts
    users: tuple[User, ...]

    @property
    def weights(self) -> int:
        return sum(user.weight for user in self.users)

    def part(self, user: User, name: str) -> Fraction:
        """What part of the machine's resource one task takes."""
        return Fraction(user.task.get(name, 0), self.machine[name])

    def dominant(self, user: User) -> Fraction:
        """The dominant share of one task."""
        return max(self.part(user, name) for name in self.machine)

    def level(self, user: User, tasks: int | Fraction) -> Fraction:
        """Its weighted dominant share when it runs so many."""
        return tasks * self.dominant(user) / user.weight

    def pull(self, name: str) -> Fraction:
        """How much of the resource goes when all levels rise by one."""
        return sum((self.part(user, name) * user.weight / self.dominant(user) for user in self.users), Fraction(0))

    def one_each(self, name: str) -> Fraction:
        """What part of the resource one task of each user takes."""
        return sum((self.part(user, name) for user in self.users), Fraction(0))

    def instead(self, user: User, **changes: object) -> Economy:
        """The same with a user who says something else."""
        changed = replace(user, **changes)  # type: ignore[arg-type]
        return replace(self, users=tuple(changed if other == user else other for other in self.users))


def text(amounts: Amounts) -> str:
    return ";".join(f"{name}:{amount / 1000}" for name, amount in amounts.items() if amount)


def opened(machines: Iterable[Amounts], users: Iterable[User], count: int = ENDLESS) -> TestCluster:
    """The allocator with these machines and users, each in a role of its own and asking for so many tasks."""
    cluster = TestCluster()
    for number, machine in enumerate(machines):
        cluster.agent(f"m{number}", text(machine))
    for user in users:
        cluster.framework(user.name, user.name)
        cluster.allocator.set_weight(user.name, float(user.weight))
        cluster.request(user.name, demand(text(user.task), count, user.name))
    return cluster


def tasks_of(cluster: TestCluster, users: Iterable[User]) -> dict[str, int]:
    """How many tasks each user has been offered the resources of."""
    tasks = {user.name: 0 for user in users}
    for offer in cluster.offers:
        tasks[offer.framework_id] += sum(times for _, times in offer.cover)
    return tasks


def allocated(economy: Economy) -> dict[str, int]:
    """How many tasks each user gets of the allocator."""
    cluster = opened([economy.machine], economy.users)
    cluster.allocate()
    return tasks_of(cluster, economy.users)


def continuous(economy: Economy) -> dict[str, Fraction]:
    """How many tasks each gets when tasks can be cut: all levels rise together; who needs what is used up stays where it is."""
    level, left = Fraction(0), {name: Fraction(1) for name in economy.machine}
    rising, levels = list(economy.users), {}
    while rising:
        pulls = {name: sum(economy.part(user, name) * user.weight / economy.dominant(user) for user in rising) for name in left}
        step = min(left[name] / pull for name, pull in pulls.items() if pull)
        level += step
        left = {name: rest - step * pulls[name] for name, rest in left.items()}
        for user in list(rising):
            if any(not left[name] and economy.part(user, name) for name in left):
                levels[user.name] = level
                rising.remove(user)
    return {user.name: levels[user.name] * user.weight / economy.dominant(user) for user in economy.users}


class Tie(Exception):
    """Two users are as good as level: whose turn it is, is not the algorithm's matter."""


def by_turns(economy: Economy) -> dict[str, int]:
    """Algorithm 1 of the paper with whole tasks: the lowest level of those whose task fits is next. Users who have nothing yet come
    by name; raises Tie at other ties."""
    left, tasks = dict(economy.machine), {user.name: 0 for user in economy.users}
    while True:
        able = [user for user in economy.users if all(user.task.get(name, 0) <= rest for name, rest in left.items())]
        if not able:
            return tasks
        order = sorted((economy.level(user, tasks[user.name]), user.name, user) for user in able)
        if len(order) > 1 and order[1][0] and order[1][0] - order[0][0] <= LEAD:
            raise Tie
        user = order[0][2]
        tasks[user.name] += 1
        for name, amount in user.task.items():
            left[name] -= amount


def fits(bundle: Mapping[str, Fraction], economy: Economy, user: User) -> Fraction:
    """How many tasks of the user a bundle (parts of the machine) holds, cut at will."""
    return min(bundle[name] / economy.part(user, name) for name in economy.machine if economy.part(user, name))


def random_economy(seed: int, zeros: bool = False, weighted: bool = True) -> Economy:
    """Two to six users, one to four resources, tasks from a thousandth of the machine up to all of it. zeros: some tasks need
    nothing of some resource."""
    dice = random.Random(seed)
    names = dice.sample(["cpus", "mem", "disk", "bandwidth"], dice.randint(1, 4))
    machine = {name: 1000 * dice.choice((dice.randint(1, 12), dice.randint(10, 200))) for name in names}
    users = []
    for number in range(dice.randint(2, 6)):
        most = dice.choice((0.01, 0.05, 0.2, 1.0))
        task = {name: max(1, round(size * most * dice.random())) for name, size in machine.items()}
        if zeros:
            kept = dice.choice(names)
            task = {name: amount if name == kept or dice.random() < 0.6 else 0 for name, amount in task.items()}
        users.append(User(f"u{number}", task, dice.choice((1, 1, 2, 3, 5)) if weighted else 1))
    return Economy(machine, tuple(users))


def random_claim(seed: int, economy: Economy, user: User) -> Amounts:
    """What a user may say it needs instead, to gain by it: more or less of anything."""
    dice = random.Random(f"claim {seed}")
    names: Sequence[str] = list(economy.machine)
    lied = {name for name in names if dice.random() < 0.6} or {dice.choice(names)}
    return {
        name: min(economy.machine[name], max(1, round(amount * 4 ** dice.uniform(-1, 1)))) if name in lied else amount
        for name, amount in user.task.items()
    }
