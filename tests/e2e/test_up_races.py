"""`meseta up` and `down` that get into each other's way or are killed half way: in the end there is one cluster, or none."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e.processes import LAUNCHER, left, naming, settled

pytestmark = pytest.mark.e2e

SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120))]


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Makes a cluster that is not yet started, in a folder with a name people give folders."""
    made: list[Cluster] = []

    def make(agents: int = 2) -> Cluster:
        made.append(Cluster(tmp_path / "Ünser home, 'no 1'", agents, "master,agent"))
        return made[0]

    yield make
    for cluster in made:
        cluster.down()
        assert not left(cluster)


def up(cluster: Cluster) -> subprocess.Popen[str]:
    """`meseta up --detach`, under way."""
    command = ["up", "--detach", "--json", "--agents", str(cluster.agents), "--work-dir", str(cluster.work_dir)]
    return cluster.spawn([*MESETA, *command, "--port-offset", str(cluster.port_offset), "--only", cluster.only], stderr=subprocess.PIPE)


def supervisors(cluster: Cluster) -> list[int]:
    return list(naming(cluster.work_dir, "kernel/supervisor.py"))


def check_one_of_each(cluster: Cluster) -> None:
    """All of the cluster runs, and once."""
    settled(cluster)
    lines = list(naming(cluster.work_dir).values())
    assert len(lines) == len(set(lines)), lines
    assert len(supervisors(cluster)) == 1
    assert len(naming(cluster.work_dir, "meseta serve")) == 1 + cluster.agents
    assert len(naming(cluster.work_dir, LAUNCHER)) == cluster.agents
    assert cluster.meseta("run", "--", "echo", "works").stdout == "works\n"


def test_several_ups_at_once_make_one_cluster(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    processes = [up(cluster) for _ in range(4)]
    states = []
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors + cluster.logs()
        states.append(json.loads(output))
    assert len({state["supervisor"]["pid"] for state in states}) == 1
    cluster.up()
    check_one_of_each(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_up_that_is_killed_at_any_moment_is_taken_over(make_cluster: Callable[..., Cluster], seed: int) -> None:
    """What it has started is adopted or was never there; ports in use by ourselves stop nobody."""
    cluster, rng = make_cluster(), random.Random(seed)
    for _ in range(6):
        process = up(cluster)
        time.sleep(rng.random() * 0.6)  # The moment is what is tried here.
        for pid in supervisors(cluster):
            os.kill(pid, signal.SIGKILL)
        if rng.random() < 0.5:
            process.kill()
        process.communicate(timeout=60)
    cluster.up()
    check_one_of_each(cluster)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_down_that_is_killed_at_any_moment_can_be_repeated(make_cluster: Callable[..., Cluster], seed: int) -> None:
    cluster, rng = make_cluster(), random.Random(seed)
    cluster.up()
    settled(cluster)
    cluster.meseta("run", "--detach", "--", "sh", "-c", "trap 'sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done")
    process = cluster.spawn([*MESETA, "down", "--work-dir", str(cluster.work_dir)], stderr=subprocess.PIPE)
    time.sleep(0.1 + rng.random() * 0.6)  # The moment is what is tried here.
    for pid in supervisors(cluster):
        os.kill(pid, signal.SIGKILL)
    if seed % 2:
        process.kill()
    process.communicate(timeout=60)
    if seed % 2:
        cluster.up()
        check_one_of_each(cluster)
    cluster.down()
    eventually(lambda: not left(cluster))


def test_several_downs_at_once_are_as_gentle_as_one(make_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = make_cluster(agents=1)
    cluster.up()
    settled(cluster)
    script = f"trap 'sleep 1; touch {tmp_path}/asked; exit 0' TERM; while :; do sleep 0.05; done"
    cluster.meseta("run", "--detach", "--", "sh", "-c", script)
    downs = [cluster.spawn([*MESETA, "down", "--work-dir", str(cluster.work_dir)], stderr=subprocess.PIPE) for _ in range(3)]
    for process in downs:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert (tmp_path / "asked").exists()
    assert not left(cluster)


def test_up_while_the_cluster_goes_down_starts_it_again(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    cluster.up()
    settled(cluster)
    cluster.meseta("run", "--detach", "--", "sh", "-c", "trap 'sleep 0.5; exit 0' TERM; while :; do sleep 0.05; done")
    down = cluster.spawn([*MESETA, "down", "--work-dir", str(cluster.work_dir)], stderr=subprocess.PIPE)
    eventually(lambda: not (cluster.work_dir / "endpoints.json").exists())
    cluster.up()
    _, errors = down.communicate(timeout=60)
    assert down.returncode == 0, errors
    check_one_of_each(cluster)
