"""Machines under maintenance, and inverse offers (spec: mesos-v1, sections 5.2 and 7.6; catalogue 13.3 and 13.7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.master import effects as e
from kernel.master import views
from kernel.wire.agent import Registered, ShutdownAgent
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, OfferID, TaskID
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.offer import Filters, InverseOffer
from kernel.wire.operator import Schedule, Window
from kernel.wire.scheduler import AcceptInverseOffers, Acknowledge, DeclineInverseOffers, Revive
from kernel.wire.task import Reason, TaskState
from tests.builders import accept, at, framework_id, framework_info, register, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

FID, AID = "M-0000", "M-S0"
INFO = framework_info("f", FrameworkCapability.PARTITION_AWARE, failover_timeout=3600.0)
HOST = MachineID("host-1")
SOON = Unavailability(TimeInfo(10**18), DurationInfo(3600 * 10**9))
LATER = Unavailability(TimeInfo(2 * 10**18))


def plan(*machines: MachineID, unavailability: Unavailability = SOON) -> e.UpdateSchedule:
    return e.UpdateSchedule(Schedule((Window(unavailability, machines),) if machines else ()))


def busy() -> Conductor:
    """Agent M-S0 (host-1, link 1) runs task "t" of framework M-0000; M-S1 (host-2, link 2) is offered to it."""
    c = Conductor()
    c.subscribe(info=INFO)
    c.agent(1)
    (offer,) = c.offers()
    c.call(FID, accept([offer.id.value], task("t", AID)))
    c.update(1, FID, "t", TaskState.TASK_RUNNING)
    c.agent(2)
    c.told.clear()
    return c


def inverse_offers(c: Conductor, stream: str = "s") -> list[InverseOffer]:
    return [offer for event in c.take(stream) if event.inverse_offers is not None for offer in event.inverse_offers.inverse_offers]


def asked(c: Conductor) -> InverseOffer:
    """The one inverse offer that comes within a second."""
    c.wait(1)
    (offer,) = inverse_offers(c)
    return offer


def status(c: Conductor) -> dict[str, Any]:
    answer = json.loads(b"".join(views.render(c.core.state, "get_maintenance_status")))
    assert json.loads(b"".join(views.render(c.core.state, "maintenance/status"))) == answer["get_maintenance_status"]["status"]
    return answer["get_maintenance_status"]["status"]


def scheduled(c: Conductor) -> list[Any]:
    answer = json.loads(b"".join(views.render(c.core.state, "get_maintenance_schedule")))
    assert json.loads(b"".join(views.render(c.core.state, "maintenance/schedule"))) == answer["get_maintenance_schedule"]["schedule"]
    return answer["get_maintenance_schedule"]["schedule"].get("windows", [])


# ---- The schedule ---------------------------------------------------------------------------------------


def test_agents_of_a_scheduled_machine_say_so_in_their_offers() -> None:
    c = busy()
    c.give(plan(MachineID("HOST-2")))
    told = c.take("s")
    assert [event.type for event in told] == ["RESCIND", "OFFERS"]
    (offer,) = told[1].offers.offers
    assert (offer.hostname, offer.unavailability) == ("host-2", SOON)
    invariants.check(c.core.state)


def test_offers_of_other_agents_stand() -> None:
    c = busy()
    before = set(c.core.state.offers)
    c.give(plan(HOST))
    assert set(c.core.state.offers) >= before


def test_agents_that_come_later_say_so_too() -> None:
    c = busy()
    c.give(plan(MachineID("host-3")))
    c.agent(3)
    assert [offer.unavailability for offer in c.offers()] == [SOON]


def test_a_schedule_replaces_the_former_one() -> None:
    c = busy()
    c.give(plan(HOST, MachineID("host-2")))
    assert scheduled(c) == [
        {
            "unavailability": {"start": {"nanoseconds": 10**18}, "duration": {"nanoseconds": 3600 * 10**9}},
            "machine_ids": [{"hostname": "host-1"}, {"hostname": "host-2"}],
        }
    ]
    c.give(plan(MachineID("host-2"), unavailability=LATER))
    assert [agent.unavailability for agent in c.core.state.agents.values()] == [None, LATER]
    c.give(plan())
    assert scheduled(c) == []
    assert "maintenance/schedule" not in c.stored


def test_what_is_planned_again_in_the_same_way_changes_no_offer() -> None:
    c = busy()
    c.give(plan(MachineID("host-2")))
    c.take("s")
    c.give(plan(MachineID("host-2")))
    assert c.take("s") == []


def test_a_schedule_survives_a_change_of_masters() -> None:
    c = busy()
    c.give(plan(HOST))
    c.give(e.StartMaintenance((HOST,)))
    n = Conductor(c.stored, "N")
    assert (scheduled(n), status(n)) == (scheduled(c), status(c))
    invariants.check(n.core.state)


def test_a_wrong_schedule_changes_nothing() -> None:
    c = busy()
    c.give(plan(HOST))
    before = dict(c.stored)
    with pytest.raises(CallError, match="is not an IP address"):
        c.give(plan(MachineID(ip="nowhere")))
    assert c.stored == before
    assert scheduled(c)


# ---- Down and up ----------------------------------------------------------------------------------------


def test_a_machine_goes_down_with_its_agents() -> None:
    c = busy()
    c.give(e.SubscribeOperator("ops"))
    c.give(plan(HOST))
    c.told.clear()
    c.give(e.StartMaintenance((HOST,)))
    assert c.take(1) == [ShutdownAgent("Machine is DOWN")]
    assert 1 in c.closed
    (lost,) = c.statuses()
    assert (lost.state, lost.reason) == (TaskState.TASK_LOST, Reason.REASON_AGENT_REMOVED)
    assert [event.type for event in c.take("ops")] == ["TASK_UPDATED", "AGENT_REMOVED"]
    assert list(c.core.state.agents) == ["M-S1"]
    invariants.check(c.core.state)


@pytest.mark.parametrize("agent_id", ["", AID])
def test_agents_of_a_machine_that_is_down_are_refused(agent_id: str) -> None:
    c = Conductor()
    c.give(plan(HOST))
    c.give(e.StartMaintenance((HOST,)))
    c.give(e.FromAgent(7, register("1", agent_id=agent_id)))
    assert [type(told) for told in c.take(7)] == [ShutdownAgent]
    assert 7 in c.closed
    assert c.core.state.agents == {}
    c.agent(2)
    assert len(c.core.state.agents) == 1


def test_agents_that_are_away_are_given_up_when_their_machine_goes_down() -> None:
    for lost in ("unreachable", "recovered"):
        c = busy()
        c.give(plan(HOST))
        c.give(e.LinkClosed(1))
        if lost == "unreachable":
            c.later(30)
        else:
            c = Conductor(c.stored, "N")
        c.give(e.StartMaintenance((HOST,)))
        assert AID in c.core.state.gone, lost
        invariants.check(c.core.state)


def test_only_scheduled_machines_go_down() -> None:
    c = busy()
    c.give(plan(HOST))
    with pytest.raises(CallError, match=r"machines\[1\]: machine 'host-2' is not in the maintenance schedule"):
        c.give(e.StartMaintenance((HOST, MachineID("host-2"))))
    assert list(c.core.state.agents) == [AID, "M-S1"]
    c.give(e.StartMaintenance((HOST,)))
    with pytest.raises(CallError, match="is down already"):
        c.give(e.StartMaintenance((HOST,)))
    for wrong in ((), (HOST, HOST), (MachineID(),)):
        with pytest.raises(CallError, match="machines"):
            c.give(e.StartMaintenance(wrong))


def test_a_machine_that_is_down_cannot_leave_the_schedule() -> None:
    c = busy()
    c.give(plan(HOST))
    c.give(e.StartMaintenance((HOST,)))
    with pytest.raises(CallError, match="machine 'host-1' is down"):
        c.give(plan(MachineID("host-2")))
    c.give(plan(HOST, MachineID("host-2")))
    assert c.core.state.machines.down == {HOST}


def test_a_machine_is_brought_up() -> None:
    c = busy()
    c.give(plan(HOST, MachineID("host-2")))
    c.give(e.StartMaintenance((HOST,)))
    c.give(e.StopMaintenance((HOST,)))
    assert scheduled(c)[0]["machine_ids"] == [{"hostname": "host-2"}]
    c.take("s")
    c.agent(4, register("1", run="next"))
    assert [offer.unavailability for offer in c.offers()] == [None]
    invariants.check(c.core.state)


def test_only_machines_that_are_down_come_up() -> None:
    c = busy()
    c.give(plan(HOST))
    with pytest.raises(CallError, match="machine 'host-1' is not down"):
        c.give(e.StopMaintenance((HOST,)))


def test_the_status_tells_who_drains_and_who_is_down() -> None:
    c = busy()
    c.give(plan(HOST, MachineID("host-2")))
    assert status(c) == {"draining_machines": [{"id": {"hostname": "host-1"}}, {"id": {"hostname": "host-2"}}]}
    c.give(e.StartMaintenance((MachineID("host-2"),)))
    assert status(c) == {"draining_machines": [{"id": {"hostname": "host-1"}}], "down_machines": [{"hostname": "host-2"}]}
    numbers = next(iter(views.render(c.core.state, "metrics")))
    assert (numbers["master/machines_draining"], numbers["master/machines_down"]) == (1, 1)


# ---- Inverse offers -------------------------------------------------------------------------------------


def test_who_uses_the_agent_is_asked_to_leave() -> None:
    c = busy()
    c.subscribe("u", framework_info("other"), suppressed_roles=("*",))  # Uses nothing anywhere.
    c.told.clear()
    c.give(plan(HOST))
    offer = asked(c)
    assert (offer.framework_id.value, offer.agent_id.value, offer.unavailability, offer.resources) == (FID, AID, SOON, ())
    assert offer.url.address.port == 5100
    assert inverse_offers(c, "u") == []
    c.wait(60)
    assert inverse_offers(c) == []  # It has not answered yet.
    invariants.check(c.core.state)


def test_an_offer_is_use_too() -> None:
    c = busy()
    c.give(plan(MachineID("host-2")))
    assert asked(c).agent_id.value == "M-S1"


def test_it_is_shown_while_it_is_out() -> None:
    c = busy()
    c.give(plan(HOST))
    offer = asked(c)
    (shown,) = json.loads(b"".join(views.render(c.core.state, "get_frameworks")))["get_frameworks"]["frameworks"]
    assert [one["id"]["value"] for one in shown["inverse_offers"]] == [offer.id.value]
    answers = status(c)["draining_machines"][0]["statuses"]
    assert [(one["status"], one["framework_id"]["value"]) for one in answers] == [("UNKNOWN", FID)]


@pytest.mark.parametrize(("call", "answer"), [(AcceptInverseOffers, "ACCEPT"), (DeclineInverseOffers, "DECLINE")])
def test_the_last_answer_is_shown(call: type[Any], answer: str) -> None:
    c = busy()
    c.give(plan(HOST))
    offer = asked(c)
    c.call(FID, call((offer.id, OfferID("unknown"))))
    (told,) = status(c)["draining_machines"][0]["statuses"]
    assert told == {
        "status": answer,
        "framework_id": {"value": FID},
        "timestamp": {"nanoseconds": int(at(c.time_s).wall_s * 1e9)},
    }
    assert c.core.state.inverse_offers == {}
    assert (FID, "t") in c.core.state.agents[AID].tasks  # Nothing else comes of it.


@pytest.mark.parametrize(("filters", "quiet_s"), [(None, 5), (Filters(60.0), 60), (Filters(0.0), 0)])
def test_asked_again_when_the_filter_of_the_answer_is_over(filters: Filters | None, quiet_s: int) -> None:
    c = busy()
    c.give(plan(HOST))
    c.call(FID, DeclineInverseOffers((asked(c).id,), filters))
    if quiet_s:
        c.wait(quiet_s - 1)
        assert inverse_offers(c) == []
    c.wait(3)
    assert len(inverse_offers(c)) == 1


def test_a_revive_lifts_the_filter() -> None:
    c = busy()
    c.give(plan(HOST))
    c.call(FID, DeclineInverseOffers((asked(c).id,), Filters(1000.0)))
    c.call(FID, Revive())
    assert asked(c).agent_id.value == AID


def test_one_that_is_not_answered_expires_and_is_made_again() -> None:
    c = busy()
    c.give(plan(HOST))
    first = asked(c)
    c.wait(301)
    events = c.take("s")
    assert [event.rescind_inverse_offer.inverse_offer_id for event in events if event.type == "RESCIND_INVERSE_OFFER"] == [first.id]
    assert [event.type for event in events if event.inverse_offers is not None] == ["INVERSE_OFFERS"]


@pytest.mark.parametrize("change", ["replanned", "unplanned", "disconnected", "gone", "drained"])
def test_one_that_means_nothing_any_more_is_rescinded(change: str) -> None:
    c = busy()
    c.give(plan(HOST))
    asked(c)
    c.give({
        "replanned": plan(HOST, unavailability=LATER),
        "unplanned": plan(),
        "disconnected": e.LinkClosed(1),
        "gone": e.MarkAgentGone(AID),
        "drained": e.DrainAgent(AID),
    }[change])  # fmt: skip
    assert "RESCIND_INVERSE_OFFER" in [event.type for event in c.take("s")]
    c.wait(3)
    assert len(inverse_offers(c)) == (change == "replanned")
    invariants.check(c.core.state)


def test_a_framework_that_comes_back_is_asked_anew_without_a_word_of_the_old() -> None:
    c = busy()
    c.give(plan(HOST))
    first = asked(c)
    c.subscribe("again", replace(INFO, id=framework_id(FID)))
    c.wait(1)
    (second,) = inverse_offers(c, "again")
    assert second.id != first.id
    c.call(FID, AcceptInverseOffers((first.id,)), "again")
    assert second.id.value in c.core.state.inverse_offers


def test_one_that_is_away_is_not_asked() -> None:
    c = busy()
    c.give(e.StreamClosed("s"))
    c.give(plan(HOST))
    c.wait(10)
    assert c.core.state.inverse_offers == {}


def test_answers_of_frameworks_that_are_gone_are_not_shown() -> None:
    c = busy()
    c.give(plan(HOST))
    c.call(FID, AcceptInverseOffers((asked(c).id,)))
    c.give(e.TeardownFramework(FID))
    assert status(c) == {"draining_machines": [{"id": {"hostname": "host-1"}}]}
    c.wait(2)
    assert c.core.state.agents[AID].inquiries == {}


# ---- Together with draining -----------------------------------------------------------------------------


def test_an_agent_of_a_scheduled_machine_can_be_drained() -> None:
    """Unlike in Mesos, which refuses."""
    c = busy()
    c.give(plan(HOST))
    c.give(e.DrainAgent(AID))
    assert c.core.state.deactivated[AID].draining
    assert status(c)["draining_machines"] == [{"id": {"hostname": "host-1"}}]
    uuid = c.update(1, FID, "t", TaskState.TASK_KILLED)
    c.call(FID, Acknowledge(AgentID(AID), TaskID("t"), uuid))
    assert c.core.state.deactivated[AID].drained
    c.give(e.StartMaintenance((HOST,)))
    assert c.core.state.deactivated == {}
    assert AID in c.core.state.gone
    c.give(e.StopMaintenance((HOST,)))
    c.agent(9, register("1", run="next"))
    assert [type(told) for told in c.take(9)][:1] == [Registered]


def test_of_many_agents_some_are_looked_at_after_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.master.inverse_offers.AGENTS_AT_ONCE", 1)
    c = busy()
    c.give(plan(HOST, MachineID("host-2")))
    found: list[str] = []
    for _ in range(6):
        c.later(0.4)
        found += [offer.agent_id.value for offer in inverse_offers(c)]
    assert sorted(found) == [AID, "M-S1"]


def test_of_an_agent_that_moves_to_another_machine_nobody_is_asked_any_more() -> None:
    c = busy()
    c.give(plan(HOST))
    asked(c)
    c.give(e.LinkClosed(1))
    c.agent(3, register("1", hostname="host-9", agent_id=AID, run="run-9"))
    c.wait(2)
    assert inverse_offers(c) == []
    invariants.check(c.core.state)
