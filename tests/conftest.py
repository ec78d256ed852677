"""Fixtures that start real clusters, see `tests/cluster.py`, ZooKeeper servers, see `tests/zookeeper.py`, and Docker engines,
see `tests/docker.py`."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import docker
from tests.cluster import Cluster
from tests.e2e.docked import cluster_beside
from tests.zookeeper import Zookeeper, started

LONG = ("tests/e2e/test_docker", "tests/e2e/test_unprivileged", "tests/vm", "tests/sim", "tests/e2e", "tests/bench", "tests/compat")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # A background job of a shell: what the tests start would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with two agents, shared: leave it as you find it, and name your tasks so that others' do not disturb."""
    shared = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        shared.up()
        yield shared
    finally:
        shared.down()


@pytest.fixture
def start_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters of the test's own; takes the arguments of `Cluster` after the first."""
    started: list[Cluster] = []

    def start(**arguments: Any) -> Cluster:
        made = Cluster(tmp_path_factory.mktemp("cluster"), **arguments)
        started.append(made)
        made.up()
        return made

    yield start
    for made in started:
        made.down()


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zookeeper]:
    """One server, shared: keep to a path of your own and leave it running."""
    with started(tmp_path_factory.mktemp("zookeeper"), 1) as server:
        yield server


@pytest.fixture
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zookeeper]:
    """Three servers of the test's own."""
    with started(tmp_path_factory.mktemp("ensemble"), 3) as servers:
        yield servers


@pytest.fixture(scope="session")
def docker_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[docker.DockerEngine]:
    """One Docker engine with an image, shared: leave it running."""
    with docker.started(tmp_path_factory.mktemp("docker")) as engine:
        yield engine


@pytest.fixture(scope="session")
def docked(docker_engine: docker.DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of one agent beside the engine, shared: name your tasks so that others' do not disturb."""
    shared = cluster_beside(docker_engine, tmp_path_factory.mktemp("docked"))
    try:
        shared.up()
        yield shared
    finally:
        shared.down()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, so that at the end no worker is left alone with it."""
    items.sort(key=lambda item: next((at for at, place in enumerate(LONG) if item.nodeid.startswith(place)), len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """As `--dist loadfile`, but one worker runs all tests of docker: two engines on a machine disturb each other."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return "docker" if file.startswith("tests/e2e/test_docker") else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
