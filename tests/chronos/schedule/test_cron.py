"""Expressions of cron: croniter is the oracle of what they mean, but for what docs/decisions/cron.md says we mean otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from croniter import CroniterError, croniter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chronos.schedule import next_run, next_runs, parse
from chronos.schedule.cron import ALIASES, compile_cron
from chronos.schedule.zones import zone
from kernel.errors import CallError

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


def times(text: str, count: int, after: str, zone_name: str = "") -> list[str]:
    begin = round(datetime.fromisoformat(after).timestamp() * 1000)
    known = zone(zone_name)
    shown = next_runs(parse(text, zone_name, now_ms=NOW), begin, count)
    return [f"{datetime.fromtimestamp(at // 1000 + known.offset(at // 1000), UTC):%Y-%m-%d %H:%M:%S %a}" for at in shown]


# ---- Against croniter -----------------------------------------------------------------------------------


def items(low: int, high: int, names: list[str] | None = None) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    shown = value.map(lambda number: names[number - low] if names is not None and number - low < len(names) else str(number))
    span = st.tuples(value, value).map(sorted).map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, high)
    return st.one_of(
        shown,
        span,
        st.builds("{}/{}".format, span, step),
        step.map("*/{}".format),
        st.builds("{}/{}".format, value, step),
    )


def field(low: int, high: int, names: list[str] | None = None, *more: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(items(low, high, names), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), lists, *more)


PLAIN_DAYS = st.one_of(st.just("*"), st.just("?"))
LAST_DAY = st.sampled_from(["L", "15,L", "28-L"])
NEAREST = st.integers(1, 31).map("{}W".format)
NTH = st.one_of(st.builds("{}#{}".format, st.integers(0, 6), st.integers(1, 5)), st.integers(0, 6).map("L{}".format))
DAY_PAIRS = st.one_of(
    st.tuples(field(1, 31, None, LAST_DAY, st.just("?")), field(0, 7, WEEKDAYS, st.just("?"))),
    st.tuples(NEAREST, PLAIN_DAYS),
    st.tuples(PLAIN_DAYS, NTH),
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    days, weekdays = draw(DAY_PAIRS)
    parts = [draw(field(0, 59)), draw(field(0, 23)), days, draw(field(1, 12, MONTHS)), weekdays]
    return " ".join(parts + draw(st.one_of(st.just([]), field(0, 59).map(lambda text: [text]))))


@settings(max_examples=300, deadline=None)
@given(expressions(), st.integers(0, 4_000_000_000))
@example("0 0 1-31 * */2", 0)
@example("0 0 1-31 * 1", 0)
@example("0 0 13 * 0-6", 0)
@example("5/7 * * * *", 0)
@example("0 0 31W 2 *", 0)
def test_it_runs_when_croniter_says(text: str, begin: int) -> None:
    try:
        oracle = croniter(text, begin)
        expected = [round(oracle.get_next(float)) for _ in range(4)]
    except CroniterError:
        with pytest.raises(CallError):
            parse(text, now_ms=NOW)
        return
    assert next_runs(parse(text, now_ms=NOW), begin * 1000, 4) == [at * 1000 for at in expected]


@settings(max_examples=80, deadline=None)
@given(expressions(), st.integers(0, 4_000_000_000), st.sampled_from(["Asia/Tokyo", "Asia/Kolkata", "Etc/GMT+7", "America/Phoenix"]))
def test_in_a_zone_whose_clocks_stay_it_runs_when_croniter_says(text: str, begin: int, name: str) -> None:
    known = zone(name)
    begin += 700_000_000  # Since then none of these has changed its clocks.
    local = datetime.fromtimestamp(begin + known.offset(begin), UTC).replace(tzinfo=None)
    try:
        oracle = croniter(text, local)
        expected = [oracle.get_next(datetime) for _ in range(3)]
    except CroniterError:
        return
    offset = known.offset(begin)
    runs = next_runs(parse(text, name, now_ms=NOW), begin * 1000, 3)
    assert runs == [(round(at.replace(tzinfo=UTC).timestamp()) - offset) * 1000 for at in expected]


@given(st.text(alphabet="0123456789*/-,#?LWlw @RHrhjanmon\t", max_size=40))
def test_a_text_is_read_or_refused_by_a_call_error(text: str) -> None:
    try:
        schedule = parse(text, now_ms=NOW)
    except CallError:
        return
    next_run(schedule, NOW)


# ---- What the issue names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("*/20 * * * *", ["2026-01-01 00:20:00 Thu", "2026-01-01 00:40:00 Thu", "2026-01-01 01:00:00 Thu"]),
        ("0 0 1 jan *", ["2027-01-01 00:00:00 Fri", "2028-01-01 00:00:00 Sat"]),
        ("30 6 * * mon-fri", ["2026-01-01 06:30:00 Thu", "2026-01-02 06:30:00 Fri", "2026-01-05 06:30:00 Mon"]),
        ("0 12 L * *", ["2026-01-31 12:00:00 Sat", "2026-02-28 12:00:00 Sat", "2026-03-31 12:00:00 Tue"]),
        ("0 12 * * 5#2", ["2026-01-09 12:00:00 Fri", "2026-02-13 12:00:00 Fri"]),
        ("0 12 * * L5", ["2026-01-30 12:00:00 Fri", "2026-02-27 12:00:00 Fri"]),
        ("0 12 15W * *", ["2026-01-15 12:00:00 Thu", "2026-02-16 12:00:00 Mon", "2026-03-16 12:00:00 Mon", "2026-04-15 12:00:00 Wed"]),
        ("0 0 29 2 *", ["2028-02-29 00:00:00 Tue", "2032-02-29 00:00:00 Sun"]),
        ("0 0 * * 7", ["2026-01-04 00:00:00 Sun"]),
        ("@weekly", ["2026-01-04 00:00:00 Sun", "2026-01-11 00:00:00 Sun"]),
        ("@Daily", ["2026-01-02 00:00:00 Fri"]),
    ],
)
def test_forms(text: str, runs: list[str]) -> None:
    assert times(text, len(runs), "2026-01-01T00:00:00Z") == runs


def test_the_sixth_field_is_the_second() -> None:
    assert times("0 3 * * * 30", 1, "2026-01-01T00:00:00Z") == ["2026-01-01 03:00:30 Thu"]


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_mean_what_croniter_makes_of_them(alias: str) -> None:
    assert next_run(parse(alias, now_ms=NOW), NOW) == round(croniter(alias, NOW / 1000).get_next(float)) * 1000


def test_every_counts_from_when_it_was_posted() -> None:
    assert next_runs(parse("@every 90s", now_ms=NOW), NOW, 2) == [NOW + 90_000, NOW + 180_000]
    assert next_run(parse("@every 1h30m", now_ms=NOW), NOW + 1) == NOW + 5_400_000


def test_of_day_of_month_and_weekday_either_is_enough() -> None:
    """As in croniter and Vixie's cron; a field such as */10 is restricted, where Vixie's takes it for a star."""
    assert times("0 0 13 * 5", 3, "2026-01-01T00:00:00Z") == [
        "2026-01-02 00:00:00 Fri",
        "2026-01-09 00:00:00 Fri",
        "2026-01-13 00:00:00 Tue",
    ]
    assert times("0 0 */10 * 1", 3, "2026-01-02T00:00:00Z") == [
        "2026-01-05 00:00:00 Mon",
        "2026-01-11 00:00:00 Sun",
        "2026-01-12 00:00:00 Mon",
    ]


def test_either_is_enough_also_with_a_numbered_weekday() -> None:
    """Deliberately otherwise: croniter forgets the day of month here."""
    assert times("0 0 13 * 5#1", 2, "2026-01-01T00:00:00Z") == ["2026-01-02 00:00:00 Fri", "2026-01-13 00:00:00 Tue"]
    assert times("0 0 15W * 5", 3, "2026-01-01T00:00:00Z") == [
        "2026-01-02 00:00:00 Fri",
        "2026-01-09 00:00:00 Fri",
        "2026-01-15 00:00:00 Thu",
    ]


def test_equal_texts_share_one_compiled_form() -> None:
    assert parse("17 4 * * *", "Europe/Paris", now_ms=1) is parse("17 4 * * *", "Europe/Paris", now_ms=NOW)


# ---- What is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("60 * * * *", "the minute '60' is not allowed: * or 0-59"),
        ("* 24 * * *", "the hour '24' is not allowed: * or 0-23"),
        ("* * 0 * *", "the day of month '0' is not allowed: * or 1-31"),
        ("* * * 13 *", "the month '13' is not allowed: * or 1-12 or jan-dec"),
        ("* * * * 8", "the day of week '8' is not allowed: * or 0-7"),
        ("* * * * fryday", "the day of week 'fryday' is not allowed"),
        ("* * * * * 61", "the second '61' is not allowed"),
        ("*/0 * * * *", "the minute '*/0' is not allowed"),
        ("5- * * * *", "the minute '5-' is not allowed"),
        ("R * * * *", "five or six fields of cron"),
        ("H * * * *", "the minute 'h' is not allowed"),
        ("1,R * * * *", "the minute '1,r' is not allowed"),
        ("* * * *", "has 4 fields: 5 are allowed (minute, hour, day of month, month, day of week), or 6, the last being the second"),
        ("0 0 * * * * *", "has 7 fields"),
        ("", "has 0 fields"),
        ("* " * 100_000, "fields"),
        ("0 0 31 2 *", "never runs"),
        ("0 0 30 feb *", "never runs"),
        ("0 0 31 4,6,9,11 *", "never runs"),
        ("@reboot", "a cluster does not start as a machine does"),
        ("@fortnightly", "@hourly, @daily"),
        ("@every", "@every 90s"),
        ("@every soon", "seconds are due"),
        ("@every 0s", "has no length"),
        ("@every 10ms", "too frequent"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(CallError) as raised:
        parse(text, now_ms=NOW)
    assert said in str(raised.value)
    assert str(raised.value).startswith("schedule: ")
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("* * * * *", 60),
        ("*/5 * * * *", 300),
        ("0 3 * * *", 86_400),
        ("0,59 * * * *", 60),
        ("59 0,1 * * *", 3_600),
        ("* * * * * */20", 20),
        ("* * * * * 0,59", 1),
        ("0 0,23 * * *", 3_600),
        ("58,59 * * * * 3,4", 1),
    ],
)
def test_how_near_two_runs_can_be(text: str, seconds: int) -> None:
    assert compile_cron(text).shortest_s == seconds


def test_too_frequent_is_what_the_limit_says() -> None:
    parse("* * * * *", now_ms=NOW, interval_ms_min=60_000)
    with pytest.raises(CallError, match="too frequent: at least 61 s"):
        parse("* * * * *", now_ms=NOW, interval_ms_min=61_000)
    with pytest.raises(CallError, match="too frequent"):
        parse("R/2026-01-01T00:00:00Z/PT30S", now_ms=NOW, interval_ms_min=60_000)
    with pytest.raises(CallError, match="too frequent"):
        parse("R/2026-01-01T00:00:00Z/P1D", "Europe/Berlin", now_ms=NOW, interval_ms_min=172_800_000)
