"""A framework as any v1 client may write it: plain HTTP and JSON (spec: mesos-v1, section 2)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.cluster import Cluster

PATH = "/api/v1/scheduler"
ENDED = {f"TASK_{state}" for state in ("FINISHED", "FAILED", "KILLED", "ERROR", "DROPPED", "GONE")}
Json = dict[str, Any]


class Scheduler:
    """It acknowledges every update. statuses: all that were told; those of different tasks come in any order. operations: what was
    told of operations; offers: those that are open, by id."""

    def __init__(self, cluster: Cluster, name: str, *capabilities: str, **more: Any) -> None:
        """more: fields of its FrameworkInfo."""
        self.address = urlsplit(cluster.urls["master"]).netloc
        self.stream = http.client.HTTPConnection(self.address, timeout=30)
        can = [{"type": capability} for capability in ("MULTI_ROLE", "PARTITION_AWARE", *capabilities)]
        info = {"user": "", "name": name, "roles": [name], "capabilities": can, **more}
        body = json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
        self.stream.request("POST", PATH, body, {"Content-Type": "application/json"})
        self.answer = self.stream.getresponse()
        self.stream_id = self.answer.getheader("Mesos-Stream-Id", "")
        self.statuses: list[Json] = []
        self.operations: list[Json] = []
        self.offers: dict[str, Json] = {}
        self.framework_id = self.next(lambda event: event["type"] == "SUBSCRIBED")["subscribed"]["framework_id"]

    def close(self) -> None:
        """End its tasks and leave."""
        self.call("TEARDOWN", {})
        self.stream.close()

    def next(self, wanted: Callable[[Json], bool]) -> Json:
        """The next event that is wanted."""
        while True:
            length = b""
            while not length.endswith(b"\n"):
                length += self.answer.read(1)
            event: Json = json.loads(self.answer.read(int(length)))
            if event["type"] == "UPDATE":
                status = event["update"]["status"]
                self.statuses.append(status)
                if "uuid" in status:
                    self.call("ACKNOWLEDGE", {name: status[name] for name in ("agent_id", "task_id", "uuid")})
            elif event["type"] == "OFFERS":
                self.offers |= {offer["id"]["value"]: offer for offer in event["offers"]["offers"]}
            elif event["type"] == "RESCIND":
                self.offers.pop(event["rescind"]["offer_id"]["value"], None)
            elif event["type"] == "UPDATE_OPERATION_STATUS":
                status = event["update_operation_status"]["status"]
                self.operations.append(status)
                if "uuid" in status:
                    acknowledged = {name: status[name] for name in ("agent_id", "operation_id")}
                    self.call("ACKNOWLEDGE_OPERATION_STATUS", {**acknowledged, "uuid": status["uuid"]["value"]})
            if wanted(event):
                return event

    def status(self, task_id: str, state: str = "TASK_RUNNING", **fields: Any) -> Json:
        """The first status of a task in that state with these fields, whether it has come already or is still to come."""

        def matches(status: Json) -> bool:
            found = {name: status.get(name) for name in fields}
            return (status["task_id"]["value"], status["state"], found) == (task_id, state, fields)

        seen = [status for status in self.statuses if matches(status)]
        if seen:
            return seen[0]

        def decides(status: Json) -> bool:
            return matches(status) or (status["task_id"]["value"] == task_id and status["state"] in ENDED)

        self.next(lambda event: event["type"] == "UPDATE" and decides(event["update"]["status"]))
        assert matches(self.statuses[-1]), f"{task_id} was to be {state} {fields or ''}: {self.statuses[-1]}"
        return self.statuses[-1]

    def call(self, type_: str, body: Json) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        call = {"framework_id": self.framework_id, "type": type_, type_.lower(): body}
        connection.request("POST", PATH, json.dumps(call), {"Content-Type": "application/json", "Mesos-Stream-Id": self.stream_id})
        answer = connection.getresponse()
        assert answer.status == 202, answer.read()
        connection.close()

    def launch(self, task_id: str, command: str, /, **fields: Any) -> None:
        """Accept an offer for a command task. fields: further ones of its TaskInfo."""
        offer = self._offer()
        tasks = [{**task_info(task_id, command, offer), **fields}]
        self._accept(offer, {"type": "LAUNCH", "launch": {"task_infos": tasks}})

    def launch_group(self, executor_id: str, commands: dict[str, str], **fields: Any) -> None:
        """Accept an offer for one group of command tasks, by name. fields: further ones of the first one's TaskInfo."""
        offer = self._offer()
        executor = {
            "type": "DEFAULT",
            "executor_id": {"value": executor_id},
            "framework_id": self.framework_id,
            "resources": [scalar("cpus", 0.1), scalar("mem", 32), scalar("disk", 10)],
        }
        tasks = [task_info(name, command, offer) for name, command in commands.items()]
        tasks[0] |= fields
        self._accept(offer, {"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}})

    def accept(self, wanted: Callable[[Json], bool], make: Callable[[Json], list[Json]]) -> None:
        """Accept an offer that is wanted, open already or still to come, for the operations made of it; decline the others."""
        while not any(wanted(offer) for offer in self.offers.values()):
            for offer_id in list(self.offers):
                self.call("DECLINE", {"offer_ids": [self.offers.pop(offer_id)["id"]], "filters": {"refuse_seconds": 0}})
            self.next(lambda event: event["type"] == "OFFERS")
        offer = next(offer for offer in self.offers.values() if wanted(offer))
        del self.offers[offer["id"]["value"]]
        self.call("ACCEPT", {"offer_ids": [offer["id"]], "operations": make(offer), "filters": {"refuse_seconds": 0}})

    def operation(self, operation_id: str) -> Json:
        """The first status of an operation, whether it has come already or is still to come."""

        def found() -> list[Json]:
            return [status for status in self.operations if status["operation_id"]["value"] == operation_id]

        if not found():
            self.next(lambda event: bool(found()))
        return found()[0]

    def _offer(self) -> Json:
        """One that is open, or else the next: it may have come while something else was waited for."""
        while not self.offers:
            self.next(lambda event: event["type"] == "OFFERS")
        return self.offers.pop(next(iter(self.offers)))

    def _accept(self, offer: Json, operation: Json) -> None:
        self.call("ACCEPT", {"offer_ids": [offer["id"]], "operations": [operation], "filters": {"refuse_seconds": 0}})


def task_info(task_id: str, command: str, offer: Json) -> Json:
    return {
        "name": task_id,
        "task_id": {"value": task_id},
        "agent_id": offer["agent_id"],
        "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
        "command": {"value": command},
    }


def scalar(name: str, value: float) -> Json:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}}
