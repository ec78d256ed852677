"""The main loop with a small core: batches, refusals, durable before visible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kernel.clock import Now, SystemClock
from kernel.errors import CallError, StoreError, Unavailable
from kernel.mainloop import Batch, BatchRefused, MainLoop, Persist, Reply, Tick
from kernel.store.memory import MemoryStore


class Recorder:
    """Persists, shows and answers every word it gets; refuses "bad"."""

    unsettled = False

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        if message == "bad":
            raise CallError("word: bad")
        return [] if isinstance(message, Tick) else [Persist(message, b"x"), f"shown {message}", Reply(message.upper())]

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        return []


class BrokenStore(MemoryStore):
    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        raise StoreError("the disk is full")


def drive(test: Callable[[MainLoop, list[Any]], Any], store: MemoryStore) -> Any:
    """Run the test against a running loop; return what it returns."""

    async def run() -> Any:
        shown: list[Any] = []
        loop = MainLoop(Recorder(), store, shown.append, lambda: shown.append("flush"), SystemClock())
        running = asyncio.create_task(loop.run())
        try:
            return await test(loop, shown)
        finally:
            loop.stop()
            await asyncio.wait([running], timeout=10)
            if running.done() and running.exception() is not None:
                assert isinstance(running.exception(), StoreError)

    return asyncio.run(run())


def test_an_input_is_kept_shown_and_answered() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        assert await loop.submit("a") == "A"
        assert shown[0] == "shown a"

    store = MemoryStore()
    drive(test, store)
    assert store.kept == {"a": b"x"}


def test_a_refused_input_is_told_and_the_next_ones_go_on() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        answers = await asyncio.gather(loop.submit("a"), loop.submit("bad"), loop.submit("b"), return_exceptions=True)
        assert answers[0] == "A"
        assert isinstance(answers[1], CallError)
        assert answers[2] == "B"

    drive(test, MemoryStore())


def test_a_batch_is_decided_in_order_and_answered_once() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        assert await loop.submit(Batch(("a", "b", "c"))) == "C"
        assert shown[:3] == ["shown a", "shown b", "shown c"]

    drive(test, MemoryStore())


def test_of_a_batch_what_stands_before_a_refusal_stands_and_nothing_after_it() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        with pytest.raises(BatchRefused, match="call 1: word: bad") as refused:
            await loop.submit(Batch(("a", "bad", "c")))
        assert refused.value.index == 1
        assert isinstance(refused.value.error, CallError)

    store = MemoryStore()
    drive(test, store)
    assert store.kept == {"a": b"x"}


def test_nothing_is_shown_or_answered_when_it_cannot_be_kept() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        with pytest.raises(Unavailable):
            await loop.submit("a")
        assert shown == []

    drive(test, BrokenStore())


def test_after_the_stop_nothing_is_taken() -> None:
    async def test(loop: MainLoop, shown: list[Any]) -> None:
        loop.stop()
        with pytest.raises(Unavailable):
            await loop.submit("a")

    drive(test, MemoryStore())
