"""The engine's log and the sandbox's files: each byte once, wherever the agent was killed."""

from __future__ import annotations

import random

import pytest

from kernel.agent.containerizer.docker_logs import STREAMS, Entries, Entry, Follower, Mark, Marks, nanoseconds

NUMBERS = {name: number for number, name in STREAMS.items()}


def at(i: int) -> str:
    """The i-th millisecond, as the engine writes it."""
    return f"2026-01-31T12:00:{i // 1000:02}.{i % 1000:03}000000Z"


def frame(entry: Entry) -> bytes:
    text = entry.at.encode() + b" " + entry.data
    return bytes([NUMBERS[entry.stream], 0, 0, 0]) + len(text).to_bytes(4, "big") + text


def test_entries_come_whole_however_the_stream_is_cut() -> None:
    entries = [Entry("stdout", at(1), b"a b\n"), Entry("stderr", at(2), b""), Entry("stdout", at(3), b"\0\xff no newline")]
    stream = b"".join(map(frame, entries))
    for size in range(1, len(stream) + 1):
        parser = Entries()
        found = [entry for i in range(0, len(stream), size) for entry in parser.feed(stream[i : i + size])]
        assert found == entries


@pytest.mark.parametrize("wrong", [b"\x07\0\0\0\0\0\0\x03a b", b"\x01\0\0\0\0\0\0\x03abc"])
def test_what_is_no_log_is_told(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="not a log"):
        list(Entries().feed(wrong))


def test_instants() -> None:
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert Marks().since == "0"
    assert Marks(Mark("1970-01-01T00:00:03.000000007Z", 1, 2), Mark()).since == "2.000000007"


class Engine:
    """Keeps a log; tells it from an instant on, the way of old engines (each entry is looked at) or new ones (from the first on)."""

    def __init__(self, log: list[Entry], new: bool) -> None:
        self.log, self.new = log, new

    def tell(self, since: str) -> list[Entry]:
        seconds, _, fraction = since.partition(".")
        first = int(seconds) * 10**9 + int(fraction or 0)
        late = [nanoseconds(entry.at) >= first for entry in self.log]
        if self.new:
            return self.log[late.index(True) :] if True in late else []
        return [entry for entry, is_late in zip(self.log, late, strict=True) if is_late]


@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("seed", range(150))
def test_no_byte_is_lost_or_doubled_by_kills(seed: int, new: bool) -> None:
    """Method: copies are cut off at any byte, with or without a note just before, and begun again from note and file alone."""
    chance = random.Random(seed)
    log, now = [], 0
    for _ in range(chance.randrange(1, 60)):
        now += chance.choice((0, 0, 1, 30, 700, 2500))
        stream = chance.choice(("stdout", "stdout", "stderr"))
        log.append(Entry(stream, at(now + chance.choice((0, 0, 3))), bytes(chance.randrange(97, 123) for _ in range(chance.randrange(9)))))
    for stream in STREAMS.values():  # Each stream's own times do not go back.
        times = sorted(entry.at for entry in log if entry.stream == stream)
        log = [Entry(entry.stream, times.pop(0), entry.data) if entry.stream == stream else entry for entry in log]
    engine, files, marks = Engine(log, new), dict.fromkeys(STREAMS.values(), b""), Marks()
    for attempt in range(6):
        followers = {stream: Follower(getattr(marks, stream), marks.since, len(files[stream])) for stream in files}
        for entry in engine.tell(marks.since):
            data = followers[entry.stream].take(entry)
            if attempt < 5 and chance.random() < 0.1:
                files[entry.stream] += data[: chance.randrange(len(data) + 1)]  # Killed in a write.
                break
            files[entry.stream] += data
            if chance.random() < 0.2:
                marks = Marks(**{stream: follower.mark for stream, follower in followers.items()})
    assert files == {stream: b"".join(entry.data for entry in log if entry.stream == stream) for stream in files}
