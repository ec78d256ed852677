"""Times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kernel.commands.times import parse_instant, parse_nanoseconds, show_duration, show_instant

S = 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("90", 90), ("1.5h", 5400), ("1h30m", 5400), ("2 h", 7200), ("30mins", 1800), ("2hrs", 7200), ("1d", 86400), ("0s", 0)],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_nanoseconds(text) == seconds * S


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 parsecs", "1h-30m", "nan", "inf", "1e9", "99999999999weeks", "5s x"])
def test_what_is_no_duration_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write 60s"):
        parse_nanoseconds(text)


def test_instants_are_read() -> None:
    assert parse_instant("2026-12-01T02:00+00:00") == int(datetime(2026, 12, 1, 2, tzinfo=UTC).timestamp()) * S
    assert parse_instant("2026-12-01T02:00") == int(datetime(2026, 12, 1, 2).astimezone().timestamp()) * S
    assert parse_instant("2026-12-01 02:00") == parse_instant("2026-12-01T02:00")
    assert parse_instant("+2h", 1000.0) == 8200 * S
    assert parse_instant("now", 1000.0) == 1000 * S


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-13-01", "+soon", "9999999", "0001-01-01T00:00+23:59"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_instant(text)


def test_they_are_shown() -> None:
    assert [show_duration(seconds * S) for seconds in (0, 45, 5400, 7200, 90_000)] == ["0s", "45s", "1h30m", "2h", "1d1h"]
    assert show_instant(1_700_000_000 * S).startswith("2023-11-1")
    assert show_instant(2**63 - 1).startswith("2262")
