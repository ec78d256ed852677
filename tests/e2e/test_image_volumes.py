"""Persistent volumes of tasks in images: mounted where they say, writable or not, as the task's user's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, eventually
from tests.e2e import in_images
from tests.e2e.in_images import left
from tests.e2e.scheduler import Scheduler
from tests.e2e.test_volumes import ROLE, disk, holds, launch, volume

pytestmark = in_images.NEEDS
INSIDE = {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": in_images.IMAGE}}}}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Cluster]:
    registry = tmp_path / "registry"
    registry.mkdir()
    environ = {"MESETA_DOCKER_REGISTRY": str(in_images.registry(registry))}
    made = Cluster(tmp_path / "cluster", agents=1, only="master,agent", environ=environ)
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_it_is_mounted_as_each_task_says(machine: Cluster) -> None:
    scheduler = Scheduler(machine, ROLE, "RESERVATION_REFINEMENT")
    made = volume("v", path="/data/deep")
    again = volume("v", path="in/sandbox")
    again["disk"]["volume"]["mode"] = "RO"

    def inside(operation: dict[str, Any]) -> dict[str, Any]:
        (info,) = operation["launch"]["task_infos"]
        info["container"] = INSIDE
        info["command"]["user"] = "nobody"
        return operation

    scheduler.accept(
        lambda offer: True,
        lambda offer: [
            {"type": "RESERVE", "reserve": {"resources": [disk(64)]}},
            {"type": "CREATE", "create": {"volumes": [made]}},
            inside(launch(offer, "writer", "echo hello > /data/deep/file", made)),
        ],
    )
    scheduler.status("writer", "TASK_FINISHED")
    script = "cd $MESOS_SANDBOX/in/sandbox && test $(cat file) = hello && ! touch other 2>/dev/null"
    scheduler.accept(lambda offer: holds(offer, "v"), lambda offer: [inside(launch(offer, "reader", script, again))])
    scheduler.status("reader", "TASK_FINISHED")
    scheduler.close()
    eventually(lambda: not left(machine), what=str(left(machine)))
