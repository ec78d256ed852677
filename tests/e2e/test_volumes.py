"""Persistent volumes on a real cluster: what is in them outlives tasks and agents, and is gone once they are destroyed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kernel.commands.reservation import reservation
from kernel.commands.volume import volume as volume_command
from tests.cluster import Cluster, eventually
from tests.e2e.http import call
from tests.e2e.processes import agents, ask
from tests.e2e.scheduler import Scheduler, scalar, task_info

pytestmark = pytest.mark.e2e

Json = dict[str, Any]
ROLE = "eng"
RESERVATION = {"type": "DYNAMIC", "role": ROLE}


def disk(size_mb: float) -> Json:
    return {**scalar("disk", size_mb), "reservations": [RESERVATION]}


def volume(name: str, size_mb: float = 64, path: str = "data", **fields: Any) -> Json:
    info = {"persistence": {"id": name}, "volume": {"mode": "RW", "container_path": path}}
    return {**disk(size_mb), "disk": info, **fields}


def launch(offer: Json, task_id: str, command: str, *more: Json) -> Json:
    info = task_info(task_id, command, offer)
    info["resources"] = [*info["resources"], *more]
    return {"type": "LAUNCH", "launch": {"task_infos": [info]}}


def holds(offer: Json, name: str) -> bool:
    found = [resource.get("disk", {}).get("persistence", {}).get("id") for resource in offer["resources"]]
    return name in found


def is_open(cluster: Cluster, offer: Json) -> bool:
    """Whether an offer was not rescinded since."""
    return offer["id"] in [known["id"] for found in ask(cluster, "GET_FRAMEWORKS")["frameworks"] for known in found.get("offers", [])]


def places(cluster: Cluster) -> list[Path]:
    return sorted((cluster.work_dir / "agent-1" / "volumes" / "roles").glob("*/*"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("volumes"), agents=1, only="master,agent")
    try:
        started.up()
        yield started
    finally:
        started.down()


@pytest.fixture
def scheduler(cluster: Cluster) -> Iterator[Scheduler]:
    found = Scheduler(cluster, ROLE, "RESERVATION_REFINEMENT", "SHARED_RESOURCES")
    try:
        yield found
    finally:
        found.close()


def test_what_a_task_leaves_in_a_volume_the_next_one_finds(cluster: Cluster, scheduler: Scheduler) -> None:
    made = volume("kept")

    def prepare(offer: Json) -> list[Json]:
        return [
            {"type": "RESERVE", "id": {"value": "reserve"}, "reserve": {"resources": [disk(64)]}},
            {"type": "CREATE", "id": {"value": "create"}, "create": {"volumes": [made]}},
            launch(offer, "writer", "echo hello > data/greeting", made),
        ]

    scheduler.accept(lambda offer: True, prepare)
    scheduler.status("writer", "TASK_FINISHED")
    for name in ("reserve", "create"):
        assert scheduler.operation(name)["state"] == "OPERATION_FINISHED"
    (place,) = places(cluster)
    assert (place.name, place.parent.name) == ("kept", ROLE)

    cluster.kill("agent-1")
    eventually(lambda: ask(cluster, "GET_AGENTS")["agents"][0].get("reregistered_time"), 60, "the next agent has registered")
    scheduler.accept(
        lambda offer: holds(offer, "kept") and is_open(cluster, offer),
        lambda offer: [launch(offer, "reader", "test $(cat elsewhere/greeting) = hello", volume("kept", path="elsewhere"))],
    )
    scheduler.status("reader", "TASK_FINISHED")

    again = [
        {"type": "DESTROY", "id": {"value": "destroy"}, "destroy": {"volumes": [made]}},
        {"type": "CREATE", "create": {"volumes": [made]}},
    ]
    scheduler.accept(
        lambda offer: holds(offer, "kept"), lambda offer: [*again, launch(offer, "finder", "ls data; test ! -e data/greeting", made)]
    )
    assert scheduler.operation("destroy")["state"] == "OPERATION_FINISHED"
    scheduler.status("finder", "TASK_FINISHED")
    end = [{"type": "DESTROY", "destroy": {"volumes": [made]}}, {"type": "UNRESERVE", "unreserve": {"resources": [disk(64)]}}]
    scheduler.accept(lambda offer: holds(offer, "kept"), lambda offer: end)
    eventually(lambda: not places(cluster), what="the volume is gone from the disk")
    eventually(lambda: not list(place.parents[2].glob("*removed*")), what="and all that was in it")


def test_tasks_of_the_same_time_see_one_shared_volume(cluster: Cluster, scheduler: Scheduler) -> None:
    made = volume("shared", shared={})
    waits = "until test -e data/go; do sleep 0.1; done"
    scheduler.accept(
        lambda offer: True,
        lambda offer: [
            {"type": "RESERVE", "reserve": {"resources": [disk(64)]}},
            {"type": "CREATE", "create": {"volumes": [made]}},
            launch(offer, "waits", waits, made),
            launch(offer, "goes", "touch data/go", made),
        ],
    )
    scheduler.status("goes", "TASK_FINISHED")
    scheduler.status("waits", "TASK_FINISHED")
    end = [{"type": "DESTROY", "destroy": {"volumes": [made]}}, {"type": "UNRESERVE", "unreserve": {"resources": [disk(64)]}}]
    scheduler.accept(lambda offer: holds(offer, "shared"), lambda offer: end)


def test_operators_reserve_and_make_volumes_too(cluster: Cluster) -> None:
    url = cluster.urls["master"]
    (agent_id,) = agents(cluster)
    named = {"agent_id": {"value": agent_id}}
    of_ops = {"type": "DYNAMIC", "role": "ops/db"}
    wanted = {**scalar("disk", 32), "reservations": [of_ops]}
    made = {**wanted, "disk": volume("v")["disk"]}
    assert call(url, "RESERVE_RESOURCES", reserve_resources={**named, "resources": [wanted]}).status == 202
    assert call(url, "CREATE_VOLUMES", create_volumes={**named, "volumes": [made]}).status == 202
    eventually(lambda: places(cluster), what="the volume is on the disk")
    (agent,) = ask(cluster, "GET_AGENTS")["agents"]
    assert any(resource.get("reservations") == [of_ops] for resource in agent["total_resources"])
    assert call(url, "RESERVE_RESOURCES", reserve_resources={**named, "resources": [{**wanted, **scalar("disk", 1e9)}]}).status == 409
    assert call(url, "DESTROY_VOLUMES", destroy_volumes={**named, "volumes": [made]}).status == 202
    assert call(url, "UNRESERVE_RESOURCES", unreserve_resources={**named, "resources": [wanted]}).status == 202
    eventually(lambda: not places(cluster), what="the volume is gone from the disk")


def test_on_the_command_line(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserve, make a volume, look, and give all back."""
    monkeypatch.setenv("MESETA_MASTER", cluster.urls["master"])

    def run(command: click.Command, *arguments: str) -> str:
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    (agent_id,) = agents(cluster)
    run(reservation, "add", agent_id, "cli/db", "cpus=0.5,mem=64", "--label", "k=v")
    run(volume_command, "add", agent_id, "cli/db", "v", "32")
    assert "cpus 0.5, mem 64M" in run(reservation, "list", "--role", "cli/db")
    assert "cli/db  v   32M" in run(volume_command, "list")
    run(volume_command, "rm", agent_id, "cli/db", "v")
    run(reservation, "rm", agent_id, "cli/db")
    (agent,) = ask(cluster, "GET_AGENTS")["agents"]
    assert not any(resource.get("reservations") for resource in agent["total_resources"])


def test_disks_of_their_own_and_static_reservations(tmp_path: Path) -> None:
    """A PATH disk that is cut into volumes, a MOUNT disk that is one, both for a role from the start."""
    for name in ("fast", "whole"):
        (tmp_path / name).mkdir()
    (tmp_path / "whole" / "left").write_text("by somebody")
    fast = {"type": "PATH", "path": {"root": str(tmp_path / "fast")}}
    whole = {"type": "MOUNT", "mount": {"root": str(tmp_path / "whole")}}
    of_role = {"role": ROLE}
    given = [
        scalar("cpus", 2),
        scalar("mem", 512),
        {**scalar("disk", 100), **of_role, "disk": {"source": fast}},
        {**scalar("disk", 50), **of_role, "disk": {"source": whole}},
    ]
    static = [{"type": "STATIC", "role": ROLE}]

    def on(source: Json, name: str, size_mb: float) -> Json:
        return {**scalar("disk", size_mb), "reservations": static, "disk": {**volume(name)["disk"], "source": source}}

    cluster = Cluster(tmp_path, agents=1, only="master,agent", environ={"MESETA_RESOURCES": json.dumps(given)})
    try:
        cluster.up()
        scheduler = Scheduler(cluster, ROLE, "RESERVATION_REFINEMENT")
        made = [on(fast, "part", 40), on(whole, "all", 50)]
        write = "echo $0 > data/file"
        scheduler.accept(
            lambda offer: len(offer["resources"]) >= 4,
            lambda offer: [
                {"type": "CREATE", "id": {"value": "create"}, "create": {"volumes": made}},
                launch(offer, "path", write, made[0]),
                launch(offer, "mount", write, made[1]),
            ],
        )
        assert scheduler.operation("create")["state"] == "OPERATION_FINISHED"
        for task_id in ("path", "mount"):
            scheduler.status(task_id, "TASK_FINISHED")
        assert (tmp_path / "fast" / "volumes" / "roles" / ROLE / "part" / "file").exists()
        assert [path.name for path in (tmp_path / "whole").glob("[a-z]*")] == ["file"]
        scheduler.accept(lambda offer: holds(offer, "all"), lambda offer: [{"type": "DESTROY", "destroy": {"volumes": [made[1]]}}])
        eventually(lambda: not list((tmp_path / "whole").iterdir()), what="the disk is empty")
        scheduler.close()
    finally:
        cluster.down()
