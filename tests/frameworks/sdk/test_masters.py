"""How a framework finds the leading master: by trying, or by asking an ensemble."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from frameworks.sdk import masters
from frameworks.sdk.masters import Masters
from kernel.election.election import Leader
from kernel.errors import ConfigError

M1, M2 = Leader("m1", "h1", "10.0.0.1", 5050), Leader("m2", "h2", "10.0.0.2", 5051)
LIMIT_S = 20.0


class Told:
    """A detector that says what it is told."""

    def __init__(self) -> None:
        self.leader: Leader | None = None
        self._changed = asyncio.Condition()

    async def tell(self, leader: Leader | None) -> None:
        async with self._changed:
            self.leader = leader
            self._changed.notify_all()

    async def detect(self, known: Leader | None) -> Leader | None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.leader != known)
            return self.leader

    async def close(self) -> None:
        await self.tell(None)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    detector = Told()
    monkeypatch.setattr(masters, "find_master", lambda _: detector)
    return detector


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, LIMIT_S)


def test_addresses_are_tried_in_turn_but_the_leaders_first() -> None:
    async def run() -> list[str]:
        found = Masters(["m1", "http://m2:80"])
        tried = [await found.find(None)]
        found.ended(answered=True)
        tried += [await found.find("http://m3:5050"), await found.find(None)]
        found.ended(answered=False)
        tried.append(await found.find(None))
        await found.close()
        return tried

    assert asyncio.run(run()) == ["http://m1:5050", "http://m3:5050", "http://m2:80", "http://m1:5050"]


def test_an_ensembles_leader_is_waited_for_and_followed(told: Told) -> None:
    async def run() -> None:
        found = Masters(["zk://h/m"])
        finding = asyncio.ensure_future(found.find(None))
        await asyncio.sleep(0)
        await told.tell(M1)
        assert await soon(finding) == "http://h1:5050"
        moved = asyncio.ensure_future(found.moved())
        await asyncio.sleep(0)
        assert not moved.done()
        await told.tell(M2)
        await soon(moved)
        assert await soon(found.find("http://h1:5050")) == "http://h2:5051"
        await found.close()

    asyncio.run(run())


def test_a_leader_that_was_silent_is_tried_again_only_after_a_while(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be dead, and its session not over yet: more likely another leads soon."""

    async def run() -> None:
        await told.tell(M1)
        found = Masters(["zk://h/m"])
        assert await soon(found.find(None)) == "http://h1:5050"
        found.ended(answered=False)
        finding = asyncio.ensure_future(found.find(None))
        await asyncio.sleep(0.05)
        assert not finding.done()
        await told.tell(M2)
        assert await soon(finding) == "http://h2:5051"
        found.ended(answered=False)
        monkeypatch.setattr(masters, "NEXT_S", 0.01)
        assert await soon(found.find(None)) == "http://h2:5051"
        found.ended(answered=True)
        monkeypatch.setattr(masters, "NEXT_S", 3600.0)
        assert await soon(found.find(None)) == "http://h2:5051"

    asyncio.run(run())


def test_wrong_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="not a URL"):
        Masters(["ftp://m1"])
    with pytest.raises(ConfigError, match="zk://"):
        Masters(["zk://h:x/m"])
