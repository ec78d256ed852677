"""Durations as text: the grammar of spec mesos-v1, section 3.4."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.wire.durations import NANOSECONDS_MAX, format_duration, parse_duration

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5secs", 5 * SECOND),
        ("5 secs", 5 * SECOND),
        (" 5secs ", 5 * SECOND),
        ("1.5hrs", 5400 * SECOND),
        ("2secs", 2 * SECOND),
        ("15mins", 900 * SECOND),
        ("2weeks", 14 * 86400 * SECOND),
        ("1days", 86400 * SECOND),
        ("250ms", SECOND // 4),
        ("7us", 7_000),
        ("7ns", 7),
        ("0.4ns", 0),
        ("0secs", 0),
        ("-1mins", -60 * SECOND),
    ],
)
def test_a_number_and_a_unit(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "5", "secs", "5s", "5 seconds", "5SECS", "1e3secs", "5secs5secs", "nansecs", "infsecs", "1.secs", "\u0665secs"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="ns us ms secs mins hrs days weeks"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["15251weeks", "-15251weeks", "9" * 30 + "ns"])
def test_what_does_not_fit_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0ns"),
        (5 * SECOND, "5secs"),
        (900 * SECOND, "15mins"),
        (90 * SECOND, "90secs"),
        (14 * 86400 * SECOND, "2weeks"),
        (10 * 86400 * SECOND, "10days"),
        (1_500_000, "1500us"),
        (-SECOND, "-1secs"),
    ],
)
def test_written_in_the_largest_unit_that_divides(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@given(st.integers(-NANOSECONDS_MAX, NANOSECONDS_MAX))
def test_what_is_written_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds
