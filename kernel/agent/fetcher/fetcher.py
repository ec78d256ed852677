"""The fetcher: brings the files that a task names into its sandbox before it starts (spec: mesos-v1, section 8.7).

It knows sandboxes and users, but no containers but by name, nor what runs in them. Downloads are streamed in the event loop;
what waits for the disk or the processor is done in threads.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import pwd
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from kernel.agent.config import AgentConfig
from kernel.agent.fetcher import command, kept, local, place, web
from kernel.agent.fetcher.budget import Budget, Cancelled
from kernel.agent.fetcher.cache import NoRoom
from kernel.agent.fetcher.extract import extract
from kernel.agent.fetcher.kept import Kept
from kernel.agent.fetcher.local import Owner
from kernel.agent.fetcher.plan import LOCAL, WEB, FetchError, Wanted, failed, plan
from kernel.agent.fetcher.tree import PIECE_BYTES, Tree, write_all
from kernel.errors import ConfigError
from kernel.wire.command import URI

T = TypeVar("T")
log = logging.getLogger(__name__)

WRITERS = 4  # Threads for short writes, so that these need not wait for
WORKERS = 2  # those that extract and copy.


class Settings(Struct, frozen=True, kw_only=True):
    """What the operator says, as in `kernel.agent.config`. Without a cache_dir it lies in the work dir."""

    work_dir: str
    cache_bytes: int = 2 << 30
    cache_dir: str = ""
    stall_s: float = 60.0
    bytes_max: int = 16 << 30
    commands: Mapping[str, Sequence[str]] = {}
    hadoop_home: str = ""
    frameworks_home: str = ""


def fetcher_for(config: AgentConfig) -> Fetcher:
    """The fetcher of an agent. Raises ConfigError."""
    settings = Settings(
        work_dir=config.work_dir,
        cache_bytes=config.fetcher_cache_bytes,
        cache_dir=config.fetcher_cache_dir,
        stall_s=config.fetcher_stall_timeout_s,
        bytes_max=config.fetcher_bytes_max,
        commands=config.fetcher_commands,
        hadoop_home=config.hadoop_home,
        frameworks_home=config.frameworks_home,
    )
    try:
        return Fetcher(settings)
    except OSError as error:
        raise ConfigError(f"--work-dir: cannot keep the fetcher's files in {config.work_dir}: {error.strerror}") from error


class Fetcher:
    """Fetches for many containers at once."""

    def __init__(self, settings: Settings) -> None:
        """Clears away what an earlier agent left half done. Raises OSError."""
        self._settings = settings
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="fetcher-writer")
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="fetcher-worker")
        self._staging = Path(settings.work_dir) / "fetcher" / "staging"
        if self._staging.exists():
            for folder in self._staging.iterdir():
                command.end_orphans(folder)
            shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True, exist_ok=True)
        for folder in (self._staging.parent, self._staging):
            folder.chmod(0o711)  # Commands of tasks' users must get to the folders we make for them here.
        cache_dir = settings.cache_dir or f"{self._staging.parent}/cache"
        kept_in = kept.open_folder(cache_dir, settings.work_dir) if settings.cache_bytes else None
        self._kept = None if kept_in is None else Kept(kept_in, settings.cache_bytes)

    async def fetch(self, container_id: str, uris: Sequence[URI], sandbox: str, user: str | None) -> None:
        """Bring files into a sandbox, one after another, and hand them over to a user, None for whoever owns the sandbox.

        All or nothing: the sandbox is not touched before everything is there. Raises FetchError. Cancelled, it ends at once and
        leaves nothing behind; the same container may then be fetched for again.
        """
        wanted = [plan(uri, self._settings.frameworks_home) for uri in uris]
        folder = str(self._staging / container_id)
        job = _Job(self._settings, self._kept, self._writers, self._workers, folder)
        try:
            await job.run(wanted, sandbox, user)
        except Cancelled:
            raise asyncio.CancelledError from None
        finally:
            job.budget.cancel()
            remove = functools.partial(shutil.rmtree, folder, ignore_errors=True)
            await asyncio.wait([asyncio.get_running_loop().run_in_executor(self._writers, remove)])

    def close(self) -> None:
        """Let go of the threads. Whoever still fetches must have been cancelled."""
        self._writers.shutdown(wait=False)
        self._workers.shutdown(wait=False)


class _Job:
    """The fetching for one container."""

    def __init__(
        self, settings: Settings, cache: Kept | None, writers: ThreadPoolExecutor, workers: ThreadPoolExecutor, folder: str
    ) -> None:
        """folder: where all is made ready; made here, removed by the caller."""
        self._settings, self._kept = settings, cache
        self._writers, self._workers = writers, workers
        self._folder, self._tree = folder, f"{folder}/tree"
        self._owner: Owner | None = None
        self.budget = Budget(settings.bytes_max, settings.work_dir)

    async def run(self, wanted: Sequence[Wanted], sandbox: str, user: str | None) -> None:
        try:
            self._owner = await self._in(self._writers, self.budget, functools.partial(_owner, user, sandbox))
            shutil.rmtree(self._folder, ignore_errors=True)  # What a dying command may have put there after it was cleared.
            os.mkdir(self._folder, 0o711)
            os.mkdir(self._tree, 0o700)
        except OSError as error:
            raise FetchError(f"cannot fetch: {error.strerror}") from error
        for number, one in enumerate(wanted):
            await self._fetch(one, f"{self._folder}/{number}")
        try:
            await self._in(self._workers, self.budget, lambda: place.hand_over(self._tree, sandbox, self._owner))
        except OSError as error:
            raise FetchError(f"cannot put what was fetched into the sandbox: {error.strerror}") from error

    async def _fetch(self, wanted: Wanted, target: str) -> None:
        log.info("fetching %s", wanted.shown)
        before = self.budget.bytes
        try:
            if not await self._from_cache(wanted, target):
                await self._download(wanted, target, self.budget)
                await self._use(wanted, target)
                await self._put(wanted, target)
        except FetchError as error:
            raise failed(wanted.shown, str(error)) from error
        except OSError as error:
            raise failed(wanted.shown, error.strerror or type(error).__name__) from error
        except Cancelled:
            raise
        except Exception as error:  # What others made up may break any library; no task is to wait for ever because of it.
            log.exception("fetching %s", wanted.shown)
            raise failed(wanted.shown, f"the agent cannot handle it ({type(error).__name__})") from error
        log.info("fetched %s: %d bytes written", wanted.shown, self.budget.bytes - before)

    async def _from_cache(self, wanted: Wanted, target: str) -> bool:
        """Use the cache. False when it is not wanted, or is of no use."""
        if wanted.cache is None or self._kept is None:
            return False
        budget = Budget(self._settings.bytes_max, str(self._kept.folder))
        key = ("" if self._owner is None else repr(self._owner), wanted.cache)
        try:
            async with self._kept.hold(key, lambda: self._size(wanted, budget), lambda path: self._download(wanted, path, budget)) as path:
                try:
                    await self._use(wanted, path)
                    if wanted.archive is None:
                        await self._in(self._workers, self.budget, lambda: _copy(path, target, self.budget))
                except OSError as error:  # No fault of the cache.
                    raise FetchError(error.strerror) from error
        except (NoRoom, OSError) as error:
            log.warning("the cache is of no use for %s: %s", wanted.shown, error)
            return False
        if wanted.archive is None:
            await self._put(wanted, target)
        return True

    async def _size(self, wanted: Wanted, budget: Budget) -> int | None:
        if wanted.scheme == LOCAL:
            return await local.size(wanted.path, self._owner, budget)
        return await web.size(wanted, self._settings.stall_s) if wanted.scheme in WEB else None

    async def _download(self, wanted: Wanted, target: str, budget: Budget) -> None:
        """Make a file of what a URI stands for. Raises FetchError, OSError, Cancelled."""
        settings = self._settings

        async def in_thread(function: Callable[[], Any]) -> Any:
            return await self._in(self._writers, budget, function)

        if wanted.scheme == LOCAL:
            await local.copy(wanted.path, target, self._owner, budget)
        elif wanted.scheme in WEB:
            await web.download(wanted, target, budget, settings.stall_s, in_thread)
        else:
            argv = command.command_for(wanted, settings.commands, settings.hadoop_home)
            await command.run(wanted, argv, target, self._owner, budget, settings.stall_s, in_thread)

    async def _use(self, wanted: Wanted, path: str) -> None:
        """Check a file, and extract it if it is an archive that is to be."""
        if wanted.sha256 is not None:
            found = await self._in(self._workers, self.budget, lambda: _sha256(path, self.budget))
            if found != wanted.sha256:
                raise FetchError(f"its checksum is {found}, not {wanted.sha256}")
        if (suffix := wanted.archive) is not None:
            name = os.path.basename(wanted.output)
            await self._in(self._workers, self.budget, lambda: extract(path, suffix, name, self._tree, self.budget))

    async def _put(self, wanted: Wanted, source: str) -> None:
        def put() -> None:
            with Tree(self._tree, self.budget) as tree:
                place.put(source, tree, wanted.output, wanted.executable)

        await self._in(self._writers, self.budget, put)

    @staticmethod
    async def _in(pool: ThreadPoolExecutor, budget: Budget, function: Callable[[], T]) -> T:
        """Call in a thread. Cancelled, it waits until the thread has stopped: what that works on may then be removed."""
        begun = asyncio.get_running_loop().run_in_executor(pool, function)
        try:
            return await asyncio.shield(begun)
        except asyncio.CancelledError:
            budget.cancel()
            await asyncio.wait([begun])
            if not begun.cancelled():
                begun.exception()  # Seen.
            raise


def _owner(user: str | None, sandbox: str) -> Owner | None:
    """Whom to fetch for; None when it is the agent's own user. Raises FetchError, OSError."""
    try:
        if user is not None:
            found = pwd.getpwnam(user)
            owner = Owner(found.pw_uid, found.pw_gid, tuple(os.getgrouplist(user, found.pw_gid)), user, found.pw_dir)
        else:  # In an image users have other names, or none.
            of = os.lstat(sandbox)
            owner = Owner(of.st_uid, of.st_gid, (of.st_gid,), str(of.st_uid), "/")
    except (KeyError, ValueError):
        raise FetchError(f"no user is called '{user}' on this agent") from None
    return None if owner.uid == os.geteuid() else owner


def _sha256(path: str, budget: Budget) -> str:
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(PIECE_BYTES):
            budget.check()
            digest.update(piece)
    return digest.hexdigest()


def _copy(source: str, target: str, budget: Budget) -> None:
    with open(source, "rb", buffering=0) as file, open(target, "xb", buffering=0) as copy:
        budget.expect(os.fstat(file.fileno()).st_size)
        while piece := file.read(PIECE_BYTES):
            budget.take(len(piece))
            write_all(copy.fileno(), piece)
