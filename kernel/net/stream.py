"""Event streams: RecordIO over one chunked answer that stays open (spec: mesos-v1, section 1.3)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping

from aiohttp import web

from kernel.net.request import JSON, Request
from kernel.net.response import PIECE_BYTES, paced

BACKLOG_BYTES_MAX = 16 * 1024 * 1024
BURST = 8  # Times as much may be unread,
UNREAD_S = 10.0  # for so long.
DRAIN_S = 0.005  # How often to look whether the subscriber has read on.


class RecordStream:
    """One subscriber's stream of records.

    `send` never waits and may be called before `serve`: what was sent is kept until the headers are out.
    Each record is one HTTP chunk (some clients count on it). A subscriber that leaves more than
    `backlog_bytes_max` unread is cut off: it subscribes again and starts from the present. Not at once, for what it
    missed, or asked for (a reconciliation), may come as one burst that is larger: were it cut off, it would never catch up.
    """

    def __init__(self, backlog_bytes_max: int = BACKLOG_BYTES_MAX) -> None:
        self.closed = False
        self._backlog_bytes_max = backlog_bytes_max
        self._waiting: deque[bytes | Iterable[bytes]] = deque()  # For the headers, or behind a large record.
        self._waiting_bytes = 0
        self._behind_since_s: float | None = None  # When it was first seen to have left too much unread.
        self._direct = False  # Nothing waits: records are written as they are sent.
        self._transport: asyncio.Transport | None = None
        self._chunked = True
        self._wake: asyncio.Event = asyncio.Event()
        self._beat: asyncio.TimerHandle | None = None

    def send(self, payload: bytes) -> None:
        """Send one record; nothing happens on a stream that is closed."""
        if self.closed:
            return
        if self._direct and self._transport is not None:
            self._write(self._transport, payload)
        elif self._is_behind(self._waiting_bytes):
            self._cut_off()
        else:
            self._waiting.append(payload)
            self._waiting_bytes += len(payload)

    @property
    def unread_bytes(self) -> int:
        """What is still here; who can wait with more of it does not get cut off."""
        written = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return self._waiting_bytes + written

    def send_fragments(self, fragments: Iterable[bytes]) -> None:
        """Send one large record, rendered and written little by little; what is sent after it comes after it."""
        if not self.closed:
            self._waiting.append(fragments)
            self._direct = False
            self._wake.set()

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
        self._wake.set()
        if self._beat is not None:
            self._beat.cancel()

    def _is_behind(self, unread_bytes: int) -> bool:
        """Whether the subscriber has left too much unread, for too long."""
        if unread_bytes <= self._backlog_bytes_max:
            self._behind_since_s = None
            return False
        now_s = asyncio.get_running_loop().time()
        if self._behind_since_s is None:
            self._behind_since_s = now_s
        return now_s - self._behind_since_s > UNREAD_S or unread_bytes > BURST * self._backlog_bytes_max

    def _cut_off(self) -> None:
        self.close()
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    async def serve(self, request: Request, headers: Mapping[str, str], media: str = JSON) -> web.StreamResponse:
        """Answer the request with this stream; returns when it ends, is cancelled when the client goes."""
        response = web.StreamResponse(headers={"Content-Type": media, **headers})
        try:
            await response.prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the subscriber went away")
            self._chunked = request.version >= (1, 1)
            self._transport = transport
            while True:
                await self._write_waiting(transport)
                if self.closed:
                    return response
                self._wake.clear()
                await self._wake.wait()
        finally:
            self.close()

    async def _write_waiting(self, transport: asyncio.Transport) -> None:
        while self._waiting:
            record = self._waiting.popleft()
            if isinstance(record, bytes):
                self._waiting_bytes -= len(record)
                self._write(transport, record)
            else:
                await self._write_fragments(transport, record)
        self._direct = True

    async def _write_fragments(self, transport: asyncio.Transport, fragments: Iterable[bytes]) -> None:
        pieces = [piece async for piece in paced(b"", fragments)]  # All of it first: its length leads.
        before, after = self._framing(sum(map(len, pieces)))
        for piece in (before, *pieces, after):
            while transport.get_write_buffer_size() > PIECE_BYTES:  # noqa: ASYNC110 - a transport tells no event to others.
                await asyncio.sleep(DRAIN_S)  # The system drops a peer that stops reading, which ends this.
            if transport.is_closing():
                self.close()
                return
            transport.write(piece)

    def _framing(self, size: int) -> tuple[bytes, bytes]:
        """What comes before and after a record of so many bytes."""
        length = b"%d\n" % size
        if self._chunked:
            return b"%x\r\n%b" % (len(length) + size, length), b"\r\n"
        return length, b""  # HTTP/1.0 (old proxies): the end of the connection ends the stream.

    def _write(self, transport: asyncio.Transport, payload: bytes) -> None:
        if transport.is_closing():  # The subscriber hung up just now; uvloop raises on writing to what is closed.
            self.close()
        elif self._is_behind(transport.get_write_buffer_size()):
            self._cut_off()
        else:
            before, after = self._framing(len(payload))
            transport.write(b"%b%b%b" % (before, payload, after))
