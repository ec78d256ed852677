"""What schedulers that stand in for each other tell each other of history: each run and output that came, in the order in which it did.

Each history has an id and numbers what comes; who follows it keeps the number up to which it did. What is taken over from one is told
on, once, so it reaches everybody, also after who had it first is gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from msgspec import Struct

from chronos import rows
from chronos.records import Output, Record

RUNS_MAX = 500  # In one answer.
BYTES_MAX = 4 * 1024 * 1024  # Of output and of what is told of runs in one, about.
NUMBER_MAX = 2**63 - 1  # As SQLite counts.
SCHEMA = """
CREATE TABLE feed (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, taken INTEGER NOT NULL);
INSERT INTO feed (id, taken) SELECT id, 0 FROM runs ORDER BY rowid;
CREATE TABLE myself (history TEXT NOT NULL);
INSERT INTO myself VALUES (lower(hex(randomblob(16))));
CREATE TABLE followed (history TEXT PRIMARY KEY, number INTEGER NOT NULL);
"""


class Told(Struct, frozen=True):
    """A run that is over, and what it printed where that is known."""

    run: Record
    output: Output | None = None


class Feed(Struct, frozen=True):
    """A part of what a history has. number: its last; more: whether others follow."""

    history: str
    number: int
    told: tuple[Told, ...]
    more: bool


def myself(db: sqlite3.Connection) -> str:
    """The id of this history."""
    (found,) = db.execute("SELECT history FROM myself").fetchone()
    return str(found)


def came(db: sqlite3.Connection, run_ids: Iterable[str]) -> None:
    """Tell of runs that this scheduler has recorded."""
    db.executemany("REPLACE INTO feed (id, taken) VALUES (?, 0)", [(run_id,) for run_id in run_ids])


def came_more(db: sqlite3.Connection, run_id: str) -> None:
    """Tell of a run again, if it was told of: more is known."""
    for (taken,) in db.execute("DELETE FROM feed WHERE id = ? RETURNING taken", (run_id,)).fetchall():
        db.execute("INSERT INTO feed (id, taken) VALUES (?, ?)", (run_id, taken))


def is_own(db: sqlite3.Connection, run_id: str) -> bool:
    """Whether this scheduler has recorded the run itself, not only taken it over."""
    return db.execute("SELECT 1 FROM feed WHERE id = ? AND taken = 0", (run_id,)).fetchone() is not None


def after(db: sqlite3.Connection, history: str, number: int) -> Feed:
    """What came after a number of this history. Nothing, to begin at 0, when `history` is another, as numbers are its own, or the
    number has not come: the file is an older one that was put back."""
    own = myself(db)
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'feed'").fetchone()
    if history != own or number > last:
        return Feed(own, 0, (), more=True)
    statement = (
        f"SELECT {rows.COLUMNS}, feed.number, outputs.stdout, outputs.stderr FROM feed JOIN runs ON runs.id = feed.id "  # noqa: S608
        "LEFT JOIN outputs ON outputs.id = feed.id WHERE feed.number > ? ORDER BY feed.number LIMIT ?"
    )
    told: list[Told] = []
    size = 0
    for row in db.execute(statement, (number, RUNS_MAX + 1)):
        if len(told) == RUNS_MAX or size > BYTES_MAX:
            return Feed(own, number, tuple(told), more=True)
        number, stdout, stderr = row[-3:]
        told.append(Told(rows.record_of_row(row), None if stdout is None else Output(stdout, stderr)))
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
    return Feed(own, number, tuple(told), more=False)


def followed(db: sqlite3.Connection, history: str) -> int:
    """Up to which number another history was taken over."""
    found = db.execute("SELECT number FROM followed WHERE history = ?", (history,)).fetchone()
    return found[0] if found is not None else 0


def take_over(db: sqlite3.Connection, feed: Feed) -> list[Record]:
    """Take in what another history has and this one has not; return runs that were not known."""
    new: list[Record] = []
    for told in feed.told:
        run, output = told.run, told.output
        if rows.add(db, run):
            new.append(run)
            db.execute("INSERT INTO feed (id, taken) VALUES (?, 1)", (run.id,))
        if output is not None:
            put = db.execute("INSERT OR IGNORE INTO outputs VALUES (?, ?, ?)", (run.id, output.stdout, output.stderr))
            if put.rowcount == 1:
                came_more(db, run.id)
    db.execute("REPLACE INTO followed VALUES (?, ?)", (feed.history, feed.number))
    return new
