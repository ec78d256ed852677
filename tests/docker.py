"""A real Docker engine for tests (`tests/setup_docker.sh`), with data, sockets and image of its own, ended by its pid.

Tests get it by the fixture `docker_engine` of `tests/conftest.py`, one for all tests of a worker: name what you make, and leave it running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import eventually

IMAGE = "meseta-test:1"  # Busybox and nothing else; its command is `sh`.
ENTRY_IMAGE = "meseta-test-entry:1"  # The same with `echo entry` in front of every command.
SKIP = "MESETA_SKIP_DOCKER"


class DockerEngine:
    """One engine. Its containers and images stay in its folder: it may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        folder = self.folder
        command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", f"unix://{self.socket}"]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen([*command, "-p", f"{folder}/pid"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        eventually(self._answers, 30, "the Docker engine answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the Docker engine ended: {(self.folder / 'log').read_text()[-3000:]}"
        return self.socket.exists() and self.docker("version", check=False).returncode == 0

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it; gently: and with it its containers."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None
            containerd = self.folder / "exec" / "containerd" / "containerd.pid"
            if number == signal.SIGKILL and containerd.exists():  # Its child dies with it. The next takes it for alive until it is reaped.
                pid = int(containerd.read_text())
                eventually(lambda: not os.path.exists(f"/proc/{pid}"), 30, "its containerd is gone")

    def clean_up(self) -> None:
        """Unmount what an engine leaves mounted in its folder."""
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            mounted = line.split()[1]
            if mounted.startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", mounted], check=False)

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Docker's own client."""
        done = subprocess.run(["docker", "-H", f"unix://{self.socket}", *arguments], capture_output=True, text=True, timeout=120)
        assert not check or done.returncode == 0, f"docker {arguments} -> {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def names(self, *filters: str) -> list[str]:
        """The containers there are, in any state."""
        options = [option for text in filters for option in ("--filter", text)]
        return self.docker("ps", "--all", "--no-trunc", "--format", "{{.Names}}", *options).stdout.split()

    def inspect(self, name: str) -> Any:
        return json.loads(self.docker("inspect", name).stdout)[0]

    def make_images(self) -> None:
        path = ("-c", "ENV PATH=/bin")
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            for name in ("bin", "etc", "proc", "sys", "dev", "tmp"):
                (tree / name).mkdir(parents=True)
            busybox = shutil.which("busybox") or "busybox"
            shutil.copy(busybox, tree / "bin" / "busybox")
            for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
                if applet != "busybox":
                    (tree / "bin" / applet).symlink_to("busybox")
            archive = f"{folder}/tree.tar"
            with tarfile.open(archive, "w") as tar:
                tar.add(tree, ".")
            self.docker("import", *path, "-c", 'CMD ["sh"]', archive, IMAGE)
            self.docker("import", *path, "-c", 'ENTRYPOINT ["echo", "entry"]', "-c", 'CMD ["default"]', archive, ENTRY_IMAGE)


def missing() -> str:
    """Why there can be no engine here; empty if there can."""
    if os.geteuid() != 0:
        return "only root can start a Docker engine"
    lacks = [name for name in ("dockerd", "docker", "busybox", "iptables", "docker-init") if shutil.which(name) is None]
    return f"no {', '.join(lacks)}: run tests/setup_docker.sh as root" if lacks else ""


@contextlib.contextmanager
def started(folder: Path) -> Iterator[DockerEngine]:
    """An engine for as long as the context lasts. Where there can be none the test fails, unless it was said that it need not run."""
    if os.environ.get(SKIP) == "1":
        pytest.skip(f"{SKIP}=1")
    if reason := missing():
        pytest.fail(f"{reason}; or set {SKIP}=1 to leave the tests of docker out", pytrace=False)
    engine = DockerEngine(folder)
    try:
        engine.start()
        engine.make_images()
        yield engine
    finally:
        for name in engine.names() if engine.process is not None else ():
            engine.docker("rm", "--force", "--volumes", name, check=False)
        engine.stop()
        engine.clean_up()
