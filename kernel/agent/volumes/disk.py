"""Persistent volumes on the disk: made, given to tasks, removed. All of this waits for disks: it is for threads.

Every step may be repeated after a crash at any point. A marker says which volume was made in a place: one that is there is never
made again, so never emptied, and a removal that comes late does not touch what came after it. What is removed is first moved away as
a whole, and then taken off the disk bit by bit as sandboxes are (`kernel.agent.sandboxes.removal`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from kernel.agent.effects import MakeVolume, RemoveVolume, VolumeRemoved
from kernel.agent.sandbox import SandboxError, owner
from kernel.agent.sandboxes.removal import BIN, Bin
from kernel.agent.sandboxes.slices import Slices
from kernel.agent.volumes.places import Mount, VolumePlace

log = logging.getLogger(__name__)

MODE, SHARED_MODE, PARENT_MODE = 0o750, 0o755, 0o755
KEPT = frozenset({BIN, "lost+found"})  # Of a whole disk: ours, and the file system's.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = threading.Lock()  # Volumes are made by the threads of several containerizers.


# ---- Making and removing --------------------------------------------------------------------------------


def make(place: VolumePlace, is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Have the volume there, empty when it is made. is_wanted: asked when nobody else can make one there. Raises OSError."""
    with _LOCK:
        if not is_wanted():
            return
        if _marked(place) == place.token:
            if not place.whole:
                _make_folder(place)
            return
        _clear(place)
        if not place.whole:
            _make_folder(place)
        _mark(place)


def remove(place: VolumePlace) -> None:
    """Have the volume gone from its place, unless another was made there since. Raises OSError."""
    with _LOCK:
        if _marked(place) == place.token:
            _clear(place)
            os.unlink(place.marker)


def _marked(place: VolumePlace) -> str | None:
    try:
        with open(place.marker, encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _mark(place: VolumePlace) -> None:
    """On the disk before anybody writes there: after a power loss, too, the volume is known to have been made."""
    folder = os.path.dirname(place.marker)
    os.makedirs(folder, exist_ok=True)
    with open(f"{place.marker}.new", "w", encoding="ascii") as file:
        file.write(place.token)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{place.marker}.new", place.marker)
    for changed in (folder, os.path.dirname(place.path)):
        descriptor = os.open(changed, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make_folder(place: VolumePlace) -> None:
    os.makedirs(os.path.dirname(place.path), PARENT_MODE, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(place.path, SHARED_MODE if place.shared else MODE)


def _clear(place: VolumePlace) -> None:
    bin_ = Bin(place.base)
    if not place.whole:
        with contextlib.suppress(FileNotFoundError):
            bin_.take(place.path)
        return
    with os.scandir(place.path) as entries:
        names = [entry.name for entry in entries if entry.name not in KEPT]
    for name in names:
        bin_.take(f"{place.path}/{name}")


# ---- For tasks ------------------------------------------------------------------------------------------


def own(mount: Mount, ids: tuple[int, int]) -> None:
    """Give a volume to the user of a task; a shared one to the first. Raises OSError."""
    path = mount.place.path
    if not mount.place.shared or os.stat(path).st_uid == os.geteuid():
        os.chown(path, *ids)


def link(sandbox: str, mount: Mount, ids: tuple[int, int] | None) -> None:
    """Show a volume in a sandbox by a symlink. Its folders there are made for the user; what the user has put in their place is not
    followed. Raises OSError."""
    *folders, last = mount.container_path.split("/")
    with contextlib.ExitStack() as opened:
        parent = os.open(sandbox, _FOLDER)
        opened.callback(os.close, parent)
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, MODE, dir_fd=parent)
                if ids is not None:
                    os.chown(folder, *ids, dir_fd=parent, follow_symlinks=False)
            parent = os.open(folder, _FOLDER, dir_fd=parent)
            opened.callback(os.close, parent)
        try:
            os.symlink(mount.place.path, last, dir_fd=parent)
        except FileExistsError:
            if os.readlink(last, dir_fd=parent) != mount.place.path:
                raise


def show(directory: str, user: str | None, volumes: Sequence[Mount], *, links: bool) -> None:
    """Have the volumes of a task there, as its user's (None: nobody's in particular). links: show them in its sandbox by symlinks.
    Raises SandboxError."""
    ids = owner(user) if user is not None and volumes else None
    for mount in volumes:
        try:
            make(mount.place)
            if ids is not None:
                own(mount, ids)
            if links:
                link(directory, mount, ids)
        except OSError as error:
            raise SandboxError(f"cannot give it the volume at {mount.container_path!r}: {error.strerror}") from error


# ---- The agent's thread ---------------------------------------------------------------------------------


class Volumes:
    """Makes and removes what the core says, in order, and takes what was removed off the disks."""

    def __init__(self, bases: Iterable[str], post: Callable[[Any], None]) -> None:
        """bases: the folders below which there may be volumes. post: takes the core's inputs."""
        self._bases, self._post = dict.fromkeys(bases), post
        self._newest: dict[str, str] = {}  # By path: the token of the last that was ordered to be made there.
        self._orders: asyncio.Queue[MakeVolume | RemoveVolume] = asyncio.Queue()
        self._slices = Slices("volumes")

    def order(self, effect: MakeVolume | RemoveVolume) -> None:
        if isinstance(effect, MakeVolume):
            self._newest[effect.place.path] = effect.place.token
        self._orders.put_nowait(effect)

    async def run(self) -> None:
        """Work until cancelled; first what an earlier agent left."""
        try:
            while True:
                while not self._orders.empty():
                    await self._obey(self._orders.get_nowait())
                for base in list(self._bases):
                    await self._purge(base)
                await self._obey(await self._orders.get())
        finally:
            self._slices.close()

    async def _obey(self, effect: MakeVolume | RemoveVolume) -> None:
        place = effect.place
        self._bases[place.base] = None
        making = isinstance(effect, MakeVolume)
        try:
            if making:  # A launch may have made a later one there meanwhile, and a task have written into it.
                await asyncio.to_thread(make, place, lambda: self._newest[place.path] == place.token)
            else:
                await asyncio.to_thread(remove, place)
        except OSError as error:  # What cannot be made is tried again for the first task, what cannot be removed at the next start.
            log.error("cannot %s the volume %s: %s", "make" if making else "remove", place.path, error)
            return
        if isinstance(effect, RemoveVolume):
            self._post(VolumeRemoved(place.path, place.token))

    async def _purge(self, base: str) -> None:
        bin_ = Bin(base)
        try:
            for name in bin_.waiting():
                if not await self._slices.run(bin_.remove(name)):
                    log.warning("cannot remove all of what was a volume, in %s/%s", base, BIN)
            await self._slices.run(_remove_empty(f"{base}/{BIN}"))
        except OSError as error:
            log.warning("cannot remove what was a volume below %s: %s", base, error)


def _remove_empty(folder: str) -> Generator[None, None, None]:
    yield
    with contextlib.suppress(OSError):
        os.rmdir(folder)
