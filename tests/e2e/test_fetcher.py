"""Tasks that bring their files with them, through the whole cluster."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import alive
from tests.kernel.agent.fetcher.test_extract import entry, tar

pytestmark = pytest.mark.e2e

APP = gzip.compress(tar(entry("app/run", b'#!/bin/sh\necho "hello from $(basename $0)"; exit 3\n', mode=0o755)))
HADOOP = """#!/bin/sh
[ "$1 $2" = "fs -copyToLocal" ] || exit 64
case "$3" in
    */missing) echo "copyToLocal: \\`$3': No such file or directory" >&2; exit 1;;
    *) echo "echo copied $3" > "$4";;
esac
"""
HANG = """#!/bin/sh
echo half > "$2"
sleep 1000 &
echo $$ $! > "$HANG_TO.new" && mv "$HANG_TO.new" "$HANG_TO"
wait
"""


class Site(BaseHTTPRequestHandler):
    """`/app.tar.gz`, and `/held`, which is answered when the test lets it."""

    asked: ClassVar[threading.Event]
    release: ClassVar[threading.Event]

    def do_GET(self) -> None:
        if self.path not in ("/app.tar.gz", "/held"):
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/held":
            self.wfile.write(b"begun ")
            self.asked.set()
            self.release.wait(60)
        self.wfile.write(APP)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """The URL of a web server."""
    Site.asked, Site.release = threading.Event(), threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A folder that other users can reach."""
    path = Path(tempfile.mkdtemp(prefix="meseta-fetcher-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    """One agent that has a hadoop client, and a command for the scheme `hang` that never ends."""
    for name, text in (("bin/hadoop", HADOOP), ("hang", HANG.replace("$HANG_TO", f"{home}/hanging"))):
        program = home / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    environ = {
        "MESETA_HADOOP_HOME": str(home),
        "MESETA_FRAMEWORKS_HOME": str(home),
        "MESETA_FETCHER_COMMANDS": json.dumps({"hang": [f"{home}/hang", "{uri}", "{path}"]}),
        "no_proxy": "127.0.0.1",
    }
    started = Cluster(home, agents=1, only="master,agent", environ=environ)
    try:
        started.up()
        yield started
    finally:
        started.down()


def failure(cluster: Cluster, *arguments: str) -> str:
    """Why a run failed; it could not be launched."""
    done = cluster.meseta("run", "--json", *arguments, "--", "true", check=False)
    assert done.returncode == 125
    (ended,) = [event for event in map(json.loads, done.stdout.splitlines()) if event["type"] == "ended"]
    assert ended["state"] == "TASK_FAILED"
    message: str = ended["message"]
    return message


def half_done(cluster: Cluster) -> list[str]:
    return os.listdir(cluster.work_dir / "agent-1/fetcher/staging")


@contextmanager
def running(cluster: Cluster, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = cluster.spawn([*MESETA, "run", *arguments], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_task_runs_what_was_fetched_and_extracted(cluster: Cluster, site: str) -> None:
    digest = hashlib.sha256(APP).hexdigest()
    done = cluster.meseta("run", "--fetch", f"{site}/app.tar.gz#sha256={digest}", "--", "./app/run", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("hello from run\n", "", 3)
    assert half_done(cluster) == []


def test_a_wrong_checksum(cluster: Cluster, site: str) -> None:
    uri = f"{site}/app.tar.gz#sha256={'0' * 64}"
    found = hashlib.sha256(APP).hexdigest()
    assert failure(cluster, "--fetch", uri) == f"Failed to launch container: Failed to fetch {uri}: its checksum is {found}, not {'0' * 64}"


def test_what_is_not_there(cluster: Cluster, site: str) -> None:
    message = failure(cluster, "--fetch", site.replace("//", "//me:secret@") + "/missing")
    assert message == f"Failed to launch container: Failed to fetch {site}/missing: the server answers 404 Not Found"


def test_a_path_of_the_agents_machine(cluster: Cluster, home: Path) -> None:
    (home / "script").write_text("echo from the machine\n")
    assert cluster.meseta("run", "--fetch", "script", "--", "sh", "script").stdout == "from the machine\n"
    assert cluster.meseta("run", "--fetch", f"file://{home}/script", "--", "sh", "script").stdout == "from the machine\n"


def test_hdfs(cluster: Cluster) -> None:
    assert cluster.meseta("run", "--fetch", "hdfs://h/script", "--", "sh", "script").stdout == "copied hdfs://h/script\n"
    message = failure(cluster, "--fetch", "hdfs://h/missing")
    assert message.endswith("hadoop exited with status 1: copyToLocal: `hdfs://h/missing': No such file or directory")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start tasks as somebody else")
def test_what_a_user_may_not_read_is_not_fetched_for_him(cluster: Cluster, home: Path, site: str) -> None:
    secret = home / "secret"
    secret.write_text("of root\n")
    secret.chmod(0o600)
    message = failure(cluster, "--user", "nobody", "--fetch", str(secret))
    assert message == f"Failed to launch container: Failed to fetch {secret}: Permission denied"
    arguments = ("--user", "nobody", "--fetch", f"{site}/app.tar.gz", "--fetch", "hdfs://h/script")
    script = "stat -c %U app.tar.gz app app/run script; sh script; app/run; true"
    *owners, copied, hello = cluster.meseta("run", *arguments, "--", "sh", "-c", script).stdout.splitlines()
    assert (owners, copied, hello) == (["nobody"] * 4, "copied hdfs://h/script", "hello from run")


def test_a_kill_ends_the_fetching_at_once(cluster: Cluster, site: str) -> None:
    with running(cluster, "--json", "--fetch", f"{site}/held", "--", "true") as process:
        assert Site.asked.wait(60)
        assert len(half_done(cluster)) == 1
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    (ended,) = [event for event in map(json.loads, output.splitlines()) if event["type"] == "ended"]
    assert ended["state"] == "TASK_KILLED"
    assert not Site.release.is_set()
    assert half_done(cluster) == []


def test_a_kill_ends_the_program_that_fetches(cluster: Cluster, home: Path) -> None:
    with running(cluster, "--json", "--fetch", "hang://h/file", "--", "true") as process:
        eventually((home / "hanging").exists, 60)
        pids = [int(pid) for pid in (home / "hanging").read_text().split()]
        assert all(alive(pid) for pid in pids)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert [event["state"] for event in map(json.loads, output.splitlines()) if event["type"] == "ended"] == ["TASK_KILLED"]
    eventually(lambda: not any(alive(pid) for pid in pids))
    assert half_done(cluster) == []
