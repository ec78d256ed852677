"""The main loop with a small core: batches, refusals, durable before visible."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from kernel.clock import Now, SystemClock
from kernel.errors import CallError, StoreError, Unavailable
from kernel.mainloop import BATCH_MAX, Batch, BatchRefused, MainLoop, Persist, Reply, Tick
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


def test_a_long_batch_lets_others_pass_and_keeps_its_order() -> None:
    words = [f"w{number}" for number in range(2 * BATCH_MAX + 10)]

    async def test(loop: MainLoop, shown: list[Any]) -> None:
        long = asyncio.create_task(loop.submit(Batch((*words, "bad", "never"))))
        await asyncio.sleep(0)
        assert await loop.submit("short") == "SHORT"
        with pytest.raises(BatchRefused, match=f"call {len(words)}: word: bad"):
            await long
        assert shown.index("shown short") < shown.index(f"shown {words[-1]}")
        assert [text for text in shown if text.startswith("shown w")] == [f"shown {word}" for word in words]

    store = MemoryStore()
    drive(test, store)
    assert store.kept.keys() == {*words, "short"}


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


# ---- What may be seen, and when -------------------------------------------------------------------------


class HeldStore(MemoryStore):
    """Answers no write until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = asyncio.Event(), asyncio.Event()

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        self.asked.set()
        await self.let_go.wait()
        await super().write(changes)


class ManualClock:
    def __init__(self) -> None:
        self.mono_s = 100.0

    def now(self) -> Now:
        return Now(self.mono_s, 1e9 + self.mono_s)


class Watch(Recorder):
    """Notes when it is told what."""

    def __init__(self) -> None:
        self.times: list[Now] = []

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        self.times.append(now)
        return super().receive(message, now)


def test_nothing_is_shown_before_it_is_confirmed() -> None:
    """Not even what needs no writing."""

    async def run() -> None:
        shown: list[Any] = []
        leads = asyncio.Event()
        loop = MainLoop(Recorder(), MemoryStore(), shown.append, lambda: None, SystemClock(), leads.wait)  # type: ignore[arg-type]
        running = asyncio.create_task(loop.run())
        waiting = asyncio.create_task(loop.submit("a"))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert (done, shown) == (set(), [])
        leads.set()
        assert await waiting == "A"
        assert shown == ["shown a"]
        loop.stop()
        await running

    asyncio.run(run())


def test_nothing_is_shown_once_it_may_not_be() -> None:
    async def run() -> None:
        shown: list[Any] = []

        async def refuse() -> None:
            raise Unavailable("the leadership is lost")

        loop = MainLoop(Recorder(), MemoryStore(), shown.append, lambda: None, SystemClock(), refuse)
        running = asyncio.create_task(loop.run())
        with pytest.raises(Unavailable):
            await loop.submit("a")
        with pytest.raises(Unavailable, match="the leadership is lost"):
            await running
        assert shown == []

    asyncio.run(run())


def test_time_in_which_nothing_could_be_heard_is_no_time_for_the_core() -> None:
    """Else every agent would be taken for silent after a minute without the store."""

    async def run() -> list[Now]:
        core, store, clock = Watch(), HeldStore(), ManualClock()
        loop = MainLoop(core, store, lambda _: None, lambda: None, clock)
        running = asyncio.create_task(loop.run())
        held = asyncio.create_task(loop.submit("a"))
        await store.asked.wait()
        clock.mono_s += 60.0
        store.let_go.set()
        await held
        clock.mono_s += 1.0
        await loop.submit("b")
        loop.stop()
        await running
        return core.times

    first, *_, last = asyncio.run(run())
    assert (last.mono_s, last.wall_s) == (first.mono_s + 1.0, first.wall_s + 61.0)
