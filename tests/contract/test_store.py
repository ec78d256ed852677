"""What every store keeps to. A new implementation is added to `STORES`."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3 as sqlite_library
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from kernel.errors import StoreError
from kernel.store.measured import MeasuredStore
from kernel.store.memory import MemoryStore
from kernel.store.split import SplitStore
from kernel.store.sqlite import SqliteStore
from kernel.store.store import Store
from kernel.store.zookeeper import ZookeeperStore

Opener = Callable[[], Store]


def memory(request: pytest.FixtureRequest) -> Opener:
    kept: dict[str, bytes] = {}
    return lambda: MemoryStore(kept)


def sqlite(request: pytest.FixtureRequest) -> Opener:
    return lambda: SqliteStore(request.getfixturevalue("tmp_path") / "state" / "registry.db")


def sqlite_not_durable(request: pytest.FixtureRequest) -> Opener:
    return lambda: SqliteStore(request.getfixturevalue("tmp_path") / "registry.db", durable=False)


def zookeeper(request: pytest.FixtureRequest) -> Opener:
    ensemble = request.getfixturevalue("zookeeper").at(f"contract/{request.node.name}")
    return lambda: ZookeeperStore(ensemble, 10.0, patience_s=30.0)


def split(request: pytest.FixtureRequest) -> Opener:
    """Every other key in another store."""
    folder = request.getfixturevalue("tmp_path")

    def opened() -> Store:
        stores = SqliteStore(folder / "synced.db"), SqliteStore(folder / "other.db", durable=False)
        return SplitStore(*stores, lambda key: sum(key.encode()) % 2 == 0)

    return opened


def measured(request: pytest.FixtureRequest) -> Opener:
    kept: dict[str, bytes] = {}
    return lambda: MeasuredStore(MemoryStore(kept))


STORES = [memory, sqlite, sqlite_not_durable, zookeeper, split, measured]


@pytest.fixture(params=STORES, ids=lambda make: make.__name__)
def reopen(request: pytest.FixtureRequest) -> Opener:
    """Each call opens the same store anew."""
    opener: Opener = request.param(request)
    return opener


def after(opener: Opener, *batches: list[tuple[str, bytes | None]]) -> dict[str, bytes]:
    """Write the batches, close, open again and return what is kept."""

    async def run() -> dict[str, bytes]:
        store = opener()
        for batch in batches:
            await store.write(batch)
        await store.close()
        store = opener()
        try:
            return await store.load()
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_new_store_is_empty(reopen: Opener) -> None:
    assert after(reopen) == {}


def test_what_was_written_is_kept(reopen: Opener) -> None:
    assert after(reopen, [("agents/1", b"\x00\xff"), ("roles/a b/ü", b"")], [("agents/2", b"2")]) == {
        "agents/1": b"\x00\xff",
        "agents/2": b"2",
        "roles/a b/ü": b"",
    }


def test_the_last_change_of_a_key_counts(reopen: Opener) -> None:
    changes: list[tuple[str, bytes | None]] = [("a", b"1"), ("b", b"1"), ("a", None), ("b", None), ("a", b"2"), ("missing", None)]
    assert after(reopen, changes) == {"a": b"2"}


def test_none_removes_what_an_earlier_write_kept(reopen: Opener) -> None:
    assert after(reopen, [("a", b"1"), ("b", b"1")], [("a", None)]) == {"b": b"1"}


def test_an_empty_write_changes_nothing(reopen: Opener) -> None:
    assert after(reopen, [("a", b"1")], []) == {"a": b"1"}


def test_a_large_value_is_kept(reopen: Opener) -> None:
    value = os.urandom(3 * 1024 * 1024)
    assert after(reopen, [("a", value)]) == {"a": value}


# ---- Only where there is a file -------------------------------------------------------------------------


def test_a_second_owner_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    first = SqliteStore(path)
    with pytest.raises(StoreError, match="in use by another process"):
        SqliteStore(path)
    opened = subprocess.run(
        [sys.executable, "-c", f"import pathlib, kernel.store.sqlite as s; s.SqliteStore(pathlib.Path({str(path)!r}))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "in use by another process" in opened.stderr
    asyncio.run(first.close())
    asyncio.run(SqliteStore(path).close())


def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "registry.db")
    asyncio.run(store.write([("a", b"1")]))
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    asyncio.run(store.close())


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.write_bytes(b"precious notes" * 100)
    with pytest.raises(StoreError, match="is not a database"):
        SqliteStore(path)
    assert path.read_bytes() == b"precious notes" * 100


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot keep state in"):
        SqliteStore(tmp_path / "file" / "registry.db")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_in_which_all_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(StoreError, match="every user of this machine can write in "):
        SqliteStore(tmp_path / "registry.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    with sqlite_library.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer release"):
        SqliteStore(path)


def test_a_full_disk_fails_the_write_and_all_after_it(tmp_path: Path) -> None:
    """The limit on file sizes plays the full disk; what was kept before stays, nothing of the failed write does."""
    path = tmp_path / "registry.db"
    program = f"""
        import asyncio, pathlib, resource
        from kernel.errors import StoreError
        from kernel.store.sqlite import SqliteStore

        async def main():
            store = SqliteStore(pathlib.Path({str(path)!r}))
            await store.write([("kept", b"1")])
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
            for value in (bytes(1_000_000), b"small"):
                try:
                    await store.write([("kept", b"2"), ("new", value)])
                except StoreError as error:
                    print(error)

        asyncio.run(main())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert [str(path) in line for line in done.stdout.splitlines()] == [True, True]
    assert after(lambda: SqliteStore(path)) == {"kept": b"1"}


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("after_writes", [1, 7, 40])
def test_whatever_was_acknowledged_before_a_kill_is_there(tmp_path: Path, durable: bool, after_writes: int) -> None:
    """A process is killed in the middle of its writes: all it reported is kept, and no write is kept by half."""
    path = tmp_path / "registry.db"
    program = f"""
        import asyncio, pathlib
        from kernel.store.sqlite import SqliteStore

        async def main():
            store = SqliteStore(pathlib.Path({str(path)!r}), durable={durable})
            number = 0
            while True:
                number += 1
                await store.write([(key, b"%d" % number) for key in "abc"] + [("of/%d" % number, bytes(10_000))])
                print(number, flush=True)

        asyncio.run(main())
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(after_writes):
        writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    acknowledged = max([after_writes, *(int(line) for line in writer.stdout.read().splitlines())])
    writer.wait()
    writer.stdout.close()
    kept = after(lambda: SqliteStore(path, durable=durable))
    last = int(kept["a"])
    assert kept["a"] == kept["b"] == kept["c"]
    assert last in (acknowledged, acknowledged + 1)
    assert {key for key in kept if key.startswith("of/")} == {f"of/{number}" for number in range(1, last + 1)}
