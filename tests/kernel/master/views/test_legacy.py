"""The older endpoints, whole objects (spec: mesos-v1, sections 5.1 and 5.2; clients, 15)."""

from __future__ import annotations

import json

import pytest

from kernel.errors import NotFound
from kernel.master import effects as e
from kernel.master import views
from kernel.master.views import legacy
from kernel.wire import scheduler
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import TaskState
from tests.builders import accept, framework_info, register, task
from tests.kernel.master.conductor import Conductor
from tests.kernel.master.views.scene import WALL_S, cluster, show

LABELS_SHOWN = [{"key": "tier", "value": "front"}, {"key": "bare"}]
NOTHING = {"cpus": 0.0, "gpus": 0.0, "mem": 0.0, "disk": 0.0}
AGENT = {
    "id": "M-S0",
    "hostname": "host-1",
    "port": 5100,
    "attributes": {"rack": "r1", "size": 2.5, "lanes": "[1-3]"},
    "pid": "slave(1)@10.0.0.1:5100",
    "registered_time": WALL_S,
    "resources": {"cpus": 4.0, "gpus": 0.0, "mem": 4096.0, "disk": 1000.0, "ports": "[31000-31009]"},
    "used_resources": {"cpus": 2.1, "gpus": 0.0, "mem": 128.0, "disk": 10.0, "ports": "[31000-31001]"},
    "offered_resources": NOTHING,
    "reserved_resources": {},
    "unreserved_resources": {"cpus": 4.0, "gpus": 0.0, "mem": 4096.0, "disk": 1000.0, "ports": "[31000-31009]"},
    "active": True,
    "deactivated": False,
    "version": "1.11.0",
    "meseta_version": "1.0",
    "capabilities": [
        "MULTI_ROLE",
        "HIERARCHICAL_ROLE",
        "RESERVATION_REFINEMENT",
        "AGENT_DRAINING",
        "RESIZE_VOLUME",
        "AGENT_OPERATION_FEEDBACK",
    ],
}
SITE = {
    "id": "site",
    "name": "site",
    "framework_id": "M-0000",
    "executor_id": "",
    "slave_id": "M-S0",
    "state": "TASK_RUNNING",
    "resources": {"cpus": 1.0, "gpus": 0.0, "mem": 64.0, "disk": 0.0, "ports": "[31000-31001]"},
    "role": "eng/web",
    "statuses": [
        {
            "state": "TASK_RUNNING",
            "timestamp": WALL_S + 1,
            "container_status": {
                "container_id": {"value": "C"},
                "network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": "10.0.0.1"}]}],
            },
            "healthy": True,
        }
    ],
    "user": "www",
    "labels": LABELS_SHOWN,
    "discovery": {"visibility": "CLUSTER", "name": "site"},
}
JOB = {
    "id": "job",
    "name": "job",
    "framework_id": "M-0000",
    "executor_id": "x",
    "slave_id": "M-S0",
    "state": "TASK_STAGING",
    "resources": {"cpus": 1.0, "gpus": 0.0, "mem": 32.0, "disk": 0.0},
    "role": "eng/web",
    "statuses": [],
}
FRAMEWORK_SUMMARY = {
    "id": "M-0000",
    "name": "web",
    "used_resources": {"cpus": 2.1, "gpus": 0.0, "mem": 128.0, "disk": 10.0, "ports": "[31000-31001]"},
    "offered_resources": {"cpus": 2.0, "gpus": 0.0, "mem": 1024.0, "disk": 0.0},
    "capabilities": ["MULTI_ROLE", "PARTITION_AWARE", "RESERVATION_REFINEMENT"],
    "hostname": "sched",
    "webui_url": "http://sched/",
    "active": True,
    "connected": True,
    "recovered": False,
}
FRAMEWORK = {
    **FRAMEWORK_SUMMARY,
    "user": "nobody",
    "failover_timeout": 3600.0,
    "checkpoint": False,
    "registered_time": WALL_S,
    "unregistered_time": 0.0,
    "resources": {"cpus": 4.1, "gpus": 0.0, "mem": 1152.0, "disk": 10.0, "ports": "[31000-31001]"},
    "offer_constraints": {},
    "principal": "p",
    "roles": ["eng/web"],
    "labels": LABELS_SHOWN,
    "tasks": [SITE, JOB],
    "unreachable_tasks": [],
    "completed_tasks": [],
    "offers": [
        {
            "id": "M-O2",
            "framework_id": "M-0000",
            "allocation_info": {"role": "eng/web"},
            "slave_id": "M-S1",
            "resources": {"cpus": 2.0, "gpus": 0.0, "mem": 1024.0, "disk": 0.0},
        }
    ],
    "executors": [
        {
            "executor_id": "x",
            "name": "",
            "framework_id": "M-0000",
            "command": {
                "argv": [],
                "uris": [],
                "shell": True,
                "value": "run-executor",
                "environment": {"variables": [{"name": "PASSWORD", "type": "SECRET", "secret": {"type": "VALUE"}}]},
            },
            "resources": {"cpus": 0.1, "gpus": 0.0, "mem": 32.0, "disk": 10.0},
            "role": "eng/web",
            "slave_id": "M-S0",
            "labels": LABELS_SHOWN,
        }
    ],
}
COUNTED = "STAGING STARTING RUNNING KILLING FINISHED KILLED FAILED LOST ERROR UNREACHABLE"
COUNTS = {f"TASK_{name}": 0 for name in COUNTED.split()}


class TestState:
    def test_of_an_empty_cluster_prints_its_empty_arrays(self):
        shown = show(Conductor(cluster="lab", master_id="M"), "state")
        flags = shown.pop("flags")
        assert flags["port"] == "5050"
        assert flags["agent_ping_timeout"] == "3secs"
        assert flags["root_submissions"] == "true"
        assert flags["offer_timeout"] == "300secs"
        assert "rate_limits" not in flags
        assert shown == {
            "version": "1.11.0",
            "build_date": "",
            "build_time": 0.0,
            "build_user": "",
            "start_time": WALL_S,
            "elected_time": WALL_S,
            "id": "M",
            "pid": "",
            "hostname": "master",
            "capabilities": [],
            "activated_slaves": 0,
            "deactivated_slaves": 0,
            "unreachable_slaves": 0,
            "leader": "",
            "leader_info": {"id": "M", "pid": "", "port": 5050, "hostname": "master"},
            "cluster": "lab",
            "slaves": [],
            "recovered_slaves": [],
            "frameworks": [],
            "completed_frameworks": [],
            "orphan_tasks": [],
            "unregistered_frameworks": [],
        }

    def test_shows_agents_and_frameworks_with_all_they_hold(self):
        shown = show(cluster(), "state")
        assert shown["slaves"][0] == AGENT
        assert [agent["id"] for agent in shown["slaves"]] == ["M-S0", "M-S1"]
        assert shown["frameworks"] == [FRAMEWORK]
        assert (shown["activated_slaves"], shown["deactivated_slaves"], shown["unreachable_slaves"]) == (2, 0, 0)

    def test_counts_agents_that_lost_their_link_or_are_unreachable(self):
        c = cluster()
        c.give(e.LinkClosed(2))
        shown = show(c, "state")
        assert (shown["activated_slaves"], shown["deactivated_slaves"], shown["unreachable_slaves"]) == (1, 1, 0)
        assert [agent["active"] for agent in shown["slaves"]] == [True, False]
        c.wait(12)
        shown = show(c, "state")
        assert (shown["activated_slaves"], shown["deactivated_slaves"], shown["unreachable_slaves"]) == (1, 0, 1)
        assert [agent["id"] for agent in shown["slaves"]] == ["M-S0"]

    def test_of_a_new_master_names_agents_that_are_waited_for_apart(self):
        before = cluster()
        shown = show(Conductor(before.stored, "N"), "state")
        assert shown["slaves"] == []
        assert shown["recovered_slaves"][0] == {
            "id": "M-S0",
            "hostname": "host-1",
            "port": 5100,
            "attributes": {"rack": "r1", "size": 2.5, "lanes": "[1-3]"},
        }
        (framework,) = shown["frameworks"]
        assert (framework["recovered"], framework["connected"], framework["active"]) == (True, False, False)

    def test_moves_a_framework_that_left_to_the_completed_ones_with_its_tasks(self):
        c = cluster()
        c.give(e.TeardownFramework("M-0000"))
        shown = show(c, "state")
        assert shown["frameworks"] == []
        (framework,) = shown["completed_frameworks"]
        assert framework["unregistered_time"] == WALL_S + 1
        assert framework["used_resources"] == framework["offered_resources"] == NOTHING
        assert (framework["tasks"], framework["executors"], framework["offers"]) == ([], [], [])
        assert [(task["id"], task["state"]) for task in framework["completed_tasks"]] == [("site", "TASK_KILLED"), ("job", "TASK_KILLED")]

    def test_moves_tasks_of_an_unreachable_agent(self):
        c = cluster()
        c.give(e.LinkClosed(1))
        c.wait(12)
        (framework,) = show(c, "state")["frameworks"]
        assert framework["tasks"] == []
        assert [(task["id"], task["state"]) for task in framework["unreachable_tasks"]] == [
            ("site", "TASK_UNREACHABLE"),
            ("job", "TASK_UNREACHABLE"),
        ]

    def test_shows_the_instant_it_was_asked_for_however_late_it_is_read(self):
        """An edge sends it in pieces, while the master goes on."""
        c = cluster()
        before = show(c, "state")
        fragments = views.render(c.core.state, "state", {})
        c.update(1, "M-0000", "site", TaskState.TASK_FAILED)
        c.give(e.LinkClosed(2))
        c.subscribe("other", framework_info("other"))
        assert json.loads(b"".join(fragments)) == before
        assert show(c, "state") != before

    def test_shows_what_has_changed_since_it_was_read(self):
        c = cluster()
        show(c, "state")
        c.update(1, "M-0000", "job", TaskState.TASK_RUNNING)
        c.update(1, "M-0000", "site", TaskState.TASK_RUNNING, healthy=False)
        (framework,) = show(c, "state")["frameworks"]
        site, job = framework["tasks"]
        assert job["state"] == "TASK_RUNNING"
        assert [status["healthy"] for status in site["statuses"]] == [False]

    def test_is_ascii_whatever_names_are(self):
        c = Conductor()
        c.subscribe(info=framework_info("größe \U0001f600"))
        body = b"".join(views.render(c.core.state, "state", {}))
        assert body.isascii()
        assert json.loads(body)["frameworks"][0]["name"] == "größe \U0001f600"


class TestReservations:
    TEXT = "cpus:4;mem:1024;cpus(eng):2;cpus(eng/db):1;ports:[10-19];ports(eng):[20-24]"

    def test_are_shown_by_role_and_added_to_the_total(self):
        c = Conductor()
        c.agent(1, register("1", self.TEXT))
        (agent,) = show(c, "slaves")["slaves"]
        assert agent["resources"] == {"cpus": 7.0, "gpus": 0.0, "mem": 1024.0, "disk": 0.0, "ports": "[10-24]"}
        assert agent["reserved_resources"] == {"eng": {**NOTHING, "cpus": 2.0, "ports": "[20-24]"}, "eng/db": {**NOTHING, "cpus": 1.0}}
        assert agent["unreserved_resources"] == {"cpus": 4.0, "gpus": 0.0, "mem": 1024.0, "disk": 0.0, "ports": "[10-19]"}
        assert agent["reserved_resources_full"]["eng/db"] == [
            {
                "name": "cpus",
                "type": "SCALAR",
                "scalar": {"value": 1.0},
                "role": "eng/db",
                "reservations": [{"type": "STATIC", "role": "eng/db"}],
            }
        ]
        assert [resource["role"] for resource in agent["unreserved_resources_full"]] == ["*", "*", "*"]


class TestSelection:
    """`?slave_id=`, `?framework_id=`, `?task_id=`: exactly these, and empty arrays where there are none."""

    def test_of_agents(self):
        c = cluster()
        assert [agent["id"] for agent in show(c, "slaves", slave_id="M-S1")["slaves"]] == ["M-S1"]
        assert show(c, "slaves", slave_id="M-S9") == {"slaves": [], "recovered_slaves": []}

    def test_of_frameworks(self):
        c = cluster()
        c.subscribe("other", framework_info("other"))
        assert show(c, "frameworks", framework_id="M-0000") == {
            "frameworks": [FRAMEWORK],
            "completed_frameworks": [],
            "unregistered_frameworks": [],
        }
        nothing = {"frameworks": [], "completed_frameworks": [], "unregistered_frameworks": []}
        assert show(c, "frameworks", framework_id="M-0009") == nothing

    def test_of_tasks(self):
        c = cluster()
        assert show(c, "tasks", task_id="job") == {"tasks": [JOB]}
        assert show(c, "tasks", framework_id="M-0000", task_id="site") == {"tasks": [SITE]}
        assert show(c, "tasks", framework_id="M-0009") == {"tasks": []}


class TestTasks:
    @pytest.fixture
    def finished(self) -> Conductor:
        """Tasks a, b and c, which began in this order; b has ended and its end is acknowledged; d has no status yet."""
        c = Conductor()
        fid = c.subscribe()
        aid = c.agent(1)
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], *(task(name, aid, "cpus:1;mem:32") for name in "abcd")))
        for name in "abc":
            c.wait(1)
            c.update(1, fid, name, TaskState.TASK_RUNNING)
        uuid = c.update(1, fid, "b", TaskState.TASK_FINISHED)
        c.call(fid, scheduler.Acknowledge(AgentID(aid), TaskID("b"), uuid))
        return c

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({}, "cbad"),
            ({"order": "asc"}, "dabc"),
            ({"order": "des"}, "cbad"),
            ({"order": "sideways"}, "cbad"),
            ({"limit": "2"}, "cb"),
            ({"limit": "2", "offset": "1"}, "ba"),
            ({"limit": "2", "offset": "1", "order": "asc"}, "ab"),
            ({"offset": "9"}, ""),
            ({"limit": "0"}, ""),
            ({"limit": "many", "offset": "-1"}, "cbad"),
        ],
    )
    def test_are_sorted_by_their_first_status_and_cut(self, finished: Conductor, query: dict[str, str], names: str):
        assert "".join(shown["id"] for shown in show(finished, "tasks", **query)["tasks"]) == names

    def test_are_all_there_when_asked_as_mesos_task_does(self, finished: Conductor, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(legacy, "TASKS_MAX_DEFAULT", 1)
        assert len(show(finished, "tasks", order="asc", limit="-1")["tasks"]) == 4

    def test_of_frameworks_that_left_are_there_too(self):
        c = cluster()
        c.give(e.TeardownFramework("M-0000"))
        assert {shown["id"]: shown["state"] for shown in show(c, "tasks")["tasks"]} == {"site": "TASK_KILLED", "job": "TASK_KILLED"}


class TestSummary:
    def test_counts_tasks_by_agent_and_by_framework(self):
        shown = show(cluster(), "state-summary")
        counts = {**COUNTS, "TASK_STAGING": 1, "TASK_RUNNING": 1}
        assert shown["slaves"][0] == {**AGENT, **counts, "framework_ids": ["M-0000"]}
        assert {name: shown["slaves"][1][name] for name in (*COUNTS, "framework_ids")} == {**COUNTS, "framework_ids": []}
        assert shown["frameworks"] == [{**FRAMEWORK_SUMMARY, **counts, "slave_ids": ["M-S0"]}]
        assert shown["hostname"] == "master"

    def test_counts_ended_and_unreachable_tasks(self):
        c = cluster()
        uuid = c.update(1, "M-0000", "site", TaskState.TASK_FINISHED)
        c.call("M-0000", scheduler.Acknowledge(AgentID("M-S0"), TaskID("site"), uuid))
        c.give(e.LinkClosed(1))
        c.wait(12)
        (framework,) = show(c, "state-summary")["frameworks"]
        assert {name: framework[name] for name in COUNTS} == {**COUNTS, "TASK_FINISHED": 1, "TASK_UNREACHABLE": 1}


class TestRoles:
    def test_hold_what_is_below_them(self):
        held = {"cpus": 2.1, "mem": 128.0, "disk": 10.0, "ports": 2.0}
        role = {
            "weight": 1.0,
            "share": 4100 / 6000,
            "resources": {"cpus": 4.1, "mem": 1152.0, "disk": 10.0, "ports": 2.0},
            "allocated": held,
            "offered": {"cpus": 2.0, "mem": 1024.0},
            "reserved": {},
            "suppressed": [],
        }
        quota = {"guarantee": {}, "limit": {}, "consumed": held}
        assert show(cluster(), "roles") == {
            "roles": [
                {"name": "eng", **role, "quota": {"role": "eng", **quota}, "frameworks": []},
                {"name": "eng/web", **role, "quota": {"role": "eng/web", **quota}, "frameworks": ["M-0000"]},
            ]
        }

    def test_are_known_by_reservations_and_the_whitelist(self):
        c = Conductor(roles_allowed=("ops",))
        c.agent(1, register("1", "cpus:4;cpus(eng/db):2"))
        reserved = {role["name"]: role["reserved"] for role in show(c, "roles")["roles"]}
        assert reserved == {"eng": {"cpus": 2.0}, "eng/db": {"cpus": 2.0}, "ops": {}}
        consumed = {role["name"]: role["quota"]["consumed"] for role in show(c, "roles")["roles"]}
        assert consumed == reserved


def test_what_cannot_be_set_yet_is_empty():
    c = Conductor()
    assert show(c, "weights") == []
    assert show(c, "quota") == show(c, "maintenance/schedule") == show(c, "maintenance/status") == {}


def test_an_unknown_view_is_not_found():
    with pytest.raises(NotFound, match="'nothing'"):
        views.render(Conductor().core.state, "nothing")
