"""`mesos task exec` and `mesos task attach`, byte by byte as Mesos's own command talks to an agent (its requests are those of the
`requests` library): the headers, a first try to attach that only names the container, the window told twice, heartbeats, the end of
the input as an empty record, and WAIT_CONTAINER for the exit status.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cluster import MESETA, Cluster, eventually

pytestmark = pytest.mark.e2e

COMMON = {"User-Agent": "python-requests/2.32.3", "Accept-Encoding": "gzip"}
OUTPUT = {"Accept": "application/recordio", "Content-Type": "application/json", "Message-Accept": "application/json"}
INPUT = {
    "Accept": "application/json",
    "Connection": "close",
    "Content-Type": "application/recordio",
    "Message-Content-Type": "application/json",
    "Transfer-Encoding": "chunked",
}
PLAIN = {"Accept": "application/json", "Content-Type": "application/json"}


class Wire:
    """One connection, as bytes."""

    def __init__(self, url: str, headers: dict[str, str], body: bytes | None = None) -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port), 20)
        length = {} if body is None else {"Content-Length": str(len(body))}
        lines = ["POST /api/v1 HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in {**COMMON, **headers, **length}.items())]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        self._received = self.sock.makefile("rb")

    def send(self, *records: Any) -> None:
        """Each record is one chunk."""
        for record in records:
            data = json.dumps(record, ensure_ascii=False).encode()
            piece = b"%d\n%b" % (len(data), data)
            self.sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        self.sock.sendall(b"0\r\n\r\n")

    def answer(self) -> tuple[int, dict[str, str]]:
        """Status and headers, these in lower case."""
        status = int(self._received.readline().split()[1])
        headers = {}
        while (line := self._received.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def records(self) -> Iterator[Any]:
        """Those of a chunked answer, to its end."""
        while size := int(self._received.readline(), 16):
            chunk = self._received.read(size)
            assert self._received.read(2) == b"\r\n"
            length, _, record = chunk.partition(b"\n")
            assert int(length) == len(record), "one record a chunk"
            yield json.loads(record)
        assert self._received.readline() == b"\r\n"

    def json(self, length: int) -> Any:
        return json.loads(self._received.read(length))

    def close(self) -> None:
        self._received.close()
        self.sock.close()


def data(record: Any, kind: str = "STDOUT") -> bytes:
    """What a record holds of one stream; those of others, and heartbeats, hold nothing."""
    if record["type"] != "DATA":
        return b""
    assert record["data"]["data"], "the command fails on empty data"
    return base64.b64decode(record["data"]["data"]) if record["data"]["type"] == kind else b""


def attach(container_id: Any) -> Any:
    return {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "CONTAINER_ID", "container_id": container_id}}


def process_io(**parts: Any) -> Any:
    return {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "PROCESS_IO", "process_io": parts}}


def stdin(text: bytes) -> Any:
    return process_io(type="DATA", data={"type": "STDIN", "data": base64.b64encode(text).decode()})


def window(rows: int, columns: int) -> Any:
    return process_io(type="CONTROL", control={"type": "TTY_INFO", "tty_info": {"window_size": {"rows": rows, "columns": columns}}})


HEARTBEAT = process_io(type="CONTROL", control={"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 30_000_000_000}}})


@pytest.fixture(scope="module")
def running(cluster: Cluster) -> Iterator[tuple[str, Any]]:
    """The agent and the container of a task, as the command finds them in the master's /tasks and /slaves."""
    process = cluster.spawn([*MESETA, "run", "--name", "for-the-cli", "--cpus", "0.1", "--mem", "64", "--", "sleep", "1000"])
    try:

        def find() -> Any:
            tasks = cluster.get("/tasks?order=asc&limit=-1")["tasks"]
            return next((task for task in tasks if task["name"] == "for-the-cli" and task["state"] == "TASK_RUNNING"), None)

        task = eventually(find, what="the task runs")
        (pid,) = (agent["pid"] for agent in cluster.get("/slaves")["slaves"] if agent["id"] == task["slave_id"])
        yield f"http://{pid.split('@')[1]}", task["statuses"][0]["container_status"]["container_id"]
    finally:
        process.kill()
        process.communicate()


def begin(url: str, container_id: Any, command: list[str], terminal: bool) -> Wire:
    body: dict[str, Any] = {"container_id": container_id, "command": {"value": command[0], "arguments": command, "shell": False}}
    if terminal:
        body["container"] = {"type": "MESOS", "tty_info": {}}
    call = {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": body}
    output = Wire(url, OUTPUT, json.dumps(call).encode())
    status, headers = output.answer()
    assert status == 200
    assert headers["transfer-encoding"] == "chunked"
    assert (headers["content-type"], headers["message-content-type"]) == ("application/recordio", "application/json")
    assert "content-encoding" not in headers, "records must not wait in a compressor"
    return output


def give(url: str, *records: Any) -> int:
    wire = Wire(url, INPUT)
    try:
        wire.send(*records)
        wire.end()
        return wire.answer()[0]
    finally:
        wire.close()


def wait(url: str, container_id: Any) -> int:
    wire = Wire(url, PLAIN, json.dumps({"type": "WAIT_CONTAINER", "wait_container": {"container_id": container_id}}).encode())
    try:
        status, headers = wire.answer()
        assert status == 200
        found: int = wire.json(int(headers["content-length"]))["wait_container"]["exit_status"]
        return found
    finally:
        wire.close()


def test_exec_with_input(running: tuple[str, Any]) -> None:
    url, parent = running
    inner = {"parent": parent, "value": "c0ffee00-0000-4000-8000-000000000001"}
    output = begin(url, inner, ["sh", "-c", "cat; echo done >&2; exit 3"], terminal=False)
    try:
        assert give(url, attach(inner)) == 200, "the first try, which must not end the input"
        assert give(url, attach(inner), HEARTBEAT, stdin(b"one\n"), stdin("zwölf\n".encode()), stdin(b"")) == 200
        records = list(output.records())
    finally:
        output.close()
    assert b"".join(map(data, records)) == "one\nzwölf\n".encode()
    assert b"".join(data(record, "STDERR") for record in records) == b"done\n"
    assert wait(url, inner) == 3 << 8


def test_exec_with_a_terminal(running: tuple[str, Any]) -> None:
    url, parent = running
    inner = {"parent": parent, "value": "c0ffee00-0000-4000-8000-000000000002"}
    output = begin(url, inner, ["sh"], terminal=True)
    try:
        assert give(url, attach(inner)) == 200
        wire = Wire(url, INPUT)
        wire.send(attach(inner), window(0, 0), window(24, 81), HEARTBEAT, stdin(b"stty size; exit 7\n"))
        shown = b"".join(map(data, output.records()))
        assert wire.answer()[0] == 200, "answered though the command still sends"
        wire.close()
    finally:
        output.close()
    assert b"24 81" in shown
    assert wait(url, inner) == 7 << 8


def test_exec_of_what_ends_before_its_input_is_there(running: tuple[str, Any]) -> None:
    url, parent = running
    inner = {"parent": parent, "value": "c0ffee00-0000-4000-8000-000000000003"}
    output = begin(url, inner, ["true"], terminal=False)
    assert [record for record in output.records() if data(record)] == []
    output.close()
    assert give(url, attach(inner)) == 200
    assert give(url, attach(inner), HEARTBEAT, stdin(b"late"), stdin(b"")) == 200
    assert wait(url, inner) == 0


def test_attach_without_input(running: tuple[str, Any]) -> None:
    """Mesos refuses that for a task without a terminal; here its files are followed."""
    url, container_id = running
    call = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": container_id}}
    output = Wire(url, OUTPUT, json.dumps(call).encode())
    try:
        status, headers = output.answer()
        assert (status, headers["content-type"], headers["message-content-type"]) == (200, "application/recordio", "application/json")
        inner = {"parent": container_id, "value": "c0ffee00-0000-4000-8000-000000000004"}
        writer = begin(url, inner, ["sh", "-c", "echo said >> stdout"], terminal=False)
        assert [record for record in writer.records() if data(record)] == []  # Read to its end: it is killed with its reader.
        writer.close()
        assert next(filter(None, map(data, output.records()))) == b"said\n"
    finally:
        output.close()


def test_attach_with_a_terminal(running: tuple[str, Any]) -> None:
    """To one that was launched with it, as an operator may beside a task; for a task's own container nothing differs."""
    url, parent = running
    inner = {"parent": parent, "value": "c0ffee00-0000-4000-8000-000000000005"}
    body = {"container_id": inner, "command": {"value": "exec sh -i"}, "container": {"type": "MESOS", "tty_info": {}}}
    launched = Wire(url, PLAIN, json.dumps({"type": "LAUNCH_CONTAINER", "launch_container": body}).encode())
    assert launched.answer()[0] == 200
    launched.close()
    output = Wire(url, OUTPUT, json.dumps({"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": inner}}).encode())
    assert output.answer()[0] == 200
    assert give(url, attach(inner)) == 200
    wire = Wire(url, INPUT)
    wire.send(attach(inner), window(0, 0), window(31, 97), HEARTBEAT, stdin(b"stty size; exit 9\n"))
    shown = b"".join(map(data, output.records()))
    output.close()
    assert wire.answer()[0] == 200, "answered though the command still sends"
    wire.close()
    assert b"31 97" in shown
    assert wait(url, inner) == 9 << 8
