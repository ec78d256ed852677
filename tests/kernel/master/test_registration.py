"""What agents say of themselves, true or not (spec: mesos-v1, section 8.1)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.master import effects as e
from kernel.master.registry import FrameworkRecord, keep_framework
from kernel.wire import scheduler
from kernel.wire.agent import (
    AcknowledgeUpdate,
    ExecutorReport,
    FrameworkUpdated,
    KillTask,
    Register,
    Registered,
    ShutdownAgent,
    ShutdownFramework,
    StatusUpdate,
    TaskReport,
)
from kernel.wire.attributes import parse_attributes
from kernel.wire.common import DomainInfo, FaultDomain, RegionInfo, ZoneInfo
from kernel.wire.framework import FrameworkCapability, FrameworkInfo
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.resources import AllocationInfo, Resource, Resources, Scalar, ValueType
from kernel.wire.task import Attribute, Reason, TaskState, TaskStatus
from kernel.wire.values import Text
from tests.builders import accept, executor, framework_id, framework_info, register, resources, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

RUNNING, FINISHED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED
AWARE = framework_info("f", FrameworkCapability.PARTITION_AWARE, failover_timeout=3600.0)
PORTS = "cpus:4;mem:4096;ports:[1-9]"


@pytest.fixture
def c() -> Conductor:
    """An agent "M-S0" (link 1) running task "t" of framework "M-0000" on stream "s"."""
    c = Conductor()
    fid = c.subscribe(info=AWARE)
    aid = c.agent(1, register("1", PORTS))
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("t", aid)))
    c.update(1, fid, "t", RUNNING)
    c.take("s"), c.take(1)
    return c


def info_of(fid: str = "M-0000", info: FrameworkInfo = AWARE) -> FrameworkInfo:
    return replace(info, id=framework_id(fid))


def report(
    name: str = "t", state: TaskState = RUNNING, agent: str = "M-S0", text: str = "cpus:1;mem:32", fid: str = "M-0000", **f: Any
) -> TaskReport:
    return TaskReport(fid, task(name, agent, text), state, **f)


def again(**fields: Any) -> Register:
    """The agent's registration when it comes back with its task running."""
    return register("1", PORTS, **{"agent_id": "M-S0", "tasks": (report(),), "frameworks": (info_of(),), **fields})


BAD_ALLOCATION = tuple(replace(resource, allocation_info=AllocationInfo("a b")) for resource in resources("cpus:1"))


HERE = DomainInfo(FaultDomain(RegionInfo("here"), ZoneInfo("z")))


class TestDomains:
    def test_an_agent_with_a_domain_needs_a_master_with_one(self) -> None:
        nowhere, somewhere = Conductor(), Conductor(domain=HERE)
        nowhere.give(e.FromAgent(1, register("1", PORTS, domain=HERE)))
        assert nowhere.closed == [1]
        somewhere.give(e.FromAgent(1, register("1", PORTS, domain=HERE)))
        assert somewhere.closed == []

    def test_agents_without_one_can_be_refused(self) -> None:
        c = Conductor(domain=HERE, require_agent_domain=True)
        c.give(e.FromAgent(1, register("1", PORTS)))
        assert c.closed == [1]

    def test_an_agent_of_another_region_is_offered_to_those_who_know_of_regions(self) -> None:
        c = Conductor(domain=HERE)
        c.subscribe(info=AWARE)
        c.agent(1, register("1", PORTS, domain=DomainInfo(FaultDomain(RegionInfo("there"), ZoneInfo("z")))))
        assert c.offers() == []
        c.subscribe("s2", info=framework_info("g", FrameworkCapability.REGION_AWARE))
        assert len(c.offers("s2")) == 1


class TestWrongReports:
    @pytest.mark.parametrize(
        "message",
        [
            again(version=2),
            again(agent_id="x/y", tasks=()),
            again(resources=(Resource("cpus", ValueType.SCALAR, Scalar(-1.0)),)),
            again(attributes=(Attribute("a", ValueType.TEXT),)),
            again(attributes=(Attribute("a", ValueType.SET),)),
            again(frameworks=(info_of("x/y"),)),
            again(frameworks=(AWARE,)),
            again(frameworks=(info_of(), info_of())),
            again(frameworks=(info_of("new", framework_info("f", role="a b")),)),
            again(tasks=(report(fid="never heard of"),)),
            again(tasks=(report("x/y"),)),
            again(tasks=(report(), report())),
            again(tasks=(report(agent="M-S9"),)),
            again(tasks=(report(state=TaskState.TASK_UNKNOWN),)),
            again(tasks=(report(state=TaskState.TASK_UNREACHABLE),)),
            again(tasks=(report(status=TaskStatus(TaskID("other"), RUNNING)),)),
            again(tasks=(report(status=TaskStatus(TaskID("t"), TaskState.TASK_UNKNOWN)),)),
            again(tasks=(replace(report("new"), task=replace(task("new", "M-S0"), resources=BAD_ALLOCATION)),)),
            again(tasks=(replace(report("new"), task=replace(task("new", "M-S0"), resources=resources("cpus:1") * 2 + BAD_ALLOCATION)),)),
            again(executors=(ExecutorReport("M-0000", executor("")),)),
            again(executors=(ExecutorReport("M-0000", executor("e")),) * 2),
            again(executors=(ExecutorReport("never heard of", executor("e")),)),
            register("new", tasks=(report(agent=""),), frameworks=(info_of(),)),
        ],
    )
    def test_end_the_link_and_change_nothing(self, c: Conductor, message: Register) -> None:
        c.later(6)  # Its unused rest is offered again.
        before = (c.stored.copy(), c.core.state.agents["M-S0"].used, dict(c.core.state.offers), list(c.core.state.frameworks))
        c.take("s"), c.take(1)
        c.give(e.FromAgent(2, message))
        assert c.closed == [2]
        assert c.take(1) == c.take(2) == c.take("s") == []
        state = c.core.state
        assert (c.stored, state.agents["M-S0"].used, state.offers, list(state.frameworks)) == before
        assert state.agents["M-S0"].link == 1

    def test_an_attribute_with_a_value_is_fine(self, c: Conductor) -> None:
        c.give(e.FromAgent(2, again(attributes=(Attribute("a", ValueType.TEXT, text=Text("x")),))))
        assert 2 not in c.closed

    def test_a_link_belongs_to_one_agent(self, c: Conductor) -> None:
        c.give(e.FromAgent(1, register("other", PORTS)))
        assert c.closed == [1]
        assert len(c.core.state.agents) == 1

    @pytest.mark.parametrize(("agent_id", "uuid"), [("M-S0", b"x" * 16), ("M-S1", b""), ("M-S1", None)])
    def test_an_update_of_another_agent_or_without_a_uuid_ends_the_link(self, c: Conductor, agent_id: str, uuid: bytes | None) -> None:
        c.agent(2, register("2"))
        c.take("s")
        c.give(e.FromAgent(2, StatusUpdate("M-0000", TaskStatus(TaskID("t"), FINISHED, agent_id=AgentID(agent_id), uuid=uuid), FINISHED)))
        assert c.closed == [2]
        assert c.statuses() == []

    @pytest.mark.parametrize(
        ("state", "fields"), [(TaskState.TASK_UNKNOWN, {}), (TaskState.TASK_UNREACHABLE, {}), (RUNNING, {"latest": TaskState.TASK_UNKNOWN})]
    )
    def test_so_does_one_with_a_state_no_agent_knows_of(self, c: Conductor, state: TaskState, fields: dict[str, TaskState]) -> None:
        c.update(1, "M-0000", "t", state, **fields)
        assert c.closed == [1]
        assert c.statuses() == []


class TestFrameworks:
    def test_one_torn_down_is_shut_down_where_its_agent_registered_anew(self, c: Conductor) -> None:
        """Its tasks are known there from before the new link, on which nothing was launched."""
        c.give(e.FromAgent(2, again()))
        c.take(2)
        c.call("M-0000", scheduler.Teardown())
        assert c.take(2) == [ShutdownFramework("M-0000")]

    def test_a_change_reaches_such_an_agent_too(self, c: Conductor) -> None:
        c.give(e.FromAgent(2, again()))
        c.take(2)
        changed = info_of(info=replace(AWARE, webui_url="http://ui"))
        c.call("M-0000", scheduler.UpdateFramework(changed))
        assert c.take(2) == [FrameworkUpdated(changed)]

    def test_an_agent_that_knows_an_older_info_is_told_the_new_one(self, c: Conductor) -> None:
        """UpdateFrameworkInfoOnSchedulerFailover and OnMasterFailover: the new info wins."""
        again_there = Conductor(c.stored, "M2")
        newer = info_of(info=replace(AWARE, name="g"))
        again_there.subscribe(info=newer)
        again_there.give(e.FromAgent(5, again()))
        assert FrameworkUpdated(newer) in again_there.take(5)
        assert again_there.core.state.frameworks["M-0000"].info == newer

    def test_one_the_registry_lost_is_learnt_from_the_agent(self) -> None:
        c = Conductor()
        c.give(e.FromAgent(1, again()))
        assert "t" in c.core.state.frameworks["M-0000"].tasks
        assert "frameworks/M-0000" in c.stored

    def test_of_one_removed_nothing_is_learnt(self) -> None:
        removed = keep_framework("M-0000", FrameworkRecord(info_of(), 1.0, removed_wall_s=2.0))
        assert removed.value is not None
        c = Conductor({removed.key: removed.value})
        c.give(e.FromAgent(1, again()))
        registered, shutdown = c.take(1)
        assert isinstance(registered, Registered)
        assert shutdown == ShutdownFramework("M-0000")
        assert not c.core.state.frameworks
        assert not c.core.state.agents["M-S0"].used

    def test_one_nobody_waits_for_is_ended_at_once(self) -> None:
        c = Conductor(framework_recovery_s=0.0)
        c.give(e.FromAgent(1, again(frameworks=(info_of(info=framework_info("f")),))))
        assert ShutdownFramework("M-0000") in c.take(1)
        assert "M-0000" in c.core.state.completed
        invariants.check(c.core.state)


class TestRoles:
    def test_what_a_role_holds_survives_the_master(self) -> None:
        """Resources carry the role they are allocated to, whether their framework names it or not."""
        info = framework_info("f", FrameworkCapability.MULTI_ROLE, roles=("a", "b"), failover_timeout=60.0)
        c = Conductor()
        fid = c.subscribe(info=info)
        c.call(fid, scheduler.Suppress(("a",)))
        aid = c.agent()
        (offer,) = c.offers()
        assert offer.allocation_info is not None
        assert offer.allocation_info.role == "b"
        c.call(fid, accept([offer.id.value], task("t", aid, executor=executor("e"))))
        run = c.take(1)[-1]
        assert {r.allocation_info.role for r in run.task.resources + run.task.executor.resources} == {"b"}
        later = Conductor(c.stored, "M2")
        tasks, executors = (TaskReport(fid, run.task, RUNNING, "e"),), (ExecutorReport(fid, run.task.executor),)
        later.give(e.FromAgent(1, register("1", agent_id=aid, tasks=tasks, executors=executors, frameworks=(info_of(fid, info),))))
        assert later.core.state.frameworks[fid].tasks["t"].role == "b"
        invariants.check(later.core.state)


class TestResources:
    def test_one_port_told_twice_is_held_once(self) -> None:
        """A master that is new cannot know who of them is right; it must neither fail nor give the port away."""
        c = Conductor()
        tasks = (report("t1", text="cpus:1;ports:[1-5]"), report("t2", text="cpus:1;ports:[4-6]"))
        c.give(e.FromAgent(1, again(tasks=tasks, executors=(ExecutorReport("M-0000", executor("e", "ports:[6-7]")),))))
        agent = c.core.state.agents["M-S0"]
        assert str(agent.used) == "cpus:2; ports:[1-7]"
        invariants.check(c.core.state)
        c.update(1, "M-0000", "t2", FINISHED)
        assert str(agent.used) == "cpus:1; ports:[1-7]"
        c.update(1, "M-0000", "t1", FINISHED)
        invariants.check(c.core.state)

    def test_an_agent_may_come_back_smaller_than_what_it_runs(self, c: Conductor) -> None:
        c.give(e.LinkClosed(1))
        c.give(e.FromAgent(2, again(resources=resources("cpus:0.5;mem:4096"))))
        agent = c.core.state.agents["M-S0"]
        assert (agent.total.cpus, agent.used.cpus) == (500, 1000)
        invariants.check(c.core.state)
        assert all(r.name != "cpus" for offer in c.offers() for r in offer.resources)

    def test_what_an_agent_has_gained_is_offered_and_its_tasks_stay(self, c: Conductor) -> None:
        more = {"resources": resources("cpus:8;mem:4096;ports:[1-9]"), "attributes": parse_attributes("rack:a")}
        c.give(e.LinkClosed(1))
        c.take("s")
        c.give(e.FromAgent(2, again(**more)))
        c.later(6)
        (offer,) = c.offers()
        agent = c.core.state.agents["M-S0"]
        assert [attribute.name for attribute in offer.attributes] == ["rack"]
        assert Resources.of(offer.resources).cpus == 8000 - agent.used.cpus
        assert (agent.total.cpus, list(agent.tasks)) == (8000, [("M-0000", "t")])
        invariants.check(c.core.state)

    def test_offers_of_what_it_no_longer_has_are_taken_back(self, c: Conductor) -> None:
        c.later(6)
        (offer,) = c.offers()
        c.give(e.FromAgent(1, again(resources=resources("cpus:2;mem:1024"))))
        events = c.take("s")
        assert [event.rescind.offer_id for event in events if event.rescind] == [offer.id]
        invariants.check(c.core.state)

    def test_a_task_learnt_on_the_same_link_takes_precedence_over_offers(self, c: Conductor) -> None:
        c.later(6)
        assert len(c.offers()) == 1
        c.give(e.FromAgent(1, again(tasks=(report(), report("new", text="cpus:3;mem:4000")))))
        invariants.check(c.core.state)
        assert c.core.state.agents["M-S0"].used.cpus == 4000


class TestCopies:
    """Two agents with a task of one id: the framework gave it away again while the first agent was away."""

    @pytest.fixture
    def twice(self, c: Conductor) -> Conductor:
        """Task "t" runs on M-S1, too, as the master knew nothing of M-S0's any more."""
        later = Conductor({key: value for key, value in c.stored.items() if key.startswith("frameworks/")}, "M2")
        fid = later.subscribe(info=info_of())
        aid = later.agent(2, register("2"))
        (offer,) = later.offers()
        later.call(fid, accept([offer.id.value], task("t", aid)))
        later.take("s"), later.take(2)
        return later

    def test_the_older_one_is_ended(self, twice: Conductor) -> None:
        twice.give(e.FromAgent(1, again()))
        assert KillTask("M-0000", "t") in twice.take(1)
        assert twice.statuses() == []
        assert twice.core.state.frameworks["M-0000"].tasks["t"].agent_id == "M2-S0"
        invariants.check(twice.core.state)

    def test_its_updates_are_acknowledged_by_the_framework(self, twice: Conductor) -> None:
        twice.give(e.FromAgent(1, again()))
        twice.take(1)
        uuid = twice.update(1, "M-0000", "t", TaskState.TASK_KILLED)
        (status,) = twice.statuses()
        assert status.agent_id == AgentID("M-S0")
        twice.call("M-0000", scheduler.Acknowledge(AgentID("M-S0"), TaskID("t"), uuid))
        assert twice.take(1) == [AcknowledgeUpdate("M-0000", "t", uuid)]
        assert not twice.core.state.frameworks["M-0000"].tasks["t"].terminal

    def test_one_that_ended_is_let_be(self, twice: Conductor) -> None:
        twice.give(e.FromAgent(1, again(tasks=(report(state=FINISHED),))))
        assert not any(isinstance(told, KillTask) for told in twice.take(1))

    def test_one_still_counted_as_unreachable_is_so_no_more(self, c: Conductor) -> None:
        """Another agent tells of it first: what comes back later is the copy."""
        c.later(9.5)
        c.give(e.FromAgent(2, again(agent_id="M-S7", run="other", port=7, tasks=(report(agent="M-S7"),))))
        framework = c.core.state.frameworks["M-0000"]
        assert framework.tasks["t"].agent_id == "M-S7"
        c.take("s")
        c.give(e.FromAgent(3, again()))
        assert KillTask("M-0000", "t") in c.take(3)
        assert not framework.unreachable
        assert c.statuses() == []  # It is not told gone: it runs elsewhere.
        invariants.check(c.core.state)


class TestIdentity:
    def test_who_has_the_id_of_a_linked_agent_elsewhere_is_sent_away(self, c: Conductor) -> None:
        """A copied disk: the original stays."""
        c.give(e.FromAgent(2, again(run="copy", ip="10.0.0.9", tasks=())))
        assert isinstance(c.take(2)[0], ShutdownAgent)
        assert c.closed == [2]
        assert c.core.state.agents["M-S0"].link == 1

    @pytest.mark.parametrize("fields", [{"run": "run-1"}, {"ip": "10.0.0.1"}])
    def test_one_that_moved_or_restarted_is_not(self, c: Conductor, fields: dict[str, str]) -> None:
        c.give(e.FromAgent(2, again(**{"ip": "10.0.0.9", "run": "restarted", "hostname": "host-1", **fields})))
        assert c.closed == [1]
        assert c.core.state.agents["M-S0"].link == 2

    def test_one_whose_link_broke_may_come_from_elsewhere(self, c: Conductor) -> None:
        c.give(e.LinkClosed(1))
        c.give(e.FromAgent(2, again(run="restarted", ip="10.0.0.9")))
        assert c.core.state.agents["M-S0"].ip == "10.0.0.9"

    def test_one_the_registry_forgot_is_readmitted_and_its_tasks_are_told(self, c: Conductor) -> None:
        later = Conductor({key: value for key, value in c.stored.items() if key.startswith("frameworks/")}, "M2")
        later.subscribe(info=info_of())
        later.give(e.FromAgent(1, again()))
        (status,) = later.statuses()
        assert (status.state, status.reason, status.uuid) == (RUNNING, Reason.REASON_AGENT_REREGISTERED, None)

    def test_what_is_told_of_a_task_that_is_back_has_its_health(self, c: Conductor) -> None:
        c.later(9.5)
        c.take("s")
        c.give(e.FromAgent(2, again(tasks=(report(status=TaskStatus(TaskID("t"), RUNNING, healthy=False, uuid=b"x" * 16)),))))
        assert [status.healthy for status in c.statuses()] == [False]

    def test_an_id_somebody_has_already_is_given_to_nobody_else(self) -> None:
        c = Conductor()
        assert c.agent(1, register("1", agent_id="M-S0")) == "M-S0"
        c.agent(2, register("2", agent_id="M-S1"))
        c.give(e.MarkAgentGone("M-S1"))
        assert c.agent(3, register("3")) == "M-S2"

    def test_runs_of_an_agent_do_not_pile_up(self, c: Conductor) -> None:
        for number in range(5):
            c.give(e.FromAgent(10 + number, again(run=f"run-{number}")))
        assert list(c.core.state.runs.values()) == ["M-S0"]
