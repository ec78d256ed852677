"""Removes images when their disk is full: looks now and then, decides by `collection`, acts by the store, all in a thread."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from kernel.agent.containerizer.workers import Workers
from kernel.agent.images.collection import JUST_USED_S, ImageGcConfig, is_full, unneeded
from kernel.agent.images.names import parse_name
from kernel.agent.images.store import Held, Store
from kernel.agent.sandboxes.collection import disk_usage

log = logging.getLogger(__name__)


class ImageCollector:
    """One agent's."""

    def __init__(
        self, config: ImageGcConfig | None, store: Store, held: Callable[[], Held], usage: Callable[[str], float] | None = None
    ) -> None:
        """config: None to remove nothing. held: what containers have. Raises CallError for an excluded image that is none."""
        self._config, self._store, self._held, self._usage = config, store, held, usage or _usage
        self._kept = {str(parse_name(name)) for name in config.kept} if config is not None else set()
        self._worker = Workers(1, "image-collection")

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            await self._worker.run(self._store.sweep)
            while self._config is not None:
                try:
                    await self._worker.run(self.look)
                except OSError as error:
                    log.warning("cannot remove images: %s", error)
                await asyncio.sleep(self._config.image_disk_watch_interval.nanoseconds / 1e9)
            await asyncio.Event().wait()
        finally:
            self._worker.close()

    def look(self) -> None:
        """Once: remove images, the longest unused first, until there is room. It waits for disks."""
        assert self._config is not None
        self._store.sweep()
        headroom, now_s = self._config.image_disk_headroom, time.time()
        if not is_full(self._usage(self._store.folder), headroom):
            return
        held = self._held()
        self._store.forget([], held.layers)  # Layers that nobody has go first.
        for image in unneeded(self._store.images(), self._kept | held.images, now_s, JUST_USED_S):
            if not is_full(self._usage(self._store.folder), headroom):
                return
            log.info("removing the image %s, unused for %.0f s: its disk is full", image.name, now_s - image.used_s)
            self._store.forget([image], self._held().layers)
        if is_full(self._usage(self._store.folder), headroom):
            log.warning("the disk of %s is full, and all images that are left are in use, or to be kept", self._store.folder)


def _usage(folder: str) -> float:
    try:
        found = os.statvfs(folder)
    except FileNotFoundError:  # No image yet.
        return 0.0
    return disk_usage(found.f_blocks, found.f_bfree, found.f_files, found.f_ffree)
