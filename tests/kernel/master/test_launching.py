"""Offers and what is made of them: ACCEPT and DECLINE (spec: mesos-v1, sections 2.6-2.10)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.master import effects as e
from kernel.master.launching import refuse_seconds
from kernel.wire import scheduler
from kernel.wire.agent import RunTask, RunTaskGroup
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import OfferID, OperationID, TaskID
from kernel.wire.offer import Filters, Launch, LaunchGroup, Offer, Operation, OperationType
from kernel.wire.resources import Resources
from kernel.wire.task import (
    CheckType,
    CommandInfo,
    ContainerInfo,
    ExecutorType,
    HealthCheck,
    HTTPCheckInfo,
    Labels,
    Reason,
    TaskGroupInfo,
    TaskState,
)
from tests.builders import accept, accept_group, executor, framework_id, framework_info, register, resources, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

AWARE, MULTI = FrameworkCapability.PARTITION_AWARE, FrameworkCapability.MULTI_ROLE
DEFAULT = executor("e", type=ExecutorType.DEFAULT, command=None, framework_id=framework_id("M-0000"))


def ids(*offers: Offer) -> list[str]:
    return [offer.id.value for offer in offers]


def amounts(offer: Offer) -> dict[str, float]:
    return {resource.name: resource.scalar.value for resource in offer.resources if resource.scalar is not None}


@pytest.fixture
def c() -> Conductor:
    """A framework "M-0000" on stream "s" and no agent yet."""
    c = Conductor()
    c.subscribe(info=framework_info("f", AWARE, failover_timeout=60.0))
    c.take("s")
    return c


class TestOffers:
    def test_one_event_holds_the_offers_of_many_agents(self) -> None:
        c = Conductor()
        c.agent(1, register("1"))
        c.agent(2, register("2"))
        c.subscribe()
        (event,) = [event for event in c.take("s") if event.type == "OFFERS"]
        assert sorted(offer.hostname for offer in event.offers.offers) == ["host-1", "host-2"]

    def test_an_offer_says_where_it_is(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        assert offer.id.value.startswith("M-O")
        assert (offer.framework_id.value, offer.agent_id.value, offer.hostname) == ("M-0000", aid, "host-1")
        assert offer.url is not None
        assert (offer.url.scheme, offer.url.address.ip, offer.url.path) == ("http", "10.0.0.1", "/slave(1)")

    def test_an_offer_nobody_answers_is_rescinded_and_made_again(self) -> None:
        c = Conductor(offer_timeout_s=30.0)
        c.subscribe()
        c.agent()
        (first,) = c.offers()
        c.wait(29)
        assert c.take("s") == []
        c.wait(2)
        rescind, offers = c.take("s")
        assert rescind.rescind.offer_id == first.id
        assert len(offers.offers.offers) == 1

    @pytest.mark.parametrize("used", [True, False])
    def test_an_offer_that_was_answered_is_not_rescinded(self, used: bool) -> None:
        c = Conductor(offer_timeout_s=30.0)
        fid = c.subscribe()
        aid = c.agent()
        (offer,) = c.offers()
        refused = Filters(3600.0)
        if used:
            c.call(fid, accept(ids(offer), task("t", aid, "cpus:4;mem:4096;disk:1000")))
        else:
            c.call(fid, scheduler.Decline((offer.id,), refused))
        c.wait(60)
        assert c.take("s") == []

    @pytest.mark.parametrize(
        ("filters", "seconds"),
        [
            (None, 5.0),
            (Filters(), 5.0),
            (Filters(0.0), 0.0),
            (Filters(-1.0), 5.0),
            (Filters(float("nan")), 5.0),
            (Filters(1e12), 31_536_000.0),
            (Filters(float("inf")), 31_536_000.0),
        ],
    )
    def test_how_long_a_refusal_holds(self, filters: Filters | None, seconds: float) -> None:
        assert refuse_seconds(filters) == seconds


class TestCombining:
    def cut_offers(self, c: Conductor, *roles: str) -> list[Offer]:
        """Offers of one agent, each of 1 cpu and 64 MB, for the demands of these roles."""
        offers: list[Offer] = []
        asked: list[scheduler.ResourceRequest] = []
        for role in roles:  # A later demand gets an offer of its own: the earlier one has its already.
            asked.append(scheduler.ResourceRequest(name=f"{len(asked)}", resources=resources("cpus:1;mem:64"), role=role))
            c.call("M-0000", scheduler.Request(tuple(asked)))
            if not c.core.state.agents:
                c.agent()
            offers += c.offers()
        return offers

    def test_two_offers_of_one_agent_can_be_used_together(self, c: Conductor) -> None:
        first, second = self.cut_offers(c, "*", "*")
        aid = first.agent_id.value
        c.call("M-0000", accept(ids(first, second), task("t", aid, "cpus:2;mem:128")))
        assert c.statuses() == []
        assert c.core.state.agents[aid].used == Resources.parse("cpus:2;mem:128")

    @pytest.mark.parametrize("aware", [True, False])
    @pytest.mark.parametrize("what", ["two agents", "one twice", "two roles", "ended", "none"])
    def test_offers_that_do_not_go_together(self, aware: bool, what: str) -> None:
        """The tasks are dropped, operations with an id fail, and live offers go back without a filter."""
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", MULTI, *([AWARE] if aware else []), roles=("a", "b")))
        c.take("s")
        chosen = ids(*self.cut_offers(c, "a", "b")) if what == "two roles" else []
        if what in ("two agents", "one twice"):
            c.agent(1, register("1"))
            c.agent(2, register("2"))
            found = c.offers()
            assert len({offer.agent_id for offer in found}) == 2
            chosen = ids(*found) if what == "two agents" else ids(found[0], found[0])
        if what == "ended":
            chosen = ["M-O99"]
        operations = (
            Operation(OperationType.LAUNCH, launch=Launch((task("t1", "M-S0"), task("t2", "M-S0")))),
            Operation(OperationType.LAUNCH_GROUP, launch_group=LaunchGroup(DEFAULT, TaskGroupInfo((task("t3", "M-S0"),)))),
            Operation(OperationType.RESERVE, OperationID("op")),
            Operation(OperationType.RESERVE),
        )
        c.call(fid, scheduler.Accept(tuple(map(OfferID, chosen)), operations))
        told = c.take("s")
        statuses = [event.update.status for event in told if event.update]
        assert [status.task_id.value for status in statuses] == ["t1", "t2", "t3"]
        for status in statuses:
            assert status.state is (TaskState.TASK_DROPPED if aware else TaskState.TASK_LOST)
            assert status.reason is Reason.REASON_INVALID_OFFERS
            assert status.message.startswith("Task launched with invalid offers: ")
            assert (status.uuid, status.executor_id) == (None, None)
        (failed,) = [event.update_operation_status.status for event in told if event.update_operation_status]
        assert (failed.operation_id, failed.state.value, failed.uuid, failed.agent_id) == (OperationID("op"), "OPERATION_ERROR", None, None)
        assert not any(agent.used for agent in c.core.state.agents.values())
        assert not set(chosen) & set(c.core.state.offers)
        again = [offer for event in told if event.offers for offer in event.offers.offers]
        assert len(again) == len(set(chosen) - {"M-O99"})
        invariants.check(c.core.state)

    def test_an_accept_that_came_twice_does_not_drop_what_it_launched(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        for _ in range(2):
            c.call("M-0000", accept(ids(offer), task("t", aid)))
        assert [(status.state, status.reason) for status in c.statuses()] == [(TaskState.TASK_STAGING, Reason.REASON_RECONCILIATION)]


class TestLaunching:
    def test_what_an_invalid_task_asked_for_is_offered_again(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        c.call("M-0000", accept(ids(offer), task("t", aid, command=None), refuse_s=0.0))
        (status,) = c.statuses()
        assert status.reason is Reason.REASON_TASK_INVALID
        c.wait(1.1)
        assert [amounts(offer)["cpus"] for offer in c.offers()] == [4.0]

    def test_what_clients_leave_empty_is_no_fault(self, c: Conductor) -> None:
        """As Spark's backend sends it (clients, 13)."""
        aid = c.agent()
        (offer,) = c.offers()
        asked = tuple(replace(resource, role="*") for resource in resources("cpus:1;mem:64"))
        info = replace(task("0", aid), resources=asked, container=ContainerInfo(), labels=Labels())
        c.call("M-0000", scheduler.Accept((offer.id,), (Operation(OperationType.LAUNCH, launch=Launch((info,))),), Filters()))
        assert c.statuses() == []
        assert [told.task.name for told in c.take(1) if isinstance(told, RunTask)] == ["0"]

    def test_the_type_of_a_health_check_is_inferred(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        by_http, by_command = HealthCheck(http=HTTPCheckInfo(80)), HealthCheck(command=CommandInfo(value="true"))
        both = HealthCheck(http=HTTPCheckInfo(80), command=CommandInfo(value="true"))
        infos = [task(name, aid, health_check=check) for name, check in (("h", by_http), ("c", by_command), ("both", both))]
        c.call("M-0000", accept(ids(offer), *infos))
        assert [status.task_id.value for status in c.statuses()] == ["both"]
        assert [told.task.health_check.type for told in c.take(1) if isinstance(told, RunTask)] == [CheckType.HTTP, CheckType.COMMAND]

    def test_a_group_infers_nothing(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        c.call("M-0000", accept_group(ids(offer), DEFAULT, task("t", aid, health_check=HealthCheck(http=HTTPCheckInfo(80)))))
        (status,) = c.statuses()
        assert status.reason is Reason.REASON_TASK_GROUP_INVALID

    def test_a_group_gives_its_executor_to_its_tasks(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        c.call("M-0000", accept_group(ids(offer), DEFAULT, task("t1", aid), replace(task("t2", aid), executor=DEFAULT)))
        (run,) = [told for told in c.take(1) if isinstance(told, RunTaskGroup)]
        assert [info.executor.executor_id.value for info in run.tasks] == ["e", "e"]
        assert all(r.allocation_info.role == "*" for info in (*run.tasks, run.executor) for r in info.resources)

    @pytest.mark.parametrize("grouped", [True, False])
    def test_a_launch_has_no_id(self, c: Conductor, grouped: bool) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        call = accept_group(ids(offer), DEFAULT, task("t", aid)) if grouped else accept(ids(offer), task("t", aid))
        operation = replace(call.operations[0], id=OperationID("op"))
        c.call("M-0000", replace(call, operations=(operation,)))
        (status,) = c.statuses()
        assert status.reason is (Reason.REASON_TASK_GROUP_INVALID if grouped else Reason.REASON_TASK_INVALID)

    def test_executors_of_one_id_may_differ_between_agents(self, c: Conductor) -> None:
        for link, command in ((1, "one"), (2, "other")):
            aid = c.agent(link, register(str(link)))
            (offer,) = c.offers()
            runs = executor("e", command=CommandInfo(value=command))
            c.call("M-0000", accept(ids(offer), task(f"t{link}", aid, executor=runs), refuse_s=3600.0))
            assert c.statuses() == []

    def test_an_executor_may_be_named_with_or_without_its_role(self, c: Conductor) -> None:
        """Its resources are written with the role they were offered to, which is not a difference."""
        aid = c.agent()
        for name in ("t1", "t2"):
            (offer,) = c.offers()
            c.call("M-0000", accept(ids(offer), task(name, aid, executor=executor("e")), refuse_s=0.0))
            assert c.statuses() == []
            c.wait(1.1)

    def test_the_id_of_an_unreachable_task_is_taken(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        c.call("M-0000", accept(ids(offer), task("t", aid)))
        c.later(10)
        c.take("s")
        other = c.agent(2, register("2"))
        (offer,) = c.offers()
        c.call("M-0000", accept(ids(offer), task("t", other)))
        (status,) = c.statuses()
        assert status.state is TaskState.TASK_ERROR
        assert status.message == "Task reuses the ID of an unreachable task: t"

    def test_tiny_amounts_are_neither_lost_nor_gained(self, c: Conductor) -> None:
        aid = c.agent(1, register("1", "cpus:1;mem:128"))
        (offer,) = c.offers()
        c.call("M-0000", accept(ids(offer), *(task(f"t{n}", aid, "cpus:0.001;mem:0.1") for n in range(100)), refuse_s=0.0))
        assert c.core.state.agents[aid].used == Resources.parse("cpus:0.1;mem:10")
        c.wait(1.1)
        assert [amounts(offer) for offer in c.offers()] == [{"cpus": 0.9, "mem": 118.0}]
        for n in range(100):
            c.update(1, "M-0000", f"t{n}", TaskState.TASK_FINISHED)
        assert not c.core.state.agents[aid].used
        invariants.check(c.core.state)

    def test_launches_of_an_agent_that_is_gone_meanwhile_are_dropped(self, c: Conductor) -> None:
        aid = c.agent()
        (offer,) = c.offers()
        c.give(e.LinkClosed(1))
        c.call("M-0000", accept(ids(offer), task("t", aid)))
        assert [(status.task_id, status.state) for status in c.statuses()] == [(TaskID("t"), TaskState.TASK_DROPPED)]
