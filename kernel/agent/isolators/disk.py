"""What the sandboxes of containers take of the disk, and the end of those that take more than they were given (spec: mesos-v1, section
8.6, disk/du).

Looked at in intervals, in a thread, a bit at a time. Counted as `du` does: blocks, each file once, no symlink followed, nothing on
other file systems. Not counted: files without a name, and what a task hides from its own user where the agent is not root.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec

from kernel.agent.config import AgentConfig
from kernel.agent.effects import ContainerLimited
from kernel.agent.isolators.isolation import DISK
from kernel.agent.isolators.limits import Limits, Usage
from kernel.agent.sandboxes.slices import Slices
from kernel.executor.command import Limitation
from kernel.wire.resources import Resources
from kernel.wire.task import Reason

MIB = 1 << 20
BLOCK_BYTES = 512  # The unit of st_blocks, whatever the file system's.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_measured(config: AgentConfig) -> bool:
    """Whether anybody wants to know. By default, and where it is to be enforced, yes."""
    return config.enforce_container_disk_quota or config.isolation is None or bool(DISK & set(config.isolation))


def exceeded(used_bytes: int, limit_mib: int | None) -> Limitation | None:
    """What a container ran into that uses so much; None as long as it may."""
    if limit_mib is None or used_bytes <= limit_mib * MIB:
        return None
    used_mib = -(-used_bytes // MIB)
    message = f"Disk usage ({used_mib}MB) exceeds quota ({limit_mib}MB)"
    return Limitation(Reason.REASON_CONTAINER_LIMITATION_DISK, message, Resources(disk=used_mib * 1000).messages())


class DiskWatch:
    """Measures the sandboxes of live containers."""

    def __init__(self, config: AgentConfig, post: Callable[[Any], None]) -> None:
        """post: takes the core's inputs."""
        self._interval_s, self._enforce = config.container_disk_watch_interval_s, config.enforce_container_disk_quota
        self._measured = is_measured(config)
        self._post = post
        self._slices = Slices("disk")
        self._live: dict[str, tuple[str, int | None]] = {}  # Container -> sandbox, limit in MiB.
        self._used: dict[str, int] = {}

    def watch(self, container_id: str, directory: str, limits: Limits) -> None:
        """A container runs, or is about to."""
        self._live[container_id] = directory, limits.disk_mib

    def limit(self, container_id: str, limits: Limits) -> None:
        """It has other resources now."""
        if container_id in self._live:
            self._live[container_id] = self._live[container_id][0], limits.disk_mib

    def forget(self, container_id: str) -> None:
        self._live.pop(container_id, None)
        self._used.pop(container_id, None)

    def added(self, usages: Mapping[str, Usage]) -> dict[str, Usage]:
        """What containers use, with what they use of the disk as of the last look."""
        return {name: msgspec.structs.replace(usage, disk_bytes=self._used.get(name)) for name, usage in usages.items()}

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._interval_s)
                if self._measured:
                    await self.look()
        finally:
            self._slices.close()

    async def look(self) -> None:
        """Once: measure all, side by side, so that one with many files does not delay what is found out of others."""
        loop = asyncio.get_running_loop()
        walks = {
            name: measure(directory, limit_mib * MIB if self._enforce and limit_mib is not None else None)
            for name, (directory, limit_mib) in self._live.items()
        }
        await self._slices.run(_side_by_side(walks, lambda name, used: loop.call_soon_threadsafe(self._found, name, used)))

    def _found(self, container_id: str, used_bytes: int) -> None:
        if container_id not in self._live:  # It has ended meanwhile.
            return
        self._used[container_id] = used_bytes
        limitation = exceeded(used_bytes, self._live[container_id][1])
        if limitation is not None and self._enforce:
            self._post(ContainerLimited(container_id, limitation))


def _side_by_side(walks: Mapping[str, Generator[None, None, int]], tell: Callable[[str, int], object]) -> Generator[None, None, None]:
    left = dict(walks)
    while left:
        for name, walk in list(left.items()):
            try:
                next(walk)
            except StopIteration as ended:
                tell(name, ended.value)
                del left[name]
            except OSError:  # Its sandbox is not made yet, or is gone.
                del left[name]
            yield


def measure(directory: str, enough_bytes: int | None = None) -> Generator[None, None, int]:
    """The bytes on the disk of a folder and all below it; pauses after each file. enough_bytes: once there are more, the rest need not
    be counted. Raises OSError when there is no such folder.

    Any depth takes one open folder: the way back is `..`, if that is still where we came from.
    """
    here = os.open(directory, _FOLDER)
    try:
        top = os.fstat(here)
        total, linked = top.st_blocks * BLOCK_BYTES, set[int]()
        way: list[tuple[int, list[str]]] = []  # From the top to here: inode, folders that are still to be entered.
        while True:
            inside: list[str] = []
            with os.scandir(here) as entries:
                for entry in entries:
                    yield
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:  # Removed meanwhile.
                        continue
                    if found.st_dev != top.st_dev or found.st_ino in linked:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        inside.append(entry.name)
                    elif found.st_nlink > 1:
                        linked.add(found.st_ino)
                    total += found.st_blocks * BLOCK_BYTES
                    if enough_bytes is not None and total > enough_bytes:
                        return total
            way.append((os.fstat(here).st_ino, inside))
            onward = _onward(here, way)
            if onward is None:
                return total
            os.close(here)
            here = onward
    finally:
        os.close(here)


def _onward(here: int, way: list[tuple[int, list[str]]]) -> int | None:
    """The next folder that is to be listed, open; None when there is none, or when somebody moves folders while we are in them: the
    next look will see."""
    at = os.dup(here)
    while True:
        _, inside = way[-1]
        while inside:
            try:
                onward = os.open(inside.pop(), _FOLDER, dir_fd=at)
            except OSError:  # Removed meanwhile, or locked.
                continue
            os.close(at)
            return onward
        way.pop()
        try:
            above = os.open("..", _FOLDER, dir_fd=at) if way else None
        except OSError:
            above = None
        os.close(at)
        if above is None:
            return None
        if os.fstat(above).st_ino != way[-1][0]:
            os.close(above)
            return None
        at = above
