"""Reads of the operator API (spec: mesos-v1, sections 1.6, 4.1 and 4.3)."""

from __future__ import annotations

import json

import pytest

from kernel.master import effects as e
from kernel.master import views
from kernel.wire import codec, operator, scheduler
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TaskState
from tests.builders import framework_info, register
from tests.kernel.master.conductor import Conductor
from tests.kernel.master.views.scene import WALL_S, cluster, show

START = {"nanoseconds": int(WALL_S) * 10**9}
NO_TASKS = {"tasks": [], "unreachable_tasks": [], "completed_tasks": []}
NO_FRAMEWORKS = {"frameworks": [], "completed_frameworks": []}
NO_AGENTS = {"agents": [], "recovered_agents": []}


def scalar(name: str, value: float, **fields: object) -> dict[str, object]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*", **fields}


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("get_tasks", NO_TASKS),
        ("get_executors", {"executors": []}),
        ("get_frameworks", NO_FRAMEWORKS),
        ("get_agents", NO_AGENTS),
        (
            "get_state",
            {"get_tasks": NO_TASKS, "get_executors": {"executors": []}, "get_frameworks": NO_FRAMEWORKS, "get_agents": NO_AGENTS},
        ),
        ("get_operations", {}),
        ("get_roles", {}),
        ("get_weights", {}),
        ("get_quota", {"status": {}}),
        ("get_maintenance_status", {"status": {}}),
        ("get_maintenance_schedule", {"schedule": {}}),
        (
            "get_master",
            {"master_info": {"id": "M", "ip": 0, "port": 5050, "hostname": "master"}, "start_time": WALL_S, "elected_time": WALL_S},
        ),
    ],
)
def test_of_an_empty_cluster_only_the_live_arrays_are_printed(part: str, expected: object):
    assert show(Conductor(), part) == {"type": part.upper(), part: expected}


@pytest.mark.parametrize("part", [name for name in views.NAMES if name.startswith("get_")])
def test_every_answer_is_a_response_as_v1_has_it(part: str):
    """What is written in fragments reads back as the message and is written by it in the same way."""
    body = b"".join(views.render(cluster().core.state, part))
    response = codec.decode(body, operator.Response)
    assert response.type == part.upper()
    assert json.loads(codec.encode(response)) == json.loads(body)


def test_tasks():
    c = cluster()
    site, job = show(c, "get_tasks")["get_tasks"]["tasks"]
    assert job == {
        "name": "job",
        "task_id": {"value": "job"},
        "framework_id": {"value": "M-0000"},
        "agent_id": {"value": "M-S0"},
        "state": "TASK_STAGING",
        "executor_id": {"value": "x"},
        "resources": [
            scalar("cpus", 1.0, allocation_info={"role": "eng/web"}),
            scalar("mem", 32.0, allocation_info={"role": "eng/web"}),
        ],
    }
    assert site["status_update_state"] == "TASK_RUNNING"
    assert site["status_update_uuid"] == "AAAAAAAAAAAAAAAAAAAAAQ=="
    assert [(status["state"], status["timestamp"]) for status in site["statuses"]] == [("TASK_RUNNING", WALL_S + 1)]
    assert site["user"] == "www"


def test_tasks_that_ended_or_are_unreachable_stand_apart():
    c = cluster()
    uuid = c.update(1, "M-0000", "site", TaskState.TASK_FINISHED)
    c.call("M-0000", scheduler.Acknowledge(AgentID("M-S0"), TaskID("site"), uuid))
    c.give(e.LinkClosed(1))
    c.wait(12)
    assert {name: [task["name"] for task in tasks] for name, tasks in show(c, "get_tasks")["get_tasks"].items()} == {
        "tasks": [],
        "unreachable_tasks": ["job"],
        "completed_tasks": ["site"],
    }


def test_tasks_are_those_of_the_instant_of_the_call():
    c = cluster()
    before = show(c, "get_state")
    fragments = views.render(c.core.state, "get_state")
    c.update(1, "M-0000", "site", TaskState.TASK_FAILED)
    c.give(e.LinkClosed(2))
    assert json.loads(b"".join(fragments)) == before


def test_executors_without_the_values_of_secrets():
    (shown,) = show(cluster(), "get_executors")["get_executors"]["executors"]
    assert shown["agent_id"] == {"value": "M-S0"}
    assert shown["executor_info"]["executor_id"] == {"value": "x"}
    assert shown["executor_info"]["resources"][0] == scalar("cpus", 0.1, allocation_info={"role": "eng/web"})
    (variable,) = shown["executor_info"]["command"]["environment"]["variables"]
    assert variable == {"name": "PASSWORD", "type": "SECRET", "secret": {"type": "VALUE"}}


def test_frameworks():
    c = cluster()
    (shown,) = show(c, "get_frameworks")["get_frameworks"]["frameworks"]
    assert shown["framework_info"]["id"] == {"value": "M-0000"}
    assert (shown["active"], shown["connected"], shown["recovered"]) == (True, True, False)
    assert shown["registered_time"] == START
    assert "reregistered_time" not in shown
    assert shown["allocated_resources"] == [
        scalar("cpus", 2.1),
        scalar("mem", 128.0),
        scalar("disk", 10.0),
        {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}, "role": "*"},
    ]
    assert shown["offered_resources"] == [scalar("cpus", 2.0), scalar("mem", 1024.0)]
    (offer,) = shown["offers"]
    assert offer["allocation_info"] == {"role": "eng/web"}
    assert offer["resources"][0] == scalar("cpus", 2.0, allocation_info={"role": "eng/web"})


def test_frameworks_that_left_are_completed():
    c = cluster()
    c.give(e.TeardownFramework("M-0000"))
    shown = show(c, "get_frameworks")["get_frameworks"]
    assert shown["frameworks"] == []
    (left,) = shown["completed_frameworks"]
    assert left["unregistered_time"] == {"nanoseconds": (int(WALL_S) + 1) * 10**9}


def test_agents():
    c = cluster()
    _, shown = show(c, "get_agents")["get_agents"]["agents"]
    total = [scalar("cpus", 2.0), scalar("mem", 1024.0)]
    assert shown == {
        "agent_info": {"hostname": "host-2", "port": 5101, "resources": total, "id": {"value": "M-S1"}},
        "active": True,
        "deactivated": False,
        "version": "1.11.0",
        "meseta_version": "1.0",
        "pid": "slave(1)@10.0.0.1:5101",
        "registered_time": {"nanoseconds": (int(WALL_S) + 1) * 10**9},
        "total_resources": total,
        "offered_resources": total,
        "capabilities": [
            {"type": "MULTI_ROLE"},
            {"type": "HIERARCHICAL_ROLE"},
            {"type": "RESERVATION_REFINEMENT"},
            {"type": "AGENT_DRAINING"},
            {"type": "RESIZE_VOLUME"},
            {"type": "AGENT_OPERATION_FEEDBACK"},
        ],
    }


def test_agents_that_are_waited_for_after_a_failover():
    shown = show(Conductor(cluster().stored, "N"), "get_agents")["get_agents"]
    assert shown["agents"] == []
    assert [info["id"]["value"] for info in shown["recovered_agents"]] == ["M-S0", "M-S1"]


def test_reservations_are_told_in_the_older_form_and_in_the_newer():
    c = Conductor()
    c.agent(1, register("1", "cpus:1;cpus(web):2"))
    c.subscribe(info=framework_info("f", role="web"))
    reserved = scalar("cpus", 2.0, role="web", reservations=[{"type": "STATIC", "role": "web"}])
    (agent,) = show(c, "get_agents")["get_agents"]["agents"]
    (framework,) = show(c, "get_frameworks")["get_frameworks"]["frameworks"]
    assert agent["agent_info"]["resources"] == agent["total_resources"] == agent["offered_resources"] == [scalar("cpus", 1.0), reserved]
    assert framework["offered_resources"] == [scalar("cpus", 1.0), reserved]
    assert framework["offers"][0]["resources"][1] == reserved | {"allocation_info": {"role": "web"}}
    c.later(1)
    c.give(e.LinkClosed(1))
    recovered = Conductor(c.stored)
    assert show(recovered, "get_agents")["get_agents"]["recovered_agents"][0]["resources"] == [scalar("cpus", 1.0), reserved]


def test_roles_hold_what_is_used_and_offered_below_them():
    resources = [scalar("cpus", 4.1), scalar("mem", 1152.0), scalar("disk", 10.0)]
    assert show(cluster(), "get_roles")["get_roles"]["roles"] == [
        {"name": "eng", "weight": 1.0, "resources": resources},
        {"name": "eng/web", "weight": 1.0, "frameworks": [{"value": "M-0000"}], "resources": resources},
    ]


def test_a_stream_of_events_begins_with_the_whole_state():
    c = cluster()
    assert show(c, "subscribed") == {
        "type": "SUBSCRIBED",
        "subscribed": {"get_state": show(c, "get_state")["get_state"], "heartbeat_interval_seconds": 15.0},
    }
