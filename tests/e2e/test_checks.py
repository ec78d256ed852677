"""Checks and health checks of tasks on a real cluster, as any v1 client sees them (spec: mesos-v1, sections 3.6 and 8.8)."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, eventually
from tests.e2e.scheduler import Scheduler

pytestmark = pytest.mark.e2e
SLEEP = "exec sleep 1000"
PACE = {"delay_seconds": 0, "interval_seconds": 0.1, "timeout_seconds": 10}
CHECKED, HEALTH = "REASON_TASK_CHECK_STATUS_UPDATED", "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"


@pytest.fixture
def scheduler(cluster: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(cluster, "checks")
    yield made
    made.close()


def command_health(script: str, **fields: Any) -> dict[str, Any]:
    return {"type": "COMMAND", "command": {"value": script}, "grace_period_seconds": 0, **PACE, **fields}


def command_check(script: str, **fields: Any) -> dict[str, Any]:
    return {"type": "COMMAND", "command": {"command": {"value": script}}, **PACE, **fields}


def pids(*words: str) -> list[int]:
    """Processes whose command line has these words in a row."""
    wanted = b"\0".join(word.encode() for word in words)
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if wanted in line:
            found.append(int(entry.name))
    return found


def put(path: Path, text: str) -> Path:
    """Write a file at once, for whoever reads it at any time."""
    path.with_suffix(".new").write_text(text)
    return path.with_suffix(".new").rename(path)


def text(path: Path) -> str:
    """What is in a file, if it is there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def test_a_task_that_turns_unhealthy_is_killed(scheduler: Scheduler, tmp_path: Path) -> None:
    up = put(tmp_path / "up", "")
    scheduler.launch("ill", SLEEP, health_check=command_health(f"test -e {up}", consecutive_failures=2))
    assert scheduler.status("ill", healthy=True)["reason"] == HEALTH
    up.unlink()
    killed = scheduler.status("ill", "TASK_KILLED")
    assert (killed["healthy"], killed["source"]) == (False, "SOURCE_EXECUTOR")
    told = [status.get("healthy") for status in scheduler.statuses if status.get("reason") == HEALTH]
    assert told == [True, False, False]


def test_a_task_may_recover(scheduler: Scheduler, tmp_path: Path) -> None:
    """By what a command finds in its own sandbox: the check has the task's environment and its own beside it."""
    script = "echo seen by $WHO; test -e up || { touch up; exit 1; }"
    health = command_health(script, consecutive_failures=3)
    health["command"]["environment"] = {"variables": [{"name": "WHO", "value": "the check"}]}
    scheduler.launch("recovers", f"echo $MESOS_SANDBOX > {tmp_path}/sandbox; {SLEEP}", health_check=health)
    scheduler.status("recovers", healthy=False)
    scheduler.status("recovers", healthy=True)
    sandbox = Path((tmp_path / "sandbox").read_text().strip())
    assert (sandbox / "up").exists()
    output = sandbox / ".meseta-health-check.output"
    assert eventually(lambda: text(output) == "seen by the check\n")


def test_a_check_tells_exit_codes(scheduler: Scheduler, tmp_path: Path) -> None:
    code = put(tmp_path / "code", "3")
    scheduler.launch("coded", SLEEP, check=command_check(f"exit $(cat {code})"))
    assert scheduler.status("coded")["check_status"] == {"type": "COMMAND", "command": {}}
    told = scheduler.status("coded", check_status={"type": "COMMAND", "command": {"exit_code": 3}})
    assert (told["reason"], told["source"]) == (CHECKED, "SOURCE_EXECUTOR")
    put(code, "0")
    scheduler.status("coded", check_status={"type": "COMMAND", "command": {"exit_code": 0}})
    scheduler.call("RECONCILE", {"tasks": [{"task_id": {"value": "coded"}}]})
    answer = scheduler.status("coded", reason="REASON_RECONCILIATION")
    assert answer["check_status"] == {"type": "COMMAND", "command": {"exit_code": 0}}


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(scheduler: Scheduler) -> None:
    word = f"987{os.getpid()}"
    health = command_health(f"sleep {word} & sleep {word}", timeout_seconds=0.5, consecutive_failures=1)
    scheduler.launch("hangs", SLEEP, health_check=health)
    assert scheduler.status("hangs", "TASK_KILLED")["healthy"] is False
    assert eventually(lambda: pids("sleep", word) == [])


def test_with_its_task_a_command_ends(scheduler: Scheduler, tmp_path: Path) -> None:
    word = f"876{os.getpid()}"
    scheduler.launch(
        "ends", f"until test -e {tmp_path}/end; do sleep 0.1; done", check=command_check(f"touch {tmp_path}/end; sleep {word}")
    )
    scheduler.status("ends", "TASK_FINISHED")
    assert eventually(lambda: pids("sleep", word) == [])


def test_a_command_has_the_user_and_the_control_groups_of_its_task(scheduler: Scheduler, tmp_path: Path) -> None:
    show = "{ id; cat /proc/self/cgroup; pwd; } >"
    check = command_check(f"{show} {tmp_path}/check")
    scheduler.launch("shared", f"{show} {tmp_path}/task; {SLEEP}", check=check)
    scheduler.status("shared", check_status={"type": "COMMAND", "command": {"exit_code": 0}})
    assert eventually(lambda: text(tmp_path / "check") == text(tmp_path / "task") != "")


class _Page(BaseHTTPRequestHandler):
    """Answers with the status its server has."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Not to be seen."""


def test_http_and_tcp(scheduler: Scheduler) -> None:
    """Both at once: each update carries what the other found last."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    server.status = 200  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        check = {"type": "HTTP", "http": {"port": server.server_port, "path": "/up"}, **PACE}
        port = listener.getsockname()[1]
        health = {"type": "TCP", "tcp": {"port": port}, "grace_period_seconds": 0, "consecutive_failures": 1, **PACE}
        scheduler.launch("served", SLEEP, check=check, health_check=health)
        found = {"type": "HTTP", "http": {"status_code": 200}}
        scheduler.status("served", healthy=True, check_status=found)
        server.status = 503  # type: ignore[attr-defined]
        scheduler.status("served", healthy=True, check_status={"type": "HTTP", "http": {"status_code": 503}})
    server.shutdown()
    server.server_close()
    assert scheduler.status("served", "TASK_KILLED")["healthy"] is False


def test_an_unhealthy_task_brings_its_group_down(scheduler: Scheduler) -> None:
    scheduler.launch_group("checked", {"sick": SLEEP, "mate": SLEEP}, health_check=command_health("exit 1", consecutive_failures=1))
    assert scheduler.status("sick", "TASK_KILLED")["healthy"] is False
    assert scheduler.status("mate", "TASK_KILLED")["healthy"] is False


def test_checks_go_on_when_agent_or_launcher_are_killed(start_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """What was told is not told again; the command that was under way is left to nobody; the task is killed when it is time."""
    cluster = start_cluster(agents=1, only="master,agent")
    scheduler = Scheduler(cluster, "checks")
    up, code, word = put(tmp_path / "up", ""), put(tmp_path / "code", "4"), f"765{os.getpid()}"
    scheduler.launch(
        "lasting",
        SLEEP,
        health_check=command_health(f"test -e {up}", consecutive_failures=2),
        check=command_check(f"test -e {code} || exec sleep {word}; exit $(cat {code})", timeout_seconds=1000),
    )
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 4}})
    code.unlink()
    eventually(lambda: pids("sleep", word))
    put(code, "5")
    cluster.kill("agent-1")
    assert eventually(lambda: pids("sleep", word) == [])
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 5}})
    (launcher,) = pids("--dir", f"{cluster.work_dir}/agent-1/launcher")
    os.kill(launcher, signal.SIGKILL)
    put(code, "6")
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 6}})
    up.unlink()
    assert scheduler.status("lasting", "TASK_KILLED")["healthy"] is False
    told = {s["uuid"]: (s.get("healthy"), s["check_status"]) for s in scheduler.statuses if s.get("reason") in (CHECKED, HEALTH)}
    assert [healthy for healthy, _ in told.values()].count(False) == 2
    codes = [check_status["command"].get("exit_code") for _, check_status in told.values()]
    assert [code for code, _ in groupby(codes) if code is not None] == [4, 5, 6]
    scheduler.close()
