"""PyPI's pymesos 0.3.15, unmodified, as scheduler and as custom executor against a real cluster."""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, eventually
from tests.quorum import Quorum

HERE = Path(__file__).parent
PYTHON = HERE.parent.parent / ".cache/clients/venv/bin/python"
EXECUTOR = shlex.join([str(PYTHON), str(HERE / "pymesos_executor.py")])

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PYTHON.exists(), reason="no pymesos: run tests/compat/setup_clients.sh"),
]


class Scheduler:
    """A scheduler process: `tell` it what to do, `expect` its events."""

    def __init__(self, cluster: Cluster | Quorum, framework_id: str = "-") -> None:
        master = cluster.environ["MESETA_MASTER"].removeprefix("http://")
        command = [str(PYTHON), str(HERE / "pymesos_scheduler.py"), master, framework_id]
        self.process = subprocess.Popen(command, env=cluster.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.seen: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.put(json.loads(line))

    def tell(self, do: str, **fields: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self.process.stdin.flush()

    def expect(self, event: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True, within_s: float = 30.0) -> dict[str, Any]:
        """The next event of a kind that fits; others are passed over, and told when it does not come."""
        while True:
            try:
                found = self.events.get(timeout=within_s)
            except queue.Empty:
                raise AssertionError(f"no {event}; seen: {self.seen[-5:]}") from None
            self.seen.append(found)
            if found["event"] == event and wanted(found):
                return found

    def expect_state(self, task_id: str, state: str) -> dict[str, Any]:
        """The update that brings a task into a state."""
        status = self.expect("update", lambda e: e["status"]["task_id"]["value"] == task_id and e["status"]["state"] == state)["status"]
        assert isinstance(status, dict)
        return status

    def end(self) -> None:
        if self.process.poll() is None:
            self.tell("stop")
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def scheduler(cluster: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(cluster)
    yield made
    made.end()


def tasks(cluster: Cluster, framework_id: str, kind: str) -> dict[str, dict[str, Any]]:
    """The master's tasks of a framework by id; kind: `tasks` or `completed_tasks`."""
    state = cluster.get("/master/state")
    found = [f for key in ("frameworks", "completed_frameworks") for f in state[key] if f["id"] == framework_id]
    return {task["id"]: task for framework in found for task in framework[kind]}


def test_registers_and_gets_offers(scheduler: Scheduler) -> None:
    registered = scheduler.expect("registered")
    assert registered["framework_id"]
    assert registered["master"]["version"] == "1.11.0"
    offer = scheduler.expect("offers")["offers"][0]
    assert offer["framework_id"] == {"value": registered["framework_id"]}
    assert {"cpus", "mem"} <= {resource["name"] for resource in offer["resources"]}


def test_a_command_runs_and_its_updates_are_acknowledged(cluster: Cluster, scheduler: Scheduler) -> None:
    framework_id = scheduler.expect("registered")["framework_id"]
    scheduler.tell("launch", id="good", shell="echo hello from pymesos")
    assert scheduler.expect_state("good", "TASK_RUNNING")["uuid"]
    assert scheduler.expect_state("good", "TASK_FINISHED")["uuid"]
    scheduler.tell("launch", id="bad", shell="exit 3")
    assert "3" in scheduler.expect_state("bad", "TASK_FAILED")["message"]
    # Only acknowledged terminal updates move a task to the completed ones.
    eventually(lambda: {"good", "bad"} <= tasks(cluster, framework_id, "completed_tasks").keys())


def test_a_running_task_is_killed(scheduler: Scheduler) -> None:
    scheduler.expect("registered")
    scheduler.tell("launch", id="long", shell="exec sleep 1000")
    scheduler.expect_state("long", "TASK_RUNNING")
    scheduler.tell("kill", id="long")
    scheduler.expect_state("long", "TASK_KILLED")


def test_a_custom_executor_talks_both_ways(scheduler: Scheduler) -> None:
    scheduler.expect("registered")
    scheduler.tell("launch", id="one", shell=EXECUTOR, executor="echo")
    running = scheduler.expect_state("one", "TASK_RUNNING")
    assert running["source"] == "SOURCE_EXECUTOR"
    assert running["executor_id"] == {"value": "echo"}
    scheduler.tell("message", executor="echo", agent=running["agent_id"]["value"], text="ahoj")
    answer = scheduler.expect("message")
    assert (answer["executor"], answer["agent"], answer["text"]) == ("echo", running["agent_id"]["value"], "AHOJ")
    scheduler.tell("message", executor="echo", agent=running["agent_id"]["value"], text="finish one")
    assert scheduler.expect_state("one", "TASK_FINISHED")["data"]


def test_a_custom_executor_is_told_to_kill(scheduler: Scheduler) -> None:
    scheduler.expect("registered")
    scheduler.tell("launch", id="two", shell=EXECUTOR, executor="echo-2")
    scheduler.expect_state("two", "TASK_RUNNING")
    scheduler.tell("kill", id="two")
    assert scheduler.expect_state("two", "TASK_KILLED")["source"] == "SOURCE_EXECUTOR"


def test_reconciles_named_unknown_and_all_tasks(scheduler: Scheduler) -> None:
    scheduler.expect("registered")
    scheduler.tell("launch", id="here", shell="exec sleep 1000")
    scheduler.expect_state("here", "TASK_RUNNING")

    def reconciled(count: int) -> dict[str, str]:
        """The next answers: task id -> state. They carry no uuid, so nothing is acknowledged."""
        found = {}
        while len(found) < count:
            status = scheduler.expect("update", lambda e: e["status"].get("reason") == "REASON_RECONCILIATION")["status"]
            assert "uuid" not in status
            found[status["task_id"]["value"]] = status["state"]
        return found

    scheduler.tell("reconcile", ids=["here", "nowhere"])
    assert reconciled(2) == {"here": "TASK_RUNNING", "nowhere": "TASK_LOST"}
    scheduler.tell("reconcile", ids=[])
    assert reconciled(1) == {"here": "TASK_RUNNING"}
    scheduler.tell("kill", id="here")
    scheduler.expect_state("here", "TASK_KILLED")


def test_another_scheduler_takes_over(cluster: Cluster) -> None:
    first = Scheduler(cluster)
    framework_id = first.expect("registered")["framework_id"]
    first.tell("launch", id="survivor", shell="exec sleep 1000")
    first.expect_state("survivor", "TASK_RUNNING")
    first.kill()
    second = Scheduler(cluster, framework_id)
    try:
        assert second.expect("reregistered")["framework_id"] == framework_id
        second.tell("reconcile", ids=[])
        # The first scheduler may have been killed before it acknowledged the update: then that comes first, again.
        answer = second.expect("update", lambda e: e["status"].get("reason") == "REASON_RECONCILIATION")["status"]
        assert (answer["task_id"]["value"], answer["state"]) == ("survivor", "TASK_RUNNING")
        second.tell("kill", id="survivor")
        second.expect_state("survivor", "TASK_KILLED")
    finally:
        second.end()
    eventually(lambda: framework_id in {f["id"] for f in cluster.get("/master/state")["completed_frameworks"]})
