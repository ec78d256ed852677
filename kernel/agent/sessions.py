"""Processes beside a running container, for somebody who watches: their input and output are on a connection, and they end with it
(spec: mesos-v1, section 4.2, LAUNCH_NESTED_CONTAINER_SESSION). They are not kept over a restart of the agent: nobody watches then.

Started by subprocess in a thread, as they may need a terminal, pipes and another user at once; never through the event loop, whose
subprocesses fork. Whoever started a container decides how something gets into it (`enter`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import shutil
import signal
import struct
import subprocess
import termios
import tty
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from kernel.errors import CallError, Conflict, NotFound, Unavailable
from kernel.net.stream import RecordStream
from kernel.wire import codec
from kernel.wire.agent_operator import Data, DataType, ProcessIO, ProcessIOType
from kernel.wire.container import WindowSize

READ_BYTES = 64 * 1024
INPUT_BYTES_MAX = 1 << 20  # Not taken by the process yet; then its sender waits.
OUTPUT_BYTES_MAX = 1 << 20  # Not taken by its reader yet; then the process waits.
LOOK_S = 0.02
ENDED_MAX = 200
SESSIONS_MAX = 200
GRACE_S = 1.0


class Entry(Struct, frozen=True):
    """How a process gets into a container. user: None for our own; join: called with its pid once it is there. raw: its terminal only
    leads on to another one."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: str
    user: str | None
    join: Callable[[int], None]
    raw: bool = False


class Guest(Struct, frozen=True):
    """What is to run in a container. argv: with its program; user: None for the container's."""

    argv: tuple[str, ...]
    env: dict[str, str]
    user: str | None
    terminal: bool


class Session:
    """One such process. output: its records, for the one who started it."""

    def __init__(self, name: str, parent: str, terminal: bool) -> None:
        self.name, self.parent, self.terminal = name, parent, terminal
        self.output = RecordStream()
        self.watchers: set[RecordStream] = set()  # Others who see it from some time on; who is slow is cut off.
        self.status: int | None = None  # Its raw wait status.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.attached = False  # Somebody sends its input.
        self.pid = 0
        self._input = -1
        self._outputs: dict[int, DataType] = {}
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._ends = False  # Its input ends with what waits.

    def begin(self, process: subprocess.Popen[bytes], terminal: int | None) -> None:
        """Follow what was started."""
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        if terminal is not None:
            self._input = os.dup(terminal)
            self._outputs = {terminal: DataType.STDOUT}
        else:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            self._input = os.dup(process.stdin.fileno())
            self._outputs = {os.dup(process.stdout.fileno()): DataType.STDOUT, os.dup(process.stderr.fileno()): DataType.STDERR}
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
        for fd in (self._input, *self._outputs):
            os.set_blocking(fd, False)
        for fd in self._outputs:
            loop.add_reader(fd, self._read, fd)
        pidfd = os.pidfd_open(self.pid)
        loop.add_reader(pidfd, self._ended, process, pidfd)

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # The other end of a terminal is closed.
            data = b""
        if data:
            record = codec.encode(ProcessIO(ProcessIOType.DATA, Data(self._outputs[fd], data)))
            for stream in (self.output, *self.watchers):
                stream.send(record)
            if not self.output.closed:
                if self.output.unread_bytes > OUTPUT_BYTES_MAX:
                    self._pause(fd)
                return
        self._close_output(fd)

    def _pause(self, fd: int) -> None:
        """Read no more until the one who watches has; a transport tells nobody else when."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(fd)
        loop.call_later(LOOK_S, self._resume, fd)

    def _resume(self, fd: int) -> None:
        if fd not in self._outputs:
            return
        if self.output.unread_bytes > OUTPUT_BYTES_MAX and not self.output.closed:
            self._pause(fd)
        else:
            asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def _close_output(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        del self._outputs[fd]
        os.close(fd)
        self._finish()

    def _ended(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        code = process.wait()  # It has ended.
        self.status = -code if code < 0 else code << 8
        self.close_input()
        self._finish()

    def _finish(self) -> None:
        if self.status is not None and not self._outputs and not self.over.done():
            self.over.set_result(None)
            for stream in (self.output, *self.watchers):
                stream.close()

    async def write(self, data: bytes) -> None:
        """Give the process input; none ends it, as the end of a file, or as Ctrl-D on a terminal."""
        await self._room.wait()
        if self._input < 0:
            return
        if not data and not self.terminal:
            self._ends = True
        elif not self._ends:
            self._waiting.append(data or b"\x04")
            self._waiting_bytes += len(data) or 1
        self._feed()

    def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            try:
                taken = os.write(self._input, self._waiting[0])
            except BlockingIOError:
                loop.add_writer(self._input, self._feed)
                break
            except OSError:  # It reads no more.
                self._waiting.clear()
                self._waiting_bytes = 0
                self._ends = True
                break
            self._waiting_bytes -= taken
            rest = self._waiting.popleft()[taken:]
            if rest:
                self._waiting.appendleft(rest)
        else:
            loop.remove_writer(self._input)
        if not self._waiting and self._ends:
            self.close_input()
        if self._waiting_bytes < INPUT_BYTES_MAX:
            self._room.set()
        else:
            self._room.clear()

    def resize(self, size: WindowSize) -> None:
        """Tell a terminal how large its window is."""
        if self.terminal and self._input >= 0:
            fcntl.ioctl(self._input, termios.TIOCSWINSZ, window_bytes(size))

    def close_input(self) -> None:
        if self._input >= 0:
            asyncio.get_running_loop().remove_writer(self._input)
            os.close(self._input)
            self._input = -1
        self._room.set()

    def signal(self, number: int) -> None:
        """Signal the process and its group."""
        if self.pid and self.status is None:
            try:
                os.killpg(self.pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    async def end(self) -> None:
        """SIGTERM, then SIGKILL; what it left behind with its output open is not read on."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.signal(number)
            if (await asyncio.wait({self.over}, timeout=GRACE_S))[0]:
                return
        for fd in list(self._outputs):
            self._close_output(fd)


class Sessions:
    """All of an agent's, and how the last ones ended."""

    def __init__(self) -> None:
        self._running: dict[str, Session] = {}
        self._ended: OrderedDict[str, int | None] = OrderedDict()

    def find(self, name: str) -> Session:
        """Raises NotFound."""
        if name not in self._running:
            raise NotFound(f"Container {name} cannot be found")
        return self._running[name]

    def get(self, name: str) -> Session | None:
        return self._running.get(name)

    def status(self, name: str) -> tuple[bool, int | None]:
        """Whether a session of this name has ended, and with what wait status."""
        return name in self._ended, self._ended.get(name)

    def forget(self, name: str) -> bool:
        """Forget how a session ended; return whether that was known."""
        known = name in self._ended
        self._ended.pop(name, None)
        return known

    async def start(self, name: str, parent: str, entry: Entry, window: WindowSize | None, terminal: bool) -> Session:
        """Start a process in a container. Raises Conflict for a name in use, CallError for what cannot be started, Unavailable."""
        if name in self._running or name in self._ended:
            raise Conflict(f"Container {name} has been launched already")
        if len(self._running) >= SESSIONS_MAX:
            raise Unavailable(f"{SESSIONS_MAX} sessions are open already")
        session = self._running[name] = Session(name, parent, terminal)
        try:
            process, master = await asyncio.to_thread(_spawn, entry, window, terminal)
        except (OSError, KeyError, ValueError) as error:
            del self._running[name]
            raise CallError(f"cannot run {entry.argv[0]}: {getattr(error, 'strerror', None) or error}") from error
        session.begin(process, master)
        entry.join(process.pid)
        session.over.add_done_callback(lambda _: self._over(session))
        return session

    def _over(self, session: Session) -> None:
        del self._running[session.name]
        self._ended[session.name] = session.status
        while len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)

    def container_ended(self, container_id: str) -> None:
        """What was started beside a container does not outlive it."""
        for session in list(self._running.values()):
            if session.parent == container_id:
                session.signal(signal.SIGKILL)

    async def close(self) -> None:
        """End all of them."""
        await asyncio.gather(*(session.end() for session in list(self._running.values())))


def _spawn(entry: Entry, window: WindowSize | None, terminal: bool) -> tuple[subprocess.Popen[bytes], int | None]:
    """Start it; with a terminal return our end of that. In a thread. Raises OSError, KeyError for an unknown user."""
    who = _User.of(entry.user)
    argv = list(entry.argv)
    if shutil.which(argv[0], path=entry.env.get("PATH")) is None:
        raise FileNotFoundError(2, "no such program", argv[0])
    if not terminal:
        pipe = subprocess.PIPE
        return _popen(entry, argv, (pipe, pipe, pipe), who, new_session=True), None
    master, slave = os.openpty()
    try:
        if window is not None:
            fcntl.ioctl(master, termios.TIOCSWINSZ, window_bytes(window))
        if entry.raw:
            tty.setraw(slave, termios.TCSANOW)
        if who is not None:
            os.fchown(slave, who.uid, -1)
        setsid = shutil.which("setsid") or "/usr/bin/setsid"  # Makes the terminal the controlling one, which Popen cannot.
        process = _popen(entry, [setsid, "--ctty", *argv], (slave, slave, slave), who, new_session=False)
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    return process, master


def _popen(
    entry: Entry, argv: Sequence[str], files: tuple[int, int, int], who: _User | None, *, new_session: bool
) -> subprocess.Popen[bytes]:
    uid, gid, groups = (None, None, None) if who is None else (who.uid, who.gid, who.groups)
    return subprocess.Popen(
        argv,
        stdin=files[0],
        stdout=files[1],
        stderr=files[2],
        cwd=entry.directory,
        env=dict(entry.env),
        start_new_session=new_session,
        user=uid,
        group=gid,
        extra_groups=groups,
    )


class _User(Struct, frozen=True):
    """Whom to become."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, name: str | None) -> _User | None:
        """None to stay who we are. Raises KeyError."""
        if name is None or os.geteuid() != 0:
            return None
        found = pwd.getpwnam(name)
        return cls(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(name, found.pw_gid))) if found.pw_uid else None


def window_bytes(size: WindowSize) -> bytes:
    """A window's size as the kernel takes it, at most what it can take."""
    return struct.pack("HHHH", min(size.rows, 0xFFFF), min(size.columns, 0xFFFF), 0, 0)
