"""The input and output of containers, between this terminal and an agent (v1 ATTACH_CONTAINER_INPUT and the streams of ProcessIO)."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import queue
import select
import signal
import socket
import struct
import sys
import termios
import threading
import tty
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from kernel.commands.context import CommandError
from kernel.commands.lookup import value
from kernel.net.auth import Credential
from kernel.net.client import Refused
from kernel.wire.recordio import Decoder, frame

PATH = "/api/v1"
PIECE_BYTES = 16 * 1024
RECORD_BYTES_MAX = 1 << 20
CONNECT_S = 10.0
DETACH = b"\x10\x11"  # Ctrl-P Ctrl-Q, as in Mesos and Docker.


def container_of(task: dict[str, Any]) -> dict[str, Any]:
    """The container of a running task, as its last status says. Raises CommandError."""
    for status in reversed(task.get("statuses") or ()):
        found: dict[str, Any] | None = status.get("container_status", {}).get("container_id")
        if found is not None and status.get("container_status", {}).get("executor_pid"):
            return found
    raise CommandError(f"task {value(task, 'task_id')} has no container that runs", field="task", hint="see `meseta task show`")


def status_of(ended: Mapping[str, Any]) -> int:
    """The exit status that a WAIT call tells, as shells count it: 128+n for signal n."""
    status = int(ended.get("exit_status", 0))
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Output:
    """An answer that goes on: the output of a container."""

    def __init__(self, answer: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._answer, self._sock = answer, sock
        self.left = False

    def print(self) -> None:
        """Print it until it ends, or `leave` was called."""
        decoder = Decoder(RECORD_BYTES_MAX)
        targets = {"STDOUT": sys.stdout.buffer, "STDERR": sys.stderr.buffer}
        try:
            while piece := self._answer.read1(PIECE_BYTES):
                for record in decoder.feed(piece):
                    data = json.loads(record).get("data", {})
                    target = targets.get(data.get("type", ""))
                    if target is not None:
                        target.write(base64.b64decode(data.get("data", "")))
                        target.flush()
        except (OSError, http.client.HTTPException):
            if not self.left:
                raise

    def leave(self) -> None:
        """Read no more; for another thread."""
        self.left = True
        self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._answer.close()
        self._sock.close()


class Doors:
    """The connections to an agent."""

    def __init__(self, url: str, credential: Credential | None) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self._headers = {"Authorization": credential.header()} if credential is not None else {}

    def output(self, call: Mapping[str, Any]) -> Output:
        """A call whose answer is the output of a container. Raises Refused."""
        answer, sock = self._ask(call, {"Accept": "application/recordio", "Message-Accept": "application/json"})
        return Output(answer, sock)

    def wait(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """A call that is answered when a container ends, however late. Raises Refused."""
        answer, sock = self._ask(call, {"Accept": "application/json"}, wait_s=None)
        with sock:
            found: dict[str, Any] = json.loads(answer.read())
            return found

    def _ask(
        self, call: Mapping[str, Any], headers: Mapping[str, str], wait_s: float | None = CONNECT_S
    ) -> tuple[http.client.HTTPResponse, socket.socket]:
        connection = http.client.HTTPConnection(*self._address, timeout=CONNECT_S)
        connection.connect()
        sock: socket.socket = connection.sock
        sock.settimeout(wait_s)
        connection.request("POST", PATH, json.dumps(call), {**self._headers, "Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        if answer.status != 200:
            told = answer.read(64 * 1024).decode(errors="replace")
            connection.close()
            raise Refused(PATH, answer.status, told)
        sock.settimeout(None)
        return answer, sock

    def input(self) -> http.client.HTTPConnection:
        """A request whose body goes on: `send` its chunks."""
        connection = http.client.HTTPConnection(*self._address, timeout=None)
        connection.putrequest("POST", PATH)
        headers = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        for name, text in (self._headers | headers).items():
            connection.putheader(name, text)
        connection.endheaders()
        return connection


class Detaching:
    """Looks for the keys that detach in what is typed; they come in one piece or in two."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of it is to be sent, and whether these keys were pressed."""
        before, keys, _ = (self._held + data).partition(DETACH)
        self._held = DETACH[:1] if not keys and before.endswith(DETACH[:1]) else b""
        return before.removesuffix(self._held) if self._held else before, bool(keys)


class Input(threading.Thread):
    """Sends what is typed, and how large the window is. It ends with this process, or when there is no more.

    terminal: ours is passed through. ends: at once, for a command that gets no input. leaves: what the keys that detach end; None
    where they are like others. redraw: have a program that draws its window do so.
    """

    def __init__(
        self,
        doors: Doors,
        container_id: dict[str, Any],
        *,
        terminal: bool,
        ends: bool = False,
        leaves: Output | None = None,
        redraw: bool = False,
    ) -> None:
        super().__init__(daemon=True)
        self._doors, self._container_id, self._ends, self._leaves = doors, container_id, ends, leaves
        self._keys = Detaching()
        self._sizes: queue.SimpleQueue[dict[str, int]] = queue.SimpleQueue()
        if terminal:
            signal.signal(signal.SIGWINCH, lambda *_: self._sizes.put(window()))
        if redraw:
            self._sizes.put({"rows": 0, "columns": 0})  # Else its size may be what it was.
            self._sizes.put(window())

    def run(self) -> None:
        try:
            connection = self._doors.input()
            self._send(connection, {"type": "CONTAINER_ID", "container_id": self._container_id})
            detached = False
            while not self._ends and not detached:
                while not self._sizes.empty():
                    control = {"type": "TTY_INFO", "tty_info": {"window_size": self._sizes.get()}}
                    self._process_io(connection, {"type": "CONTROL", "control": control})
                if not select.select([sys.stdin], [], [], 0.2)[0]:
                    continue
                typed = os.read(sys.stdin.fileno(), PIECE_BYTES)
                self._ends = not typed
                data, detached = (typed, False) if self._leaves is None else self._keys.feed(typed)
                if data:
                    self._data(connection, data)
            if not detached:
                self._data(connection, b"")
            connection.send(b"0\r\n\r\n")
            connection.getresponse().read()
            if detached and self._leaves is not None:
                self._leaves.leave()
        except (OSError, http.client.HTTPException):
            return  # The container is gone; its output says so.

    def _data(self, connection: http.client.HTTPConnection, data: bytes) -> None:
        self._process_io(connection, {"type": "DATA", "data": {"type": "STDIN", "data": base64.b64encode(data).decode()}})

    def _process_io(self, connection: http.client.HTTPConnection, process_io: dict[str, Any]) -> None:
        self._send(connection, {"type": "PROCESS_IO", "process_io": process_io})

    @staticmethod
    def _send(connection: http.client.HTTPConnection, body: dict[str, Any]) -> None:
        record = frame(json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}).encode())
        connection.send(b"%x\r\n%b\r\n" % (len(record), record))


@contextmanager
def raw(terminal: bool) -> Iterator[None]:
    """Let every key through to the other end."""
    if not terminal:
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin, termios.TCSADRAIN)  # What was typed already counts.
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def window() -> dict[str, int]:
    """How large our terminal is."""
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(sys.stdin, termios.TIOCGWINSZ, b"\0" * 8))
    return {"rows": rows, "columns": columns}
