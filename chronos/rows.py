"""How runs lie in the file of history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from chronos.records import Record
from chronos.run import Attempt, RunState

SUCCEEDED = f"state = '{RunState.SUCCEEDED.value}'"
SCHEMA = f"""
CREATE TABLE runs (
    id TEXT PRIMARY KEY, job TEXT NOT NULL, slot INTEGER NOT NULL, last_slot INTEGER NOT NULL, slots INTEGER NOT NULL,
    identity TEXT NOT NULL, cause TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, due INTEGER NOT NULL, created INTEGER NOT NULL,
    started INTEGER NOT NULL, ended INTEGER NOT NULL, duration_ms INTEGER NOT NULL, late_ms INTEGER NOT NULL, attempts TEXT NOT NULL,
    arguments TEXT NOT NULL, parents TEXT NOT NULL, owner TEXT NOT NULL, framework_id TEXT NOT NULL, executor TEXT NOT NULL
);
CREATE INDEX runs_of_job ON runs (job, created, id);
CREATE INDEX runs_of_identity ON runs (identity, created, id);
CREATE INDEX runs_of_state ON runs (state, created, id);
CREATE INDEX runs_by_time ON runs (created, id);
CREATE INDEX runs_by_end ON runs (ended);
CREATE INDEX successes ON runs (job, ended, due) WHERE {SUCCEEDED};
CREATE TABLE outputs (id TEXT PRIMARY KEY, stdout BLOB NOT NULL, stderr BLOB NOT NULL);
CREATE TABLE progress (task_id TEXT PRIMARY KEY, elements INTEGER NOT NULL);
"""
_COLUMNS = Record.__struct_fields__
COLUMNS = ", ".join(f"runs.{name}" for name in _COLUMNS)
_PUT = f"INTO runs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_parents = msgspec.json.Decoder(dict[str, str])
_attempts = msgspec.json.Decoder(tuple[Attempt, ...])


def put(db: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Write runs, each in the place of what is known of it."""
    db.executemany(f"REPLACE {_PUT}", [_row(record) for record in records])


def add(db: sqlite3.Connection, record: Record) -> bool:
    """Write a run that is not known yet; return whether it was not."""
    return db.execute(f"INSERT OR IGNORE {_PUT}", _row(record)).rowcount == 1


def records(db: sqlite3.Connection, rest: str, values: Sequence[Any]) -> Iterator[Record]:
    """The runs that the rest of a SELECT after its FROM finds."""
    return map(record_of_row, db.execute(f"SELECT {COLUMNS} FROM runs {rest}", values))  # noqa: S608


def record_of_row(row: Sequence[Any]) -> Record:
    """row: values of COLUMNS; what follows is left alone."""
    fields = dict(zip(_COLUMNS, row, strict=False))
    return Record(**fields | {"attempts": attempts_of(fields["attempts"]), "parents": _parents.decode(fields["parents"])})


def attempts_of(text: str) -> tuple[Attempt, ...]:
    """What the column `attempts` holds."""
    return _attempts.decode(text)


def _row(record: Record) -> tuple[Any, ...]:
    values = [getattr(record, name) for name in _COLUMNS]
    return tuple(value if isinstance(value, str | int) else msgspec.json.encode(value).decode() for value in values)
