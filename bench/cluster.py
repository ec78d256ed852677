"""An embedded cluster to measure, as its users start it."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from bench.report import BenchError

MESETA = (sys.executable, "-m", "kernel.cli")
BASE_PORTS = (5050, 5051, 15052)


class Cluster:
    """`meseta up`, on free ports and a work dir of its own. A context manager."""

    def __init__(self, agents: int = 1, **environ: str) -> None:
        """environ: settings of its daemons."""
        self._agents, self._settings = agents, environ

    def __enter__(self) -> Cluster:
        self._home = Path(tempfile.mkdtemp(prefix="meseta-bench-"))
        self.work_dir = str(self._home / "work")
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith(("MESOS_", "MESETA_"))}
        self.environ |= self._settings
        self.environ["XDG_STATE_HOME"] = str(self._home)  # Whoever uses this machine keeps his own cluster as the last one.
        offset = _free_offset()
        command = ["up", "--detach", "--json", "--agents", str(self._agents), "--only", "master,agent"]
        state = json.loads(self.meseta(*command, "--work-dir", self.work_dir, "--port-offset", str(offset)))
        self.environ["MESETA_MASTER"] = next(daemon["url"] for daemon in state["daemons"] if daemon["name"] == "master")
        self.pids = {daemon["name"]: int(daemon["pid"]) for daemon in state["daemons"]}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.meseta("down", "--work-dir", self.work_dir)
        shutil.rmtree(self._home, ignore_errors=True)

    def meseta(self, *arguments: str) -> str:
        done = subprocess.run([*MESETA, *arguments], env=self.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"meseta {' '.join(arguments)} failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
        return done.stdout


def _free_offset() -> int:
    """A port offset under which our ports are free now."""
    while True:
        offset = random.randrange(1000, 27000)
        try:
            for port in BASE_PORTS:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return offset
