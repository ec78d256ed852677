"""An outbox whose scheduler leads no more, over a real file, a real webhook."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from chronos.history import History
from chronos.leftovers import send_leftovers
from chronos.notifier import Mail
from chronos.notify import Message
from kernel.clock import SystemClock
from kernel.net.server import HttpServer, Routes
from tests.chronos.test_notifier import Hook, until


def test_what_is_left_is_sent_and_then_gone(tmp_path: Path) -> None:
    path, hook = tmp_path / "history.db", Hook()

    async def run() -> None:
        routes = Routes()
        routes.add("/hook", hook, realm=None, methods=("POST",))
        http = HttpServer(routes)
        port = await http.start("127.0.0.1", 0)
        history = History(path)
        messages = [Message("url", f"http://127.0.0.1:{port}/hook", "subject", "text", body, own=True) for body in (b"1", b"2")]
        await history.post(messages, int(SystemClock().now().wall_s * 1000))
        sending = asyncio.create_task(send_leftovers(history, Mail(), "Basic x"))
        with closing(sqlite3.connect(path)) as db:
            await until(lambda: db.execute("SELECT count(*) FROM outbox").fetchone() == (0,))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await http.stop()
        await history.close()

    asyncio.run(run())
    assert hook.came == [("Basic x", b"1"), ("Basic x", b"2")]


def test_where_nothing_is_left_it_ends(tmp_path: Path) -> None:
    async def run() -> None:
        history = History(tmp_path / "history.db")
        await send_leftovers(history, Mail())
        await history.close()

    asyncio.run(run())


def test_an_outbox_that_cannot_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        history = History(tmp_path / "history.db")
        with closing(sqlite3.connect(history.path)) as db:
            db.execute("DROP TABLE outbox")
        await send_leftovers(history, Mail())
        await history.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(run())
    assert "stays unsent" in caplog.text
