"""What tests of images have in common: what they need, a folder of images, and what containers leave behind."""

from __future__ import annotations

import os
import shutil
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


def registry(folder: Path) -> Path:
    """A folder of images: a good one, of two layers, and a broken one."""
    release = layer([entry("etc/os-release", b'NAME="Alpine-like"\n'), entry("etc/.wh.group", b"")])
    save(folder / f"{IMAGE}.tar", [base(), release], Env=["PATH=/bin", "COLOUR=blue"], Cmd=["cat", "/etc/os-release"])
    (folder / "broken:1.tar").write_bytes(b"this is no image")
    return folder


def left(machine: Cluster) -> dict[str, Any]:
    """What containers leave on the machine while they run: bundles, mounts, control groups, processes."""
    agent = machine.work_dir / "agent-1"
    with open("/proc/self/mounts") as mounts:
        mounted = [line for line in mounts if str(agent) in line]
    groups = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if folder.count("/meseta/") and folder.count("-") >= 4]
    bundles = list((agent / "oci" / "bundles").glob("*")) + list((agent / "oci" / "state").glob("*"))
    return {kind: found for kind, found in {"mounts": mounted, "groups": groups, "bundles": bundles}.items() if found}
