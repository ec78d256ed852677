"""What the allocator knows, with changes that are only thought of: as if offers came back, or tasks ended. All of them are undone."""

from __future__ import annotations

from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.quota import unreserved_amount
from kernel.master.allocator.state import Agent, State
from kernel.wire.resources import Resources


class Books:
    """Quotas, and what is free on agents. also: agents that count though nothing is offered there right now."""

    def __init__(self, state: State, also: frozenset[Agent] = frozenset()) -> None:
        self.state, self.also = state, also
        self.held: dict[Agent, Resources] = {}  # Where something was changed.
        self._done: list[tuple[Leaf, Agent, Resources, int]] = []

    def counts(self, agent: Agent) -> bool:
        """Whether what is free there is free for anybody."""
        return agent.claim is None and (agent.open or agent in self.also)

    def free(self, agent: Agent) -> Resources:
        held = self.held.get(agent)
        return agent.free if held is None else agent.total.without(held)

    def change(self, leaf: Leaf, agent: Agent, resources: Resources, sign: int) -> None:
        """As if the leaf had so much less on the agent (sign 1), or more (-1)."""
        self._done.append((leaf, agent, resources, sign))
        self._change(leaf, agent, resources, sign)

    def _change(self, leaf: Leaf, agent: Agent, resources: Resources, sign: int) -> None:
        quota, held = self.state.quota, self.held.get(agent, agent.held)
        quota.lend(leaf, resources, sign)
        self.held[agent] = held.without(resources) if sign > 0 else held + resources
        if self.counts(agent):
            for pool in quota.pools:
                pool.free += sign * unreserved_amount(resources, pool.name)

    @property
    def mark(self) -> int:
        return len(self._done)

    def undo(self, mark: int = 0) -> None:
        """Forget all changes since the mark."""
        while len(self._done) > mark:
            leaf, agent, resources, sign = self._done.pop()
            self._change(leaf, agent, resources, -sign)
