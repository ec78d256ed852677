"""What tests of images have in common: what they need, a folder of images, and what containers leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.images import base, entry, layer, save

NEEDS = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may run images"),
    pytest.mark.skipif(not shutil.which("runc") or not shutil.which("busybox"), reason="runc or busybox is not installed"),
]
IMAGE = "alpine-like:1"
PLUGINS = "/opt/cni/bin:/usr/lib/cni"
ADDRESSES = Path("/run/meseta/networks")


def registry(folder: Path) -> Path:
    """A folder of images: a good one, of two layers, and a broken one."""
    release = layer([entry("etc/os-release", b'NAME="Alpine-like"\n'), entry("etc/.wh.group", b"")])
    save(folder / f"{IMAGE}.tar", [base(), release], Env=["PATH=/bin", "COLOUR=blue"], Cmd=["cat", "/etc/os-release"])
    (folder / "broken:1.tar").write_bytes(b"this is no image")
    return folder


def left(machine: Cluster) -> dict[str, Any]:
    """What containers leave on the machine while they run: bundles, mounts (and network namespaces), control groups, rules, addresses."""
    agent = machine.work_dir / "agent-1"
    with open("/proc/self/mounts") as mounts:
        mounted = [line for line in mounts if str(agent) in line]
    containers = {path.name for path in agent.glob("slaves/*/frameworks/*/executors/*/runs/*-*")}
    groups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if os.path.basename(folder) in containers]
    bundles = list((agent / "oci" / "bundles").glob("*")) + list((agent / "oci" / "state").glob("*"))
    rules = [rule for rule in _rules() if any(container in rule for container in containers)]
    addresses = [path.name for path in ADDRESSES.glob("*/*.*") if any(container in _text(path) for container in containers)]
    kinds = {"mounts": mounted, "groups": groups, "bundles": bundles, "rules": rules, "addresses": addresses}
    return {kind: found for kind, found in kinds.items() if found}


def _rules() -> list[str]:
    if shutil.which("iptables-save") is None:
        return []
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # Just given back.
        return ""
