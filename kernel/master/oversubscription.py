"""What agents lend once more as revocable (spec: mesos-v1, section 8.9; docs/decisions/oversubscription.md).

An agent says how much, used or not. What is offered of it is taken back at each change, for an offer is only what the agent said
when it was made; what is used stays until the agent ends it, though it may be more than there is by then.
"""

from __future__ import annotations

from kernel.clock import Now
from kernel.errors import CallError, PeerError
from kernel.master.agents import site
from kernel.master.model import Agent
from kernel.master.state import MasterState
from kernel.wire.agent import Oversubscribed
from kernel.wire.resources import Resource, Resources, ValueType
from kernel.wire.revocable import firm, revocable


def read(messages: tuple[Resource, ...]) -> Resources:
    """Check what an agent lends. Raises CallError."""
    slack = Resources.of(messages, "slack")
    if firm(slack):
        raise CallError(f"slack: {{{firm(slack)}}} is not revocable")
    for key in slack.other or ():
        if key.kind is not ValueType.SCALAR or key.reservations or key.disk is not None or key.shared or key.provider is not None:
            raise CallError(f"slack: {key.name}: only scalars that are reserved for nobody can be lent")
    return slack


def update(s: MasterState, agent: Agent, message: Oversubscribed, now: Now) -> None:
    """The agent lends another amount. Raises PeerError."""
    try:
        slack = read(message.slack)
    except CallError as error:
        raise PeerError(str(error)) from error
    if slack == revocable(agent.total):
        return
    for offer in list(agent.offers.values()):
        if revocable(offer.resources):
            s.rescind(offer, now, tell=True)
    s.before(agent)
    agent.total = firm(agent.total) + slack
    s.allocator.update_agent(agent.agent_id, agent.total, site(agent.info), now)
