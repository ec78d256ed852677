"""How a daemon contends, works while it leads, and withdraws."""

from __future__ import annotations

import asyncio

import pytest

from kernel.election.candidacy import Standing, first, lead
from kernel.election.election import Leader
from kernel.errors import StoreError, Unavailable

ME, OTHER = Leader("me", "here", "10.0.0.1", 1), Leader("other", "there", "10.0.0.2", 2)


class Ensemble:
    """Contender and detector. Whatever happens in it is written down."""

    def __init__(self) -> None:
        self.won, self.gone, self.known = asyncio.Event(), asyncio.Event(), asyncio.Queue[Leader | None]()
        self.asked = asyncio.Queue[Leader | None]()
        self.said: list[str] = []

    async def contend(self) -> None:
        await self.won.wait()
        self.said.append("won")

    async def confirm(self) -> None: ...

    async def lost(self) -> None:
        await self.gone.wait()

    async def withdraw(self) -> None:
        self.said.append("withdrawn")

    async def detect(self, known: Leader | None) -> Leader | None:
        self.asked.put_nowait(known)
        return await self.known.get()

    async def close(self) -> None:
        self.said.append("closed")


class World:
    def __init__(self, error: Exception | None = None) -> None:
        self.ensemble, self.standing, self.stop = Ensemble(), Standing(ME), asyncio.Event()
        self.begun, self._error = asyncio.Event(), error
        self.leading = asyncio.create_task(lead(self.standing, self.ensemble, self.ensemble, self._work, self.stop))

    async def _work(self) -> None:
        self.begun.set()
        self.ensemble.said.append("works")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # It takes a moment to end.
            self.ensemble.said.append("ended")
            if self._error is not None:
                raise self._error


def test_it_works_once_elected_and_ends_before_it_withdraws() -> None:
    async def run() -> None:
        world = World()
        world.ensemble.won.set()
        await world.begun.wait()
        assert world.standing.leader == ME
        world.stop.set()
        await world.leading
        assert world.ensemble.said == ["won", "works", "ended", "withdrawn", "closed"]

    asyncio.run(run())


def test_told_to_stop_before_it_only_withdraws() -> None:
    async def run() -> None:
        world = World()
        world.stop.set()
        await world.leading
        assert world.ensemble.said == ["withdrawn", "closed"]

    asyncio.run(run())


def test_a_lost_leadership_ends_the_work_and_is_an_error() -> None:
    async def run() -> None:
        world = World()
        world.ensemble.won.set()
        await world.begun.wait()
        world.ensemble.gone.set()
        with pytest.raises(Unavailable, match="lost"):
            await world.leading
        assert world.ensemble.said == ["won", "works", "ended", "withdrawn", "closed"]

    asyncio.run(run())


def test_what_breaks_while_the_work_ends_is_raised() -> None:
    async def run() -> None:
        world = World(StoreError("full"))
        world.ensemble.won.set()
        await world.begun.wait()
        world.stop.set()
        with pytest.raises(StoreError, match="full"):
            await world.leading
        assert world.ensemble.said[-2:] == ["withdrawn", "closed"]

    asyncio.run(run())


def test_it_follows_whoever_leads_until_it_is_elected() -> None:
    async def run() -> None:
        world = World()
        assert await world.ensemble.asked.get() is None
        world.ensemble.known.put_nowait(OTHER)
        assert await world.ensemble.asked.get() == world.standing.leader == OTHER
        world.ensemble.won.set()
        await world.begun.wait()
        world.ensemble.known.put_nowait(OTHER)  # News of before.
        await world.ensemble.asked.get()
        assert world.standing.leader == ME
        world.stop.set()
        await world.leading

    asyncio.run(run())


def test_of_several_the_first_counts_and_the_others_end() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        async def other() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        assert await first(other(), asyncio.sleep(0), other()) == 1
        assert ended.is_set()

    asyncio.run(run())
