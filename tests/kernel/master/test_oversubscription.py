"""What agents lend, at the master (tests named in docs/conformance.md: oversubscription)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.master import effects as e
from kernel.wire import scheduler
from kernel.wire.agent import Oversubscribed, RunTask, TaskReport
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import OfferID
from kernel.wire.resources import AllocationInfo, Resource, Resources, RevocableInfo
from kernel.wire.task import TaskState
from tests.builders import accept, framework_info, register, reserved, resources, slack, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

TAKER = framework_info("f", FrameworkCapability.REVOCABLE_RESOURCES)


@dataclass
class Lending:
    """A master, a framework that takes revocable resources, and an agent of 1 cpu that lends 1."""

    c: Conductor
    framework_id: str
    agent_id: str

    def lend(self, text: str) -> None:
        self.c.give(e.FromAgent(1, Oversubscribed(slack(text))))
        invariants.check(self.c.core.state)

    def offered(self) -> Resources:
        return sum((Resources.of(offer.resources) for offer in self.c.offers()), Resources())

    def launch(self, task_id: str, cpus: float) -> None:
        (offer,) = [o for o in self.c.core.state.offers.values() if o.resources.contains(Resources.of(slack(f"cpus:{cpus}")))]
        used = tuple(replace(each, allocation_info=AllocationInfo("*")) for each in slack(f"cpus:{cpus}"))
        info = replace(task(task_id, self.agent_id), resources=used)
        self.c.call(self.framework_id, accept([offer.offer_id], info, refuse_s=0.0))
        assert any(isinstance(message, RunTask) for message in self.c.take(1)), self.c.statuses()


@pytest.fixture
def lending() -> Lending:
    c = Conductor()
    framework_id = c.subscribe(info=TAKER)
    agent_id = c.agent(message=register("a", "cpus:1;mem:64"))
    made = Lending(c, framework_id, agent_id)
    made.lend("cpus:1")
    return made


def test_what_an_agent_lends_is_offered_as_revocable(lending: Lending) -> None:
    assert lending.offered() == Resources.of((*resources("cpus:1;mem:64"), *slack("cpus:1")))
    assert lending.c.core.state.agents[lending.agent_id].total.contains(Resources.of(slack("cpus:1")))


@pytest.mark.parametrize("text", ["cpus:3", "cpus:0.5", ""])
def test_offers_with_revocable_resources_are_taken_back_when_it_lends_more_or_less(lending: Lending, text: str) -> None:
    lending.c.take("s")
    lending.lend(text)
    events = lending.c.take("s")
    assert [event.type for event in events] == ["RESCIND", "OFFERS"] if text else ["RESCIND"]
    offered = sum((offer.resources for offer in lending.c.core.state.offers.values()), Resources())
    assert offered == Resources.of((*resources("cpus:1;mem:64"), *slack(text)))


def test_offers_without_them_stay(lending: Lending) -> None:
    c = lending.c
    c.call(lending.framework_id, scheduler.Suppress())
    c.call(lending.framework_id, scheduler.Decline(tuple(map(OfferID, c.core.state.offers))))
    c.subscribe("plain", framework_info("plain"))
    assert c.offers("plain")
    lending.lend("cpus:2")
    assert c.take("plain") == []


def test_the_same_amount_said_again_changes_nothing(lending: Lending) -> None:
    lending.c.take("s")
    lending.lend("cpus:1")
    assert lending.c.take("s") == []


def test_less_than_is_used_ends_no_task_and_offers_nothing_more(lending: Lending) -> None:
    lending.launch("t", 0.75)
    lending.c.take("s")
    lending.lend("cpus:0.5")
    assert not [offer for offer in lending.c.core.state.offers.values() if offer.resources.contains(Resources.of(slack("cpus:0.01")))]
    lending.lend("cpus:1")
    lending.c.wait(2.0)  # What the launch left was refused for a second.
    offered = sum((offer.resources for offer in lending.c.core.state.offers.values()), Resources())
    assert offered.contains(Resources.of(slack("cpus:0.25")))
    assert not offered.contains(Resources.of(slack("cpus:0.26")))


def test_an_agent_that_registers_again_says_what_it_lends_now(lending: Lending) -> None:
    c = lending.c
    lending.launch("t", 0.75)
    held = c.core.state.agents[lending.agent_id].tasks[lending.framework_id, "t"]
    c.take("s")
    report = TaskReport(lending.framework_id, held.info, TaskState.TASK_RUNNING)
    infos = (replace(TAKER, id=c.core.state.frameworks[lending.framework_id].info.id),)
    again = register("a", "cpus:1;mem:64", agent_id=lending.agent_id, run="later", frameworks=infos, tasks=(report,))
    c.agent(2, again)
    agent = c.core.state.agents[lending.agent_id]
    assert agent.total == Resources.of(resources("cpus:1;mem:64"))
    assert agent.used == Resources.of(slack("cpus:0.75"))
    invariants.check(c.core.state)


def test_a_new_master_learns_of_slack_and_who_uses_it() -> None:
    c = Conductor()
    c.subscribe(info=TAKER)
    info = replace(TAKER, id=scheduler.FrameworkID("F"))
    used = tuple(replace(each, allocation_info=AllocationInfo("*")) for each in slack("cpus:1"))
    report = TaskReport("F", replace(task("t", "A"), resources=used), TaskState.TASK_RUNNING)
    c.agent(message=register("a", "cpus:1;mem:64", agent_id="A", frameworks=(info,), tasks=(report,), slack=slack("cpus:1.5")))
    offered = sum((Resources.of(offer.resources) for offer in c.offers()), Resources())
    assert offered == Resources.of((*resources("cpus:1;mem:64"), *slack("cpus:0.5")))
    invariants.check(c.core.state)


@pytest.mark.parametrize(
    "lends",
    [
        resources("cpus:1"),
        slack("ports:[1-2]"),
        tuple(replace(each, revocable=RevocableInfo()) for each in reserved("cpus:1", "a")),
    ],
)
def test_what_cannot_be_lent_ends_the_link(lending: Lending, lends: tuple[Resource, ...]) -> None:
    lending.c.give(e.FromAgent(1, Oversubscribed(lends)))
    assert 1 in lending.c.closed
    c = Conductor()
    c.give(e.FromAgent(1, register("a", slack=lends)))
    assert 1 in c.closed
    assert not c.core.state.agents


def test_a_demand_for_slack_needs_the_capability(lending: Lending) -> None:
    c = lending.c
    wanted = scheduler.Request((scheduler.ResourceRequest(resources=slack("cpus:1")),))
    plain = c.subscribe("plain", framework_info("plain"))
    with pytest.raises(CallError, match=r"requests\[0\]\.resources: revocable resources are for frameworks with the capability"):
        c.call(plain, wanted, "plain")
    both = scheduler.Request((scheduler.ResourceRequest(resources=(*slack("cpus:1"), *resources("cpus:1"))),))
    with pytest.raises(CallError, match="'cpus' must be revocable or not, not both"):
        c.call(lending.framework_id, both)
    c.call(lending.framework_id, wanted)
