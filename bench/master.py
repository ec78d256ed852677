"""Real daemons for a benchmark: started, found, measured, ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bench.report import BenchError

START_S = 30.0
TICKS_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DaemonProcess:
    """`meseta serve NAME` on a free port with a folder of its own. A context manager."""

    def __init__(self, name: str, port_flag: str, *flags: str, health: str = "/health", start_s: float = START_S) -> None:
        """flags: beside those for its port and folder. health: what it answers with 200 when it works; start_s: by then."""
        self.name, self.port = name, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.work_dir = Path(tempfile.mkdtemp(prefix="meseta-bench-"))
        self._flags = (port_flag, str(self.port), *flags)
        self._health, self._start_s = health, start_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, or start again after `kill`; return when it answers. Raises BenchError with its log when it does not."""
        command = [sys.executable, "-m", "kernel.cli", "serve", self.name, "--work-dir", str(self.work_dir), *self._flags]
        log = (self.work_dir / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + self._start_s
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise BenchError(f"{self.name} did not start:\n" + (self.work_dir / "log").read_text()[-2000:])
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}{self._health}", timeout=1) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def numbers(self) -> dict[str, float]:
        """Its `/metrics/snapshot`."""
        with urllib.request.urlopen(f"{self.url}/metrics/snapshot", timeout=60) as answer:
            return msgspec.json.decode(answer.read(), type=dict[str, float])

    def longest_stall_s(self) -> float:
        """The longest turn of its main loop so far, in which it answered nobody."""
        return self.numbers()["main_loop/longest_turn_s"]

    def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_S

    def rss_mb(self) -> float:
        """Resident memory, 10^6 bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class MasterProcess(DaemonProcess):
    """A master with a registry of its own."""

    def __init__(self, *flags: str) -> None:
        super().__init__("master", "--port", "--ip", "127.0.0.1", *flags)
