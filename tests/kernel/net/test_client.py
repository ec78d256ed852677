"""The blocking client against a real server in a thread of its own."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web

from kernel.errors import CallError, Unavailable
from kernel.net import response
from kernel.net.auth import Authenticator, Credential
from kernel.net.client import Client, Refused, Unreachable
from kernel.net.errors import Redirect
from kernel.net.request import Request, read_body
from kernel.net.server import HttpServer, Routes
from kernel.net.stream import RecordStream


class Service:
    """Serves in a thread; `elsewhere` is where `/moved` and, when set, everything redirects to."""

    def __init__(self) -> None:
        self.url = ""
        self.elsewhere = ""
        self.leads = True
        self.streams: list[RecordStream] = []
        self.loop = asyncio.new_event_loop()

    def routes(self) -> Routes:
        routes = Routes()
        routes.add("/echo", self.echo, realm=None, methods=("GET", "POST"), gate=self.gate)
        routes.add("/empty", self.empty, realm=None, methods=("GET", "POST"))
        routes.add("/text", self.text, realm=None)
        routes.add("/wrong", self.wrong, realm=None)
        routes.add("/secret", self.text, realm="r")
        routes.add("/stream", self.stream, realm=None, methods=("POST",))
        return routes

    def gate(self) -> None:
        if self.elsewhere:
            raise Redirect(self.elsewhere)
        if not self.leads:
            raise Unavailable("No leader elected")

    async def echo(self, request: Request) -> web.StreamResponse:
        body = (await read_body(request)).decode()
        return await response.json(request, json.dumps([request.method, request.path_qs, body]).encode())

    async def empty(self, request: Request) -> web.StreamResponse:
        return response.text(202)

    async def text(self, request: Request) -> web.StreamResponse:
        return response.text(200, "plain")

    async def wrong(self, request: Request) -> web.StreamResponse:
        raise CallError("task_id: no such task")

    async def stream(self, request: Request) -> web.StreamResponse:
        stream = RecordStream()
        for number in range(3):
            stream.send(b'{"number":%d}' % number)
        if await read_body(request) == b'"end"':
            stream.close()
        return await stream.serve(request, {})


@contextmanager
def serving() -> Iterator[Service]:
    service = Service()
    server = HttpServer(service.routes(), Authenticator([Credential("ops", "s3")], ["r"]))

    def serve() -> None:
        asyncio.set_event_loop(service.loop)
        service.loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", 0), service.loop).result(10)
    service.url = f"http://127.0.0.1:{port}"
    try:
        yield service
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(0.1), service.loop).result(10)
        service.loop.call_soon_threadsafe(service.loop.stop)
        thread.join(10)
        service.loop.close()


def unused() -> str:
    """A URL where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_calls_go_out_and_answers_come_back() -> None:
    with serving() as service:
        client = Client([service.url + "/"])
        assert client.get("/echo", {"a": "b c"}) == ["GET", "/echo?a=b+c", ""]
        assert client.call({"type": "X"}, "/echo") == ["POST", "/echo", '{"type":"X"}']
        assert client.call({}, "/empty") is None
        assert client.get_bytes("/text") == b"plain"


def test_an_error_is_told_in_the_servers_words() -> None:
    with serving() as service:
        client = Client([service.url])
        with pytest.raises(Refused, match="task_id: no such task") as refused:
            client.get("/wrong")
        assert refused.value.status == 400
        with pytest.raises(Refused) as refused:
            client.get("/secret")
        assert refused.value.status == 401
        assert Client([service.url], Credential("ops", "s3")).get_bytes("/secret") == b"plain"


def test_what_is_not_json_is_told() -> None:
    with serving() as service, pytest.raises(Unreachable, match="not JSON"):
        Client([service.url]).get("/text")


def test_a_redirect_is_followed_to_the_leader() -> None:
    with serving() as follower, serving() as leader:
        follower.elsewhere = leader.url.removeprefix("http://")
        client = Client([follower.url])
        assert client.call({}, "/echo") == ["POST", "/echo", "{}"]
        leader.elsewhere = follower.url.removeprefix("http://")
        with pytest.raises(Refused, match="redirected 5 times"):
            client.get("/echo")


def test_of_several_servers_the_one_that_answers_is_used() -> None:
    with serving() as lost, serving() as leader:
        lost.leads = False
        client = Client([unused(), lost.url, leader.url])
        assert client.get("/echo") == ["GET", "/echo", ""]
        leader.leads = False
        with pytest.raises(Refused, match="No leader elected"):
            client.get("/echo")


def test_nobody_there_is_told_with_the_addresses() -> None:
    url = unused()
    with pytest.raises(Unreachable, match=f"cannot reach {url}: connection refused"):
        Client([url]).get("/echo")


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(Unreachable, match="no answer in time"):
            Client([f"http://127.0.0.1:{silent.getsockname()[1]}"], timeout_s=0.05).get("/echo")


def test_a_stream_yields_its_records_until_it_ends() -> None:
    with serving() as service:
        assert [record["number"] for record in Client([service.url]).records("end", "/stream")] == [0, 1, 2]


def test_a_stream_may_be_left_and_may_fall_silent() -> None:
    with serving() as service:
        client = Client([service.url])
        records = client.records("go on", "/stream")
        assert next(records) == {"number": 0}
        records.close()  # type: ignore[attr-defined]
        with pytest.raises(Unreachable, match="no answer in time"):
            list(client.records("go on", "/stream", silence_s=0.05))
