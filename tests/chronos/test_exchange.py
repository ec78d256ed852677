"""Histories of schedulers that stand in for each other: real files, real HTTP."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from chronos import exchange as exchange_module
from chronos import feed as feed_module
from chronos.api.server import REALM, ChronosServer
from chronos.exchange import Exchange
from chronos.feed import Feed
from chronos.history import History, Keep, Query
from chronos.job import Defaults
from chronos.leadership import Leadership
from chronos.notify import Message
from chronos.records import Output
from chronos.run import Attempt
from kernel.election.election import Leader
from kernel.errors import StoreError
from kernel.net.auth import Authenticator, Credential
from kernel.net.session import open_session
from tests.chronos.test_history import record

T = TypeVar("T")
ANN = Credential("ann", "secret")


class Member:
    """One of them, with what it keeps. It takes over from `others` when told to."""

    def __init__(self, path: Path, authenticator: Authenticator | None = None, keep: Keep = Keep()) -> None:  # noqa: B008
        self.history = History(path, keep)
        self.others: list[Member] = []
        self.leader = Leader("", "", "", 0)
        self._authenticator = authenticator

    async def _found(self) -> list[Leader]:
        return [member.leader for member in (self, *self.others)]

    def exchange_as(self, authorization: str) -> Exchange:
        return Exchange(self.history, self._found, self.leader.address, authorization)

    async def start(self) -> None:
        options = {"ip": "127.0.0.1", "hostname": None, "defaults": Defaults(user=""), "history_limit": 5, "measured": dict, "cors": False}
        nobody_leads = Leadership(self.leader)
        self.server = ChronosServer(nobody_leads, self.history, self._authenticator, **options)  # type: ignore[arg-type]
        port = await self.server.start("127.0.0.1", 0)
        self.leader = Leader(f"at {port}", "127.0.0.1", "127.0.0.1", port)
        self.exchange = self.exchange_as("")

    async def stop(self) -> None:
        await self.server.stop()
        await self.history.close()

    async def take_over(self) -> None:
        async with open_session({}) as session:
            await asyncio.gather(*(self.exchange.take(session, address) for address in await self.exchange.others()))

    async def ids(self) -> list[str]:
        return [run.id for run in (await self.history.runs(Query())).runs]


def given(members: list[Member], work: Callable[[], Awaitable[T]]) -> T:
    async def run() -> T:
        for member in members:
            await member.start()
        try:
            return await work()
        finally:
            for member in members:
                await member.stop()

    for member in members:
        member.others = [other for other in members if other is not member]
    return asyncio.run(run())


@pytest.fixture
def two(tmp_path: Path) -> list[Member]:
    return [Member(tmp_path / "a.db"), Member(tmp_path / "b.db")]


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(feed_module, "RUNS_MAX", 3)
    return


def numbers(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as db:
        return [number for (number,) in db.execute("SELECT number FROM feed ORDER BY number")]


def test_what_one_has_recorded_the_other_has_too_with_its_output(two: list[Member]) -> None:
    a, b = two

    async def work() -> None:
        await a.history.put_output(record(1).id, Output(b"early", b""))
        await a.history.record([record(1), record(2)])
        await b.take_over()
        assert (await b.history.runs(Query())).runs == (record(2), record(1))
        assert await b.history.output(record(1).id) == Output(b"early", b"")
        await a.history.put_output(record(2).id, Output(b"later", b"err"))
        await b.take_over()
        assert await b.history.output(record(2).id) == Output(b"later", b"err")

    given(two, work)


def test_it_comes_page_by_page(two: list[Member], few_at_once: None) -> None:
    async def work() -> list[str]:
        await two[0].history.record([record(number) for number in range(10)])
        await two[1].take_over()
        return await two[1].ids()

    assert given(two, work) == [record(number).id for number in reversed(range(10))]


def test_what_was_taken_over_is_told_on_once(tmp_path: Path) -> None:
    members = [Member(tmp_path / f"{name}.db") for name in "abc"]
    a, b, c = members

    async def work() -> None:
        await a.history.record([record(1)])
        await a.history.put_output(record(1).id, Output(b"out", b""))
        b.others, c.others = [a], [b]
        await b.take_over()
        await c.take_over()
        assert await c.ids() == [record(1).id]
        assert await c.history.output(record(1).id) == Output(b"out", b"")
        before = [numbers(member.history.path) for member in members]
        a.others, b.others = [b, c], [a, c]
        for _ in range(3):
            for member in members:
                await member.take_over()
        assert [numbers(member.history.path) for member in members] == before

    given(members, work)


def test_of_one_that_cannot_be_reached_is_told_once_and_it_is_taken_over_once_it_is_back(
    two: list[Member], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = two

    async def work() -> None:
        await a.history.record([record(1)])
        await a.server.stop()
        for _ in range(3):
            await b.take_over()
        assert [entry.levelname for entry in caplog.records if "is not told here" in entry.message] == ["WARNING"]
        await a.start()
        await b.take_over()
        assert await b.ids() == [record(1).id]

    given(two, work)


def test_a_history_that_was_begun_anew_is_followed_from_its_start(two: list[Member], tmp_path: Path) -> None:
    a, b = two

    async def work() -> None:
        await a.history.record([record(number) for number in range(5)])
        await b.take_over()
        anew = History(tmp_path / "anew.db")
        await anew.record([record(7)])
        was, a.server._history = a.server._history, anew
        for _ in range(2):
            await b.take_over()
        a.server._history = was
        await anew.close()
        assert record(7).id in await b.ids()

    given(two, work)


def test_a_copy_of_a_history_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asyncio.run(History(tmp_path / "a.db").close())
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    two = [Member(tmp_path / "a.db"), Member(tmp_path / "b.db")]

    async def work() -> list[str]:
        await two[0].history.record([record(1)])
        await two[1].take_over()
        return await two[1].ids()

    assert given(two, work) == []
    assert f"it has a copy of that of {two[1].leader.address}: if both run, begin one of them anew" in caplog.text


def test_of_two_copies_one_is_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their numbers mean different runs."""
    asyncio.run(History(tmp_path / "a.db").close())
    shutil.copy(tmp_path / "a.db", tmp_path / "b.db")
    a, b, c = members = [Member(tmp_path / f"{name}.db") for name in "abc"]

    async def work() -> None:
        await a.history.record([record(1)])
        c.others = [a]
        await c.take_over()
        await b.history.record([record(2), record(3)])
        c.others = [a, b]
        await c.take_over()
        assert await c.ids() == [record(1).id]
        assert f"it has a copy of that of {a.leader.address}" in caplog.text
        await a.server.stop()
        for _ in range(2):
            await c.take_over()
        assert record(3).id in await c.ids()
        await a.start()

    given(members, work)


def test_its_own_candidate_from_before_it_was_killed_is_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stands in the ensemble until its session ends."""
    member = Member(tmp_path / "a.db")

    async def work() -> None:
        member.others = [member]
        await member.take_over()

    given([member], work)
    assert caplog.text == ""


def test_a_history_that_was_put_back_to_an_older_state_is_followed_from_its_start(tmp_path: Path) -> None:
    a, b = two = [Member(tmp_path / "a.db"), Member(tmp_path / "b.db")]

    async def work() -> None:
        await a.history.record([record(1)])
        with closing(sqlite3.connect(a.history.path)) as now, closing(sqlite3.connect(tmp_path / "old.db")) as old:
            now.backup(old)
        await a.history.record([record(number) for number in range(2, 6)])
        await b.take_over()
        was, a.server._history = a.server._history, History(tmp_path / "old.db")
        await a.server._history.record([record(7)])
        await b.take_over()
        await a.server._history.close()
        a.server._history = was
        assert await b.ids() == [record(number).id for number in (7, 5, 4, 3, 2, 1)]

    given(two, work)


def test_runs_of_many_attempts_come_in_answers_that_are_not_too_long(two: list[Member]) -> None:
    a, b = two
    attempts = tuple(Attempt(number, f"task {number}", 0, message="x" * 1000) for number in range(1000))

    async def work() -> None:
        await a.history.record([record(number, attempts=attempts) for number in range(9)])
        assert [len((await a.history.feed(a.history.id, number)).told) for number in (0, 4)] == [4, 4]
        await b.take_over()
        assert len(await b.ids()) == 9

    given(two, work)


def test_one_that_hangs_delays_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "LOOK_S", 0.01)
    a, b, c = members = [Member(tmp_path / f"{name}.db") for name in "abc"]

    async def work() -> None:
        asked, told = asyncio.Event(), asyncio.Event()

        async def hang(history: str, number: int) -> Feed:
            asked.set()
            await told.wait()
            raise StoreError("it hung")

        b.history.feed = hang  # type: ignore[method-assign]
        running = asyncio.create_task(c.exchange.run())
        await asked.wait()
        await a.history.record([record(1)])
        while not await c.ids():
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        told.set()

    given(members, work)


def test_any_number_may_be_asked_for(two: list[Member]) -> None:
    a, b = two

    async def work() -> None:
        with closing(sqlite3.connect(a.history.path)) as db, db:
            db.execute("INSERT INTO feed VALUES (?, 'gone', 0)", (10**12,))
        await a.history.record([record(1)])
        for _ in range(2):
            await b.take_over()
        assert await b.history.follows(a.history.id) == 10**12 + 1
        await a.history.record([record(2)])
        await b.take_over()
        assert await b.ids() == [record(2).id, record(1).id]

    given(two, work)


def test_who_is_told_must_be_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    two = [Member(tmp_path / f"{name}.db", Authenticator([ANN], (REALM,))) for name in "ab"]

    async def work() -> None:
        await two[0].history.record([record(1)])
        await two[1].take_over()
        assert await two[1].ids() == []
        assert "all schedulers need the same --credentials" in caplog.text
        exchange = two[1].exchange_as(ANN.header())
        running = asyncio.create_task(exchange.run())
        while not await two[1].ids():
            assert not running.done()
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    given(two, work)
    assert "secret" not in caplog.text


def test_what_is_to_be_told_of_a_run_is_told_also_when_another_had_it_first(two: list[Member]) -> None:
    """The other may be gone with its outbox."""
    a, b = two
    message = Message("url", "http://127.0.0.1/hook", "subject", "text", b"1", own=True)

    async def work() -> None:
        await a.history.record([record(1)], {record(1).id: [message]}, 1)
        await b.take_over()
        assert len(await b.history.record([record(1)], {record(1).id: [message]}, 2)) == 1
        await a.take_over()
        assert len(await a.history.record([record(1)], {record(1).id: [message]}, 3)) == 0

    given(two, work)


def test_what_is_forgotten_by_one_is_not_told_again_to_it(tmp_path: Path) -> None:
    a, b = two = [Member(tmp_path / "a.db"), Member(tmp_path / "b.db", keep=Keep(per_job=1))]

    async def work() -> None:
        await a.history.record([record(1), record(2)])
        await b.take_over()
        while await b.history.prune(0):
            pass
        for _ in range(2):
            await b.take_over()
        assert await b.ids() == [record(2).id]
        await a.take_over()
        assert len(await a.ids()) == 2

    given(two, work)


def test_what_is_no_feed_is_refused(two: list[Member], caplog: pytest.LogCaptureFixture) -> None:
    a, b = two

    async def work() -> None:
        a.history.feed = _no_feed  # type: ignore[method-assign]
        await b.take_over()

    given(two, work)
    assert "what it told cannot be read" in caplog.text


async def _no_feed(history: str, number: int) -> dict[str, int]:  # type: ignore[misc]
    return {"history": 1}


def test_an_older_history_is_told_from_its_start(tmp_path: Path) -> None:
    """As the release before wrote it: without a feed."""
    path = tmp_path / "a.db"

    async def write() -> None:
        history = History(path)
        await history.record([record(1), record(2)])
        await history.close()

    asyncio.run(write())
    with closing(sqlite3.connect(path)) as db:
        db.executescript("DROP TABLE feed; DROP TABLE myself; DROP TABLE followed; PRAGMA user_version = 2;")
    two = [Member(path), Member(tmp_path / "b.db")]

    async def work() -> list[str]:
        await two[1].take_over()
        return await two[1].ids()

    assert given(two, work) == [record(2).id, record(1).id]


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
