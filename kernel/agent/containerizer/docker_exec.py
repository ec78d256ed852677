"""A process in a container of the Docker engine, as if it were this one: input, output, terminal, signals and exit status go through.

A program of its own, `python -I -S docker_exec.py SOCKET EXEC MARK [--lifeline]`, of nothing but Python's library, so that it begins fast.
EXEC is what the engine was asked to run and has not started yet; MARK, `NAME=VALUE`, a variable that it alone has in its environment.
--lifeline: it gets no input; ours is a socket which takes a byte once it runs, and whose other end must stay open; what it leaves
behind is ended with it.

The engine does not end what it runs in a container when nobody is there for it any more. So a second process, which no signal to this
one reaches, waits for the end of this one, and ends the other and all it has started, unless it has ended by itself. Processes
are looked for in the container's control groups, by their mark: no pid is trusted that does not have it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import termios
import threading
import time
from typing import Any

PIECE_BYTES = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
FRAME_HEADER_BYTES = 8  # The stream's number, three zeros, the length in four bytes.
ANSWER_S = 60.0
LOOK_S, LOOK_S_MAX = 0.005, 0.1
PASSES_MAX = 100
END_S = 60.0  # How long the second process tries.
RELAYED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)


def command(path: str, name: str, mark: str, *, lifeline: bool = False) -> tuple[str, ...]:
    """How this program is called; path: the engine's socket; name: what the engine calls the exec."""
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), path, name, mark, *(("--lifeline",) if lifeline else ()))


class Exec:
    """Something the engine runs in a container."""

    def __init__(self, path: str, name: str, mark: str) -> None:
        """path: the engine's socket."""
        self._path, self._name, self._mark = path, name, mark.encode()
        self._pid, self._container = 0, ""

    def start(self, terminal: bool) -> tuple[socket.socket, bytes]:
        """Begin; returns the connection that carries its input and output, and what came on it already. Raises OSError."""
        body = json.dumps({"Detach": False, "Tty": terminal}).encode()
        headers = ("Connection: Upgrade", "Upgrade: tcp", "Content-Type: application/json")
        link = self._ask("POST", f"/exec/{self._name}/start", "HTTP/1.1", headers, body)
        status, answer = _head(link)
        if status not in (101, 200):
            raise OSError(0, _rest(link, answer).decode(errors="replace").strip())
        link.settimeout(None)
        return link, answer

    def inspect(self) -> dict[str, Any] | None:
        """What the engine tells of it; None when it knows it no more: its container has ended. Raises OSError."""
        told = self._get(f"/exec/{self._name}/json")
        if told is not None:
            self._pid, self._container = told["Pid"] or self._pid, told["ContainerID"]
        return told

    def until_it_runs(self) -> None:
        """Wait until it has started, or ended. Raises OSError."""
        wait_s = LOOK_S
        while (told := self.inspect()) is not None and not told["Pid"] and told["ExitCode"] is None:
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LOOK_S_MAX)

    def status(self) -> int | None:
        """Its exit code once it has ended, None where nobody knows. Raises OSError."""
        wait_s = LOOK_S
        while (told := self.inspect()) is not None:
            if not told["Running"] and told["ExitCode"] is not None:
                code: int = told["ExitCode"]
                return code
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LOOK_S_MAX)
        return None

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal how large the window is. Raises OSError."""
        with self._ask("POST", f"/exec/{self._name}/resize?h={rows}&w={columns}") as link:
            _head(link)

    def signal(self, number: int) -> None:
        """Signal its process group; to one that has ended it is nothing."""
        if self._pid and self._is_marked(self._pid):
            try:
                os.killpg(self._pid, number)
            except OSError:  # It has just ended, or is another user's and we are not root.
                pass

    def kill(self) -> None:
        """Kill it, with all that it has started. Raises OSError."""
        container = self._get(f"/containers/{self._container}/json") if self._container else None
        if container is None or not container["State"]["Pid"]:
            return  # All has ended with the container.
        for _ in range(PASSES_MAX):  # What starts others faster than that ends with the container.
            if not sum(self._kill(pid) for pid in _members(container["State"]["Pid"], self._container)):
                return
            time.sleep(LOOK_S)

    def _kill(self, pid: int) -> bool:
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if not self._is_marked(pid):
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return True
        except OSError:
            return False
        finally:
            os.close(pidfd)

    def _is_marked(self, pid: int) -> bool:
        return self._mark in _bytes(f"/proc/{pid}/environ").split(b"\0")

    def _get(self, what: str) -> dict[str, Any] | None:
        """What the engine tells of something; None when it does not know it. Raises OSError."""
        with self._ask("GET", what) as link:
            status, answer = _head(link)
            text = _rest(link, answer)
        if status == 404:
            return None
        if status != 200:
            raise OSError(0, text.decode(errors="replace").strip())
        try:
            told: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise OSError(0, "it broke off") from error
        return told

    def _ask(self, method: str, what: str, version: str = "HTTP/1.0", headers: tuple[str, ...] = (), body: bytes = b"") -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        try:
            link.settimeout(ANSWER_S)
            link.connect(self._path)
            lines = (f"{method} {what} {version}", "Host: docker", f"Content-Length: {len(body)}", *headers, "", "")
            link.sendall("\r\n".join(lines).encode() + body)
        except BaseException:
            link.close()
            raise
        return link


def _head(link: socket.socket) -> tuple[int, bytes]:
    """The status of an answer, and what came of its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = link.recv(PIECE_BYTES)
        if not piece or len(data) > HEAD_BYTES_MAX:
            raise OSError(0, "it broke off")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body


def _rest(link: socket.socket, data: bytes) -> bytes:
    while piece := link.recv(PIECE_BYTES):
        data += piece
    return data


def _members(pid: int, container: str) -> list[int]:
    """The processes of a container, by the control groups of its first one."""
    for line in _bytes(f"/proc/{pid}/cgroup").decode().splitlines():
        _, controllers, path = line.split(":", 2)
        if container in path:
            for mount in (controllers.removeprefix("name="), "unified"):  # In version 2 there are no controllers.
                if found := _bytes(f"/sys/fs/cgroup/{mount}{path}/cgroup.procs"):
                    return [int(text) for text in found.split()]
    return []


def _bytes(path: str) -> bytes:
    """What is in a file; nothing where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


# ---- The second process -----------------------------------------------------------------------------------


def guard(wanted: Exec) -> int:
    """Start it. Returns where to write `+` before the start and `-` after the end."""
    reads, writes = os.pipe()
    if os.fork():
        os.close(reads)
        return writes
    try:
        os.setsid()
        os.close(writes)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        told = b""
        while piece := os.read(reads, 16):
            told += piece
        if told == b"+":
            _end(wanted)
    finally:
        os._exit(0)


def _end(wanted: Exec) -> None:
    """Kill it as long as it runs, or is about to."""
    until_s = time.monotonic() + END_S
    while time.monotonic() < until_s:
        try:
            told = wanted.inspect()
            if told is None:
                return
            wanted.kill()
            if not told["Running"] and told["ExitCode"] is not None:
                return
        except OSError:  # The engine is away.
            pass
        time.sleep(LOOK_S_MAX)


# ---- This one -----------------------------------------------------------------------------------------------


def relay(wanted: Exec, guarded: int, lifeline: bool) -> int | None:
    """Be it until it ends; returns its exit code, None where nobody knows. Raises OSError."""
    terminal = not lifeline and os.isatty(0)
    os.write(guarded, b"+")
    try:
        link, data = wanted.start(terminal)
    except (FileNotFoundError, ConnectionRefusedError):  # Nobody was asked.
        os.write(guarded, b"-")
        raise
    wanted.until_it_runs()
    woken, wakes = os.pipe()  # A signal that comes just before we begin to wait ends the waiting, too.
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in RELAYED:
        signal.signal(number, lambda number, _: wanted.signal(number))
    if terminal:
        signal.signal(signal.SIGWINCH, lambda *_: _resize(wanted))
        _resize(wanted)
    if lifeline:
        os.write(0, b".")
    else:
        threading.Thread(target=_send_input, args=(link,), daemon=True).start()
    watched = select.poll()
    watched.register(woken, select.POLLIN)
    watched.register(link, select.POLLIN)
    watched.register(0 if lifeline else 1, 0)  # Only whether its other end is closed.
    frames = Frames(terminal)
    frames.write(data)
    while True:
        ready = {fd for fd, _ in watched.poll()}
        if woken in ready:
            os.read(woken, PIECE_BYTES)
        if ready - {woken, link.fileno()}:
            os._exit(1)  # Nobody is there any more.
        if link.fileno() in ready:
            data = link.recv(PIECE_BYTES)
            if not data:
                break
            frames.write(data)
    code = wanted.status()
    if lifeline:
        wanted.kill()
    return code


def _resize(wanted: Exec) -> None:
    size = termios.tcgetwinsize(0)
    if any(size):
        try:
            wanted.resize(*size)
        except OSError:  # It has ended.
            pass


def _send_input(link: socket.socket) -> None:
    try:
        while data := os.read(0, PIECE_BYTES):
            link.sendall(data)
        link.shutdown(socket.SHUT_WR)
    except OSError:  # It reads no more.
        pass


class Frames:
    """Writes its output to ours. Without a terminal it comes in frames, which say whether they are for stdout or stderr."""

    def __init__(self, terminal: bool) -> None:
        self._plain = terminal
        self._header = b""
        self._fd, self._left = 1, 0

    def write(self, data: bytes) -> None:
        """However the frames are cut. Raises OSError."""
        while data:
            if self._plain:
                taken = len(data)
            elif self._left:
                taken = min(self._left, len(data))
                self._left -= taken
            else:
                taken = FRAME_HEADER_BYTES - len(self._header)
                self._header += data[:taken]
                if len(self._header) == FRAME_HEADER_BYTES:
                    self._fd, self._left = 2 if self._header[0] == 2 else 1, int.from_bytes(self._header[4:], "big")
                    self._header = b""
                data = data[taken:]
                continue
            _write_all(self._fd, data[:taken])
            data = data[taken:]


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def main(path: str, name: str, mark: str, lifeline: bool) -> None:
    """Never returns. Where nobody knows how it ended, we end by SIGKILL."""
    wanted = Exec(path, name, mark)
    guarded = guard(wanted)
    try:
        code = relay(wanted, guarded, lifeline)
    except OSError as error:
        try:
            os.write(2, f"the Docker engine at {path}: {error.strerror or error}\n".encode())
        except OSError:
            pass
        code = None
    if code is None:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        os.write(guarded, b"-")
        os._exit(code & 0xFF)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], "--lifeline" in sys.argv[4:])
