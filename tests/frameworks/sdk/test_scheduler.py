"""A framework's core against a fake master: what it says and when, and what it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Struct

from frameworks.sdk.driver import CallRefused, Disconnect, Heard, Lost, Stop
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import TaskRecord, resources, task
from frameworks.sdk.testing import FakeMaster
from kernel.clock import Now
from kernel.errors import StoreError
from kernel.mainloop import Reply, Tick
from kernel.wire.ids import AgentID, OfferID, TaskID
from kernel.wire.offer import Filters, InverseOffer
from kernel.wire.scheduler import AcceptInverseOffers, DeclineInverseOffers, Error, Event, Update
from kernel.wire.task import Reason, TaskState, TaskStatus

STAGING, RUNNING, FINISHED = TaskState.TASK_STAGING, TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
AGENT = {"a1": resources(cpus=4, mem=4096)}
SMALL = resources(cpus=1, mem=100)


class Add(Struct, frozen=True):
    task_ids: tuple[str, ...]
    cpus: float = 1.0
    gang: str = ""


class Kill(Struct, frozen=True):
    task_id: str


class End(Struct, frozen=True):
    teardown: bool


class Plain(Scheduler):
    """Does what it is told and notes what it hears."""

    def __init__(self, kept: Mapping[str, bytes], fresh_id: str, spread: float) -> None:
        super().__init__(framework_info("plain"), kept, fresh_id=fresh_id, spread=spread)
        self.seen: list[tuple[str, TaskState]] = []
        self.losses: list[str] = []

    def asked(self, message: Any, now: Now) -> None:
        if isinstance(message, Add):
            for task_id in message.task_ids:
                self.add(task(task_id, "true"), resources(cpus=message.cpus, mem=100), gang=message.gang)
            self.emit(Reply(len(self.tasks)))
        elif isinstance(message, Kill):
            self.kill(message.task_id, now)
        elif isinstance(message, End):
            self.stop(teardown=message.teardown)

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        self.seen.append((task.task_id, status.state))

    def lost(self, reason: str, now: Now) -> None:
        self.losses.append(reason)


class Again(Plain):
    """Runs every task again, under the same id, when it ends."""

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        super().updated(task, status, now)
        if task.task_id not in self.tasks:
            self.add(task.info, SMALL)


def core(master: FakeMaster) -> Plain:
    assert isinstance(master.scheduler, Plain)
    return master.scheduler


def types(master: FakeMaster) -> list[str]:
    return [call.type or "" for call in master.calls]


# ---- Subscription ---------------------------------------------------------------------------------------


def test_a_new_framework_keeps_its_id_before_it_subscribes_with_it() -> None:
    master = FakeMaster(Plain, {})
    assert master.kept["framework"] == b"test-1"
    subscribe = master.calls[0]
    assert subscribe.framework_id is not None
    assert subscribe.framework_id.value == "test-1"
    assert subscribe.subscribe is not None
    assert subscribe.subscribe.framework_info.id == subscribe.framework_id
    assert subscribe.subscribe.suppressed_roles == ("*",)  # It wants nothing yet.


def test_a_restarted_framework_subscribes_with_the_id_it_kept() -> None:
    master = FakeMaster(Plain, {})
    master.restart()
    assert [call.framework_id and call.framework_id.value for call in master.calls_of("SUBSCRIBE")] == ["test-1", "test-1"]


def test_an_unreachable_master_is_tried_again_at_growing_intervals() -> None:
    master = FakeMaster(Plain, {}, connect=False)
    master.advance(60)
    tries = len(master.calls_of("SUBSCRIBE"))
    assert 8 <= tries <= 20
    master.reachable = True
    master.advance(11)
    assert core(master).driver.subscribed
    assert set(core(master).losses) == {"connection refused"}


def test_a_silent_master_is_left_after_three_heartbeats() -> None:
    master = FakeMaster(Plain, {})
    master.advance(44)
    assert len(master.calls_of("SUBSCRIBE")) == 1
    master.advance(2)
    assert len(master.calls_of("SUBSCRIBE")) == 2
    assert core(master).losses == ["the master fell silent"]


def test_a_master_that_does_not_answer_is_left() -> None:
    scheduler = Plain({}, "test-1", 0.0)
    scheduler.receive(Tick(), Now(1_000.0, 0.0))
    scheduler.receive(Tick(), Now(1_014.0, 0.0))
    assert scheduler.losses == []
    scheduler.receive(Tick(), Now(1_016.0, 0.0))
    assert scheduler.losses == ["no answer in time"]


def test_heartbeats_keep_the_stream() -> None:
    master = FakeMaster(Plain, {})
    for _ in range(20):
        master.advance(15)
        master.send(Event(type="HEARTBEAT"))
    assert len(master.calls_of("SUBSCRIBE")) == 1


def test_a_subscription_that_is_never_answered_is_tried_anew() -> None:
    scheduler = Plain({}, "f", 0.5)
    from kernel.mainloop import Tick

    scheduler.receive(Tick(), Now(0.0, 0.0))
    effects = scheduler.receive(Tick(), Now(16.0, 16.0))
    assert effects == [Disconnect(1)]
    assert not scheduler.driver.subscribed


def test_events_of_an_older_stream_are_ignored() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.break_stream()
    master.advance(1)
    status = TaskStatus(TaskID("t1"), RUNNING, agent_id=AgentID("a1"), uuid=b"x" * 16)
    assert list(core(master).receive(Heard(1, Event(type="UPDATE", update=Update(status))), master.now)) == []


def test_another_instance_that_took_over_ends_this_one() -> None:
    master = FakeMaster(Plain, {})
    master.send(Event(type="ERROR", error=Error("Framework failed over")))
    assert master.stopped == Stop("Framework failed over")
    master.advance(60)
    assert len(master.calls_of("SUBSCRIBE")) == 1


def test_one_that_comes_with_another_credential_is_told_the_way_out() -> None:
    master = FakeMaster(Plain, {})
    master.send(Event(type="ERROR", error=Error("Changing framework's principal is not allowed.")))
    assert master.stopped is not None
    error = str(master.stopped.error)
    assert error.startswith("Changing framework's principal is not allowed. Framework ")
    assert error.endswith(f"use that one, or end it by `meseta framework teardown {core(master).driver.framework_id.value}`"), error


def test_a_master_that_refuses_ends_the_framework() -> None:
    scheduler = Plain({}, "f", 0.5)
    from kernel.mainloop import Tick

    scheduler.receive(Tick(), Now(0.0, 0.0))
    assert scheduler.receive(Lost(1, "401", refused=True), Now(0.1, 0.1)) == [Stop("401")]


def test_a_removed_framework_goes_on_under_a_new_id_and_its_tasks_are_killed() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    master.restart()  # Now the id comes from the store, and a fresh one is at hand.
    fresh = master._numbers
    master.remove_framework()
    assert master.kept["framework"] == f"test-{fresh}".encode() != b"test-1"
    assert core(master).framework_id == f"test-{fresh}"
    assert core(master).driver.subscribed
    assert core(master).seen == [("t1", TaskState.TASK_KILLED)]
    assert "tasks/t1" not in master.kept


def test_a_framework_that_was_removed_twice_ends() -> None:
    master = FakeMaster(Plain, {})
    master.remove_framework()
    assert master.stopped == Stop("Framework has been removed")


# ---- Demand ---------------------------------------------------------------------------------------------


def test_demand_is_told_before_offers_are_revived() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1", "t2")))
    assert types(master)[2:] == ["REQUEST", "REVIVE", "ACCEPT", "SUPPRESS"]
    request = master.calls_of("REQUEST")[0].request
    assert request is not None
    assert [(one.count, one.role) for one in request.requests] == [(2, "*")]


def test_what_an_accept_launched_needs_no_new_request() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(tuple(f"t{n}" for n in range(6))))  # Four fit.
    assert len(master.calls_of("REQUEST")) == 1
    assert core(master).driver.told == core(master).tasks.demand()
    assert len(master.tasks) == 4


def test_a_changed_demand_is_told_as_a_whole() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("big",), cpus=8))
    master.tell(Add(("bigger",), cpus=16))
    request = master.calls_of("REQUEST")[-1].request
    assert request is not None
    assert [one.resources[0].scalar and one.resources[0].scalar.value for one in request.requests] == [8.0, 16.0]
    master.tell(Kill("big"))
    request = master.calls_of("REQUEST")[-1].request
    assert request is not None
    assert len(request.requests) == 1


def test_demand_is_told_again_after_each_subscription() -> None:
    master = FakeMaster(Plain, {})
    master.tell(Add(("t1",)))
    master.break_stream()
    master.advance(1)
    assert len(master.calls_of("REQUEST")) == 2
    assert types(master)[-2:] == ["REQUEST", "REVIVE"]


def test_a_new_demand_revives_offers_that_were_refused() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("big",), cpus=8))
    assert len(master.calls_of("DECLINE")) == 1
    master.tell(Add(("small",)))
    assert len(master.calls_of("REVIVE")) == 2
    assert list(master.tasks) == ["small"]


def test_why_a_task_waits_is_known() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("big",), cpus=8))
    assert [(refusal.hostname, refusal.reason) for refusal in core(master).refusals] == [("host-a1", "cpus 8 wanted, 4 free")]


# ---- Tasks ----------------------------------------------------------------------------------------------


class Stays(Plain):
    """Objects to leaving a2."""

    def asked_to_leave(self, offer: InverseOffer, now: Now) -> bool:
        return offer.agent_id != AgentID("a2")


def test_who_is_asked_to_leave_agrees_unless_it_says_otherwise() -> None:
    master = FakeMaster(Plain, AGENT)
    asked = master.ask_to_leave("a1")
    (call,) = master.calls_of("ACCEPT_INVERSE_OFFERS")
    assert call.accept_inverse_offers == AcceptInverseOffers((OfferID(asked),), Filters(60.0))
    master = FakeMaster(Stays, AGENT)
    master.ask_to_leave("a1")
    asked = master.ask_to_leave("a2")
    (call,) = master.calls_of("DECLINE_INVERSE_OFFERS")
    assert call.decline_inverse_offers == DeclineInverseOffers((OfferID(asked),), Filters(60.0))
    assert len(master.calls_of("ACCEPT_INVERSE_OFFERS")) == 1


def test_a_task_is_recorded_before_it_is_launched() -> None:
    """Effects come in one batch whose Persists are written before anything is sent; the record says it was launched."""
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    restarted = Plain(master.kept, "other", 0.5)
    record = restarted.tasks.get("t1")
    assert record is not None
    assert (record.state, record.agent_id, record.hostname, record.agent_url) == (STAGING, "a1", "host-a1", "http://127.0.0.1:5051")


def test_updates_are_taken_acknowledged_and_taken_once() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    sent = master.tasks["t1"].sent
    assert sent is not None
    master.send(Event(type="UPDATE", update=Update(sent)))  # The agent did not hear the acknowledgement.
    assert core(master).seen == [("t1", RUNNING)]
    assert master.acknowledged == [("t1", sent.uuid)] * 2


def test_an_update_taken_before_a_restart_is_not_taken_again() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    sent = master.tasks["t1"].sent
    assert sent is not None
    master.restart()
    master.send(Event(type="UPDATE", update=Update(sent)))
    assert core(master).seen == []
    assert len(master.acknowledged) == 2


def test_a_terminal_task_is_forgotten_and_its_id_free_again() -> None:
    master = FakeMaster(Again, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    master.update("t1", FINISHED)
    assert core(master).seen == [("t1", RUNNING), ("t1", FINISHED)]
    assert master.tasks["t1"].state is STAGING  # Launched anew, after the acknowledgement of the end.
    assert types(master).index("ACCEPT", types(master).index("ACKNOWLEDGE")) > 0


def test_reports_that_come_late_change_nothing() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    status = TaskStatus(TaskID("t1"), STAGING, reason=Reason.REASON_RECONCILIATION, agent_id=AgentID("a1"))
    master.send(Event(type="UPDATE", update=Update(status)))
    record = core(master).tasks.get("t1")
    assert record is not None
    assert record.state is RUNNING


def test_a_dropped_task_waits_again_and_its_framework_need_not_know() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    lost = master.tasks.pop("t1")
    status = TaskStatus(lost.info.task_id, TaskState.TASK_DROPPED, reason=Reason.REASON_INVALID_OFFERS, agent_id=AgentID("a1"))
    master.send(Event(type="UPDATE", update=Update(status)))
    assert list(master.tasks) == ["t1"]  # Launched again at the next offer.
    assert core(master).seen == []


def test_a_gang_is_launched_whole_or_not_at_all_and_what_is_lost_of_it_waits_by_itself() -> None:
    master = FakeMaster(Plain, {name: resources(cpus=2, mem=4096) for name in ("a1", "a2")})
    master.tell(Add(("t1", "t2", "t3", "t4", "t5"), gang="large"))
    assert master.calls_of("ACCEPT") == []
    master.tell(Add(("t6", "t7", "t8"), gang="small"))
    assert sorted(master.tasks) == ["t6", "t7", "t8"]
    lost = master.tasks.pop("t7")
    status = TaskStatus(lost.info.task_id, TaskState.TASK_DROPPED, reason=Reason.REASON_INVALID_OFFERS, agent_id=lost.info.agent_id)
    master.send(Event(type="UPDATE", update=Update(status)))
    assert sorted(master.tasks) == ["t6", "t7", "t8"]


def test_a_gang_is_one_after_a_restart_too() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1", "t2", "t3", "t4", "t5"), gang="large"))
    master.restart()
    assert master.calls_of("ACCEPT") == []
    assert [(one.count, one.min) for one in master.calls_of("REQUEST")[-1].request.requests] == [(5, 5)]  # type: ignore[union-attr]


def test_a_dropped_task_that_is_to_die_is_over() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    lost = master.tasks["t1"]
    core(master).tasks.get("t1").killing = True  # type: ignore[union-attr]
    master.tasks.pop("t1")
    status = TaskStatus(lost.info.task_id, TaskState.TASK_DROPPED, agent_id=AgentID("a1"))
    master.send(Event(type="UPDATE", update=Update(status)))
    assert core(master).seen == [("t1", TaskState.TASK_DROPPED)]


def refused(message: str) -> Event:
    """A master that does not launch t1."""
    reason = Reason.REASON_TASK_INVALID
    return Event(
        type="UPDATE",
        update=Update(TaskStatus(TaskID("t1"), TaskState.TASK_ERROR, message=message, reason=reason, agent_id=AgentID("a1"))),
    )


def refuse(master: FakeMaster, message: str) -> None:
    """Refuse t1, which was just launched."""
    del master.tasks["t1"]
    master.send(refused(message))


@pytest.mark.parametrize("message", ["Task has duplicate ID: t1", "Task reuses the ID of an unreachable task: t1"])
def test_a_task_whose_id_is_still_in_use_is_launched_later(message: str) -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    for wait_s in (1, 2, 4):
        refuse(master, message)
        master.advance(wait_s - 0.5)
        assert (list(master.tasks), core(master).driver.told) == ([], {})  # Nothing is asked for meanwhile.
        master.advance(1)
        assert list(master.tasks) == ["t1"]
    assert core(master).seen == []


def test_a_task_refused_for_another_reason_is_over() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    refuse(master, "Task uses no resources")
    assert core(master).seen == [("t1", TaskState.TASK_ERROR)]


def test_the_task_that_holds_the_id_may_be_this_one() -> None:
    """The master is asked: what lives there under the id was launched by us and wrongly given up."""
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    refuse(master, "Task has duplicate ID: t1")
    asked = master.calls_of("RECONCILE")[-1].reconcile
    assert asked is not None
    assert [task.task_id.value for task in asked.tasks] == ["t1"]
    status = TaskStatus(TaskID("t1"), RUNNING, reason=Reason.REASON_RECONCILIATION, agent_id=AgentID("a7"))
    master.send(Event(type="UPDATE", update=Update(status)))
    master.advance(60)
    assert (core(master).seen, list(master.tasks)) == ([("t1", RUNNING)], [])


@pytest.mark.parametrize("killed_first", [True, False])
def test_a_task_whose_id_is_in_use_can_be_killed(killed_first: bool) -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    if killed_first:
        core(master).tasks.get("t1").killing = True  # type: ignore[union-attr]
    refuse(master, "Task has duplicate ID: t1")
    master.tell(Kill("t1"))
    master.advance(60)
    assert (core(master).seen, list(master.tasks)) == ([("t1", TaskState.TASK_KILLED)], [])


def test_what_is_told_of_an_earlier_launch_elsewhere_is_not_of_this_one() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    for state, uuid in ((TaskState.TASK_GONE, None), (RUNNING, b"u" * 16), (TaskState.TASK_DROPPED, b"v" * 16)):
        status = TaskStatus(TaskID("t1"), state, reason=Reason.REASON_RECONCILIATION, agent_id=AgentID("a7"), uuid=uuid)
        master.send(Event(type="UPDATE", update=Update(status)))
    assert (core(master).tasks.get("t1").state, core(master).seen) == (STAGING, [])  # type: ignore[union-attr]
    assert [uuid for _, uuid in master.acknowledged] == [b"u" * 16, b"v" * 16]  # Or its agent would tell it for ever.


@pytest.mark.parametrize("state", [TaskState.TASK_UNREACHABLE, TaskState.TASK_GONE, TaskState.TASK_DROPPED])
def test_a_task_that_waits_does_not_care_what_became_of_an_earlier_launch(state: TaskState) -> None:
    master = FakeMaster(Plain, {})
    master.tell(Add(("t1",)))
    master.send(Event(type="UPDATE", update=Update(TaskStatus(TaskID("t1"), state, agent_id=AgentID("a1")))))
    assert (core(master).tasks.get("t1").pending, core(master).seen) == (True, [])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("before", "reason", "again"),
    [
        (STAGING, Reason.REASON_RECONCILIATION, True),  # Its agent is there and has never seen it.
        (STAGING, Reason.REASON_AGENT_REREGISTERED, True),
        (STAGING, Reason.REASON_AGENT_REMOVED, False),  # It may have begun there.
        (RUNNING, Reason.REASON_RECONCILIATION, False),
    ],
)
def test_a_task_that_is_gone_waits_again_only_if_it_never_ran(before: TaskState, reason: Reason, again: bool) -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    if before is RUNNING:
        master.run_all()
    del master.tasks["t1"]
    master.send(Event(type="UPDATE", update=Update(TaskStatus(TaskID("t1"), TaskState.TASK_GONE, reason=reason, agent_id=AgentID("a1")))))
    assert (list(master.tasks) == ["t1"]) is again
    assert (("t1", TaskState.TASK_GONE) in core(master).seen) is not again


def test_a_task_nobody_knows_is_killed() -> None:
    master = FakeMaster(Plain, AGENT)
    status = TaskStatus(TaskID("ghost"), RUNNING, agent_id=AgentID("a1"), uuid=b"u" * 16)
    master.send(Event(type="UPDATE", update=Update(status)))
    assert types(master)[-2:] == ["ACKNOWLEDGE", "KILL"]


def test_a_waiting_task_is_killed_at_once() -> None:
    master = FakeMaster(Plain, {})
    master.tell(Add(("t1",)))
    master.tell(Kill("t1"))
    assert core(master).seen == [("t1", TaskState.TASK_KILLED)]
    assert master.calls_of("KILL") == []
    assert "tasks/t1" not in master.kept


def test_a_kill_is_repeated_until_the_task_is_terminal() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    master._kill = lambda task_id: None  # type: ignore[method-assign]
    master.tell(Kill("t1"))
    master.advance(6)
    assert len(master.calls_of("KILL")) == 2
    master.restart()  # The wish to kill it is kept.
    master.advance(1)
    assert len(master.calls_of("KILL")) == 3
    master.update("t1", TaskState.TASK_KILLED)
    master.advance(100)
    assert len(master.calls_of("KILL")) == 3


def test_a_call_the_master_refuses_ends_the_tasks_it_was_to_launch() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    accept = master.calls_of("ACCEPT")[0]
    master.tasks.clear()
    master.tell(CallRefused(accept, "tasks must have names"))
    assert core(master).seen == [("t1", TaskState.TASK_ERROR)]


# ---- Reconciliation -------------------------------------------------------------------------------------


def test_after_a_subscription_each_live_task_is_asked_for_until_it_is_answered() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1", "t2")))
    master.run_all()
    master._reconcile = lambda task_id: None  # type: ignore[method-assign]
    before = len(master.calls_of("RECONCILE"))
    master.break_stream()
    master.advance(8)
    asked = [[task.task_id.value for task in call.reconcile.tasks] for call in master.calls_of("RECONCILE")[before:] if call.reconcile]
    assert asked == [[], ["t1", "t2"], ["t1", "t2"], ["t1", "t2"]]  # After 0, 1, 3 and 7 seconds.
    del master._reconcile  # type: ignore[method-assign]
    master.advance(20)
    assert len(master.calls_of("RECONCILE")) == before + 5


def test_a_task_that_is_gone_is_found_out() -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.run_all()
    master.tasks.clear()
    master.break_stream()
    master.advance(2)
    assert core(master).seen[-1] == ("t1", TaskState.TASK_UNKNOWN)
    assert len(core(master).tasks) == 0


def test_reconciliation_comes_round_without_a_reason() -> None:
    master = FakeMaster(Plain, {})
    before = len(master.calls_of("RECONCILE"))
    for _ in range(62):
        master.advance(15)
        master.send(Event(type="HEARTBEAT"))
    assert len(master.calls_of("RECONCILE")) == before + 1


# ---- The end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("teardown", [False, True])
def test_a_framework_ends_with_or_without_its_tasks(teardown: bool) -> None:
    master = FakeMaster(Plain, AGENT)
    master.tell(Add(("t1",)))
    master.tell(End(teardown))
    assert master.stopped == Stop(None)
    assert (len(master.calls_of("TEARDOWN")), len(master.tasks)) == ((1, 0) if teardown else (0, 1))


def test_a_store_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(StoreError, match="tasks/t1"):
        Plain({"framework": b"f", "tasks/t1": b"junk"}, "x", 0.5)
