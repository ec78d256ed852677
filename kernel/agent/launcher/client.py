"""The agent's side of the launcher: starts it, stays connected, sends commands and hands on what it tells.

Not part of the launcher's process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import cast

import msgspec
from msgspec import Struct

from kernel.agent.launcher import protocol
from kernel.agent.launcher.core import VERSION
from kernel.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

CONNECT_RETRY_S = 0.01
START_DEADLINE_S = 10.0
HAND_OVER_S = 10.0
RETRY_S_MAX = 5.0


# Commands. Sent as they are; see `core` for their meaning.


class Launch(Struct, frozen=True, gc=False, tag_field="type", tag="launch", omit_defaults=True):
    """Start a process; see `core.Launch`."""

    container: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    stdout: str
    stderr: str
    executable: str | None = None
    user: str | None = None
    groups: tuple[int, ...] | None = None
    rlimits: Mapping[str, tuple[int | None, int | None]] | None = None
    cgroups: tuple[str, ...] = ()
    pidfile: str | None = None
    terminal: tuple[int, int] | None = None


class Signal(Struct, frozen=True, gc=False, tag_field="type", tag="signal"):
    """Send a signal to the leader of a container or to its process group."""

    container: str
    signal: int
    whole_group: bool = True


class Forget(Struct, frozen=True, gc=False, tag_field="type", tag="forget"):
    """The end of this container is recorded by the agent."""

    container: str


# Events, given to the callback.


class Exit(Struct, frozen=True, gc=False):
    """How a process ended. status: raw wait status (os.waitstatus_to_exitcode), None when nobody can tell any more."""

    status: int | None
    ended_s: float


class Failure(Struct, frozen=True, gc=False):
    """Why a process could not be started. reason: see `spawn.SpawnError`; message: for people."""

    reason: str
    message: str


class ContainerReport(Struct, frozen=True, gc=False):
    """One container in the state. Neither exit nor failed: it runs. started_at: wall-clock seconds."""

    container: str
    pid: int | None
    started_at: float
    exit: Exit | None = None
    failed: Failure | None = None


class LauncherState(Struct, frozen=True, tag_field="type", tag="state"):
    """Told once after each connect: every container that is not forgotten. What is not here, the launcher does not know.

    Launches it does not know and forgets are sent again by the client; signals are not.
    """

    containers: tuple[ContainerReport, ...]
    version: int = VERSION
    build: str = ""
    more: bool = False


class Started(Struct, frozen=True, gc=False, tag_field="type", tag="started"):
    """A process runs."""

    container: str
    pid: int


class LaunchFailed(Struct, frozen=True, gc=False, tag_field="type", tag="failed"):
    """A process could not be started."""

    container: str
    reason: str
    message: str


class Exited(Struct, frozen=True, gc=False, tag_field="type", tag="exited"):
    """A process ended; told again in each state until `forget`."""

    container: str
    status: int | None
    ended_s: float


class LauncherLost(Struct, frozen=True):
    """The connection is gone; tasks run on, and the client reconnects. A LauncherState follows."""


class _Refused(Struct, frozen=True, tag_field="type", tag="refused"):
    version: int
    build: str


class _Busy(Struct, frozen=True, tag_field="type", tag="busy"):
    containers: int


class _Error(Struct, frozen=True, tag_field="type", tag="error"):
    message: str


LauncherEvent = LauncherState | Started | LaunchFailed | Exited | LauncherLost

_decoder = msgspec.json.Decoder(LauncherState | Started | LaunchFailed | Exited | _Refused | _Busy | _Error)
_encode = msgspec.json.Encoder().encode
_PROCESS_NAMES = ("cgroups", "core", "journal", "loop", "main", "processes", "protocol", "spared", "spawn", "terminals")


def build_id() -> str:
    """Return a name for the launcher's code as installed here: an upgrade changes it."""
    here = Path(__file__).parent
    checksum = 0
    for name in _PROCESS_NAMES:
        checksum = zlib.crc32((here / f"{name}.py").read_bytes(), checksum)
    return f"{checksum:08x}"


class LauncherClient:
    """Keeps one agent connected to the launcher of a directory. For the event loop's own thread.

    Commands may be given at any time. A launch is sent again after a reconnect until the launcher has answered for it.
    """

    def __init__(self, directory: Path, on_event: Callable[[LauncherEvent], None], python: str = sys.executable) -> None:
        """directory: the launcher's own, below the agent's work dir. on_event: must not raise or wait."""
        self.directory = directory
        self.pid: int | None = None
        """Of the launcher, while connected."""
        self._on_event = on_event
        self._command = (python, "-S", "-E", "-I", "-X", "utf8", str(Path(__file__).with_name("main.py")), "--dir", str(directory))
        self._build = build_id()
        self._child: int | None = None  # The launcher we started, or one that found another in place.
        self._link: _Link | None = None
        self._connected = asyncio.Event()
        self._busy = asyncio.Event()
        self._replaced = False
        self._stopping = False
        self._exit = b""
        self._ended = asyncio.Event()
        self._unanswered: dict[str, Launch] = {}
        self._unsent: list[bytes] = []
        self._flushing = False

    @property
    def connected(self) -> bool:
        """Whether the launcher has told its state and takes commands."""
        return self._connected.is_set()

    @property
    def unanswered(self) -> Collection[str]:
        """The containers whose launch the launcher has not answered."""
        return self._unanswered

    async def wait_connected(self) -> None:
        """Wait until the state was told."""
        await self._connected.wait()

    def launch(self, launch: Launch) -> None:
        """Start a process. Answered by Started or LaunchFailed."""
        line = _encode(launch)
        if len(line) > protocol.LINE_BYTES_MAX:
            message = f"command and environment take {len(line)} bytes; at most {protocol.LINE_BYTES_MAX} are possible"
            asyncio.get_running_loop().call_soon(self._on_event, LaunchFailed(launch.container, "too long", message))
            return
        if launch.container not in self._unanswered:
            self._unanswered[launch.container] = launch
            if self.connected:
                self._send(line)

    def signal(self, container: str, number: int, whole_group: bool = True) -> None:
        """Send a signal. While disconnected it waits for the next connection."""
        self._send(_encode(Signal(container, number, whole_group)))

    async def terminal(self, container: str) -> int:
        """Our end of a container's terminal, to type on; it is not blocking. Raises NotFound; Unavailable while there is no launcher."""
        return await asyncio.to_thread(self._ask_for_terminal, container)

    def _ask_for_terminal(self, container: str) -> int:
        """On a connection of its own, as descriptors cannot come in between other lines."""
        try:
            with self._open_socket() as sock:
                sock.settimeout(HAND_OVER_S)
                sock.sendall(_encode({"type": "terminal", "container": container}) + b"\n")
                fds = socket.recv_fds(sock, protocol.LINE_BYTES_MAX, 1)[1]
        except OSError as error:
            raise Unavailable(f"the launcher cannot be asked: {error.strerror or error}") from error
        if not fds:
            raise NotFound(f"Container {container} has no terminal any more")
        os.set_inheritable(fds[0], False)
        return fds[0]

    def forget(self, container: str) -> None:
        """Say that the end of a container, an exit or a failure, is recorded."""
        self._send(_encode(Forget(container)))

    def _send(self, line: bytes) -> None:
        self._unsent.append(line)
        if not self._flushing and self.connected:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._link is not None and self.connected and self._unsent:
            self._link.transport.write(b"\n".join([*self._unsent, b""]))
            self._unsent.clear()

    async def run(self) -> None:
        """Stay connected until cancelled, or until `stop` has ended the launcher. It is started when there is none."""
        retry_s = CONNECT_RETRY_S
        while True:
            try:
                link = await self._connect()
            except (OSError, Unavailable) as error:
                log.error("no launcher in %s: %s", self.directory, error)
                await asyncio.sleep(retry_s)
                retry_s = min(RETRY_S_MAX, 2 * retry_s)
                continue
            if link is None:
                self._ended.set()
                return
            try:
                await link.closed.wait()
            finally:
                was_connected = self.connected
                self._link, self.pid = None, None
                self._connected.clear()
                link.transport.close()
            if was_connected:
                retry_s = CONNECT_RETRY_S
                if not self._stopping:
                    self._on_event(LauncherLost())
            await asyncio.sleep(retry_s)
            retry_s = min(RETRY_S_MAX, 2 * retry_s)

    async def stop(self, kill_all: bool = False, deadline_s: float = 10.0) -> bool:
        """Ask the launcher to end, killing what runs if asked to. Without kill_all it stays while it knows containers.

        Only while `run` runs. Returns whether it has ended by the deadline; if not, the client goes on as before.
        """
        self._busy.clear()
        self._stopping, self._exit = True, _encode({"type": "exit", "kill_all": kill_all}) + b"\n"
        if self.connected and self._link is not None:
            self._flush()
            self._link.transport.write(self._exit)
        answers = [asyncio.ensure_future(event.wait()) for event in (self._ended, self._busy)]
        await asyncio.wait(answers, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        for answer in answers:
            answer.cancel()
        self._stopping = self._ended.is_set()
        return self._stopping

    async def _connect(self) -> _Link | None:
        """Connect, after starting the launcher if need be; None when it was to stop and has. Raises OSError, Unavailable."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_DEADLINE_S
        while True:
            try:
                sock = self._open_socket()
                break
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                if not self._child_runs():
                    if self._stopping:
                        return None
                    self._start()
            if loop.time() > deadline:
                raise Unavailable(f"it does not answer within {START_DEADLINE_S:.0f} s; see {self.directory / 'launcher.log'}")
            await asyncio.sleep(CONNECT_RETRY_S)
        self.pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        _, link = await loop.create_unix_connection(lambda: _Link(self._receive), sock=sock)
        self._link = link
        link.transport.write(_encode({"type": "hello", "version": VERSION}) + b"\n")
        return link

    def _open_socket(self) -> socket.socket:
        directory = os.open(self.directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.connect(f"/proc/self/fd/{directory}/{protocol.SOCKET}")  # Its own path may be too long for an address.
        except BaseException:
            sock.close()
            raise
        finally:
            os.close(directory)
        return sock

    def _start(self) -> None:
        """Start the process. Raises OSError."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(self.directory / "launcher.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._child = os.posix_spawn(
                self._command[0],
                [*self._command, "--build", self._build],
                {"PATH": os.defpath},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; tasks should not.
            )
        finally:
            os.close(output)

    def _child_runs(self) -> bool:
        """Whether the process started last still runs. Raises Unavailable when it has failed."""
        if self._child is None:
            return False
        pid, status = os.waitpid(self._child, os.WNOHANG)
        if pid == 0:
            return True
        self._child = None
        if os.waitstatus_to_exitcode(status) in (1, 2):
            raise Unavailable(f"its process has failed; see {self.directory / 'launcher.log'}")
        return False

    def _receive(self, line: bytes) -> None:
        message = _decoder.decode(line)
        match message:
            case LauncherState():
                self._take_state(message)
            case _Refused(version, build):
                self._replace(f"speaks version {version} (build {build})")
            case _Busy():
                self._busy.set()
            case _Error(text):
                log.error("the launcher refused what was sent: %s", text)
            case Started(container) | LaunchFailed(container):
                self._unanswered.pop(container, None)
                self._on_event(message)
            case Exited(container):
                self._unanswered.pop(container, None)
                self._on_event(message)

    def _take_state(self, part: LauncherState) -> None:
        assert self._link is not None
        self._link.containers += part.containers
        if part.more:
            return
        if part.build != self._build and not self._replaced:
            self._replace(f"runs build {part.build}")
            return
        for report in self._link.containers:
            self._unanswered.pop(report.container, None)
        self._unsent[:0] = [_encode(launch) for launch in self._unanswered.values()]
        self._connected.set()
        self._flush()
        self._on_event(LauncherState(tuple(self._link.containers), part.version, part.build))
        if self._stopping:
            self._link.transport.write(self._exit)

    def _replace(self, what: str) -> None:
        """Make the launcher run our code. Its pid stays, so the tasks remain its children."""
        assert self._link is not None
        if self._replaced:
            log.error("the launcher in %s %s and cannot be replaced", self.directory, what)
            self._link.transport.close()
            return
        log.info("the launcher in %s %s; it becomes build %s", self.directory, what, self._build)
        self._replaced = True
        argv = [*self._command, "--build", self._build]
        self._link.transport.write(_encode({"type": "replace", "argv": argv}) + b"\n")


class _Link(asyncio.Protocol):
    """One connection: cuts what comes into lines."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self.closed = asyncio.Event()
        self.containers: list[ContainerReport] = []
        self._receive = receive
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._receive(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
