"""The scheduler of jobs killed again and again: every slot runs once, and the history says so."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from tests import redis
from tests.chronos.calls.given import working
from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import ask
from tests.e2e.processes import frameworks
from tests.zookeeper import free_ports

pytestmark = pytest.mark.e2e


class Scheduler:
    """One that starts again at once. A supervisor would wait longer each time."""

    def __init__(self, cluster: Cluster, folder: Path, *more: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            *MESETA,
            "serve",
            "chronos",
            "--master",
            cluster.urls["master"],
            "--http-port",
            str(port),
            "--work-dir",
            str(folder),
        ]
        self._command += ["--mesos-framework-name", "killed", *more]
        self._environ, self._log = cluster.environ, folder.with_suffix(".log")
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self.end()
        self._process = self._start()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def works(self) -> bool:
        try:
            return ask(self.url, "/scheduler/jobs/search").status == 200
        except OSError:
            return False

    def post(self, body: str) -> None:
        answer = ask(self.url, "/scheduler/iso8601", "POST", body.encode())
        assert answer.status == 204, answer.body


@contextmanager
def scheduling(cluster: Cluster, folder: Path, *more: str) -> Iterator[Scheduler]:
    made = Scheduler(cluster, folder, *more)
    try:
        eventually(made.works, 60, "the scheduler works")
        yield made
    finally:
        made.end()
        for framework_id, name in frameworks(cluster).items():
            if name == "killed":
                cluster.meseta("framework", "teardown", framework_id)


@pytest.fixture
def scheduler(cluster: Cluster, tmp_path: Path) -> Iterator[Scheduler]:
    with scheduling(cluster, tmp_path / "chronos") as made:
        yield made


def told(scheduler: Scheduler, jobs: list[str]) -> dict[str, list[tuple[int, str]]]:
    """The slots of each job and what became of them, as history has it."""
    found: dict[str, list[tuple[int, str]]] = {}
    for job in jobs:
        before, found[job] = "", []
        while True:
            page = ask(scheduler.url, f"/v1/meseta/runs?job={job}&limit=1000&before={before}").json()
            found[job] += [(run["slot"], run["state"]) for run in page["runs"]]
            before = page["next"]
            if not before:
                break
    return found


@pytest.mark.parametrize(
    ("jobs", "lasting_s"), [(8, 15), pytest.param(200, 180, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])], ids=["small", "full"]
)
def test_each_slot_runs_once(scheduler: Scheduler, tmp_path: Path, jobs: int, lasting_s: int) -> None:
    """Method: kill -9 every few seconds; each run writes its slot down."""
    names = [f"job{number}" for number in range(jobs)]
    marks = {name: tmp_path / f"{name}.marks" for name in names}

    def job(name: str, number: int, disabled: str) -> str:
        more = '"cpus":0.001,"mem":2,"disk":1,"runAsUser":"","meseta":{"catchUp":"all","overlap":"allow"}'
        period = f'"schedule":"R/2026-01-01T00:00:00Z/PT{1 + number % 5}S"'
        return f'{{"name":"{name}","command":"echo $MESETA_SLOT >> {marks[name]}",{period},{more},"disabled":{disabled}}}'

    for number, name in enumerate(names):
        scheduler.post(job(name, number, "false"))
    dice, end_s = random.Random(jobs), time.monotonic() + lasting_s
    while time.monotonic() < end_s:
        time.sleep(dice.uniform(1.0, 5.0))  # Some work between two blows.
        scheduler.kill()
        eventually(scheduler.works, 60, "it works again")
    for number, name in enumerate(names):
        scheduler.post(job(name, number, "true"))
    eventually(lambda: not ask(scheduler.url, "/v1/meseta/live").json()["runs"], 300, "all are over")
    for number, (name, slots) in enumerate(told(scheduler, names).items()):
        period_ms = 1000 * (1 + number % 5)
        assert set(Counter(slot for slot, _ in slots).values()) == {1}, f"{name}: a slot is in the history twice"
        known = sorted(slot for slot, _ in slots)
        assert known == list(range(known[0], known[-1] + period_ms, period_ms)), f"{name}: a slot is missing"
        ran = Counter(map(int, marks[name].read_text().split()))
        assert ran == Counter(slot for slot, state in slots if state == "succeeded"), f"{name}: what ran is not what is told"
        assert {state for _, state in slots} == {"succeeded"}, name


class Hook(BaseHTTPRequestHandler):
    """Is down at first, then keeps what is posted to it."""

    down = True
    posted: ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.down:
            self.posted.append((body["job"], body["occasion"]))
        self.send_response(503 if self.down else 200)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_what_people_are_to_be_told_arrives_after_all(scheduler: Scheduler) -> None:
    """The webhook is down while jobs fail and the scheduler is killed."""
    with serving(Hook) as url:
        for name in ("first", "second"):
            notify = f'"notify":[{{"when":["failure"],"url":"{url}/told"}}]'
            job = f'"name":"{name}","command":"exit 3","schedule":"R1//PT1M","retries":0,"cpus":0.01,"mem":8,"disk":1,"runAsUser":""'
            scheduler.post(f'{{{job},"meseta":{{{notify}}}}}')
        eventually(lambda: len(told(scheduler, ["first", "second"])["second"]) == 1, 60, "the second has failed")
        eventually(lambda: len(told(scheduler, ["first"])["first"]) == 1, 60, "the first has failed")
        scheduler.kill()
        eventually(scheduler.works, 60, "it works again")
        Hook.down = False
        eventually(lambda: len(Hook.posted) >= 2, 60, "both are told")
        assert sorted(Hook.posted) == [("first", "failure"), ("second", "failure")]


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_celery_task_is_followed_by_the_next_process(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = f'{{"name":"sent","schedule":"R1//PT1M","retries":0,"meseta":{{"celery":{{"task":"tests.wait","args":["{gate}"]}}}}}}'
    (tmp_path / "redis").mkdir()
    with (
        redis.started(tmp_path / "redis") as broker,
        working(broker),
        scheduling(cluster, tmp_path / "chronos", "--celery-broker", broker) as scheduler,
    ):

        def runs(path: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = ask(scheduler.url, f"/v1/meseta/{path}?job=sent").json()["runs"]
            return found

        scheduler.post(job)
        eventually(lambda: [run for run in runs("live") if run["state"] == "running"], 60, "it is sent")
        scheduler.kill()
        eventually(scheduler.works, 60, "the scheduler works again")
        assert [run["state"] for run in runs("live")] == ["running"]
        gate.touch()
        (run,) = eventually(lambda: runs("runs"), 60, "it is over")
        assert (run["state"], len(run["attempts"]), run["attempts"][0]["message"]) == ("succeeded", 1, "the task succeeded")
        assert ask(scheduler.url, f"/v1/meseta/runs/{run['id']}/output").json()["stdout"] == "waited"
