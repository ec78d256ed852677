"""`meseta task exec` on a real cluster: processes beside a task that runs, with pipes and with a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import call

pytestmark = pytest.mark.e2e

Start = Callable[..., Cluster]


@pytest.fixture(scope="module")
def pool(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with a task named "stays"."""
    command = [*MESETA, "run", "--name", "stays", "--cpus", "0.1", "--mem", "64", "--", "sh", "-c", "echo here > file; exec sleep 1000"]
    process = cluster.spawn(command)
    try:
        yield cluster
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def task(pool: Cluster) -> str:
    """Its id, once it runs."""

    def find() -> dict[str, Any] | None:
        found = (task for task in pool.json("task", "list") if task["name"] == "stays" and task["state"] == "TASK_RUNNING")
        return next(found, None)

    found = eventually(find, what="the task runs")
    assert found is not None
    name: str = found["task_id"]["value"]
    return name


def begin(pool: Cluster, task: str, *command: str, options: tuple[str, ...] = (), **files: Any) -> subprocess.Popen[Any]:
    return pool.spawn([*MESETA, "task", "exec", *options, task, "--", *command], **files)


def test_a_command_runs_in_the_sandbox_and_its_streams_and_status_are_ours(pool: Cluster, task: str) -> None:
    done = pool.meseta("task", "exec", task, "--", "sh", "-c", "cat file; echo error >&2; cat; exit 3", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("here\n", "error\n", 3), "and its input is empty"


def test_a_signal_that_ends_it_is_told(pool: Cluster, task: str) -> None:
    assert pool.meseta("task", "exec", task, "--", "sh", "-c", "kill -KILL $$", check=False).returncode == 128 + 9


def test_all_of_our_input_gets_there_and_all_output_back(pool: Cluster, task: str, tmp_path: Path) -> None:
    """More than any buffer on the way holds, to a process that reads late."""
    sent = os.urandom(1 << 20) * 5
    (tmp_path / "sent").write_bytes(sent)
    with open(tmp_path / "sent", "rb") as ours, open(tmp_path / "back", "wb") as back:
        process = begin(pool, task, "sh", "-c", "until test -e go; do sleep 0.05; done; cat", options=("-i",), stdin=ours, stdout=back)
        pool.meseta("task", "exec", task, "--", "touch", "go")
        assert process.wait(60) == 0
    assert (tmp_path / "back").read_bytes() == sent


def test_who_reads_slowly_misses_nothing(pool: Cluster, task: str) -> None:
    """The process waits meanwhile: its output is more than the agent keeps for a reader."""
    size = 40 << 20
    reads, writes = os.pipe()
    process = begin(pool, task, "sh", "-c", f"head -c {size} /dev/zero; touch written", stdout=writes)
    os.close(writes)
    with open(reads, "rb") as output:
        assert output.read(1) == b"\0"
        assert pool.meseta("task", "exec", task, "--", "test", "-e", "written", check=False).returncode == 1
        assert 1 + sum(map(len, iter(lambda: output.read(1 << 20), b""))) == size
    assert process.wait(60) == 0


def test_a_terminal_is_ours_with_its_size(pool: Cluster, task: str) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 99))
    process = begin(pool, task, "sh", options=("-it",), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        os.write(ours, b"stty size; tty; exit 5\n")
        shown = b""
        while b"/dev/pts/" not in shown:
            shown += os.read(ours, 1024)
        assert b"33 99" in shown
        assert process.wait(30) == 5
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_it_ends_with_the_one_who_watches(pool: Cluster, task: str) -> None:
    process = begin(pool, task, "sh", "-c", "echo $$; exec sleep 1000", stdout=subprocess.PIPE)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.communicate()
    eventually(lambda: not Path(f"/proc/{pid}").exists(), what="it has ended")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no-such-task", "--", "true"), "no-such-task"),
        (("-t", "TASK", "--", "true"), "stdin is no terminal; leave -t out"),
        (("TASK", "--", "no-such-program"), "cannot run no-such-program: no such program"),
    ],
)
def test_what_cannot_be_run_is_explained(pool: Cluster, task: str, arguments: tuple[str, ...], says: str) -> None:
    done = pool.meseta("task", "exec", *(task if argument == "TASK" else argument for argument in arguments), check=False)
    assert done.returncode == 1
    assert says in done.stderr


def test_what_is_started_beside_a_task_ends_with_it(pool: Cluster, start_cluster: Start) -> None:
    cluster = start_cluster(agents=1, only="master,agent")
    owner = cluster.spawn([*MESETA, "run", "--name", "stays", "--", "sleep", "1000"])
    try:
        (found,) = eventually(lambda: [task for task in cluster.json("task", "list") if task["state"] == "TASK_RUNNING"])
        name = found["task_id"]["value"]
        beside = begin(cluster, name, "sh", "-c", "echo up; exec sleep 1000", stdout=subprocess.PIPE)
        assert beside.stdout is not None
        assert beside.stdout.readline() == "up\n"
        cluster.meseta("task", "kill", name)
        assert beside.wait(30) == 128 + 9
        beside.communicate()
    finally:
        owner.kill()
        owner.communicate()


def test_what_a_task_prints_is_shown_from_now_on(start_cluster: Start) -> None:
    """With its exit status; nothing is lost when its output is rotated meanwhile."""
    cluster = start_cluster(agents=1, only="master,agent", environ={"MESETA_CONTAINER_LOGGER_MAX_STDOUT_SIZE": "64KB"})
    numbers = [str(number) for number in range(1, 100_001)]
    script = f"until test -e go; do echo tick; sleep 0.05; done; seq {numbers[-1]}; echo error >&2; exit 4"
    owner = cluster.spawn([*MESETA, "run", "--name", "prints", "--", "sh", "-c", script], stdout=subprocess.DEVNULL)
    try:
        (found,) = eventually(lambda: [task for task in cluster.json("task", "list") if task["state"] == "TASK_RUNNING"])
        name = found["task_id"]["value"]
        refused = cluster.meseta("task", "attach", name, check=False)
        assert refused.returncode == 1
        assert "has no terminal, so its input cannot be ours; --no-stdin shows" in refused.stderr
        watching = cluster.spawn([*MESETA, "task", "attach", name, "--no-stdin"], stderr=subprocess.PIPE)
        assert watching.stdout is not None
        assert watching.stdout.readline() == "tick\n"
        cluster.meseta("task", "exec", name, "--", "touch", "go")
        output, errors = watching.communicate(timeout=60)
        assert [line for line in output.splitlines() if line != "tick"] == numbers
        assert errors == "error\n"
        assert watching.returncode == 4
    finally:
        owner.kill()
        owner.communicate()


def test_input_for_nothing_is_refused(pool: Cluster) -> None:
    nobody = {"value": "nobody", "parent": {"value": "none"}}
    answer = call(pool.urls["agent-1"], "LAUNCH_NESTED_CONTAINER_SESSION", launch_nested_container_session={"container_id": nobody})
    assert answer.status == 404
