"""A real embedded cluster for tests: `meseta up --detach` on a temporary work dir and free ports, `meseta down` at the end.

Tests get it by the fixtures of `tests/conftest.py`: `cluster`, shared by all tests of a worker, which leave it as they find
it; `start_cluster`, which makes one of its own for those that kill parts of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

MESETA = [sys.executable, str(Path(sys.executable).with_name("meseta"))]
PORTS = (4400, 5050, 5051, 5055, 7077, 8080, 8998, *range(15052, 15056))


def eventually(probe: Callable[[], T], within_s: float = 20.0, what: str = "") -> T:
    """The first true answer of a probe, asked again and again. AssertionError with the last one when none comes."""
    deadline = time.monotonic() + within_s
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"not within {within_s} s: {what or probe}; last answer: {answer!r}"
        time.sleep(0.05)
    return answer


def free_port_offset() -> int:
    """An offset under which all our ports are free now."""
    for _ in range(200):
        offset = random.randrange(1000, 17000)
        with contextlib.ExitStack() as held:
            try:
                for port in PORTS:
                    probe = held.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return offset
    raise AssertionError("no free ports")


class Cluster:
    """A running cluster. urls: name -> URL; environ: what a client command needs to reach it."""

    def __init__(self, home: Path, agents: int = 2, only: str = "master,agent", environ: Mapping[str, str] | None = None) -> None:
        """environ: settings of its daemons, as `MESETA_...`."""
        self.work_dir = home / "work"
        self.agents, self.only = agents, only
        self.port_offset = free_port_offset()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        self.environ |= {"XDG_STATE_HOME": str(home / "state"), "COLUMNS": "120", **(environ or {})}
        self.urls: dict[str, str] = {}

    def up(self) -> dict[str, Any]:
        """Start it, or adopt what a killed supervisor left; return what `meseta up --json` prints."""
        command = ["up", "--detach", "--json", "--agents", str(self.agents), "--work-dir", str(self.work_dir)]
        command += ["--port-offset", str(self.port_offset), *(["--only", self.only] if self.only else [])]
        state: dict[str, Any] = json.loads(self.meseta(*command).stdout)
        self.urls = {daemon["name"]: daemon["url"] for daemon in state["daemons"] if daemon["url"]}
        self.environ["MESETA_MASTER"] = self.urls["master"]
        return state

    def down(self, *arguments: str) -> None:
        self.meseta("down", "--work-dir", str(self.work_dir), *arguments)

    def meseta(self, *arguments: str, check: bool = True, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command line; its output is kept. AssertionError with all of it when it fails and `check` holds."""
        done = subprocess.run(
            [*MESETA, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{arguments} -> {done.returncode}\n{done.stdout}{done.stderr}{self.logs()}"
        return done

    def spawn(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process beside the cluster, as its user and with pipes; whoever starts it ends it."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen(command, env=self.environ, **options)

    def json(self, *arguments: str) -> Any:
        """What a client command prints with `--json`."""
        return json.loads(self.meseta(*arguments, "--json").stdout)

    def get(self, path: str, daemon: str = "master") -> Any:
        """GET a JSON document of a daemon."""
        with urllib.request.urlopen(self.urls[daemon] + path, timeout=10) as response:
            return json.load(response)

    def state(self) -> dict[str, Any]:
        """What the supervisor says of its daemons."""
        found: dict[str, Any] = json.loads((self.work_dir / "up.json").read_text())
        return found

    def daemon(self, name: str) -> dict[str, Any]:
        return next(daemon for daemon in self.state()["daemons"] if daemon["name"] == name)

    def kill(self, name: str) -> None:
        """kill -9 a daemon, or the supervisor by the name `up`."""
        pid = self.state()["supervisor"]["pid"] if name == "up" else self.daemon(name)["pid"]
        os.kill(pid, signal.SIGKILL)

    def logs(self) -> str:
        """The ends of all logs, for the message of a failed test."""
        files = sorted(self.work_dir.glob("log/*.log"))
        return "".join(f"\n--- {file.name}\n{file.read_text()[-3000:]}" for file in files)
