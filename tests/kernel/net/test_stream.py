"""Record streams as a subscriber sees them, byte by byte."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from aiohttp import web

from kernel.net.request import Request
from kernel.net.response import PAUSE_S
from kernel.net.server import HttpServer, Routes
from kernel.net.stream import BURST, RecordStream

LIMIT_S = 10.0


class Subscription:
    """A server with one stream, and a subscriber on a plain socket."""

    def __init__(self, stream: RecordStream) -> None:
        self.stream = stream
        self.ended = asyncio.Event()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def serve(self, request: Request) -> web.StreamResponse:
        try:
            return await self.stream.serve(request, {"Mesos-Stream-Id": "s1"})
        finally:
            self.ended.set()

    async def chunk(self) -> bytes:
        """Return the next HTTP chunk, b"" for the last."""
        size = int(await self.reader.readline(), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data


@asynccontextmanager
async def subscribed(
    stream: RecordStream, request: bytes = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
) -> AsyncIterator[Subscription]:
    subscription = Subscription(stream)
    routes = Routes()
    routes.add("/", subscription.serve, realm=None, methods=("POST",))
    server = HttpServer(routes)
    port = await server.start("127.0.0.1", 0)
    subscription.reader, subscription.writer = await asyncio.open_connection("127.0.0.1", port)
    subscription.writer.write(request)
    try:
        yield subscription
    finally:
        subscription.writer.close()
        await server.stop(0.1)


def run(test: Callable[[], object]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(test(), LIMIT_S)  # type: ignore[arg-type]

    uvloop.run(limited())


def test_each_record_is_one_chunk_with_its_length_in_bytes() -> None:
    async def test() -> None:
        stream = RecordStream()
        stream.send(b'{"early":1}')
        async with subscribed(stream) as subscription:
            head = await subscription.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Transfer-Encoding: chunked" in head
            assert b"Content-Type: application/json" in head
            assert b"Mesos-Stream-Id: s1" in head
            assert b"Content-Length" not in head
            assert await subscription.chunk() == b'11\n{"early":1}'
            stream.send("ü".encode())
            stream.send(b"x" * 100_000)
            assert await subscription.chunk() == b"2\n\xc3\xbc"
            assert await subscription.chunk() == b"100000\n" + b"x" * 100_000
            stream.close()
            assert await subscription.chunk() == b""
            assert await subscription.reader.read() == b""

    run(test)


def test_a_stream_closed_before_it_is_served_still_tells_what_was_sent() -> None:
    async def test() -> None:
        stream = RecordStream()
        stream.send(b"error")
        stream.close()
        stream.send(b"too late")
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert [await subscription.chunk(), await subscription.chunk()] == [b"5\nerror", b""]

    run(test)


def test_headers_come_before_the_first_record() -> None:
    async def test() -> None:
        async with subscribed(RecordStream()) as subscription:
            assert (await subscription.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")

    run(test)


def test_heartbeats_flow_until_the_end() -> None:
    async def test() -> None:
        stream = RecordStream()
        stream.send(b"first")
        stream.beat(b"beat", 0.01)
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert [await subscription.chunk() for _ in range(4)] == [b"5\nfirst", b"4\nbeat", b"4\nbeat", b"4\nbeat"]
            stream.close()
            while await subscription.chunk():
                pass
            assert await subscription.reader.read() == b""

    run(test)


def test_a_subscriber_that_goes_away_ends_the_stream() -> None:
    async def test() -> None:
        stream = RecordStream()
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            subscription.writer.close()
            await subscription.ended.wait()
            assert stream.closed
            stream.send(b"nobody reads this")

    run(test)


def test_a_subscriber_that_does_not_read_is_cut_off() -> None:
    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1_000_000)
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            sent = 0
            while not stream.closed:
                stream.send(bytes(100_000))
                sent += 1
                assert sent < 1000
                await asyncio.sleep(0)
            await subscription.ended.wait()
            rest = await subscription.reader.read()
            assert len(rest) < sent * 100_000
            assert not rest.endswith(b"0\r\n\r\n")  # It sees that the stream was broken off.

    run(test)


@pytest.mark.parametrize("early", [True, False])
def test_a_burst_may_be_larger_than_the_backlog_allowed(early: bool) -> None:
    """Such as all that a scheduler missed while it was away: were it cut off, it would never come back."""

    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1_000_000)
        burst = [b"%06d" % number + bytes(10_000) for number in range(750)]
        if early:
            for record in burst:
                stream.send(record)
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            if not early:
                for record in burst:
                    stream.send(record)
            for record in burst:
                assert await subscription.chunk() == b"10006\n" + record
            assert not stream.closed

    run(test)


def test_a_subscriber_that_never_catches_up_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kernel.net.stream.UNREAD_S", 0.1)

    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1_000_000)
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            for _ in range(7):
                stream.send(bytes(1_000_000))
            assert not stream.closed
            await asyncio.sleep(0.2)
            stream.send(b"more")
            assert stream.closed

    run(test)


def test_one_record_may_be_larger_than_the_backlog_allowed() -> None:
    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1000)
        stream.send(bytes(5_000_000))
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert len(await subscription.chunk()) == 5_000_008

    run(test)


def test_an_old_proxy_gets_the_records_without_chunks() -> None:
    async def test() -> None:
        stream = RecordStream()
        stream.send(b"first")
        async with subscribed(stream, b"POST / HTTP/1.0\r\nHost: h\r\n\r\n") as subscription:
            head = await subscription.reader.readuntil(b"\r\n\r\n")
            assert b"chunked" not in head
            stream.close()
            assert await subscription.reader.read() == b"5\nfirst"

    run(test)


def test_a_subscriber_that_hangs_up_while_something_is_sent_harms_nobody() -> None:
    """uvloop raises on writing to a closed transport; the daemon that sends must not notice."""

    async def test() -> None:
        stream = RecordStream()
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert stream._transport is not None
            stream._transport.abort()
            for _ in range(3):
                stream.send(b"{}")
                await asyncio.sleep(0)
            stream.send(b"{}")
            assert stream.closed

    uvloop.run(test())


def test_a_large_record_comes_in_fragments_and_is_still_one_chunk() -> None:
    """It is made little by little; what is sent meanwhile comes after it."""

    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1_000_000)

        def fragments() -> Iterator[bytes]:
            for _ in range(200):
                yield b""
                yield bytes(100_000)

        stream.send(b"first")
        stream.send_fragments(fragments())
        stream.send(b"last")
        async with subscribed(stream) as subscription:
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert await subscription.chunk() == b"5\nfirst"
            assert await subscription.chunk() == b"20000000\n" + bytes(20_000_000)
            assert await subscription.chunk() == b"4\nlast"
            stream.send(b"then")
            assert await subscription.chunk() == b"4\nthen"
            stream.send_fragments([b"sm", b"all"])
            stream.send(b"over")
            assert [await subscription.chunk(), await subscription.chunk()] == [b"5\nsmall", b"4\nover"]
            stream.close()
            assert await subscription.chunk() == b""

    run(test)


def test_others_have_their_turn_while_a_large_record_is_made() -> None:
    async def test() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        def fragments() -> Iterator[bytes]:
            for _ in range(20):
                until_s = time.perf_counter() + 2 * PAUSE_S
                while time.perf_counter() < until_s:
                    pass
                seen.append(turns)
                yield b"x"

        seen: list[int] = []
        stream = RecordStream()
        stream.send_fragments(fragments())
        async with subscribed(stream) as subscription:
            other = asyncio.create_task(others())
            await subscription.reader.readuntil(b"\r\n\r\n")
            assert await subscription.chunk() == b"20\n" + b"x" * 20
            other.cancel()
        assert all(later > earlier for earlier, later in itertools.pairwise(seen))

    run(test)


def test_what_waits_behind_a_large_record_is_bounded() -> None:
    async def test() -> None:
        stream = RecordStream(backlog_bytes_max=1_000_000)
        stream.send_fragments([b"large"])
        for _ in range(12 * BURST):
            stream.send(bytes(100_000))
        assert stream.closed
        async with subscribed(stream) as subscription:
            assert (await subscription.reader.read()).endswith(b"\r\n\r\n0\r\n\r\n")  # Headers, and no record.

    run(test)


def test_a_subscriber_that_leaves_in_the_middle_of_a_large_record_ends_it() -> None:
    async def test() -> None:
        stream = RecordStream()
        stream.send_fragments(iter([bytes(1_000_000)] * 50))
        async with subscribed(stream) as subscription:
            await subscription.reader.readexactly(1_000_000)
            subscription.writer.transport.abort()
            await subscription.ended.wait()
            assert stream.closed

    run(test)
