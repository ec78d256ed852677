"""Images of tasks in containers of a real Docker engine, from a real registry that wants to know who asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import registry
from tests.cluster import Cluster, eventually
from tests.docker import IMAGE, DockerEngine
from tests.e2e.docked import LAUNCH_FAILED, cluster_beside, given, nothing_left, printed, told
from tests.registry import Registry

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def store(docker_engine: DockerEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry.started(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def known(docker_engine: DockerEngine, store: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose agent has credentials for the registry."""
    home = tmp_path_factory.mktemp("known")
    cluster = cluster_beside(docker_engine, home, MESETA_DOCKER_CONFIG=str(store.credentials(home / "login")))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(autouse=True)
def nothing_is_left(known: Cluster, docker_engine: DockerEngine) -> Iterator[None]:
    with nothing_left(known, docker_engine):
        yield


class Publisher:
    """Pushes images that differ by the variable VERSION; the engine does not keep them."""

    def __init__(self, engine: DockerEngine, store: Registry, folder: Path) -> None:
        self.engine, self.store = engine, store
        self.login = store.credentials(folder / "login").parent

    def push(self, name: str, version: str) -> str:
        image = f"{self.store.address}/{name}"
        self.engine.docker("create", "--name", "publish", IMAGE)
        self.engine.docker("commit", "--change", f"ENV VERSION={version}", "publish", image)
        self.engine.docker("rm", "publish")
        self.engine.docker("--config", str(self.login), "push", image)
        self.engine.docker("rmi", image)
        return image


@pytest.fixture
def publisher(docker_engine: DockerEngine, store: Registry, tmp_path: Path) -> Publisher:
    return Publisher(docker_engine, store, tmp_path)


def version(cluster: Cluster, image: str, **fields: Any) -> str:
    return printed(cluster, given(cluster, "echo $VERSION", image=image, **fields)).strip()


def test_an_image_is_fetched_with_the_agents_credentials(known: Cluster, publisher: Publisher) -> None:
    image = publisher.push("team/tool:7", "seven")
    assert version(known, image) == "seven"


def test_one_that_is_there_is_fetched_again_only_when_that_is_asked_for(known: Cluster, publisher: Publisher) -> None:
    image = publisher.push("moving:latest", "old")
    assert version(known, image) == "old"
    publisher.engine.docker("tag", image, "kept:old")
    publisher.push("moving:latest", "new")
    publisher.engine.docker("tag", "kept:old", image)
    assert version(known, image) == "old"
    assert version(known, image, force_pull_image=True) == "new"


def test_who_is_not_known_gets_nothing_and_is_told(docked: Cluster, publisher: Publisher) -> None:
    image = publisher.push("private:1", "1")
    status = given(docked, "true", image=image).end()
    assert told(status) == LAUNCH_FAILED
    assert f"cannot fetch the image {image}: " in str(status.message)
    assert "no basic auth credentials" in str(status.message)


@pytest.mark.parametrize(("name", "words"), [("moving:none-such", "manifest"), ("nobody/nothing:1", "manifest")])
def test_what_the_registry_does_not_have_is_explained(known: Cluster, publisher: Publisher, name: str, words: str) -> None:
    status = given(known, "true", image=f"{publisher.store.address}/{name}").end()
    assert told(status) == LAUNCH_FAILED
    assert f"cannot fetch the image {publisher.store.address}/{name}: " in str(status.message)
    assert words in str(status.message)


def test_a_registry_that_fails_in_the_middle_is_quoted(known: Cluster, publisher: Publisher) -> None:
    image = publisher.push("broken:1", "1")
    for blob in publisher.store.folder.glob("docker/registry/v2/blobs/sha256/*/*/data"):
        if blob.read_bytes().startswith(b'{"architecture"') and b"VERSION=1" in blob.read_bytes():
            blob.unlink()
    status = given(known, "true", image=image).end()
    assert told(status) == LAUNCH_FAILED
    assert f"cannot fetch the image {image}: " in str(status.message)
    eventually(lambda: image not in publisher.engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").stdout)
