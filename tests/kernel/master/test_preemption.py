"""Room for guarantees: who is asked to give way, when what runs is ended, and what takes a notice back (docs/decisions/preemption.md)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.master import effects as e
from kernel.master import preemption
from kernel.wire import scheduler
from kernel.wire.agent import AgentHeartbeat, KillTask, Oversubscribed, TaskReport
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import FrameworkID
from kernel.wire.offer import InverseOffer
from kernel.wire.operator import InverseOfferAnswer
from kernel.wire.resources import AllocationInfo, Resources
from kernel.wire.scheduler import AcceptInverseOffers, DeclineInverseOffers, Kill
from kernel.wire.task import ExecutorType, Reason, TaskState
from tests.builders import accept, accept_group, at, executor, framework_info, register, resources, slack, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor
from tests.kernel.master.test_maintenance import HOST, plan
from tests.kernel.master.test_quotas import config, update

A, B, AID = "M-0000", "M-0001", "M-S0"
WHY = "preempted for what role b is guaranteed"
AWARE = FrameworkCapability.PARTITION_AWARE


def info(role: str, **fields: Any) -> FrameworkInfo:
    return framework_info(role, AWARE, role=role, failover_timeout=3600.0, **fields)


def request(c: Conductor, *texts: str) -> None:
    """What framework B waits for."""
    shapes = tuple(scheduler.ResourceRequest(resources=resources(text), name=str(number)) for number, text in enumerate(texts))
    c.call(B, scheduler.Request(shapes), "b")


def crowded(**settings: Any) -> Conductor:
    """Agent M-S0 of 4 cpus (link 1) runs t0 to t3 of framework A (stream "a") in role a, which now may have two of these at most; framework
    B (stream "b") waits for one cpu of the two that role b is guaranteed."""
    c = Conductor(**{"preempt_for_guarantees": True, **settings})
    c.subscribe("a", info("a"))
    c.agent(1, register("1", "cpus:4;mem:1024"))
    (offer,) = c.offers("a")
    names = [f"t{number}" for number in range(4)]
    c.call(A, accept([offer.id.value], *(task(name, AID, "cpus:1;mem:256") for name in names)), "a")
    for name in names:
        c.time_s += 1
        c.update(1, A, name, TaskState.TASK_RUNNING)
    c.call(A, scheduler.Request(), "a")
    c.give(update(config("a", limit="cpus:2"), config("b", "cpus:2"), force=True))
    c.subscribe("b", info("b"))
    request(c, "cpus:1;mem:256")
    c.told.clear()
    return c


def steps(c: Conductor, seconds: float) -> None:
    """Time passes, second by second."""
    for _ in range(int(seconds)):
        c.later(1.0)
        for link in list(c.core.state.links):
            c.give(e.FromAgent(link, AgentHeartbeat()))


def inverse_offers(c: Conductor, stream: str = "a") -> list[InverseOffer]:
    return [offer for event in c.take(stream) if event.inverse_offers is not None for offer in event.inverse_offers.inverse_offers]


def kills(c: Conductor, link: int = 1) -> list[KillTask]:
    return [message for message in c.take(link) if isinstance(message, KillTask)]


def asked(**settings: Any) -> tuple[Conductor, InverseOffer]:
    """Framework A has just been asked to give way."""
    c = crowded(**settings)
    for _ in range(10):
        steps(c, 1)
        if found := inverse_offers(c):
            (offer,) = found
            return c, offer
    raise AssertionError("nobody is asked")


def test_it_is_off_unless_said() -> None:
    c = crowded(preempt_for_guarantees=False)
    assert not [key for _, key, _ in c.core.state.deadlines._heap if key == "preemption"]
    steps(c, 100)
    assert (inverse_offers(c), kills(c)) == ([], [])


def test_first_the_framework_is_asked_then_its_newest_task_ends_and_who_waits_gets_its_room() -> None:
    c = crowded()
    steps(c, 4)
    assert inverse_offers(c) == []  # It may yet come free by itself.
    steps(c, 2)
    (offer,) = inverse_offers(c)
    assert (offer.agent_id.value, Resources.of(offer.resources)) == (AID, Resources.parse("cpus:1;mem:256"))
    due_s = offer.unavailability.start.nanoseconds / 1e9
    assert 28 < due_s - at(c.time_s).wall_s <= 30
    invariants.check(c.core.state)
    while at(c.time_s + 1).wall_s < due_s:
        steps(c, 1)
        assert kills(c) == []
    steps(c, 2)
    assert kills(c) == [KillTask(A, "t3", None, WHY)]
    assert [event.type for event in c.take("a")] == ["RESCIND_INVERSE_OFFER"]
    steps(c, 20)
    assert (kills(c), inverse_offers(c)) == ([], [])  # It takes its time to end: nobody else has to.
    c.update(1, A, "t3", TaskState.TASK_GONE, reason=Reason.REASON_CONTAINER_PREEMPTED, message=WHY)
    assert [str(Resources.of(found.resources)) for found in c.offers("b")] == ["cpus:1; mem:256"]
    assert (c.core.state.notices.ended, c.core.state.notices.gained) == ({"a": 1}, {"b": 1})
    steps(c, 2)
    assert not c.core.state.notices.of
    invariants.check(c.core.state)


def test_a_declined_inverse_offer_changes_nothing() -> None:
    c, offer = asked()
    c.call(A, DeclineInverseOffers((offer.id,)), "a")
    (notice,) = c.core.state.notices.all()
    assert notice.inquiry.answer is InverseOfferAnswer.DECLINE
    steps(c, 29)
    assert (kills(c), inverse_offers(c)) == ([], [])  # It is not asked twice.
    steps(c, 2)
    assert [kill.task_id for kill in kills(c)] == ["t3"]


def test_who_gives_way_chooses_what_it_ends() -> None:
    c, offer = asked()
    c.call(A, AcceptInverseOffers((offer.id,)), "a")
    c.call(A, Kill(task("t0", AID).task_id), "a")
    assert kills(c) == [KillTask(A, "t0", None)]
    steps(c, 40)
    assert kills(c) == []
    c.update(1, A, "t0", TaskState.TASK_KILLED)
    assert c.offers("b")


def test_when_nobody_is_in_need_any_more_the_inverse_offer_is_taken_back() -> None:
    c, offer = asked()
    request(c)
    steps(c, 1)
    (event,) = c.take("a")
    assert event.rescind_inverse_offer.inverse_offer_id == offer.id
    request(c, "cpus:1;mem:256")  # Whoever is in need anew waits anew.
    steps(c, 30)
    assert kills(c) == []
    steps(c, 10)
    assert [kill.task_id for kill in kills(c)] == ["t3"]


def test_so_it_is_when_room_is_found_elsewhere() -> None:
    c, _ = asked()
    c.agent(2, register("2", "cpus:4;mem:1024"))
    steps(c, 40)
    assert kills(c) == []
    assert not c.core.state.notices.of


def test_quotas_that_are_changed_back_end_it() -> None:
    c, _ = asked()
    c.give(update(config("a"), config("b"), force=True))
    steps(c, 40)
    assert kills(c) == []
    assert not c.core.state.notices.of
    assert not [key for _, key, _ in c.core.state.deadlines._heap if key == "preemption"]


def test_the_next_master_gives_notice_anew() -> None:
    c, _ = asked()
    steps(c, 25)
    reports = tuple(TaskReport(A, task(f"t{n}", AID, "cpus:1;mem:256"), TaskState.TASK_RUNNING) for n in range(4))
    again = Conductor(c.stored, "N", preempt_for_guarantees=True)
    again.subscribe("a", info("a", id=FrameworkID(A)))
    again.subscribe("b", info("b", id=FrameworkID(B)))
    request(again, "cpus:1;mem:256")
    steps(again, 20)
    assert inverse_offers(again) == []  # Its agent is not back: nobody knows what runs.
    infos = tuple(framework.info for framework in again.core.state.frameworks.values())
    again.agent(1, register("1", "cpus:4;mem:1024", agent_id=AID, run="run-2", frameworks=infos, tasks=reports))
    again.call(A, scheduler.Request(), "a")
    steps(again, 30)
    assert len(inverse_offers(again)) == 1
    assert kills(again) == []
    steps(again, 10)
    assert len(kills(again)) == 1


def test_a_kill_that_is_lost_is_repeated() -> None:
    c, _ = asked()
    steps(c, 31)
    assert [kill.task_id for kill in kills(c)] == ["t3"]
    c.give(e.LinkClosed(1))
    steps(c, 5)
    assert inverse_offers(c) == []  # What it holds is still to come.
    infos = (c.core.state.frameworks[A].info,)
    reports = tuple(TaskReport(A, task(f"t{n}", AID, "cpus:1;mem:256"), TaskState.TASK_RUNNING) for n in range(4))
    c.agent(2, register("1", "cpus:4;mem:1024", agent_id=AID, frameworks=infos, tasks=reports))
    assert kills(c, 2) == [KillTask(A, "t3", None, WHY)]


def test_nothing_ends_on_an_agent_that_is_away() -> None:
    c, _ = asked()
    c.give(e.LinkClosed(1))
    steps(c, 40)
    assert not c.core.state.notices.of
    infos = (c.core.state.frameworks[A].info,)
    reports = tuple(TaskReport(A, task(f"t{n}", AID, "cpus:1;mem:256"), TaskState.TASK_RUNNING) for n in range(4))
    c.agent(2, register("1", "cpus:4;mem:1024", agent_id=AID, frameworks=infos, tasks=reports))
    steps(c, 30)
    assert kills(c, 2) == []
    invariants.check(c.core.state)


def test_a_kill_of_which_an_agent_never_heard_before_it_was_lost_is_not_repeated() -> None:
    c, _ = asked()
    steps(c, 31)
    c.give(e.LinkClosed(1))
    c.time_s += 1000
    c.later(0)
    request(c)
    infos = (c.core.state.frameworks[A].info,)
    reports = tuple(TaskReport(A, task(f"t{n}", AID, "cpus:1;mem:256"), TaskState.TASK_RUNNING) for n in range(4))
    c.agent(2, register("1", "cpus:4;mem:1024", agent_id=AID, frameworks=infos, tasks=reports))
    assert kills(c, 2) == []


def test_an_agent_that_drains_gives_no_room() -> None:
    c, _ = asked()
    c.give(e.DrainAgent(AID, None, mark_gone=False))
    steps(c, 1)
    assert [event.type for event in c.take("a")] == ["RESCIND_INVERSE_OFFER"]
    steps(c, 40)
    assert kills(c) == []


def test_a_framework_that_is_away_is_asked_when_it_is_back_and_loses_no_time() -> None:
    c, offer = asked()
    c.give(e.StreamClosed("a"))
    steps(c, 5)
    c.subscribe("a2", info("a", id=FrameworkID(A)))
    steps(c, 1)
    (again,) = inverse_offers(c, "a2")
    assert (again.id != offer.id, again.unavailability) == (True, offer.unavailability)
    steps(c, 25)
    assert [kill.task_id for kill in kills(c)] == ["t3"]


def test_an_inverse_offer_of_maintenance_is_another() -> None:
    c, offer = asked()
    c.give(plan(HOST))
    steps(c, 2)
    (other,) = inverse_offers(c)
    assert (other.id != offer.id, other.resources) == (True, ())
    c.call(A, DeclineInverseOffers((other.id, offer.id)), "a")
    steps(c, 31)
    assert [kill.task_id for kill in kills(c)] == ["t3"]
    invariants.check(c.core.state)


def test_a_pod_ends_as_a_whole() -> None:
    c = Conductor(preempt_for_guarantees=True, preemption_notice_s=10.0)
    c.subscribe("a", info("a"))
    c.agent(1, register("1", "cpus:4;mem:1024;disk:100"))
    (offer,) = c.offers("a")
    pod = executor("e", "cpus:1;mem:32;disk:10", type=ExecutorType.DEFAULT, command=None, framework_id=FrameworkID(A))
    c.call(A, accept_group([offer.id.value], pod, task("x", AID), task("y", AID)), "a")
    for name in "xy":
        c.update(1, A, name, TaskState.TASK_RUNNING)
    c.call(A, scheduler.Request(), "a")
    c.give(update(config("a", limit="cpus:1"), config("b", "cpus:4"), force=True))
    c.subscribe("b", info("b"))
    c.call(B, accept([offer.id.value for offer in c.offers("b")]), "b")
    request(c, "cpus:4;mem:32")
    steps(c, 8)
    (asked_for,) = inverse_offers(c)
    assert Resources.of(asked_for.resources) == Resources.parse("cpus:2;mem:64")
    steps(c, 12)
    assert sorted(kill.task_id for kill in kills(c)) == ["x", "y"]


def test_a_notice_of_nothing_ends_it_at_once() -> None:
    c = crowded(preemption_notice_s=0.0)
    steps(c, 8)
    assert (inverse_offers(c), [kill.task_id for kill in kills(c)]) == ([], ["t3"])


def test_offers_that_are_not_answered_come_back_first() -> None:
    c = Conductor(preempt_for_guarantees=True)
    c.subscribe("a", info("a"))
    c.subscribe("w", info("w"))
    c.agent(1, register("1", "cpus:1;mem:1024"))
    holder = "a" if c.offers("a") else "w"
    c.core.state.allocator.offers_beyond_quota = list  # type: ignore[method-assign]  # Nothing is taken back when the quota is set.
    c.give(update(config("b", "cpus:1"), force=True))
    c.subscribe("b", info("b"))
    c.call("M-0002", scheduler.Request((scheduler.ResourceRequest(resources=resources("cpus:1;mem:64")),)), "b")
    steps(c, 8)
    assert [event.type for event in c.take(holder)][:1] == ["RESCIND"]
    assert c.offers("b")


def test_where_much_runs_no_more_is_looked_at_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """First the latest, and all of it when that does not do; and when that does not, either, not each time."""
    monkeypatch.setattr(preemption, "RUNS_MAX", 1)
    monkeypatch.setattr(preemption, "RUNS_OF_EACH_MIN", 1)
    c = crowded()
    steps(c, 40)
    assert [kill.task_id for kill in kills(c)] == ["t3"]
    request(c, "cpus:2;mem:512")  # It takes two, of which one is ending.
    steps(c, 40)
    assert [kill.task_id for kill in kills(c)] == ["t2"]
    c.give(update(config("b", "cpus:3"), force=True))
    request(c, "cpus:3;mem:512")
    steps(c, 10)
    notices = c.core.state.notices
    assert notices.lacking
    breadths = []
    for _ in range(40):
        steps(c, 1)
        assert notices.lacking
        breadths.append(notices.breadth)
    assert breadths.count(1) > 30


def test_what_runs_on_revocable_resources_gives_way_with_what_it_has_beside_them() -> None:
    c = Conductor(preempt_for_guarantees=True)
    c.subscribe("a", framework_info("a", FrameworkCapability.REVOCABLE_RESOURCES, role="a"))
    c.agent(1, register("1", "cpus:1;mem:512"))
    c.give(e.FromAgent(1, Oversubscribed(slack("cpus:2"))))
    offers = list(c.core.state.offers)
    parts = tuple(replace(part, allocation_info=AllocationInfo("a")) for part in (*slack("cpus:1"), *resources("mem:256")))
    c.call(A, accept(offers, *(replace(task(name, AID), resources=parts) for name in ("r0", "r1"))), "a")
    for name in ("r0", "r1"):
        c.time_s += 1
        c.update(1, A, name, TaskState.TASK_RUNNING)
    c.call(A, scheduler.Request(), "a")
    c.give(update(config("b", "cpus:1;mem:256"), force=True))
    c.subscribe("b", info("b"))
    c.call(B, accept([offer.id.value for offer in c.offers("b")]), "b")
    request(c, "cpus:1;mem:256")
    c.told.clear()
    steps(c, 8)
    (asked_for,) = inverse_offers(c)
    assert Resources.of(asked_for.resources) == Resources.of((*slack("cpus:1"), *resources("mem:256")))
    steps(c, 31)
    assert [kill.task_id for kill in kills(c)] == ["r1"]


def test_who_states_no_demand_gets_what_is_owed_and_no_more_ends_when_it_declines_that() -> None:
    c = Conductor(preempt_for_guarantees=True)
    c.subscribe("a", info("a"))
    c.agent(1, register("1", "cpus:4;mem:1024"))
    (offer,) = c.offers("a")
    c.call(A, accept([offer.id.value], *(task(f"t{n}", AID, "cpus:1;mem:256") for n in range(4))), "a")
    for n in range(4):
        c.update(1, A, f"t{n}", TaskState.TASK_RUNNING)
    c.call(A, scheduler.Request(), "a")
    c.give(update(config("a", limit="cpus:1"), config("b", "cpus:2"), force=True))
    c.subscribe("b", info("b"))
    c.told.clear()
    steps(c, 40)
    ended = [kill.task_id for kill in kills(c)]
    assert len(ended) == 2
    for task_id in ended:
        c.update(1, A, task_id, TaskState.TASK_GONE)
    offers = c.offers("b")
    assert sum((Resources.of(offer.resources) for offer in offers), Resources()) == Resources.parse("cpus:2;mem:512")
    c.call(B, accept([offer.id.value for offer in offers], refuse_s=1000.0), "b")
    steps(c, 60)
    assert kills(c) == []


def test_of_a_framework_that_is_removed_nothing_is_left() -> None:
    c, _ = asked()
    c.call(A, scheduler.Teardown(), "a")
    steps(c, 2)
    assert not c.core.state.notices.of
    invariants.check(c.core.state)
