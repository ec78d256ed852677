"""Inverse offers: who uses an agent that is to be unavailable is asked to leave it (spec: mesos-v1, section 7.6). Others are made by
`kernel.master.preemption`.

One is out at a time for a framework and an agent. It is made again when it was answered and the filter of the answer is over, or when
it has expired. What a framework answered last is shown to operators and has no other effect; it is not in the registry, so the next
master asks anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from kernel.clock import Now
from kernel.master.launching import refuse_seconds
from kernel.master.model import Agent, Framework, Inquiry, InverseOffer
from kernel.master.render import inverse_offer_message, time_info
from kernel.master.state import MasterState
from kernel.wire import scheduler
from kernel.wire.ids import FrameworkID, OfferID
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.operator import ClusterStatus, DrainingMachine, InverseOfferAnswer, InverseOfferStatus
from kernel.wire.resources import EMPTY, Resources

ASK_S = 1.0  # How often it is looked at an agent whom to ask.
AGENTS_AT_ONCE = 2000  # That many are looked at in a row.
EXPIRED_AT_ONCE_MAX = 1000


def begin(s: MasterState, now: Now) -> None:
    """There is a schedule: look whom to ask, from now on."""
    if s.machines:
        s.deadlines.push(now.mono_s, "inverse", "")


def due(s: MasterState, key: str, now: Now) -> None:
    """Deadline: let those that are too old expire, and ask whoever is to be asked."""
    for offer in list(islice(s.inverse_offers.values(), EXPIRED_AT_ONCE_MAX)):  # The oldest first: so they were put in.
        if now.mono_s < offer.made_s + s.config.offer_timeout_s:
            break
        withdraw(s, offer, tell=True)
    made: dict[str, list[InverseOffer]] = {}
    slices = 1 + len(s.agents) // AGENTS_AT_ONCE
    s.asked_slice = (s.asked_slice + 1) % slices
    for agent in islice(s.agents.values(), s.asked_slice, None, slices):
        if agent.unavailability is not None:
            _ask(s, agent, made, now)
    send(s, made)
    if s.machines or s.inverse_offers:
        s.deadlines.push(now.mono_s + ASK_S / slices, "inverse", key)


def _ask(s: MasterState, agent: Agent, made: dict[str, list[InverseOffer]], now: Now) -> None:
    for framework_id in [framework_id for framework_id in agent.inquiries if framework_id not in s.frameworks]:
        del agent.inquiries[framework_id]
    if agent.link is None or (agent.deactivation is not None and agent.deactivation.draining):
        return  # What it has is being killed.
    for framework_id in _users(agent):
        framework = s.frameworks[framework_id]
        inquiry = agent.inquiries.get(framework_id)
        if framework.stream is None or (inquiry is not None and (inquiry.offer is not None or now.mono_s < inquiry.quiet_until_s)):
            continue
        if inquiry is None:
            inquiry = agent.inquiries[framework_id] = Inquiry(now.wall_s)
        assert agent.unavailability is not None, "who asks to leave an agent knows when it is unavailable"
        made.setdefault(framework_id, []).append(make(s, framework, agent, inquiry, agent.unavailability, EMPTY, now))


def make(
    s: MasterState, framework: Framework, agent: Agent, inquiry: Inquiry, unavailability: Unavailability, resources: Resources, now: Now
) -> InverseOffer:
    """One that is still to be sent; resources: as of `InverseOffer`."""
    offer = inquiry.offer = InverseOffer(s.next_offer_id(), framework, agent, inquiry, unavailability, resources, now.mono_s)
    s.inverse_offers[offer.offer_id] = framework.inverse_offers[offer.offer_id] = offer
    return offer


def send(s: MasterState, made: Mapping[str, Iterable[InverseOffer]]) -> None:
    """Tell frameworks, by id, what they are asked."""
    for framework_id, offers in made.items():
        messages = tuple(map(inverse_offer_message, offers))
        s.tell(s.frameworks[framework_id], scheduler.Event("INVERSE_OFFERS", inverse_offers=scheduler.InverseOffers(messages)))


def _users(agent: Agent) -> dict[str, None]:
    """The frameworks that something is allocated or offered to there."""
    users = {framework_id: None for (framework_id, _), task in agent.tasks.items() if not task.freed}
    users.update((framework_id, None) for framework_id, _ in agent.executors)
    users.update((offer.framework.framework_id, None) for offer in agent.offers.values())
    return users


def accept(s: MasterState, framework: Framework, call: scheduler.AcceptInverseOffers, now: Now) -> None:
    """ACCEPT_INVERSE_OFFERS; those that have ended already are passed over."""
    _answer(s, framework, call, InverseOfferAnswer.ACCEPT, now)


def decline(s: MasterState, framework: Framework, call: scheduler.DeclineInverseOffers, now: Now) -> None:
    """DECLINE_INVERSE_OFFERS, in the same way."""
    _answer(s, framework, call, InverseOfferAnswer.DECLINE, now)


def _answer(
    s: MasterState,
    framework: Framework,
    call: scheduler.AcceptInverseOffers | scheduler.DeclineInverseOffers,
    answer: InverseOfferAnswer,
    now: Now,
) -> None:
    quiet_until_s = now.mono_s + refuse_seconds(call.filters)
    for offer_id in call.inverse_offer_ids:
        offer = framework.inverse_offers.get(offer_id.value)
        if offer is not None:
            inquiry = withdraw(s, offer, tell=False)
            inquiry.answer, inquiry.wall_s, inquiry.quiet_until_s = answer, now.wall_s, quiet_until_s


def revive(s: MasterState, framework: Framework) -> None:
    """REVIVE: it may be asked again at once."""
    for agent in s.agents.values() if s.machines else ():
        inquiry = agent.inquiries.get(framework.framework_id)
        if inquiry is not None:
            inquiry.quiet_until_s = 0.0


def take_back(s: MasterState, framework: Framework) -> None:
    """Its stream is over, so nobody is there to be told."""
    for offer in list(framework.inverse_offers.values()):
        withdraw(s, offer, tell=False)


def withdraw_all(s: MasterState, agent: Agent) -> None:
    """Nobody is asked to leave the agent for now."""
    for inquiry in agent.inquiries.values():
        if inquiry.offer is not None:
            withdraw(s, inquiry.offer, tell=True)


def forget_agent(s: MasterState, agent: Agent) -> None:
    """It is gone, or something else is planned for it: what was answered means nothing any more."""
    withdraw_all(s, agent)
    agent.inquiries.clear()


def withdraw(s: MasterState, offer: InverseOffer, tell: bool) -> Inquiry:
    """It is over. tell: the framework hears of that."""
    del s.inverse_offers[offer.offer_id]
    del offer.framework.inverse_offers[offer.offer_id]
    offer.inquiry.offer = None
    if tell:
        body = scheduler.RescindInverseOffer(OfferID(offer.offer_id))
        s.tell(offer.framework, scheduler.Event("RESCIND_INVERSE_OFFER", rescind_inverse_offer=body))
    return offer.inquiry


# ---- Status ---------------------------------------------------------------------------------------------


def cluster_status(s: MasterState) -> ClusterStatus:
    """Who has answered what, by machine; of several agents on one the last answer. Cost: one look at every agent."""
    answers: dict[MachineID, dict[str, Inquiry]] = {}
    for agent in s.agents.values():
        machine = s.machines.find(agent.info.hostname, agent.ip) if agent.inquiries else None
        if machine is None:
            continue
        found = answers.setdefault(machine, {})
        for framework_id, inquiry in agent.inquiries.items():
            if framework_id in s.frameworks and (framework_id not in found or found[framework_id].wall_s < inquiry.wall_s):
                found[framework_id] = inquiry
    draining = tuple(DrainingMachine(machine, _statuses(answers.get(machine, {}).items())) for machine in s.machines.draining())
    return ClusterStatus(draining, tuple(machine for machine in s.machines.windows if machine in s.machines.down))


def _statuses(inquiries: Iterable[tuple[str, Inquiry]]) -> tuple[InverseOfferStatus, ...]:
    return tuple(
        InverseOfferStatus(inquiry.answer, FrameworkID(framework_id), time_info(inquiry.wall_s)) for framework_id, inquiry in inquiries
    )
