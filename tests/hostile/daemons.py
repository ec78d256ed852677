"""A real master and agent in processes of their own, to be attacked, and what must be true of them afterwards."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kernel.net.auth import Credential
from kernel.net.client import Client
from tests.cluster import eventually

LIMIT_S = 60.0
SUBSCRIBE = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "nobody", "name": "bystander", "failover_timeout": 600.0}}}


class Daemon:
    """A daemon's process. log: what it has said so far."""

    def __init__(self, kind: str, work_dir: Path, *arguments: str, ip: str = "127.0.0.1", credential: Credential | None = None) -> None:
        self.kind, self.work_dir, self.ip, self.credential = kind, work_dir, ip, credential
        command = [sys.executable, "-m", "kernel.cli", "serve", kind, "--port", "0", "--work-dir", str(work_dir), *arguments]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environ)
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line

    def said(self, words: str) -> bool:
        """Wait until it has said so, or has ended without."""
        eventually(lambda: words in self.log or self.process.poll() is not None, LIMIT_S, f"{self.kind} says {words!r}")
        return words in self.log

    @property
    def port(self) -> int:
        assert self.said("listens on "), self.log
        found = re.search(r"listens on \S+ port (\d+)", self.log)
        assert found is not None, self.log
        return int(found[1])

    @property
    def url(self) -> str:
        return f"http://{self.ip}:{self.port}"

    @property
    def client(self) -> Client:
        return Client([self.url], self.credential, LIMIT_S)

    def ended(self) -> int:
        """Wait for its end; return its exit status."""
        status = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return status

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def memory_mb(self) -> int:
        """What it uses now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) // 1024 if found is not None else 0

    def send(self, data: bytes) -> socket.socket:
        """Open a connection and write to it, whatever comes of it."""
        assert self.process.poll() is None, f"the {self.kind} ended with status {self.process.returncode}: {self.log[-3000:]}"
        connection = socket.create_connection((self.ip, self.port), timeout=LIMIT_S)
        try:
            connection.sendall(data)
        except OSError:
            pass  # It has hung up already.
        return connection

    def ask(self, data: bytes) -> bytes:
        """Send, and return all that is answered until it hangs up."""
        with self.send(data) as connection:
            return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """All that still comes."""
    pieces = []
    try:
        while piece := connection.recv(65536):
            pieces.append(piece)
    except ConnectionError:
        pass
    return b"".join(pieces)


def post(path: str, body: bytes, media: str = "application/json", **headers: str) -> bytes:
    """A request as it goes over the wire, the last on its connection."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def status(answer: bytes) -> int:
    """The status of an answer, 0 for none."""
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


class Pair:
    """A master, an agent, a framework that only listens, and a task that only runs."""

    def __init__(self, master: Daemon, agent: Daemon) -> None:
        self.master, self.agent = master, agent
        self._events = master.client.records(SUBSCRIBE, "/api/v1/scheduler")
        self.framework_id: str = next(self._events)["subscribed"]["framework_id"]["value"]
        self.before = self.state()

    @property
    def daemons(self) -> Sequence[Daemon]:
        return self.master, self.agent

    def state(self) -> Any:
        """What both know, without what changes by itself."""
        return _lasting([daemon.client.call({"type": "GET_STATE"}) for daemon in self.daemons])

    def check(self, grown_mb: int = 400) -> None:
        """Both live, are answered, and know what they knew before."""
        for daemon in self.daemons:
            assert daemon.process.poll() is None, daemon.log[-3000:]
            assert "Traceback" not in daemon.log, daemon.log[-5000:]
            assert daemon.memory_mb() < grown_mb
        eventually(lambda: self.state() == self.before, LIMIT_S, "the state is as before")


def _lasting(found: Any) -> Any:
    """Without offers, which come and go, and when an agent came back last."""
    match found:
        case dict():
            passing = ("offers", "offered_resources", "allocated_resources", "reregistered_time")
            return {name: _lasting(part) for name, part in found.items() if name not in passing}
        case list():
            return [_lasting(part) for part in found]
    return found


@contextmanager
def daemons(home: Path) -> Iterator[Pair]:
    master = Daemon("master", home / "master")
    agent = None
    try:
        assert master.said("leading with"), master.log
        agent = Daemon("agent", home / "agent", "--master", master.url, "--resources", "cpus:2;mem:1024;disk:1024")
        assert agent.said("registered as"), agent.log
        eventually(lambda: master.client.call({"type": "GET_AGENTS"})["get_agents"].get("agents"), LIMIT_S, "the agent is known")
        yield Pair(master, agent)
    finally:
        if agent is not None:
            agent.end(signal.SIGUSR1)
        master.end()
