"""What takes slots away from a schedule, a start, an end, a calendar; and what delays a run within its slot."""

from __future__ import annotations

from datetime import datetime

import pytest

from chronos.schedule import Calendar, Window, compile_calendar, jitter_ms, next_run, next_runs, parse, read_instant, show_time, zone
from kernel.errors import CallError

NOW = 1_790_000_000_000


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def shown(text: str, count: int, after: str, name: str = "", **window: object) -> list[str]:
    schedule = parse(text, name, now_ms=NOW, window=Window(**window))  # type: ignore[arg-type]
    return [show_time(at, schedule.zone)[:16] for at in next_runs(schedule, instant(after), count)]


def calendar(*, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> object:
    return compile_calendar(Calendar(include=include, exclude=exclude))


def test_excluded_dates_ranges_weekdays_and_days_of_each_year() -> None:
    days = calendar(exclude=("2026-12-24/2026-12-28", "--01-01", "sat-sun"))
    runs = ["2026-12-22T06:00", "2026-12-23T06:00", "2026-12-29T06:00", "2026-12-30T06:00", "2026-12-31T06:00", "2027-01-04T06:00"]
    assert shown("0 6 * * *", 6, "2026-12-22T00:00:00Z", days=days) == runs


def test_with_included_days_no_other_is_allowed() -> None:
    days = calendar(include=("2026-06-30", "--03-31", "Friday"), exclude=("2026-07-03",))
    runs = ["2026-06-26T00:00", "2026-06-30T00:00", "2026-07-10T00:00"]
    assert shown("@daily", 3, "2026-06-25T12:00:00Z", days=days) == runs


def test_days_are_those_of_the_zone() -> None:
    days = calendar(exclude=("2026-12-25",))
    assert shown("0 * * * *", 2, "2026-12-24T14:30:00Z", "Asia/Tokyo", days=days) == ["2026-12-26T00:00", "2026-12-26T01:00"]


def test_calendars_hold_for_intervals_too() -> None:
    days = calendar(exclude=("sat", "sun"))
    runs = ["2026-01-02T18:00", "2026-01-05T00:00", "2026-01-05T06:00"]
    assert shown("R/2026-01-01T00:00:00Z/PT6H", 3, "2026-01-02T12:00:00Z", days=days) == runs


def test_a_long_range_is_leapt_over() -> None:
    days = calendar(exclude=("2026-01-02/2090-12-31",))
    runs = ["2026-01-01T23:59", "2091-01-01T00:00"]
    assert [time[:16] for time in shown("* * * * * *", 2, "2026-01-01T23:59:58Z", days=days)] == runs


def test_start_is_in_and_end_is_out() -> None:
    window = {"start_ms": instant("2026-05-01T00:00:00Z"), "end_ms": instant("2026-05-01T02:00:00Z")}
    assert shown("0 * * * *", 9, "2020-01-01T00:00:00Z", **window) == ["2026-05-01T00:00", "2026-05-01T01:00"]


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-05-01", False, "2026-05-01T00:00:00+02:00"),
        ("2026-05-01", True, "2026-05-02T00:00:00+02:00"),
        ("2026-05-01T12:00:00", True, "2026-05-01T12:00:00+02:00"),
        ("2026-05-01T12:00:00Z", False, "2026-05-01T12:00:00+00:00"),
        ("2026-05-01T12:00:00+05:30", False, "2026-05-01T12:00:00+05:30"),
    ],
)
def test_instants_are_of_their_own_offset_or_else_of_the_zone(text: str, end: bool, expected: str) -> None:
    assert read_instant(text, zone("Europe/Berlin"), "meseta.end", end=end) == instant(expected)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("0 6 25 12 *", {"days": calendar(exclude=("--12-25",))}),
        ("0 6 * * sat", {"days": calendar(exclude=("sat-sun",))}),
        ("0 6 1 1 *", {"days": calendar(include=("--12-25",))}),
        ("0 6 * * *", {"days": calendar(exclude=("sun-sat",))}),
        ("@yearly", {"start_ms": instant("2026-02-01T00:00:00Z"), "end_ms": instant("2026-12-31T00:00:00Z")}),
        ("@daily", {"start_ms": instant("2026-02-01T00:00:00Z"), "end_ms": instant("2026-01-01T00:00:00Z")}),
        ("R/2026-01-03T06:00:00Z/P1W", {"days": calendar(include=("mon-fri",))}),
    ],
)
def test_what_can_never_run_is_refused(text: str, window: dict[str, object]) -> None:
    with pytest.raises(CallError, match="never runs between its start and end"):
        parse(text, now_ms=NOW, window=Window(**window))  # type: ignore[arg-type]


def test_what_has_ended_still_reads() -> None:
    schedule = parse("@daily", now_ms=NOW, window=Window(end_ms=instant("2021-01-01T00:00:00Z")))
    assert next_run(schedule, NOW) is None


@pytest.mark.parametrize("entry", ["2026-02-30", "12-25", "--02-31", "someday", "2026-01-02/2026-01-01", "mon-", ""])
def test_an_entry_that_is_no_day_is_named(entry: str) -> None:
    with pytest.raises(CallError) as raised:
        compile_calendar(Calendar(exclude=("sat", entry)))
    assert str(raised.value).startswith("meseta.calendar.exclude[1]: ")


def test_jitter_is_the_same_each_time_and_spreads() -> None:
    slots = range(NOW, NOW + 60_000 * 500, 60_000)
    delays = [jitter_ms("job", slot, 30_000) for slot in slots]
    assert delays == [jitter_ms("job", slot, 30_000) for slot in slots]
    assert delays != [jitter_ms("other", slot, 30_000) for slot in slots]
    assert min(delays) < 3_000
    assert max(delays) > 27_000
    assert max(delays) <= 30_000
    assert jitter_ms("job", NOW, 0) == 0
