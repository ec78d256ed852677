"""The HTTP of the SDK, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frameworks.sdk.http import Chunks, Connection, Head, HttpError, Server

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.data())
def test_chunked_coding_comes_off_however_it_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    wire = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(payload), payload) for payload in payloads) + b"0\r\n\r\n"
    chunks, out, position = Chunks(), b"", 0
    while position < len(wire):
        end = data.draw(st.integers(position + 1, len(wire)))
        out += chunks.feed(wire[position:end])
        position = end
    assert out == b"".join(payloads)
    assert chunks.done


@pytest.mark.parametrize("wire", [b"zz\r\n", b"-5\r\n", b"\r\n", b"1" * 2000])
def test_what_is_not_chunked_coding_is_refused(wire: bytes) -> None:
    with pytest.raises(HttpError):
        Chunks().feed(wire)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("http://h:1", Server("h", 1)),
        ("h", Server("h", 5050)),
        ("https://h", Server("h", 5050, True)),
        ("//h:7/path", Server("h", 7)),
        ("http://[::1]:9", Server("::1", 9)),
    ],
)
def test_servers_are_read_from_urls(url: str, server: Server) -> None:
    assert Server.parse(url) == server


@pytest.mark.parametrize("url", ["", "ftp://h", "http://", "http://h:port"])
def test_what_names_no_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Server.parse(url)


def served(*answers: bytes, close: bool = False) -> tuple[Serve, list[bytes]]:
    """A server that gives these answers, one for each request, on any connections; and the requests it got."""
    left, requests = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                requests.append(head + await reader.readexactly(length))
                writer.write(left.pop(0))
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    return serve, requests


def ask(serve: Serve, use: Callable[[Connection], Awaitable[object]]) -> object:
    async def main() -> object:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        connection = Connection(Server("127.0.0.1", server.sockets[0].getsockname()[1]), {"X-All": "1"})
        try:
            async with asyncio.timeout(10):
                return await use(connection)
        finally:
            connection.close()
            server.close()

    return asyncio.run(main())


def test_requests_share_a_connection() -> None:
    serve, requests = served(
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Y: Z\r\n\r\nhi"
    )

    async def use(connection: Connection) -> object:
        first = await connection.post("/p", b"body", {"Content-Type": "x/y"})
        return first, await connection.post("/p", b"", {})

    assert ask(serve, use) == ((Head(202, {"content-length": "0"}), b""), (Head(200, {"content-length": "2", "x-y": "Z"}), b"hi"))
    assert requests[0].startswith(b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:")
    assert requests[0].endswith(b"Content-Length: 4\r\nX-All: 1\r\nContent-Type: x/y\r\n\r\nbody")


def test_a_chunked_answer_is_read_to_its_end_and_no_further() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    serve, _ = served(chunked, b"HTTP/1.1 204 No Content\r\n\r\n")

    async def use(connection: Connection) -> object:
        return (await connection.post("/", b"", {}))[1], (await connection.post("/", b"", {}))[0].status

    assert ask(serve, use) == (b"abc", 204)


def test_a_connection_the_server_closes_is_made_anew() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"
    serve, requests = served(answer, answer, close=True)

    async def use(connection: Connection) -> object:
        return (await connection.post("/", b"", {}))[1] + (await connection.post("/", b"", {}))[1]

    assert ask(serve, use) == b"11"
    assert len(requests) == 2


def test_a_stream_is_read_as_it_comes() -> None:
    serve, _ = served(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")

    async def use(connection: Connection) -> object:
        head, payload = await connection.listen("/", b"", {})
        first = await anext(payload)
        with pytest.raises(HttpError, match="hung up"):
            await anext(payload)
        return head.status, first

    assert ask(serve, use) == (200, b"one")


@pytest.mark.parametrize("answer", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: lots\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b""])
def test_broken_answers_are_errors(answer: bytes) -> None:
    serve, _ = served(answer, close=True)

    async def use(connection: Connection) -> object:
        with pytest.raises(HttpError):
            await connection.post("/", b"", {})
        return None

    ask(serve, use)


def test_nobody_there_is_an_error() -> None:
    async def main() -> None:
        with pytest.raises(HttpError, match="connection refused"):
            await Connection(Server("127.0.0.1", 1), {}).post("/", b"", {})

    asyncio.run(main())


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def use(connection: Connection) -> object:
        with pytest.raises(HttpError, match=r"no answer in 0\.05 s"):
            await connection.post("/", b"", {}, timeout_s=0.05)
        return None

    ask(silent, use)
