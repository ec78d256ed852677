"""Agents that are drained and deactivated: the master's part (spec: mesos-v1, sections 4.1 and 7.7; catalogue 13.7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.mainloop import Reply
from kernel.master import effects as e
from kernel.master import views
from kernel.wire.agent import DrainAgent, Goodbye, Registered, ShutdownAgent, TaskReport
from kernel.wire.common import DurationInfo, Label, Labels
from kernel.wire.framework import ENDS_WITH_TASKS, FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.nodes import AGENT_CAPABILITIES, AgentCapability, DrainConfig
from kernel.wire.scheduler import Acknowledge
from kernel.wire.task import TaskState
from tests.builders import accept, at, framework_id, framework_info, register, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor

FID, AID = "M-0000", "M-S0"
INFO = framework_info("f", FrameworkCapability.PARTITION_AWARE, failover_timeout=3600.0)
RUNNING, KILLED = TaskState.TASK_RUNNING, TaskState.TASK_KILLED


def idle() -> Conductor:
    """Agent M-S0 on link 1, offered to framework M-0000."""
    c = Conductor()
    c.subscribe(info=INFO)
    c.agent()
    return c


def busy() -> Conductor:
    """The same, with task "t" running."""
    c = idle()
    (offer,) = c.offers()
    c.call(FID, accept([offer.id.value], task("t", AID)))
    acknowledge(c, c.update(1, FID, "t", RUNNING))
    c.told.clear()
    return c


def acknowledge(c: Conductor, uuid: bytes, task_id: str = "t") -> None:
    c.call(FID, Acknowledge(AgentID(AID), TaskID(task_id), uuid))


def reply(c: Conductor, message: Any) -> Any:
    effects = c.core.receive(message, at(c.time_s))
    c._perform(effects)
    return next(effect.body for effect in effects if isinstance(effect, Reply))


def shown(c: Conductor, agent_id: str = AID) -> dict[str, Any]:
    """The agent as GET_AGENTS has it."""
    agents = json.loads(b"".join(views.render(c.core.state, "get_agents")))["get_agents"]["agents"]
    return next(agent for agent in agents if agent["agent_info"]["id"]["value"] == agent_id)


def drained(c: Conductor) -> str | None:
    return shown(c).get("drain_info", {}).get("state")


def back(c: Conductor, link: int = 2, *tasks: TaskReport) -> Registered:
    """The agent registers again, on another link; return what it is told."""
    frameworks = (replace(INFO, id=framework_id(FID)),) if tasks else ()
    c.agent(link, register("1", agent_id=AID, run="again", frameworks=frameworks, tasks=tasks))
    return next(told for told in c.told[link] if isinstance(told, Registered))


def failed_over(c: Conductor) -> Conductor:
    """The next master, with what this one has written."""
    n = Conductor(c.stored, "N")
    n.subscribe(info=replace(INFO, id=framework_id(FID)))
    return n


# ---- Draining -------------------------------------------------------------------------------------------


def test_an_idle_agent_is_drained_at_once() -> None:
    c = idle()
    c.give(e.DrainAgent(AID))
    assert [event.type for event in c.take("s")][-1] == "RESCIND"
    agent = shown(c)
    assert agent["drain_info"] == {"state": "DRAINED", "config": {"mark_gone": False}}
    assert (agent["active"], agent["deactivated"]) == (False, True)
    assert agent["estimated_drain_start_time"] == {"nanoseconds": int(at(0).wall_s) * 10**9}
    c.wait(60)
    assert c.offers() == []
    invariants.check(c.core.state)


def test_an_agent_with_tasks_drains_until_all_ends_are_acknowledged() -> None:
    c = busy()
    c.give(e.DrainAgent(AID, 5 * 10**9))
    config = DrainConfig(DurationInfo(5 * 10**9))
    assert c.take(1) == [DrainAgent(config)]
    assert drained(c) == "DRAINING"
    uuid = c.update(1, FID, "t", KILLED)
    assert drained(c) == "DRAINING"
    acknowledge(c, uuid)
    assert drained(c) == "DRAINED"
    assert c.take(1)[-1] == DrainAgent(None)
    c.wait(60)
    assert c.offers() == []
    invariants.check(c.core.state)


def test_it_is_written_before_anybody_is_told() -> None:
    c = busy()
    effects = c.core.receive(e.DrainAgent(AID), at(1))
    assert any(getattr(effect, "key", None) == f"deactivated/{AID}" for effect in effects)


def test_the_older_endpoint_shows_it_too() -> None:
    c = busy()
    c.give(e.DrainAgent(AID, 10**9, mark_gone=True))
    (agent,) = json.loads(b"".join(views.render(c.core.state, "slaves")))["slaves"]
    assert agent["drain_info"] == {"state": "DRAINING", "config": {"max_grace_period": {"nanoseconds": 10**9}, "mark_gone": True}}
    assert (agent["active"], agent["deactivated"]) == (False, True)
    assert agent["estimated_drain_start_time_seconds"] == at(0).wall_s
    state = json.loads(b"".join(views.render(c.core.state, "state")))
    assert (state["activated_slaves"], state["deactivated_slaves"]) == (0, 1)


def test_it_is_counted() -> None:
    c = busy()
    c.give(e.DrainAgent(AID))
    numbers = next(iter(views.render(c.core.state, "metrics")))
    assert [numbers[f"master/slaves_{name}"] for name in ("active", "connected", "inactive", "deactivated", "draining", "drained")] == [
        0, 1, 1, 1, 1, 0,
    ]  # fmt: skip


def test_marked_gone_when_nothing_is_left() -> None:
    c = busy()
    c.give(e.DrainAgent(AID, mark_gone=True))
    assert c.take(1) == [DrainAgent(DrainConfig(mark_gone=True))]
    acknowledge(c, c.update(1, FID, "t", TaskState.TASK_GONE_BY_OPERATOR))
    assert AID in c.core.state.gone
    assert isinstance(c.take(1)[-1], ShutdownAgent)
    assert f"deactivated/{AID}" not in c.stored
    assert AID in failed_over(c).core.state.gone
    invariants.check(c.core.state)


def test_an_idle_agent_is_marked_gone_at_once() -> None:
    c = idle()
    c.give(e.DrainAgent(AID, mark_gone=True))
    assert AID in c.core.state.gone


def test_the_terms_can_be_changed_while_it_drains() -> None:
    c = busy()
    c.give(e.DrainAgent(AID, 60 * 10**9))
    c.give(e.DrainAgent(AID, 10**9, mark_gone=True))
    assert c.take(1)[-1] == DrainAgent(DrainConfig(DurationInfo(10**9), True))
    assert shown(c)["drain_info"]["config"] == {"max_grace_period": {"nanoseconds": 10**9}, "mark_gone": True}


def test_the_end_of_its_framework_ends_the_drain() -> None:
    c = busy()
    c.give(e.DrainAgent(AID))
    c.give(e.TeardownFramework(FID))
    assert drained(c) == "DRAINED"


def test_ends_that_nobody_will_acknowledge_do_not_hold_it_up() -> None:
    """Of a framework that is away and ends with its tasks, of which others run elsewhere."""
    c = Conductor()
    c.subscribe(info=framework_info("f", failover_timeout=1e6, labels=Labels((Label(ENDS_WITH_TASKS),))))
    c.agent()
    c.agent(2, register("2"))
    for offer in c.offers():
        c.call(FID, accept([offer.id.value], task(f"on {offer.agent_id.value}", offer.agent_id.value)))
    c.give(e.DrainAgent(AID))
    c.update(1, FID, f"on {AID}", KILLED)
    assert drained(c) == "DRAINING", "it is not away"
    c.give(e.StreamClosed("s"))
    c.wait(10)
    assert drained(c) == "DRAINED"
    assert list(c.core.state.frameworks) == [FID]
    invariants.check(c.core.state)


def test_one_that_is_away_drains_when_it_is_back() -> None:
    """Disconnected, unreachable or not back after a failover."""
    for lost in ("disconnected", "unreachable", "recovered"):
        c = busy()
        report = TaskReport(FID, task("t", AID), RUNNING, "", c.core.state.agents[AID].tasks[FID, "t"].statuses[-1])
        c.give(e.LinkClosed(1))
        if lost == "unreachable":
            c.later(30)
            assert AID in c.core.state.unreachable
        if lost == "recovered":
            c = failed_over(c)
        c.give(e.DrainAgent(AID, 10**9))
        assert c.core.state.deactivated[AID].draining, lost
        assert back(c, 2, report).drain == DrainConfig(DurationInfo(10**9))
        c.told.clear()
        uuid = c.update(2, FID, "t", KILLED)
        assert drained(c) == "DRAINING"
        acknowledge(c, uuid)
        assert drained(c) == "DRAINED", lost
        invariants.check(c.core.state)


def test_one_that_comes_back_empty_is_drained() -> None:
    c = idle()
    c.give(e.LinkClosed(1))
    c.later(30)
    c.give(e.DrainAgent(AID))
    assert c.core.state.deactivated[AID].draining  # Who knows what runs there.
    assert back(c).drain == DrainConfig()
    assert drained(c) == "DRAINED"


def test_a_drain_survives_a_change_of_masters() -> None:
    c = busy()
    c.give(e.DrainAgent(AID, 10**9))
    report = TaskReport(FID, task("t", AID), RUNNING, "", c.core.state.agents[AID].tasks[FID, "t"].statuses[-1])
    n = failed_over(c)
    assert back(n, 2, report).drain == DrainConfig(DurationInfo(10**9))
    assert drained(n) == "DRAINING"
    acknowledge(n, n.update(2, FID, "t", KILLED))
    assert drained(n) == "DRAINED"
    last = failed_over(n)
    assert back(last, 3).drain is None
    assert drained(last) == "DRAINED"
    last.wait(10)
    assert last.offers() == []


def test_a_goodbye_for_good_ends_the_drain() -> None:
    c = busy()
    c.give(e.DrainAgent(AID))
    c.give(e.FromAgent(1, Goodbye(True)))
    assert c.core.state.deactivated == {}
    assert f"deactivated/{AID}" not in c.stored


# ---- Deactivation ---------------------------------------------------------------------------------------


def test_a_deactivated_agent_keeps_its_tasks_and_is_not_offered() -> None:
    c = busy()
    c.give(e.DeactivateAgent(AID))
    c.wait(60)
    assert c.offers() == []
    assert not any(isinstance(told, DrainAgent) for told in c.take(1))
    agent = shown(c)
    assert (agent["active"], agent["deactivated"]) == (False, True)
    assert not {"drain_info", "estimated_drain_start_time"} & agent.keys()
    assert (FID, "t") in c.core.state.agents[AID].tasks
    n = failed_over(c)
    back(n)
    n.wait(60)
    assert n.offers() == []


def test_a_reactivated_agent_is_offered_again() -> None:
    c = idle()
    c.give(e.DeactivateAgent(AID))
    c.told.clear()
    assert reply(c, e.ReactivateAgent(AID)) is True
    c.wait(1)
    assert len(c.offers()) == 1
    assert f"deactivated/{AID}" not in c.stored
    invariants.check(c.core.state)


def test_a_deactivation_while_it_drains_changes_nothing() -> None:
    c = busy()
    c.give(e.DrainAgent(AID))
    c.give(e.DeactivateAgent(AID))
    assert drained(c) == "DRAINING"


def test_reactivated_only_when_drained() -> None:
    c = busy()
    with pytest.raises(CallError, match=f"agent '{AID}' is not deactivated"):
        c.give(e.ReactivateAgent(AID))
    c.give(e.DrainAgent(AID))
    with pytest.raises(CallError, match=f"agent '{AID}' is still draining"):
        c.give(e.ReactivateAgent(AID))
    acknowledge(c, c.update(1, FID, "t", KILLED))
    assert reply(c, e.ReactivateAgent(AID)) is True
    c.wait(10)
    assert len(c.offers()) == 1


@pytest.mark.parametrize("lost", ["unreachable", "recovered"])
def test_one_that_is_not_there_is_reactivated_and_the_operator_told_so(lost: str) -> None:
    c = idle()
    c.give(e.DeactivateAgent(AID))
    c.give(e.LinkClosed(1))
    if lost == "unreachable":
        c.later(30)
    else:
        c = failed_over(c)
    assert reply(c, e.ReactivateAgent(AID)) is False
    c.told.clear()
    back(c)
    c.wait(1)
    assert len(c.offers()) == 1


# ---- Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [e.DrainAgent, e.DeactivateAgent, e.ReactivateAgent])
def test_an_agent_nobody_knows_is_refused(make: type[Any]) -> None:
    c = idle()
    with pytest.raises(CallError, match="agent_id: no agent 'nobody' is known"):
        c.give(make("nobody"))
    c.give(e.MarkAgentGone(AID))
    with pytest.raises(CallError, match=f"agent_id: no agent '{AID}' is known any more"):
        c.give(make(AID))
    assert c.core.state.deactivated == {}


@pytest.mark.parametrize("grace_ns", [-1, 2**63])
def test_a_grace_out_of_bounds_is_refused(grace_ns: int) -> None:
    c = busy()
    with pytest.raises(CallError, match=r"max_grace_period: .* is not allowed"):
        c.give(e.DrainAgent(AID, grace_ns))
    assert c.core.state.deactivated == {}


def test_an_agent_that_cannot_drain_is_refused_and_can_be_deactivated() -> None:
    c = Conductor()
    able = tuple(capability for capability in AGENT_CAPABILITIES if capability is not AgentCapability.AGENT_DRAINING)
    c.agent(1, register("1", capabilities=able))
    with pytest.raises(CallError, match="of a release that cannot drain"):
        c.give(e.DrainAgent(AID))
    c.give(e.DeactivateAgent(AID))
    assert shown(c)["deactivated"]
