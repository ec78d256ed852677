"""What is done beside the scheduler: a few at a time, in order, and no more waits than may."""

from __future__ import annotations

import asyncio

import pytest

from chronos.workers import Workers
from kernel.net.session import Session


def test_all_are_dealt_with_a_few_at_a_time_in_order() -> None:
    begun: list[int] = []
    at_work: list[int] = []

    async def run() -> None:
        done = asyncio.Event()

        async def work(http: Session, one: int) -> None:
            begun.append(one)
            at_work.append(at_work[-1] + 1 if at_work else 1)
            await asyncio.sleep(0)
            at_work.append(at_work[-1] - 1)
            if len(begun) == 20 and at_work[-1] == 0:
                done.set()

        workers = Workers(work, at_once=3, waiting_max=100)
        working = asyncio.create_task(workers.run())
        for one in range(10):
            workers.put(one)
        await asyncio.sleep(0)
        for one in range(10, 20):
            workers.put(one)
        await done.wait()
        assert len(workers) == 0
        working.cancel()
        await asyncio.wait((working,))

    asyncio.run(run())
    assert begun == list(range(20))
    assert max(at_work) == 3


def test_more_than_may_wait_are_given_up() -> None:
    async def work(http: Session, one: int) -> None: ...

    workers = Workers(work, at_once=1, waiting_max=2)
    assert [workers.put(one) for one in range(3)] == [True, True, False]
    assert len(workers) == 2


def test_what_breaks_ends_it() -> None:
    async def run() -> None:
        async def work(http: Session, one: int) -> None:
            raise OSError("full")

        workers = Workers(work, at_once=2, waiting_max=2)
        workers.put(1)
        with pytest.raises(OSError, match="full"):
            await workers.run()

    asyncio.run(run())
