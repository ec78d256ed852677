"""What runs beside tasks in containers of a real Docker engine: sessions (`meseta task exec`), and commands of checks."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.wire.task import TaskState
from tests.cluster import MESETA, Cluster, eventually
from tests.docker import IMAGE, DockerEngine
from tests.e2e.docked import free_ports, given, nothing_left, parameters, sandbox
from tests.e2e.scheduler import Scheduler
from tests.e2e.test_checks import CHECKED, PACE, SLEEP, command_check, command_health, pids, put, text

pytestmark = pytest.mark.e2e
INSIDE: dict[str, Any] = {"type": "DOCKER", "docker": {"image": IMAGE, "parameters": [{"key": "init", "value": "true"}]}}
SANDBOX = "/mnt/mesos/sandbox"


@pytest.fixture(autouse=True)
def nothing_is_left(docked: Cluster, docker_engine: DockerEngine) -> Iterator[None]:
    with nothing_left(docked, docker_engine):
        yield


@pytest.fixture
def sleeping(docked: Cluster) -> Iterator[str]:
    """The id of a task that runs, with a variable of its own, as long as the test."""
    running = given(docked, SLEEP, parameters=parameters(init="true", env="COLOUR=blue", workdir="/tmp"))
    name = running.running().task_id.value
    yield name
    docked.meseta("task", "kill", name, check=False)
    assert running.end().state is TaskState.TASK_KILLED


@pytest.fixture
def scheduler(docked: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(docked, "checks")
    yield made
    made.close()


def begin(cluster: Cluster, task: str, *command: str, options: tuple[str, ...] = (), **files: Any) -> subprocess.Popen[Any]:
    return cluster.spawn([*MESETA, "task", "exec", *options, task, "--", *command], **files)


# ---- Sessions -------------------------------------------------------------------------------------------


def test_a_session_is_in_the_container_and_its_streams_and_status_are_ours(docked: Cluster, sleeping: str) -> None:
    script = "echo $COLOUR $MESOS_SANDBOX $(pwd); cat /proc/1/comm; echo error >&2; cat; exit 3"
    done = docked.meseta("task", "exec", sleeping, "--", "sh", "-c", script, check=False)
    assert (done.stdout, done.stderr, done.returncode) == (f"blue {SANDBOX} /tmp\ndocker-init\n", "error\n", 3), "and its input is empty"
    assert docked.meseta("task", "exec", sleeping, "--", "sh", "-c", "kill -KILL $$", check=False).returncode == 128 + 9


def test_all_of_our_input_gets_there_and_all_output_back(docked: Cluster, sleeping: str, tmp_path: Path) -> None:
    """More than any buffer on the way holds, to a process that reads late."""
    sent = os.urandom(1 << 20) * 5
    (tmp_path / "sent").write_bytes(sent)
    with open(tmp_path / "sent", "rb") as ours, open(tmp_path / "back", "wb") as back:
        process = begin(
            docked, sleeping, "sh", "-c", "until test -e go; do sleep 0.05; done; cat", options=("-i",), stdin=ours, stdout=back
        )
        docked.meseta("task", "exec", sleeping, "--", "touch", "go")
        assert process.wait(60) == 0
    assert (tmp_path / "back").read_bytes() == sent


def test_a_terminal_is_ours_with_its_size(docked: Cluster, sleeping: str) -> None:
    """One terminal, although there are two on the way: nothing is echoed twice, and Ctrl-C gets to where it belongs."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 99))
    process = begin(docked, sleeping, "sh", options=("-it",), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""

    def shows(wanted: bytes) -> None:
        nonlocal shown
        while wanted not in shown:
            shown += os.read(ours, 1024)

    try:
        shows(b"# ")
        os.write(ours, b"stty size; tty\n")
        shows(b"/dev/pts/")
        assert b"33 99\r\n" in shown
        assert shown.count(b"stty size; tty") == 1
        os.write(ours, b"until test \"$(stty size)\" = '44 111'; do echo no; sleep 0.05; done; echo as large; sleep 1000\n")
        termios.tcsetwinsize(ours, (44, 111))
        process.send_signal(signal.SIGWINCH)  # It is not its terminal.
        shows(b"\r\nas large\r\n")  # The output meanwhile wakes a client that the signal found just about to wait.
        os.write(ours, b"\x03echo after $?\n")
        shows(b"after 130\r\n")
        os.write(ours, b"exit 5\n")
        assert process.wait(30) == 5
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_a_session_ends_with_the_one_who_watches_and_so_does_all_it_started(docked: Cluster, sleeping: str) -> None:
    word = f"653{os.getpid()}"
    process = begin(docked, sleeping, "sh", "-c", f"trap '' TERM HUP; setsid sleep {word} & sleep {word}", stdout=subprocess.PIPE)
    eventually(lambda: len(pids("sleep", word)) == 2)
    process.kill()
    process.communicate()
    assert eventually(lambda: pids("sleep", word) == [])


def test_an_agent_that_is_killed_leaves_no_session(docked: Cluster, sleeping: str) -> None:
    word = f"542{os.getpid()}"
    process = begin(docked, sleeping, "sh", "-c", f"trap '' TERM HUP; sleep {word}; true", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    eventually(lambda: pids("sleep", word))
    docked.kill("agent-1")
    assert process.wait(30)
    process.communicate()
    assert eventually(lambda: pids("sleep", word) == [])


def test_a_session_ends_with_its_container(docked: Cluster) -> None:
    running = given(docked, SLEEP, parameters=parameters(init="true"))
    name = running.running().task_id.value
    beside = begin(docked, name, "sh", "-c", "echo up; exec sleep 1000", stdout=subprocess.PIPE)
    assert beside.stdout is not None
    assert beside.stdout.readline() == "up\n"
    docked.meseta("task", "kill", name)
    assert running.end().state is TaskState.TASK_KILLED
    assert beside.wait(30) == 128 + 9
    beside.communicate()


def test_a_program_that_is_not_there_says_so(docked: Cluster, sleeping: str) -> None:
    done = docked.meseta("task", "exec", sleeping, "--", "no-such-program", check=False)
    assert done.returncode in (126, 127)
    assert "no-such-program" in done.stdout + done.stderr


# ---- Commands of checks ---------------------------------------------------------------------------------


def test_a_command_is_where_its_task_is(docked: Cluster, scheduler: Scheduler) -> None:
    """In the same namespaces and control groups, as the same user, with the same variables and its own."""
    show = f"{{ cat /proc/self/cgroup; ls -l /proc/self/ns | cut -c 40-; id -u; pwd; echo $OF_TASK; }} > {SANDBOX}/"
    command = {"value": f"{show}task; {SLEEP}", "user": "nobody", "environment": {"variables": [{"name": "OF_TASK", "value": "yes"}]}}
    check = command_check(f"{show}check; cat; echo $MINE $MESOS_SANDBOX")
    check["command"]["command"]["environment"] = {"variables": [{"name": "MINE", "value": "own"}]}
    scheduler.launch("shared", "", command=command, container=INSIDE, check=check)
    assert scheduler.status("shared")["check_status"] == {"type": "COMMAND", "command": {}}
    told = scheduler.status("shared", check_status={"type": "COMMAND", "command": {"exit_code": 0}})
    assert (told["reason"], told["source"]) == (CHECKED, "SOURCE_EXECUTOR")
    here = sandbox(docked, "shared")
    assert eventually(lambda: text(here / "check") == text(here / "task") != "")
    assert "65534\n" in text(here / "task")
    assert eventually(lambda: text(here / ".meseta-check.output") == f"own {SANDBOX}\n")


def test_exit_codes_are_told_and_failures_kill(docked: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("ill", f"echo 3 > $MESOS_SANDBOX/code; touch $MESOS_SANDBOX/up; {SLEEP}", container=INSIDE,
                     check=command_check("exit $(cat $MESOS_SANDBOX/code)"),
                     health_check=command_health("test -e $MESOS_SANDBOX/up", consecutive_failures=2))  # fmt: skip
    scheduler.status("ill", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 3}})
    (sandbox(docked, "ill") / "up").unlink()
    assert scheduler.status("ill", "TASK_KILLED")["healthy"] is False


def test_what_is_not_in_the_image_cannot_be_run(scheduler: Scheduler) -> None:
    health = {**command_health(""), "command": {"shell": False, "value": "/usr/bin/python3", "arguments": ["python3"]}}
    scheduler.launch("absent", SLEEP, container=INSIDE, health_check={**health, "consecutive_failures": 1})
    assert scheduler.status("absent", "TASK_KILLED")["healthy"] is False


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(docked: Cluster, scheduler: Scheduler) -> None:
    """Also with what has left its group; the task and what that started are not touched."""
    word, own = f"976{os.getpid()}", f"975{os.getpid()}"
    script = f"sleep {word} & setsid sleep {word} & touch $MESOS_SANDBOX/begun; sleep {word}"
    health = command_health(script, timeout_seconds=1, consecutive_failures=3)
    scheduler.launch("hangs", f"setsid sleep {own} & {SLEEP}", container=INSIDE, health_check=health)
    scheduler.status("hangs", healthy=False)
    assert (sandbox(docked, "hangs") / "begun").exists()
    assert pids("sleep", own)
    assert scheduler.status("hangs", "TASK_KILLED")["healthy"] is False
    assert eventually(lambda: pids("sleep", word) == pids("sleep", own) == [])


def test_what_a_command_leaves_behind_ends_with_it(docked: Cluster, scheduler: Scheduler) -> None:
    word = f"864{os.getpid()}"
    check = command_check(f"setsid sleep {word} & sleep {word} & exit 6", interval_seconds=1000)
    scheduler.launch("leaves", SLEEP, container=INSIDE, check=check)
    scheduler.status("leaves", check_status={"type": "COMMAND", "command": {"exit_code": 6}})
    assert pids("sleep", word) == []


def test_checks_go_on_when_the_agent_is_killed(docked: Cluster, scheduler: Scheduler) -> None:
    """The command that was under way is left to nobody, and counts neither way."""
    word = f"753{os.getpid()}"
    script = f"test -e $MESOS_SANDBOX/code || {{ setsid sleep {word} & exec sleep {word}; }}; exit $(cat $MESOS_SANDBOX/code)"
    check = command_check(script, timeout_seconds=1000)
    scheduler.launch("lasting", f"echo 4 > $MESOS_SANDBOX/code; {SLEEP}", container=INSIDE, check=check)
    scheduler.status("lasting", check_status={"type": "COMMAND", "command": {"exit_code": 4}})
    here = sandbox(docked, "lasting")
    (here / "code").unlink()
    eventually(lambda: len(pids("sleep", word)) == 2)
    put(here / "code", "5")
    docked.kill("agent-1")
    assert eventually(lambda: pids("sleep", word) == [])
    scheduler.status("lasting", check_status={"type": "COMMAND", "command": {"exit_code": 5}})


def test_with_its_task_a_command_ends_and_says_nothing_of_it(docked: Cluster, scheduler: Scheduler) -> None:
    word = f"642{os.getpid()}"
    health = command_health(f"touch $MESOS_SANDBOX/end; setsid sleep {word} & sleep {word}", consecutive_failures=1)
    scheduler.launch("ends", "until test -e $MESOS_SANDBOX/end; do sleep 0.1; done", container=INSIDE, health_check=health)
    scheduler.status("ends", "TASK_FINISHED")
    assert [status.get("healthy") for status in scheduler.statuses] == [None] * len(scheduler.statuses)
    assert eventually(lambda: pids("sleep", word) == [])


def test_while_the_engine_is_away_checks_say_nothing(docked: Cluster, docker_engine: DockerEngine, scheduler: Scheduler) -> None:
    """Neither those that it was about to run nor those that it had begun. One that was killed ends its containers when it is back."""
    word = f"531{os.getpid()}"
    health = command_health(f"touch $MESOS_SANDBOX/begun; sleep {word}", timeout_seconds=1000, consecutive_failures=1)
    scheduler.launch("kept", SLEEP, container=INSIDE, health_check=command_health("true", consecutive_failures=1))
    scheduler.launch("probed", SLEEP, container=INSIDE, health_check=health)
    scheduler.status("kept", healthy=True)
    scheduler.status("probed")
    eventually((sandbox(docked, "probed") / "begun").exists)
    docker_engine.stop(signal.SIGKILL)
    try:
        log = docked.work_dir / "log" / "agent-1.log"
        eventually(lambda: "what runs there is not known meanwhile" in log.read_text())
    finally:
        docker_engine.start()
    for name in ("kept", "probed"):
        scheduler.status(name, "TASK_FAILED")
    assert not [status for status in scheduler.statuses if status.get("healthy") is False]
    assert eventually(lambda: pids("sleep", word) == [])


# ---- Checks over the network ----------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["BRIDGE", "NONE", "HOST"])
def test_a_task_is_probed_at_its_own_loopback(docked: Cluster, scheduler: Scheduler, network: str) -> None:
    (port,) = free_ports(docked, 1)
    serve = f"echo up > /tmp/index.html; httpd -f -p 127.0.0.1:{port} -h /tmp & "
    serve += f"until test -e $MESOS_SANDBOX/end; do sleep 0.1; done; kill $!; {SLEEP}"
    health = {"type": "HTTP", "http": {"scheme": "http", "port": port, "path": "/index.html"}, **PACE, "consecutive_failures": 2}
    check = {"type": "TCP", "tcp": {"port": port}, **PACE}
    inside = {**INSIDE, "docker": {**INSIDE["docker"], "network": network}}
    scheduler.launch(f"served-{network}", serve, container=inside, health_check={**health, "grace_period_seconds": 60}, check=check)
    scheduler.status(f"served-{network}", healthy=True, check_status={"type": "TCP", "tcp": {"succeeded": True}})
    (sandbox(docked, f"served-{network}") / "end").touch()
    assert scheduler.status(f"served-{network}", "TASK_KILLED")["healthy"] is False
