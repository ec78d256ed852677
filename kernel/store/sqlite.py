"""The store of a single machine: one SQLite file, owned by one process.

SQLite's own locks, held for as long as the file is open, keep a second daemon out and vanish with the
process. All access is from one worker thread, so a slow disk never holds up the sockets.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kernel.errors import StoreError

SCHEMA_VERSION = 1

T = TypeVar("T")


class StoreInUse(StoreError):
    """Another process owns the file."""


class SqliteStore:
    """Keeps entries in the file at `path`, made with its folder when missing, readable by its owner only.

    durable: each write is on the disk when it returns. Otherwise it survives the end of the process but
    not a power loss, and costs no disk sync: enough for what is void after a reboot.
    Raises StoreError when the file cannot be used, is owned by another process or of a newer release.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        self._broken: StoreError | None = None
        try:
            _create(path)
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise _explained(path, error) from error
        try:
            _prepare(self._db, path, durable)
        except (OSError, sqlite3.Error) as error:
            self._db.close()
            raise _explained(path, error) from error
        except StoreError:
            self._db.close()
            raise
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"store-{path.name}")

    async def load(self) -> dict[str, bytes]:
        return await self._run(lambda: dict(self._db.execute("SELECT key, value FROM entries")))

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """After a failure every later write fails too: what the disk holds is known again only after a restart."""
        last = dict(changes)  # They are applied at once, so only the last change of a key matters.
        kept = [(key, value) for key, value in last.items() if value is not None]
        forgotten = [(key,) for key, value in last.items() if value is None]
        await self._run(lambda: self._apply(kept, forgotten))

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._worker, self._db.close)
        self._worker.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._guarded, work)

    def _guarded(self, work: Callable[[], T]) -> T:
        if self._broken is not None:
            raise self._broken
        try:
            return work()
        except (OSError, sqlite3.Error) as error:
            self._broken = _explained(self.path, error)
            raise self._broken from error

    def _apply(self, kept: list[tuple[str, bytes]], forgotten: list[tuple[str]]) -> None:
        db = self._db
        db.execute("BEGIN")
        try:
            if kept:
                db.executemany("REPLACE INTO entries (key, value) VALUES (?, ?)", kept)
            if forgotten:
                db.executemany("DELETE FROM entries WHERE key = ?", forgotten)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # A full disk may have rolled it back already.
                db.execute("ROLLBACK")
            raise


def _create(path: Path) -> None:
    """Make the file and its folder with tight permissions (SQLite gives its log files the same).

    A folder in which every user may write is refused: there the file could be taken away, and another put in its place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.stat().st_mode & stat.S_IWOTH:
        raise StoreError(f"every user of this machine can write in {path.parent}: take another folder, or `chmod o-w` it")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # Else the file itself may be gone after a power loss.
    finally:
        os.close(folder)


def _prepare(db: sqlite3.Connection, path: Path, durable: bool) -> None:
    db.execute("PRAGMA locking_mode = EXCLUSIVE")  # Before WAL is entered, so that the lock is taken right then.
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path} was written by a newer release (schema {version}, this one knows {SCHEMA_VERSION})")
    if version == 0:
        db.execute("BEGIN")
        db.execute("CREATE TABLE entries (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")


def _explained(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_BUSY:
        return StoreInUse(f"{path} is in use by another process")
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} is not a database")
    return StoreError(f"cannot keep state in {path}: {error}")
