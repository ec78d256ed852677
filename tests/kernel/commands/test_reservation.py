"""`meseta reservation` and `meseta volume`, against a made-up cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from kernel.commands.context import CommandError
from kernel.commands.reservation import reservation
from kernel.commands.volume import volume
from tests.kernel.commands.cluster import Cluster, agent, running, scalar

STATIC = {**scalar("mem", 1024.0), "role": "eng", "reservations": [{"type": "STATIC", "role": "eng"}]}
STACK = [{"type": "DYNAMIC", "role": "eng/db", "principal": "ops", "labels": {"labels": [{"key": "k", "value": "v"}]}}]
DYNAMIC = {**scalar("cpus", 2.0), "reservations": STACK}
DISK = {"persistence": {"id": "v1"}, "volume": {"mode": "RW", "container_path": "data"}}
VOLUME = {**scalar("disk", 64.0), "reservations": [{"type": "DYNAMIC", "role": "eng/db"}], "disk": DISK}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cluster]:
    with running() as served:
        monkeypatch.setenv("MESETA_MASTER", served.url)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        total = [scalar("cpus", 2.0), STATIC, DYNAMIC, VOLUME]
        served.agents = [agent("S0", "n1", total_resources=total, allocated_resources=[VOLUME])]
        yield served


def run(command: click.Command, *arguments: str) -> str:
    """What is printed. Raises CommandError."""
    done = CliRunner().invoke(command, arguments)
    if done.exception is not None:
        raise done.exception
    return done.output


def last(cluster: Cluster) -> dict[str, Any]:
    """What the last call said."""
    call = cluster.calls[-1]
    found: dict[str, Any] = call[call["type"].lower()]
    return found


def test_reservations_are_listed_without_volumes(cluster: Cluster) -> None:
    lines = run(reservation, "list").splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["n1:5051", "eng", "static", "mem", "1024M"],
        ["n1:5051", "eng/db", "dynamic", "cpus", "2", "ops", "k=v"],
    ]
    (only,) = json.loads(run(reservation, "list", "--role", "eng/db", "--json"))
    assert (only["agent_id"], only["role"], only["resources"]) == ("S0", "eng/db", [DYNAMIC])


def test_what_is_reserved_names_who_reserves_it(cluster: Cluster, tmp_path: Path) -> None:
    credential = tmp_path / "credential"
    credential.write_text('{"principal": "ops", "secret": "x"}')
    credential.chmod(0o600)
    out = run(reservation, "add", "n1", "eng/db", "cpus=2,mem=4g", "--label", "k=v", "--credential", str(credential))
    assert out == "cpus 2, mem 4096M of n1:5051: reserved for eng/db.\n"
    assert last(cluster) == {
        "agent_id": {"value": "S0"},
        "resources": [{**scalar("cpus", 2.0), "reservations": STACK}, {**scalar("mem", 4096.0), "reservations": STACK}],
    }


def test_all_of_a_role_is_given_back_or_some(cluster: Cluster) -> None:
    run(reservation, "rm", "n1", "eng/db")
    assert last(cluster)["resources"] == [DYNAMIC]
    run(reservation, "rm", "n1", "eng/db", "cpus=0.5")
    assert last(cluster)["resources"] == [{**DYNAMIC, "scalar": {"value": 0.5}}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rm", "n1", "ops"), "nothing is reserved for ops"),
        (("rm", "n1", "eng"), "nothing is reserved for eng"),
        (("rm", "n1", "eng/db", "cpus=3"), "amounts: cpus 3 is more than is reserved for eng/db there: 2"),
        (("add", "n9", "eng", "cpus=1"), "there is no node 'n9'"),
    ],
)
def test_what_cannot_be(cluster: Cluster, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        run(reservation, *arguments)
    assert all(call["type"] == "GET_AGENTS" for call in cluster.calls)


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        (reservation, ("add", "n1", "eng", "cpus=-1"), "amounts: 'cpus=-1' is no amount"),
        (reservation, ("add", "n1", "eng", "cpus=0.12345"), "amounts: 'cpus=0.12345' is too precise; thousandths are the least"),
        (reservation, ("add", "n1", "eng", "cpus=1", "--label", "=v"), "--label: '=v' is no label; write KEY=VALUE"),
        (reservation, ("rm", "n1", "eng/db", "cpus=x"), "amounts: 'cpus=x' is no amount"),
        *((volume, ("add", "n1", "eng/db", "v2", size), f"size: '{size}' is not allowed; MiB") for size in ("-10m", "0", "1,mem=2", "nan")),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(cluster: Cluster, command: click.Command, arguments: tuple[str, ...], told: str) -> None:
    refused = CliRunner().invoke(command, arguments)
    assert refused.exit_code == 2
    assert told in refused.output
    assert all(call["type"] == "GET_AGENTS" for call in cluster.calls)


def test_volumes_are_listed(cluster: Cluster) -> None:
    assert run(volume, "list").splitlines()[1].split() == ["n1:5051", "eng/db", "v1", "64M", "yes"]
    assert json.loads(run(volume, "list", "--json"))[0]["used"] is True


def test_a_volume_is_made_of_disk_that_is_reserved_for_it(cluster: Cluster) -> None:
    assert run(volume, "add", "n1", "eng/db", "v2", "1g", "--path", "db") == "Volume v2 of eng/db on n1:5051 is made.\n"
    assert [call["type"] for call in cluster.calls] == ["GET_AGENTS", "RESERVE_RESOURCES", "CREATE_VOLUMES"]
    (made,) = last(cluster)["volumes"]
    assert made["scalar"] == {"value": 1024.0}
    assert made["disk"] == {"persistence": {"id": "v2"}, "volume": {"mode": "RW", "container_path": "db"}}


def test_nothing_is_left_of_a_volume_that_cannot_be_made(cluster: Cluster) -> None:
    cluster.refusals["CREATE_VOLUMES"] = (400, "it exists")
    with pytest.raises(CommandError, match="it exists"):
        run(volume, "add", "n1", "eng/db", "v1", "1g")
    assert cluster.calls[-1]["type"] == "UNRESERVE_RESOURCES"


def test_a_destroyed_volume_gives_its_disk_back(cluster: Cluster) -> None:
    run(volume, "rm", "n1", "eng/db", "v1")
    assert [call["type"] for call in cluster.calls] == ["GET_AGENTS", "DESTROY_VOLUMES", "UNRESERVE_RESOURCES"]
    assert last(cluster)["resources"] == [{name: part for name, part in VOLUME.items() if name != "disk"}]
    with pytest.raises(CommandError, match="no volume 'v9'"):
        run(volume, "rm", "n1", "eng/db", "v9")
