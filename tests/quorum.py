"""Three masters, an ensemble of ZooKeeper servers and an agent for tests that take them apart.

Each master reaches each server by a link of its own (`tests/zookeeper.py`), so that it can be parted from any of them. The
agent, frameworks and commands reach the servers directly.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import MESETA, eventually
from tests.zookeeper import Link, Zookeeper, free_ports


class Master:
    """One master. `process` is its latest."""

    def __init__(self, number: int, port: int, links: Sequence[Link]) -> None:
        self.number, self.port, self.links = number, port, links
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes]

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def cut(self) -> None:
        for link in self.links:
            link.cut()

    def mend(self) -> None:
        for link in self.links:
            link.mend()


class Quorum:
    """Started when made; `stop` ends everything but the ensemble."""

    def __init__(self, home: Path, zookeeper: Zookeeper, session_s: float) -> None:
        self.home, self.zookeeper, self.session_s = home, zookeeper, session_s
        self.path = home.name
        self.url = zookeeper.url(self.path)
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        self.environ |= {"MESETA_MASTER": self.url, "XDG_STATE_HOME": str(home / "state"), "COLUMNS": "120"}
        *ports, agent_port = free_ports(4)
        self.masters = [Master(number, port, [Link(server.port) for server in zookeeper.servers]) for number, port in enumerate(ports)]
        for master in self.masters:
            self.start(master)
        resources = "cpus:4;mem:2048;disk:2048;ports:[31000-31100]"
        agent = ["agent", "--port", str(agent_port), "--master", self.url, "--work-dir", str(home / "agent"), "--resources", resources]
        self.agent = self._serve("agent", agent)

    def start(self, master: Master) -> None:
        """Start a master, after its death again under the same address."""
        zk = f"zk://{','.join(f'127.0.0.1:{link.port}' for link in master.links)}/{self.path}"
        flags = ["--port", str(master.port), "--zk", zk, "--zk_session_timeout", f"{self.session_s}secs"]
        master.process = self._serve(f"master-{master.number}", ["master", *flags])

    def leader(self) -> Master:
        """The master that leads and has recovered, once there is one."""
        return eventually(self._leader, self.session_s * 2 + 30, f"a master leads{self.logs()}")

    def _leader(self) -> Master | None:
        from kernel.election.zookeeper import look_up

        leader = look_up(self.zookeeper.at(self.path), 5.0)
        master = next((master for master in self.masters if leader is not None and master.port == leader.port), None)
        return master if master is not None and answers(master) else None

    def candidates(self) -> int:
        """How many there are, those of dead masters included."""
        from kazoo.client import KazooClient

        client = KazooClient(self.zookeeper.hosts)
        try:
            client.start()
            return len([name for name in client.get_children(f"/{self.path}") if name.startswith("json.info_")])
        finally:
            client.stop()
            client.close()

    def active_agents(self) -> list[str]:
        """What the leading master says; none while there is none."""
        done = self.meseta("node", "list", "--json", check=False)
        return [node["id"] for node in json.loads(done.stdout) if node["active"]] if done.returncode == 0 else []

    def meseta(self, *arguments: str, check: bool = True, timeout_s: float = 90.0) -> subprocess.CompletedProcess[str]:
        """Run a command line; AssertionError when it fails and `check` holds."""
        done = subprocess.run(
            [*MESETA, *arguments], env=self.environ, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}{self.logs()}"
        return done

    def new_task_s(self) -> float:
        """How long it takes until a new task has run to its end, the command's own start included."""
        began_s = time.monotonic()
        assert self.meseta("run", "--", "echo", "new").stdout == "new\n"
        return time.monotonic() - began_s

    def stop(self) -> None:
        for master in self.masters:
            master.process.kill()
            master.process.wait()
            for link in master.links:
                link.close()
        self.agent.send_signal(signal.SIGUSR2)  # Ends its tasks and its launcher, too.
        try:
            self.agent.wait(20)
        except subprocess.TimeoutExpired:
            self.agent.kill()
            self.agent.wait()

    def logs(self) -> str:
        return "".join(f"\n--- {file.name}\n{file.read_text()[-3000:]}" for file in sorted(self.home.glob("*.log")))

    def _serve(self, name: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen([*MESETA, "serve", *arguments], env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def answers(master: Master) -> bool:
    """Whether a master itself answers a call as the leader: such an answer passes its main loop."""
    connection = http.client.HTTPConnection("127.0.0.1", master.port, timeout=2.0)
    try:
        connection.request("POST", "/api/v1", b'{"type":"GET_AGENTS"}', {"Content-Type": "application/json"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Answer(NamedTuple):
    """A call that the process `pid` answered as the leader: it did so between the two instants."""

    pid: int
    asked_s: float
    answered_s: float


class Watch:
    """Asks every master all the time whether it leads. A context."""

    def __init__(self, masters: Sequence[Master]) -> None:
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(master,)) for master in masters]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, master: Master) -> None:
        while not self._ended.wait(0.05):
            pid, asked_s = master.process.pid, time.monotonic()
            if answers(master) and pid == master.process.pid:
                self.answers.append(Answer(pid, asked_s, time.monotonic()))

    def interleaved(self) -> list[Answer]:
        """Answers of one leader that lie between two of another: both led at once."""
        of: dict[int, list[Answer]] = {}
        for answer in self.answers:
            of.setdefault(answer.pid, []).append(answer)
        reigns = {pid: (min(answer.answered_s for answer in own), max(answer.asked_s for answer in own)) for pid, own in of.items()}
        return [
            answer
            for pid, (first_s, last_s) in reigns.items()
            for answer in self.answers
            if answer.pid != pid and first_s < answer.asked_s and answer.answered_s < last_s
        ]


def framework(quorum: Quorum, file: Path, plan: Path) -> subprocess.Popen[str]:
    """Start the recorder (`tests/e2e/recorder.py`)."""
    recorder = Path(__file__).with_name("e2e") / "recorder.py"
    command: list[Any] = [sys.executable, "-P", recorder, quorum.url, file, plan]
    return subprocess.Popen(command, env=quorum.environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
