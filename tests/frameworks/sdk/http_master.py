"""A master as the edge sees it: real sockets, answers made by the test. One SUBSCRIBE stream at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kernel.wire import codec, recordio
from kernel.wire.scheduler import Call, Event, Subscribed

Answer = tuple[int, dict[str, str], bytes]


class HttpMaster:
    """calls: all that came in batches or alone. events: what a SUBSCRIBE is answered with at first."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.batches: list[int] = []
        self.headers: list[dict[str, str]] = []
        self.subscribed: list[Call] = []
        self.on_call: Callable[[Call], list[Event]] = lambda call: []
        self.answer_subscribe: Callable[[], Answer | None] = lambda: None  # Something else than a stream.
        self.answer_calls: Callable[[str, list[Call]], Answer] = lambda media, calls: (202, {}, b"")
        self.unanswered = 0  # Requests that were answered with status 0: not at all.
        self.port = 0
        self._server: asyncio.Server | None = None
        self._streams: list[asyncio.StreamWriter] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> HttpMaster:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for stream in self._streams:
            stream.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, *events: Event) -> None:
        for event in events:
            record = recordio.frame(codec.encode(event))
            self._streams[-1].write(b"%x\r\n%b\r\n" % (len(record), record))

    def hang_up(self) -> None:
        self._streams[-1].close()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that a call brings about."""
        async with asyncio.timeout(10):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers["content-length"]))
                self.headers.append(headers)
                if headers["content-type"] == "application/recordio":
                    calls = [codec.decode(record, Call) for record in recordio.Decoder(1 << 24).feed(body)]
                else:
                    calls = [codec.decode(body, Call)]
                if calls[0].type == "SUBSCRIBE":
                    if await self._subscribe(writer, calls[0]):
                        return
                    continue
                status, more, text = self.answer_calls(headers["content-type"], calls)
                if status == 202:
                    self.calls += calls
                    self.batches.append(len(calls))
                if status:
                    await self._answer(writer, (status, more, text))
                else:
                    self.unanswered += 1
                if status == 202:
                    for call in calls:
                        self.send(*self.on_call(call))
                self._changed.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _subscribe(self, writer: asyncio.StreamWriter, call: Call) -> bool:
        self.subscribed.append(call)
        other = self.answer_subscribe()
        self._changed.set()
        if other is not None:
            await self._answer(writer, other)
            return False
        self._streams.append(writer)
        writer.write(b"HTTP/1.1 200 OK\r\nMesos-Stream-Id: s%d\r\nTransfer-Encoding: chunked\r\n\r\n" % len(self._streams))
        assert call.framework_id is not None
        self.send(Event(type="SUBSCRIBED", subscribed=Subscribed(call.framework_id, 15.0)), Event(type="HEARTBEAT"))
        return True

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer) -> None:
        status, headers, text = answer
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(text)}", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + text)
        await writer.drain()
