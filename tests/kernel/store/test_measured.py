"""A store that is watched. That it is a store like others is shown in `tests/contract`."""

from __future__ import annotations

import asyncio

from kernel.store.measured import MeasuredStore
from kernel.store.memory import MemoryStore


def test_its_size_follows_what_is_written() -> None:
    async def test() -> None:
        store = MeasuredStore(MemoryStore({"a": b"12345"}))

        def size() -> float:
            return store.numbers()["registrar/registry_size_bytes"]

        await store.load()
        assert size() == 6.0
        await store.write([("a", b"1"), ("bb", b"22")])
        assert size() == 6.0
        await store.write([("a", None), ("bb", b"333"), ("bb", b"4444"), ("nothing", None)])
        assert size() == 6.0
        await store.write([("bb", None)])
        assert size() == 0.0

    asyncio.run(test())


def test_it_tells_how_long_it_takes() -> None:
    async def test() -> None:
        store = MeasuredStore(MemoryStore())
        assert "registrar/state_fetch_ms" not in store.numbers()
        await store.load()
        assert store.numbers()["registrar/state_fetch_ms"] >= 0
        assert "registrar/state_store_ms" not in store.numbers()
        for _ in range(3):
            await store.write([("a", b"1")])
        found = store.numbers()
        assert found["registrar/state_store_ms/count"] == 3.0
        assert found["registrar/state_store_ms/max"] >= found["registrar/state_store_ms"] >= 0
        assert found["registrar/queued_operations"] == 0.0

    asyncio.run(test())


def test_it_tells_what_is_under_way() -> None:
    async def test() -> None:
        held = asyncio.Event()

        class Slow(MemoryStore):
            async def write(self, changes: object) -> None:
                await held.wait()

        store = MeasuredStore(Slow())
        writing = asyncio.create_task(store.write([("a", b"1"), ("b", None)]))
        await asyncio.sleep(0)
        assert store.numbers()["registrar/queued_operations"] == 2.0
        held.set()
        await writing
        assert store.numbers()["registrar/queued_operations"] == 0.0

    asyncio.run(test())
