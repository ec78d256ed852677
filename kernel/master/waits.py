"""How long frameworks wait until they are offered something, for the metrics: of each framework and, spread, of each role.

*First offer*: once for each role of a framework, since it could get offers there; if it states its demand, since it did so.
*Allocation*: of each demand that is offered something, how long some of it had waited. Pure; knows frameworks by what they are called.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator

from kernel.metrics import Tally, Timer

ROLES_MAX = 1000  # Of which something is remembered: those that were offered something last.
SAMPLES_MAX = 100  # Of each of them.


class FrameworkWaits:
    """By role. since_s: where it can get offers and has had none, since when; first_offer_s: how long that took."""

    __slots__ = ("allocation", "first_offer_s", "since_s")

    def __init__(self) -> None:
        self.since_s: dict[str, float] = {}
        self.first_offer_s: dict[str, float] = {}
        self.allocation: dict[str, Tally] = {}

    def want(self, roles: Collection[str], wanted: Collection[str], now_s: float) -> None:
        """Its roles are these now, and it can get offers in those wanted."""
        for role in self.since_s.keys() - wanted:
            del self.since_s[role]
        for kept in (self.first_offer_s, self.allocation):
            for role in kept.keys() - roles:
                del kept[role]
        for role in wanted:
            if role not in self.first_offer_s:
                self.since_s.setdefault(role, now_s)


class RoleWaits:
    """Of one role."""

    __slots__ = ("allocation", "first_offer")

    def __init__(self) -> None:
        self.first_offer, self.allocation = Timer(samples_max=SAMPLES_MAX), Timer(samples_max=SAMPLES_MAX)

    def copy(self) -> RoleWaits:
        """As they are now."""
        copied = RoleWaits()
        copied.first_offer, copied.allocation = self.first_offer.copy(), self.allocation.copy()
        return copied


class Waits:
    """Of all roles, and of the frameworks that are handed in."""

    def __init__(self) -> None:
        self._roles: OrderedDict[str, RoleWaits] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[str, RoleWaits]]:
        return iter(self._roles.items())

    def served(self, framework: FrameworkWaits, role: str, waited_s: float, now_s: float) -> None:
        """A demand that had waited so long was offered something."""
        framework.allocation[role] = framework.allocation.get(role, Tally()).with_one(waited_s)
        self._of(role).allocation.record(waited_s, now_s)
        if framework.since_s.pop(role, None) is not None:
            self._first(framework, role, waited_s, now_s)

    def offered(self, framework: FrameworkWaits, role: str, now_s: float) -> None:
        """It was offered something, whether or not it had said that it wants that."""
        since_s = framework.since_s.pop(role, None)
        if since_s is not None:
            self._first(framework, role, now_s - since_s, now_s)

    def _first(self, framework: FrameworkWaits, role: str, waited_s: float, now_s: float) -> None:
        framework.first_offer_s[role] = waited_s
        self._of(role).first_offer.record(waited_s, now_s)

    def _of(self, role: str) -> RoleWaits:
        waits = self._roles.get(role)
        if waits is None:
            waits = self._roles[role] = RoleWaits()
            if len(self._roles) > ROLES_MAX:
                self._roles.popitem(last=False)
        else:
            self._roles.move_to_end(role)
        return waits
