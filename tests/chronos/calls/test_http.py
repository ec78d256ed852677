"""Jobs that call a URL, against a real server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chronos import inputs
from chronos.calls.http import OUTPUT_BYTES, HttpCaller, expected
from chronos.joins import Outcome
from chronos.records import Output
from tests.chronos.calls.given import World, start, within


class _Handler(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    gate: ClassVar[threading.Event] = threading.Event()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.got.append((self.command, self.path, dict(self.headers), body))
        if self.path == "/hang":
            self.gate.wait(30)
        self.send_response(int(self.path[1:]) if self.path[1:].isdigit() else 200)
        self.end_headers()
        self.wfile.write(b"x" * 20_000 if self.path == "/large" else b"the body")

    do_GET = do_POST = do_PUT = _answer

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    _Handler.got.clear()
    _Handler.gate.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    _Handler.gate.set()
    server.shutdown()
    server.server_close()


def called(folder: Path, http: dict[str, Any], **more: Any) -> tuple[list[Any], Output | None]:
    async def work(world: World) -> tuple[list[Any], Output | None]:
        world.calls.start(start({"http": http, **more}))
        await world.ended()
        return world.told, await world.output()

    return within(folder, lambda: {"http": HttpCaller()}, work)


def test_an_expected_status_is_a_success_and_the_body_is_the_output(tmp_path: Path, url: str) -> None:
    http = {"url": f"{url}/201", "method": "POST", "headers": {"X-A": "b"}, "body": "sent", "expect": ["201"]}
    told, output = called(tmp_path, http)
    assert told == [
        inputs.CallBegan("j@1", "ct:1:0:j:"),
        inputs.CallEnded("j@1", "ct:1:0:j:", Outcome.SUCCESS, "the answer was 201", 0),
    ]
    assert output == Output(b"the body", b"")
    method, _, headers, body = _Handler.got[0]
    assert (method, headers["X-A"], headers["Meseta-Run"], body) == ("POST", "b", "j@1", b"sent")


def test_another_status_is_a_failure_that_says_which(tmp_path: Path, url: str) -> None:
    told, _ = called(tmp_path, {"url": f"{url}/500", "expect": ["200-299", "404"]})
    assert (told[-1].outcome, told[-1].message) == (Outcome.FAILURE, "the answer was 500, expected 200-299 or 404")


def test_redirects_are_answers(tmp_path: Path, url: str) -> None:
    assert called(tmp_path, {"url": f"{url}/302"})[0][-1].message.startswith("the answer was 302")


def test_of_a_large_body_the_end_is_kept(tmp_path: Path, url: str) -> None:
    _, output = called(tmp_path, {"url": f"{url}/large"})
    assert output is not None
    assert len(output.stdout) == OUTPUT_BYTES


@pytest.mark.parametrize("timeout", [{"http": {"timeout": 0.2}}, {"timeout": 0.2}])
def test_what_takes_too_long_fails(tmp_path: Path, url: str, timeout: dict[str, Any]) -> None:
    more = {key: value for key, value in timeout.items() if key != "http"}
    told, _ = called(tmp_path, {"url": f"{url}/hang", **timeout.get("http", {})}, **more)
    assert told[-1].outcome is Outcome.FAILURE


def test_nobody_there_is_a_failure(tmp_path: Path) -> None:
    told, _ = called(tmp_path, {"url": "http://127.0.0.1:1/"})
    assert (told[-1].outcome, "refused" in told[-1].message) == (Outcome.FAILURE, True)


def test_one_that_is_cancelled_is_killed(tmp_path: Path, url: str) -> None:
    async def work(world: World) -> inputs.CallEnded:
        world.calls.start(start({"http": {"url": f"{url}/hang"}}))
        await world.until(inputs.CallBegan)
        world.calls.cancel(inputs.CancelCall("j@1", "ct:1:0:j:"))
        return await world.ended()

    assert within(tmp_path, lambda: {"http": HttpCaller()}, work).outcome is Outcome.KILLED


def test_cancelling_what_nobody_runs_ends_it(tmp_path: Path) -> None:
    async def work(world: World) -> inputs.CallEnded:
        world.calls.cancel(inputs.CancelCall("j@1", "ct:1:0:j:"))
        return await world.ended()

    assert within(tmp_path, lambda: {"http": HttpCaller()}, work).outcome is Outcome.KILLED


def test_after_a_restart_nobody_knows_how_it_went(tmp_path: Path, url: str) -> None:
    async def work(world: World) -> inputs.CallEnded:
        world.calls.start(start({"http": {"url": f"{url}/200"}}, again=True))
        return await world.ended()

    ended = within(tmp_path, lambda: {"http": HttpCaller()}, work)
    assert (ended.lost, _Handler.got) == (True, [])


def test_a_scheduler_that_stops_says_nothing_of_calls_under_way(tmp_path: Path, url: str) -> None:
    async def work(world: World) -> list[Any]:
        world.calls.start(start({"http": {"url": f"{url}/hang"}}))
        await world.until(inputs.CallBegan)
        await world.calls.close()
        await asyncio.sleep(0)
        return world.told

    assert within(tmp_path, lambda: {"http": HttpCaller()}, work) == [inputs.CallBegan("j@1", "ct:1:0:j:")]


@pytest.mark.parametrize(
    ("status", "expect", "good"), [(200, ("200",), True), (204, ("200-203", "204"), True), (205, ("200-204",), False), (1, (), False)]
)
def test_what_is_expected(status: int, expect: tuple[str, ...], good: bool) -> None:
    assert expected(status, expect) == good
