"""What a launcher finds of its predecessor's processes: who they are and how they ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.launcher import processes
from kernel.agent.launcher.client import ContainerReport
from tests.kernel.agent.launcher.host import Host, gone, open_gate, until

Json = dict[str, Any]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_stat_reads_a_process_with_any_name(tmp_path: Path) -> None:
    program = tmp_path / "a) Z (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "1000"], start_new_session=True)
    found = processes.stat(child.pid)
    assert found is not None
    assert (found.parent, found.session) == (os.getpid(), child.pid)
    assert found.state in "RSD"
    child.kill()
    child.wait()
    assert processes.stat(child.pid) is None


def test_a_signal_spares_a_process_that_only_has_the_number() -> None:
    child = subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True)
    found = processes.stat(child.pid)
    assert found is not None
    processes.send_signal(child.pid, found.start - 1, signal.SIGKILL, whole_group=True)
    processes.send_signal(child.pid, found.start - 1, signal.SIGKILL, whole_group=False)
    assert processes.open_pidfd(child.pid, found.start - 1) is None
    assert not gone(child.pid)
    processes.send_signal(child.pid, found.start, signal.SIGTERM, whole_group=True)
    assert child.wait() == -signal.SIGTERM
    processes.send_signal(child.pid, found.start, signal.SIGKILL, whole_group=True)


def test_what_was_started_in_a_container_is_known_by_its_mark() -> None:
    child = subprocess.Popen(["/bin/sleep", "1000"], env={processes.CONTAINER_VARIABLE: "c1"})
    assert not processes.kill_marked(child.pid, "c2")
    assert not gone(child.pid)
    assert processes.kill_marked(child.pid, "c1")
    assert child.wait() == -signal.SIGKILL
    assert not processes.kill_marked(child.pid, "c1")


def test_the_mark_is_seen_while_a_program_takes_the_place_of_another() -> None:
    """For a moment the kernel shows no environment then."""
    for _ in range(20):
        child = subprocess.Popen(["/bin/sleep", "1000"], env={processes.CONTAINER_VARIABLE: "c1"})
        assert processes.container_of(child.pid) == "c1"
        child.kill()
        child.wait()
    child = subprocess.Popen(["/bin/sleep", "1000"], env={})
    assert processes.container_of(child.pid) is None
    child.kill()
    child.wait()


@pytest.mark.parametrize("script", ["exit 7", "kill -9 $$", "kill -SEGV $$", "exit 0"])
def test_dead_children_are_seen_before_they_are_reaped(script: str) -> None:
    """Method: in a process of its own, as this one has children that are not ours to reap."""
    program = f"""
import os, sys
from kernel.agent.launcher import processes
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "ulimit -c 0; {script}"], {{}})
while (dead := processes.next_dead_child()) is None: pass
again = processes.next_dead_child()
start = processes.stat(pid).start
other = processes.exit_of_other(os.pidfd_open(pid), pid, start)
raw = os.waitpid(pid, 0)
assert dead == again == raw == (pid, other), (dead, again, raw, other)
assert processes.next_dead_child() is None
processes.reap(pid)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not look")
def test_a_status_that_we_may_not_see_is_unknown_not_zero() -> None:
    program = """
import os
from kernel.agent.launcher import processes
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
while processes.stat(pid).state != "Z": pass
os.setresuid(65534, 65534, 65534)
assert processes.stat(pid).exit_status == 0
assert processes.exit_of_other(os.pidfd_open(pid), pid, processes.stat(pid).start) is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def status_after_reaping_is_known() -> bool:
    """Whether this kernel still tells an exit status to who holds a pidfd (Linux 6.15)."""
    child = subprocess.Popen(["/bin/sh", "-c", "exit 7"])
    pidfd, start = os.pidfd_open(child.pid), (processes.stat(child.pid) or pytest.fail("our child")).start
    child.wait()
    status = processes.exit_of_other(pidfd, child.pid, start)
    os.close(pidfd)
    assert status in (7 << 8, None)
    return status is not None


@pytest.mark.e2e
def test_a_killed_launcher_loses_no_process(tmp_path: Path) -> None:
    """The next one adopts what runs, sees how it ends, signals it, and does not guess what ended while there was none."""
    known = (9 << 8,) if status_after_reaping_is_known() else (9 << 8, None)

    async def test() -> None:
        host = Host(tmp_path)
        await host.__aenter__()
        await host.run("/bin/sh", "-c", "exit 3", name="ended before")
        for name in ("ends between", "ends after"):
            host.launch(name, "/bin/sh", "-c", f"read x < gate-{name[-1]}; sleep 1000 & echo $!; exit 9")
        host.launch("is killed", "/bin/sleep", "1000")
        gates = {name: host.fifo(f"gate-{name[-1]}") for name in ("ends between", "ends after")}
        pids = {name: await host.started(name) for name in ("ends between", "ends after", "is killed")}
        await host.kill_launcher()
        await open_gate(gates["ends between"])
        await until(lambda: processes.stat(pids["ends between"]) is None)

        async with Host(tmp_path) as again:
            told = {report.container: report for report in again.state().containers}
            assert told["ended before"].exit is not None
            assert told["ended before"].exit.status == 3 << 8
            assert told["ends between"].exit is not None
            assert told["ends between"].exit.status is None
            for name in ("ends after", "is killed"):
                assert (told[name].pid, told[name].exit) == (pids[name], None)
            await open_gate(gates["ends after"])
            assert await again.exited("ends after") in known
            again.client.signal("is killed", signal.SIGTERM)
            assert await again.exited("is killed") in (signal.SIGTERM, None)
            for name in ("ends between", "ends after"):  # And the rest of their groups went with them.
                left = int((host.sandbox / f"{name}.out").read_text())
                await until(lambda pid=left: gone(pid))  # type: ignore[misc]

    run(test())


@pytest.mark.e2e
def test_a_killed_launcher_is_started_again_and_goes_on(tmp_path: Path) -> None:
    """Killed again and again while tasks come and go: each is told of, with its status or as unknown, and none is started twice."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            names = [f"c{n}" for n in range(120)]
            for n, name in enumerate(names):
                host.launch(name, "/bin/sh", "-c", "echo run; exit 5")
                if n % 20 == 19:
                    launcher = host.client.pid
                    if launcher is not None:
                        os.kill(launcher, signal.SIGKILL)
                await asyncio.sleep(0)
            for name in names:
                await host.until(lambda name=name: name in host.told())  # type: ignore[misc]
                assert host.told()[name] in (5 << 8, None)
                output = host.sandbox / f"{name}.out"
                assert not output.exists() or output.read_text() in ("run\n", "")
            assert sum(host.told()[name] == 5 << 8 for name in names) > 60

    run(test())


# A journal made by hand stands for a launcher that was killed at a certain point.


async def recover(work_dir: Path, records: list[Json], boot_id: str | None = None) -> dict[str, ContainerReport]:
    """Start a launcher on a journal; return what it tells."""
    directory = work_dir / "launcher"
    directory.mkdir(exist_ok=True)
    head = {"r": "journal", "format": 1, "boot": boot_id or processes.boot_id()}
    (directory / "journal").write_text("".join(json.dumps(record) + "\n" for record in [head, *records]))
    async with Host(work_dir) as host:
        return {report.container: report for report in host.state().containers}


def session(container: str) -> subprocess.Popen[bytes]:
    """A process as the launcher would have started it."""
    return subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True, env={processes.CONTAINER_VARIABLE: container})


@pytest.mark.e2e
def test_a_process_whose_pid_was_not_recorded_is_found_by_its_environment(tmp_path: Path) -> None:
    name = f"intent-{os.getpid()}"
    child = session(name)
    told = asyncio.run(recover(tmp_path, [{"r": "intent", "c": name, "at": 1.0}, {"r": "intent", "c": "never", "at": 1.0}]))
    assert (told[name].pid, told[name].exit) == (child.pid, None)
    assert told["never"].exit is not None
    assert told["never"].exit.status is None
    assert child.wait() == -signal.SIGKILL  # Adopted: ended with the launcher.


@pytest.mark.e2e
def test_a_process_that_only_has_the_number_is_not_adopted(tmp_path: Path) -> None:
    child = session("somebody")
    found = processes.stat(child.pid)
    assert found is not None
    records = [{"r": "intent", "c": "c", "at": 1.0}, {"r": "running", "c": "c", "pid": child.pid, "start": found.start - 1}]
    told = asyncio.run(recover(tmp_path, records))
    assert told["c"].exit is not None
    assert told["c"].exit.status is None
    assert child.poll() is None
    child.kill()
    child.wait()


@pytest.mark.e2e
def test_nothing_survives_a_boot(tmp_path: Path) -> None:
    """Even a process with the recorded pid and start time is another one."""
    child = session("c")
    found = processes.stat(child.pid)
    assert found is not None
    records = [
        {"r": "intent", "c": "c", "at": 1.0},
        {"r": "running", "c": "c", "pid": child.pid, "start": found.start},
        {"r": "intent", "c": "d", "at": 1.0},
    ]
    told = asyncio.run(recover(tmp_path, records, boot_id="before"))
    assert [report.exit is not None and report.exit.status is None for report in told.values()] == [True, True]
    assert child.poll() is None
    child.kill()
    child.wait()
