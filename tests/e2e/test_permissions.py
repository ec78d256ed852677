"""What another user of the machine can do to a cluster of root's: nothing, and see little. Tasks run as `daemon`, he is `nobody`."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.launcher.protocol import SOCKET
from kernel.net.client import Refused
from kernel.supervisor import take_lock
from tests.cluster import MESETA, eventually
from tests.e2e.processes import command_lines
from tests.hostile.daemons import LIMIT_S, Daemon

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root can be several users")]

READABLE = {"boot_id"}  # Of files; the text that the machine shows everybody.


def as_user(name: str, act: Callable[[], Any]) -> Any:
    """What a function returns that is run as another user, in a process of its own. It must not import anything."""
    user = pwd.getpwnam(name)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            os.chdir("/")
            os.setgroups([])
            os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
            os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            answer = act()
        except BaseException as error:
            answer = repr(error)
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        answered = stream.read()
    os.waitpid(child, 0)
    return json.loads(answered)


class World:
    """A master and an agent whose folders others can come near, with a task of `daemon`'s."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.master = Daemon("master", home / "master")
        assert self.master.said("leading with"), self.master.log
        self.agent = Daemon(
            "agent",
            home / "agent",
            *("--master", self.master.url, "--resources", "cpus:2;mem:1024;disk:1024", "--authenticate-http-executors"),
        )
        assert self.agent.said("registered as"), self.agent.log

    def run(self, script: str, user: str = "daemon") -> str:
        """Run a command to its end as a user; return its output."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        environ |= {"MESETA_MASTER": self.master.url, "XDG_STATE_HOME": str(self.home / "state")}
        command = [*MESETA, "run", "--user", user, "--", "sh", "-c", script]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr + self.agent.log
        return done.stdout

    @property
    def launcher(self) -> Path:
        return self.home / "agent" / "launcher"

    def sandboxes(self) -> list[Path]:
        return [path for path in (self.home / "agent").glob("slaves/*/frameworks/*/executors/*/runs/*") if not path.is_symlink()]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    home = Path(tempfile.mkdtemp(prefix="meseta-seen-by-others-"))
    home.chmod(0o755)
    started = World(home)
    try:
        started.run("echo private; echo more >file; touch .hidden; mkdir folder")
        yield started
    finally:
        started.agent.end(signal.SIGUSR1)
        started.master.end()
        shutil.rmtree(home)


def everything(home: Path) -> list[str]:
    return [str(path) for path in sorted(home.rglob("*")) if not path.is_symlink()]


def test_another_user_reads_no_file(world: World) -> None:
    paths = everything(world.home)
    assert {"registry.db", "agent.db", "journal", "launcher.log", "stdout", "executor_key"} <= {Path(path).name for path in paths}

    def read() -> list[str]:
        found = []
        for path in paths:
            try:
                with open(path, "rb"):
                    found.append(path)
            except OSError:
                continue
        return found

    assert {Path(path).name for path in as_user("nobody", read)} <= READABLE


def test_another_user_lists_no_sandbox_and_nothing_of_the_launcher(world: World) -> None:
    folders = [path for path in everything(world.home) if Path(path).is_dir()]

    def look() -> list[str]:
        found = []
        for path in folders:
            try:
                os.listdir(path)
                found.append(path)
            except OSError:
                continue
        return found

    listed = as_user("nobody", look)
    assert not [path for path in listed if "/runs/" in path or "/launcher" in path]


@pytest.mark.parametrize("user", ["nobody", "daemon"])
def test_another_user_changes_nothing(world: World, user: str) -> None:
    """Neither makes, replaces nor removes a file anywhere but in a sandbox of his own."""
    paths = everything(world.home)

    def change() -> list[str]:
        done = []
        for path in paths:
            acts: list[Callable[[], Any]] = [
                lambda path=path: os.close(os.open(path, os.O_WRONLY)),  # type: ignore[misc]
                lambda path=path: os.symlink("/etc", f"{path}/made-by-another"),  # type: ignore[misc]
                lambda path=path: os.rename(path, f"{path}.moved"),  # type: ignore[misc]
                lambda path=path: os.chmod(path, 0o777),  # type: ignore[misc]
                lambda path=path: os.link(path, f"/tmp/meseta-link-{os.getpid()}"),  # type: ignore[misc]
                lambda path=path: os.unlink(path),  # type: ignore[misc]
            ]
            for act in acts:
                try:
                    act()
                    done.append(path)
                except OSError:
                    continue
        return done

    own = [str(path) for path in world.sandboxes()] if user == "daemon" else []
    changed = [path for path in as_user(user, change) if not any(path.startswith(folder) for folder in own)]
    assert changed == []


def test_a_sandbox_belongs_to_its_user(world: World) -> None:
    before = set(world.sandboxes())
    world.run("echo mine", "daemon")
    user = pwd.getpwnam("daemon")
    for sandbox in set(world.sandboxes()) - before:
        found = sandbox.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (user.pw_uid, user.pw_gid, 0o750)
        assert stat.S_IMODE((sandbox / "stdout").stat().st_mode) == 0o640
        assert (sandbox / "stdout").stat().st_uid == user.pw_uid
        for parent in sandbox.parents[: len(sandbox.relative_to(world.home / "agent").parts)]:
            assert (parent.stat().st_uid, stat.S_IMODE(parent.stat().st_mode) & 0o022) == (0, 0), parent


def test_a_task_reads_nothing_of_the_agent(world: World) -> None:
    """What it inherits is its own: no descriptor of ours, no environment, no way to trace the launcher."""
    agent, launcher = world.agent.process.pid, _launcher_pid(world)
    script = (
        f"ls /proc/self/fd | wc -l; cat {world.home}/agent/agent.db {world.home}/agent/meta/executor_key {world.launcher}/journal "
        f"/proc/{agent}/environ /proc/{launcher}/environ 2>/dev/null | wc -c; "
        f"kill -9 {agent} {launcher} 2>/dev/null; cat /proc/self/status | grep -E '^(Groups|CapEff|CapPrm|CapInh)'"
    )
    descriptors, leaked, *status = world.run(script).splitlines()
    assert int(descriptors) <= 4
    assert leaked == "0"
    assert dict(line.split(":\t") for line in map(str.rstrip, status) if ":\t" in line)["CapEff"] == "0" * 16
    assert world.agent.process.poll() is None


def _launcher_pid(world: World) -> int:
    return next(pid for pid, line in command_lines().items() if str(world.launcher) in line and "launcher/main.py" in line)


def test_another_user_commands_no_launcher(world: World) -> None:
    path = str(world.launcher / SOCKET)

    def connect() -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
        return "connected"

    assert "PermissionError" in as_user("nobody", connect)
    assert stat.S_IMODE(world.launcher.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in world.launcher.iterdir() if path.name != SOCKET)


def test_the_launcher_also_looks_at_who_calls(world: World) -> None:
    """Should its folder ever be open to others."""
    path = str(world.launcher / SOCKET)
    launch = {
        "type": "launch",
        "container": "evil",
        "argv": ["/bin/true"],
        "env": {},
        "cwd": "/",
        "stdout": "/dev/null",
        "stderr": "/dev/null",
    }
    commands = [{"type": "hello", "version": 1}, launch, {"type": "exit", "kill_all": True}]
    lines = b"".join(json.dumps(command).encode() + b"\n" for command in commands)

    def command() -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            try:
                connection.sendall(lines)
                return connection.recv(65536).decode()
            except OSError:
                return ""

    pid = _launcher_pid(world)
    try:
        world.launcher.chmod(0o777)
        os.chmod(path, 0o777)
        assert as_user("nobody", command) == ""
        assert as_user("daemon", command) == ""
    finally:
        world.launcher.chmod(0o700)
    assert _launcher_pid(world) == pid
    assert world.run("echo still here") == "still here\n"


def test_another_user_signals_nobody(world: World) -> None:
    pids = [world.master.process.pid, world.agent.process.pid, _launcher_pid(world)]

    def send() -> list[str]:
        told = []
        for pid in pids:
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
                try:
                    os.kill(pid, number)
                    told.append(f"{pid} got {number}")
                except PermissionError:
                    continue
        return told

    assert as_user("nobody", send) == []
    assert as_user("daemon", send) == []


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("master", 1, "Error: every user of this machine can write in {}: take another folder, or `chmod o-w` it"),
        ("agent", 2, "Error: --work-dir: every user of this machine can write in {}; take another, or `chmod o-w` it"),
    ],
)
def test_a_folder_that_all_can_write_in_is_not_used(tmp_path: Path, kind: str, status: int, message: str) -> None:
    tmp_path.chmod(0o1777)
    daemon = Daemon(kind, tmp_path)
    assert daemon.ended() == status
    assert daemon.log.splitlines()[-1] == message.format(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_up_cannot_be_held_by_another_user(tmp_path: Path) -> None:
    home = Path(tempfile.mkdtemp(prefix="meseta-lock-"))
    home.chmod(0o755)
    try:
        lock = take_lock(str(home))
        assert lock is not None
        os.close(lock)

        def hold() -> str:
            with open(home / "up.lock") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return "held"

        assert "PermissionError" in as_user("nobody", hold)
    finally:
        shutil.rmtree(home)


def test_a_link_in_a_sandbox_shows_nothing_that_its_user_may_not_see(world: World) -> None:
    """Root reads files for whoever asks: only those that lie in the sandbox."""
    world.run(
        "ln -s /etc/shadow shadow; ln -s / root; ln -s ../../../../../../../../master/registry.db up; ln -s /dev/zero zero; mkfifo pipe"
    )
    sandbox = max(world.sandboxes(), key=lambda path: path.stat().st_mtime)
    links = [
        "shadow",
        "root/etc/shadow",
        "up",
        "zero",
        "pipe",
        "root",
        "../stdout",
        "../../../../../../agent.db",
        "%2e%2e/x",
        "stdout/../../x",
    ]
    eventually(lambda: (sandbox / "pipe").exists(), LIMIT_S)
    for name in links:
        for virtual in (f"{sandbox}/{name}", f"{str(sandbox.parent).split(str(world.home / 'agent'))[1]}/x/{name}"):
            for kind, body in (("READ_FILE", {"path": virtual, "offset": 0, "length": 100}), ("LIST_FILES", {"path": virtual})):
                answer = _told(world.agent, {"type": kind, kind.lower(): body})
                assert answer.startswith(("400", "404")), (virtual, answer)
            for endpoint in ("read", "browse", "download"):
                answer = _told(world.agent, f"/files/{endpoint}?path={virtual}&offset=0&length=100")
                assert answer.startswith(("400", "404")), (endpoint, virtual, answer)


def _told(daemon: Daemon, what: Any) -> str:
    """The status and text of a refusal; what was shown where there was none."""
    try:
        shown = daemon.client.get_bytes(what) if isinstance(what, str) else daemon.client.call(what)
    except Refused as refused:
        return f"{refused.status} {refused.text}"
    return f"200 {shown!r}"
