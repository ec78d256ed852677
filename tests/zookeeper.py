"""Real ZooKeeper servers for tests, from Debian's package (`tests/setup_zookeeper.sh`), on free ports and in temporary folders.

Tests get them by the fixtures of `tests/conftest.py`: `zookeeper`, one server shared by all tests of a worker, which keep
to paths of their own; `ensemble`, three servers of the test's own, to be killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster import eventually

if TYPE_CHECKING:
    from kernel.zookeeper import Ensemble

JARS = [f"/usr/share/java/{name}.jar" for name in ("zookeeper", "slf4j-log4j12", "log4j-1.2")]
JAVA = ["java", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
TICK_MS = 500  # A session lasts two ticks at least.
LOG4J = """log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d %p %c{1} %m%n
"""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Server:
    """One server. Its data stays in its folder: it may be started again."""

    def __init__(self, folder: Path, port: int, number: int = 0, peers: Sequence[str] = ()) -> None:
        self.folder, self.port = folder, port
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "data").mkdir(parents=True)
        (folder / "data" / "myid").write_text(str(number))
        (folder / "log4j.properties").write_text(LOG4J)
        settings = [
            f"tickTime={TICK_MS}",
            "initLimit=20",
            "syncLimit=6",
            f"dataDir={folder / 'data'}",
            f"clientPort={port}",
            "clientPortAddress=127.0.0.1",
            "admin.enableServer=false",
            "4lw.commands.whitelist=*",
            "maxClientCnxns=0",
            *peers,
        ]
        (folder / "zoo.cfg").write_text("\n".join(settings) + "\n")

    def start(self) -> None:
        command = [*JAVA, f"-Dlog4j.configuration=file:{self.folder / 'log4j.properties'}", "-cp", ":".join(JARS), MAIN]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, str(self.folder / "zoo.cfg")], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, when it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def role(self) -> str:
        """leader, follower or standalone; empty while it serves nobody."""
        assert self.process is not None
        assert self.process.poll() is None, f"a ZooKeeper server ended: {self.log()}"
        return next((line.split()[1] for line in self.ask("srvr").splitlines() if line.startswith("Mode:")), "")

    def ask(self, word: str) -> str:
        """The answer to a command of four letters."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(word.encode())
                return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
        except OSError:
            return ""

    def log(self) -> str:
        return (self.folder / "log").read_text()[-3000:]


class Zookeeper:
    """A single server or an ensemble, started."""

    def __init__(self, folder: Path, servers: int = 1) -> None:
        ports = free_ports(3 * servers)
        peers = [f"server.{i + 1}=127.0.0.1:{ports[3 * i + 1]}:{ports[3 * i + 2]}" for i in range(servers)] if servers > 1 else []
        self.servers = [Server(folder / str(i + 1), ports[3 * i], i + 1, peers) for i in range(servers)]

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def url(self, path: str) -> str:
        return f"zk://{self.hosts}/{path}"

    def at(self, path: str) -> Ensemble:
        from kernel.zookeeper import parse_url  # kazoo: not for all the tests that need no ZooKeeper.

        return parse_url(self.url(path))

    def start(self) -> None:
        """Start what does not run, wait until all serve."""
        for server in self.servers:
            if server.process is None:
                server.start()
        eventually(lambda: all(server.role() for server in self.servers), 60, "all ZooKeeper servers serve")

    def leader(self) -> Server:
        return eventually(lambda: next((s for s in self.servers if s.process is not None and s.role() in ("leader", "standalone")), None))

    def kill(self) -> None:
        for server in self.servers:
            server.kill()


def missing() -> str:
    """Why there can be no server here; empty if there can."""
    lacks = [name for name in JARS if not os.path.exists(name)] + ([] if shutil.which("java") else ["java"])
    return f"no {', '.join(lacks)}: run tests/setup_zookeeper.sh as root" if lacks else ""


@contextlib.contextmanager
def started(folder: Path, servers: int) -> Iterator[Zookeeper]:
    """Servers for as long as the context lasts. Skips the test where there can be none."""
    if reason := missing():
        pytest.skip(reason)
    made = Zookeeper(folder, servers)
    try:
        made.start()
        yield made
    finally:
        for server in made.servers:
            with contextlib.suppress(AssertionError, ProcessLookupError):
                server.signal(signal.SIGCONT)
        made.kill()


class Link:
    """A port that leads to another, and can be cut: what is under way stays under way until it is whole again."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._whole = threading.Event()
        self._whole.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def drop(self) -> None:
        """End the connections of now."""
        sockets, self._sockets = self._sockets, []
        for held in sockets:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.mend()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._sockets.append(near)
                self._spawn(self._connect, near)

    def _connect(self, near: socket.socket) -> None:
        self._whole.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._to))
        except OSError:
            near.close()
            return
        self._sockets.append(far)
        self._spawn(self._pump, near, far)
        self._pump(far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._whole.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _spawn(self, work: Callable[..., Any], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()
