"""`/allocation`: everything that decides who is offered what, for those who want to try a change on it (`meseta plan`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernel.master.allocator import Held
from kernel.master.state import MasterState
from kernel.master.views.fragments import array, document, members
from kernel.wire.codec import encode


def allocation(s: MasterState, query: Mapping[str, str]) -> Iterator[bytes]:
    """Taken at once, made text while it is sent."""
    names = {framework_id: framework.info.name for framework_id, framework in s.frameworks.items()}
    head = s.allocator.snapshot(names, s.weights, s.quotas)
    seen = s.allocator.agents_seen(lambda agent_id: _held(s, agent_id))
    return document(members(head), [("agents", array(encode(agent.part()) for agent in seen))])


def _held(s: MasterState, agent_id: str) -> Iterator[Held]:
    agent = s.agents[agent_id]
    counts: dict[Held, int] = {}
    for task in agent.tasks.values():
        if not task.freed:
            held = Held(task.framework_id, task.role, task.resources)
            counts[held] = counts.get(held, 0) + 1
    for held, count in counts.items():
        yield held._replace(times=count)
    for executor in agent.executors.values():
        if executor.resources:
            yield Held(executor.framework_id, executor.role, executor.resources)
    for offer in agent.offers.values():
        yield Held(offer.framework.framework_id, offer.role, offer.resources, offered=True)


VIEWS = {"allocation": allocation}
