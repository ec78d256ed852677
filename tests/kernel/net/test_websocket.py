"""The server's end of a WebSocket, byte by byte on a transport that only records. Handshake and sockets: `master/test_links.py`."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kernel.errors import PeerError
from kernel.net.websocket import PARTS_MAX, PROTOCOL_ERROR, TOO_BIG, WebSocket, binary_frame

BINARY, TEXT, CONTINUATION, CLOSE, PING = 0x82, 0x81, 0x80, 0x88, 0x89
FIRST_PART, PART = 0x02, 0x00


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def set_protocol(self, protocol: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


class Noted(WebSocket):
    """Keeps the messages; breaks at "bad"."""

    def __init__(self) -> None:
        super().__init__(100_000)
        self.messages: list[bytes] = []
        self.wire: Any = Transport()
        self.home: set[WebSocket] = set()
        self.take_over(self.wire, self.home)

    def begun(self) -> None:
        self.has_begun = True

    def received(self, message: bytes) -> None:
        if message == b"bad":
            raise PeerError("it is bad")
        self.messages.append(message)

    def ended(self) -> None:
        self.has_ended = True

    @property
    def said(self) -> tuple[int, str]:
        """With which code, and why, it closed."""
        assert self.wire.closed
        assert self.wire.written[0] == CLOSE
        return int.from_bytes(self.wire.written[2:4], "big"), self.wire.written[4:].decode()


def frame(head: int, payload: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    size = len(payload)
    length = (
        bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big") if size < 65536 else b"\xff" + size.to_bytes(8, "big")
    )
    return bytes([head]) + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 125, 126, 65535, 65536, 100_000])
def test_messages_of_any_size_come_whole(size: int) -> None:
    payload = os.urandom(size)
    socket = Noted()
    socket.data_received(frame(BINARY, payload))
    assert socket.messages == [payload]


@pytest.mark.parametrize("piece", [1, 2, 5, 7, 64, 1000])
def test_messages_come_whole_however_they_are_cut(piece: int) -> None:
    payloads = [os.urandom(size) for size in (0, 1, 5, 130, 700)]
    sent = b"".join(frame(BINARY, payload) for payload in payloads)
    socket = Noted()
    for start in range(0, len(sent), piece):
        socket.data_received(sent[start : start + piece])
    assert socket.messages == payloads


def test_a_message_may_come_in_parts_with_a_ping_between_them() -> None:
    socket = Noted()
    socket.data_received(frame(FIRST_PART, b"one ") + frame(PING, b"there?") + frame(PART, b"") + frame(CONTINUATION, b"two"))
    assert socket.messages == [b"one two"]
    assert socket.wire.written == b"\x8a\x06there?"


def test_a_closing_peer_is_answered_with_its_code() -> None:
    socket = Noted()
    socket.data_received(frame(CLOSE, (1001).to_bytes(2, "big") + b"bye") + frame(BINARY, b"late"))
    assert socket.said == (1001, "")
    assert socket.messages == []


@pytest.mark.parametrize(
    "sent",
    [
        frame(BINARY, b"bad"),
        frame(TEXT, b"text"),
        frame(CONTINUATION, b"of nothing"),
        frame(FIRST_PART, b"a") + frame(BINARY, b"b"),
        frame(0x0A, b""),
        frame(0x8B, b""),
        frame(PING, b"x" * 126),
        frame(0xC2, b""),
        b"\x82\x01x",
    ],
)
def test_what_breaks_the_rules_closes(sent: bytes) -> None:
    socket = Noted()
    socket.data_received(sent)
    code, reason = socket.said
    assert code == PROTOCOL_ERROR
    assert reason
    socket.data_received(frame(BINARY, b"late"))
    assert socket.messages == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x82\xff" + (100_001).to_bytes(8, "big") + bytes(4),
        frame(FIRST_PART, bytes(60_000)) + frame(PART, bytes(60_000)),
        frame(FIRST_PART, b"") + frame(PART, b"") * PARTS_MAX,
    ],
)
def test_what_is_too_large_closes(sent: bytes) -> None:
    socket = Noted()
    socket.data_received(sent)
    assert socket.said[0] == TOO_BIG


def test_it_stands_in_its_home_while_it_lasts() -> None:
    socket = Noted()
    assert socket.has_begun
    assert socket.home == {socket}
    socket.connection_lost(None)
    assert socket.has_ended
    assert socket.home == set()


def test_what_is_written_is_what_clients_read() -> None:
    assert binary_frame(b"ab") == b"\x82\x02ab"
    assert binary_frame(bytes(126))[:4] == b"\x82\x7e\x00\x7e"
    assert binary_frame(bytes(65536))[:10] == b"\x82\x7f" + (65536).to_bytes(8, "big")
