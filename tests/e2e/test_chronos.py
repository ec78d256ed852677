"""The scheduler of jobs as an old client of Chronos sees it, and what is left of its history when everything is killed."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import Answer, ask
from tests.e2e.processes import frameworks, settled

pytestmark = pytest.mark.e2e

DAEMONS = ("chronos", "agent-1", "master")


@pytest.fixture(scope="module")
def chronos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("chronos"), agents=1, only="master,agent,chronos")
    try:
        made.up()
        yield made
    finally:
        made.down()


def call(cluster: Cluster, method: str, path: str, body: Any = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    return ask(cluster.urls["chronos"], path, method, data)


def post(cluster: Cluster, name: str, command: str, **fields: Any) -> None:
    kind = "dependency" if "parents" in fields else "iso8601"
    job = {"name": name, "command": command, "cpus": 0.05, "mem": 32, "disk": 0, "runAsUser": "", **fields}
    answer = call(cluster, "POST", f"/scheduler/{kind}", job)
    assert (answer.status, answer.body) == (204, b""), answer.body


def runs(cluster: Cluster, job: str, **query: str) -> list[dict[str, Any]]:
    """History, the oldest first."""
    asked = "&".join(f"{name}={value}" for name, value in {"job": job, "limit": "1000", **query}.items())
    answer = call(cluster, "GET", f"/v1/meseta/runs?{asked}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["runs"]
    return found[::-1]


def ended(cluster: Cluster, job: str, count: int = 1) -> list[dict[str, Any]]:
    return eventually(lambda: found if len(found := runs(cluster, job)) >= count else None, 60, f"{count} runs of {job} are over") or []


def test_a_client_of_chronos_posts_jobs_and_they_run(chronos: Cluster) -> None:
    post(chronos, "old.parent", "echo out; echo err >&2", schedule="R1//PT1M")
    post(chronos, "old.child", "echo $CHRONOS_JOB_NAME $MESETA_PARENTS", parents=["old.parent"])
    (parent,), (child,) = ended(chronos, "old.parent"), ended(chronos, "old.child")
    assert (parent["state"], parent["cause"], parent["attempts"][0]["exitStatus"]) == ("succeeded", "schedule", 0)
    assert (child["state"], child["cause"], child["identity"]) == ("succeeded", "parent", parent["id"])
    job = call(chronos, "GET", "/v1/scheduler/job/old.parent").json()
    assert (job["successCount"], job["disabled"], job["lastError"]) == (1, True, "")

    def output() -> Any:
        found = call(chronos, "GET", f"/v1/meseta/runs/{parent['id']}/output").json()
        return found if found["kept"] else None

    kept = eventually(output, 20, "its output is kept")
    assert (kept["stdout"].splitlines()[-1], kept["stderr"].splitlines()[-1]) == ("out", "err")
    stat = call(chronos, "GET", "/scheduler/job/stat/old.parent").json()
    assert stat["histogram"]["count"] == 1
    assert [task["status"] for task in stat["taskStatHistory"]] == ["Success"]


def test_a_job_without_a_command_succeeds_as_a_join(chronos: Cluster) -> None:
    post(chronos, "join.parent", "", schedule="R1//PT1M")
    post(chronos, "join.child", "true", parents=["join.parent"])
    (parent,), (child,) = ended(chronos, "join.parent"), ended(chronos, "join.child")
    assert (parent["state"], parent["attempts"][0]["exitStatus"], child["state"]) == ("succeeded", 0, "succeeded")


def test_why_a_run_waits_is_told_by_the_master(chronos: Cluster) -> None:
    post(chronos, "huge", "true", schedule="R1//PT1M", cpus=10_000)

    def waits() -> Any:
        shown = json.loads(chronos.meseta("cron", "show", "huge", "--url", chronos.urls["chronos"], "--json").stdout)
        return shown if shown["unblocks"] else None

    shown = eventually(waits, 30, "the master knows why it waits") or {}
    assert shown["why"].startswith("no agent ")
    assert shown["unblocks"] == "a larger agent, or a smaller demand"
    assert call(chronos, "DELETE", "/scheduler/job/huge").status == 204


def test_run_now_with_arguments_failure_and_a_dead_letter(chronos: Cluster) -> None:
    post(chronos, "now", "sh -c 'echo $0; exit 3'", schedule="R/2099-01-01T00:00:00Z/P1D", retries=0)
    assert call(chronos, "PUT", "/scheduler/job/now?arguments=hello").status == 204
    (run,) = ended(chronos, "now")
    assert (run["state"], run["attempts"][0]["exitStatus"], run["arguments"]) == ("failed", 3, "hello")
    summary = {job["name"]: job for job in call(chronos, "GET", "/v1/scheduler/jobs/summary").json()["jobs"]}
    assert (summary["now"]["status"], summary["now"]["state"]) == ("failure", "idle")


class Hook(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    posted: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.posted.append((self.path, body))
        self.send_response(500 if self.path == "/fails" else 200)
        self.end_headers()
        self.wfile.write(b"said the hook")

    def log_message(self, *arguments: Any) -> None:
        pass


def test_a_job_that_calls_a_url_runs_without_a_task_and_its_failure_is_told(chronos: Cluster) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        for name in ("works", "fails"):
            http = {"url": f"{url}/{name}", "method": "POST", "body": "{}"}
            notify = [{"when": ["failure"], "url": f"{url}/told"}]
            post(chronos, name, "", schedule="R1//PT1M", retries=0, owner="me", meseta={"http": http, "notify": notify})
        states = {name: ended(chronos, name)[0] for name in ("works", "fails")}
        assert [(run["state"], run["attempts"][0]["message"]) for run in states.values()] == [
            ("succeeded", "the answer was 200"),
            ("failed", "the answer was 500, expected 200-299"),
        ]
        output = call(chronos, "GET", f"/v1/meseta/runs/{states['works']['id']}/output").json()
        assert (output["kept"], output["stdout"]) == (True, "said the hook")
        told = eventually(lambda: [body for path, body in list(Hook.posted) if path == "/told"], 30, "the failure is told")
        assert [(body["occasion"], body["job"], body["state"], body["owner"]) for body in told] == [("failure", "fails", "failed", "me")]
    finally:
        server.shutdown()
        server.server_close()


def test_the_cluster_knows_it(chronos: Cluster) -> None:
    assert list(frameworks(chronos).values()) == ["chronos"]
    status = chronos.json("status")
    assert {daemon["name"]: daemon["state"] for daemon in status["daemons"]}["chronos"] == "running"
    assert call(chronos, "GET", "/ping").body == b"pong"
    assert call(chronos, "GET", "/leader").json()["leader"] == chronos.urls["chronos"].removeprefix("http://")


def test_a_port_that_is_taken_is_one_line_and_status_1(chronos: Cluster, tmp_path: Path) -> None:
    port = chronos.urls["chronos"].rpartition(":")[2]
    command = [*MESETA, "serve", "chronos", "--work-dir", str(tmp_path), "--http-port", port]
    done = subprocess.run(command, env=chronos.environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr == f"Error: cannot listen on 127.0.0.1 port {port}: Address already in use\n"


def test_no_slot_is_lost_or_doubled_when_everything_is_killed(chronos: Cluster, tmp_path: Path) -> None:
    """Each slot is in the history exactly once, and what the jobs wrote agrees."""
    marks = tmp_path / "marks"
    marks.touch()
    every_second, meseta = "R/2026-01-01T00:00:00Z/PT1S", {"catchUp": "all", "overlap": "allow"}
    post(chronos, "often", f"echo $MESETA_SLOT >> {marks}", schedule=every_second, meseta=meseta)
    first = ended(chronos, "often", 3)[0]["slot"]
    for name in DAEMONS:
        chronos.kill(name)
        settled(chronos)
        time.sleep(1)  # Some work between two blows.
    post(chronos, "often", "true", schedule=every_second, disabled=True)
    eventually(lambda: not call(chronos, "GET", "/v1/meseta/live?job=often").json()["runs"], 60, "all are over")
    history = runs(chronos, "often")
    slots = sorted(run["slot"] for run in history)
    assert slots == list(range(first, slots[-1] + 1000, 1000)), "every slot, once"
    ran = sorted(int(line) for line in marks.read_text().split())
    succeeded = sorted(run["slot"] for run in history if run["state"] == "succeeded" and run["attempts"])
    assert set(succeeded) <= set(ran)
    assert len(ran) == len(set(ran)) or {slot for slot in ran if ran.count(slot) > 1} <= {
        run["slot"] for run in history if len(run["attempts"]) > 1
    }


def test_a_cluster_that_is_stopped_and_started_knows_its_jobs_and_their_history(chronos: Cluster) -> None:
    post(chronos, "kept", "true", schedule="R1//PT1M")
    (run,) = ended(chronos, "kept")
    before, known = frameworks(chronos), call(chronos, "GET", "/scheduler/job/kept").json()
    chronos.down()
    chronos.up()
    settled(chronos)
    assert eventually(lambda: frameworks(chronos), 30, "it is subscribed") == before
    assert call(chronos, "GET", "/scheduler/job/kept").json() == known
    assert runs(chronos, "kept") == [run]
