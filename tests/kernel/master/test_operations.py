"""Reservations and volumes by frameworks and operators (spec: mesos-v1, sections 2.7, 2.8, 2.16, 4.1)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.errors import CallError, Conflict
from kernel.master import effects as e
from kernel.wire import scheduler
from kernel.wire.agent import AcknowledgeOperation, ApplyOperation, OperationReport, OperationUpdate, RunTask
from kernel.wire.common import Label, Labels
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import UUID, AgentID, OfferID, OperationID
from kernel.wire.offer import Operation, OperationState, OperationStatus, OperationType
from kernel.wire.operator import QuotaConfig, UpdateQuota
from kernel.wire.resources import DiskInfo, DiskMount, DiskSource, DiskSourceType, Resource, Resources, Scalar
from kernel.wire.task import Reason, TaskInfo, TaskState
from tests.builders import (
    accept_operations,
    create,
    destroy,
    executor,
    framework_info,
    grow,
    launch,
    operation,
    register,
    reserve,
    reserved,
    resources,
    shrink,
    task,
    unreserve,
    volume,
)
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

CAPABLE = (
    FrameworkCapability.MULTI_ROLE,
    FrameworkCapability.RESERVATION_REFINEMENT,
    FrameworkCapability.SHARED_RESOURCES,
    FrameworkCapability.PARTITION_AWARE,
)
PENDING, FINISHED = OperationState.OPERATION_PENDING, OperationState.OPERATION_FINISHED


def info(*roles: str, **fields: Any) -> FrameworkInfo:
    return framework_info("f", *CAPABLE, roles=roles or ("eng",), failover_timeout=60.0, **fields)


class Stage(Conductor):
    """A framework of role `eng` on stream "s", and an agent with 4 cpus, 4096 MB and 1000 MB of disk."""

    def __init__(self, framework: FrameworkInfo | None = None, message: Any = None, **config: Any) -> None:
        super().__init__(**config)
        self.fid = self.subscribe(info=framework or info())
        self.aid = self.agent(1, message)
        self.events: list[Any] = []

    def live(self) -> list[str]:
        """The ids of its open offers, when whatever it refused is offered again."""
        self.wait(6)
        return list(self.core.state.frameworks[self.fid].offers)

    def offered(self) -> Resources:
        """What is offered to it, all together."""
        self.live()
        return Resources.sum(offer.resources for offer in self.core.state.frameworks[self.fid].offers.values())

    def accept(self, *operations: Operation, offer_ids: list[str] | None = None) -> None:
        """Accept all its offers together; what the agent was told before is forgotten."""
        used = self.live() if offer_ids is None else offer_ids
        self.told.clear()
        self.call(self.fid, accept_operations(used, *operations))
        invariants.check(self.core.state)

    def feedback(self, stream: str = "s") -> list[OperationStatus]:
        return [event.update_operation_status.status for event in self.take(stream) if event.update_operation_status is not None]

    def obey(self, link: int = 1) -> list[bytes]:
        """The agent does what it was told; returns the uuids of its statuses."""
        uuids = []
        for message in self.take(link):
            if isinstance(message, ApplyOperation):
                uuids.append(self.finish(message, link))
        return uuids

    def finish(self, message: ApplyOperation, link: int = 1, converted: tuple[Resource, ...] = ()) -> bytes:
        self._uuids += 1
        uuid = self._uuids.to_bytes(16, "big")
        aid = AgentID(self.core.state.links[link].agent_id)
        status = OperationStatus(FINISHED, message.operation.id, converted_resources=converted, uuid=UUID(uuid), agent_id=aid)
        self.give(e.FromAgent(link, OperationUpdate(message.framework_id, message.uuid, status)))
        return uuid

    def operate(self, *operations: Operation, principal: str | None = None) -> None:
        for wanted in operations:
            self.give(e.OperateByOperator(self.aid, wanted, principal))
            invariants.check(self.core.state)


@pytest.fixture
def c() -> Stage:
    return Stage()


def has(held: Resources, *wanted: Resource) -> bool:
    return held.contains(Resources.of(wanted))


def used_by(text_or_resources: str | tuple[Resource, ...], task_id: str, aid: str) -> TaskInfo:
    given = resources(text_or_resources) if isinstance(text_or_resources, str) else text_or_resources
    return replace(task(task_id, aid), resources=given)


class TestReservations:
    def test_what_is_reserved_is_offered_so(self, c: Stage) -> None:
        wanted = reserved("cpus:1;mem:512", "eng")
        c.accept(reserve(*wanted))
        assert has(c.offered(), *wanted, *resources("cpus:3;mem:3584;disk:1000"))

    def test_its_agent_is_told(self, c: Stage) -> None:
        wanted = reserve(*reserved("cpus:1", "eng"))
        c.accept(wanted)
        (told,) = [message for message in c.take(1) if isinstance(message, ApplyOperation)]
        assert (told.framework_id, told.operation, len(told.uuid)) == (c.fid, wanted, 16)

    def test_what_is_reserved_can_be_used_in_the_same_accept(self, c: Stage) -> None:
        wanted = reserved("cpus:1;mem:512", "eng")
        c.accept(reserve(*wanted), launch(used_by(wanted, "t", c.aid)))
        told = c.take(1)
        kinds = [type(message) for message in told if isinstance(message, ApplyOperation | RunTask)]
        assert kinds == [ApplyOperation, RunTask]
        assert not has(c.offered(), *wanted)
        c.update(1, c.fid, "t", TaskState.TASK_FINISHED)
        c.accept(unreserve(*wanted))
        assert c.offered() == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_reservations_refine_each_other(self) -> None:
        c = Stage(info("eng/db"), message=register("1", "cpus(eng):4;mem(eng):4096"))
        (static,) = Resources.parse("cpus(eng):1").messages()
        inner = replace(static, reservations=(*static.reservations, *reserved("cpus:1", "eng/db")[0].reservations))
        c.accept(reserve(inner))
        held = c.offered()
        assert has(held, inner)
        c.accept(unreserve(inner))
        assert has(c.offered(), *Resources.parse("cpus(eng):4").messages())

    def test_tenths_add_up_exactly(self, c: Stage) -> None:
        tenth = reserved("cpus:0.1", "eng")
        c.accept(*[reserve(*tenth)] * 3)
        assert has(c.offered(), *reserved("cpus:0.3", "eng"), *resources("cpus:3.7"))

    def test_another_role_is_not_offered_it(self) -> None:
        c = Stage()
        c.accept(reserve(*reserved("cpus:4;mem:4096", "eng")))
        c.subscribe("other", framework_info("g", *CAPABLE, roles=("ops",)))
        offers = c.offers("other")
        assert not any(resource.reservations for offer in offers for resource in offer.resources)

    def test_a_framework_without_refinement_is_told_in_the_old_form(self) -> None:
        c = Stage(framework_info("f", role="eng", failover_timeout=60.0))
        c.accept(reserve(*reserved("cpus:1", "eng")))
        (old,) = [resource for offer in c.offers() for resource in offer.resources if resource.reservation is not None]
        assert (old.role, old.reservations, old.scalar.value if old.scalar else 0) == ("eng", (), 1.0)
        c.accept(reserve(*reserved("cpus:1", "eng"), operation_id="x"))
        (message,) = [message for message in c.take(1) if isinstance(message, ApplyOperation)]
        c.finish(message, converted=reserved("cpus:1", "eng"))
        ((converted,),) = [status.converted_resources for status in c.feedback()]
        assert (converted.role, converted.reservations) == ("eng", ())

    def test_labels_keep_reservations_apart(self, c: Stage) -> None:
        (plain,) = reserved("cpus:1", "eng")
        labelled = replace(plain, reservations=(replace(plain.reservations[0], labels=Labels((Label("k", "v"),))),))
        c.accept(reserve(plain), reserve(labelled))
        assert has(c.offered(), plain, labelled)
        c.accept(unreserve(plain), unreserve(plain))
        assert has(c.offered(), labelled)


def amount(value: float) -> Operation:
    """A reservation of so many cpus."""
    (wanted,) = reserved("cpus:1", "eng")
    return reserve(replace(wanted, scalar=Scalar(value)), operation_id="x")


WRONG = {
    "more than there is": amount(5),
    "for another role": reserve(*reserved("cpus:1", "ops"), operation_id="x"),
    "not reserved": reserve(*resources("cpus:1"), operation_id="x"),
    "statically": reserve(*Resources.parse("cpus(eng):1").messages(), operation_id="x"),
    "with a source": reserve(*reserved("cpus:1", "eng"), source=resources("cpus:1"), operation_id="x"),
    "nothing": reserve(operation_id="x"),
    "zero": amount(0),
    "less than a thousandth": amount(0.0001),
    "negative": amount(-1),
    "not a number": amount(float("nan")),
    "huge": amount(1e300),
    "alien": unreserve(*reserved("cpus:1", "eng"), operation_id="x"),
    "unreserve what is not reserved": unreserve(*resources("cpus:1"), operation_id="x"),
    "a volume of what is not reserved": create(volume("v", 10), operation_id="x"),
    "a volume that is not there": destroy(volume("v", 10, "eng"), operation_id="x"),
    "a disk of a provider": operation(OperationType.CREATE_DISK, "x"),
    "without a body": operation(OperationType.RESERVE, "x"),
}


class TestWhatMayNotBe:
    @pytest.mark.parametrize("name", WRONG)
    def test_what_may_not_be_is_dropped_and_offered_again(self, c: Stage, name: str) -> None:
        c.accept(WRONG[name], launch(task("t", c.aid)))
        (status,) = c.feedback()
        assert (status.state, status.operation_id, status.uuid) == (OperationState.OPERATION_ERROR, OperationID("x"), None)
        assert status.message
        assert [type(message) for message in c.take(1) if isinstance(message, ApplyOperation | RunTask)] == [RunTask]
        c.update(1, c.fid, "t", TaskState.TASK_FINISHED)
        assert c.offered() == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_what_another_uses_cannot_be_unreserved(self, c: Stage) -> None:
        wanted = reserved("cpus:4", "eng")
        c.accept(reserve(*wanted), launch(used_by((*wanted, *resources("mem:32")), "t", c.aid)), unreserve(*wanted, operation_id="x"))
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_ERROR]

    def test_the_principal_must_be_the_frameworks(self) -> None:
        c = Stage(info(principal="p"))
        c.accept(
            reserve(*reserved("cpus:1", "eng"), operation_id="none"),
            reserve(*reserved("cpus:1", "eng", principal="q"), operation_id="other"),
            reserve(*reserved("cpus:1", "eng", principal="p")),
        )
        assert [(s.operation_id, s.state) for s in c.feedback()] == [
            (OperationID("none"), OperationState.OPERATION_ERROR),
            (OperationID("other"), OperationState.OPERATION_ERROR),
        ]
        assert has(c.offered(), *reserved("cpus:1", "eng", principal="p"))

    def test_offers_that_are_gone(self, c: Stage) -> None:
        gone = c.live()
        c.call(c.fid, scheduler.Decline(tuple(map(OfferID, gone))))
        c.accept(reserve(*reserved("cpus:1", "eng"), operation_id="x"), offer_ids=gone)
        (status,) = c.feedback()
        assert status.state is OperationState.OPERATION_ERROR

    def test_an_agent_of_an_older_release(self) -> None:
        c = Stage(message=register("1", capabilities=()))
        c.accept(reserve(*reserved("cpus:1", "eng"), operation_id="x"))
        (status,) = c.feedback()
        assert "AGENT_OPERATION_FEEDBACK" in (status.message or "")


class TestVolumes:
    def test_the_whole_life_of_a_volume(self, c: Stage) -> None:
        disk, made = reserved("disk:100", "eng"), volume("v", 100, "eng")
        c.accept(reserve(*disk))
        c.accept(create(made))
        assert has(c.offered(), made)
        c.accept(launch(used_by((*resources("cpus:1;mem:32"), made), "t", c.aid)))
        assert not has(c.offered(), made)
        c.update(1, c.fid, "t", TaskState.TASK_FINISHED)
        assert has(c.offered(), made)
        c.accept(destroy(made))
        assert has(c.offered(), *disk)
        c.accept(unreserve(*disk))
        assert c.offered() == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_all_in_one_accept(self, c: Stage) -> None:
        made = volume("v", 100, "eng")
        c.accept(
            reserve(*reserved("disk:100", "eng")),
            create(made),
            launch(used_by((*resources("cpus:1;mem:32"), made), "t", c.aid)),
        )
        assert [type(m) for m in c.take(1) if isinstance(m, ApplyOperation | RunTask)] == [ApplyOperation, ApplyOperation, RunTask]

    def test_each_task_may_mount_it_elsewhere(self, c: Stage) -> None:
        c.accept(reserve(*reserved("disk:100", "eng")), create(volume("v", 100, "eng", path="data")))
        c.accept(launch(used_by((*resources("cpus:1;mem:32"), volume("v", 100, "eng", path="elsewhere")), "t", c.aid)))
        (run,) = [message for message in c.take(1) if isinstance(message, RunTask)]
        (mounted,) = [resource.disk for resource in run.task.resources if resource.disk is not None]
        assert mounted.volume is not None
        assert mounted.volume.container_path == "elsewhere"

    def test_a_volume_that_is_used_is_not_destroyed(self, c: Stage) -> None:
        made = volume("v", 100, "eng")
        c.accept(
            reserve(*reserved("disk:100", "eng")),
            create(made),
            launch(used_by((*resources("cpus:1;mem:32"), made), "t", c.aid)),
            destroy(made, operation_id="x"),
        )
        (status,) = c.feedback()
        assert "used by a task" in (status.message or "")

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda: volume("v", 50, "eng"), "has a volume 'v' here already"),
            (lambda: volume("../x", 50, "eng"), "slash"),
            (lambda: volume("", 50, "eng"), "empty"),
            (lambda: volume("w" * 256, 50, "eng"), "255"),
            (lambda: volume("w", 50, "eng", path="../up"), "'..'"),
            (lambda: volume("w", 50, "eng", path=""), "empty"),
            (lambda: volume("w", 5000, "eng"), "is needed"),
        ],
    )
    def test_what_no_volume_may_be(self, c: Stage, change: Any, told: str) -> None:
        c.accept(reserve(*reserved("disk:200", "eng")), create(volume("v", 100, "eng")), create(change(), operation_id="x"))
        (status,) = c.feedback()
        assert status.state is OperationState.OPERATION_ERROR
        assert told in (status.message or "")

    def test_one_that_takes_a_whole_disk(self) -> None:
        source = DiskSource(DiskSourceType.MOUNT, mount=DiskMount("/mnt/d"))
        (disk,) = resources("disk:500")
        mount = replace(disk, disk=DiskInfo(source=source))
        c = Stage(message=register("1", resources=(*resources("cpus:1;mem:64"), mount)))
        held = replace(reserved("disk:500", "eng")[0], disk=DiskInfo(source=source))
        part = volume("v", 100, "eng", source=source)
        whole = volume("v", 500, "eng", source=source)
        c.accept(reserve(held), create(part, operation_id="part"), create(whole), shrink(whole, 10, operation_id="shrink"))
        assert [status.operation_id for status in c.feedback()] == [OperationID("part"), OperationID("shrink")]
        assert has(c.offered(), whole)


class TestResizing:
    def test_what_was_resized_is_for_later_offers(self, c: Stage) -> None:
        made, grown = volume("v", 100, "eng"), volume("v", 150, "eng")
        (more,) = reserved("disk:50", "eng")
        c.accept(reserve(*reserved("disk:150", "eng")), create(made))
        c.accept(grow(made, more), launch(used_by((*resources("cpus:1;mem:32"), grown), "t", c.aid)))
        assert c.statuses()[0].reason is Reason.REASON_TASK_INVALID
        assert has(c.offered(), grown)
        c.accept(shrink(grown, 120), launch(used_by((*resources("cpus:1;mem:32"), volume("v", 30, "eng")), "u", c.aid)))
        assert c.statuses()[0].reason is Reason.REASON_TASK_INVALID
        assert has(c.offered(), volume("v", 30, "eng"), *reserved("disk:120", "eng"))

    @pytest.mark.parametrize(
        "wrong",
        [
            grow(volume("v", 100, "eng"), resources("disk:50")[0], operation_id="x"),
            grow(volume("v", 100, "eng"), replace(reserved("disk:1", "eng")[0], scalar=Scalar(0)), operation_id="x"),
            grow(volume("w", 100, "eng"), reserved("disk:50", "eng")[0], operation_id="x"),
            grow(reserved("disk:50", "eng")[0], reserved("disk:50", "eng")[0], operation_id="x"),
            grow(volume("v", 100, "eng"), reserved("disk:51", "eng")[0], operation_id="x"),
            shrink(volume("v", 100, "eng"), 100, operation_id="x"),
            shrink(volume("v", 100, "eng"), 0, operation_id="x"),
            shrink(volume("v", 100, "eng"), -1, operation_id="x"),
            shrink(volume("v", 100, "eng"), float("nan"), operation_id="x"),
            shrink(volume("v", 100, "eng"), 0.0001, operation_id="x"),
        ],
    )
    def test_what_cannot_be_resized(self, c: Stage, wrong: Operation) -> None:
        c.accept(reserve(*reserved("disk:150", "eng")), create(volume("v", 100, "eng")), wrong)
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_ERROR]


class TestSharedVolumes:
    SHARED = volume("v", 100, "eng", shared=True)

    def test_tasks_share_a_shared_volume(self, c: Stage) -> None:
        one, two = (used_by((*resources("cpus:1;mem:32"), self.SHARED), name, c.aid) for name in "ab")
        c.accept(reserve(*reserved("disk:100", "eng")), create(self.SHARED), launch(one, two))
        assert len([message for message in c.take(1) if isinstance(message, RunTask)]) == 2
        assert has(c.offered(), self.SHARED), "it can be used by a third"
        c.accept(launch(used_by((*resources("cpus:1;mem:32"), self.SHARED), "c", c.aid)))
        for name in "abc":
            c.update(1, c.fid, name, TaskState.TASK_FINISHED)
            invariants.check(c.core.state)
        assert c.offered().contains(Resources.of([self.SHARED]))

    def test_a_shared_volume_is_destroyed_when_nobody_uses_it(self, c: Stage) -> None:
        used = used_by((*resources("cpus:1;mem:32"), self.SHARED), "t", c.aid)
        c.accept(reserve(*reserved("disk:100", "eng")), create(self.SHARED), launch(used), destroy(self.SHARED, operation_id="x"))
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_ERROR]
        c.update(1, c.fid, "t", TaskState.TASK_FINISHED)
        c.accept(destroy(self.SHARED))
        assert has(c.offered(), *reserved("disk:100", "eng"))

    def test_only_one_offer_holds_it(self, c: Stage) -> None:
        c.accept(reserve(*reserved("disk:100", "eng")), create(self.SHARED))
        c.subscribe("other", framework_info("g", *CAPABLE, roles=("eng",)))
        c.wait(6)
        offers = [*c.offers("s"), *c.offers("other")]
        assert sum(resource.shared is not None for offer in offers for resource in offer.resources) == 1

    def test_who_knows_of_none_can_make_none(self) -> None:
        c = Stage(framework_info("f", FrameworkCapability.MULTI_ROLE, FrameworkCapability.RESERVATION_REFINEMENT, roles=("eng",)))
        c.accept(reserve(*reserved("disk:100", "eng")), create(self.SHARED, operation_id="x"))
        (status,) = c.feedback()
        assert "SHARED_RESOURCES" in (status.message or "")

    def test_an_executor_cannot_have_one(self, c: Stage) -> None:
        wrong = replace(executor("e"), resources=(self.SHARED,))
        c.accept(reserve(*reserved("disk:100", "eng")), create(self.SHARED), launch(task("t", c.aid, executor=wrong)))
        assert c.statuses()[0].reason is Reason.REASON_TASK_INVALID


class TestFeedback:
    WANTED = reserve(*reserved("cpus:1", "eng"), operation_id="op")

    def test_the_framework_hears_and_acknowledges(self, c: Stage) -> None:
        c.accept(self.WANTED)
        (uuid,) = c.obey()
        (status,) = c.feedback()
        assert (status.state, status.operation_id, status.uuid) == (FINISHED, OperationID("op"), UUID(uuid))
        c.call(c.fid, scheduler.AcknowledgeOperationStatus(uuid, OperationID("op"), AgentID(c.aid)))
        (told,) = c.take(1)
        assert isinstance(told, AcknowledgeOperation)
        assert told.status_uuid == uuid
        assert not c.core.state.agents[c.aid].operations
        assert not c.core.state.frameworks[c.fid].operations

    def test_one_without_an_id_is_acknowledged_by_the_master(self, c: Stage) -> None:
        c.accept(reserve(*reserved("cpus:1", "eng")))
        c.obey()
        assert c.feedback() == []
        assert isinstance(c.take(1)[0], AcknowledgeOperation)
        assert not c.core.state.agents[c.aid].operations

    def test_a_scheduler_that_was_away_is_told_at_once(self, c: Stage) -> None:
        c.accept(self.WANTED)
        c.give(e.StreamClosed("s"))
        c.obey()
        c.subscribe("s2", replace(info(), id=c.core.state.frameworks[c.fid].info.id))
        assert [status.state for status in c.feedback("s2")] == [FINISHED]

    def test_an_operation_that_never_arrived_is_dropped(self, c: Stage) -> None:
        c.accept(self.WANTED, launch(used_by((*reserved("cpus:1", "eng"), *resources("mem:32")), "t", c.aid)))
        c.give(e.LinkClosed(1))
        c.agent(2, register("1", agent_id=c.aid))
        invariants.check(c.core.state)
        events = c.take("s")
        statuses = [event.update_operation_status.status for event in events if event.update_operation_status is not None]
        assert [(status.state, status.uuid) for status in statuses] == [(OperationState.OPERATION_DROPPED, None)]
        assert [event.update.status.state for event in events if event.update is not None] == [TaskState.TASK_DROPPED]
        assert c.core.state.agents[c.aid].total == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_a_new_master_learns_it_from_the_agent(self, c: Stage) -> None:
        wanted = reserved("cpus:1", "eng")
        total = (Resources.parse("cpus:3;mem:4096;disk:1000") + Resources.of(wanted)).messages()
        status = OperationStatus(FINISHED, OperationID("op"), uuid=UUID(b"u" * 16), agent_id=AgentID(c.aid))
        report = OperationReport(b"o" * 16, c.fid, self.WANTED, status)
        next_master = Stage.__new__(Stage)
        Conductor.__init__(next_master, c.stored, master_id="N")
        next_master.agent(1, register("1", agent_id=c.aid, total=total, operations=(report,)))
        next_master.subscribe("s", replace(info(), id=c.core.state.frameworks[c.fid].info.id))
        invariants.check(next_master.core.state)
        events = next_master.take("s")
        assert [event.update_operation_status.status for event in events if event.update_operation_status is not None] == [status]
        (offer,) = [offer for event in events if event.offers is not None for offer in event.offers.offers]
        assert has(Resources.of(offer.resources), *wanted)

    def test_an_agent_that_is_lost(self, c: Stage) -> None:
        c.accept(self.WANTED)
        c.give(e.LinkClosed(1))
        c.later(700)
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_UNREACHABLE]
        c.call(c.fid, scheduler.ReconcileOperations((scheduler.ReconcileOperation(OperationID("op"), AgentID(c.aid)),)))
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_UNREACHABLE]

    def test_reconciliation_tells_the_latest(self, c: Stage) -> None:
        c.accept(self.WANTED)
        c.call(c.fid, scheduler.ReconcileOperations(()))
        assert [status.state for status in c.feedback()] == [PENDING]
        c.obey()
        c.feedback()
        named = scheduler.ReconcileOperations(
            (
                scheduler.ReconcileOperation(OperationID("op"), AgentID(c.aid)),
                scheduler.ReconcileOperation(OperationID("none"), AgentID(c.aid)),
            )
        )
        c.call(c.fid, named)
        assert [(status.state, status.uuid) for status in c.feedback()] == [(FINISHED, None), (OperationState.OPERATION_UNKNOWN, None)]

    def test_an_id_is_taken_until_its_end_is_acknowledged(self, c: Stage) -> None:
        c.accept(self.WANTED, self.WANTED)
        assert [status.state for status in c.feedback()] == [OperationState.OPERATION_ERROR]

    def test_a_framework_that_is_gone_owes_no_acknowledgement(self, c: Stage) -> None:
        c.accept(self.WANTED)
        c.call(c.fid, scheduler.Teardown())
        invariants.check(c.core.state)
        c.obey()
        assert isinstance(c.take(1)[-1], AcknowledgeOperation)
        assert not c.core.state.agents[c.aid].operations


class TestOperators:
    def test_what_is_offered_is_taken_back(self, c: Stage) -> None:
        (offer_id,) = c.live()
        c.operate(reserve(*reserved("cpus:1", "ops")))
        assert [event.rescind.offer_id.value for event in c.take("s") if event.rescind is not None] == [offer_id]
        assert c.offered() == Resources.parse("cpus:3;mem:4096;disk:1000")
        assert any(isinstance(message, ApplyOperation) and not message.framework_id for message in c.take(1))

    def test_the_whole_life_of_a_volume(self, c: Stage) -> None:
        disk, made = reserved("disk:100", "eng"), volume("v", 100, "eng")
        c.operate(reserve(*disk), create(made))
        assert has(c.offered(), made)
        c.operate(shrink(made, 50), grow(volume("v", 50, "eng"), reserved("disk:10", "eng")[0]))
        c.operate(destroy(volume("v", 60, "eng")), unreserve(*disk))
        assert c.offered() == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_a_reservation_can_be_changed(self, c: Stage) -> None:
        c.operate(reserve(*reserved("cpus:1", "ops")))
        c.operate(reserve(*reserved("cpus:1", "eng", "eng/db"), source=reserved("cpus:1", "ops")))
        assert has(c.core.state.agents[c.aid].total, *reserved("cpus:1", "eng", "eng/db"))
        with pytest.raises(CallError, match="not as much"):
            c.operate(reserve(*reserved("cpus:2", "eng"), source=reserved("cpus:1", "eng", "eng/db")))

    def test_what_is_used_stays(self, c: Stage) -> None:
        c.accept(launch(task("t", c.aid, "cpus:4;mem:32")))
        with pytest.raises(Conflict, match="unused"):
            c.operate(reserve(*reserved("cpus:1", "eng")))

    def test_a_limit_holds_for_what_is_reserved(self) -> None:
        c = Stage(info("ops"))
        c.give(UpdateQuota(quota_configs=(QuotaConfig("eng", limits={"cpus": Scalar(2.0)}),)))
        c.operate(reserve(*reserved("cpus:1", "eng/db")))
        with pytest.raises(Conflict, match="limited to 2 and consumes 1"):
            c.operate(reserve(*reserved("cpus:1.5", "eng/web")))
        c.operate(reserve(*reserved("cpus:1", "eng/web")))

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            (reserve(*reserved("cpus:1", "*")), "cannot be reserved"),
            (reserve(*resources("cpus:1")), "no reservation"),
            (unreserve(*resources("cpus:1")), "no reservation"),
        ],
    )
    def test_what_may_not_be(self, c: Stage, wrong: Operation, told: str) -> None:
        with pytest.raises(CallError, match=told):
            c.operate(wrong)
        assert c.core.state.agents[c.aid].total == Resources.parse("cpus:4;mem:4096;disk:1000")

    def test_an_allocation_is_not_for_operators(self, c: Stage) -> None:
        allocated = Resources.of(reserved("cpus:1", "eng")).messages("eng")
        with pytest.raises(CallError, match="allocation_info"):
            c.operate(reserve(*allocated))

    def test_the_principal_must_be_the_operators(self, c: Stage) -> None:
        with pytest.raises(CallError, match="principal"):
            c.operate(reserve(*reserved("cpus:1", "eng")), principal="ops")
        c.operate(reserve(*reserved("cpus:1", "eng", principal="ops")), principal="ops")

    def test_agents_that_cannot_be_told(self, c: Stage) -> None:
        with pytest.raises(CallError, match="no agent 'x'"):
            c.give(e.OperateByOperator("x", reserve(*reserved("cpus:1", "eng"))))
        c.give(e.LinkClosed(1))
        with pytest.raises(Conflict, match="not connected"):
            c.operate(reserve(*reserved("cpus:1", "eng")))


def test_a_total_that_no_operation_makes_is_refused() -> None:
    c = Conductor()
    c.give(e.FromAgent(1, register("1", total=resources("cpus:5"))))
    assert c.closed == [1]
    assert not c.core.state.agents
