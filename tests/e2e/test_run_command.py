"""`meseta run` as a person at a terminal sees it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import alive, naming, task

pytestmark = pytest.mark.e2e


@contextmanager
def running(cluster: Cluster, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `meseta run` that goes on until it is told to end."""
    process = cluster.spawn([*MESETA, "run", *arguments], stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def frameworks(cluster: Cluster, name: str) -> list[str]:
    return [framework["id"] for framework in cluster.json("framework", "list") if framework["name"] == f"run-{name}"]


def test_output_comes_while_the_task_runs(cluster: Cluster, tmp_path: Path) -> None:
    """The task waits for what only its first line lets happen."""
    gate = tmp_path / "gate"
    with running(cluster, "--", "sh", "-c", f"echo first; until test -e {gate}; do sleep 0.05; done; echo second; exit 3") as process:
        assert line(process) == "first\n"
        assert process.poll() is None
        gate.touch()
        output, errors = process.communicate(timeout=30)
    assert (output, errors, process.returncode) == ("second\n", "", 3)


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 0", 0), ("exit 3", 3), ("exit 125", 125), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("kill -USR1 $$", 138)],
)
def test_it_ends_as_the_task_does(cluster: Cluster, script: str, status: int) -> None:
    assert cluster.meseta("run", "--", "sh", "-c", script, check=False).returncode == status


def test_what_cannot_run_is_125(cluster: Cluster) -> None:
    done = cluster.meseta("run", "--", "/no/such/program", check=False)
    assert done.returncode == 125
    assert "/no/such/program" in done.stderr
    assert "No such file or directory" in done.stderr


def test_without_a_master_it_is_125_and_says_what_to_do(cluster: Cluster) -> None:
    with socket.socket() as closed:  # Bound and not listening: nobody else can answer there.
        closed.bind(("127.0.0.1", 0))
        master = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = cluster.meseta("run", "--master", master, "--json", "--", "true", check=False)
    assert done.returncode == 125
    assert done.stdout == ""
    error = json.loads(done.stderr)
    assert error["error"].startswith(f"cannot reach the master at {master}")
    assert error["field"] == "--master"
    assert "meseta up" in error["hint"]


def test_what_the_master_refuses_is_125_and_says_why(cluster: Cluster) -> None:
    done = cluster.meseta("run", "--role", "two words", "--", "true", check=False)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("Error: framework_info.roles: ")


@pytest.mark.parametrize("arguments", ["--", "--cpus 0 -- true", "--cpus x -- true", "--env NOVALUE -- true", "--nonsense -- true"])
def test_wrong_usage_is_2(cluster: Cluster, arguments: str) -> None:
    done = cluster.meseta("run", *arguments.split(), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: meseta run" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_kills_the_task(cluster: Cluster, tmp_path: Path) -> None:
    script = f"trap 'echo caught; touch {tmp_path}/caught; exit 0' TERM; echo begun; while :; do sleep 0.05; done"
    with running(cluster, "--name", "interrupted", "--", "sh", "-c", script) as process:
        assert line(process) == "begun\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (output, process.returncode) == ("caught\n", 130), errors
    assert (tmp_path / "caught").exists()
    assert not frameworks(cluster, "interrupted")


def test_a_second_ctrl_c_leaves_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """The task will not die for SIGTERM; it does after its grace period, with nobody there to wait for it."""
    script = f"trap '' TERM; echo begun; echo $$ > {tmp_path}/pid; while :; do sleep 0.05; done"
    with running(cluster, "--name", "stubborn", "--", "sh", "-c", script) as process:
        assert line(process) == "begun\n"
        process.send_signal(signal.SIGINT)
        (row,) = [row for row in cluster.json("task", "list") if row["name"] == "stubborn"]
        eventually(lambda: task(cluster, row["id"])["state"] == "TASK_KILLING")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    pid = int((tmp_path / "pid").read_text())
    eventually(lambda: not alive(pid), 40)


def test_a_closed_pipe_ends_the_task(cluster: Cluster, tmp_path: Path) -> None:
    """`meseta run -- yes | head -1`."""
    with running(cluster, "--name", "yes", "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; while :; do echo y; sleep 0.02; done") as process:
        assert line(process) == "y\n"
        assert process.stdout is not None
        process.stdout.close()
        process.wait(30)
    assert process.returncode != 0
    assert not alive(int((tmp_path / "pid").read_text()))


def test_output_that_cannot_be_written_ends_the_task(cluster: Cluster, tmp_path: Path) -> None:
    """`meseta run -- yes > /srv/file`, where the disk is full."""
    script = f"echo $$ > {tmp_path}/pid; while :; do echo y; sleep 0.02; done"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MESETA, "run", "--name", "yes", "--", "sh", "-c", script],
            env=cluster.environ, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "Error: cannot write the output: No space left on device\n")
    assert not alive(int((tmp_path / "pid").read_text()))


def test_much_output_comes_whole_and_as_it_is(cluster: Cluster) -> None:
    done = subprocess.run(
        [*MESETA, "run", "--", "sh", "-c", r"seq 1 200000; printf '\377\000end'"], env=cluster.environ, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 200_001)) + b"\xff\0end"


def test_the_task_gets_its_environment_and_name(cluster: Cluster) -> None:
    done = cluster.meseta("run", "--name", "my job/1", "--env", "A=1=2", "--env", "EMPTY=", "--", "sh", "-c", 'echo "$A,$EMPTY,$PWD"; ls')
    variables, _, sandbox = done.stdout.splitlines()[0].rpartition(",")
    assert variables == "1=2,"
    assert done.stdout.splitlines()[1:] == ["stderr", "stdout"]
    assert sandbox.startswith(str(cluster.work_dir))
    (task,) = [task for task in cluster.json("task", "list", "--all") if task["name"] == "my-job-1"]
    assert task["state"] == "TASK_FINISHED"
    assert f"/executors/{task['id']}/runs/" in sandbox


def test_many_instances_are_summed_up(cluster: Cluster, tmp_path: Path) -> None:
    done = cluster.meseta("run", "--instances", "50", "--", "sh", "-c", f"mktemp {tmp_path}/ran.XXXXXX")
    assert re.fullmatch(r"50 tasks: 50 succeeded, 0 failed in [\d.]+ s \(\d+/s\)\n", done.stdout)
    assert len(list(tmp_path.iterdir())) == 50


def test_one_failure_of_many_is_named_and_fails_all(cluster: Cluster, tmp_path: Path) -> None:
    script = f"mkdir {tmp_path}/only-once || exit 0; exit 9"
    done = cluster.meseta("run", "--name", "lottery", "--instances", "10", "--", "sh", "-c", script, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("10 tasks: 9 succeeded, 1 failed in ")
    assert re.search(r"lottery-[0-9a-f]{8}-\d+ failed on \S+: Command exited with status 9", done.stderr)


def test_as_json_it_is_one_object_a_line(cluster: Cluster) -> None:
    done = cluster.meseta("run", "--json", "--name", "talk", "--", "sh", "-c", "echo out; echo err >&2; exit 4", check=False)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 4
    outputs = [(one["stream"], one["data"]) for one in lines if one["type"] == "output"]
    assert sorted(outputs) == [("stderr", "err\n"), ("stdout", "out\n")]
    (ended,) = [one for one in lines if one["type"] == "ended"]
    assert ended == {**ended, "state": "TASK_FAILED", "exit_status": 4, "message": "Command exited with status 4"}
    assert lines[-1] == {**lines[-1], "type": "result", "task_ids": [ended["task_id"]], "exit_status": 4}
    assert set(ended) == {"type", "task_id", "state", "exit_status", "hostname", "message"}
    assert set(lines[-1]) == {"type", "framework_id", "task_ids", "exit_status"}


def test_detached_tasks_go_on_without_it(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo begun; until test -e {gate}; do sleep 0.05; done; echo done; exit 5"
    task_id = cluster.meseta("run", "--detach", "--name", "away", "--", "sh", "-c", script).stdout.strip()
    assert cluster.json("task", "show", task_id)["state"] == "TASK_RUNNING"
    follower = cluster.spawn([*MESETA, "task", "logs", "-f", task_id], stderr=subprocess.PIPE)
    try:
        assert line(follower) == "begun\n"
        gate.touch()
        assert follower.communicate(timeout=30) == ("done\n", "")
        assert follower.returncode == 0
    finally:
        follower.kill()
        follower.communicate()
    eventually(lambda: task(cluster, task_id)["state"] == "TASK_FAILED")
    eventually(lambda: not frameworks(cluster, "away"), what="its framework ends with it")
    assert cluster.json("task", "show", task_id)["statuses"][-1]["message"] == "Command exited with status 5"
    assert cluster.meseta("task", "logs", task_id).stdout == "begun\ndone\n"


def test_what_no_agent_has_is_said(cluster: Cluster) -> None:
    with running(cluster, "--name", "huge", "--cpus", "4000", "--", "true") as process:
        assert process.stderr is not None
        told = process.stderr.readline()
        assert told.startswith("meseta run: waiting for cpus:4000; mem:32: no agent has more than "), told
        assert told.endswith(" cpus, and 4000 is needed; a larger agent, or a smaller demand\n"), told
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert not frameworks(cluster, "huge")


def test_a_terminal_shows_progress(cluster: Cluster, tmp_path: Path) -> None:
    """What is shown is right also while nothing happens: the tasks end once all are shown to run, or after 20 s."""
    gate = tmp_path / "gate"
    ours, theirs = pty.openpty()
    try:
        script = f"for i in $(seq 200); do test -e {gate} && exit; sleep 0.1; done; exit 1"
        process = cluster.spawn([*MESETA, "run", "--cpus", "0.01", "--instances", "20", "--", "sh", "-c", script], stderr=theirs)
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
                if b"20 running, 0 failed" in shown:
                    gate.touch()
        except OSError:  # What a terminal says when nobody writes any more.
            pass
        output, _ = process.communicate(timeout=30)
    finally:
        os.close(ours)
    assert output.startswith("20 tasks: 20 succeeded, 0 failed")
    assert b"20/20" in shown


def test_its_whole_process_group_is_killed(cluster: Cluster) -> None:
    """Also the children a task left to themselves."""
    mark = f"3600.{os.getpid()}"
    with running(cluster, "--", "sh", "-c", f"sleep {mark} & echo begun; wait") as process:
        assert line(process) == "begun\n"
        assert naming(f"sleep {mark}")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    eventually(lambda: not naming(f"sleep {mark}"))
