"""What schedules do where clocks change: tables reckoned by hand, and a count of every minute as the reference."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chronos.schedule import Calendar, Gap, Schedule, Window, clock_note, compile_calendar, next_runs, parse, show_time
from chronos.schedule.cron import Cron, compile_cron
from chronos.schedule.zones import UTC_ZONE, zone
from kernel.errors import CallError

NOW = 1_790_000_000_000


def instant(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def shown(text: str, name: str, after: str, count: int, gap: Gap = Gap.NEXT) -> list[str]:
    """The next runs as `26 02:30 +01:00`: day, time and offset."""
    schedule = parse(text, name, now_ms=NOW, gap=gap)
    times = [show_time(at, schedule.zone) for at in next_runs(schedule, instant(after), count)]
    return [f"{time[8:10]} {time[11:16]} {time[23:]}" for time in times]


DAILY = "30 2 * * *"
DAILY_ISO = "R/2026-01-01T02:30:00Z/P1D"  # The zone overrides the Z.


@pytest.mark.parametrize("text", [DAILY, DAILY_ISO])
def test_a_time_left_out_in_spring_runs_at_the_first_instant_after_it(text: str) -> None:
    runs = ["28 02:30 +01:00", "29 03:00 +02:00", "30 02:30 +02:00"]
    assert shown(text, "Europe/Berlin", "2026-03-27T12:00:00Z", 3) == runs
    runs = ["07 02:30 -05:00", "08 03:00 -04:00", "09 02:30 -04:00"]
    assert shown(text, "America/New_York", "2026-03-06T12:00:00Z", 3) == runs


@pytest.mark.parametrize("text", [DAILY, DAILY_ISO])
def test_or_not_at_all_where_the_schedule_says_skip(text: str) -> None:
    assert shown(text, "Europe/Berlin", "2026-03-27T12:00:00Z", 2, Gap.SKIP) == ["28 02:30 +01:00", "30 02:30 +02:00"]
    assert shown(text, "America/New_York", "2026-03-06T12:00:00Z", 2, Gap.SKIP) == ["07 02:30 -05:00", "09 02:30 -04:00"]


@pytest.mark.parametrize("text", [DAILY, DAILY_ISO])
@pytest.mark.parametrize("gap", Gap)
def test_a_time_shown_twice_in_autumn_runs_the_first_time(text: str, gap: Gap) -> None:
    runs = ["24 02:30 +02:00", "25 02:30 +02:00", "26 02:30 +01:00"]
    assert shown(text, "Europe/Berlin", "2026-10-23T12:00:00Z", 3, gap) == runs
    early = text.replace("30 2", "30 1").replace("T02", "T01")
    assert shown(early, "America/New_York", "2026-10-31T12:00:00Z", 2, gap) == ["01 01:30 -04:00", "02 01:30 -05:00"]


def test_several_times_left_out_are_one_run() -> None:
    assert shown("0,20,40 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) == ["29 03:00 +02:00", "30 02:00 +02:00"]
    assert shown("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2) == ["29 03:00 +02:00", "30 02:00 +02:00"]


def test_what_runs_every_hour_follows_the_hours_that_pass() -> None:
    spring = ["29 01:30 +01:00", "29 03:30 +02:00", "29 04:30 +02:00"]
    assert shown("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3) == spring
    autumn = ["25 02:30 +02:00", "25 02:30 +01:00", "25 03:30 +01:00"]
    assert shown("30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3) == autumn


def test_elapsed_time_knows_no_clocks() -> None:
    runs = ["29 00:00 +01:00", "29 13:00 +02:00", "30 01:00 +02:00"]
    assert shown("R/2026-03-28T00:00:00/PT12H", "Europe/Berlin", "2026-03-28T12:00:00Z", 3) == runs


def test_lord_howe_moves_by_half_an_hour() -> None:
    name = "Australia/Lord_Howe"
    assert shown("15 2 * * *", name, "2026-10-02T20:00:00Z", 2) == ["04 02:30 +11:00", "05 02:15 +11:00"]
    assert shown("15 2 * * *", name, "2026-10-02T20:00:00Z", 1, Gap.SKIP) == ["05 02:15 +11:00"]
    assert shown("45 1 * * *", name, "2026-04-03T20:00:00Z", 2) == ["05 01:45 +11:00", "06 01:45 +10:30"]
    quarters = ["05 01:30 +11:00", "05 01:45 +11:00", "05 01:30 +10:30", "05 01:45 +10:30", "05 02:00 +10:30"]
    assert shown("*/15 * * * *", name, "2026-04-04T14:15:00Z", 5) == quarters


def test_a_day_that_samoa_left_out() -> None:
    runs = ["29 10:00 -10:00", "31 00:00 +14:00", "31 10:00 +14:00"]
    assert shown("0 10 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3) == runs
    assert shown("0 10 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 2, Gap.SKIP) == ["29 10:00 -10:00", "31 10:00 +14:00"]


def test_a_zone_that_moved_for_good() -> None:
    """Moscow gave up an hour on 26 October 2014, at 02:00."""
    assert shown("30 1 * * *", "Europe/Moscow", "2014-10-24T22:00:00Z", 2) == ["26 01:30 +04:00", "27 01:30 +03:00"]


def test_a_gap_at_midnight() -> None:
    assert shown("@daily", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2) == ["04 01:00 -02:00", "05 00:00 -02:00"]


def test_far_dates_are_found_across_many_changes() -> None:
    assert shown("30 2 29 2 *", "Europe/Berlin", "2028-03-01T00:00:00Z", 2) == ["29 02:30 +01:00", "29 02:30 +01:00"]


@pytest.mark.parametrize(
    ("text", "after", "notes"),
    [
        (DAILY, "2026-03-28T12:00:00Z", ["leaves out", ""]),
        (DAILY_ISO, "2026-03-28T12:00:00Z", ["leaves out", ""]),
        (DAILY, "2026-10-24T12:00:00Z", ["twice; it runs the first time", ""]),
        (DAILY_ISO, "2026-10-24T12:00:00Z", ["twice; it runs the first time", ""]),
        ("30 * * * *", "2026-10-24T23:40:00Z", ["twice; it runs each time", "", ""]),
        ("30 * * * *", "2026-03-29T00:00:00Z", ["", ""]),
        ("0 3 * * *", "2026-03-28T12:00:00Z", ["", ""]),
        ("R/2026-01-01T00:00:00/PT30M", "2026-10-24T23:40:00Z", ["", ""]),
    ],
)
def test_people_are_told_where_clocks_change(text: str, after: str, notes: list[str]) -> None:
    schedule = parse(text, "Europe/Berlin", now_ms=NOW)
    said = told(schedule, instant(after), len(notes))
    assert all(note in text if note else not text for note, text in zip(notes, said, strict=True)), said


def told(schedule: Schedule, after_ms: int, count: int) -> list[str]:
    """The notes of the next runs."""
    return [clock_note(schedule, before, at) for before, at in pairwise([after_ms, *next_runs(schedule, after_ms, count)])]


LOST = "2026-03-29 02:30 Europe/Berlin does not exist and is skipped"
MANY = "2026-03-29 02:{} Europe/Berlin and later times before 03:00 do not exist and are skipped"


@pytest.mark.parametrize(
    ("text", "after", "notes"),
    [
        (DAILY, "2026-03-27T12:00:00Z", ["", LOST, ""]),
        (DAILY_ISO, "2026-03-27T12:00:00Z", ["", LOST, ""]),
        (DAILY, "2026-03-28T12:00:00Z", [LOST, ""]),
        (DAILY, "2026-03-29T02:00:00Z", ["", ""]),
        ("R2/2026-03-29T02:30:00/P1D", "2026-03-28T12:00:00Z", [LOST, ""]),
        ("30 2 29 3,4 *", "2026-01-01T00:00:00Z", [LOST, "", ""]),
        ("30 2,3 * * *", "2026-03-28T12:00:00Z", [LOST, ""]),
        ("0 2,3 * * *", "2026-03-28T12:00:00Z", ["2026-03-29 02:00 Europe/Berlin does not exist and is skipped", ""]),
        ("*/15 2 * * *", "2026-03-28T12:00:00Z", [MANY.format("00"), ""]),
        ("5 2 * * * 7,8", "2026-03-28T12:00:00Z", [MANY.format("05:07"), ""]),
        ("0 3 * * *", "2026-03-28T12:00:00Z", ["", ""]),
        ("30 * * * *", "2026-03-29T00:00:00Z", ["", ""]),
        ("R/2026-01-01T03:00:00/P1D", "2026-03-28T12:00:00Z", ["", ""]),
        ("R/2026-03-28T02:30:00/PT24H", "2026-03-28T12:00:00Z", ["", ""]),
        ("30 2 * 3,10 sun", "2026-03-28T12:00:00Z", [LOST, "", "", "twice; it runs the first time"]),
    ],
)
def test_people_are_told_what_is_skipped(text: str, after: str, notes: list[str]) -> None:
    said = told(parse(text, "Europe/Berlin", now_ms=NOW, gap=Gap.SKIP), instant(after), len(notes))
    assert all(note in text if note else not text for note, text in zip(notes, said, strict=True)), said


@pytest.mark.parametrize(("text", "name"), [("30 2 * 3 L0", "Europe/Berlin"), ("15 2 * 3 sun#2", "America/New_York")])
def test_a_schedule_of_nothing_but_times_that_are_skipped_is_refused(text: str, name: str) -> None:
    with pytest.raises(CallError, match=f"never runs: the clocks of {name} leave out"):
        parse(text, name, now_ms=NOW, gap=Gap.SKIP)
    assert shown(text, name, "2026-03-01T00:00:00Z", 1)


def test_what_a_calendar_or_a_start_leaves_out_is_not_skipped() -> None:
    for window in (Window(days=compile_calendar(Calendar(exclude=("2026-03-29",)))), Window(start_ms=instant("2026-03-29T02:00:00Z"))):
        schedule = parse(DAILY, "Europe/Berlin", now_ms=NOW, gap=Gap.SKIP, window=window)
        assert told(schedule, instant("2026-03-28T12:00:00Z"), 2) == ["", ""]


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "Asia/Gaza", "Europe/Dublin"]


def reference(text: str, name: str, gap: Gap, begin: int, minutes: int) -> list[int]:
    """Look at each minute of a stretch: what the wall shows, whether it showed that before, and what it left out."""
    cron, runs = compile_cron(text), []
    for seconds, at, left_out in walls(name, begin, minutes):
        made_up = gap is Gap.NEXT and not cron.hourly and any(matches(cron, local) for local in left_out)
        if made_up or (matches(cron, at) and (cron.hourly or at.fold == 0)):
            runs.append(seconds * 1000)
    return runs


def walls(name: str, begin: int, minutes: int) -> Iterator[tuple[int, datetime, list[datetime]]]:
    """Each minute of a stretch: the instant, what the wall shows, and what it left out since the minute before, in order."""
    rules = zoneinfo.ZoneInfo(name)
    before = datetime.fromtimestamp(begin, rules)
    for seconds in range(begin + 60, begin + minutes * 60 + 1, 60):
        at = datetime.fromtimestamp(seconds, rules)
        jumped = round((at.replace(tzinfo=None) - before.replace(tzinfo=None)).total_seconds()) // 60
        shown_s = at.replace(tzinfo=UTC).timestamp()
        yield seconds, at, [datetime.fromtimestamp(shown_s - back * 60, UTC) for back in range(jumped - 1, 0, -1)]
        before = at


def matches(cron: Cron, local: datetime) -> bool:
    seconds = round(local.replace(tzinfo=UTC).timestamp())
    return cron.next_local(seconds - 1) == seconds


def changes(name: str) -> list[int]:
    """Minutes near which the clocks of a zone change, 2015 to 2030."""
    rules = zoneinfo.ZoneInfo(name)
    days = range(1_420_070_400, 1_900_000_000, 86_400)
    offsets = [datetime.fromtimestamp(day, rules).utcoffset() for day in days]
    return [day for day, one, other in zip(days, offsets, offsets[1:], strict=False) if one != other]


CHANGES = {name: changes(name) for name in ZONES}
TIMES = st.one_of(
    st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23)),
    st.builds("*/{} {}-4 * * *".format, st.sampled_from([5, 7, 20]), st.integers(0, 4)),
    st.builds("{} */{} * * *".format, st.integers(0, 59), st.integers(1, 6)),
    st.builds("{}/{} * * * *".format, st.integers(0, 29), st.sampled_from([10, 15, 30])),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(ZONES), TIMES, st.sampled_from(Gap), st.integers(0, 1440))
def test_where_clocks_change_each_minute_is_looked_at(data: st.DataObject, name: str, text: str, gap: Gap, ahead: int) -> None:
    begin = data.draw(st.sampled_from(CHANGES[name])) - ahead * 60
    expected = reference(text, name, gap, begin, 3 * 1440)
    schedule = parse(text, name, now_ms=NOW, gap=gap)
    assert next_runs(schedule, begin * 1000, len(expected)) == expected


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from(ZONES), TIMES, st.integers(0, 1440))
def test_what_is_skipped_is_what_no_minute_shows(data: st.DataObject, name: str, text: str, ahead: int) -> None:
    begin, cron = data.draw(st.sampled_from(CHANGES[name])) - ahead * 60, compile_cron(text)
    runs = reference(text, name, Gap.SKIP, begin, 4 * 1440)
    lost = [
        [at for at in left_out if matches(cron, at)]
        for seconds, _, left_out in walls(name, begin, 4 * 1440)
        if not cron.hourly and seconds * 1000 <= runs[-1]
    ]
    notes = [note for note in told(parse(text, name, now_ms=NOW, gap=Gap.SKIP), begin * 1000, len(runs)) if "skipped" in note]
    assert [note.partition(name)[0] for note in notes] == [f"{times[0]:%Y-%m-%d %H:%M} " for times in lost if times]
    assert ["later times" in note for note in notes] == [len(times) > 1 for times in lost if times]


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/Argentina/San_Luis", "Antarctica/Casey", "Asia/Pyongyang", "Africa/Monrovia"])
def test_offsets_are_those_of_zoneinfo(name: str) -> None:
    rules, known = zoneinfo.ZoneInfo(name), zone(name)
    for at in range(-2_000_000_000, 4_000_000_000, 7 * 86_400 + 12_345):
        offset = datetime.fromtimestamp(at, rules).utcoffset()
        assert offset is not None
        assert known.offset(at) == offset.total_seconds()


# ---- Names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "offset_s"),
    [("", 0), ("UTC", 0), ("GMT", 0), ("PST", -8 * 3600), ("BST", 6 * 3600), ("GMT+2", 7200), ("GMT-03:30", -12_600), ("EST", -18_000)],
)
def test_names_of_java_and_offsets_are_known(name: str, offset_s: int) -> None:
    assert zone(name).offset(1_767_225_600) == offset_s


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Europe/Berlim", "Europe/Berlin"), ("america/new_york", "America/New_York"), ("Europe", ""), ("../etc/passwd", ""), ("GMT+24", "")],
)
def test_an_unknown_zone_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(CallError) as raised:
        parse("@daily", name, now_ms=NOW)
    assert f"scheduleTimeZone: '{name}' is no time zone" in str(raised.value)
    assert hint in str(raised.value)


def test_utc_is_one_zone() -> None:
    assert zone("") is zone("UTC") is UTC_ZONE
