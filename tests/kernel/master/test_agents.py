"""Sessions of agents: admitted, lost, readmitted, gone (spec: mesos-v1, sections 8.1 and 13.5)."""

from __future__ import annotations

import pytest

from kernel.errors import NotFound
from kernel.master import effects as e
from kernel.master.transitions import AGENT_NEXT, FRAMEWORK_NEXT, NEXT, AgentState, FrameworkState, advance
from kernel.wire import scheduler
from kernel.wire.agent import (
    AgentHeartbeat,
    ExecutorExited,
    ExecutorReport,
    Goodbye,
    KillTask,
    MasterHeartbeat,
    ReconcileTasks,
    Registered,
    RunTask,
    ShutdownAgent,
    ShutdownFramework,
    TaskReport,
)
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TERMINAL, Reason, TaskState
from tests.builders import accept, executor, framework_id, framework_info, register, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

RUNNING = TaskState.TASK_RUNNING
AWARE = framework_info("f", FrameworkCapability.PARTITION_AWARE, failover_timeout=3600.0)


@pytest.fixture
def cluster() -> Conductor:
    """An agent (link 1) running task "t" of a framework on stream "s"."""
    c = Conductor()
    c.fid = c.subscribe(info=AWARE)
    c.aid = c.agent()
    (offer,) = c.offers()
    c.task = task("t", c.aid)
    c.call(c.fid, accept([offer.id.value], c.task))
    c.update(1, c.fid, "t", RUNNING)
    c.take("s"), c.take(1)
    return c


def again(c: Conductor, **fields) -> object:
    """The registration of the cluster's agent when it comes back with its task running."""
    report = TaskReport(c.fid, c.task, RUNNING)
    return register("1", agent_id=c.aid, frameworks=(c.core.state.frameworks[c.fid].info,), **{"tasks": (report,), **fields})


class TestTables:
    def test_every_state_has_a_row(self):
        assert set(NEXT) == set(TaskState) - {TaskState.TASK_UNKNOWN}
        assert set(AGENT_NEXT) == set(AgentState)
        assert set(FRAMEWORK_NEXT) == set(FrameworkState)

    def test_nothing_leads_out_of_a_terminal_state(self):
        assert all(advance(end, state) is end for end in TERMINAL for state in TaskState)

    def test_every_state_can_be_reached(self):
        assert set().union(*NEXT.values()) | {TaskState.TASK_STAGING} == set(NEXT)
        assert set().union(*AGENT_NEXT.values()) | {AgentState.RECOVERED} == set(AgentState)


class TestRegistration:
    def test_a_new_agent_gets_an_id_after_it_is_kept(self):
        c = Conductor()
        assert c.agent() == "M-S0"
        assert "agents/M-S0" in c.stored

    def test_the_same_process_asking_again_is_the_same_agent(self):
        c = Conductor()
        first = c.agent(1, register("x"))
        assert c.agent(2, register("x")) == first
        assert 1 in c.closed
        assert len(c.core.state.agents) == 1

    def test_another_version_of_the_link_is_refused(self):
        c = Conductor()
        c.give(e.FromAgent(1, register(version=99)))
        assert c.take(1) == []  # It is not told to end its tasks.
        assert c.closed == [1]

    def test_a_link_must_begin_with_register(self):
        c = Conductor()
        c.give(e.FromAgent(7, AgentHeartbeat()))
        assert c.closed == [7]

    def test_heartbeats_are_answered(self, cluster):
        cluster.give(e.FromAgent(1, AgentHeartbeat()))
        assert cluster.take(1) == [MasterHeartbeat()]

    def test_a_registration_frees_nothing_that_is_used(self, cluster):
        cluster.give(e.FromAgent(2, again(cluster)))
        assert cluster.core.state.agents[cluster.aid].used.cpus == 1000


class TestReconciliation:
    def test_a_task_the_agent_does_not_know_is_asked_about(self, cluster):
        cluster.give(e.LinkClosed(1))
        cluster.give(e.FromAgent(2, again(cluster, tasks=())))
        assert ReconcileTasks(((cluster.fid, "t"),)) in cluster.take(2)

    def test_a_task_that_ended_meanwhile_is_freed(self, cluster):
        cluster.give(e.LinkClosed(1))
        cluster.give(e.FromAgent(2, again(cluster, tasks=(TaskReport(cluster.fid, cluster.task, TaskState.TASK_FINISHED),))))
        assert cluster.core.state.agents[cluster.aid].used.cpus == 0

    def test_a_kill_asked_for_while_it_was_away_is_sent_on_return(self, cluster):
        cluster.give(e.LinkClosed(1))
        cluster.call(cluster.fid, scheduler.Kill(TaskID("t")))
        cluster.give(e.FromAgent(2, again(cluster)))
        assert KillTask(cluster.fid, "t", None) in cluster.take(2)

    def test_executors_it_no_longer_has_are_forgotten(self):
        c = Conductor()
        c.fid = c.subscribe(info=AWARE)
        c.aid = c.agent()
        (offer,) = c.offers()
        c.task = task("t", c.aid, executor=executor("e"))
        c.call(c.fid, accept([offer.id.value], c.task))
        assert c.core.state.agents[c.aid].used.cpus == 1100
        c.give(e.LinkClosed(1))
        c.give(e.FromAgent(2, again(c)))
        assert c.core.state.agents[c.aid].used.cpus == 1000

    def test_an_executor_that_ends_frees_its_share_and_is_told(self):
        c = Conductor()
        fid = c.subscribe(info=AWARE)
        aid = c.agent()
        report = ExecutorReport(fid, executor("e"))
        c.give(e.FromAgent(2, register("1", agent_id=aid, executors=(report,), frameworks=(c.core.state.frameworks[fid].info,))))
        assert c.core.state.agents[aid].used.cpus == 100
        c.take("s")
        c.give(e.FromAgent(2, ExecutorExited(fid, "e", 256)))
        (failure,) = [event.failure for event in c.take("s") if event.failure]
        assert (failure.executor_id.value, failure.status) == ("e", 256)
        assert c.core.state.agents[aid].used.cpus == 0


class TestLoss:
    def test_a_broken_link_rescinds_offers_and_tells_of_no_task(self, cluster):
        cluster.later(6)
        (offer,) = cluster.offers()
        cluster.give(e.LinkClosed(1))
        events = cluster.take("s")
        assert [event.rescind.offer_id for event in events if event.rescind] == [offer.id]
        assert not any(event.update for event in events)

    def test_a_silent_agent_is_unreachable_within_ten_seconds(self, cluster):
        cluster.later(9.5)
        events = cluster.take("s")
        (status,) = [event.update.status for event in events if event.update]
        assert status.state is TaskState.TASK_UNREACHABLE
        assert status.reason is Reason.REASON_AGENT_REMOVED
        assert status.unreachable_time is not None
        assert any(event.failure and event.failure.agent_id.value == cluster.aid for event in events)
        assert 1 in cluster.closed

    def test_heartbeats_keep_it(self, cluster):
        for _ in range(10):
            cluster.later(3)
            cluster.give(e.FromAgent(1, AgentHeartbeat()))
        assert cluster.aid in cluster.core.state.agents

    def test_an_unreachable_agent_comes_back_with_its_tasks(self, cluster):
        cluster.later(9.5)
        cluster.take("s")
        cluster.give(e.FromAgent(2, again(cluster)))
        (status,) = cluster.statuses()
        assert (status.state, status.reason, status.uuid) == (RUNNING, Reason.REASON_AGENT_REREGISTERED, None)
        assert cluster.core.state.agents[cluster.aid].used.cpus == 1000
        assert not cluster.core.state.frameworks[cluster.fid].unreachable

    def test_one_that_said_goodbye_is_waited_for(self, cluster):
        cluster.give(e.FromAgent(1, Goodbye()))
        cluster.give(e.LinkClosed(1))
        cluster.later(60)
        assert cluster.statuses() == []
        cluster.later(600)
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_UNREACHABLE]

    def test_one_back_from_a_goodbye_is_watched_as_before(self, cluster):
        cluster.give(e.FromAgent(1, Goodbye()))
        cluster.give(e.LinkClosed(1))
        cluster.later(60)
        cluster.give(e.FromAgent(2, again(cluster)))
        cluster.take("s")
        cluster.later(9.5)
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_UNREACHABLE]

    def test_one_that_said_goodbye_is_offered_to_nobody_until_it_registers_anew(self, cluster):
        cluster.later(6)
        (offer,) = cluster.offers()
        cluster.give(e.FromAgent(1, Goodbye()))
        assert [event.rescind.offer_id for event in cluster.take("s") if event.rescind] == [offer.id]
        cluster.update(1, cluster.fid, "t", TaskState.TASK_KILLED)  # It ends its tasks first: what they had is free.
        cluster.wait(30)
        assert cluster.offers() == []
        invariants.check(cluster.core.state)
        cluster.give(e.FromAgent(1, again(cluster, tasks=())))
        cluster.later(6)
        assert len(cluster.offers()) == 1

    def test_a_last_goodbye_loses_its_tasks(self, cluster):
        cluster.give(e.FromAgent(1, Goodbye(final=True)))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_LOST]
        cluster.give(e.FromAgent(2, again(cluster)))
        assert isinstance(cluster.take(2)[0], ShutdownAgent)


class TestGone:
    def test_gone_is_for_ever(self, cluster):
        cluster.give(e.MarkAgentGone(cluster.aid))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_GONE_BY_OPERATOR]
        assert isinstance(cluster.take(1)[-1], ShutdownAgent)
        restarted = Conductor(cluster.stored, "M2")
        restarted.give(e.FromAgent(1, again(cluster)))
        assert isinstance(restarted.take(1)[0], ShutdownAgent)

    def test_an_unreachable_agent_can_be_marked_gone(self, cluster):
        cluster.later(9.5)
        cluster.take("s")
        cluster.give(e.MarkAgentGone(cluster.aid))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_GONE_BY_OPERATOR]

    def test_an_unknown_agent_is_not_found(self):
        with pytest.raises(NotFound, match="agent_id"):
            Conductor().give(e.MarkAgentGone("x"))


class TestMasterFailover:
    def test_agents_and_frameworks_are_remembered_and_tasks_come_with_them(self, cluster):
        c = Conductor(cluster.stored, "M2")
        assert c.core.state.agents[cluster.aid].state is AgentState.RECOVERED
        assert c.core.state.frameworks[cluster.fid].state is FrameworkState.RECOVERED
        assert isinstance(c.agent(5, again(cluster)), str)
        assert c.core.state.frameworks[cluster.fid].tasks["t"].state is RUNNING
        fid = c.subscribe(info=framework_info("f", FrameworkCapability.PARTITION_AWARE, id=framework_id(cluster.fid)))
        assert fid == cluster.fid
        assert c.take("s")[1].type == "HEARTBEAT"

    def test_recovered_agents_are_waited_for_longer_than_silent_ones(self, cluster):
        c = Conductor(cluster.stored, "M2")
        c.later(300)
        assert cluster.aid in c.core.state.agents
        c.later(301)
        assert cluster.aid in c.core.state.unreachable

    def test_tasks_of_a_framework_removed_before_the_failover_are_shut_down(self, cluster):
        cluster.call(cluster.fid, scheduler.Teardown())
        c = Conductor(cluster.stored, "M2")
        message = register("1", agent_id=cluster.aid, tasks=(TaskReport(cluster.fid, cluster.task, RUNNING),))
        c.give(e.FromAgent(1, message))
        told = c.take(1)
        assert isinstance(told[0], Registered)
        assert ShutdownFramework(cluster.fid) in told

    def test_new_work_runs_after_it(self, cluster):
        c = Conductor(cluster.stored, "M2")
        c.agent(5, again(cluster))
        fid = c.subscribe(info=framework_info("f", FrameworkCapability.PARTITION_AWARE, id=framework_id(cluster.fid)))
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task("t2", cluster.aid)))
        assert [m.task.task_id.value for m in c.take(5) if isinstance(m, RunTask)] == ["t2"]


class TestUnreachableEnds:
    def test_an_end_acknowledged_while_its_agent_is_away_frees_the_id(self, cluster):
        uuid = cluster.update(1, cluster.fid, "t", TaskState.TASK_FAILED)
        cluster.later(9.5)
        cluster.call(cluster.fid, scheduler.Acknowledge(AgentID(cluster.aid), TaskID("t"), uuid))
        framework = cluster.core.state.frameworks[cluster.fid]
        assert not framework.unreachable
        assert [task.task_id for task in framework.completed] == ["t"]


class TestAddresses:
    def test_a_new_agent_at_an_old_ones_address_takes_its_place(self, cluster):
        cluster.give(e.LinkClosed(1))
        cluster.agent(2, register("other", port=register("1").port))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_LOST]
        assert cluster.aid in cluster.core.state.gone

    def test_tasks_unreachable_there_are_gone_for_good(self, cluster):
        cluster.later(9.5)
        cluster.take("s")
        cluster.agent(2, register("other", port=register("1").port))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_GONE]

    def test_agents_at_other_ports_are_left_alone(self, cluster):
        cluster.agent(2, register("other"))
        assert cluster.statuses() == []
        assert len(cluster.core.state.agents) == 2
