"""The agent's end of its link to the master: a WebSocket that is opened again whenever it ends.

Knows bytes and their order; what the messages mean is the core's matter.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec

from kernel.agent.effects import FromMaster, MasterConnected, MasterLost
from kernel.election.election import Detector, Leader
from kernel.errors import PeerError
from kernel.net import backoff
from kernel.net.auth import Credential
from kernel.wire.agent import AgentFrame, AgentMessage, MasterFrame
from kernel.wire.link import FrameOrder, Verdict

log = logging.getLogger(__name__)

PATH = "/agent-link"
FRAME_BYTES_MAX = 16 * 1024 * 1024
FRAME_BYTES_AIM = 1024 * 1024
CONNECT_S = 10.0
RETRY_S_MAX = 10.0

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(MasterFrame)


class MasterLink:
    """Stays connected to the leading master until cancelled."""

    def __init__(
        self, detector: Detector, credential: Credential | None, post: Callable[[Any], None], room: Callable[[], Awaitable[None]]
    ) -> None:
        """post, room: the main loop's; the link is not read while there is no room."""
        self._detector, self._credential, self._post, self._room = detector, credential, post, room
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._order = FrameOrder()
        self._outbox: list[AgentMessage] = []
        self._filled = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    # ---- Effects --------------------------------------------------------------------------------------

    def send(self, message: AgentMessage) -> None:
        """Gather a message for the next frame; dropped while there is no link, as any frame may be."""
        if self._socket is not None:
            self._outbox.append(message)

    def flush(self) -> None:
        """Have what was gathered sent."""
        if self._outbox:
            self._empty.clear()
            self._filled.set()

    def drop(self, reason: str) -> None:
        """End the link; a new one follows."""
        if self._socket is None:
            return
        log.warning("closing the link to the master: %s", reason)
        if (held := self._socket.get_extra_info("socket")) is None:
            return
        try:  # At once: a closing handshake would wait for a peer that may be gone. uvloop's sockets have no shutdown.
            with socket.socket(fileno=os.dup(held.fileno())) as ours:
                ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # It has ended just now.

    async def sent(self, timeout_s: float) -> None:
        """Wait until everything gathered is on its way, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass

    # ---- The connection --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected to whoever leads."""
        headers = {} if self._credential is None else {"Authorization": self._credential.header()}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S)) as session:
            while True:
                leader = await self._detector.detect(None)
                if leader is not None:
                    await self._follow(session, leader)

    async def _follow(self, session: aiohttp.ClientSession, leader: Leader) -> None:
        """Stay connected to one master until it leads no more."""
        staying = asyncio.create_task(self._stay(session, leader))
        moved = asyncio.create_task(self._detector.detect(leader))
        try:
            await asyncio.wait((staying, moved), return_when=asyncio.FIRST_COMPLETED)
            if staying.done():
                staying.result()  # It raises what nobody foresaw.
            self.drop("it leads no more")
        finally:
            for task in (staying, moved):
                task.cancel()
            await asyncio.wait((staying, moved))

    async def _stay(self, session: aiohttp.ClientSession, leader: Leader) -> None:
        """Connect, again and again."""
        failures = 0
        while True:
            try:
                async with asyncio.timeout(CONNECT_S):
                    opened = await session.ws_connect(
                        f"http://{leader.address}{PATH}",
                        max_msg_size=FRAME_BYTES_MAX,
                        timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                    )
                failures = 0
                await self._use(opened)
                log.info("the link to the master at %s ended", leader.address)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if failures == 0:
                    log.warning("cannot reach the master at %s: %s", leader.address, str(error) or "timeout")
            failures += 1
            await asyncio.sleep(backoff.delay_s(failures, random.random(), most_s=RETRY_S_MAX))

    async def _use(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._order = opened, FrameOrder()
        self._outbox.clear()
        self._post(MasterConnected())
        writer = asyncio.create_task(self._write(opened))
        try:
            await self._read(opened)
        except PeerError as error:
            log.warning("closing the link to the master: %s", error)
        finally:
            self._socket = None
            writer.cancel()
            self._empty.set()
            self._post(MasterLost())
            await opened.close()

    async def _read(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        async for received in opened:
            if received.type is not aiohttp.WSMsgType.BINARY:
                raise PeerError(f"a WebSocket message of type {received.type.name}")
            try:
                frame = _decoder.decode(received.data)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise PeerError(f"a frame that cannot be read: {error}") from error
            verdict = self._order.check(frame.number)
            if verdict is Verdict.BROKEN:
                raise PeerError(f"frame {frame.number} came after frame {self._order.received}")
            if verdict is Verdict.TAKE:
                for message in frame.messages:
                    self._post(FromMaster(message))
                await self._room()

    async def _write(self, opened: aiohttp.ClientWebSocketResponse) -> None:
        """Send what gathers, as much as there is in one frame."""
        try:
            while True:
                await self._filled.wait()
                self._filled.clear()
                outbox, self._outbox = self._outbox, []
                await self._send(opened, outbox)
                if not self._outbox:
                    self._empty.set()
        except ConnectionError:
            pass  # The reader notices too, and tells.

    async def _send(self, opened: aiohttp.ClientWebSocketResponse, messages: list[AgentMessage]) -> None:
        payload = _encode(AgentFrame(self._order.sent + 1, tuple(messages)))
        if len(payload) > FRAME_BYTES_AIM and len(messages) > 1:
            middle = len(messages) // 2
            await self._send(opened, messages[:middle])
            await self._send(opened, messages[middle:])
            return
        self._order.next_number()
        await opened.send_bytes(payload)
