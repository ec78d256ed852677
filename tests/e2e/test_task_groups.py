"""Task groups on the default executor, launched as any v1 client may (spec: mesos-v1, sections 2.8 and 3.6)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster import Cluster, eventually

pytestmark = pytest.mark.e2e
PATH = "/api/v1/scheduler"


class Scheduler:
    """A framework in plain HTTP and JSON; it acknowledges every update."""

    def __init__(self, cluster: Cluster) -> None:
        self.address = urlsplit(cluster.urls["master"]).netloc
        self.stream = http.client.HTTPConnection(self.address, timeout=30)
        info = {"user": "", "name": "groups", "roles": ["groups"], "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]}
        body = json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
        self.stream.request("POST", PATH, body, {"Content-Type": "application/json"})
        self.answer = self.stream.getresponse()
        self.stream_id = self.answer.getheader("Mesos-Stream-Id", "")
        self.statuses: dict[tuple[str, str], dict[str, Any]] = {}  # By task and state: those of different tasks come in any order.
        self.framework_id = self.next(lambda event: event["type"] == "SUBSCRIBED")["subscribed"]["framework_id"]

    def next(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next event that is wanted."""
        while True:
            length = b""
            while not length.endswith(b"\n"):
                length += self.answer.read(1)
            event: dict[str, Any] = json.loads(self.answer.read(int(length)))
            if event["type"] == "UPDATE":
                status = event["update"]["status"]
                self.statuses[status["task_id"]["value"], status["state"]] = status
                self.call("ACKNOWLEDGE", {name: status[name] for name in ("agent_id", "task_id", "uuid")})
            if wanted(event):
                return event

    def status(self, task_id: str, state: str) -> dict[str, Any]:
        """The status of a task in that state, whether it has come already or is still to come."""
        key = (task_id, state)
        if key not in self.statuses:
            self.next(lambda _: key in self.statuses)
        return self.statuses[key]

    def call(self, type_: str, body: dict[str, Any]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        call = {"framework_id": self.framework_id, "type": type_, type_.lower(): body}
        connection.request("POST", PATH, json.dumps(call), {"Content-Type": "application/json", "Mesos-Stream-Id": self.stream_id})
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        connection.close()

    def launch_group(self, executor_id: str, commands: dict[str, str]) -> None:
        """Accept the next offer for one group of command tasks."""
        (offer, *_) = self.next(lambda event: event["type"] == "OFFERS")["offers"]["offers"]
        executor = {
            "type": "DEFAULT",
            "executor_id": {"value": executor_id},
            "framework_id": self.framework_id,
            "resources": [_scalar("cpus", 0.1), _scalar("mem", 32), _scalar("disk", 10)],
        }
        tasks = [
            {
                "name": name,
                "task_id": {"value": name},
                "agent_id": offer["agent_id"],
                "resources": [_scalar("cpus", 0.1), _scalar("mem", 32)],
                "command": {"value": command},
            }
            for name, command in commands.items()
        ]
        group = {"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}}
        self.call("ACCEPT", {"offer_ids": [offer["id"]], "operations": [group], "filters": {"refuse_seconds": 0}})


def _scalar(name: str, value: float) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}


@pytest.fixture
def scheduler(cluster: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(cluster)
    yield made
    made.call("TEARDOWN", {})
    made.stream.close()


def test_a_group_runs_side_by_side_and_one_failure_ends_the_rest(cluster: Cluster, scheduler: Scheduler) -> None:
    """The tasks see each other: the second waits for what the first writes into the executor's sandbox."""
    write = "echo here > $MESOS_SANDBOX/../../shared; exec sleep 1000"
    wait = "until test -e $MESOS_SANDBOX/../../shared; do sleep 0.1; done; exit 7"
    scheduler.launch_group("group", {"writer": write, "waiter": wait})
    failed = scheduler.status("waiter", "TASK_FAILED")
    assert failed["message"] == "Command exited with status 7"
    assert failed["executor_id"]["value"] == "group"
    assert scheduler.status("writer", "TASK_KILLED")["source"] == "SOURCE_EXECUTOR"
    assert scheduler.next(lambda event: event["type"] == "FAILURE")["failure"]["executor_id"]["value"] == "group"


def test_a_group_whose_tasks_finish_leaves_nothing(cluster: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch_group("short", {"one": "true", "two": "echo done"})
    scheduler.status("one", "TASK_RUNNING")
    scheduler.next(lambda event: event["type"] == "FAILURE")

    def resources_used() -> float:
        (found,) = [f for f in cluster.get("/state")["frameworks"] if f["id"] == scheduler.framework_id["value"]]
        return float(found["used_resources"]["cpus"])

    assert eventually(lambda: resources_used() == 0.0 or None)
