"""Joining and leaving by plugins that note what they are told; those of the distribution are tried in `tests/e2e/test_networks.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kernel.agent.networks.config import NetworkError
from kernel.agent.networks.networks import NAMESPACE, RECORD, Networks
from kernel.wire.container import NetworkInfo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make network namespaces")
PLUGIN = f"""#!{sys.executable} -S
import json, os, sys
told, command = json.load(sys.stdin), os.environ["CNI_COMMAND"]
with open(told["notes"], "a") as notes:
    space = os.path.basename(os.environ["CNI_NETNS"])
    notes.write(json.dumps([command, told["type"], os.environ["CNI_IFNAME"], space, told.get("prevResult")]) + "\\n")
if told.get("fails") == command and not os.path.exists(told["notes"] + ".well"):
    print(json.dumps({{"code": 11, "msg": "not today"}}))
    sys.exit(1)
if command == "ADD":
    print(json.dumps({{"cniVersion": "1.0.0", "ips": [{{"address": "10.0.0.7/24"}}], "by": told["type"]}}))
"""


class Stage:
    """A network `net` of two plugins. fails: the command that the second one does not do."""

    def __init__(self, folder: Path, fails: str = "") -> None:
        self.folder, self.notes = folder / "bundle", folder / "notes"
        for name in ("plugins", "networks", "bundle"):
            (folder / name).mkdir()
        for name in ("first", "second"):
            (folder / "plugins" / name).write_text(PLUGIN)
            (folder / "plugins" / name).chmod(0o755)
        plugins = [{"type": "first", "notes": str(self.notes)}, {"type": "second", "notes": str(self.notes), "fails": fails}]
        (folder / "networks" / "net.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": "net", "plugins": plugins}))
        self.networks = Networks(str(folder / "networks"), str(folder / "plugins"))

    def join(self, *names: str) -> None:
        self.networks.join("c1", str(self.folder), [NetworkInfo(name=name) for name in names])

    def leave(self) -> bool:
        return self.networks.leave("c1", str(self.folder))

    def told(self) -> list[Any]:
        """What plugins were told since the last look: command, type, interface, namespace, and whose result came before."""
        notes = [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return [(*note[:4], (note[4] or {}).get("by")) for note in notes]


def test_plugins_add_in_order_and_delete_in_reverse(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.join("net")
    assert stage.told() == [("ADD", "first", "eth0", NAMESPACE, None), ("ADD", "second", "eth0", NAMESPACE, "first")]
    stage.join("net")
    assert stage.told() == [], "a repeat does what is missing"
    assert stage.leave()
    assert stage.told() == [("DEL", "second", "eth0", NAMESPACE, "second"), ("DEL", "first", "eth0", NAMESPACE, "second")]
    assert not (stage.folder / NAMESPACE).exists()


def test_what_failed_half_way_is_undone_by_what_was_answered_until_then(tmp_path: Path) -> None:
    stage = Stage(tmp_path, fails="ADD")
    with pytest.raises(NetworkError, match="network 'net': the plugin 'second': not today"):
        stage.join("net")
    stage.told()
    assert Networks("", str(tmp_path / "plugins")).leave("c1", str(stage.folder)), "also by another agent, with other settings"
    assert [note[-1] for note in stage.told()] == ["first", "first"]


def test_what_cannot_be_undone_is_kept_and_tried_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, fails="DEL")
    stage.join("net")
    assert not stage.leave()
    assert (stage.folder / RECORD).exists()
    assert os.path.ismount(stage.folder / NAMESPACE)
    (tmp_path / "notes.well").touch()
    assert stage.leave()
    assert not (stage.folder / NAMESPACE).exists()


def test_a_machine_that_has_started_anew_has_no_namespace_to_tell_of(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.join("net")
    stage.told()
    subprocess.run(["umount", stage.folder / NAMESPACE], check=True)
    assert stage.leave()
    assert [note[3] for note in stage.told()] == ["", ""]


def test_nothing_is_done_before_all_is_known(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with pytest.raises(NetworkError, match="network 'other'"):
        stage.join("net", "other")
    (tmp_path / "plugins" / "second").unlink()
    with pytest.raises(NetworkError, match=r"the plugin 'second' is in none of the folders .* \(--network_cni_plugins_dir\)"):
        stage.join("net")
    assert stage.told() == []
    assert list(stage.folder.iterdir()) == []


def test_none_is_a_network_without_plugins(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.join("none")
    assert os.path.ismount(stage.folder / NAMESPACE)
    assert stage.networks.joined(str(stage.folder)) == []
    assert stage.leave()
    assert stage.told() == []
