"""Where the launcher's decisions meet the world: sockets, the journal, processes.

One thread, woken by the agent's socket, by SIGCHLD and by the pidfds of adopted processes; it sleeps otherwise. Of several connections the
one that said hello last is the agent. What an earlier one still had to say is dropped, for the new agent was told a state without it.
"""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import assert_never

from kernel.agent.launcher import processes, protocol
from kernel.agent.launcher.core import (
    VERSION,
    BadCommand,
    Command,
    Core,
    Effect,
    Ended,
    Event,
    Execute,
    Hello,
    Json,
    Kill,
    Launch,
    Reap,
    Record,
    Replace,
    Send,
    Spawn,
    Spawned,
    SpawnFailed,
    Stop,
)
from kernel.agent.launcher.journal import Journal
from kernel.agent.launcher.spawn import Spawner, SpawnError
from kernel.agent.launcher.terminals import VARIABLE, Terminals

OUTBOUND_BYTES_MAX = 8 * 1024 * 1024
"""An agent that does not read is dropped here; its next hello is told the state."""

COMMANDS_A_TURN = 16
"""Exits are noticed and told in between."""

CONNECTIONS_MAX = 16
MESSAGE_CHARACTERS_MAX = 1000
DISK_RETRY_S = 1.0

UNUSED_S = 300.0
"""A launcher that runs nothing and hears from no agent for so long ends; an agent starts a new one when it needs it."""

_READ_BYTES = 256 * 1024
_PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


class Connection:
    """One peer on the socket."""

    __slots__ = ("lines", "outbound", "rest", "sock", "writing")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.lines: deque[bytes] = deque()  # Whole ones, not obeyed yet.
        self.rest = b""
        self.outbound = bytearray()
        self.writing = False  # Whether the selector waits for room.


class Launcher:
    """The process as a whole. Make it in the main thread, run it in another (see `spawn`)."""

    def __init__(self, build: str, terminals: str = "") -> None:
        """The current directory is the launcher's, and its lock is held. terminals: what a predecessor in place has handed on
        (`terminals.VARIABLE`). Raises OSError when the journal cannot be written."""
        self.task_nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (self.task_nofile[1], self.task_nofile[1]))
        self.core = Core(build)
        self.journal = Journal(os.path.abspath(protocol.JOURNAL), processes.boot_id(), self.core.snapshot)
        self.terminals = Terminals(terminals)
        self.spawner = Spawner(self.task_nofile, self.terminals)
        self.agent: Connection | None = None
        self.untold: list[Json] = []  # For the agent, once the journal is written.
        self.connections: set[Connection] = set()
        self.adopted: dict[str, int] = {}  # {container: pidfd}, of processes that are not our children.
        self.starters: dict[int, Launch] = {}  # By pid: processes that start those of containers and end.
        self.stopping = False
        self.successor: tuple[str, ...] = ()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.selector = selectors.DefaultSelector()
        self.child_signals = _watch_children()
        self._watch(self.child_signals, self._reap)

    def run(self) -> tuple[str, ...]:
        """Take up what a predecessor left, then serve. Returns the program to become, empty to end."""
        for name in self.terminals.names():
            self._watch_terminal(name)
        self._recover()
        self._reap()  # Children that ended while we became this program.
        self._listen()
        while not self.stopping:
            ready = self.selector.select(self._timeout_s())
            if not ready and self._unused():
                break
            for key, events in ready:
                key.data(events)
            for connection in [c for c in self.connections if c.lines]:
                self._obey(connection)
            self.spawner.rest()
            self._flush()
        self._close()
        return self.successor

    def _timeout_s(self) -> float | None:
        if any(c.lines for c in self.connections):
            return 0.0
        if not self.journal.flush():
            return DISK_RETRY_S
        return UNUSED_S if not self.connections and self.core.idle else None

    def _unused(self) -> bool:
        return not self.connections and self.core.idle and self.journal.flush()

    def _watch(self, fd: int, call: Callable[[int], object]) -> None:
        self.selector.register(fd, selectors.EVENT_READ, call)

    # What a predecessor left.

    def _recover(self) -> None:
        records, same_boot = self.journal.load()
        self.core.restore(records)
        self.journal.compact()
        unresolved = self.core.unresolved()
        nameless = {c.name for c in unresolved if not c.pid} if same_boot else set()
        for pid in processes.starters_of(nameless) if nameless else ():
            processes.kill_child(pid)  # What it has started is found below; nothing may be started behind our back.
        found = processes.find_by_environment(nameless) if nameless else {}
        for container in unresolved:
            if container.name in found:
                self._feed(Spawned(container.name, *found[container.name]))
            if same_boot and container.pid:
                self._adopt(container.name, container.pid, container.start)
            else:
                self._feed(Ended(container.name, None))
        self.journal.flush()
        if unresolved:
            _say(f"found {len(self.core.by_pid)} of {len(unresolved)} containers running, {len(self.adopted)} of them adopted")

    def _adopt(self, name: str, pid: int, start: int) -> None:
        """Watch a process that a predecessor started. A child of ours needs nothing: only our program was replaced."""
        found = processes.stat(pid)
        if found is not None and found.start == start and found.parent == os.getpid():
            return
        pidfd = processes.open_pidfd(pid, start)
        if pidfd is None:
            self._end_adopted(name, pid, start, None)
            return

        def ended(_: int) -> None:
            self._end_adopted(name, pid, start, processes.exit_of_other(pidfd, pid, start))

        self.adopted[name] = pidfd
        self._watch(pidfd, ended)

    def _end_adopted(self, name: str, pid: int, start: int, status: int | None) -> None:
        processes.send_signal(pid, start, signal.SIGKILL, whole_group=True)
        self._feed(Ended(name, status))

    # Processes.

    def _reap(self, _: int = 0) -> None:
        try:
            os.read(self.child_signals, 128)  # It says no more than that there are some.
        except BlockingIOError:
            pass
        while (dead := processes.next_dead_child()) is not None:
            pid, status = dead
            if pid in self.starters:
                self._starter_ended(pid, status)
                continue
            if pid not in self.core.by_pid:
                self._look_for_started(pid)
            container = self.core.by_pid.get(pid)
            if container is None or container.name in self.adopted:
                processes.reap(pid)  # What some task left behind.
            else:
                processes.kill_rest_of_group(pid)
                self._feed(Ended(container.name, status))
            self._kill_orphans()

    def _starter_ended(self, pid: int, status: int) -> None:
        """A starter has done its work, or failed: then its last words say why."""
        launch = self.starters.pop(pid)
        processes.reap(pid)
        started = _number_in(launch.pidfile) if status == 0 else None
        found = processes.stat(started) if started is not None else None
        if started is not None and found is not None:
            self._feed(Spawned(launch.container, started, found.start))
        elif self.core.lives(launch.container):
            why = _last_words(launch.stderr) or f"the runtime left no process (its wait status is {status})"
            self._feed(SpawnFailed(launch.container, "runtime", why))

    def _look_for_started(self, pid: int) -> None:
        """A child that nobody knows has ended: it may be what a starter has started, and is quicker than that one's end is noticed."""
        for launch in self.starters.values():
            found = processes.stat(pid) if _number_in(launch.pidfile) == pid else None
            if found is not None:
                self._feed(Spawned(launch.container, pid, found.start))

    def _kill_orphans(self) -> None:
        """SIGKILL what left the group of a container that has ended; what it leaves in turn comes to us when it is dead."""
        for pid in processes.children_of_main_thread():
            name = None if pid in self.core.by_pid else processes.container_of(pid)
            if name is not None and not self.core.lives(name):
                processes.kill_child(pid)

    def _feed(self, message: Command | Event) -> None:
        self._perform(self.core.receive(message, time.time()))

    def _perform(self, effects: list[Effect]) -> None:
        """Carry out effects in order. What is to be told waits for `_flush`."""
        for effect in effects:
            match effect:
                case Record(entry):
                    self.journal.append(entry)
                case Send(message):
                    self.untold.append(message)
                case Spawn(launch):
                    event = self._spawn(launch)
                    if event is not None:
                        self._feed(event)
                case Reap(name, pid):
                    self._let_go(name, pid)
                case Kill(pid, start, number, whole_group):
                    processes.send_signal(pid, start, number, whole_group)
                case Stop():
                    self.stopping = True
                case Execute(argv):
                    self._become(argv)
                case _:
                    assert_never(effect)

    def _spawn(self, launch: Launch) -> Event | None:
        if not self.journal.flush():
            return SpawnFailed(launch.container, "no resources", "the launcher cannot write its journal: the disk is full or broken")
        try:
            pid = self.spawner.spawn(launch)
        except SpawnError as error:
            return SpawnFailed(launch.container, error.reason, error.message[:MESSAGE_CHARACTERS_MAX])
        if launch.pidfile is not None:
            self.starters[pid] = launch
            return None
        self._watch_terminal(launch.container)
        found = processes.stat(pid)
        assert found is not None, "our child stays, if only as a zombie, until we reap it"
        return Spawned(launch.container, pid, found.start)

    def _watch_terminal(self, name: str) -> None:
        """Copy what is shown on it, if there is one."""
        terminal = self.terminals.get(name)
        if terminal is not None:
            self._watch(terminal.master, lambda _: self.terminals.copy(name))

    def _let_go(self, name: str, pid: int) -> None:
        terminal = self.terminals.get(name)
        if terminal is not None:  # Before its end is told: then all is in the file.
            self.selector.unregister(terminal.master)
            self.terminals.close(name)
        self.journal.flush()  # On a full disk the exit is only in memory, but it is not told before it is written.
        pidfd = self.adopted.pop(name, None)
        if pidfd is None:
            processes.reap(pid)
        else:
            self.selector.unregister(pidfd)
            os.close(pidfd)

    def _become(self, argv: tuple[str, ...]) -> None:
        while self.starters:  # The next program would not know them.
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            self._reap()
        if os.access(argv[0], os.X_OK) and self.journal.flush():
            self.successor, self.stopping = argv, True
        else:
            _say(f"cannot be replaced by {argv[0]}: it cannot be executed, or the journal not be written")

    # The socket.

    def _listen(self) -> None:
        try:
            os.unlink(protocol.SOCKET)
        except FileNotFoundError:
            pass
        self.listener.setblocking(False)
        self.listener.bind(protocol.SOCKET)  # Relative, as an absolute path may be too long for an address.
        self.listener.listen(CONNECTIONS_MAX)
        self._watch(self.listener.fileno(), self._accept)

    def _accept(self, _: int) -> None:
        try:
            sock, _address = self.listener.accept()
        except BlockingIOError:
            return
        _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()) or len(self.connections) >= CONNECTIONS_MAX:
            _say(f"refused a connection of user {uid}")
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(sock)
        self.connections.add(connection)
        self._watch(sock.fileno(), lambda events: self._serve(connection, events))

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ and not connection.lines:
            self._read(connection)
        if events & selectors.EVENT_WRITE and connection in self.connections:
            self._write(connection)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        *lines, connection.rest = (connection.rest + data).split(b"\n")
        if max(map(len, [*lines, connection.rest])) > protocol.LINE_BYTES_MAX:
            self._refuse(connection, f"a line is longer than {protocol.LINE_BYTES_MAX} bytes")
        else:
            connection.lines.extend(lines)

    def _obey(self, connection: Connection) -> None:
        for _ in range(min(COMMANDS_A_TURN, len(connection.lines))):
            if connection not in self.connections or self.stopping:
                return
            try:
                command = protocol.decode(connection.lines.popleft(), VERSION)
                if isinstance(command, protocol.HandOver):
                    self._hand_over(connection, command.container)
                    continue
                if isinstance(command, Hello):
                    if self.agent is not None and self.agent is not connection:
                        self._drop(self.agent)
                    self.agent = connection
                    self.untold.clear()  # The state has it all.
                elif self.agent is not connection and not isinstance(command, Replace):
                    raise BadCommand("hello comes first")
            except protocol.BadLaunch as error:
                self.untold.append({"type": "failed", "container": error.container, "reason": "invalid", "message": str(error)})
            except BadCommand as error:
                self._refuse(connection, str(error))
            except protocol.OtherVersion:
                self._send(connection, {"type": "refused", "version": VERSION, "build": self.core.build})
            else:
                self._feed(command)
                if isinstance(command, Replace) and not self.stopping:
                    self._drop(connection)  # It waits for that.

    def _send(self, connection: Connection, message: Json) -> None:
        connection.outbound += protocol.encode(message)
        if len(connection.outbound) > OUTBOUND_BYTES_MAX:
            _say("dropped an agent that does not read")
            self._drop(connection)

    def _hand_over(self, connection: Connection, container: str) -> None:
        """Nothing else is under way on a connection that asks for this first."""
        terminal = self.terminals.get(container)
        line = protocol.encode({"type": "terminal", "container": container, "found": terminal is not None})
        try:
            socket.send_fds(connection.sock, [line], [] if terminal is None else [terminal.master])
        except OSError:
            self._drop(connection)

    def _flush(self) -> None:
        if self.journal.flush():
            for message in self.untold:
                if self.agent is not None:
                    self._send(self.agent, message)
            self.untold.clear()
        for connection in [c for c in self.connections if c.outbound and not c.writing]:
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        try:
            del connection.outbound[: connection.sock.send(connection.outbound)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        if connection.writing != bool(connection.outbound):
            connection.writing = not connection.writing
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.writing else 0)
            self.selector.modify(connection.sock, events, self.selector.get_key(connection.sock).data)

    def _refuse(self, connection: Connection, message: str) -> None:
        _say(f"dropped an agent that sent what is not allowed: {message}")
        self._send(connection, {"type": "error", "message": message})
        if connection in self.connections:
            self._write(connection)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if self.agent is connection:
            self.agent = None
        self.selector.unregister(connection.sock)
        connection.sock.close()

    def _close(self) -> None:
        self._flush()
        if not self.successor:
            os.unlink(protocol.SOCKET)
        for connection in list(self.connections):
            self._drop(connection)
        self.listener.close()
        if self.successor:
            os.environ[VARIABLE] = self.terminals.hand_on()
        resource.setrlimit(resource.RLIMIT_NOFILE, self.task_nofile)


def _number_in(path: str | None) -> int | None:
    try:
        with open(path or "", encoding="ascii") as file:
            text = file.read(32).strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdigit() else None


def _last_words(path: str) -> str:
    """The end of what a starter wrote."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MESSAGE_CHARACTERS_MAX))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""


def _watch_children() -> int:
    """Make orphans of tasks our children, and return a file descriptor that is readable when a child has ended.

    Not a handler: that would run in the main thread, for each exit once.
    """
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    mask = (1 << (signal.SIGCHLD - 1)).to_bytes(128, "little")
    fd: int = _libc.signalfd(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%d %H:%M:%S"), f"launcher: {text}", file=sys.stderr, flush=True)
