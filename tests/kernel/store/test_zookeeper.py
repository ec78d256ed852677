"""The store on real servers: its nodes, fencing, and writes whose answers are lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from kazoo.client import KazooClient

from kernel.errors import StoreError
from kernel.store import zookeeper as module
from kernel.store.zookeeper import NODE_BYTES_MAX, REQUEST_BYTES_MAX, Fenced, ZookeeperStore
from kernel.zookeeper import Ensemble, parse_url
from tests.zookeeper import Link, Zookeeper

SESSION_S = 10.0
Changes = list[tuple[str, bytes | None]]


@pytest.fixture
def here(zookeeper: Zookeeper, request: pytest.FixtureRequest) -> Ensemble:
    """A path of the test's own."""
    return zookeeper.at(f"store/{request.node.name}")


@pytest.fixture
def client(zookeeper: Zookeeper) -> Iterator[KazooClient]:
    made = KazooClient(zookeeper.hosts)
    made.start()
    yield made
    made.stop()
    made.close()


@pytest.fixture
def link(zookeeper: Zookeeper) -> Iterator[Link]:
    made = Link(zookeeper.servers[0].port)
    yield made
    made.close()


def through(link: Link, ensemble: Ensemble) -> Ensemble:
    return parse_url(f"zk://127.0.0.1:{link.port}{ensemble.path}")


def opened(ensemble: Ensemble, guard: str | None = None, patience_s: float = 30.0) -> ZookeeperStore:
    return ZookeeperStore(ensemble, SESSION_S, guard=guard, patience_s=patience_s)


def kept(ensemble: Ensemble) -> dict[str, bytes]:
    async def run() -> dict[str, bytes]:
        store = opened(ensemble)
        try:
            return await store.load()
        finally:
            await store.close()

    return asyncio.run(run())


def nodes(client: KazooClient, path: str) -> dict[str, Any]:
    """All nodes below a path with their stats."""
    found = {path: client.exists(path)}
    for name in client.get_children(path):
        found |= nodes(client, f"{path}/{name}")
    return found


# ---- The nodes ------------------------------------------------------------------------------------------


def test_a_change_of_one_record_writes_its_node_and_the_owners(here: Ensemble, client: KazooClient) -> None:
    async def run() -> set[str]:
        store = opened(here)
        await store.write([(f"agents/{number}", b"x" * 1000) for number in range(300)])
        before = nodes(client, here.path)
        await store.write([("agents/17", b"y")])
        after = nodes(client, here.path)
        await store.close()
        assert before.keys() == after.keys()
        return {path for path in after if after[path].mzxid != before[path].mzxid}

    owner, record = sorted(asyncio.run(run()))
    assert owner == here.below("owner")
    assert record.endswith("/+agents%2F17")


def test_no_node_and_no_request_passes_a_megabyte(here: Ensemble, client: KazooClient) -> None:
    """The server refuses larger requests. A batch of 2.5 MB, then a record of 3 MB that grows, shrinks and goes."""
    many = {f"agents/{number}": os.urandom(10_000) for number in range(250)}
    large: Sequence[bytes | None] = [os.urandom(3_000_000), os.urandom(3_500_000), os.urandom(600_000), b"small", None]
    assert REQUEST_BYTES_MAX < 1024 * 1024 - 1

    async def run() -> None:
        store = opened(here)
        await store.write(list(many.items()))
        for value in large:
            await store.write([("large", value), ("beside", b"x" * 200)])
            sizes = {path: stat.dataLength for path, stat in nodes(client, here.path).items()}
            assert max(sizes.values()) <= NODE_BYTES_MAX
            assert not client.get_children(here.below("journal"))
            assert await store.load() == {**many, "beside": b"x" * 200, **({"large": value} if value is not None else {})}
        await store.close()

    asyncio.run(run())


def test_with_a_credential_only_its_owner_reads(zookeeper: Zookeeper, client: KazooClient) -> None:
    ensemble = parse_url(f"zk://me:secret@{zookeeper.hosts}/private/registry")

    async def run() -> None:
        store = opened(ensemble)
        await store.write([("a", b"1")])
        await store.close()

    asyncio.run(run())
    assert kept(ensemble) == {"a": b"1"}
    with pytest.raises(StoreError, match="NoAuth"):
        kept(zookeeper.at("private/registry"))


# ---- Fencing --------------------------------------------------------------------------------------------


def test_whoever_opens_it_fences_off_the_owner_before(here: Ensemble) -> None:
    async def run() -> None:
        stale, next_one = opened(here), opened(here)
        await stale.write([("a", b"1")])
        assert await next_one.load() == {"a": b"1"}
        for _ in range(2):
            with pytest.raises(Fenced, match="another process has taken over"):
                await stale.write([("a", b"stale")])
        await next_one.write([("b", b"2")])
        await stale.close()
        await next_one.close()

    asyncio.run(run())
    assert kept(here) == {"a": b"1", "b": b"2"}


def test_nothing_is_written_without_the_guard(here: Ensemble, client: KazooClient) -> None:
    client.ensure_path("/guards")
    guard = client.create("/guards/json.info_", b"", sequence=True)

    async def run() -> None:
        store = opened(here, guard)
        await store.write([("a", b"1")])
        client.delete(guard)
        with pytest.raises(Fenced, match=r"json\.info_\d+ is gone"):
            await store.write([("a", b"2")])
        await store.close()
        late = opened(here, guard)
        with pytest.raises(Fenced):
            await late.load()
        await late.close()

    asyncio.run(run())
    assert kept(here) == {"a": b"1"}


# ---- Answers that are lost ------------------------------------------------------------------------------


def test_each_write_is_done_once_however_often_connections_break(here: Ensemble, link: Link) -> None:
    ended = threading.Event()

    def disturb() -> None:
        while not ended.wait(0.03):
            link.drop()

    async def run() -> None:
        store = opened(through(link, here))
        await store.load()
        disturber = threading.Thread(target=disturb)
        disturber.start()
        try:
            for number in range(60):
                await store.write([("last", b"%d" % number), (f"of/{number}", b"x"), (f"of/{number - 20}", None)])
        finally:
            ended.set()
            disturber.join()
        await store.close()

    asyncio.run(run())
    assert kept(here) == {"last": b"59", **{f"of/{number}": b"x" for number in range(40, 60)}}


def test_a_write_waits_for_the_ensemble_and_gives_up_in_the_end(here: Ensemble, link: Link) -> None:
    async def run() -> None:
        patient, hasty = opened(through(link, here.at("1"))), opened(through(link, here.at("2")), patience_s=1.0)
        await patient.load()
        await hasty.load()
        link.cut()
        writing = asyncio.ensure_future(patient.write([("a", b"1")]))
        for _ in range(2):
            with pytest.raises(StoreError, match="has not answered for 1 s"):
                await hasty.write([("a", b"1")])
        assert not writing.done()
        link.mend()
        await asyncio.wait_for(writing, 30)
        await patient.close()
        await hasty.close()

    asyncio.run(run())
    assert kept(here.at("1")) == {"a": b"1"}


class Crash(Exception):
    """The process ends here."""


def test_a_large_batch_is_kept_whole_or_not_at_all(here: Ensemble, client: KazooClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner ends between any two transactions of the batch; the next owner finds all of it or nothing."""
    monkeypatch.setattr(module, "NODE_BYTES_MAX", 1000)
    monkeypatch.setattr(module, "REQUEST_BYTES_MAX", 3000)
    before = {"a": b"1", "large": bytes(2500), "gone": b"1"}
    batch: Changes = [("a", b"2"), ("large", b"\1" * 4200), ("gone", None), *((f"new/{number}", bytes(900)) for number in range(4))]
    after = {key: value for key, value in {**before, **dict(batch)}.items() if value is not None}

    async def run(crash_at: int) -> bool:
        at = here.at(str(crash_at))
        first = opened(at)
        await first.write(list(before.items()))
        transact, count = first._transact, 0

        async def counted(operations: Any, pieces: int) -> None:
            nonlocal count
            count += 1
            if count == crash_at:
                raise Crash
            await transact(operations, pieces)

        monkeypatch.setattr(first, "_transact", counted)
        try:
            await first.write(batch)
            crashed = False
        except Crash:
            crashed = True
        await first.close()
        for _ in range(2):
            second = opened(at)
            found = await second.load()
            assert found in (before, after)
            assert crashed or found == after
            assert not client.get_children(at.below("journal"))
            await second.write([("a", found["a"])])
            await second.close()
        return crashed

    crash_at = 1
    while asyncio.run(run(crash_at)):
        crash_at += 1
    assert crash_at > 8


@pytest.mark.parametrize("after_writes", [1, 25])
def test_whatever_was_acknowledged_before_a_kill_is_there(zookeeper: Zookeeper, here: Ensemble, after_writes: int) -> None:
    program = f"""
        import asyncio
        from kernel.store.zookeeper import ZookeeperStore
        from kernel.zookeeper import parse_url

        async def main():
            store = ZookeeperStore(parse_url({str(here)!r}), 10.0, patience_s=30.0)
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
    found = kept(here)
    last = int(found["a"])
    assert found["a"] == found["b"] == found["c"]
    assert last in (acknowledged, acknowledged + 1)
    assert {key for key in found if key.startswith("of/")} == {f"of/{number}" for number in range(1, last + 1)}
