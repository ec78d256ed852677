"""What a scheduler that does not lead passes on of the leader's answers: real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest

from chronos.api.server import ChronosServer
from chronos.history import History
from chronos.job import Defaults
from chronos.leadership import Leadership
from kernel.election.election import Leader
from kernel.net import session
from tests.chronos.test_history import record

EXPORT = "/v1/meseta/export"


def server(leadership: Leadership, history: History) -> ChronosServer:
    options = {"ip": "127.0.0.1", "hostname": None, "defaults": Defaults(user=""), "history_limit": 5, "measured": dict, "cors": False}
    return ChronosServer(leadership, history, None, **options)  # type: ignore[arg-type]


def asked_beside(leader_port: int, history: History, path: str) -> Awaitable[tuple[int, bytes]]:
    """Ask a scheduler that follows the leader at a port."""

    async def ask() -> tuple[int, bytes]:
        leadership = Leadership(Leader("standby", "127.0.0.1", "127.0.0.1", 0))
        leadership.leader = Leader("leader", "127.0.0.1", "127.0.0.1", leader_port)
        standby = server(leadership, history)
        port = await standby.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{port}{path}") as answer:
                return answer.status, await answer.read()
        finally:
            await standby.stop()

    return ask()


def given(folder: Path, work: Callable[[History], Awaitable[None]]) -> None:
    async def run() -> None:
        history = History(folder / "history.db")
        try:
            await work(history)
        finally:
            await history.close()

    asyncio.run(run())


def test_an_export_may_be_longer_than_answers_that_are_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_BYTES_MAX", 10_000)

    async def work(history: History) -> None:
        await history.record([record(number) for number in range(100)])
        leadership = Leadership(Leader("leader", "127.0.0.1", "127.0.0.1", 0))
        leadership.leader, leadership.work = leadership.me, SimpleNamespace(history=history)  # type: ignore[assignment]
        leader = server(leadership, history)
        port = await leader.start("127.0.0.1", 0)
        try:
            status, body = await asked_beside(port, history, EXPORT)
            assert (status, len(body) > 10_000, len(body.splitlines())) == (200, True, 100)
            status, body = await asked_beside(port, history, f"{EXPORT}?format=xml")
            assert (status, b"format" in body) == (400, True)
        finally:
            await leader.stop()

    given(tmp_path, work)


def test_an_answer_that_breaks_off_does_so_for_the_client(tmp_path: Path) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        await writer.drain()
        writer.close()

    async def work(history: History) -> None:
        async with await asyncio.start_server(break_off, "127.0.0.1", 0) as leader:
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await asked_beside(leader.sockets[0].getsockname()[1], history, EXPORT)

    given(tmp_path, work)
