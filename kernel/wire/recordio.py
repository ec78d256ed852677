"""RecordIO, the framing of streams: decimal length, line feed, that many bytes (spec: mesos-v1, section 1.3). No I/O."""

from __future__ import annotations

from kernel.errors import PeerError

_HEADER_BYTES_MAX = 20


class BadRecord(PeerError):
    """The bytes are not RecordIO, or a record is larger than allowed."""


def frame(payload: bytes) -> bytes:
    """Return the payload as one record. It must not be empty."""
    assert payload, "a record is never empty"
    return b"%d\n%b" % (len(payload), payload)


class Decoder:
    """Takes records out of bytes that come in pieces, however they are cut.

    limit_bytes: the largest payload taken. Keeps at most one incomplete record of it. records_max: how many records are taken
    of a stream that is not to be endless; one more makes it a bad one.
    """

    __slots__ = ("_buffer", "_due", "_error", "_left", "_limit_bytes")

    def __init__(self, limit_bytes: int, records_max: int | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._left = -1 if records_max is None else records_max  # Below 0 it never comes to 0.
        self._buffer = bytearray()
        self._due = 0  # Bytes of the record begun; 0: its length is not known yet.
        self._error: BadRecord | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads that are complete now, in order.

        Records before a bad one are still returned; BadRecord is raised by this call when there are none, else by the next.
        """
        if self._error is not None:
            raise self._error
        buffer = self._buffer
        buffer += piece
        payloads: list[bytes] = []
        position = 0
        try:
            while True:
                if not self._due:
                    end = buffer.find(b"\n", position, position + _HEADER_BYTES_MAX + 1)
                    self._check_header(buffer[position : end if end >= 0 else position + _HEADER_BYTES_MAX + 1], complete=end >= 0)
                    if end < 0:
                        break
                    position = end + 1
                if len(buffer) - position < self._due:
                    break
                payloads.append(bytes(memoryview(buffer)[position : position + self._due]))
                position += self._due
                self._due = 0
        except BadRecord as error:
            self._error = error
            if not payloads:
                raise
        del buffer[:position]
        return payloads

    def finish(self) -> None:
        """The stream has ended. Raises BadRecord when it was bad or ended within a record."""
        if self._error is not None:
            raise self._error
        if self._due or self._buffer:
            raise BadRecord("the stream ended within a record")

    def _check_header(self, header: bytearray, *, complete: bool) -> None:
        """Take the length from a complete header; refuse as soon as it cannot become one."""
        if (header and not header.isdigit()) or len(header) > _HEADER_BYTES_MAX or (complete and not header):
            raise BadRecord(f"a record must start with its length in decimal digits and a line feed, not {bytes(header[:20])!r}")
        if not complete:
            return
        if self._left == 0:
            raise BadRecord("there are too many records")
        self._left -= 1
        self._due = int(header)
        if not 0 < self._due <= self._limit_bytes:
            raise BadRecord(f"a record has 1 to {self._limit_bytes} bytes, this one claims {self._due}")
