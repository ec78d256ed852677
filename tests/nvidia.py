"""A stand-in for NVIDIA's tool and device files on machines without a GPU: the former prints what the real one prints, the latter are
harmless devices that the kernel guards like any other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

STAND_INS = ((1, 5), (1, 7))  # /dev/zero and /dev/full, which no shell needs.
LINES = (
    "0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, Tesla T4, 15360, 00000000:3B:00.0",
    "1, GPU-7a6e5bd2-57d1-7ac1-5c62-d2c2a9e7a2d1, Tesla T4, 15360, 00000000:AF:00.0",
)
UUIDS = tuple(line.split(", ")[1] for line in LINES)


def tool(folder: Path, script: str = "") -> Path:
    """An `nvidia-smi` in a folder for PATH. script: what it does instead of its work."""
    folder.mkdir(exist_ok=True)
    path = folder / "nvidia-smi"
    answer = "\n".join(LINES)
    work = f"""
case "$1 $2" in
"--query-gpu=index,uuid,name,memory.total,pci.bus_id --format=csv,noheader,nounits") echo '{answer}' ;;
*) echo 'Field is not a valid field to query.'; exit 2 ;;
esac
"""
    path.write_text(f"#!/bin/sh\n{script or work}")
    path.chmod(0o755)
    return path


def devices(folder: Path) -> Path:
    """Device files of two GPUs; only root can make them."""
    folder.mkdir(exist_ok=True)
    for number, (major, minor) in enumerate(STAND_INS):
        os.mknod(folder / f"nvidia{number}", stat.S_IFCHR | 0o666, os.makedev(major, minor))
        (folder / f"nvidia{number}").chmod(0o666)
    os.mknod(folder / "nvidiactl", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return folder
