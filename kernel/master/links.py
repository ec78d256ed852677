"""The master's end of the agent links: WebSockets that carry frames of messages (`kernel.wire.agent`).

Knows bytes and their order; what the messages mean is the core's matter. All messages of one turn of the main
loop to one agent go out as one frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from kernel.errors import KernelError, PeerError
from kernel.mainloop import MainLoop
from kernel.master.effects import FromAgent, LinkClosed
from kernel.net.request import Request
from kernel.net.websocket import PROTOCOL_ERROR, WebSocket, accept, binary_frame
from kernel.wire.agent import AgentFrame, AgentMessage, MasterFrame, MasterMessage
from kernel.wire.link import FrameOrder, Verdict

log = logging.getLogger(__name__)

FRAME_BYTES_MAX = 16 * 1024 * 1024
BACKLOG_BYTES_MAX = 16 * 1024 * 1024  # An agent that leaves more unread is cut off and registers anew.
REGISTER_S = 10.0  # How soon after connecting the first frame must be here.

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AgentFrame)


class _Link(WebSocket):
    """One agent's connection. number: from 1, given when it begins. outbox: what the next frame holds. ending: no more is sent."""

    def __init__(self, links: Links, remote: str | None) -> None:
        super().__init__(FRAME_BYTES_MAX)
        self.order = FrameOrder()
        self.outbox: list[MasterMessage] = []
        self.ending = False
        self.number = 0
        self._links, self._remote = links, remote
        self._deadline: asyncio.TimerHandle | None = None

    def begun(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(REGISTER_S, self._expire)
        self._links.begun(self)

    def received(self, message: bytes) -> None:
        self._relax()
        try:
            frame = _decoder.decode(message)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._broken(f"a frame that cannot be read: {error}") from error
        verdict = self.order.check(frame.number)
        if verdict is Verdict.BROKEN:
            raise self._broken(f"frame {frame.number} came after frame {self.order.received}")
        if verdict is Verdict.TAKE:
            self._links.heard(self, frame.messages)

    def ended(self) -> None:
        self._relax()
        self._links.ended(self)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        self.close(PROTOCOL_ERROR, str(self._broken(f"nothing came within {REGISTER_S:g} s")))

    def _broken(self, reason: str) -> PeerError:
        log.warning("closing the link of an agent at %s: %s", self._remote, reason)
        return PeerError(reason)


class Links:
    """All connections of agents, by number."""

    def __init__(self, loop: Callable[[], MainLoop]) -> None:
        """loop: gives the main loop of the master that leads. While it is full, links are not read."""
        self._loop = loop
        self._links: dict[int, _Link] = {}
        self._dirty: dict[int, _Link] = {}
        self._paused: list[_Link] = []
        self._resuming: asyncio.Task[None] | None = None
        self._last = 0

    def __len__(self) -> int:
        return len(self._links)

    def send(self, link: int, message: MasterMessage) -> None:
        """Gather a message for the link's next frame; dropped when the link is gone, as any frame may be."""
        found = self._links.get(link)
        if found is not None and not found.ending:
            found.outbox.append(message)
            self._dirty[link] = found

    def close(self, link: int, reason: str = "") -> None:
        """End the link after what was sent on it. reason: what its agent did, when it is to blame."""
        found = self._links.get(link)
        if found is not None:
            if reason:
                log.warning("closing link %d of an agent: %s", link, reason)
            found.ending = True
            self._dirty[link] = found

    def flush(self) -> None:
        """Send what was gathered, each link's as one frame."""
        for link in self._dirty.values():
            outbox, link.outbox = link.outbox, []
            if outbox:
                _write(link, outbox)
            if link.ending:
                link.close()
        self._dirty.clear()

    async def serve(self, request: Request) -> NoReturn:
        """Make the connection a link; for the HTTP server it ends here. Raises PeerError, Unavailable."""
        await accept(request, _Link(self, request.remote))

    # ---- Told by the links ------------------------------------------------------------------------------

    def begun(self, link: _Link) -> None:
        self._last += 1
        link.number = self._last
        self._links[link.number] = link

    def heard(self, link: _Link, messages: Sequence[AgentMessage]) -> None:
        """Hand in what an agent said. Raises PeerError when nobody listens any more."""
        try:
            loop = self._loop()
        except KernelError as error:
            raise PeerError(str(error)) from error
        for message in messages:
            loop.post(FromAgent(link.number, message))
        if loop.full:
            link.transport.pause_reading()
            self._paused.append(link)
            if self._resuming is None:
                self._resuming = asyncio.create_task(self._resume(loop))

    def ended(self, link: _Link) -> None:
        del self._links[link.number]
        self._dirty.pop(link.number, None)
        try:
            self._loop().post(LinkClosed(link.number))
        except KernelError:  # Another master leads: it is nobody's business here.
            pass

    async def _resume(self, loop: MainLoop) -> None:
        """Read the links again once there is room."""
        await loop.room()
        self._resuming = None
        paused, self._paused = self._paused, []
        for link in paused:
            if not link.transport.is_closing():
                link.transport.resume_reading()


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
