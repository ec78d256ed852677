"""Two schedulers of jobs on one ZooKeeper: either is asked, one leads, and the other takes its place. Whom they ask wants credentials."""

from __future__ import annotations

import base64
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import Answer, ask
from tests.e2e.processes import frameworks
from tests.zookeeper import Zookeeper, free_ports

pytestmark = pytest.mark.e2e

SESSION_S = 4
USER, SECRET = "ann", "a-secret"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{SECRET}".encode()).decode()


class Standby:
    """One of the two."""

    def __init__(self, cluster: Cluster, folder: Path, zk: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._command = [*MESETA, "serve", "chronos", "--master", cluster.urls["master"], "--zk", zk, "--http-port", str(port)]
        self._command += ["--work-dir", str(folder), "--zk-session-timeout", f"{SESSION_S}secs", "--mesos-framework-name", "standby"]
        self._command += ["--http-credentials", f"{USER}:{SECRET}"]
        self.log = folder.with_suffix(".log")
        self._environ = cluster.environ
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Answer | None:
        try:
            return ask(self.url, path, method, body, Authorization=AUTHORIZATION)
        except OSError:
            return None

    def leader(self) -> str:
        answer = self.ask("GET", "/leader")
        return answer.json()["leader"] if answer is not None and answer.status == 200 else ""

    @property
    def leads(self) -> bool:
        return f"http://{self.leader()}" == self.url


@pytest.fixture
def two(cluster: Cluster, zookeeper: Zookeeper, tmp_path: Path) -> Iterator[list[Standby]]:
    zk = zookeeper.url("standby").replace("zk://", f"zk://{USER}:{SECRET}@")
    made = [Standby(cluster, tmp_path / f"chronos-{port}", zk, port) for port in free_ports(2)]
    try:
        yield made
    finally:
        for standby in made:
            standby.process.kill()
            standby.process.wait()
        for framework_id, name in frameworks(cluster).items():
            if name == "standby":
                cluster.meseta("framework", "teardown", framework_id)


def working(standby: Standby) -> bool:
    answer = standby.ask("GET", "/scheduler/jobs")
    return answer is not None and answer.status == 200


def test_either_is_asked_and_one_takes_the_other_s_place(two: list[Standby], cluster: Cluster) -> None:
    eventually(lambda: all(working(standby) for standby in two), 60, "both answer")
    first, second = two if two[0].leads else two[::-1]
    assert first.leader() == second.leader() == first.url.removeprefix("http://")
    job = b'{"name":"j","command":"true","runAsUser":"","schedule":"R/2026-01-01T00:00:00Z/PT1S","meseta":{"catchUp":"all"}}'
    posted = second.ask("POST", "/scheduler/iso8601", job)
    assert posted is not None
    assert (posted.status, posted.body) == (204, b""), "it is passed on"
    assert first.ask("GET", "/scheduler/job/j").status == 200  # type: ignore[union-attr]
    refused = second.ask("GET", "/scheduler/job/none")
    assert refused is not None
    assert (refused.status, refused.json()["status"]) == (400, "Bad Request")
    eventually(lambda: _runs(second), 60, "it runs")
    (framework_id,) = [found for found, name in frameworks(cluster).items() if name == "standby"]

    ran = {run["id"] for run in _runs(second)}

    first.process.send_signal(signal.SIGSTOP)  # It is silent, but lives: another leads, and it acts no more when it wakes up.
    eventually(lambda: second.leads and working(second), 60, "the other leads")
    eventually(lambda: len(_runs(second)) > 2, 60, "its jobs go on")
    slots = sorted(run["slot"] for run in _runs(second))
    assert slots == list(range(slots[0], slots[-1] + 1000, 1000))
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(60) == 1, "a stale leader ends"
    assert [found for found, name in frameworks(cluster).items() if name == "standby"] == [framework_id]

    first.start()
    eventually(lambda: ran <= {run["id"] for run in _runs(second)}, 60, "what ran under the other is known")
    ran = {run["id"] for run in _runs(second)}
    second.process.kill()
    second.process.wait()
    eventually(lambda: first.leads and working(first), 60, "the first leads again")
    second.start()
    eventually(lambda: ran <= {run["id"] for run in _runs(first)}, 60, "and knows what ran meanwhile")
    slots = sorted(run["slot"] for run in _runs(first))
    assert slots == list(range(slots[0], slots[-1] + 1000, 1000))
    for standby in two:
        told = standby.log.read_text()
        assert "schedulers on other machines do not reach this one" in told
        assert SECRET not in told


def _runs(standby: Standby) -> list[dict[str, Any]]:
    answer = standby.ask("GET", "/v1/meseta/runs?job=j&limit=1000")
    found: list[dict[str, Any]] = answer.json()["runs"] if answer is not None and answer.status == 200 else []
    return found
