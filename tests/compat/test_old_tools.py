"""What tools written for Mesos read, read in the way they do (spec: mesos-v1, section 14.4; clients, 15).

`mesos-resolve`, `mesos-ps`, `mesos-ls`, `mesos-cat` and `mesos-tail`, the web UI, DNS and load balancers, metrics exporters: each
goes from the master's state to the agent's, and by the `directory` it finds there to the files of a sandbox.
"""

from __future__ import annotations

import getpass
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from tests.cluster import Cluster, eventually
from tests.e2e.http import ask

pytestmark = pytest.mark.e2e

SCRIPT = "echo first; seq -f 'line %g' 20000; echo oops >&2; while [ ! -e go ]; do sleep 0.05; done; echo last; sleep 1000"
RESOURCES = {"cpus": 0.1, "mem": 32.0}
LINES = "first\n" + "".join(f"line {number}\n" for number in range(1, 20001))
DISCOVERY = {"visibility": "EXTERNAL", "name": "tail", "ports": {"ports": [{"number": 31005, "name": "http", "protocol": "tcp"}]}}


class Scheduler:
    """A framework of the v1 API without any library: it runs one task until it is torn down."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        info = {"user": getpass.getuser(), "name": "old-tools", "roles": ["old"], "capabilities": [{"type": "MULTI_ROLE"}]}
        headers = {"Content-Type": "application/json"}
        self._connection.request(
            "POST", "/api/v1/scheduler", json.dumps({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}), headers
        )
        self._stream = self._connection.getresponse()
        assert self._stream.status == 200
        self._url, self._stream_id = url, self._stream.headers["Mesos-Stream-Id"]
        self.framework_id: str = self._until("SUBSCRIBED")["subscribed"]["framework_id"]["value"]

    def _events(self) -> Iterator[Any]:
        while True:
            yield json.loads(self._stream.read(int(self._stream.readline())))

    def _until(self, kind: str) -> Any:
        return next(event for event in self._events() if event["type"] == kind)

    def call(self, kind: str, **parts: Any) -> None:
        body = {"framework_id": {"value": self.framework_id}, "type": kind, **parts}
        answer = ask(self._url, "/api/v1/scheduler", "POST", json.dumps(body).encode(), Mesos_Stream_Id=self._stream_id)
        assert answer.status == 202, answer.body

    def run(self, task_id: str, command: str, **fields: Any) -> None:
        """Launch on whatever is offered first; return when it runs."""
        offer = self._until("OFFERS")["offers"]["offers"][0]
        scalars = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in RESOURCES.items()]
        port: int = next(resource for resource in offer["resources"] if resource["name"] == "ports")["ranges"]["range"][0]["begin"]
        ports = {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": port, "end": port + 1}]}}
        resources = [{**resource, "allocation_info": {"role": "old"}} for resource in (*scalars, ports)]
        task = {"name": task_id, "task_id": {"value": task_id}, "agent_id": offer["agent_id"], "resources": resources}
        launch = {"task_infos": [{**task, "command": {"value": command}, **fields}]}
        self.call("ACCEPT", accept={"offer_ids": [offer["id"]], "operations": [{"type": "LAUNCH", "launch": launch}]})
        while True:
            status = self._until("UPDATE")["update"]["status"]
            assert status["state"] in ("TASK_STARTING", "TASK_RUNNING"), status
            self.call("ACKNOWLEDGE", acknowledge={name: status[name] for name in ("agent_id", "task_id", "uuid")})
            if status["state"] == "TASK_RUNNING":
                return

    def teardown(self) -> None:
        self.call("TEARDOWN")
        self._connection.close()


@pytest.fixture(scope="module")
def framework_id(cluster: Cluster) -> Iterator[str]:
    """A framework with one task, `t.1`, that has written to its sandbox and goes on when it finds a file there."""
    scheduler = Scheduler(cluster.urls["master"])
    try:
        labels = {"labels": [{"key": "tier", "value": "front"}, {"key": "bare"}]}
        scheduler.run("t.1", SCRIPT, labels=labels, discovery=DISCOVERY)
        yield scheduler.framework_id
    finally:
        scheduler.teardown()


def url_of(pid: str) -> str:
    """Where a process listens, by its pid: `slave(1)@10.0.0.1:5051`."""
    return "http://" + pid.partition("@")[2]


def leader(cluster: Cluster) -> str:
    """As `mesos-resolve` and the old command line: any master names the leading one."""
    state = ask(cluster.urls["master"], "/master/state").json()
    assert state["leader"].startswith("master@")
    assert state["leader_info"]["hostname"]
    return url_of(state["leader"])


def found(cluster: Cluster, task_id: str) -> tuple[Any, Any]:
    """A task and its agent, as `mesos-ps` joins them."""
    state = ask(leader(cluster), "/master/state.json").json()
    agents = {agent["id"]: agent for agent in state["slaves"]}
    tasks = {task["id"]: task for framework in state["frameworks"] for task in framework["tasks"]}
    return tasks[task_id], agents[tasks[task_id]["slave_id"]]


def sandbox(cluster: Cluster, task_id: str) -> tuple[str, str]:
    """The agent's URL and the path of a task's sandbox there, as `mesos-cat` and the web UI find them."""
    task, agent = found(cluster, task_id)
    url = url_of(agent["pid"])
    state = ask(url, "/slave(1)/state.json").json()
    assert state["id"] == agent["id"]
    executor_id = task["executor_id"] or task["id"]
    for framework in state["frameworks"] + state["completed_frameworks"]:
        if framework["id"] == task["framework_id"]:
            for executor in framework["executors"] + framework["completed_executors"]:
                if executor["id"] == executor_id:
                    assert executor["container"] in executor["directory"]
                    return url, executor["directory"]
    raise AssertionError(f"no sandbox of {task_id}")


def read(url: str, path: str, offset: int, length: int | None = None, **more: str) -> Any:
    query = {"path": path, "offset": str(offset), **({"length": str(length)} if length is not None else {}), **more}
    answer = ask(url, "/files/read.json?" + "&".join(f"{name}={quote(value)}" for name, value in query.items()))
    assert answer.status == 200, answer.body
    return answer.json()


def cat(url: str, path: str, length: int) -> str:
    """A whole file in pieces, until one comes empty."""
    text = ""
    while data := read(url, path, len(text), length)["data"]:
        assert len(data) <= length
        text += data
    return text


# ---- Command line tools ---------------------------------------------------------------------------------


def test_ps_finds_task_agent_and_usage(cluster: Cluster, framework_id: str) -> None:
    task, agent = found(cluster, "t.1")
    assert (task["framework_id"], task["state"], task["name"], task["executor_id"]) == (framework_id, "TASK_RUNNING", "t.1", "")
    assert RESOURCES.items() <= task["resources"].items()
    assert agent["hostname"]
    assert agent["active"] is True
    assert isinstance(ask(url_of(agent["pid"]), "/slave(1)/monitor/statistics.json").json(), list)


@pytest.mark.parametrize("length", [4096, 65536])
def test_cat_reads_a_sandbox_in_pieces(cluster: Cluster, framework_id: str, length: int) -> None:
    url, directory = sandbox(cluster, "t.1")
    eventually(lambda: read(url, f"{directory}/stdout", -1)["offset"] == len(LINES))
    assert cat(url, f"{directory}/stdout", length) == LINES
    assert cat(url, f"{directory}/stderr", length) == "oops\n"


def test_ls_lists_a_sandbox_and_files_can_be_downloaded(cluster: Cluster, framework_id: str) -> None:
    url, directory = sandbox(cluster, "t.1")
    listed = ask(url, f"/files/browse.json?path={quote(directory)}").json()
    files = {entry["path"].rpartition("/")[2]: entry for entry in listed}
    assert {"stdout", "stderr"} <= files.keys()
    entry = files["stdout"]
    assert entry.keys() == {"path", "nlink", "size", "mtime", "mode", "uid", "gid"}
    assert entry["path"] == f"{directory}/stdout"
    assert re.fullmatch(r"-rw[-rwx]{7}", entry["mode"])
    eventually(lambda: ask(url, f"/files/download?path={quote(directory)}/stdout").body.decode() == LINES)
    answer = ask(url, f"/slave(1)/files/download?path={quote(directory)}/stderr")
    assert (answer.body, answer.headers["content-disposition"]) == (b"oops\n", 'attachment; filename="stderr"')


def test_a_sandbox_is_reached_without_its_container_too(cluster: Cluster, framework_id: str) -> None:
    url, directory = sandbox(cluster, "t.1")
    for run in (f"/frameworks/{framework_id}/executors/t.1/runs/latest", f"{directory.rpartition('/')[0]}/latest"):
        assert cat(url, f"{run}/stderr", 100) == "oops\n"


def test_the_web_ui_reads_by_scripts(cluster: Cluster, framework_id: str) -> None:
    url, directory = sandbox(cluster, "t.1")
    callback = "angular.callbacks._0"
    for base, path in ((leader(cluster), "/master/state"), (url, "/slave(1)/state"), (leader(cluster), "/metrics/snapshot")):
        answer = ask(base, f"{path}?jsonp={callback}")
        assert answer.media == "text/javascript"
        assert answer.body.startswith(callback.encode() + b"(")
    answer = ask(url, f"/files/read?path={quote(directory)}/stderr&offset=0&length=100&jsonp={callback}")
    assert json.loads(answer.body[len(callback) + 1 : -2]) == {"data": "oops\n", "offset": 0}


# ---- Service discovery and metrics ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/master/state", "/master/frameworks"])
def test_dns_finds_where_a_task_listens(cluster: Cluster, framework_id: str, path: str) -> None:
    (framework,) = [found for found in ask(leader(cluster), path).json()["frameworks"] if found["id"] == framework_id]
    assert (framework["name"], framework["active"]) == ("old-tools", True)
    (task,) = framework["tasks"]
    assert task["discovery"] == DISCOVERY
    assert re.fullmatch(r"\[\d+-\d+\]", task["resources"]["ports"])
    assert task["labels"] == [{"key": "tier", "value": "front"}, {"key": "bare"}]
    status = max(task["statuses"], key=lambda status: status["timestamp"])
    assert status["state"] == "TASK_RUNNING"
    (network,) = status["container_status"]["network_infos"]
    assert network["ip_addresses"][0]["ip_address"] == "127.0.0.1"


def test_a_summary_counts_what_runs_where(cluster: Cluster, framework_id: str) -> None:
    summary = ask(leader(cluster), "/master/state-summary").json()
    (framework,) = [found for found in summary["frameworks"] if found["id"] == framework_id]
    (agent_id,) = framework["slave_ids"]
    assert framework["TASK_RUNNING"] == 1
    (agent,) = [found for found in summary["slaves"] if found["id"] == agent_id]
    assert agent["TASK_RUNNING"] >= 1
    assert framework_id in agent["framework_ids"]
    assert agent["used_resources"]["cpus"] >= 0.1


def test_exporters_find_their_numbers(cluster: Cluster, framework_id: str) -> None:
    master = ask(leader(cluster), "/metrics/snapshot").json()
    assert master["master/elected"] == 1.0
    assert master["master/tasks_running"] >= 1.0
    assert master["master/slaves_active"] == 2.0
    assert master[f"master/frameworks/old-tools/{framework_id}/tasks/active/task_running"] == 1.0
    assert {"master/uptime_secs", "system/cpus_total", "registrar/state_store_ms", "registrar/registry_size_bytes"} <= master.keys()
    assert {"allocator/mesos/allocation_runs", "allocator/mesos/allocation_run_ms", "master/event_queue_messages"} <= master.keys()
    _, agent = found(cluster, "t.1")
    numbers = ask(url_of(agent["pid"]), "/metrics/snapshot").json()
    assert numbers["slave/registered"] == 1.0
    assert numbers["slave/tasks_running"] >= 1.0
    assert {"slave/uptime_secs", "slave/recovery_time_secs", "system/load_1min"} <= numbers.keys()
    text = ask(leader(cluster), "/metrics").body.decode()
    assert re.search(
        rf'^meseta_framework_tasks_active_task_running{{framework="old-tools",framework_id="{framework_id}"}} 1.0$', text, re.M
    )


# ---- Last, for it changes what the others read ----------------------------------------------------------


def test_tail_follows_a_file_from_its_end(cluster: Cluster, framework_id: str) -> None:
    """`offset=-1` tells the size; from there on whatever is new, an empty answer meaning: not yet."""
    url, directory = sandbox(cluster, "t.1")
    path = f"{directory}/stdout"
    eventually(lambda: read(url, path, -1)["offset"] == len(LINES))
    first = read(url, path, -1)
    assert first == {"data": "", "offset": len(LINES)}
    assert read(url, path, first["offset"], 50000) == {"data": "", "offset": len(LINES)}
    ended = read(url, path, first["offset"] - 100, 50000)
    assert (ended["data"], ended["offset"]) == (LINES[-100:], len(LINES) - 100)
    open(f"{directory}/go", "w").close()  # The sandbox is on this machine.
    assert eventually(lambda: read(url, path, first["offset"], 50000)["data"]) == "last\n"
