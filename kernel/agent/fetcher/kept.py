"""The files of the cache: each downloaded once, however many wait for it, and kept until its room is needed.

The folder is emptied at start: what an earlier agent left could only be believed after reading it all again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from kernel.agent.fetcher.cache import Entry, Key, Ledger
from kernel.agent.fetcher.command import end_orphans
from kernel.agent.fetcher.plan import shown

log = logging.getLogger(__name__)

Size = Callable[[], Awaitable[int | None]]
Get = Callable[[str], Awaitable[None]]


def open_folder(parent: str, work_dir: str) -> Path | None:
    """This agent's own folder in the one that agents may share, empty. None when it cannot be used: then nothing is kept."""
    folder = Path(parent) / hashlib.sha256(work_dir.encode()).hexdigest()[:16]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise PermissionError(0, "it belongs to somebody else")
        folder.chmod(0o711)  # Commands of tasks' users must get to the folders we make for them here.
        end_orphans(folder)
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        log.warning("nothing is kept in the fetcher's cache: cannot use %s: %s", folder, error.strerror)
        return None
    return folder


class Kept:
    """The cache at work. Used in the event loop only."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        """folder: ours, and empty."""
        self.folder, self.ledger = folder, Ledger(bytes_max)
        self._downloads: dict[Entry, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def hold(self, key: Key, size: Size, get: Get) -> AsyncIterator[str]:
        """A path where the file is as long as it is held. size: asked first, so that there is room; None for not known. get: downloads.

        Raises NoRoom and OSError when the cache is of no use now, and whatever get raises. When nobody waits any more, get is
        cancelled.
        """
        entry = self.ledger.find(key)
        if entry is None:
            entry = self.ledger.begin(key)
            self._downloads[entry] = asyncio.create_task(self._download(entry, size, get))
            self._downloads[entry].add_done_callback(lambda task, begun=entry: self._downloaded(begun, task))  # type: ignore[misc]
        entry.holders += 1
        try:
            download = self._downloads.get(entry)
            if download is not None:
                await asyncio.shield(download)
            yield self._path(entry)
        finally:
            entry.holders -= 1
            download = self._downloads.get(entry)
            if download is not None and not entry.holders:
                self.ledger.drop(entry)  # Who comes next begins anew.
                download.cancel()
                await asyncio.wait([download])

    def _downloaded(self, entry: Entry, download: asyncio.Task[None]) -> None:
        del self._downloads[entry]
        if download.cancelled() or download.exception() is not None:
            self.ledger.drop(entry)

    async def _download(self, entry: Entry, size: Size, get: Get) -> None:
        path = self._path(entry)
        try:
            self._make_room(entry, await size() or 0)
            await get(path)
            self._make_room(entry, os.stat(path).st_size)
            entry.whole = True
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(path)
            raise

    def _make_room(self, entry: Entry, size: int) -> None:
        for other in self.ledger.reserve(entry, size):
            log.info("cache: %s makes room", shown(other.key[1]))
            os.unlink(self._path(other))

    def _path(self, entry: Entry) -> str:
        return f"{self.folder}/{entry.number}"
