"""What operators who follow the events are told (spec: mesos-v1, 4.3 and 13.7): Subscribe, SubscribeAgentEvents, FrameworksEvent,
MaxEventStreamSubscribers, SubscribersReceiveHealthUpdates."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.master import effects as e
from kernel.wire import scheduler
from kernel.wire.agent import Goodbye
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TaskState
from tests.builders import accept, framework_id, framework_info, task
from tests.kernel.master.conductor import Conductor


@pytest.fixture
def c() -> Conductor:
    """Framework M-0000 on stream "s", agent M-S0 on link 1, and an operator who follows."""
    c = Conductor()
    c.subscribe(info=framework_info("f", failover_timeout=60.0))
    c.agent()
    c.give(e.SubscribeOperator("operator"))
    c.take("operator")
    return c


def events(c: Conductor) -> list[Any]:
    return c.take("operator")


def types(c: Conductor) -> list[str]:
    return [event.type for event in events(c)]


def launch(c: Conductor) -> None:
    (offer,) = c.offers()
    c.call("M-0000", accept([offer.id.value], task("t", "M-S0")))


def test_subscribers_hear_of_a_task_when_it_is_launched_and_whenever_its_state_changes(c: Conductor) -> None:
    launch(c)
    (added,) = events(c)
    assert (added.type, added.task_added.task.task_id.value, added.task_added.task.state) == ("TASK_ADDED", "t", TaskState.TASK_STAGING)
    c.update(1, "M-0000", "t", TaskState.TASK_RUNNING)
    (updated,) = events(c)
    assert (updated.type, updated.task_updated.state) == ("TASK_UPDATED", TaskState.TASK_RUNNING)
    assert updated.task_updated.status.task_id.value == "t"


def test_subscribers_hear_of_health_though_the_state_stays(c: Conductor) -> None:
    launch(c)
    uuid = c.update(1, "M-0000", "t", TaskState.TASK_RUNNING)
    c.call("M-0000", scheduler.Acknowledge(AgentID("M-S0"), TaskID("t"), uuid))
    events(c)
    c.update(1, "M-0000", "t", TaskState.TASK_RUNNING, healthy=False)
    (updated,) = events(c)
    assert (updated.task_updated.state, updated.task_updated.status.healthy) == (TaskState.TASK_RUNNING, False)


def test_subscribers_hear_of_agents_that_come_and_leave(c: Conductor) -> None:
    second = c.agent(2)
    (added,) = [event for event in events(c) if event.type == "AGENT_ADDED"]
    assert added.agent_added.agent.agent_info.id.value == second
    c.give(e.FromAgent(2, Goodbye(final=True)))
    (removed,) = [event for event in events(c) if event.type == "AGENT_REMOVED"]
    assert removed.agent_removed.agent_id.value == second


def test_subscribers_hear_of_frameworks_that_come_change_and_leave(c: Conductor) -> None:
    fid = c.subscribe("s2", info=framework_info("g"))
    (added,) = events(c)
    assert (added.type, added.framework_added.framework.framework_info.name) == ("FRAMEWORK_ADDED", "g")
    c.call(fid, scheduler.UpdateFramework(framework_info("other", id=framework_id(fid))), "s2")
    (updated,) = events(c)
    assert (updated.type, updated.framework_updated.framework.framework_info.name) == ("FRAMEWORK_UPDATED", "other")
    c.call(fid, scheduler.Teardown(), "s2")
    (removed,) = events(c)
    assert (removed.type, removed.framework_removed.framework_info.id.value) == ("FRAMEWORK_REMOVED", fid)


def test_the_oldest_subscriber_makes_room_for_one_too_many() -> None:
    c = Conductor(max_operator_event_stream_subscribers=2)
    for stream in ("one", "two", "three"):
        c.give(e.SubscribeOperator(stream))
    assert c.closed == ["one"]
    assert list(c.core.state.operators) == ["two", "three"]


def test_who_stops_following_is_told_no_more(c: Conductor) -> None:
    c.give(e.StreamClosed("operator"))
    c.agent(2)
    assert events(c) == []
