"""`meseta task exec`: a command beside a running task, with our terminal or pipes (v1 LAUNCH_NESTED_CONTAINER_SESSION)."""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import queue
import select
import signal
import struct
import sys
import termios
import threading
import tty
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

from kernel.commands.api import Peer
from kernel.commands.context import CommandError
from kernel.commands.lookup import value
from kernel.net.auth import Credential
from kernel.net.client import Refused
from kernel.wire.recordio import Decoder, frame

PATH = "/api/v1"
PIECE_BYTES = 16 * 1024
RECORD_BYTES_MAX = 1 << 20
CONNECT_S = 10.0


def run(
    agent: Peer, credential: Credential | None, task: dict[str, Any], command: tuple[str, ...], *, interactive: bool, terminal: bool
) -> int:
    """Run a command in a task's container; return its exit status (128+n for signal n). Raises CommandError, Refused, Unreachable."""
    if terminal and not sys.stdin.isatty():
        raise CommandError("stdin is no terminal", field="--tty", hint="leave -t out, or call it from a terminal")
    container_id = {"value": str(uuid.uuid4()), "parent": _container(task)}
    doors = _Doors(agent.urls[0], credential)
    body: dict[str, Any] = {"container_id": container_id, "command": {"shell": False, "value": command[0], "arguments": list(command)}}
    if terminal:
        body["container"] = {"type": "MESOS", "tty_info": {"window_size": _window()}}
    with closing(doors.output({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": body})) as answer:
        if interactive:
            with _raw(terminal):
                _Input(doors, container_id, terminal).start()
                _copy(answer)
        else:
            _Input(doors, container_id, False, ends=True).start()
            _copy(answer)
    ended = agent.call("WAIT_NESTED_CONTAINER", container_id=container_id)
    status = int(ended.get("exit_status", 0))
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _container(task: dict[str, Any]) -> dict[str, Any]:
    """The container of a running task, as its last status says."""
    for status in reversed(task.get("statuses") or ()):
        found: dict[str, Any] | None = status.get("container_status", {}).get("container_id")
        if found is not None and status.get("container_status", {}).get("executor_pid"):
            return found
    raise CommandError(f"task {value(task, 'task_id')} has no container that runs", field="task", hint="see `meseta task show`")


class _Doors:
    """The two connections of a session."""

    def __init__(self, url: str, credential: Credential | None) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self._headers = {"Authorization": credential.header()} if credential is not None else {}

    def output(self, call: Mapping[str, Any]) -> http.client.HTTPResponse:
        """Begin a session; its output is the answer."""
        connection = http.client.HTTPConnection(*self._address, timeout=CONNECT_S)
        headers = {"Content-Type": "application/json", "Accept": "application/recordio", "Message-Accept": "application/json"}
        connection.request("POST", PATH, json.dumps(call), self._headers | headers)
        answer = connection.getresponse()
        if answer.status != 200:
            told = answer.read(64 * 1024).decode(errors="replace")
            connection.close()
            raise Refused(PATH, answer.status, told)
        if connection.sock is not None:
            connection.sock.settimeout(None)
        return answer

    def input(self) -> http.client.HTTPConnection:
        """A request whose body goes on: `send` its chunks."""
        connection = http.client.HTTPConnection(*self._address, timeout=None)
        connection.putrequest("POST", PATH)
        headers = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json", "Transfer-Encoding": "chunked"}
        for name, text in (self._headers | headers).items():
            connection.putheader(name, text)
        connection.endheaders()
        return connection


class _Input(threading.Thread):
    """Sends what is typed, and how large the window is. It ends with the command's process."""

    def __init__(self, doors: _Doors, container_id: dict[str, Any], terminal: bool, ends: bool = False) -> None:
        super().__init__(daemon=True)
        self._doors, self._container_id, self._terminal, self._ends = doors, container_id, terminal, ends
        self._resized: queue.SimpleQueue[None] = queue.SimpleQueue()
        if terminal:
            signal.signal(signal.SIGWINCH, lambda *_: self._resized.put(None))

    def run(self) -> None:
        try:
            connection = self._doors.input()
            self._send(connection, {"type": "CONTAINER_ID", "container_id": self._container_id})
            while not self._ends:
                if not self._resized.empty():
                    self._resized.get()
                    control = {"type": "TTY_INFO", "tty_info": {"window_size": _window()}}
                    self._process_io(connection, {"type": "CONTROL", "control": control})
                if not select.select([sys.stdin], [], [], 0.2)[0]:
                    continue
                if data := os.read(sys.stdin.fileno(), PIECE_BYTES):
                    self._data(connection, data)
                else:
                    self._ends = True
            self._data(connection, b"")
            connection.send(b"0\r\n\r\n")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return  # The session is over; its output says so.

    def _data(self, connection: http.client.HTTPConnection, data: bytes) -> None:
        self._process_io(connection, {"type": "DATA", "data": {"type": "STDIN", "data": base64.b64encode(data).decode()}})

    def _process_io(self, connection: http.client.HTTPConnection, process_io: dict[str, Any]) -> None:
        self._send(connection, {"type": "PROCESS_IO", "process_io": process_io})

    @staticmethod
    def _send(connection: http.client.HTTPConnection, body: dict[str, Any]) -> None:
        record = frame(json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}).encode())
        connection.send(b"%x\r\n%b\r\n" % (len(record), record))


def _copy(answer: http.client.HTTPResponse) -> None:
    """Print the output of a session until it ends."""
    decoder = Decoder(RECORD_BYTES_MAX)
    targets = {"STDOUT": sys.stdout.buffer, "STDERR": sys.stderr.buffer}
    while piece := answer.read1(PIECE_BYTES):
        for record in decoder.feed(piece):
            data = json.loads(record).get("data", {})
            target = targets.get(data.get("type", ""))
            if target is not None:
                target.write(base64.b64decode(data.get("data", "")))
                target.flush()


@contextmanager
def _raw(terminal: bool) -> Iterator[None]:
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


def _window() -> dict[str, int]:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(sys.stdin, termios.TIOCGWINSZ, b"\0" * 8))
    return {"rows": rows, "columns": columns}
