"""The books of the cache."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.agent.fetcher.cache import Entry, Key, Ledger, NoRoom


def key(name: str) -> Key:
    return "me", name


def keep(ledger: Ledger, name: str, size: int) -> Entry:
    entry = ledger.begin(key(name))
    ledger.reserve(entry, size)
    entry.whole = True
    return entry


def test_the_least_recently_used_goes_first() -> None:
    ledger = Ledger(30)
    first, second, _ = (keep(ledger, name, 10) for name in "abc")
    assert ledger.find(key("a")) is first
    fourth = ledger.begin(key("d"))
    assert ledger.reserve(fourth, 10) == [second]
    assert (ledger.find(key("b")), ledger.used) == (None, 30)


def test_what_is_in_use_stays() -> None:
    ledger = Ledger(20)
    first, second = keep(ledger, "a", 10), keep(ledger, "b", 10)
    first.holders = 1
    assert ledger.reserve(ledger.begin(key("c")), 10) == [second]


def test_where_there_is_no_room_nothing_changes() -> None:
    ledger = Ledger(20)
    first, _ = keep(ledger, "a", 10), keep(ledger, "b", 10)
    first.holders = 1
    third = ledger.begin(key("c"))
    with pytest.raises(NoRoom):
        ledger.reserve(third, 11)
    assert (ledger.used, third.bytes, len(ledger.entries)) == (20, 0, 3)


def test_one_users_file_is_not_anothers() -> None:
    ledger = Ledger(20)
    keep(ledger, "a", 10)
    assert ledger.find(("you", "a")) is None


def test_a_size_that_was_told_wrong_is_corrected() -> None:
    ledger = Ledger(20)
    entry = keep(ledger, "a", 5)
    ledger.reserve(entry, 15)
    assert ledger.used == 15
    ledger.reserve(entry, 1)
    assert ledger.used == 1


def test_forgetting_twice_is_harmless() -> None:
    ledger = Ledger(20)
    entry = keep(ledger, "a", 5)
    ledger.drop(entry)
    again = keep(ledger, "a", 7)
    ledger.drop(entry)
    assert ledger.find(key("a")) is again
    assert ledger.used == 7


@given(st.lists(st.tuples(st.sampled_from(["reserve", "hold", "release", "drop"]), st.sampled_from("abcd"), st.integers(0, 12))))
def test_it_is_never_more_than_its_limit(acts: list[tuple[str, str, int]]) -> None:
    ledger = Ledger(20)
    for act, name, size in acts:
        entry = ledger.find(key(name)) or ledger.begin(key(name))
        held = [other for other in ledger.entries.values() if other.holders]
        if act == "hold":
            entry.holders += 1
        elif act == "release":
            entry.holders = max(0, entry.holders - 1)
        elif act == "drop":
            ledger.drop(entry)
        else:
            try:
                ledger.reserve(entry, size)
            except NoRoom:
                ledger.drop(entry)
                held = [other for other in held if other is not entry]
            assert all(ledger.entries[other.key] is other for other in held)
        assert ledger.used == sum(other.bytes for other in ledger.entries.values()) <= 20
