"""The master's end of the agent links: WebSockets that carry frames of messages (`kernel.wire.agent`).

Knows bytes and their order; what the messages mean is the core's matter. All messages of one turn of the main
loop to one agent go out as one frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from kernel.errors import PeerError, Unavailable
from kernel.master.effects import FromAgent, LinkClosed
from kernel.net.request import Request
from kernel.wire.agent import AgentFrame, MasterFrame, MasterMessage
from kernel.wire.link import FrameOrder, Verdict

log = logging.getLogger(__name__)

FRAME_BYTES_MAX = 16 * 1024 * 1024
BACKLOG_BYTES_MAX = 16 * 1024 * 1024  # An agent that leaves more unread is cut off and registers anew.
REGISTER_S = 10.0  # How soon after connecting the first frame must be here.

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AgentFrame)


class _Link:
    __slots__ = ("closing", "order", "outbox", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.order = FrameOrder()
        self.outbox: list[MasterMessage] = []
        self.closing = False


class Links:
    """All connections of agents, by number."""

    def __init__(self, post: Callable[[Any], None], room: Callable[[], Awaitable[None]]) -> None:
        """post, room: the main loop's; a link is not read while there is no room."""
        self._post, self._room = post, room
        self._links: dict[int, _Link] = {}
        self._dirty: dict[int, _Link] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._links)

    def send(self, link: int, message: MasterMessage) -> None:
        """Gather a message for the link's next frame; dropped when the link is gone, as any frame may be."""
        found = self._links.get(link)
        if found is not None and not found.closing:
            found.outbox.append(message)
            self._dirty[link] = found

    def close(self, link: int, reason: str = "") -> None:
        """End the link after what was sent on it. reason: what its agent did, when it is to blame."""
        found = self._links.get(link)
        if found is not None:
            if reason:
                log.warning("closing link %d of an agent: %s", link, reason)
            found.closing = True
            self._dirty[link] = found

    def flush(self) -> None:
        """Send what was gathered, each link's as one frame."""
        for link in self._dirty.values():
            outbox, link.outbox = link.outbox, []
            if outbox:
                _write(link, outbox)
            if link.closing:
                link.transport.close()  # After what is buffered; the reader's task ends by it.
        self._dirty.clear()

    async def serve(self, request: Request) -> web.StreamResponse:
        """Read one agent's frames until the link ends, however it ends."""
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False, timeout=1.0)
        if not socket.can_prepare(request):
            raise PeerError("the agent link is a WebSocket")
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            raise Unavailable("the agent went away")
        self._last += 1
        number, link = self._last, _Link(transport)
        self._links[number] = link
        try:
            await self._read(socket, number, link)
        except PeerError as error:
            log.warning("closing the link of an agent at %s: %s", request.remote, error)
            await socket.close(code=1002, message=str(error).encode()[:120])
        finally:
            del self._links[number]
            self._dirty.pop(number, None)
            self._post(LinkClosed(number))
        return socket

    async def _read(self, socket: web.WebSocketResponse, number: int, link: _Link) -> None:
        try:
            received = await socket.receive(timeout=REGISTER_S)
        except TimeoutError:
            raise PeerError(f"nothing came within {REGISTER_S:g} s") from None
        while received.type is WSMsgType.BINARY:
            try:
                frame = _decoder.decode(received.data)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise PeerError(f"a frame that cannot be read: {error}") from error
            verdict = link.order.check(frame.number)
            if verdict is Verdict.BROKEN:
                raise PeerError(f"frame {frame.number} came after frame {link.order.received}")
            if verdict is Verdict.TAKE:
                for message in frame.messages:
                    self._post(FromAgent(number, message))
                await self._room()
            received = await socket.receive()
        if received.type is WSMsgType.TEXT:
            raise PeerError("frames are binary")
        if received.type is WSMsgType.ERROR:
            raise PeerError(f"the WebSocket broke: {received.data}")


def _write(link: _Link, messages: Sequence[MasterMessage]) -> None:
    transport = link.transport
    if transport.is_closing():  # The agent hung up just now; uvloop raises on writing to what is closed.
        return
    if transport.get_write_buffer_size() > BACKLOG_BYTES_MAX:
        transport.abort()
        return
    payload = _encoder.encode(MasterFrame(link.order.sent + 1, tuple(messages)))
    if len(payload) > FRAME_BYTES_MAX and len(messages) > 1:
        middle = len(messages) // 2
        _write(link, messages[:middle])
        _write(link, messages[middle:])
        return
    link.order.next_number()
    transport.write(binary_frame(payload))


def binary_frame(payload: bytes) -> bytes:
    """Return a whole WebSocket message as a server sends it: binary, one frame, not masked (RFC 6455, section 5.2).

    Written straight to the socket, it costs no task per link and never waits.
    """
    size = len(payload)
    if size < 126:
        return b"\x82%c%b" % (size, payload)
    if size < 65536:
        return b"\x82\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x82\x7f%b%b" % (size.to_bytes(8, "big"), payload)
