"""Who may be offered what: rules that hold whatever the shares are (spec: mesos-v1, sections 2.3, 6.4 and 7.2)."""

from __future__ import annotations

from kernel.master.allocator.demand import Entry
from kernel.master.allocator.nodes import Leaf
from kernel.master.allocator.state import NEVER_OFFERED, Agent, Quantities, State
from kernel.wire.resources import Key, Resources
from kernel.wire.roles import is_same_or_below


def admits(agent: Agent, leaf: Leaf, state: State) -> bool:
    """Whether the agent may be offered to the leaf at all."""
    options, config = leaf.framework.options, state.config
    if agent.gpus and config.filter_gpu_resources and not options.gpu_aware:
        return False
    if agent.site.domain is not None and not options.region_aware and agent.site.region != config.region:
        return False
    return leaf.constraints is None or agent.meets(leaf.constraints)


def open_part(agent: Agent, leaf: Leaf, of: Resources) -> Resources:
    """The part of an agent's resources that may go to the leaf: not reserved, or for its role or one above; and nothing its
    framework does not know of. Quota will cut here."""
    if agent.uniform:
        return of
    options = leaf.framework.options

    def is_open(key: Key) -> bool:
        if (key.revocable and not options.revocable) or (key.shared and not options.shared):
            return False
        if (len(key.reservations) > 1 and not options.refined) or key.name == NEVER_OFFERED:
            return False
        return not key.reservations or is_same_or_below(leaf.role, key.role)

    return of.where(is_open, plain=True)


def is_worth(piece: Resources, minimums: tuple[Quantities, ...]) -> bool:
    """Whether the piece reaches all amounts of one of the minimums for an offer; of none, when there are none."""
    if not minimums:
        return bool(piece)
    sums: dict[str, int] | None = None
    for minimum in minimums:
        for name, least in minimum.items():
            if (name == "cpus" and piece.cpus >= least) or (name == "mem" and piece.mem >= least):
                continue  # The usual case, without adding up what is reserved.
            if sums is None:
                sums = piece.scalars()
            if sums.get(name, 0) < least:
                break
        else:
            return True
    return False


def may_serve(agent: Agent, entry: Entry) -> bool:
    """Whether the demand may have something of the agent now: delay scheduling (Zaharia et al., EuroSys 2010) for those that prefer
    certain agents."""
    if entry.prefer and not entry.far and agent.agent_id not in entry.prefer:
        return False
    return allows(agent, entry)


def allows(agent: Agent, entry: Entry) -> bool:
    """Whether the demand allows the agent at all."""
    demand = entry.demand
    if demand.agent_id is not None and demand.agent_id != agent.agent_id:
        return False
    return demand.constraints is None or agent.meets(demand.constraints)
