"""Containers that operators launch beside a task with an image: inside of it, by the real runc."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import in_images
from tests.e2e.http import Answer, call

pytestmark = in_images.NEEDS


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    registry = in_images.registry(tmp_path_factory.mktemp("registry"))
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent", environ={"MESETA_DOCKER_REGISTRY": str(registry)})
    try:
        made.up()
        yield made
    finally:
        made.down()


def ask(machine: Cluster, kind: str, container_id: Any, **parts: Any) -> Answer:
    return call(machine.urls["agent-1"], kind, **{kind.lower(): {"container_id": container_id, **parts}})


def test_it_is_inside_the_image_and_outlives_the_agent(machine: Cluster) -> None:
    command = [*MESETA, "run", "--name", "host", "--image", in_images.IMAGE, "--", "sleep", "1000"]
    owner = machine.spawn(command)
    try:
        (task,) = eventually(lambda: [one for one in machine.json("task", "list") if one["state"] == "TASK_RUNNING"], 30)
        inner = {"value": "in", "parent": task["statuses"][-1]["container_status"]["container_id"]}
        script = "cat /etc/os-release; echo $COLOUR $MINE; pwd; cat /proc/1/cmdline; until test -e go; do sleep 0.05; done; exit 7"
        own = {"value": script, "environment": {"variables": [{"name": "MINE", "value": "own"}]}}
        answer = ask(machine, "LAUNCH_NESTED_CONTAINER", inner, command=own)
        assert answer.status == 200, answer.body
        (sandbox,) = machine.work_dir.glob("agent-1/slaves/latest/frameworks/*/executors/*/runs/latest/containers/in")
        said = 'NAME="Alpine-like"\nblue own\n/mnt/mesos/sandbox/containers/in\nsleep\x001000\x00'
        eventually(lambda: (sandbox / "stdout").read_text() == said, what=(sandbox / "stdout").read_text())
        pid = machine.daemon("agent-1")["pid"]
        machine.kill("agent-1")
        eventually(lambda: machine.daemon("agent-1")["pid"] not in (None, pid))
        eventually(lambda: answers(machine))
        Path(sandbox / "go").touch()
        ended = ask(machine, "WAIT_NESTED_CONTAINER", inner).json()["wait_nested_container"]
        assert ended["exit_status"] == 7 << 8, json.dumps(ended)
        assert ask(machine, "REMOVE_NESTED_CONTAINER", inner).status == 200
        assert not sandbox.exists()
        assert ask(machine, "LAUNCH_NESTED_CONTAINER", inner, command={"value": "exec sleep 1000"}).status == 200
        machine.meseta("task", "kill", task["task_id"]["value"])
        bundles = machine.work_dir / "agent-1" / "oci" / "bundles"
        eventually(lambda: not list(bundles.iterdir()), 30, what="nothing is left of the two")
    finally:
        owner.kill()
        owner.communicate()


def answers(machine: Cluster) -> bool:
    try:
        return call(machine.urls["agent-1"], "GET_CONTAINERS").status == 200
    except OSError:
        return False
