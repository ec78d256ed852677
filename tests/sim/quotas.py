"""Operators who set quotas and weights at random, forced ones too, under all faults."""

from __future__ import annotations

from typing import Any

from kernel.errors import KernelError
from kernel.master.allocator.quota import unreserved_amount
from kernel.wire import operator
from kernel.wire.operator import QuotaConfig, WeightInfo
from kernel.wire.roles import ancestors
from kernel.wire.values import Scalar
from tests.kernel.master import invariants
from tests.sim.cluster import Cluster

ROLES = ("role0", "role1", "role1/x", "role2")  # The first two have a framework each.


class Regulated(Cluster):
    """A cluster that checks after each step that no new offer is beyond a limit. set: how many quotas and weights were."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.set = 0
        self._known: set[str] = set()

    def regulate(self) -> None:
        """One deed, chosen by chance; one that is refused is not tried again."""
        chance = self.world.chance
        role = chance.choice(ROLES)
        if chance.random() < 0.2:
            self._try(operator.UpdateWeights((WeightInfo(chance.choice((0.5, 1.0, 3.0)), role),)))
        elif chance.random() < 0.2:
            self._try(operator.RemoveQuota(role))
        else:
            configs = [self._config(of) for of in chance.sample(ROLES, chance.randrange(1, 3))]
            self._try(operator.UpdateQuota(chance.random() < 0.5, tuple(configs)))

    def _config(self, role: str) -> QuotaConfig:
        chance = self.world.chance

        def some(*amounts: float) -> dict[str, Scalar]:
            return {name: Scalar(chance.choice(amounts) * unit) for name, unit in (("cpus", 1), ("mem", 64)) if chance.random() < 0.5}

        return QuotaConfig(role, some(0.5, 2.0, 9.0), some(1.0, 4.0, 9.0))

    def free_all(self) -> None:
        """Nobody is limited or guaranteed anything any more, so that all work can end."""
        if self.master.core is None:
            self.world.after(1.0, self.free_all)
            return
        for role in list(self.master.core.state.quotas):
            self._try(operator.RemoveQuota(role))
        if self.master.core is None or self.master.core.state.quotas:
            self.world.after(1.0, self.free_all)

    def _try(self, message: Any) -> None:
        if self.master.core is not None and not isinstance(self.master.give(message), KernelError) and self.master.core is not None:
            self.set += 1

    def _check_sums(self) -> None:
        super()._check_sums()
        state = self.master.core.state
        for offer_id, offer in state.offers.items():
            if offer_id in self._known:
                continue
            for role in (offer.role, *ancestors(offer.role)):
                for bound in state.allocator._state.quota.bounds.get(role, ()):
                    within = bound.limit is None or bound.consumed <= bound.limit or not unreserved_amount(offer.resources, bound.name)
                    assert within, f"{role} consumes {bound.consumed} of {bound.limit} {bound.name} with offer {offer_id}"
        self._known = set(state.offers)
        if self.world.chance.random() < 0.02:  # All of it takes long.
            invariants.check(state)


def live(seed: int, seconds: float = 120.0) -> Regulated:
    """A whole history. Raises AssertionError."""
    cluster = Regulated(seed)

    def regulate() -> None:
        if cluster.world.now_s < seconds - 10:
            cluster.regulate()
            cluster.world.after(cluster.world.chance.expovariate(1 / 5), regulate)

    cluster.world.after(5.0, regulate)
    cluster.run(seconds)
    cluster.free_all()
    cluster.settle()
    cluster.check_end()
    return cluster
