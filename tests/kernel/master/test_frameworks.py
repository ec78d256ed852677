"""Sessions of frameworks (spec: mesos-v1, sections 2.2-2.5, 2.10, 2.11)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.errors import CallError, Forbidden, NotSupported
from kernel.master import effects as e
from kernel.master.validation import ROLES_MAX
from kernel.wire import scheduler
from kernel.wire.agent import ExecutorMessage, FrameworkMessage, FrameworkUpdated, ShutdownFramework
from kernel.wire.common import Label, Labels
from kernel.wire.framework import ENDS_WITH_TASKS, FrameworkCapability
from kernel.wire.ids import AgentID, ExecutorID, OperationID, TaskID
from kernel.wire.offer import Filters, OfferConstraints, RoleConstraints
from kernel.wire.resources import (
    AllocationInfo,
    DiskInfo,
    Persistence,
    ReservationInfo,
    ReservationType,
    Resource,
    Resources,
    RevocableInfo,
    Scalar,
    SharedInfo,
    ValueType,
)
from kernel.wire.task import Reason, TaskState
from tests.builders import accept, framework_id, framework_info, register, resources, task
from tests.kernel.master.conductor import Conductor

MULTI = FrameworkCapability.MULTI_ROLE


def error_of(c: Conductor, stream: str = "s") -> str:
    (event,) = c.take(stream)
    assert event.type == "ERROR"
    assert stream in c.closed
    return event.error.message


class TestSubscribe:
    def test_the_first_events_are_subscribed_and_a_heartbeat(self):
        c = Conductor()
        assert c.subscribe() == "M-0000"
        subscribed, heartbeat = c.take("s")
        assert subscribed.subscribed.heartbeat_interval_seconds == 15.0
        assert subscribed.subscribed.master_info.id == "M"
        assert heartbeat.type == "HEARTBEAT"
        assert "frameworks/M-0000" in c.stored

    @pytest.mark.parametrize(
        ("info", "says"),
        [
            (framework_info("f", MULTI, role="a"), "role"),
            (framework_info("f", roles=("a",)), "MULTI_ROLE"),
            (framework_info("f", MULTI, roles=("a", "a")), "twice"),
            (framework_info("f", role="a b"), "white space"),
            (framework_info("f", role="/a"), "role"),
            (framework_info("f", failover_timeout=-1.0), "failover_timeout"),
            (framework_info("f", failover_timeout=1e30), "failover_timeout"),
        ],
    )
    def test_faulty_info_is_one_error_event(self, info, says):
        c = Conductor()
        assert c.subscribe(info=info) == ""
        assert says in error_of(c)
        assert not c.core.state.frameworks

    def test_suppressed_roles_must_be_the_frameworks(self):
        c = Conductor()
        c.subscribe(suppressed_roles=("other",))
        assert "suppressed_roles" in error_of(c)

    def test_a_role_outside_the_whitelist_is_refused(self):
        c = Conductor(roles_allowed=("a",))
        c.subscribe(info=framework_info("f", role="b"))
        assert "'b'" in error_of(c)

    def test_ids_of_envelope_and_info_must_agree(self):
        c = Conductor()
        with pytest.raises(CallError):
            c.give(e.SubscribeFramework("s", "x", None, scheduler.Subscribe(framework_info("f", id=framework_id("y")))))

    def test_an_empty_id_is_a_new_framework(self):
        assert Conductor().subscribe(info=framework_info("f", id=framework_id(""))) == "M-0000"

    def test_an_id_of_its_own_choice_is_accepted(self):
        assert Conductor().subscribe(info=framework_info("f", id=framework_id("cron-1"))) == "cron-1"

    def test_an_id_somebody_chose_is_given_to_nobody_else(self):
        c = Conductor()
        assert c.subscribe("a", info=framework_info("f", id=framework_id("M-0000"), failover_timeout=9.0)) == "M-0000"
        c.subscribe("b", info=framework_info("f", id=framework_id("M-0001")))
        c.give(e.StreamClosed("b"))
        assert c.subscribe("c") == "M-0002"

    def test_the_principal_is_filled_in_and_cannot_differ(self):
        c = Conductor()
        fid = c.subscribe(principal="ops")
        assert c.core.state.frameworks[fid].info.principal == "ops"
        with pytest.raises(CallError, match="principal"):
            c.subscribe("s2", info=framework_info("f", principal="other"), principal="ops")


class TestFailover:
    def test_a_second_scheduler_takes_over(self):
        c = Conductor()
        fid = c.subscribe("old", info=framework_info("f", failover_timeout=60.0))
        c.agent()
        assert len(c.offers("old")) == 1
        assert c.subscribe("new", info=framework_info("f", failover_timeout=60.0, id=framework_id(fid))) == fid
        assert c.take("old")[-1].error.message == "Framework failed over"
        assert "old" in c.closed
        assert len(c.offers("new")) == 1

    def test_calls_of_the_old_stream_are_refused(self):
        c = Conductor()
        fid = c.subscribe("old", info=framework_info("f", failover_timeout=60.0))
        c.subscribe("new", info=framework_info("f", failover_timeout=60.0, id=framework_id(fid)))
        with pytest.raises(CallError, match="stream ID"):
            c.call(fid, scheduler.Revive(), stream="old")

    def test_a_framework_without_failover_time_is_removed_when_its_stream_closes(self):
        c = Conductor()
        fid = c.subscribe()
        c.give(e.StreamClosed("s"))
        assert fid in c.core.state.completed

    def test_it_is_waited_for_within_its_failover_time(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", failover_timeout=60.0))
        c.give(e.StreamClosed("s"))
        c.later(59)
        assert fid in c.core.state.frameworks
        c.later(2)
        assert fid not in c.core.state.frameworks

    def test_coming_back_stops_the_clock(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", failover_timeout=60.0))
        c.give(e.StreamClosed("s"))
        c.later(30)
        c.subscribe("s2", info=framework_info("f", failover_timeout=60.0, id=framework_id(fid)))
        c.later(60)
        assert fid in c.core.state.frameworks

    def test_a_removed_id_never_comes_back_even_after_a_restart_of_the_master(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, scheduler.Teardown())
        restarted = Conductor(c.stored, "M2")
        for master in (c, restarted):
            master.subscribe("again", info=framework_info("f", id=framework_id(fid)))
            assert error_of(master, "again") == "Framework has been removed"

    def test_user_and_checkpoint_stay_as_they_were(self):
        c = Conductor()
        fid = c.subscribe("a", info=framework_info("f", user="u1", failover_timeout=9.0))
        c.subscribe("b", info=framework_info("g", user="u2", checkpoint=True, id=framework_id(fid)))
        info = c.core.state.frameworks[fid].info
        assert (info.user, info.checkpoint, info.name) == ("u1", False, "g")


class TestCalls:
    def test_the_checks_come_in_order(self):
        c = Conductor()
        with pytest.raises(CallError, match="cannot be found"):
            c.call("nobody", scheduler.Revive())
        fid = c.subscribe(info=framework_info("f", failover_timeout=60.0))
        with pytest.raises(CallError, match="Mesos-Stream-Id"):
            c.give(e.SchedulerCall(fid, None, None, scheduler.Revive()))
        with pytest.raises(CallError, match="principal"):
            c.give(e.SchedulerCall(fid, "s", "somebody", scheduler.Revive()))
        c.give(e.StreamClosed("s"))
        with pytest.raises(Forbidden, match="not subscribed"):
            c.call(fid, scheduler.Revive())

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (scheduler.Acknowledge(AgentID("a"), TaskID("t"), b"short"), "acknowledge.uuid"),
            (scheduler.AcknowledgeOperationStatus(b"short", OperationID("o"), AgentID("a")), "acknowledge_operation_status.uuid"),
            (scheduler.AcknowledgeOperationStatus(b"x" * 16, OperationID("o")), "acknowledge_operation_status.agent_id"),
            (scheduler.UpdateFramework(framework_info("f", id=framework_id("other"))), "framework_info.id"),
        ],
    )
    def test_what_is_wrong_whoever_calls_comes_first(self, call, says):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", failover_timeout=60.0))
        c.give(e.StreamClosed("s"))
        for framework in (fid, "nobody"):
            with pytest.raises(CallError, match=says) as told:
                c.call(framework, call)
            assert not isinstance(told.value, Forbidden)

    def test_an_unknown_call_is_not_built_for_those_who_may_call(self):
        c = Conductor()
        with pytest.raises(CallError, match="cannot be found"):
            c.call("nobody", scheduler.Unknown())
        fid = c.subscribe()
        with pytest.raises(NotSupported):
            c.call(fid, scheduler.Unknown())


class TestRemoval:
    def test_agents_and_operators_are_told_and_the_tasks_are_killed(self):
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent()
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t", aid)))
        c.call(fid, scheduler.Teardown())
        assert ShutdownFramework(fid) in c.take(1)
        (done,) = c.core.state.completed[fid].completed
        assert done.state is TaskState.TASK_KILLED
        assert done.statuses[-1].reason is Reason.REASON_FRAMEWORK_REMOVED
        assert c.core.state.agents[aid].used.cpus == 0

    def test_its_resources_go_to_others(self):
        c = Conductor()
        c.subscribe("first")
        c.agent()
        assert len(c.offers("first")) == 1
        c.subscribe("second")
        assert c.offers("second") == []
        c.give(e.StreamClosed("first"))
        assert len(c.offers("second")) == 1

    def test_one_that_is_away_and_said_so_ends_with_its_last_task(self):
        """Also at the next master, which waits for the agents that may bring more of them."""
        c = Conductor()
        labels = Labels((Label(ENDS_WITH_TASKS),))
        fid = c.subscribe(info=framework_info("f", failover_timeout=1e6, labels=labels))
        aid = c.agent()
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t", aid)))
        c.wait(60)
        assert fid in c.core.state.frameworks, "it is not away"
        c.give(e.StreamClosed("s"))
        c.wait(60)
        assert fid in c.core.state.frameworks, "its task runs"
        restarted = Conductor(c.stored, master_id="N")
        restarted.wait(60)
        assert fid in restarted.core.state.frameworks, "its agent is not back"
        c.update(1, fid, "t", TaskState.TASK_FINISHED)
        c.wait(60)
        assert fid in c.core.state.completed

    def test_an_operator_names_an_unknown_framework(self):
        with pytest.raises(CallError, match="framework_id"):
            Conductor().give(e.TeardownFramework("x"))


class TestUpdateFramework:
    def update(self, c: Conductor, fid: str, *capabilities, suppressed=(), **fields):
        info = framework_info("f", *capabilities, id=framework_id(fid), **fields)
        c.call(fid, scheduler.UpdateFramework(info, suppressed))

    def test_what_may_change_does_and_agents_hear_of_it(self):
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent()
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t", aid)))
        c.take(1)
        self.update(c, fid, webui_url="http://ui")
        (told,) = c.take(1)
        assert isinstance(told, FrameworkUpdated)
        assert told.framework.webui_url == "http://ui"

    @pytest.mark.parametrize("fields", [{"user": "other"}, {"checkpoint": True}, {"principal": "p"}])
    def test_what_may_not_change_is_refused_whole(self, fields):
        c = Conductor()
        fid = c.subscribe()
        before = c.core.state.frameworks[fid].info
        with pytest.raises(CallError):
            self.update(c, fid, webui_url="http://ui", **fields)
        assert c.core.state.frameworks[fid].info == before

    def test_offers_of_a_role_given_up_are_rescinded(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a",)))
        c.agent()
        (offer,) = c.offers()
        self.update(c, fid, MULTI, roles=("b",))
        events = c.take("s")
        assert [event.rescind.offer_id for event in events if event.rescind] == [offer.id]
        assert [o.allocation_info.role for event in events if event.offers for o in event.offers.offers] == ["b"]

    def offered(self, c: Conductor) -> list[str]:
        return [offer.allocation_info.role for offer in c.offers()]

    def test_an_update_that_changes_nothing_is_told_to_nobody(self):
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent()
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t", aid)))
        c.give(e.SubscribeOperator("operator"))
        c.take(1), c.take("operator"), c.stored.pop(f"frameworks/{fid}")
        self.update(c, fid)
        assert c.take(1) == c.take("operator") == []
        assert f"frameworks/{fid}" not in c.stored
        self.update(c, fid, labels=Labels((Label("k", "v"),)))
        assert [event.type for event in c.take("operator")] == ["FRAMEWORK_UPDATED"]
        assert f"frameworks/{fid}" in c.stored

    def test_a_role_that_is_added_gets_offers(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI))
        c.agent()
        assert self.offered(c) == []
        self.update(c, fid, MULTI, roles=("a",))
        assert self.offered(c) == ["a"]

    def test_a_role_that_is_suppressed_keeps_its_offer_and_gets_no_other(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a",)))
        c.agent(1, register("1"))
        (offer,) = c.offers()
        self.update(c, fid, MULTI, roles=("a",), suppressed=("a",))
        c.agent(2, register("2"))
        assert c.take("s") == []
        assert offer.id.value in c.core.state.offers

    def test_one_role_may_go_as_another_one_wakes(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a", "b")), suppressed_roles=("b",))
        c.agent()
        assert self.offered(c) == ["a"]
        self.update(c, fid, MULTI, roles=("b",))
        assert self.offered(c) == ["b"]

    def test_a_role_that_wakes_has_refused_nothing(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a",)))
        c.agent()
        (offer,) = c.offers()
        c.call(fid, scheduler.Decline((offer.id,), Filters(3600.0)))
        c.call(fid, scheduler.Suppress(("a",)))
        self.update(c, fid, MULTI, roles=("a",))
        assert self.offered(c) == ["a"]

    def test_constraints_of_a_foreign_role_are_refused(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", role="a"))
        info = framework_info("f", role="a", id=framework_id(fid))
        with pytest.raises(CallError, match="'b'"):
            c.call(fid, scheduler.UpdateFramework(info, offer_constraints=OfferConstraints({"b": RoleConstraints()})))

    def test_both_ids_must_agree(self):
        c = Conductor()
        fid = c.subscribe()
        for info in (framework_info("f"), framework_info("f", id=framework_id("other"))):
            with pytest.raises(CallError, match="framework_id"):
                c.call(fid, scheduler.UpdateFramework(info))


class Compared(str):
    """A role that counts how often it is compared."""

    count = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.count += 1
        return str.__eq__(self, other)


class TestManyRoles:
    """A body of 8 MB may name a million of them."""

    ROLES = tuple(f"r{number}" for number in range(ROLES_MAX))

    def test_a_framework_has_a_bounded_number_of_roles(self):
        c = Conductor()
        assert c.subscribe("a", framework_info("f", MULTI, roles=self.ROLES))
        assert not c.subscribe("b", framework_info("f", MULTI, roles=(*self.ROLES, "one-more")))
        assert f"at most {ROLES_MAX} roles" in error_of(c, "b")

    @pytest.mark.parametrize("kind", [scheduler.Suppress, scheduler.Revive, scheduler.UpdateFramework])
    def test_a_role_that_is_named_costs_a_look_not_a_search(self, kind):
        c = Conductor()
        info = framework_info("f", MULTI, roles=self.ROLES)
        fid = c.subscribe(info=info)
        roles = tuple(Compared(self.ROLES[-1]) for _ in range(100))
        Compared.count = 0
        c.call(fid, kind(replace(info, id=framework_id(fid)), roles) if kind is scheduler.UpdateFramework else kind(roles))
        assert Compared.count < 10 * len(roles)


class TestSuppression:
    @pytest.mark.parametrize("call", [scheduler.Suppress(("a", "foreign")), scheduler.Revive(("a", "foreign"))])
    def test_a_call_that_names_a_foreign_role_is_dropped_whole(self, call):
        c = Conductor()
        fid = c.subscribe(
            info=framework_info("f", MULTI, roles=("a",)), suppressed_roles=("a",) if isinstance(call, scheduler.Revive) else ()
        )
        before = c.core.state.frameworks[fid].suppressed
        c.call(fid, call)
        assert c.core.state.frameworks[fid].suppressed == before

    def test_roles_are_suppressed_and_revived_one_by_one(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a", "b")))
        framework = c.core.state.frameworks[fid]
        c.call(fid, scheduler.Suppress(("a",)))
        assert framework.suppressed == {"a"}
        c.call(fid, scheduler.Suppress())
        assert framework.suppressed == {"a", "b"}
        c.call(fid, scheduler.Revive(("b",)))
        assert framework.suppressed == {"a"}
        c.call(fid, scheduler.Revive())
        assert framework.suppressed == set()

    def test_it_is_as_the_new_subscription_says(self):
        info = framework_info("f", MULTI, roles=("a", "b"), failover_timeout=60.0)
        c = Conductor()
        fid = c.subscribe(info=info)
        c.call(fid, scheduler.Suppress(("a",)))
        c.subscribe("s2", info=replace(info, id=framework_id(fid)), suppressed_roles=("b",))
        assert c.core.state.frameworks[fid].suppressed == {"b"}


class TestRoles:
    def test_offers_name_the_role_only_to_multi_role_frameworks(self):
        for capabilities, fields, role in [((MULTI,), {"roles": ("a",)}, "a"), ((), {"role": "a"}, None)]:
            c = Conductor()
            c.subscribe(info=framework_info("f", *capabilities, **fields))
            c.agent()
            (offer,) = c.offers()
            assert (offer.allocation_info and offer.allocation_info.role) == role
            assert all((r.allocation_info and r.allocation_info.role) == role for r in offer.resources)

    def test_a_task_allocated_to_another_role_is_an_error(self):
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, roles=("a",)))
        aid = c.agent()
        (offer,) = c.offers()
        foreign = tuple(replace(r, allocation_info=AllocationInfo("b")) for r in resources("cpus:1;mem:32"))
        c.call(fid, accept([offer.id.value], replace(task("t", aid), resources=foreign)))
        (status,) = c.statuses()
        assert "'b'" in status.message


REFINED = Resource(
    "cpus",
    ValueType.SCALAR,
    Scalar(1.0),
    reservations=(ReservationInfo(ReservationType.STATIC, "a"), ReservationInfo(ReservationType.DYNAMIC, "a/b")),
)
VOLUME = Resource("disk", ValueType.SCALAR, Scalar(10.0), disk=DiskInfo(Persistence("v")), shared=SharedInfo())


class TestCapabilities:
    @pytest.mark.parametrize(
        ("capability", "special"),
        [
            (FrameworkCapability.GPU_RESOURCES, Resource("gpus", ValueType.SCALAR, Scalar(1.0))),
            (FrameworkCapability.REVOCABLE_RESOURCES, Resource("cpus", ValueType.SCALAR, Scalar(1.0), revocable=RevocableInfo())),
            (FrameworkCapability.SHARED_RESOURCES, VOLUME),
            (FrameworkCapability.RESERVATION_REFINEMENT, REFINED),
        ],
    )
    def test_who_says_that_he_knows_them_is_offered_special_resources(self, capability, special):
        for capabilities in ((MULTI,), (MULTI, capability)):
            c = Conductor()
            c.subscribe(info=framework_info("f", *capabilities, roles=("a/b",)))
            c.agent(message=register(resources=(*resources("cpus:1;mem:64"), special)))
            offered = Resources.of(resource for offer in c.offers() for resource in offer.resources)
            assert offered.contains(Resources.of((special,))) == (capability in capabilities)


class TestMessages:
    def test_bytes_reach_the_executor_and_come_back(self):
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent()
        c.take("s"), c.take(1)
        c.call(fid, scheduler.Message(AgentID(aid), ExecutorID("e"), b"hello"))
        assert c.take(1)[-1] == FrameworkMessage(fid, "e", b"hello")
        c.give(e.FromAgent(1, ExecutorMessage(fid, "e", b"back")))
        (event,) = c.take("s")
        assert event.message.data == b"back"


class TestDemand:
    def test_a_request_brings_an_offer_cut_to_it(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=resources("cpus:1;mem:64"), count=2),)))
        c.agent()
        (offer,) = c.offers()
        assert [(r.name, r.scalar.value) for r in offer.resources] == [("cpus", 2.0), ("mem", 128.0)]

    def test_a_gang_is_offered_in_one_event(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=resources("cpus:4;mem:64"), count=2, min=2),)))
        c.agent(1)
        assert c.offers() == []
        c.agent(2)
        (event,) = [one for one in c.told["s"] if one.type == "OFFERS"]
        assert len(event.offers.offers) == 2

    def test_agents_that_are_preferred_are_waited_for(self):
        c = Conductor(locality_delay_s=2.0)
        fid = c.subscribe()
        asked = scheduler.ResourceRequest(resources=resources("cpus:1;mem:64"), prefer=(AgentID("elsewhere"),))
        c.call(fid, scheduler.Request((asked,)))
        c.agent()
        c.later(1.5)
        assert c.offers() == []
        c.later(1.0)
        assert len(c.offers()) == 1

    def test_an_empty_request_ends_offers(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, scheduler.Request())
        c.agent()
        assert c.offers() == []

    def test_a_foreign_role_is_refused(self):
        c = Conductor()
        fid = c.subscribe()
        with pytest.raises(CallError, match=r"requests\[0\].role"):
            c.call(fid, scheduler.Request((scheduler.ResourceRequest(role="other"),)))

    def test_an_acknowledged_kill_of_unknown_ids_changes_nothing(self):
        c = Conductor()
        fid = c.subscribe()
        c.take("s")
        c.call(fid, scheduler.Kill(TaskID("x")))
        assert [s.state for s in c.statuses()] == [TaskState.TASK_LOST]


class TestOwedUpdates:
    def test_an_update_missed_or_not_acknowledged_is_sent_on_resubscribing(self):
        info = framework_info("f", failover_timeout=60.0)
        c = Conductor()
        fid = c.subscribe(info=info)
        aid = c.agent()
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t1", aid), task("t2", aid)))
        c.update(1, fid, "t1", TaskState.TASK_RUNNING)
        c.give(e.StreamClosed("s"))
        c.update(1, fid, "t2", TaskState.TASK_RUNNING)
        c.subscribe("s2", info=framework_info("f", failover_timeout=60.0, id=framework_id(fid)))
        statuses = c.statuses("s2")
        assert [status.task_id.value for status in statuses] == ["t1", "t2"]
        for status in statuses:
            c.call(fid, scheduler.Acknowledge(AgentID(aid), status.task_id, status.uuid), stream="s2")
        c.subscribe("s3", info=framework_info("f", failover_timeout=60.0, id=framework_id(fid)))
        assert c.statuses("s3") == []
