"""The engine's log of a container, copied into its sandbox without loss or doubling, also over a restart in its middle. Pure.

The engine repeats its log from an instant on, never from a byte. So beside the files we keep, for each stream, the time of its last entry
and how long the file was before it and after it. What a file has beyond that was written after the note: so many bytes are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

HEADER_BYTES = 8  # The stream's number, three zeros, the length in four bytes.
STREAMS = {1: "stdout", 2: "stderr"}
SLACK_NS = 1_000_000_000  # Entries of two streams may be some time out of order.


class Mark(Struct, frozen=True):
    """Where a stream's file stands. at: the time of its last entry, as the engine writes it, which sorts as text; empty for none.
    before, total: bytes of the file before the first entry of that time, and after the last."""

    at: str = ""
    before: int = 0
    total: int = 0


class Marks(Struct, frozen=True):
    """What is kept of a container."""

    stdout: Mark = Mark()
    stderr: Mark = Mark()

    @property
    def since(self) -> str:
        """From when on the engine is to repeat its log: `seconds.nanoseconds`."""
        latest = max(self.stdout.at, self.stderr.at)
        if not latest:
            return "0"
        at = max(0, nanoseconds(latest) - SLACK_NS)
        return f"{at // 10**9}.{at % 10**9:09}"


class Entry(Struct, frozen=True, gc=False):
    """at: when it was written, as the engine tells it. data: bytes of the container, whole lines or parts of long ones."""

    stream: str
    at: str
    data: bytes


class Entries:
    """Takes the engine's stream apart, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Entry]:
        """The entries that are whole by now. Raises ValueError for what is no log with times."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER_BYTES:
            end = start + HEADER_BYTES + int.from_bytes(buffer[start + 4 : start + HEADER_BYTES], "big")
            if len(buffer) < end:
                break
            stream = STREAMS.get(buffer[start])
            at, space, text = bytes(buffer[start + HEADER_BYTES : end]).partition(b" ")
            if stream is None or not space:
                raise ValueError("not a log with times")
            yield Entry(stream, at.decode("ascii"), text)
            start = end
        del buffer[:start]


class Follower:
    """What of one stream is still to be written, when the log is told from `Marks.since` on and its file has `size` bytes."""

    def __init__(self, mark: Mark, since: str, size: int) -> None:
        told_again = bool(mark.at) and nanoseconds(mark.at) >= _parse(since)
        self._from = mark.at if told_again else ""
        self._skip = max(0, size - (mark.before if told_again else mark.total))
        self._mark = mark
        self._at, self._before, self._total = ("", mark.before, mark.before) if told_again else (mark.at, mark.before, mark.total)

    @property
    def mark(self) -> Mark:
        """What to note. Until the log has come to where the last note was made, that one holds."""
        return self._mark if self._from else Mark(self._at, self._before, self._total)

    def take(self, entry: Entry) -> bytes:
        """What of this entry the file does not have yet."""
        if self._from:
            if entry.at < self._from:
                return b""
            self._from = ""  # Times may go back: from here on the order counts.
        if entry.at != self._at:
            self._at, self._before = entry.at, self._total
        self._total += len(entry.data)
        if self._skip:
            passed = min(self._skip, len(entry.data))
            self._skip -= passed
            return entry.data[passed:]
        return entry.data


def nanoseconds(at: str) -> int:
    """An instant as the engine writes it (`2026-01-31T12:00:00.123456789Z`), since 1970."""
    whole, _, fraction = at.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction.ljust(9, "0")[:9] or "0")


def _parse(since: str) -> int:
    seconds, _, fraction = since.partition(".")
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0") if fraction else "0")
