"""The server's end of WebSockets that carry binary messages (RFC 6455), for many connections that mostly say little.

Each is a protocol of its transport and nothing else: no task, no queue, no timer waits for it, and a message is handed over in
the very call that brought its last byte. So ten thousand of them are cheap. Extensions are not spoken, so nothing is compressed.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from typing import NoReturn

from kernel.errors import PeerError, Unavailable
from kernel.net.request import Request

NORMAL, GOING_AWAY, PROTOCOL_ERROR, TOO_BIG = 1000, 1001, 1002, 1009
PARTS_MAX = 1000  # Frames of one message.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTINUATION, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_CONTROL_BYTES_MAX = 125


class WebSocket(asyncio.Protocol):
    """One connection, from the handshake on. Subclasses say what a message means.

    transport: may be written to with what `binary_frame` makes. message_bytes_max: the largest message taken.
    """

    def __init__(self, message_bytes_max: int) -> None:
        self.transport: asyncio.Transport
        self._home: set[WebSocket] = set()
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()  # A frame of which the end is missing.
        self._due = 0  # How many bytes the buffer must have before it is worth looking at.
        self._parts: list[bytes] | None = None  # A message of several frames, as far as it is here.
        self._parts_bytes = 0
        self._closing = False

    # ---- For subclasses ---------------------------------------------------------------------------------

    def begun(self) -> None:
        """The connection is open."""
        raise NotImplementedError

    def received(self, message: bytes) -> None:
        """A whole message is here. Raises PeerError: the connection is closed with its text."""
        raise NotImplementedError

    def ended(self) -> None:
        """The connection has ended, however it did."""
        raise NotImplementedError

    # ---- For those who hold one -------------------------------------------------------------------------

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """End the connection after what was written. Nothing that comes later is looked at."""
        if not self._closing:
            self._closing = True
            if not self.transport.is_closing():
                self.transport.write(_frame(_CLOSE, code.to_bytes(2, "big") + reason.encode("ascii", "replace")[: _CONTROL_BYTES_MAX - 2]))
                self.transport.close()

    # ---- The transport's calls --------------------------------------------------------------------------

    def take_over(self, transport: asyncio.Transport, home: set[WebSocket]) -> None:
        """The connection is ours from now on. home: where it stands while it lasts."""
        self.transport, self._home = transport, home
        transport.set_protocol(self)
        home.add(self)
        self.begun()

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._home.discard(self)
        self.ended()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._due:
                return
            data, self._buffer = bytes(buffer), bytearray()
        position = 0
        try:
            while not self._closing:
                end = self._take(data, position)
                if end is None:
                    break
                position = end
        except PeerError as error:
            self.close(PROTOCOL_ERROR, str(error))
            return
        if position < len(data):
            self._buffer += data[position:] if position else data

    def _take(self, data: bytes, start: int) -> int | None:
        """Read the frame that begins at `start`; return where it ends, None when it is not all here. Raises PeerError."""
        have = len(data) - start
        if have < 2:
            self._due = 2
            return None
        head, size = data[start], data[start + 1]
        if head & 0x70:
            raise PeerError("reserved bits of a WebSocket frame are set")
        if not size & 0x80:
            raise PeerError("a WebSocket client must mask its frames")
        size &= 0x7F
        head_bytes = 6
        if size >= 126:
            size_bytes = 2 if size == 126 else 8
            head_bytes += size_bytes
            if have < head_bytes:
                self._due = head_bytes
                return None
            size = int.from_bytes(data[start + 2 : start + 2 + size_bytes], "big")
        if size > self._message_bytes_max:
            self.close(TOO_BIG, f"a message has at most {self._message_bytes_max} bytes")
            return None
        begin = start + head_bytes
        end = begin + size
        if end > len(data):
            self._due = head_bytes + size
            return None
        self._frame(head & 0x0F, bool(head & 0x80), _unmasked(data[begin:end], data[begin - 4 : begin]))
        return end

    def _frame(self, kind: int, final: bool, payload: bytes) -> None:
        if kind == _BINARY and final and self._parts is None:  # The usual case.
            self.received(payload)
        elif kind >= _CLOSE:
            self._control(kind, final, payload)
        elif kind == (_BINARY if self._parts is None else _CONTINUATION):
            parts = self._parts = self._parts or []
            parts.append(payload)
            self._parts_bytes += len(payload)
            if self._parts_bytes > self._message_bytes_max or len(parts) > PARTS_MAX:
                self.close(TOO_BIG, f"a message has at most {PARTS_MAX} frames and {self._message_bytes_max} bytes")
            elif final:
                self._parts, self._parts_bytes = None, 0
                self.received(b"".join(parts))
        else:
            raise PeerError(f"a WebSocket frame of kind {kind}, where only binary messages are spoken")

    def _control(self, kind: int, final: bool, payload: bytes) -> None:
        if not final or len(payload) > _CONTROL_BYTES_MAX or kind > _PONG:
            raise PeerError(f"a broken WebSocket control frame of kind {kind}")
        if kind == _PING and not self.transport.is_closing():
            self.transport.write(_frame(_PONG, payload))
        elif kind == _CLOSE:
            self.close(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NORMAL)


async def accept(request: Request, socket: WebSocket) -> NoReturn:
    """Answer the handshake and take the connection over from the HTTP server; the handler ends here. Raises PeerError when the
    request asks for no WebSocket, Unavailable when the client has gone."""
    headers = request.headers
    key = headers.get("Sec-WebSocket-Key", "")
    if headers.get("Upgrade", "").lower() != "websocket" or "upgrade" not in headers.get("Connection", "").lower():
        raise PeerError(f"{request.path} is spoken by WebSocket")
    if headers.get("Sec-WebSocket-Version") != "13" or not _is_key(key):
        raise PeerError(f"{request.path}: only version 13 of WebSocket is spoken")
    transport = request.transport
    if transport is None or transport.is_closing():
        raise Unavailable("the client went away")
    proof = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % proof
    )
    handler = request.protocol
    socket.take_over(transport, request.adopted)
    handler.transport = None  # It would close it.
    handler.connection_lost(None)
    await asyncio.sleep(0)  # Here the handler's task is cancelled: for the HTTP server the connection is gone.
    raise AssertionError("the HTTP server goes on with a connection that was taken over")


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    """A long number is the quickest way that Python has to combine many bytes."""
    size = len(payload)
    if mask == b"\0\0\0\0":
        return payload
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (0x80 | kind, size, payload)
    if size < 65536:
        return b"%c\x7e%b%b" % (0x80 | kind, size.to_bytes(2, "big"), payload)
    return b"%c\x7f%b%b" % (0x80 | kind, size.to_bytes(8, "big"), payload)


def binary_frame(payload: bytes) -> bytes:
    """Return a whole message as a server sends it: one frame, not masked."""
    return _frame(_BINARY, payload)
