"""A real registry of images for tests (Debian's `docker-registry`, see `tests/setup_docker.sh`), which wants to know who asks."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.cluster import eventually
from tests.docker import missing
from tests.zookeeper import free_ports

USER, PASSWORD = "puller", "secret"
HASH = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # Of the password, by bcrypt: the registry takes no other.


class Registry:
    """One, on the loopback. address: HOST:PORT, which image names begin with; folder: where it keeps its blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "blobs"
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._config = folder / "config.yml"
        (folder / "users").write_text(f"{USER}:{HASH}\n")
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.folder)}},
            "http": {"addr": self.address},
            "auth": {"htpasswd": {"realm": "tests", "path": f"{folder}/users"}},
        }
        self._config.write_text(json.dumps(settings))

    def credentials(self, folder: Path, password: str = PASSWORD) -> Path:
        """A file as `docker login` writes it into a folder."""
        folder.mkdir()
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        path = folder / "config.json"
        path.write_text(json.dumps({"auths": {self.address: {"auth": token}}}))
        return path

    @contextlib.contextmanager
    def running(self) -> Iterator[Registry]:
        with (self._config.parent / "log").open("ab") as log:
            process = subprocess.Popen(["docker-registry", "serve", str(self._config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            eventually(self._answers, what="the registry answers")
            yield self
        finally:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5).close()
        except HTTPError as error:
            return error.code == 401
        except OSError:
            pass
        return False


def started(folder: Path) -> contextlib.AbstractContextManager[Registry]:
    """A registry for as long as the context lasts."""
    if missing() or shutil.which("docker-registry") is None:
        pytest.fail("no docker-registry: run tests/setup_docker.sh as root", pytrace=False)
    return Registry(folder).running()
