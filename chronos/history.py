"""History: every run that is over, in one SQLite file of the work dir, with the end of what it printed, and what people are to be told.

Written by one thread, read by another, so neither a slow disk nor a long question holds up the scheduler. A run is forgotten by the
scheduler only when it is durable here (`inputs.Recorded`); after a crash in between it comes again and takes its own place. What is to be
told of it goes into the outbox by the same write, and the second time not at all. Schedulers that stand in for each other take over each
other's runs (`chronos/feed.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from chronos import feed, rows
from chronos.feed import Feed
from chronos.joins import Outcome
from chronos.notify import Message, Unsent
from chronos.records import Output, Percentiles, Record, outcome_of, percentiles
from kernel.clock import Clock
from kernel.errors import CallError, StoreError

UNSENT_MAX = 10_000  # Messages in the outbox.
PLACE_MAX = 1_000  # Of them for one place: one that never answers takes no room from the others.
SAMPLES_MAX = 1000  # Runs of a job that percentiles look at.
PAGE_MAX = 1000
SLICE = 500  # Rows that are pruned at once: others are let in between.
PRUNE_S, PAUSE_S = 60.0, 0.02  # Until more is pruned, and between two slices.
OUTPUT_AGE_MS = 6 * 3600 * 1000  # For how long after its end the output of a run is still asked for.

log = logging.getLogger(__name__)

T = TypeVar("T")
_OUTBOX = """
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL, since INTEGER NOT NULL, message BLOB NOT NULL);
"""
_SCHEMA = (rows.SCHEMA, _OUTBOX, feed.SCHEMA)  # What each version has added.


class Query(Struct, frozen=True):
    """Which runs. from_ms, to_ms: of their slots. attempted: only those with an attempt. before: where the last page ended."""

    job: str | None = None
    identity: str | None = None
    states: tuple[str, ...] = ()
    owner: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    before: str = ""
    limit: int = 100
    attempted: bool = False


class Page(Struct, frozen=True):
    """Runs, the newest first. next: what to ask for as `before`, "" at the end."""

    runs: tuple[Record, ...]
    next: str


class Keep(Struct, frozen=True):
    """For how long. age_ms: since a run's end; per_job: the newest of each job. 0 for ever, and for any number."""

    age_ms: int = 0
    per_job: int = 0


_NOTHING: Mapping[str, Sequence[Message]] = {}


class History:
    """The file at `path`, made when missing. Raises StoreError when it cannot be used, is damaged or of a newer release."""

    def __init__(self, path: Path, keep: Keep = Keep()) -> None:  # noqa: B008
        self.path, self.keep = path, keep
        self._touched: set[str] = set()  # Jobs that may have more runs than are kept.
        self._unsent: Counter[str] = Counter()  # Messages in the outbox, by place.
        self.id = ""
        self._broken: StoreError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._writing = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(self._writing)
                self._reading = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
                self._reading.execute("PRAGMA query_only = ON")
            except BaseException:
                self._writing.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise _explained(path, error) from error
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="history-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="history-reader")

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > len(_SCHEMA):
            raise StoreError(f"{self.path} was written by a newer release (schema {version}, this one knows {len(_SCHEMA)})")
        if version < len(_SCHEMA):
            db.executescript(f"BEGIN; {' '.join(_SCHEMA[version:])} PRAGMA user_version = {len(_SCHEMA)}; COMMIT;")
        self.id = feed.myself(db)
        self._unsent = Counter(dict(db.execute("SELECT place, count(*) FROM outbox GROUP BY place")))
        self._touched = {job for (job,) in db.execute("SELECT DISTINCT job FROM runs")}

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reader, self._reading.close)
        await loop.run_in_executor(self._writer, self._writing.close)
        self._reader.shutdown()
        self._writer.shutdown()

    # ---- Writing ----------------------------------------------------------------------------------------

    async def record(self, records: Sequence[Record], told: Mapping[str, Sequence[Message]] = _NOTHING, now_ms: int = 0) -> list[Unsent]:
        """Take in runs, each in the place of what was known of it; durable on return. told: by run, what is to be sent where it was not
        known yet; returned as it is kept. Raises StoreError, and then for ever."""
        return await self._write(lambda db: self._record(db, records, told, now_ms))

    def _record(
        self, db: sqlite3.Connection, records: Sequence[Record], told: Mapping[str, Sequence[Message]], now_ms: int
    ) -> list[Unsent]:
        new = [run_id for run_id in told if not feed.is_own(db, run_id)]
        rows.put(db, records)
        feed.came(db, [record.id for record in records])
        self._touched.update(record.job for record in records)
        return self._post(db, [message for run_id in new for message in told[run_id]], now_ms)

    async def post(self, messages: Sequence[Message], now_ms: int) -> list[Unsent]:
        """Take in what is to be sent; durable on return. What there is no room for is given up, and the log says so."""
        return await self._write(lambda db: self._post(db, messages, now_ms))

    def _post(self, db: sqlite3.Connection, messages: Sequence[Message], now_ms: int) -> list[Unsent]:
        posted: list[Unsent] = []
        for message in messages:
            place = message.place
            if self._unsent[place] >= PLACE_MAX or self._unsent.total() >= UNSENT_MAX:
                log.error("too many messages wait already: %r is not sent", message.subject)
                continue
            row = (place, now_ms, msgspec.msgpack.encode(message))
            put = db.execute("INSERT INTO outbox (place, since, message) VALUES (?, ?, ?)", row)
            posted.append(Unsent(put.lastrowid or 0, now_ms, message))
            self._unsent[place] += 1
        return posted

    async def sent(self, done: Sequence[Unsent]) -> None:
        """These have arrived, or are given up."""
        await self._write(lambda db: self._sent(db, done))

    def _sent(self, db: sqlite3.Connection, done: Sequence[Unsent]) -> None:
        db.executemany("DELETE FROM outbox WHERE number = ?", [(one.number,) for one in done])
        self._unsent -= Counter(one.message.place for one in done)

    async def put_output(self, run_id: str, output: Output) -> None:
        await self._write(lambda db: self._put_output(db, run_id, output))

    def _put_output(self, db: sqlite3.Connection, run_id: str, output: Output) -> None:
        db.execute("REPLACE INTO outputs VALUES (?, ?, ?)", (run_id, output.stdout, output.stderr))
        feed.came_more(db, run_id)

    async def add_progress(self, task_id: str, elements: int) -> None:
        """Count elements that a task of a data job has dealt with."""
        statement = "INSERT INTO progress VALUES (?, ?) ON CONFLICT (task_id) DO UPDATE SET elements = elements + excluded.elements"
        await self._write(lambda db: db.execute(statement, (task_id, elements)))

    async def prune_always(self, clock: Clock) -> None:
        """Forget what is not to be kept, until cancelled. Raises StoreError."""
        while True:
            more = await self.prune(int(clock.now().wall_s * 1000))
            await asyncio.sleep(PAUSE_S if more else PRUNE_S)

    async def prune(self, now_ms: int) -> int:
        """Forget one slice of what is not to be kept; return how many runs. None left when it is 0."""
        return await self._write(lambda db: self._prune(db, now_ms))

    def _prune(self, db: sqlite3.Connection, now_ms: int) -> int:
        ids: list[tuple[str]] = []
        if self.keep.age_ms:
            oldest = (now_ms - self.keep.age_ms, SLICE)
            ids = db.execute("SELECT id FROM runs WHERE ended < ? ORDER BY ended LIMIT ?", oldest).fetchall()
        until_s = time.monotonic() + 0.05
        while self.keep.per_job and self._touched and len(ids) < SLICE and time.monotonic() < until_s:
            job = self._touched.pop()
            statement = "SELECT id FROM runs WHERE job = ? ORDER BY created DESC, id DESC LIMIT ? OFFSET ?"
            found = db.execute(statement, (job, SLICE, self.keep.per_job)).fetchall()
            if len(found) == SLICE:
                self._touched.add(job)
            ids += found
        if ids and db.execute("SELECT 1 FROM progress LIMIT 1").fetchone() is not None:
            for (run_id,) in ids:
                (attempts,) = db.execute("SELECT attempts FROM runs WHERE id = ?", (run_id,)).fetchone() or ("[]",)
                db.executemany("DELETE FROM progress WHERE task_id = ?", [(attempt.task_id,) for attempt in rows.attempts_of(attempts)])
        for table in ("runs", "outputs", "feed"):
            db.executemany(f"DELETE FROM {table} WHERE id = ?", ids)  # noqa: S608
        return len(ids) or (1 if self.keep.per_job and self._touched else 0)

    # ---- Reading ----------------------------------------------------------------------------------------

    async def runs(self, query: Query) -> Page:
        """Raises CallError for a place that no page ended at."""
        return await self._read(lambda db: _page(db, query))

    async def run(self, run_id: str) -> Record | None:
        return await self._read(lambda db: next(rows.records(db, "WHERE id = ?", (run_id,)), None))

    async def output(self, run_id: str) -> Output | None:
        statement = "SELECT stdout, stderr FROM outputs WHERE id = ?"
        found = await self._read(lambda db: db.execute(statement, (run_id,)).fetchone())
        return None if found is None else Output(*found)

    async def unsent(self) -> list[Unsent]:
        """What has not arrived, the oldest first."""
        found = await self._read(lambda db: db.execute("SELECT number, since, message FROM outbox ORDER BY number").fetchall())
        unsent: list[Unsent] = []
        for number, since_ms, message in found:
            try:
                unsent.append(Unsent(number, since_ms, _message.decode(message)))
            except msgspec.MsgspecError as error:
                log.error("message %d in the outbox of %s is not sent: it cannot be read: %s", number, self.path, error)
        return unsent

    async def without_output(self, now_ms: int, most: int) -> list[Record]:
        """Runs that ended lately, on an agent, the newest first: what they printed may still be there."""
        rest = "WHERE ended >= ? AND attempts LIKE '%agent_url%' AND id NOT IN (SELECT id FROM outputs) ORDER BY ended DESC LIMIT ?"
        return await self._read(lambda db: list(rows.records(db, rest, (now_ms - OUTPUT_AGE_MS, most))))

    async def all(self, query: Query) -> AsyncIterator[Record]:
        """Every run that is asked for, the newest first, page by page."""
        while True:
            page = await self.runs(msgspec.structs.replace(query, limit=PAGE_MAX))
            for record in page.runs:
                yield record
            if not page.next:
                return
            query = msgspec.structs.replace(query, before=page.next)

    async def percentiles(self, job: str) -> Percentiles:
        """Of the last successful runs of a job."""
        statement = f"SELECT ended - due FROM runs WHERE job = ? AND {rows.SUCCEEDED} ORDER BY ended DESC LIMIT ?"  # noqa: S608
        return await self._read(lambda db: percentiles([max(0, took) for (took,) in db.execute(statement, (job, SAMPLES_MAX))]))

    async def all_percentiles(self) -> dict[str, Percentiles]:
        """The same of every job that has any."""
        return await self._read(_all_percentiles)

    async def outcomes(self, identity: str) -> dict[str, Outcome]:
        """What jobs came to in one run of a graph, each the last time."""
        statement = "SELECT job, state FROM runs WHERE identity = ? ORDER BY created, id"
        found = await self._read(lambda db: db.execute(statement, (identity,)).fetchall())
        return {job: outcome_of(state) for job, state in found}

    async def knows_task(self, job: str, task_id: str) -> bool:
        """Whether a task is one of the last runs of a job."""
        statement = "SELECT attempts FROM runs WHERE job = ? ORDER BY created DESC, id DESC LIMIT ?"
        quoted = msgspec.json.encode(task_id).decode()
        return await self._read(lambda db: any(quoted in attempts for (attempts,) in db.execute(statement, (job, SAMPLES_MAX))))

    async def progress(self, task_ids: Sequence[str]) -> dict[str, int]:
        marks = ", ".join("?" * len(task_ids))
        statement = f"SELECT task_id, elements FROM progress WHERE task_id IN ({marks})"  # noqa: S608
        return await self._read(lambda db: dict(db.execute(statement, tuple(task_ids))))

    # ---- With others ------------------------------------------------------------------------------------

    async def feed(self, history: str, number: int) -> Feed:
        """What came after a number, for those who follow the history that is called so."""
        return await self._read(lambda db: feed.after(db, history, number))

    async def follows(self, history: str) -> int:
        """Up to which number of another history this one has taken it over."""
        return await self._read(lambda db: feed.followed(db, history))

    async def take_over(self, told: Feed) -> None:
        """Take in what another history has and this one has not; durable on return."""
        await self._write(lambda db: self._touched.update(record.job for record in feed.take_over(db, told)))

    # ---- Threads ----------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._broken is not None:
            raise self._broken
        db = self._writing
        try:
            db.execute("BEGIN")
            try:
                done = work(db)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
        except (OSError, sqlite3.Error) as error:
            self._broken = _explained(self.path, error)
            raise self._broken from error
        return done

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def read() -> T:
            try:
                return work(self._reading)
            except sqlite3.Error as error:
                raise _explained(self.path, error) from error

        return await asyncio.get_running_loop().run_in_executor(self._reader, read)


_message = msgspec.msgpack.Decoder(Message)


def _page(db: sqlite3.Connection, query: Query) -> Page:
    conditions: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("job = ?", query.job),
        ("identity = ?", query.identity),
        ("owner = ?", query.owner),
        ("last_slot >= ?", query.from_ms),
        ("slot < ?", query.to_ms),
    ):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if query.states:
        conditions.append(f"state IN ({', '.join('?' * len(query.states))})")
        values += query.states
    if query.attempted:
        conditions.append("attempts <> '[]'")
    if query.before:
        created, _, run_id = query.before.partition(":")
        if not (created.isascii() and created.isdigit() and len(created) < 19 and run_id):
            raise CallError(f"before: {query.before[:100]!r} is not where a page ended")
        conditions.append("(created, id) < (?, ?)")
        values += [int(created), run_id]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    limit = max(1, min(query.limit, PAGE_MAX))
    found = list(rows.records(db, f"{where}ORDER BY created DESC, id DESC LIMIT ?", [*values, limit + 1]))
    last = found[limit - 1] if len(found) > limit else None
    return Page(tuple(found[:limit]), f"{last.created}:{last.id}" if last is not None else "")


def _all_percentiles(db: sqlite3.Connection) -> dict[str, Percentiles]:
    statement = (
        f"SELECT job, ended - due FROM (SELECT job, ended, due, row_number() OVER (PARTITION BY job ORDER BY ended DESC) AS number "  # noqa: S608
        f"FROM runs WHERE {rows.SUCCEEDED}) WHERE number <= {SAMPLES_MAX} ORDER BY job"
    )
    took: dict[str, list[int]] = {}
    for job, took_ms in db.execute(statement):
        took.setdefault(job, []).append(max(0, took_ms))
    return {job: percentiles(samples) for job, samples in took.items()}


def _explained(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(f"{path} is damaged ({error}): move it away, and a new history begins; jobs are elsewhere")
    return StoreError(f"cannot keep history in {path}: {error}")
