"""Networks as files define them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.networks.config import BUILT_IN, NetworkError, find, parse


def write(folder: Path, file: str, /, **fields: Any) -> None:
    (folder / file).write_text(json.dumps(fields))


def test_a_network_is_a_list_of_plugins_or_one(tmp_path: Path) -> None:
    write(tmp_path, "10-a.conflist", cniVersion="1.0.0", name="a", plugins=[{"type": "bridge"}, {"type": "portmap"}])
    write(tmp_path, "20-b.conf", cniVersion="0.3.1", name="b", type="macvlan", master="eth0")
    write(tmp_path, "30-c.txt", cniVersion="0.3.1", name="c", type="x")
    a, b = find("a", str(tmp_path)), find("b", str(tmp_path))
    assert ([plugin["type"] for plugin in a.plugins], a.cni_version) == (["bridge", "portmap"], "1.0.0")
    assert ([plugin["master"] for plugin in b.plugins], b.cni_version) == (["eth0"], "0.3.1")
    with pytest.raises(NetworkError, match="network 'c'"):
        find("c", str(tmp_path))


def test_the_first_file_of_a_name_counts_and_wins_over_our_own(tmp_path: Path) -> None:
    assert find("bridge", "") == find("bridge", str(tmp_path)) == BUILT_IN
    write(tmp_path, "1.conf", name="bridge", type="first")
    write(tmp_path, "2.conf", name="bridge", type="second")
    assert find("bridge", str(tmp_path)).plugins[0]["type"] == "first"


def test_an_unknown_network_is_told_with_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "a.conf", name="a", type="x")
    (tmp_path / "b.conf").write_text("{")
    with pytest.raises(NetworkError) as told:
        find("z", str(tmp_path))
    assert str(told.value).startswith(
        f"network 'z': nothing in {tmp_path} defines it (--network_cni_config_dir); there are: none, bridge, a, b.conf"
    )
    with pytest.raises(NetworkError, match=r"--network_cni_config_dir: .* cannot be read: No such file"):
        find("a", str(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"type": "x"}', "'name'"),
        ('{"name": "../x", "type": "x"}', "'name'"),
        ('{"name": "a", "cniVersion": 1, "type": "x"}', "'cniVersion'"),
        ('{"name": "a"}', "'type'"),
        ('{"name": "a", "type": "../../bin/sh"}', "'type'"),
        ('{"name": "a", "plugins": []}', "'plugins'"),
        ('{"name": "a", "plugins": ["x"]}', "'type'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        parse(text.encode())


@pytest.mark.parametrize(
    ("plugin", "maps"),
    [
        ({"type": "portmap", "capabilities": {"portMappings": True}}, True),
        ({"type": "portmap", "capabilities": {"portMappings": False}}, False),
        ({"type": "portmap"}, False),
        ({"type": "mesos-cni-port-mapper"}, True),
    ],
)
def test_ports_are_mapped_by_who_says_that_it_can(plugin: dict[str, Any], maps: bool) -> None:
    assert parse(json.dumps({"name": "a", "plugins": [{"type": "bridge"}, plugin]}).encode()).maps_ports is maps
