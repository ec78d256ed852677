"""Containers that operators launch on an agent, beside a task and alone, with real processes; the agent is killed under them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import Answer, ask, call
from tests.e2e.processes import alive

pytestmark = pytest.mark.e2e
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has control groups")

RESOURCES = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in (("cpus", 0.1), ("mem", 64))]


class Agent:
    """Calls to the one agent of a cluster, and a task on it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.url = cluster, cluster.urls["agent-1"]
        self._owner = cluster.spawn([*MESETA, "run", "--name", "host", "--cpus", "0.1", "--mem", "64", "--", "sleep", "1000"])
        self.task = eventually(self._running, what="the task runs")
        self.host = self.task["statuses"][-1]["container_status"]["container_id"]
        run = f"agent-1/slaves/latest/frameworks/*/executors/{self.task['task_id']['value']}/runs/{self.host['value']}"
        (self.sandbox,) = cluster.work_dir.glob(run)

    def _running(self) -> Any:
        return next((one for one in self.cluster.json("task", "list") if one["state"] == "TASK_RUNNING"), None)

    def inside(self, *names: str) -> Any:
        """The id of a container in the task's, or deeper."""
        found = self.host
        for name in names:
            found = {"value": name, "parent": found}
        return found

    def call(self, kind: str, container_id: Any, **parts: Any) -> Answer:
        return call(self.url, kind, **{kind.lower(): {"container_id": container_id, **parts}})

    def launch(self, container_id: Any, script: str, **parts: Any) -> Answer:
        return self.call("LAUNCH_CONTAINER", container_id, command={"value": script}, **parts)

    def wait(self, container_id: Any) -> Any:
        answer = self.call("WAIT_CONTAINER", container_id)
        assert answer.status == 200, answer.body
        return answer.json()["wait_container"]

    def shown(self, **flags: bool) -> dict[str, Any]:
        """Containers by their ids."""
        found = call(self.url, "GET_CONTAINERS", get_containers=flags).json()["get_containers"].get("containers", [])
        return {one["container_id"]["value"]: one for one in found}

    def kill_agent(self) -> None:
        """kill -9; the supervisor starts it again."""
        pid = self.cluster.daemon("agent-1")["pid"]
        self.cluster.kill("agent-1")
        eventually(lambda: self.cluster.daemon("agent-1")["pid"] not in (None, pid), what="the agent is back")
        eventually(self._answers, what="the agent answers")

    def _answers(self) -> bool:
        try:
            return call(self.url, "GET_CONTAINERS").status == 200
        except OSError:
            return False

    def close(self) -> None:
        self._owner.kill()
        self._owner.communicate()


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent")
    try:
        made.up()
        found = Agent(made)
        try:
            yield found
        finally:
            found.close()
    finally:
        made.down()


def number_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip(), what=str(path)))


def test_it_outlives_the_agent_and_its_end_is_told_until_it_is_removed(agent: Agent) -> None:
    inner = agent.inside("in")
    script = "echo $$ > pid; echo started; until test -e go; do sleep 0.05; done; echo ended; exit 7"
    assert agent.launch(inner, script).status == 200
    assert agent.launch(inner, script).status == 202, "it runs already"
    sandbox = agent.sandbox / "containers" / "in"
    pid = number_in(sandbox / "pid")
    assert agent.call("REMOVE_CONTAINER", inner).status == 409, "it runs"
    agent.kill_agent()
    assert alive(pid)
    assert agent.shown(show_nested=True)["in"]["container_status"] == {"container_id": inner, "executor_pid": pid}
    assert "in" not in agent.shown()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(agent.wait, inner)
        (sandbox / "go").touch()
        assert waiting.result(30) == {"exit_status": 7 << 8, "message": "Command exited with status 7"}
    assert "in" not in agent.shown(show_nested=True)
    agent.kill_agent()
    assert agent.wait(inner)["exit_status"] == 7 << 8, "it is kept"
    assert agent.launch(inner, "true").status == 409
    shown = ask(agent.url, f"/files/read?path={sandbox}/stdout&offset=0").json()
    assert shown["data"] == "started\nended\n"
    assert agent.call("REMOVE_CONTAINER", inner).status == 200
    assert not sandbox.exists()
    assert agent.call("WAIT_CONTAINER", inner).status == agent.call("REMOVE_CONTAINER", inner).status == 404
    assert agent.launch(inner, "true").status == 200, "its name is free again"


def test_it_is_as_the_task_and_ends_with_it_and_with_what_is_around(agent: Agent) -> None:
    script = "cat /proc/self/cgroup > groups; env > env; echo $$ > pid; exec sleep 1000"
    for names in (("a",), ("a", "b")):
        assert agent.launch(agent.inside(*names), script).status == 200
    outer, deeper = agent.sandbox / "containers" / "a", agent.sandbox / "containers" / "a" / "containers" / "b"
    pids = [number_in(outer / "pid"), number_in(deeper / "pid")]
    groups = Path(f"/proc/{agent.task['statuses'][-1]['container_status']['executor_pid']}/cgroup").read_text()
    assert (outer / "groups").read_text() == (deeper / "groups").read_text() == groups
    variables = dict(line.partition("=")[::2] for line in (deeper / "env").read_text().splitlines())
    assert variables["MESOS_SANDBOX"] == str(deeper.resolve())
    assert variables["MESOS_FRAMEWORK_ID"] == agent.task["framework_id"]["value"]
    done = agent.cluster.meseta("task", "exec", agent.task["task_id"]["value"], "--", "sh", "-c", "ls containers/a/containers")
    assert done.stdout == "b\n"
    assert agent.call("KILL_NESTED_CONTAINER", agent.inside("a")).status == 200
    assert agent.wait(agent.inside("a"))["exit_status"] == 9
    eventually(lambda: not any(map(alive, pids)), what="what was inside has ended, too")
    eventually(lambda: agent.call("WAIT_CONTAINER", agent.inside("a", "b")).status == 404, what="and is not known any more")
    assert agent.launch(agent.inside("c"), script).status == 200
    pid = number_in(agent.sandbox / "containers" / "c" / "pid")
    agent.cluster.meseta("task", "kill", agent.task["task_id"]["value"])
    eventually(lambda: not alive(pid), what="it has ended with the task")
    assert agent.launch(agent.inside("late"), "true").status == 400


def test_one_that_stands_alone(agent: Agent) -> None:
    alone = {"value": "alone"}
    assert agent.launch(alone, "true").status == 400, "without resources"
    script = "echo $$ > pid; until test -e go; do sleep 0.05; done; exit 3"
    assert agent.launch(alone, script, resources=RESOURCES).status == 200
    sandbox = agent.cluster.work_dir / "agent-1" / "containers" / "alone"
    pid = number_in(sandbox / "pid")
    assert agent.launch({"value": "in", "parent": alone}, "exec sleep 1000").status == 200
    agent.kill_agent()
    assert alive(pid)
    assert agent.shown(show_nested=True).keys() == {agent.host["value"]}
    shown = agent.shown(show_nested=True, show_standalone=True)
    assert shown.keys() == {agent.host["value"], "alone", "in"}
    assert "framework_id" not in shown["alone"]
    assert shown["alone"]["resource_statistics"]["mem_limit_bytes"] == 64 << 20
    assert ask(agent.url, f"/files/browse?path={sandbox}").status == 200
    attached = call(agent.url, "ATTACH_CONTAINER_OUTPUT", attach_container_output={"container_id": alone})
    assert attached.status == 404, "as in Mesos"
    (sandbox / "go").touch()
    assert agent.wait(alone)["exit_status"] == 3 << 8
    eventually(lambda: agent.call("REMOVE_CONTAINER", alone).status == 200, what="what was inside has ended, too")
    assert not sandbox.exists()


@AS_ROOT
def test_one_that_stands_alone_is_held_to_what_it_was_given(agent: Agent) -> None:
    hog = "tail /dev/zero; sleep 1000"  # All of it is one line.
    assert agent.launch({"value": "hog"}, hog, resources=RESOURCES).status == 200
    ended = agent.wait({"value": "hog"})
    assert (ended["state"], ended["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY")
    assert ended["limitation"]["resources"][0]["name"] == "mem"


def test_output_of_a_nested_one_is_attached(agent: Agent) -> None:
    inner = agent.inside("says")
    agent.launch(inner, "echo before; until test -e go; do sleep 0.05; done; echo after; echo oops >&2")
    sandbox = agent.sandbox / "containers" / "says"
    eventually(lambda: (sandbox / "stdout").read_text() == "before\n")
    with ThreadPoolExecutor() as pool:
        body = json.dumps({"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": inner}}).encode()
        reading = pool.submit(ask, agent.url, "/api/v1", "POST", body, Accept="application/recordio", Message_Accept="application/json")
        inner_call = agent.inside("says", "goes")
        agent.launch(inner_call, "sleep 0.5; touch ../../go")
        answer = reading.result(30)
    records, rest = [], answer.body
    while rest:
        length, _, rest = rest.partition(b"\n")
        records.append(json.loads(rest[: int(length)]))
        rest = rest[int(length) :]
    said = {one["data"]["type"]: base64.b64decode(one["data"]["data"]) for one in records if one["type"] == "DATA"}
    assert said == {"STDOUT": b"after\n", "STDERR": b"oops\n"}


@AS_ROOT
def test_what_is_put_into_its_way_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    """The task's user owns the sandbox that the container is to be in."""
    (agent.sandbox / "containers").symlink_to(tmp_path)
    answer = agent.launch(agent.inside("in"), "true")
    assert answer.status == 400
    assert b"cannot make the sandbox" in answer.body
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"command": {"value": "x", "shell": False}}, "x is not in"),
        ({"command": {}}, "a command needs a value"),
        ({"command": {"value": "x", "user": "nobody-like-this"}}, "no user is called"),
        ({"container": {"type": "DOCKER", "docker": {"image": "x"}}}, "an image of its own is not supported"),
        ({"container": {"type": "MESOS", "linux_info": {"share_cgroups": False}}}, "share_cgroups"),
        ({"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}]}, "resources"),
    ],
)
def test_what_cannot_be_launched_is_explained_and_leaves_nothing(shared: Agent, parts: dict[str, Any], says: str) -> None:
    if "user" in parts.get("command", {}) and os.geteuid() != 0:
        pytest.skip("only root switches users")
    answer = shared.call("LAUNCH_CONTAINER", shared.inside("wrong"), **{"command": {"value": "true"}, **parts})
    assert answer.status == 400
    assert says in answer.body.decode()
    assert shared.call("WAIT_CONTAINER", shared.inside("wrong")).status == 404


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent")
    try:
        made.up()
        found = Agent(made)
        yield found
        found.close()
    finally:
        made.down()
