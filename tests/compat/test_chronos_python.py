"""PyPI's chronos-python 1.2.1, unmodified, and the tools that come with it, against a real cluster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, eventually
from tests.compat.test_pymesos import PYTHON

HERE = Path(__file__).parent
JOB = {"name": "old", "command": "echo $GREETING; exit 3", "owner": "me@x.org", "disabled": False, "async": False}
SMALL = {"cpus": 0.05, "mem": 32, "disk": 0}

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not PYTHON.exists(), reason="no chronos-python: run tests/compat/setup_clients.sh"),
]


@pytest.fixture(scope="module")
def chronos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("chronos-python"), agents=1, only="master,agent,chronos")
    try:
        made.up()
        yield made
    finally:
        made.down()


def server(cluster: Cluster) -> str:
    return cluster.urls["chronos"].removeprefix("http://")


class Client:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, method: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)


@contextmanager
def client(cluster: Cluster, version: str) -> Iterator[Client]:
    command = [str(PYTHON), str(HERE / "chronos_python_client.py"), server(cluster), version]
    environ = {name: value for name, value in cluster.environ.items() if name != "PYTHONPATH"}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Client(process)
        finally:
            process.kill()


@pytest.mark.parametrize("version", ["v1", "-"], ids=["of 3.x", "of 2.x"])
def test_every_call_of_the_client(chronos: Cluster, version: str) -> None:
    with client(chronos, version) as call:
        variables = [{"name": "GREETING", "value": "hello"}]
        job = {**JOB, **SMALL, "schedule": "R/2099-01-01T00:00:00Z/P1D", "retries": 0, "environmentVariables": variables}
        child = {**JOB, **SMALL, "name": "below", "command": "true", "parents": ["old"]}
        assert call("add", job) is None
        assert call("add", child) is None
        assert call("add", {**JOB, "name": "bad", "schedule": "R/soon/P1D"}) == {"raised": "ChronosAPIError"}
        assert sorted(one["name"] for one in call("list")) == ["below", "old"]
        assert [one["name"] for one in call("search", "OLD")] == ["old"]
        assert [one["name"] for one in call("search", None, "greeting")] == ["old"]
        assert call("update", {**job, "description": "changed"}) is None
        assert {one["name"]: one["description"] for one in call("list")}["old"] == "changed"
        assert call("run", "old") is None
        eventually(lambda: {one["name"]: one["errorCount"] for one in call("list")}["old"] == 1, 60, "it has failed")
        assert call("update", {**job, "command": "sleep 1000"}) is None
        assert call("run", "old") is None
        eventually(lambda: "running" in call("scheduler_graph"), 60, "it runs")
        assert "link,old,below" in call("scheduler_graph")
        assert call("delete_tasks", "old") is None
        eventually(lambda: "running" not in call("scheduler_graph"), 60, "it is killed")
        assert call("update", {**job, "command": "true"}) is None
        assert call("run", "old") is None
        eventually(lambda: call("job_stat", "old")["histogram"]["count"] == 1, 60, "it has succeeded")
        for name in ("99th", "98th", "95th", "75th", "median", "mean"):
            assert {one["jobNameLabel"]: one["time"] for one in call(f"scheduler_stat_{name}")}["old"] > 0
        assert "gauges" in call("metrics")
        assert call("delete", "nobody") == {"raised": "ChronosAPIError"}
        assert call("delete", "below") is None
        assert call("delete", "old") is None
        assert call("list") == []


def test_its_tool_brings_a_folder_over_and_finds_nothing_more_to_do(chronos: Cluster, tmp_path: Path) -> None:
    child, root = {**JOB, "name": "a-child", "parents": ["b-root"]}, {**JOB, "name": "b-root", "schedule": "R/2099-01-01T00:00:00.000Z/P1D"}
    for job in (child, root):
        (tmp_path / f"{job['name']}.json").write_text(json.dumps(job))
    command = [str(PYTHON), str(PYTHON.with_name("chronos-sync-jobs.py")), "--hostname", server(chronos), "--sync", str(tmp_path)]

    def sync() -> str:
        environ = {name: value for name, value in chronos.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout

    first = sync()
    assert "Adding job b-root" in first
    assert "Failed Jobs" not in first
    again = sync()
    assert again.count("up-to-date on Chronos") == 2, again
    for name in ("a-child", "b-root"):
        chronos.meseta("cron", "rm", name)
