"""Tasks with a terminal (`tty_info`): `meseta task attach` on a real cluster, over a restart of the agent."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
import time
from collections.abc import Iterator

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.http import call
from tests.e2e.scheduler import Scheduler

pytestmark = pytest.mark.e2e
TERMINAL = {"type": "MESOS", "tty_info": {"window_size": {"rows": 20, "columns": 70}}}


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent")
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def scheduler(machine: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(machine, "terminals")
    yield made
    made.close()


class Window:
    """`meseta task attach` in a terminal of ours."""

    def __init__(self, machine: Cluster, task: str, rows: int = 33, columns: int = 99) -> None:
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (rows, columns))
        self.shown = b""
        self.process = machine.spawn([*MESETA, "task", "attach", task], stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    def type(self, keys: bytes) -> None:
        os.write(self.ours, keys)

    def until(self, text: bytes, within_s: float = 30.0) -> None:
        """Read until this is shown."""
        deadline = time.monotonic() + within_s
        while text not in self.shown:
            assert select.select([self.ours], [], [], max(0.0, deadline - time.monotonic()))[0], self.shown
            self.shown += os.read(self.ours, 4096)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.ours)


def test_a_shell_is_typed_into_left_and_found_again(machine: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("shell", "stty size; exec sh -i", container=TERMINAL)
    scheduler.status("shell")
    (sandbox,) = machine.work_dir.glob("agent-1/slaves/latest/frameworks/*/executors/shell/runs/latest")
    eventually(lambda: b"20 70" in (sandbox / "stdout").read_bytes(), what="the window that it asked for")
    window = Window(machine, "shell")
    try:
        eventually(lambda: typed(window, b"stty size; tty\n", b"33 99"), what="the window is ours")
        window.until(b"/dev/pts/")
        termios.tcsetwinsize(window.ours, (40, 120))
        window.process.send_signal(signal.SIGWINCH)  # Which the kernel sends to who has the terminal for his own.
        eventually(lambda: typed(window, b"stty size\n", b"40 120"), what="it has become larger")
        window.type(b"\x10")
        window.type(b"\x11")
        assert window.process.wait(20) == 0, "left"
    finally:
        window.close()
    pid = machine.daemon("agent-1")["pid"]
    machine.kill("agent-1")
    eventually(lambda: machine.daemon("agent-1")["pid"] not in (None, pid))
    eventually(lambda: answers(machine), what="the agent answers")
    again = Window(machine, "shell")
    try:
        eventually(lambda: typed(again, b"echo again$((40 + 2))\n", b"again42"))
        again.type(b"exit 6\n")
        assert again.process.wait(30) == 6
    finally:
        again.close()
    assert scheduler.status("shell", "TASK_FAILED")["message"] == "Command exited with status 6"
    assert b"again42" in (sandbox / "stdout").read_bytes(), "its file has all that was shown"


def typed(window: Window, keys: bytes, answer: bytes) -> bool:
    """Type, and look whether the answer comes within a moment."""
    window.type(keys)
    try:
        window.until(answer, 2.0)
    except AssertionError:
        return False
    return True


def answers(machine: Cluster) -> bool:
    try:
        return call(machine.urls["agent-1"], "GET_CONTAINERS").status == 200
    except OSError:
        return False


def test_only_one_types_but_several_watch(machine: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("shell", "exec cat", container=TERMINAL)
    scheduler.status("shell")
    first = Window(machine, "shell")
    watcher = machine.spawn([*MESETA, "task", "attach", "--no-stdin", "shell"])
    try:
        output = watcher.stdout
        assert output is not None
        eventually(lambda: typed(first, b"line\n", b"line\r\nline") and select.select([output], [], [], 0)[0], what="both are there")
        assert output.readline().strip() == "line"
        first.type(b"\x04")
        assert first.process.wait(30) == watcher.wait(30) == 0
    finally:
        first.close()
        watcher.kill()
        watcher.communicate()


def test_a_task_without_one_takes_no_input(machine: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("plain", "exec sleep 1000")
    scheduler.status("plain")
    done = machine.meseta("task", "attach", "plain", check=False)
    assert done.returncode == 1
    assert "has no terminal" in done.stderr
