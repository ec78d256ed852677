"""Agents, frameworks and masters that lose each other (spec: mesos-v1, sections 2.13, 2.14, 8.1)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.master import effects as e
from kernel.wire import scheduler
from kernel.wire.agent import ExecutorExited, Register, StatusUpdate, TaskReport
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import FrameworkInfo, Reason, TaskState, TaskStatus
from tests.builders import accept, framework_id, framework_info, register, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

RUNNING, FINISHED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
PLAIN = framework_info("f", failover_timeout=3600.0)
AWARE = framework_info("f", FrameworkCapability.PARTITION_AWARE, failover_timeout=3600.0)
FID, AID = "M-0000", "M-S0"


def running(info: FrameworkInfo) -> Conductor:
    """Agent M-S0 (link 1) running task "t" of framework M-0000 on stream "s"."""
    c = Conductor()
    c.subscribe(info=info)
    c.agent()
    (offer,) = c.offers()
    c.call(FID, accept([offer.id.value], task("t", AID)))
    uuid = c.update(1, FID, "t", RUNNING)
    c.call(FID, scheduler.Acknowledge(AgentID(AID), TaskID("t"), uuid))
    c.take("s"), c.take(1)
    return c


@pytest.fixture
def c() -> Conductor:
    return running(AWARE)


def back(c: Conductor, state: TaskState = RUNNING, status: TaskStatus | None = None, **fields: object) -> Register:
    info = c.core.state.frameworks[FID].info if FID in c.core.state.frameworks else replace(AWARE, id=framework_id(FID))
    reports = (TaskReport(FID, task("t", AID), state, "", status),)
    return register("1", **{"agent_id": AID, "tasks": reports, "frameworks": (info,), **fields})


def ask(c: Conductor, stream: str = "s", agent_id: str | None = AID) -> list[TaskStatus]:
    """Reconcile task "t" by name; return the answers."""
    wanted = scheduler.ReconcileTask(TaskID("t"), AgentID(agent_id) if agent_id is not None else None)
    c.take(stream)
    c.call(FID, scheduler.Reconcile((wanted,)), stream)
    return c.statuses(stream)


class TestPartitions:
    @pytest.mark.parametrize(("info", "lost"), [(AWARE, TaskState.TASK_UNREACHABLE), (PLAIN, TaskState.TASK_LOST)])
    def test_tasks_survive_a_partition(self, info: FrameworkInfo, lost: TaskState) -> None:
        c = running(info)
        c.later(9.5)
        (told,) = c.statuses()
        assert (told.state, told.reason, told.uuid) == (lost, Reason.REASON_AGENT_REMOVED, None)
        assert told.unreachable_time is not None
        c.give(e.FromAgent(2, back(c)))
        (told,) = c.statuses()
        assert (told.state, told.reason, told.uuid) == (RUNNING, Reason.REASON_AGENT_REREGISTERED, None)
        assert [status.state for status in ask(c)] == [RUNNING]
        invariants.check(c.core.state)

    def test_tasks_survive_a_partition_and_a_change_of_masters(self, c: Conductor) -> None:
        c.later(9.5)
        later = Conductor(c.stored, "M2")
        later.subscribe(info=replace(AWARE, id=framework_id(FID)))
        (known,) = ask(later)
        assert known.state is TaskState.TASK_UNREACHABLE
        assert known.unreachable_time is not None
        later.give(e.FromAgent(2, back(later)))
        assert [(s.state, s.reason) for s in later.statuses()] == [(RUNNING, Reason.REASON_AGENT_REREGISTERED)]
        invariants.check(later.core.state)

    @pytest.mark.parametrize(
        "message",
        [
            StatusUpdate(FID, TaskStatus(TaskID("t"), FINISHED, agent_id=AgentID(AID), uuid=b"x" * 16), FINISHED),
            ExecutorExited(FID, "e", 0),
        ],
    )
    def test_what_an_agent_that_was_given_up_says_is_ignored(self, c: Conductor, message: object) -> None:
        c.later(9.5)
        c.take("s")
        c.give(e.FromAgent(1, message))
        assert c.take("s") == []
        assert c.core.state.frameworks[FID].unreachable["t"].state is TaskState.TASK_UNREACHABLE

    def test_an_end_during_a_partition_is_told_after_it(self, c: Conductor) -> None:
        c.later(9.5)
        c.take("s")
        c.give(e.FromAgent(2, back(c, FINISHED)))
        assert c.statuses() == []  # It comes as an update of its own, with all it has to say.
        assert not c.core.state.agents[AID].used
        c.update(2, FID, "t", FINISHED, message="exit 0")
        assert [(s.state, s.message) for s in c.statuses()] == [(FINISHED, "exit 0")]

    def test_an_end_not_acknowledged_stays_an_end(self, c: Conductor) -> None:
        c.update(1, FID, "t", FINISHED)
        c.take("s")
        c.later(9.5)
        assert c.statuses() == []
        framework = c.core.state.frameworks[FID]
        assert framework.unreachable["t"].state is FINISHED
        c.give(e.FromAgent(2, back(c, FINISHED)))
        assert framework.tasks["t"].state is FINISHED
        assert c.statuses() == []
        invariants.check(c.core.state)

    def test_unreachable_tasks_are_bounded_whatever_their_state(self) -> None:
        c = Conductor(max_unreachable_tasks_per_framework=2)
        c.subscribe(info=AWARE)
        c.agent()
        (offer,) = c.offers()
        c.call(FID, accept([offer.id.value], *(task(f"t{n}", AID, "cpus:0.1;mem:32") for n in range(4))))
        for n in range(4):
            c.update(1, FID, f"t{n}", FINISHED)
        c.later(9.5)
        assert list(c.core.state.frameworks[FID].unreachable) == ["t2", "t3"]

    def test_a_registration_that_comes_twice_changes_nothing(self, c: Conductor) -> None:
        c.give(e.FromAgent(2, back(c)))
        before = c.core.state.agents[AID].used
        c.take("s"), c.take(2)
        c.give(e.FromAgent(2, back(c)))
        assert c.core.state.agents[AID].used == before
        assert c.take("s") == []
        invariants.check(c.core.state)

    def test_a_task_to_be_killed_is_killed_when_its_agent_is_back(self, c: Conductor) -> None:
        c.later(9.5)
        c.call(FID, scheduler.Kill(TaskID("t")))
        c.give(e.FromAgent(2, back(c)))
        assert [m.task_id for m in c.take(2) if type(m).__name__ == "KillTask"] == ["t"]

    def test_one_that_was_told_gone_is_gone_by_name_for_those_who_know(self) -> None:
        for info, state, reason in (
            (AWARE, TaskState.TASK_GONE_BY_OPERATOR, Reason.REASON_AGENT_REMOVED_BY_OPERATOR),
            (PLAIN, TaskState.TASK_LOST, Reason.REASON_AGENT_REMOVED),
        ):
            c = running(info)
            c.give(e.MarkAgentGone(AID))
            assert [(s.state, s.reason) for s in c.statuses()] == [(state, reason)]

    def test_operators_hear_of_an_agent_only_when_it_left_or_was_replaced(self) -> None:
        for leave, told in (
            (lambda c: c.later(9.5), []),
            (lambda c: c.give(e.MarkAgentGone(AID)), []),
            (lambda c: c.agent(2, register("1", run="new")), ["AGENT_REMOVED", "AGENT_ADDED"]),
        ):
            c = running(AWARE)
            c.give(e.SubscribeOperator("operator"))
            c.take("operator")
            leave(c)
            assert [event.type for event in c.take("operator") if event.type.startswith("AGENT")] == told


class TestReconciliation:
    def test_a_framework_that_was_away_learns_all_by_asking(self, c: Conductor) -> None:
        c.give(e.StreamClosed("s"))
        c.later(9.5)
        c.subscribe("s2", info=replace(AWARE, id=framework_id(FID)))
        assert c.statuses("s2") == []
        assert [s.state for s in ask(c, "s2")] == [TaskState.TASK_UNREACHABLE]

    @pytest.mark.parametrize("agent_id", [AID, None])
    def test_nothing_is_said_while_an_agent_may_come_back(self, c: Conductor, agent_id: str | None) -> None:
        later = Conductor(c.stored, "M2")
        later.subscribe(info=replace(AWARE, id=framework_id(FID)))
        assert ask(later, agent_id=agent_id) == []
        later.later(601)
        expected = TaskState.TASK_UNREACHABLE if agent_id is not None else TaskState.TASK_UNKNOWN
        assert [s.state for s in ask(later, agent_id=agent_id)] == [expected]

    def test_an_end_is_told_until_it_is_acknowledged(self, c: Conductor) -> None:
        uuid = c.update(1, FID, "t", FINISHED, message="exit 0")
        (told,) = ask(c)
        assert (told.state, told.uuid) == (FINISHED, None)
        assert "exit 0" in (told.message or "")
        c.take("s")
        c.call(FID, scheduler.Reconcile())
        assert [s.state for s in c.statuses()] == [FINISHED]
        c.call(FID, scheduler.Acknowledge(AgentID(AID), TaskID("t"), uuid))
        c.call(FID, scheduler.Reconcile())
        assert c.statuses() == []

    def test_what_is_unreachable_is_not_told_of_unasked(self, c: Conductor) -> None:
        c.later(9.5)
        c.take("s")
        c.call(FID, scheduler.Reconcile())
        assert c.statuses() == []
        assert [s.state for s in ask(c, agent_id=None)] == [TaskState.TASK_UNKNOWN]

    def test_a_framework_that_comes_after_its_agents_finds_its_tasks(self, c: Conductor) -> None:
        later = Conductor(c.stored, "M2")
        last = TaskStatus(TaskID("t"), RUNNING, uuid=b"u" * 16, healthy=True)
        later.give(e.FromAgent(5, back(later, status=last)))
        later.give(e.FromAgent(6, register("2")))
        assert later.core.state.frameworks[FID].tasks["t"].state is RUNNING
        later.subscribe(info=replace(AWARE, id=framework_id(FID)))
        later.take("s")
        later.call(FID, scheduler.Reconcile())
        assert [(s.state, s.healthy) for s in later.statuses()] == [(RUNNING, True)]
        later.call(FID, scheduler.Acknowledge(AgentID(AID), TaskID("t"), b"u" * 16))
        assert later.core.state.counts["master/valid_status_update_acknowledgements"] == 1
