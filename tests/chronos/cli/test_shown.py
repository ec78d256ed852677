"""How jobs and times look to people."""

from __future__ import annotations

import pytest

from chronos.cli.jobs import tree
from chronos.cli.shown import at, lasted, short, until, what, zone_of


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0ms"), (999, "999ms"), (1000, "1s"), (4_250, "4.2s"), (200_000, "3m20s"), (7_500_000, "2h5m"), (86_400_000, "1d")]
)
def test_how_long_something_took(ms: int, text: str) -> None:
    assert lasted(ms) == text


def test_when_something_is_due() -> None:
    assert [until(at_ms, 10_000) for at_ms in (None, 5_000, 10_500, 70_000)] == ["", "now", "now", "in 1m"]


@pytest.mark.parametrize(
    ("job", "text"),
    [
        ({"schedule": "0 5 * * *", "scheduleTimeZone": "Europe/Berlin"}, "2026-07-01 14:00:00 CEST"),
        ({"schedule": "0 5 * * *"}, "2026-07-01 12:00:00 UTC"),
        ({"schedule": "R/2026-01-01T00:00:00+02:00/PT1H"}, "2026-07-01 14:00:00 UTC+02:00"),
        ({"schedule": "R//PT1H", "scheduleTimeZone": "PST"}, "2026-07-01 05:00:00 PDT"),
        ({"schedule": "R//PT1H", "scheduleTimeZone": "GMT+2"}, "2026-07-01 14:00:00 GMT+2"),
    ],
)
def test_slots_are_shown_in_the_zone_of_the_schedule(job: dict[str, str], text: str) -> None:
    assert at(1_782_907_200_000, zone_of(job)).startswith(text)


def test_what_a_job_does() -> None:
    assert what({"command": "echo", "arguments": ["a"]}) == "echo a"
    entry = {"image": "i", "parameters": [{"key": "entrypoint", "value": "/bin/sh"}]}
    assert what({"command": "", "arguments": ["-c", "date"], "container": entry}) == "/bin/sh -c date"
    assert what({"command": "", "arguments": ["--all"], "container": {"image": "tool:1"}}) == "tool:1 --all"
    assert what({"command": "", "meseta": {"http": {"url": "http://x", "method": "POST"}}}) == "POST http://x"
    assert short("a  b\nc" + "d" * 100, 10) == "a b cdd..."


def test_a_graph_as_a_tree() -> None:
    parents = {"a": [], "alone": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}
    assert tree(parents, dict.fromkeys(parents, "idle")) == [
        "a  (idle)",
        "|- b  (idle)",
        "|  `- d  (idle)",
        "|     `- e  (idle)",
        "`- c  (idle)",
        "   `- d  (see above)",
    ]
