"""In version 2 the children of a group have the controllers that it hands on, and one that hands any on has no processes of its own: only
the root of all may. In a container the root that we see is a group like others, and all that runs there runs in it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Collection

from kernel.agent.isolators import group_files

log = logging.getLogger(__name__)

LEAF = "init"  # Docker's own images that run engines move theirs there, too.
VACATE_TRIES = 20  # Processes fork while they are moved.


def delegate(path: str, controllers: Collection[str]) -> None:
    """Have the children of a folder, and those of all above it, be held by these controllers. Raises OSError naming the file."""
    wanted = " ".join(f"+{name}" for name in controllers)
    parts = path.split("/")
    for count in range(2, len(parts) + 1):
        parent = "/".join(parts[:count])
        if os.path.exists(f"{parent}/cgroup.procs"):
            _hand_on(parent, wanted)


def _hand_on(group: str, wanted: str) -> None:
    for left in reversed(range(VACATE_TRIES)):
        try:
            return group_files.put(f"{group}/cgroup.subtree_control", wanted)
        except OSError as error:
            if error.errno != errno.EBUSY or not left:
                raise
        _vacate(group)


def _vacate(group: str) -> None:
    """Move all processes of a group, ourselves among them, to a leaf below it."""
    leaf = f"{group}/{LEAF}"
    if not os.path.isdir(leaf):
        log.info("moving what runs in %s to %s, as only groups without processes can hold others to anything", group, leaf)
        os.makedirs(leaf, exist_ok=True)
    for pid in group_files.text(f"{group}/cgroup.procs").split():
        try:
            group_files.put(f"{leaf}/cgroup.procs", pid)
        except OSError as error:
            if error.errno != errno.ESRCH:  # It has ended.
                raise
