"""RecordIO: the framing of streams (spec: mesos-v1, section 1.3)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.wire.recordio import BadRecord, Decoder, frame

LIMIT = 1_000
PAYLOADS = st.lists(st.binary(min_size=1, max_size=60), max_size=8)
CUTS = st.lists(st.integers(0, 600), max_size=12)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream, cut at these places; some pieces are empty."""
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in pairwise(places)]


def feed_all(decoder: Decoder, stream: list[bytes]) -> tuple[list[bytes], bool]:
    """The payloads got, and whether the stream was whole and good to its end."""
    payloads: list[bytes] = []
    try:
        for piece in stream:
            payloads += decoder.feed(piece)
        decoder.finish()
    except BadRecord:
        return payloads, False
    return payloads, True


def test_a_record_is_its_length_a_line_feed_and_its_bytes() -> None:
    assert frame(b'{"type":"HEARTBEAT"}') == b'20\n{"type":"HEARTBEAT"}'


def test_the_length_counts_bytes() -> None:
    assert frame("é".encode()) == b"2\n\xc3\xa9"


@given(PAYLOADS, CUTS)
def test_records_come_out_whole_and_in_order_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, payloads))
    assert feed_all(Decoder(LIMIT), pieces(stream, cuts)) == (payloads, True)


def test_one_byte_at_a_time() -> None:
    payloads = [b"a", b"\n\n", b"12\nxx", b"z" * 300]
    stream = b"".join(map(frame, payloads))
    assert feed_all(Decoder(LIMIT), [bytes([byte]) for byte in stream]) == (payloads, True)


@pytest.mark.parametrize(
    "garbage",
    [
        b"x",
        b"\n",
        b"-1\n",
        b"+1\n",
        b" 1\n",
        b"1 \n",
        b"1\r\n",
        b"0\n",
        b"00\n",
        b"1.0\n",
        b"0x1\n",
        b"{}\n",
        b"1001\n",
        b"\xd9\xa1\n",
        b"9" * 21,
        b"9" * 20 + b"\n",
        b"1" * 21 + b"\n",
    ],
)
@given(before=PAYLOADS, cuts=CUTS)
def test_garbage_is_refused_after_the_good_records_before_it(garbage: bytes, before: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, before)) + garbage + b"rest"
    assert feed_all(Decoder(LIMIT), pieces(stream, cuts)) == (before, False)


def test_the_largest_allowed_record_passes_and_one_byte_more_does_not() -> None:
    assert Decoder(5).feed(b"5\nabcde") == [b"abcde"]
    with pytest.raises(BadRecord, match="1 to 5 bytes, this one claims 6"):
        Decoder(5).feed(b"6\n")


def test_too_large_a_claim_is_refused_before_its_bytes_come() -> None:
    with pytest.raises(BadRecord):
        Decoder(LIMIT).feed(b"99999999999\n")


def test_endless_digits_are_refused_at_once() -> None:
    with pytest.raises(BadRecord):
        Decoder(LIMIT).feed(b"1" * 100_000)


def test_a_bad_stream_stays_bad() -> None:
    decoder = Decoder(LIMIT)
    assert decoder.feed(b"1\naoops\n1\nb") == [b"a"]
    for _ in range(2):
        with pytest.raises(BadRecord):
            decoder.feed(b"1\nc")
    with pytest.raises(BadRecord):
        decoder.finish()


@pytest.mark.parametrize("rest", [b"5", b"5\n", b"5\nabcd"])
def test_a_stream_that_ends_within_a_record_is_noticed(rest: bytes) -> None:
    decoder = Decoder(LIMIT)
    assert decoder.feed(frame(b"whole") + rest) == [b"whole"]
    with pytest.raises(BadRecord, match="ended within a record"):
        decoder.finish()


def test_nothing_at_all_is_a_whole_stream() -> None:
    Decoder(LIMIT).finish()


def test_records_beyond_the_number_allowed_are_not_even_taken_apart() -> None:
    decoder = Decoder(10, records_max=3)
    assert decoder.feed(frame(b"a") * 3) == [b"a"] * 3
    decoder.finish()
    with pytest.raises(BadRecord, match="too many records"):
        decoder.feed(frame(b"a"))
    decoder = Decoder(10, records_max=3)
    assert decoder.feed(frame(b"a") * 1_000_000) == [b"a"] * 3
    with pytest.raises(BadRecord, match="too many records"):
        decoder.finish()
