"""Event streams: RecordIO over one chunked answer that stays open (spec: mesos-v1, section 1.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from kernel.net.request import JSON, Request

BACKLOG_BYTES_MAX = 16 * 1024 * 1024


class RecordStream:
    """One subscriber's stream of records.

    `send` never waits and may be called before `serve`: what was sent is kept until the headers are out.
    Each record is one HTTP chunk (some clients count on it). A subscriber that leaves more than
    `backlog_bytes_max` unread is cut off: it subscribes again and starts from the present.
    """

    def __init__(self, backlog_bytes_max: int = BACKLOG_BYTES_MAX) -> None:
        self.closed = False
        self._backlog_bytes_max = backlog_bytes_max
        self._early: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._chunked = True
        self._ended: asyncio.Event = asyncio.Event()
        self._beat: asyncio.TimerHandle | None = None

    def send(self, payload: bytes) -> None:
        """Send one record; nothing happens on a stream that is closed."""
        if self.closed:
            return
        if self._transport is None:
            self._early.append(payload)
        else:
            self._write(self._transport, payload)

    def beat(self, payload: bytes, every_s: float) -> None:
        """From now on send `payload` every so many seconds, until the stream ends."""
        if not self.closed:
            self._beat = asyncio.get_running_loop().call_later(every_s, self._next_beat, payload, every_s)

    def _next_beat(self, payload: bytes, every_s: float) -> None:
        self.send(payload)
        self.beat(payload, every_s)

    def close(self) -> None:
        """End the stream after what was sent."""
        self.closed = True
        self._ended.set()
        if self._beat is not None:
            self._beat.cancel()

    async def serve(self, request: Request, headers: Mapping[str, str], media: str = JSON) -> web.StreamResponse:
        """Answer the request with this stream; returns when it ends, is cancelled when the client goes."""
        response = web.StreamResponse(headers={"Content-Type": media, **headers})
        try:
            await response.prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the subscriber went away")
            self._chunked = request.version >= (1, 1)
            early, self._early = self._early, []
            for payload in early:
                self._write(transport, payload)
            self._transport = transport
            await self._ended.wait()
            return response
        finally:
            self.close()

    def _write(self, transport: asyncio.Transport, payload: bytes) -> None:
        if transport.is_closing():  # The subscriber hung up just now; uvloop raises on writing to what is closed.
            self.close()
            return
        if transport.get_write_buffer_size() > self._backlog_bytes_max:
            self.close()
            transport.abort()
            return
        length = b"%d\n" % len(payload)
        if self._chunked:
            transport.write(b"%x\r\n%b%b\r\n" % (len(length) + len(payload), length, payload))
        else:  # HTTP/1.0 (old proxies): the end of the connection ends the stream.
            transport.write(length + payload)
