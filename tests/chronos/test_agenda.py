"""Who is due, and when."""

from __future__ import annotations

import random

from chronos.agenda import SPAN_BITS, Agenda

SPAN_MS = 1 << SPAN_BITS


def agenda_of(dues: dict[str, int]) -> Agenda:
    agenda = Agenda(dues.get)
    for name, at_ms in dues.items():
        agenda.add(at_ms, name)
    return agenda


def test_the_earliest_is_told_until_it_is_taken() -> None:
    agenda = agenda_of({"late": 30, "early": 10, "far": 5 * SPAN_MS})
    assert agenda.first(9) is None
    assert agenda.first(10) == agenda.first(40) == (10, "early")
    assert [agenda.take(40), agenda.take(40), agenda.take(40)] == ["early", "late", None]
    assert agenda.take(5 * SPAN_MS) == "far"
    assert len(agenda) == 0


def test_what_is_far_comes_in_its_time_and_not_before() -> None:
    agenda = agenda_of({"a": 3 * SPAN_MS + 7, "b": 3 * SPAN_MS + 5, "c": 9 * SPAN_MS})
    assert agenda.first(3 * SPAN_MS + 4) is None
    assert agenda.take(3 * SPAN_MS + 5) == "b"
    assert agenda.take(3 * SPAN_MS + 6) is None
    assert agenda.take(4 * SPAN_MS) == "a"
    agenda.add(2 * SPAN_MS, "late")  # Of a time that is over already; but it is due at another now, so that has lapsed.
    assert agenda.take(4 * SPAN_MS) is None


def test_what_was_for_another_time_has_lapsed_and_the_same_twice_counts_once() -> None:
    dues = {"moved": 10, "gone": 20, "twice": 30}
    agenda = agenda_of(dues)
    agenda.add(30, "twice")
    dues["moved"] = 7 * SPAN_MS
    agenda.add(7 * SPAN_MS, "moved")
    del dues["gone"]
    assert agenda.take(100) == "twice"
    del dues["twice"]
    assert agenda.take(100) is None
    assert agenda.take(8 * SPAN_MS) == "moved"


def test_cleared_it_takes_times_that_are_over_too() -> None:
    agenda = agenda_of({"a": 5 * SPAN_MS})
    assert agenda.take(5 * SPAN_MS) == "a"
    agenda.clear()
    assert len(agenda) == 0
    agenda.add(5 * SPAN_MS, "a")
    assert agenda.first(6 * SPAN_MS) == (5 * SPAN_MS, "a")


def test_in_any_order_of_adding_all_are_taken_by_time() -> None:
    chance = random.Random(3)
    dues: dict[str, int] = {}
    agenda = Agenda(dues.get)
    now_ms, taken = 0, []
    for step in range(2000):
        name = f"job-{chance.randrange(100)}"
        dues[name] = now_ms + chance.randrange(1, 6 * SPAN_MS)
        agenda.add(dues[name], name)
        if step % 5 == 0:
            now_ms += chance.randrange(SPAN_MS)
            expected = sorted((at_ms, name) for name, at_ms in dues.items() if at_ms <= now_ms)
            while (first := agenda.first(now_ms)) is not None:
                assert agenda.take(now_ms) == first[1]
                del dues[first[1]]
                taken.append(first)
            assert taken[len(taken) - len(expected) :] == expected
    assert len(taken) > 500
