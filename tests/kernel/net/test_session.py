"""aiohttp's client with our bounds and errors, against servers that answer byte by byte what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from kernel.errors import PeerError
from kernel.net import session
from kernel.net.session import Session, base_url, listen, open_session, pieces, post, whole

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://h:1", "http://h:1"),
        ("h", "http://h:5050"),
        ("https://h", "https://h:5050"),
        ("//h:7/path", "http://h:7"),
        ("http://[::1]:9/", "http://[::1]:9"),
    ],
)
def test_servers_are_named_in_many_ways(text: str, url: str) -> None:
    assert base_url(text, 5050) == url


@pytest.mark.parametrize("text", ["", "ftp://h", "http://", "http://h:port"])
def test_what_names_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|URL"):
        base_url(text, 5050)


def served(*answers: bytes, close: bool = False) -> tuple[Serve, list[bytes]]:
    """A server that gives these answers, one for each request, on any connections; and what came on each connection."""
    left, connections = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(b"")
        place = len(connections) - 1
        try:
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                connections[place] += head + await reader.readexactly(length)
                writer.write(left.pop(0))
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    return serve, connections


def ask(serve: Serve, use: Callable[[Session, str], Awaitable[object]]) -> object:
    async def main() -> object:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            async with asyncio.timeout(10), open_session({"X-All": "1"}) as http:
                return await use(http, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/p")
        finally:
            server.close()

    return asyncio.run(main())


def test_requests_share_a_connection() -> None:
    serve, connections = served(
        b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Y: Z\r\n\r\nhi\n"
    )

    async def use(http: Session, url: str) -> None:
        first = await post(http, url, b"body", {"Content-Type": "x/y"})
        assert (first.status, first.body) == (202, b"")
        second = await post(http, url, b"", {})
        assert (second.status, second.headers.get("x-y"), second.text) == (200, "Z", "hi")

    ask(serve, use)
    [sent] = connections
    head, body = sent.split(b"\r\n\r\n")[:2]
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: 127.0.0.1:")
    assert {b"X-All: 1", b"Content-Type: x/y", b"Content-Length: 4", b"Accept-Encoding: identity"} <= set(head.split(b"\r\n"))
    assert body.startswith(b"bodyPOST")


def test_a_redirect_is_an_answer() -> None:
    serve, _ = served(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: //other:5050/p\r\nContent-Length: 0\r\n\r\n")

    async def use(http: Session, url: str) -> None:
        answer = await post(http, url, b"", {})
        assert (answer.status, answer.headers.get("Location")) == (307, "//other:5050/p")

    ask(serve, use)


def test_a_connection_the_server_closes_is_made_anew() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"
    serve, connections = served(answer, answer, close=True)

    async def use(http: Session, url: str) -> None:
        assert [(await post(http, url, b"", {})).body for _ in range(2)] == [b"1", b"1"]

    ask(serve, use)
    assert len(connections) == 2


def test_a_request_is_never_sent_twice() -> None:
    """A server that takes a request and hangs up may have acted on it: whoever asked must know."""
    serve, connections = served(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"")

    async def use(http: Session, url: str) -> None:
        await post(http, url, b"one", {})
        with pytest.raises(PeerError, match="hung up"):
            await post(http, url, b"two", {})

    ask(serve, use)
    assert b"".join(connections).count(b"two") == 1


def test_a_stream_is_read_as_it_comes() -> None:
    serve, _ = served(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")

    async def use(http: Session, url: str) -> None:
        async with listen(http, url, b"", {}) as stream:
            payload = pieces(stream)
            assert (stream.status, await anext(payload)) == (200, b"one")
            with pytest.raises(PeerError, match="hung up"):
                await anext(payload)

    ask(serve, use)


def test_leaving_a_stream_hangs_up() -> None:
    gone = asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await reader.read()
        gone.set()
        writer.close()

    async def use(http: Session, url: str) -> None:
        async with listen(http, url, b"", {}):
            pass
        await gone.wait()

    ask(endless, use)


def test_an_error_of_who_reads_a_stream_is_not_the_peers() -> None:
    serve, _ = served(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")

    async def use(http: Session, url: str) -> None:
        with pytest.raises(OSError, match="the disk is full"):
            await read(http, url)

    async def read(http: Session, url: str) -> None:
        async with listen(http, url, b"", {}) as stream:
            async for _ in pieces(stream):
                raise OSError("the disk is full")

    ask(serve, use)


def test_what_turns_out_to_be_no_stream_is_read_whole() -> None:
    serve, _ = served(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n")

    async def use(http: Session, url: str) -> None:
        async with listen(http, url, b"", {}) as stream:
            assert (stream.status, (await whole(stream)).text) == (401, "no")

    ask(serve, use)


@pytest.mark.parametrize(
    "answer",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: lots\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"",
    ],
)
def test_broken_answers_are_errors(answer: bytes) -> None:
    serve, _ = served(answer, close=True)

    async def use(http: Session, url: str) -> None:
        with pytest.raises(PeerError, match=r"^http://127\.0\.0\.1:\d+: ."):
            await post(http, url, b"", {})

    ask(serve, use)


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ANSWER_BYTES_MAX", 1000)
    serve, _ = served(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001)

    async def use(http: Session, url: str) -> None:
        with pytest.raises(PeerError, match="too long"):
            await post(http, url, b"", {})

    ask(serve, use)


def test_nobody_there_is_an_error() -> None:
    async def main() -> None:
        async with open_session({}) as http:
            with pytest.raises(PeerError, match=r"^http://127\.0\.0\.1:1: connection refused$"):
                await post(http, "http://127.0.0.1:1/p", b"", {})

    asyncio.run(main())


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def use(http: Session, url: str) -> None:
        with pytest.raises(PeerError, match="no answer in time"):
            await post(http, url, b"", {}, timeout_s=0.05)
        with pytest.raises(PeerError, match="no answer in time"):
            async with listen(http, url, b"", {}, timeout_s=0.05):
                pass

    ask(silent, use)
