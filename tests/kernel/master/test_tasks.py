"""From ACCEPT to the acknowledged end of a task (spec: mesos-v1, sections 2.7-2.9, 2.13-2.15)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from kernel.errors import CallError, NotFound
from kernel.master import effects as e
from kernel.wire import scheduler
from kernel.wire.agent import AcknowledgeUpdate, FrameworkUpdated, KillTask, RunTask, RunTaskGroup, ShutdownExecutor
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, ExecutorID, OfferID, TaskID
from kernel.wire.offer import Filters, Operation, OperationType, Reserve
from kernel.wire.task import (
    URI,
    CommandInfo,
    DurationInfo,
    Environment,
    ExecutorType,
    KillPolicy,
    Label,
    Labels,
    Reason,
    TaskState,
    Variable,
)
from tests.builders import accept, accept_group, executor, framework_id, framework_info, resources, task
from tests.kernel.master.conductor import Conductor

RUNNING, FINISHED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
AWARE = framework_info("f", FrameworkCapability.PARTITION_AWARE)


@pytest.fixture
def cluster() -> Conductor:
    """One agent of 4 cpus and 4 GB (link 1) and one framework (stream "s") holding an offer of all of it."""
    conductor = Conductor()
    conductor.fid = conductor.subscribe(info=AWARE)
    conductor.aid = conductor.agent()
    (conductor.offer,) = conductor.offers()
    conductor.take(1)
    return conductor


def launch(c: Conductor, *tasks, **fields) -> None:
    c.call(c.fid, accept([c.offer.id.value], *tasks, **fields))


class TestLaunch:
    def test_a_task_is_sent_to_its_agent_after_its_framework(self, cluster):
        launch(cluster, task("t", cluster.aid))
        framework, run = cluster.take(1)
        assert isinstance(framework, FrameworkUpdated)
        assert framework.framework.id.value == cluster.fid
        assert isinstance(run, RunTask)
        assert run.task.task_id.value == "t"
        assert run.launch_executor

    def test_the_unused_rest_is_declined_for_the_filter_time(self, cluster):
        launch(cluster, task("t", cluster.aid), refuse_s=5.0)
        assert cluster.offers() == []
        cluster.wait(6)
        (offer,) = cluster.offers()
        assert [(r.name, r.scalar.value) for r in offer.resources][:2] == [("cpus", 3.0), ("mem", 4064.0)]

    def test_no_filter_brings_the_rest_back_after_one_allocation_interval(self, cluster):
        launch(cluster, task("t", cluster.aid), refuse_s=0.0)
        assert cluster.offers() == []
        cluster.wait(1.1)
        assert len(cluster.offers()) == 1

    def test_accept_without_operations_declines(self, cluster):
        cluster.call(cluster.fid, accept([cluster.offer.id.value]))
        assert cluster.offers() == []
        cluster.wait(6)
        assert len(cluster.offers()) == 1

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            (lambda a: task("x/y", a), "slash"),
            (lambda a: task("", a), "empty"),
            (lambda a: task("x", "other"), "agent 'other'"),
            (lambda a: task("x", a, "cpus:5;mem:32"), "more than available"),
            (lambda a: task("x", a, kill_policy=KillPolicy(DurationInfo(-1))), "grace_period"),
            (lambda a: task("x", a, max_completion_time=DurationInfo(-1)), "max_completion_time"),
            (lambda a: task("x", a, command=None), "at least one"),
            (lambda a: task("x", a, command=CommandInfo(value="true"), executor=executor("e")), "not both"),
            (lambda a: task("x", a, ""), "no resources"),
        ],
    )
    def test_an_invalid_task_is_an_error_and_the_others_run(self, cluster, wrong, says):
        launch(cluster, wrong(cluster.aid), task("good", cluster.aid))
        (status,) = cluster.statuses()
        assert status.state is TaskState.TASK_ERROR
        assert status.reason is Reason.REASON_TASK_INVALID
        assert says in status.message
        assert status.uuid is None
        assert [m.task.task_id.value for m in cluster.take(1) if isinstance(m, RunTask)] == ["good"]

    def test_an_id_in_use_is_an_error(self, cluster):
        launch(cluster, task("t", cluster.aid, "cpus:1;mem:32"), task("t", cluster.aid))
        (status,) = cluster.statuses()
        assert "duplicate" in status.message

    def test_offers_that_ended_drop_the_tasks(self, cluster):
        launch(cluster)
        launch(cluster, task("t", cluster.aid))
        (status,) = cluster.statuses()
        assert status.state is TaskState.TASK_DROPPED
        assert status.reason is Reason.REASON_INVALID_OFFERS
        assert cluster.take(1) == []

    def test_without_partition_awareness_dropped_is_lost(self):
        c = Conductor()
        fid = c.subscribe()
        c.call(fid, accept(["nonsense"], task("t", "a")))
        assert [s.state for s in c.statuses()] == [TaskState.TASK_LOST]

    def test_one_offer_named_twice_drops_the_tasks_and_frees_the_offer(self, cluster):
        offer_id = cluster.offer.id.value
        cluster.call(cluster.fid, accept([offer_id, offer_id], task("t", cluster.aid)))
        events = cluster.told["s"]
        assert events[0].update.status.state is TaskState.TASK_DROPPED
        assert any(event.offers is not None for event in events)

    def test_an_operation_not_built_yet_is_dropped_and_the_next_goes_on(self, cluster):
        from kernel.wire.ids import OperationID
        from kernel.wire.offer import Launch

        operations = (
            Operation(OperationType.RESERVE, OperationID("op"), reserve=Reserve()),
            Operation(OperationType.LAUNCH, launch=Launch((task("t", cluster.aid),))),
        )
        cluster.call(cluster.fid, scheduler.Accept((cluster.offer.id,), operations))
        (event,) = [event for event in cluster.take("s") if event.update_operation_status]
        assert event.update_operation_status.status.state.value == "OPERATION_ERROR"
        assert [m.task.task_id.value for m in cluster.take(1) if isinstance(m, RunTask)] == ["t"]


class TestExecutors:
    def test_the_executor_starts_once_and_is_charged_once(self, cluster):
        runs = executor("e")
        launch(cluster, task("t1", cluster.aid, executor=runs), task("t2", cluster.aid, executor=runs), refuse_s=0)
        first, second = [m for m in cluster.take(1) if isinstance(m, RunTask)]
        assert (first.launch_executor, second.launch_executor) == (True, False)
        assert cluster.core.state.agents[cluster.aid].used.cpus == 2100

    def test_a_different_executor_of_the_same_id_is_an_error(self, cluster):
        launch(
            cluster,
            task("t1", cluster.aid, executor=executor("e")),
            task("t2", cluster.aid, executor=executor("e", command=CommandInfo(value="other"))),
        )
        (status,) = cluster.statuses()
        assert "not compatible" in status.message

    def test_an_executor_is_the_same_in_whatever_order_it_is_told(self, cluster):
        def told(*order):
            variables = tuple(Variable(name, value="x") for name in order)
            command = CommandInfo(value="run", uris=tuple(URI(name) for name in order), environment=Environment(variables))
            labels = Labels(tuple(Label(name) for name in order))
            amounts = tuple(amount for name in order for amount in resources(f"{name}:1"))
            return replace(executor("e", command=command, labels=labels), resources=amounts)

        launch(
            cluster,
            task("t1", cluster.aid, executor=told("cpus", "mem")),
            task("t2", cluster.aid, executor=told("mem", "cpus")),
        )
        assert cluster.statuses() == []
        assert [run.launch_executor for run in cluster.take(1) if isinstance(run, RunTask)] == [True, False]

    def test_a_group_is_launched_whole(self, cluster):
        group = executor("e", type=ExecutorType.DEFAULT, command=None, framework_id=framework_id(cluster.fid))
        cluster.call(cluster.fid, accept_group([cluster.offer.id.value], group, task("t1", cluster.aid), task("t2", cluster.aid)))
        (run,) = [m for m in cluster.take(1) if isinstance(m, RunTaskGroup)]
        assert [t.task_id.value for t in run.tasks] == ["t1", "t2"]
        assert run.launch_executor

    def test_one_bad_task_refuses_its_whole_group(self, cluster):
        group = executor("e", type=ExecutorType.DEFAULT, command=None, framework_id=framework_id(cluster.fid))
        bad = task("t2", cluster.aid, "cpus:9;mem:32")
        cluster.call(cluster.fid, accept_group([cluster.offer.id.value], group, task("t1", cluster.aid), bad))
        assert [(s.task_id.value, s.reason) for s in cluster.statuses()] == [
            ("t1", Reason.REASON_TASK_GROUP_INVALID),
            ("t2", Reason.REASON_TASK_GROUP_INVALID),
        ]
        assert cluster.take(1) == []


class TestUpdates:
    def test_an_update_reaches_the_scheduler_and_its_acknowledgement_the_agent(self, cluster):
        launch(cluster, task("t", cluster.aid))
        uuid = cluster.update(1, cluster.fid, "t", RUNNING)
        assert [s.state for s in cluster.statuses()] == [RUNNING]
        cluster.take(1)
        cluster.call(cluster.fid, scheduler.Acknowledge(AgentID(cluster.aid), TaskID("t"), uuid))
        assert cluster.take(1) == [AcknowledgeUpdate(cluster.fid, "t", uuid)]

    def test_an_acknowledged_end_completes_the_task(self, cluster):
        launch(cluster, task("t", cluster.aid))
        uuid = cluster.update(1, cluster.fid, "t", FINISHED)
        framework = cluster.core.state.frameworks[cluster.fid]
        assert "t" in framework.tasks
        assert framework.used.by_role == {}
        cluster.call(cluster.fid, scheduler.Acknowledge(AgentID(cluster.aid), TaskID("t"), uuid))
        assert "t" not in framework.tasks
        assert [t.task_id for t in framework.completed] == ["t"]

    def test_the_latest_state_frees_resources_before_its_update_comes(self, cluster):
        launch(cluster, task("t", cluster.aid), refuse_s=0)
        cluster.take("s")
        cluster.update(1, cluster.fid, "t", RUNNING, latest=FINISHED)
        assert cluster.core.state.agents[cluster.aid].used.cpus == 0

    def test_a_state_after_the_end_changes_nothing(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.update(1, cluster.fid, "t", FINISHED)
        cluster.update(1, cluster.fid, "t", RUNNING)
        assert cluster.core.state.frameworks[cluster.fid].tasks["t"].state is FINISHED

    def test_updates_of_a_disconnected_framework_wait_at_the_agent(self):
        c = Conductor()
        c.fid = c.subscribe(info=framework_info("f", failover_timeout=60.0))
        c.aid = c.agent()
        (c.offer,) = c.offers()
        launch(c, task("t", c.aid))
        c.give(e.StreamClosed("s"))
        c.update(1, c.fid, "t", RUNNING)
        assert c.statuses() == []
        assert c.core.state.frameworks[c.fid].tasks["t"].sent is None

    def test_a_uuid_of_another_length_is_refused(self, cluster):
        with pytest.raises(CallError, match="16 bytes"):
            cluster.call(cluster.fid, scheduler.Acknowledge(AgentID(cluster.aid), TaskID("t"), b"short"))

    def test_an_acknowledgement_of_nothing_sent_is_dropped(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.take(1)
        cluster.call(cluster.fid, scheduler.Acknowledge(AgentID(cluster.aid), TaskID("t"), b"x" * 16))
        assert cluster.take(1) == []


class TestKill:
    def test_a_kill_is_forwarded_each_time(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.take(1)
        policy = KillPolicy(DurationInfo(5))
        cluster.call(cluster.fid, scheduler.Kill(TaskID("t"), kill_policy=policy))
        cluster.call(cluster.fid, scheduler.Kill(TaskID("t")))
        assert cluster.take(1) == [KillTask(cluster.fid, "t", policy), KillTask(cluster.fid, "t", None)]

    def test_a_kill_naming_another_agent_is_ignored(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.take(1)
        cluster.call(cluster.fid, scheduler.Kill(TaskID("t"), AgentID("other")))
        assert cluster.take(1) == []

    def test_a_kill_of_an_unknown_task_reconciles_it(self, cluster):
        cluster.call(cluster.fid, scheduler.Kill(TaskID("t")))
        assert [s.state for s in cluster.statuses()] == [TaskState.TASK_UNKNOWN]

    def test_a_shutdown_reaches_executors_also_those_of_command_tasks(self, cluster):
        launch(cluster, task("t", cluster.aid), task("u", cluster.aid, executor=executor("e")))
        cluster.take(1)
        for name in ("t", "e", "u", "x"):
            cluster.call(cluster.fid, scheduler.Shutdown(ExecutorID(name), AgentID(cluster.aid)))
        assert cluster.take(1) == [ShutdownExecutor(cluster.fid, "t"), ShutdownExecutor(cluster.fid, "e")]

    def test_an_operator_may_kill_and_is_told_of_unknown_ids(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.take(1)
        cluster.give(e.KillTaskByOperator(cluster.fid, "t"))
        assert cluster.take(1) == [KillTask(cluster.fid, "t", None)]
        with pytest.raises(NotFound, match="task_id"):
            cluster.give(e.KillTaskByOperator(cluster.fid, "other"))


class TestReconcile:
    def test_implicit_tells_every_live_task(self, cluster):
        launch(cluster, task("t1", cluster.aid), task("t2", cluster.aid))
        cluster.update(1, cluster.fid, "t1", RUNNING)
        cluster.take("s")
        cluster.call(cluster.fid, scheduler.Reconcile())
        statuses = cluster.statuses()
        assert [(s.task_id.value, s.state) for s in statuses] == [("t1", RUNNING), ("t2", TaskState.TASK_STAGING)]
        assert all(s.uuid is None and s.reason is Reason.REASON_RECONCILIATION for s in statuses)

    def test_explicit_tells_the_state_last_sent_not_the_latest(self, cluster):
        launch(cluster, task("t", cluster.aid))
        cluster.update(1, cluster.fid, "t", RUNNING, latest=FINISHED)
        cluster.take("s")
        cluster.call(cluster.fid, scheduler.Reconcile((scheduler.ReconcileTask(TaskID("t")),)))
        assert [s.state for s in cluster.statuses()] == [RUNNING]

    @pytest.mark.parametrize(("agent", "state"), [(None, "TASK_UNKNOWN"), ("mine", "TASK_GONE"), ("nobody", "TASK_UNKNOWN")])
    def test_an_unknown_task_is_answered_by_what_is_known_of_its_agent(self, cluster, agent, state):
        agent_id = AgentID(cluster.aid if agent == "mine" else agent) if agent else None
        cluster.call(cluster.fid, scheduler.Reconcile((scheduler.ReconcileTask(TaskID("t"), agent_id),)))
        assert [s.state.value for s in cluster.statuses()] == [state]

    def test_no_answer_while_a_recovered_agent_may_bring_the_task(self, cluster):
        again = Conductor(cluster.stored, "M2")
        fid = again.subscribe(info=framework_info("f", FrameworkCapability.PARTITION_AWARE, id=framework_id(cluster.fid)))
        again.take("s")
        again.call(fid, scheduler.Reconcile((scheduler.ReconcileTask(TaskID("t"), AgentID(cluster.aid)),)))
        assert again.statuses() == []


class TestDecline:
    def test_a_declined_agent_is_offered_again_after_its_filter(self, cluster):
        cluster.call(cluster.fid, scheduler.Decline((cluster.offer.id,), Filters(10.0)))
        cluster.wait(9)
        assert cluster.offers() == []
        cluster.wait(2)
        assert len(cluster.offers()) == 1

    def test_a_late_decline_is_ignored(self, cluster):
        cluster.call(cluster.fid, scheduler.Decline((OfferID("ended"),)))
        assert cluster.take("s") == []

    def test_revive_clears_the_filter(self, cluster):
        cluster.call(cluster.fid, scheduler.Decline((cluster.offer.id,), Filters(1000.0)))
        cluster.call(cluster.fid, scheduler.Revive())
        assert len(cluster.offers()) == 1

    def test_suppress_stops_offers_until_revive(self, cluster):
        cluster.call(cluster.fid, scheduler.Suppress())
        cluster.call(cluster.fid, scheduler.Decline((cluster.offer.id,), Filters(0.0)))
        cluster.wait(60)
        assert cluster.offers() == []
        cluster.call(cluster.fid, scheduler.Revive())
        assert len(cluster.offers()) == 1
