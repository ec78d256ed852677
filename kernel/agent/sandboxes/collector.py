"""Removes sandboxes by age and disk pressure: looks now and then, decides by `collection`, acts by `removal`, all in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Generator, Iterable

from kernel.agent.config import AgentConfig
from kernel.agent.sandboxes.collection import InUse, Search, disk_usage, judge, removal_age_s, search_is_due
from kernel.agent.sandboxes.removal import Bin, search
from kernel.agent.sandboxes.slices import Slices
from kernel.errors import Unavailable

log = logging.getLogger(__name__)

PAUSES_MAX = 5_000_000  # Files of one sandbox that are removed in a row; the rest waits for the next look, behind others.


class Collector:
    """One agent's. It keeps no table of sandboxes: the disk is the table."""

    def __init__(
        self,
        config: AgentConfig,
        in_use: Callable[[], Awaitable[InUse]],
        began_with: InUse,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        """in_use: asks what must stay. began_with: the same, as the agent was started: what ended while it was away ends now."""
        self._config, self._in_use, self._began_with, self._wall_s = config, in_use, began_with, wall_s
        self._slaves = f"{config.work_dir}/slaves"
        self._bin = Bin(self._slaves)
        self._slices = Slices("collection")
        self._last: Search | None = None
        self._left = 0  # Ended sandboxes that stay for now, as of the last search.
        self._taken = 0  # Those taken and not gone yet.
        self._succeeded = self._failed = 0

    def numbers(self) -> dict[str, float]:
        """Metrics by Mesos's names. Those pending are counted by searches, so new ones come late."""
        return {
            "gc/path_removals_succeeded": float(self._succeeded),
            "gc/path_removals_failed": float(self._failed),
            "gc/path_removals_pending": float(self._left + self._taken),
        }

    async def run(self) -> None:
        """Look until cancelled."""
        try:
            await self._slices.run(_touch(self._began_with.sandboxes))
            while True:
                try:
                    await self.look()
                except (OSError, Unavailable) as error:
                    log.warning("cannot collect sandboxes: %s", error)
                await asyncio.sleep(self._config.disk_watch_interval_s)
        finally:
            self._slices.close()

    async def look(self) -> None:
        """Once: remove what may go. Raises OSError; Unavailable when the core cannot be asked."""
        in_use = await self._in_use()
        await self._slices.run(_touch(in_use.sandboxes))
        now_s, age_s = self._wall_s(), self._age_s()
        if search_is_due(self._last, age_s, now_s):
            await self._search(in_use, age_s, now_s)
        waiting = self._bin.waiting()
        self._taken = len(waiting)
        for name in waiting:
            await self._remove(name)

    async def discard(self, path: str) -> None:
        """Take a sandbox away at once, its files go with the next look. One that is gone is fine. Raises OSError."""
        await self._slices.run(self._discard(path))

    def _discard(self, path: str) -> Generator[None, None, None]:
        yield
        with contextlib.suppress(FileNotFoundError):
            self._bin.take(path)

    async def _search(self, before: InUse, age_s: float, now_s: float) -> None:
        nested = before.parents if self._config.gc_non_executor_container_sandboxes else frozenset[str]()
        found = await self._slices.run(search(self._slaves, nested))
        in_use = await self._in_use()  # Asked for after the search: see `judge`.
        verdict = judge(found.sandboxes, in_use, age_s, now_s)
        self._last, self._left = Search.done(verdict, now_s), verdict.left
        if verdict.expired:
            log.info("removing %d sandboxes unused for %.0f s; %d stay", len(verdict.expired), age_s, verdict.left)
        runs = {os.path.dirname(sandbox.path) for sandbox in verdict.expired if sandbox.parent is None}
        await self._slices.run(self._take(sandbox.path for sandbox in verdict.expired))
        await self._slices.run(self._tidy(runs.union(found.empty), in_use.agent_id, {s.parent for s in verdict.expired if s.parent}))

    async def _remove(self, name: str) -> None:
        try:
            gone = await self._slices.run(_at_most(PAUSES_MAX, self._bin.remove(name)))
        except OSError as error:
            log.warning("cannot remove what is left of a sandbox in %s/%s: %s", self._slaves, name, error)
            gone = False
        if gone is not None:
            self._taken -= 1
            self._succeeded += gone
            self._failed += not gone

    def _age_s(self) -> float:
        found = os.statvfs(self._config.work_dir)
        usage = disk_usage(found.f_blocks, found.f_bfree, found.f_files, found.f_ffree)
        return removal_age_s(self._config.gc_delay_s, self._config.gc_disk_headroom, usage, self._config.disk_watch_interval_s)

    def _take(self, paths: Iterable[str]) -> Generator[None, None, None]:
        for path in paths:
            yield
            try:
                self._bin.take(path)
            except OSError as error:
                log.warning("cannot remove the sandbox %s: %s", path, error)
                self._failed += 1

    def _tidy(self, folders: Iterable[str], agent_id: str, parents: Iterable[str]) -> Generator[None, None, None]:
        for folder in folders:
            yield
            self._bin.tidy(folder, agent_id)
        for parent in parents:
            yield
            self._bin.tidy_tasks(parent)


def _touch(paths: Iterable[str]) -> Generator[None, None, None]:
    """Note on the disk that sandboxes are in use."""
    for path in paths:
        yield
        try:
            os.utime(path, follow_symlinks=False)
        except OSError as error:  # Mostly: it is not made yet.
            log.debug("%s: %s", path, error)


def _at_most(pauses: int, work: Generator[None, None, bool]) -> Generator[None, None, bool | None]:
    """Go on with work for so many pauses; None when it has not ended by then."""
    for _ in range(pauses):
        try:
            yield next(work)
        except StopIteration as ended:
            gone: bool = ended.value
            return gone
    work.close()
    return None
