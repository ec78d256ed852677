"""The launcher as a process: many tasks, signals, agents that come and go, wrong peers, a full disk, an upgrade."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.launcher import loop, processes, protocol
from kernel.agent.launcher.client import LauncherLost, LauncherState, Started, build_id
from tests.kernel.agent.launcher.host import DEADLINE_S, Host, gone, open_gate, open_to_others, until

pytestmark = pytest.mark.e2e

ESCAPED = "until [ -s orphan ]; do :; done"
ESCAPE = f'setsid sh -c "echo \\$\\$ > orphan; read x < gate" & {ESCAPED}'  # For a shell, between single quotes.


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def escaped(host: Host) -> int:
    """Return the process that ESCAPE has started."""
    file = host.sandbox / "orphan"
    await until(lambda: file.exists() and file.read_text().endswith("\n"))
    return int(file.read_text())


def test_many_at_once_each_with_its_own_status(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            for n in range(200):
                host.launch(f"c{n}", "/bin/sh", "-c", f"echo {n}; read x < gate; exit {n}")
            gate = os.open(host.fifo("gate"), os.O_RDWR)
            for n in range(200):
                await host.started(f"c{n}")
            os.write(gate, b"go\n" * 200)
            for n in range(200):
                assert await host.exited(f"c{n}") == n << 8
                assert (host.sandbox / f"c{n}.out").read_text() == f"{n}\n"
            os.close(gate)

    run(test())


def test_a_repeated_launch_starts_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            host.launch("c", "/bin/sh", "-c", "echo once; read x < gate")
            first = await host.started("c")
            host.launch("c", "/bin/sh", "-c", "echo twice")
            await host.until(lambda: len(host.of(Started, "c")) == 2)  # Answered again.
            await open_gate(gate)
            assert await host.exited("c") == 0
            assert {event.pid for event in host.events if hasattr(event, "pid")} == {first}
            assert (host.sandbox / "c.out").read_text() == "once\n"

    run(test())


def test_a_signal_to_the_leader_and_the_end_of_its_group(tmp_path: Path) -> None:
    """The leader alone is told; what it leaves in its group is killed, and reaped by the launcher."""
    script = "trap 'echo told; exit 5' TERM; sleep 1000 & echo $!; wait"

    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/sh", "-c", script)
            output = host.sandbox / "c.out"
            await until(lambda: output.exists() and output.read_text().endswith("\n"))
            left = int(output.read_text())
            host.client.signal("c", signal.SIGTERM, whole_group=False)
            assert await host.exited("c") == 5 << 8
            assert output.read_text() == f"{left}\ntold\n"
            await until(lambda: processes.stat(left) is None)

    run(test())


def test_a_signal_to_the_whole_group(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            host.launch("c", "/bin/sh", "-c", "sh -c 'echo $$; exec sleep 1000' & wait; exit 6")
            output = host.sandbox / "c.out"
            await until(lambda: output.exists() and output.read_text().endswith("\n"))
            host.client.signal("c", signal.SIGTERM)
            assert await host.exited("c") == signal.SIGTERM
            await until(lambda: processes.stat(int(output.read_text())) is None)
            host.client.signal("c", signal.SIGTERM)  # Too late, and nobody is hit.
            host.client.signal("unknown", signal.SIGTERM)
            assert (await host.run("/bin/true", name="next"))[0] == 0

    run(test())


def test_orphans_become_ours_and_leave_no_zombies(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            gate, end = host.fifo("gate"), host.fifo("end")
            host.launch("c", "/bin/sh", "-c", f"sh -c '{ESCAPE}'; read x < end")
            orphan = await escaped(host)
            await until(lambda: (found := processes.stat(orphan)) is not None and found.parent == host.client.pid)
            assert (await host.run("/bin/true", name="another"))[0] == 0
            assert not gone(orphan), "its own container runs still"
            await open_gate(gate)
            await until(lambda: processes.stat(orphan) is None)
            await open_gate(end)
            assert await host.exited("c") == 0

    run(test())


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_what_left_the_group_of_its_container_ends_with_it_too(tmp_path: Path, number: signal.Signals | None) -> None:
    """A session of its own, and one that comes from there: nobody would know of them any more."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            host.fifo("gate")
            gate = host.fifo("end")
            host.launch("c", "/bin/sh", "-c", f"setsid sh -c '{ESCAPE}; sleep 1000' & {ESCAPED}; read x < end")
            inner = await escaped(host)
            found = processes.stat(inner)
            assert found is not None
            if number is None:
                await open_gate(gate)
            else:
                host.client.signal("c", number)
            assert await host.exited("c") == (number or 0)
            await until(lambda: processes.stat(inner) is None and processes.stat(found.parent) is None)

    run(test())


def test_a_new_agent_is_told_everything_until_it_forgets(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            await host.run("/bin/sh", "-c", "exit 3", name="ended")
            host.launch("bad", "/no/such/program")
            await host.failed("bad")
            host.launch("runs", "/bin/sleep", "1000")
            pid = await host.started("runs")
            launcher = host.client.pid
            await host.leave()

            async with Host(tmp_path) as again:
                assert again.client.pid == launcher
                told = {report.container: report for report in again.state().containers}
                assert set(told) == {"ended", "bad", "runs"}
                assert told["runs"].pid == pid
                assert told["ended"].exit is not None
                assert told["ended"].exit.status == 3 << 8
                assert told["bad"].failed is not None
                assert told["bad"].failed.reason == "not found"
                for name in told:
                    again.client.forget(name)
                await again.run("/bin/true", name="next")  # So the forgets have arrived.
                await again.leave()
                async with Host(tmp_path) as third:
                    assert {report.container for report in third.state().containers} == {"runs", "next"}
            assert gone(pid)

    run(test())


def test_the_last_agent_to_say_hello_is_the_agent(tmp_path: Path) -> None:
    """What the one before it still says is dropped with its connection."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            old = Peer(tmp_path)
            old.say({"type": "hello", "version": 1})
            assert old.hear()["type"] == "state"
            new = Peer(tmp_path)
            new.say({"type": "hello", "version": 1})
            assert new.hear()["type"] == "state"
            assert old.hear() is None
            new.close()
            await host.until(lambda: host.client.connected)

    run(test())


def test_a_second_launcher_in_a_directory_gives_way(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            argv = [sys.executable, *host.client._command[1:]]
            second = await asyncio.create_subprocess_exec(*argv)
            assert await second.wait() == protocol.ALREADY_RUNNING
            assert (await host.run("/bin/true"))[0] == 0

    run(test())


@pytest.mark.parametrize("arguments", [[], ["--dir"], ["--dir", "x", "--unknown", "y"]])
def test_wrong_usage(arguments: list[str]) -> None:
    async def test() -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, str(MAIN), *arguments, stderr=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 2

    run(test())


def test_a_launcher_that_cannot_be_replaced_serves_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            await host.leave()
            newer = Host(tmp_path, python="/no/such/python")
            newer.client._build = "newer"
            async with newer:
                assert newer.state().build == host.state().build
                assert (await newer.run("/bin/true"))[0] == 0

    run(test())


def test_it_imports_nothing_but_the_standard_library() -> None:
    """An upgrade may take away every other package under it; and it stays small."""
    program = f"""
import runpy, sys
try:
    runpy.run_path({str(MAIN)!r}, run_name="__main__")
except SystemExit:
    pass
sys.path.append({str(MAIN.parents[3])!r})
import kernel.agent.launcher.loop
print(*(name for name in sys.modules if name.partition(".")[0] not in sys.stdlib_module_names))
"""
    process = subprocess.run([sys.executable, "-S", "-E", "-I", "-c", program], capture_output=True, text=True, check=True, timeout=30)
    names = ("cgroups", "core", "journal", "loop", "paths", "processes", "protocol", "spared", "spawn", "terminals")
    modules = {f"kernel.agent.launcher.{name}" for name in names}
    assert set(process.stdout.split()) == {"__main__", "kernel", "kernel.agent", "kernel.agent.launcher", *modules}


def test_without_root_from_an_installed_copy(tmp_path: Path) -> None:
    """Method: the files as pip lays them down, run by the first interpreter that an unprivileged user may execute."""
    site = tmp_path / "site"
    for file in ("__init__.py", "agent/__init__.py", *(f"agent/launcher/{path.name}" for path in MAIN.parent.glob("*.py"))):
        (site / "kernel" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MAIN.parents[2] / file, site / "kernel" / file)
    as_user: dict[str, Any] = {}
    open_to_others(tmp_path)
    (tmp_path / "launcher").mkdir()
    (tmp_path / "sandbox").mkdir()
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for directory in (tmp_path / "launcher", tmp_path / "sandbox"):
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    python = next((p for p in (sys.executable, "/usr/bin/python3") if can_execute(p, as_user)), None)
    if python is None:
        pytest.skip("no Python that an unprivileged user may execute")
    main = str(site / "kernel/agent/launcher/main.py")
    argv = [python, "-S", "-E", "-I", "-X", "utf8", main, "--dir", str(tmp_path / "launcher"), "--build", build_id()]
    process = subprocess.Popen(argv, cwd="/", **as_user)

    async def test() -> None:
        await until((tmp_path / "launcher" / protocol.SOCKET).exists)
        async with Host(tmp_path) as host:
            assert host.client.pid == process.pid
            shown = await host.run("/bin/sh", "-c", "id -u; exit 3")
            assert shown == (3 << 8, f"{as_user.get('user', os.geteuid())}\n")
            host.launch("other", "/bin/true", user="root" if as_user or os.geteuid() else "nobody")
            assert (await host.failed("other")).reason == "not permitted"

    run(test())
    assert process.wait(timeout=DEADLINE_S) == 0


def can_execute(python: str, as_user: dict[str, Any]) -> bool:
    try:
        return subprocess.run([python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], cwd="/", **as_user).returncode == 0
    except OSError:
        return False


MAIN = Path(loop.__file__).with_name("main.py")


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\n",
        b'{"type":"launch"}\n',
        b'{"type":"unknown"}\n',
        b'{"type":"signal","container":"c","signal":9}\n',  # Before hello.
        b"x" * (protocol.LINE_BYTES_MAX + 1),
        b'{"type":"hello","version":1}\n{"type":"launch","container":7}\n',
        b'{"type":"hello","version":1}\n{"type":"signal","container":"c","signal":99}\n',
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_and_dropped(tmp_path: Path, said: bytes) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            peer = Peer(tmp_path)
            await asyncio.to_thread(peer.send, said)
            answers = []
            while (answer := await asyncio.to_thread(peer.hear)) is not None:
                answers.append(answer["type"])
            assert answers in (["error"], ["state", "error"], [])  # Nothing when it was cut off in the middle of talking.
            await host.until(lambda: host.client.connected)
            assert (await host.run("/bin/true"))[0] == 0

    run(test())


def test_an_agent_that_does_not_read_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            for n in range(300):
                host.launch(f"c{n}", "/no/such/program/" + "x" * 700)
            await host.failed("c299")
            await host.leave()
            peer = Peer(tmp_path)
            hello = b'{"type":"hello","version":1}\n' * 100  # Each is answered with 300 kB.
            await asyncio.to_thread(say_until_dropped, peer, hello)
            async with Host(tmp_path) as again:
                assert len(again.state().containers) == 300

    run(test())


def test_exit_waits_until_everything_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            await host.run("/bin/true")
            assert not await host.client.stop()
            host.client.forget("c")
            launcher = host.client.pid
            assert launcher is not None
            assert await host.client.stop(deadline_s=DEADLINE_S)
            assert gone(launcher)

    run(test())


def test_stop_kills_whatever_runs(tmp_path: Path) -> None:
    async def test() -> None:
        host = Host(tmp_path)
        async with host:
            host.launch("c", "/bin/sh", "-c", "trap '' TERM; sleep 1000")
            pid = await host.started("c")
        assert gone(pid)
        async with Host(tmp_path) as again:  # Its end is still told.
            [report] = again.state().containers
            assert report.exit is not None
            assert report.exit.status == signal.SIGKILL

    run(test())


def test_a_directory_with_a_very_long_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path / ("x" * 100) / ("y" * 100)) as host:
            assert await host.run("/bin/echo", "hello") == (0, "hello\n")

    run(test())


def test_others_cannot_reach_the_socket(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "launcher").mkdir(mode=0o777)
        async with Host(tmp_path) as host:
            assert host.client.directory.stat().st_mode & 0o077 == 0

    run(test())


def test_a_full_disk_tells_nothing_unwritten_and_loses_nothing(tmp_path: Path) -> None:
    """Method: a limit on the size of the launcher's files stands for the disk."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            host.launch("runs", "/bin/sh", "-c", "read x < gate; exit 9")
            host.launch("killed", "/bin/sleep", "1000")
            pid, killed = await host.started("runs"), await host.started("killed")
            launcher = host.client.pid
            assert launcher is not None
            _, hard = resource.prlimit(launcher, resource.RLIMIT_FSIZE)
            resource.prlimit(launcher, resource.RLIMIT_FSIZE, ((host.client.directory / "journal").stat().st_size + 10, hard))
            await open_gate(gate)
            await until(lambda: processes.stat(pid) is None)
            host.launch("refused", "/bin/true")
            host.client.signal("killed", signal.SIGKILL)  # Still obeyed: it may be what fills the disk.
            await until(lambda: processes.stat(killed) is None)
            assert len(host.events) == 3
            resource.prlimit(launcher, resource.RLIMIT_FSIZE, (hard, hard))
            assert await host.exited("runs") == 9 << 8
            assert await host.exited("killed") == signal.SIGKILL
            assert (await host.failed("refused")).reason == "no resources"
            assert (await host.run("/bin/true"))[0] == 0

    run(test())


def test_an_upgrade_replaces_the_launcher_around_its_children(tmp_path: Path) -> None:
    """Same pid, new code; what ran and what ended meanwhile keep their status."""

    async def test() -> None:
        async with Host(tmp_path) as host:
            gate = host.fifo("gate")
            host.launch("runs", "/bin/sh", "-c", "read x < gate; exit 9")
            host.launch("ended", "/bin/sh", "-c", "exit 4")
            pid = await host.started("runs")
            await host.exited("ended")
            launcher = host.client.pid
            await host.leave()

            newer = Host(tmp_path)
            newer.client._build = "newer"
            async with newer:
                assert newer.client.pid == launcher
                assert newer.state().build == "newer"
                told = {report.container: report for report in newer.state().containers}
                assert told["runs"].pid == pid
                assert told["ended"].exit is not None
                await open_gate(gate)
                assert await newer.exited("runs") == 9 << 8
                assert not [event for event in newer.events if isinstance(event, LauncherLost)]
                assert (await newer.run("/bin/sh", "-c", "ulimit -n", name="limit"))[
                    1
                ] == f"{resource.getrlimit(resource.RLIMIT_NOFILE)[0]}\n"

    run(test())


def test_another_version_is_refused_and_can_be_replaced(tmp_path: Path) -> None:
    async def test() -> None:
        async with Host(tmp_path) as host:
            await host.leave()
            peer = Peer(tmp_path)
            peer.say({"type": "hello", "version": 2})
            answer = peer.hear()
            assert answer is not None
            assert (answer["type"], answer["version"]) == ("refused", 1)
            peer.say({"type": "replace", "argv": ["/no/such/python"]})
            assert peer.hear() is None
            peer = Peer(tmp_path)  # It goes on as it was.
            peer.say({"type": "hello", "version": 1})
            assert (peer.hear() or {})["type"] == "state"
            peer.say({"type": "replace", "argv": [*host.client._command, "--build", "third"]})
            assert peer.hear() is None
            async with Host(tmp_path) as again:
                assert len([event for event in again.events if isinstance(event, LauncherState)]) == 1

    run(test())


def say_until_dropped(peer: Peer, data: bytes) -> None:
    while True:
        try:
            peer.send(data)
        except OSError:
            return


class Peer:
    """A bare connection to a launcher."""

    def __init__(self, work_dir: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(DEADLINE_S)
        directory = os.open(work_dir / "launcher", os.O_PATH)
        self._socket.connect(f"/proc/self/fd/{directory}/{protocol.SOCKET}")
        os.close(directory)
        self._lines = self._socket.makefile("rb")

    def say(self, message: Any) -> None:
        self.send(json.dumps(message).encode() + b"\n")

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except BrokenPipeError:
            if len(data) < protocol.LINE_BYTES_MAX:
                raise

    def hear(self) -> dict[str, Any] | None:
        """Return the next message, None when the launcher has closed the connection."""
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()
