"""A disk that is really full: daemons stop and say so, tell nothing they could not write, and go on when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.net.client import Client, Refused, Unreachable
from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import alive, left, settled

pytestmark = pytest.mark.e2e

SIZE = "4m"
Mount = Callable[[Path], Path]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Puts a tiny file system on a folder, which is made when missing."""
    mounted: list[Path] = []

    def make(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=755", "tmpfs", str(folder)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"FULL DISKS ARE NOT TESTED HERE: a tiny file system needs root and CAP_SYS_ADMIN: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def make_cluster(mount: Mount, tmp_path: Path) -> Iterator[Callable[[], Cluster]]:
    """Makes a cluster that is not yet started; it is down before its file systems are unmounted."""
    made: list[Cluster] = []

    def make() -> Cluster:
        made.append(Cluster(tmp_path / "home", agents=1, only="master,agent"))
        return made[0]

    yield make
    for cluster in made:
        cluster.down()
        assert not left(cluster)


def fill(folder: Path) -> Path:
    """Write a file until there is no room for a single byte."""
    path = folder / "filler"
    target = os.open(path, os.O_CREAT | os.O_WRONLY)

    def write_on(piece: bytes) -> None:
        while os.write(target, piece):
            pass

    for piece in (b"x" * 4096, b"x"):
        with pytest.raises(OSError, match="No space left"):
            write_on(piece)
    os.close(target)
    return path


def subscribe_many(client: Client, told: dict[str, str], count: int) -> None:
    """Subscribe large frameworks, each for a moment, and note what the master tells: id -> name."""
    for _ in range(count):
        name = f"{len(told)}-{'x' * 10_000}"
        call = {"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "u", "name": name, "failover_timeout": 600.0}}}
        event = next(client.records(call, "/api/v1/scheduler", silence_s=30))
        told[event["subscribed"]["framework_id"]["value"]] = name


def test_a_cluster_on_a_full_disk_tells_nothing_unwritten_and_recovers(
    mount: Mount, make_cluster: Callable[[], Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster()
    mount(cluster.work_dir.parent)
    cluster.up()
    settled(cluster)
    task = cluster.spawn([*MESETA, "run", "--", "sh", "-c", f"echo begun; until test -e {tmp_path}/gate; do sleep 0.1; done; exit 7"])
    told: dict[str, str] = {}
    try:
        assert task.stdout is not None
        assert task.stdout.readline() == "begun\n"
        client = Client([cluster.urls["master"]])
        subscribe_many(client, told, 3)
        filler = fill(cluster.work_dir.parent)
        with pytest.raises((Unreachable, Refused)):
            subscribe_many(client, told, 1000)  # What was set aside for the registry takes some.
        log = cluster.work_dir / "log/master.log"
        registry = cluster.work_dir / "master/registry.db"
        eventually(lambda: f"Error: cannot keep state in {registry}: database or disk is full" in log.read_text())
        filler.unlink()
        settled(cluster)
        known = {row["id"]: row["name"] for row in cluster.json("framework", "list") if row["name"].endswith("x")}
        assert known == told
        restarted = cluster.daemon("master")
        assert restarted["last_error"] == f"exit status 1: Error: cannot keep state in {registry}: database or disk is full"
        assert "Traceback" not in log.read_text()
        (tmp_path / "gate").touch()
        task.communicate(timeout=40)
        assert task.returncode == 7
    finally:
        task.kill()
        task.communicate()
    assert cluster.meseta("run", "--", "echo", "works").stdout == "works\n"


def test_an_agent_on_a_full_disk_loses_no_task(mount: Mount, make_cluster: Callable[[], Cluster], tmp_path: Path) -> None:
    """One runs and ends meanwhile: its exit is told when it can be written. One is to be launched: it runs later."""
    cluster = make_cluster()
    folder = mount(cluster.work_dir / "agent-1")
    cluster.up()
    settled(cluster)
    script = f"echo begun; echo $$ > {tmp_path}/pid; until test -e {tmp_path}/gate; do sleep 0.1; done; exit 7"
    early = cluster.spawn([*MESETA, "run", "--", "sh", "-c", script])
    late = None
    try:
        assert early.stdout is not None
        assert early.stdout.readline() == "begun\n"
        filler = fill(folder)
        late = cluster.spawn([*MESETA, "run", "--", "sh", "-c", f"echo $$ >> {tmp_path}/late; exit 8"], stderr=subprocess.PIPE)
        log = cluster.work_dir / "log/agent-1.log"
        eventually(lambda: f"Error: cannot keep state in {folder}/" in log.read_text())
        (tmp_path / "gate").touch()
        pid = int((tmp_path / "pid").read_text())
        eventually(lambda: not alive(pid))
        assert early.poll() is None
        filler.unlink()
        settled(cluster)
        early.communicate(timeout=60)
        assert early.returncode == 7
        _, errors = late.communicate(timeout=60)
        assert late.returncode == 8, errors
        assert len((tmp_path / "late").read_text().split()) == 1
        assert "Traceback" not in log.read_text()
    finally:
        for process in (early, late):
            if process is not None:
                process.kill()
                process.communicate()
