"""Where something is free: an index of agents for those who look for room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from kernel.master.allocator.sorter import shared_amounts
from kernel.wire.revocable import firm, revocable

if TYPE_CHECKING:
    from kernel.master.allocator.state import Agent

APPLY_AT_ONCE = 256  # Changes of an index: some 300 us.

Bucket = tuple[int, int]


class FreeIndex:
    """Active agents with something free, by the magnitude of their free cpus and mem: a shape is looked for only where it may fit.

    Agents that changed go to the end of their bucket, so that work spreads. Changes are noted and applied at the next search.
    """

    def __init__(self, amounts: Callable[[Agent], Bucket | None]) -> None:
        """amounts: what of an agent is free, cpus and mem; None for nothing."""
        self._amounts = amounts
        self._places: dict[Agent, Bucket] = {}
        self._buckets: dict[Bucket, dict[Agent, None]] = {}
        self._changed: dict[Agent, None] = {}

    def touch(self, agent: Agent) -> None:
        self._changed[agent] = None

    def matching(self, wanted: Iterable[tuple[int, int]]) -> Iterator[Agent]:
        """Agents where at least one of these (cpus, mem) may fit, the emptiest first. Agents may change meanwhile; a new search ends an
        older one."""
        while self.apply():
            pass
        corners = [(cpus.bit_length(), mem.bit_length()) for cpus, mem in wanted]
        for bucket in sorted(self._buckets, reverse=True):
            if any(bucket[0] >= cpus and bucket[1] >= mem for cpus, mem in corners):
                yield from self._buckets[bucket]

    def likely(self, cpus: int, mem: int) -> list[Agent]:
        """Agents where this may fit, without a change to anything, so that whoever asks disturbs no search."""
        least = cpus.bit_length(), mem.bit_length()
        found = [agent for bucket, agents in self._buckets.items() if bucket[0] >= least[0] and bucket[1] >= least[1] for agent in agents]
        return [*found, *self._changed]

    def in_order(self) -> Iterator[Agent]:
        """Agents as a search would come by them."""
        buckets = {bucket: [agent for agent in agents if agent not in self._changed] for bucket, agents in self._buckets.items()}
        for agent in self._changed:
            bucket = self._bucket_of(agent)
            if bucket is not None:
                buckets.setdefault(bucket, []).append(agent)
        for bucket in sorted(buckets, reverse=True):
            yield from buckets[bucket]

    def apply(self) -> bool:
        """Take in some of the changes; say whether there were any."""
        some = list(islice(self._changed, APPLY_AT_ONCE))
        for agent in some:
            del self._changed[agent]
            before = self._places.pop(agent, None)
            if before is not None:
                members = self._buckets[before]
                del members[agent]
                if not members:
                    del self._buckets[before]
            bucket = self._bucket_of(agent)
            if bucket is not None:
                self._places[agent] = bucket
                self._buckets.setdefault(bucket, {})[agent] = None
        return bool(some)

    def _bucket_of(self, agent: Agent) -> Bucket | None:
        """The magnitude of what is free there; None when nothing is to be had."""
        if not agent.open or agent.claim is not None or not agent.free:
            return None
        amounts = self._amounts(agent)
        return None if amounts is None else (amounts[0].bit_length(), amounts[1].bit_length())


def firm_amounts(agent: Agent) -> Bucket | None:
    """Free cpus and mem that nobody takes back, reserved or not; None when nothing but slack is free."""
    free = agent.free
    if agent.uniform:
        return (free.cpus, free.mem)
    if agent.revocable and not (free := firm(free)):
        return None
    cpus, mem, _, _, _ = shared_amounts(free)
    return (cpus, mem)


def slack_amounts(agent: Agent) -> Bucket | None:
    """The same of what is revocable."""
    found = revocable(agent.free)
    if not found:
        return None
    cpus, mem, _, _, _ = shared_amounts(found)
    return (cpus, mem)
