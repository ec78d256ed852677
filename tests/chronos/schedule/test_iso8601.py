"""Repeating intervals: what they say, where each run lies, and what Chronos' clients see of them."""

from __future__ import annotations

import itertools
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos.schedule import Gap, last_run, moved, next_run, next_runs, parse, read_duration, show_time
from chronos.schedule.zones import zone
from kernel.errors import CallError

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def shown(text: str, after: str, count: int, name: str = "") -> list[str]:
    schedule = parse(text, name, now_ms=NOW)
    return [show_time(at, schedule.zone) for at in next_runs(schedule, instant(after), count)]


def days(text: str, after: str, count: int, name: str = "") -> list[str]:
    return [time[:10] for time in shown(text, after, count, name)]


def test_months_are_reckoned_from_the_start_and_do_not_drift() -> None:
    runs = ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert days("R/2026-01-31T00:00:00Z/P1M", "2026-02-01T00:00:00Z", 4) == runs


def test_29_february_comes_back() -> None:
    assert days("R/2024-02-29/P1Y", "2026-01-01T00:00:00Z", 3) == ["2026-02-28", "2027-02-28", "2028-02-29"]


def test_a_daily_run_moved_by_a_gap_is_back_in_its_place_the_day_after() -> None:
    runs = ["2026-03-29T03:00:00.000+02:00", "2026-03-30T02:30:00.000+02:00"]
    assert shown("R/2026-01-01T02:30:00Z/P1D", "2026-03-28T12:00:00Z", 2, "Europe/Berlin") == runs


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("R/2026-01-05T00:00:00Z/P2W", ["2026-01-05", "2026-01-19", "2026-02-02"]),
        ("R/2026-01-05T00:00:00Z/P1Y2M3D", ["2026-01-05", "2027-03-08", "2028-05-11"]),
        ("R2/2026-01-05/P1D", ["2026-01-05", "2026-01-06"]),
        ("R/2026-W02-1/P1D", ["2026-01-05", "2026-01-06"]),
        ("R/20260105T000000Z/P1D", ["2026-01-05", "2026-01-06"]),
    ],
)
def test_periods_and_starts(text: str, runs: list[str]) -> None:
    assert days(text, "2026-01-01T00:00:00Z", 3)[: len(runs)] == runs


def test_mixed_periods_add_days_on_the_wall_and_hours_as_they_pass() -> None:
    runs = ["2026-03-28T12:00:00.000+01:00", "2026-03-30T00:00:00.000+02:00", "2026-03-31T12:00:00.000+02:00"]
    assert shown("R/2026-03-28T12:00:00/P1DT12H", "2026-03-28T00:00:00Z", 3, "Europe/Berlin") == runs


def test_the_zone_takes_the_place_of_the_offset_and_local_fields_stay() -> None:
    assert shown("R/2014-10-10T18:32:00Z/PT60M", "2014-10-01T00:00:00Z", 1, "PST") == ["2014-10-10T18:32:00.000-07:00"]
    assert shown("R/2014-10-10T18:32:00+05:00/PT60M", "2014-10-01T00:00:00Z", 1) == ["2014-10-10T18:32:00.000+05:00"]
    assert shown("R/2014-10-10T18:32:00/PT60M", "2014-10-01T00:00:00Z", 1) == ["2014-10-10T18:32:00.000Z"]


def test_an_empty_start_is_when_it_was_posted() -> None:
    schedule = parse("R//PT1H", now_ms=NOW)
    assert next_runs(schedule, NOW - 1, 2) == [NOW, NOW + 3_600_000]


def test_milliseconds_of_a_start_are_kept() -> None:
    assert shown("R/2026-01-01T00:00:00.089Z/PT1H", "2026-01-01T00:30:00Z", 1) == ["2026-01-01T01:00:00.089Z"]
    assert shown("R/2026-01-01T00:00:00.089/P1D", "2026-01-01T12:00:00Z", 1, "Europe/Paris") == ["2026-01-02T00:00:00.089+01:00"]


def test_repeats_count_what_has_run() -> None:
    """Rn with a start long ago runs n times from now on, as in Chronos; R0 never does."""
    schedule = parse("R3/2014-01-01T00:00:00Z/P1D", now_ms=NOW)
    assert schedule.repeats == 3
    assert len(next_runs(schedule, NOW, 10)) == 3
    assert len(next_runs(schedule, NOW, 10, left=1)) == 1
    assert next_run(schedule, NOW, left=0) is None
    assert next_runs(parse("R0/2030-01-01T00:00:00Z/P1D", now_ms=NOW), NOW, 3) == []
    assert len(next_runs(parse("R/2030-01-01T00:00:00Z/P1D", now_ms=NOW), NOW, 10)) == 10


def test_a_period_of_no_length_is_one_run() -> None:
    schedule = parse("R1/2030-01-01T00:00:00Z/P", now_ms=NOW)
    assert next_runs(schedule, NOW, 5) == [instant("2030-01-01T00:00:00Z")]
    assert next_run(schedule, instant("2030-01-01T00:00:00Z")) is None


def test_what_chronos_shows_after_launches() -> None:
    schedule = parse("R5/2026-01-01T02:30:00Z/P1D", "Europe/Berlin", now_ms=NOW)
    assert moved(schedule, instant("2026-06-02T00:30:00Z"), 3) == "R3/2026-06-02T02:30:00.000+02:00/P1D"
    assert moved(parse("R/2026-01-01T02:30:00Z/PT60M", now_ms=NOW), NOW, None) == "R/2026-09-21T14:13:20.000Z/PT60M"
    assert moved(parse("0 3 * * *", now_ms=NOW), NOW, None) == "0 3 * * *"
    assert moved(parse("@every 5m", now_ms=NOW), NOW, None) == "@every 5m"


def test_a_moved_text_reads_back_as_the_same_runs() -> None:
    schedule = parse("R/2026-01-01T02:30:00Z/P1D", "Europe/Berlin", now_ms=NOW)
    at = next_run(schedule, NOW)
    assert at is not None
    again = parse(moved(schedule, at, None), "Europe/Berlin", now_ms=0)
    assert next_runs(again, NOW, 400) == next_runs(schedule, NOW, 400)


PERIODS = st.sampled_from(["P1M", "P3M", "P1Y", "P1D", "P2W", "P1M1D", "P5D", "P1DT6H", "PT36H", "PT7S", "P1Y2M3DT4H5M6S"])


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(datetime(1971, 1, 1), datetime(2030, 1, 1)),
    PERIODS,
    st.sampled_from(["", "Europe/Berlin", "Australia/Lord_Howe"]),
    st.sampled_from(Gap),
    st.integers(0, 2_000_000_000_000),
)
def test_runs_ascend_and_none_is_left_out(start: datetime, period: str, name: str, gap: Gap, after: int) -> None:
    """However late one begins to ask, the runs are those one would have met by going on from the start."""
    schedule = parse(f"R/{start.isoformat()}/{period}", name, now_ms=0, gap=gap)
    runs = next_runs(schedule, after, 5)
    assert runs == sorted(set(runs))
    assert runs[0] > after
    for earlier, later in itertools.pairwise(runs):
        assert next_run(schedule, later - 1) == later
        assert next_run(schedule, (earlier + later) // 2) == later


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["*/7 * * * *", "30 2 * * 1", "R/2020-01-31T00:00:00Z/P1M", "R/2020-01-01T00:00:00/P1D", "R/2020-01-01/PT50M"]),
    st.data(),
)
def test_the_last_run_is_the_last(text: str, data: st.DataObject) -> None:
    schedule = parse(text, "Europe/Berlin", now_ms=0)
    after = data.draw(st.integers(1_600_000_000_000, 1_700_000_000_000))
    until = after + data.draw(st.integers(0, 5_000_000_000))
    found, at = None, next_run(schedule, after)
    while at is not None and at <= until:
        found, at = at, next_run(schedule, at)
    assert last_run(schedule, after, until) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("R/2026-01-01T00:00:00Z", "cannot be read: R[n]/START/PERIOD is due"),
        ("R-1/2026-01-01T00:00:00Z/P1D", "cannot be read"),
        ("R/2026-13-01T00:00:00Z/P1D", "is no time"),
        ("R/2026-02-30T00:00:00Z/P1D", "is no time"),
        ("R/soon/P1D", "is no time"),
        ("R/2026-01-01T00:00:00Z/P1X", "is no period"),
        ("R/2026-01-01T00:00:00Z/P-1D", "is no period"),
        ("R/2026-01-01T00:00:00Z/PT0.5S", "too frequent: at least 1 s"),
        ("R/2026-01-01T00:00:00Z/PT1.0005S", "finer than milliseconds"),
        ("R/2026-01-01T00:00:00Z/P", "a period of no length, which only R1 allows"),
        ("R/2026-01-01T00:00:00Z/PT0S", "a period of no length"),
        ("R/0001-01-01T00:00:00Z/P1D", "beyond what can be reckoned"),
        ("R99999999999/2026-01-01T00:00:00Z/P1D", "repeats too often"),
        ("R/" + "9" * 100_000 + "/P1D", "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(CallError) as raised:
        parse(text, now_ms=NOW)
    assert str(raised.value).startswith("schedule: ")
    assert said in str(raised.value)


@given(st.text(alphabet="R0123456789/-:TZPYMWDHS+. ", max_size=60).map("R{}".format))
def test_a_text_is_read_or_refused_by_a_call_error(text: str) -> None:
    try:
        schedule = parse(text, "Europe/Berlin", now_ms=NOW)
    except CallError:
        return
    next_runs(schedule, NOW, 3)


def test_the_end_of_the_calendar_is_the_end_of_runs() -> None:
    late = instant("9999-12-01T00:00:00Z")
    assert len(next_runs(parse("R/2026-01-01T00:00:00Z/P1M", now_ms=NOW), late, 10)) <= 1
    assert len(next_runs(parse("@monthly", "Europe/Berlin", now_ms=NOW), late, 10)) <= 1
    assert next_run(parse("R/2026-01-01T00:00:00Z/P999999999Y", now_ms=NOW), NOW) is None


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (90, 90_000),
        (0.5, 500),
        ("90s", 90_000),
        ("1h30m", 5_400_000),
        ("1d", 86_400_000),
        ("PT15M", 900_000),
        ("P1D", 86_400_000),
        ("250ms", 250),
    ],
)
def test_durations(value: float | str, ms: int) -> None:
    assert read_duration(value, "f") == ms


@pytest.mark.parametrize("value", ["", "soon", "90", "5 minutes", "P1M", -1, float("nan"), float("inf"), "1s" * 500])
def test_what_is_no_duration_is_refused(value: float | str) -> None:
    with pytest.raises(CallError, match="f: "):
        read_duration(value, "f")


def test_times_are_shown_with_the_offset_of_their_zone() -> None:
    assert show_time(NOW, zone("America/St_Johns")) == "2026-09-21T11:43:20.000-02:30"
    assert show_time(NOW, zone("Europe/London")) == "2026-09-21T15:13:20.000+01:00"
