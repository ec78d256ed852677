"""Timers: how long things take."""

from __future__ import annotations

from kernel.metrics import SAMPLES_MAX, Tally, Timer


def test_nothing_measured_is_nothing_told() -> None:
    assert Timer().numbers("x_ms") == {}


def test_one_sample_is_told_alone() -> None:
    timer = Timer()
    timer.record(0.25, 1.0)
    assert timer.numbers("x_ms") == {"x_ms": 250.0}


def test_several_are_told_as_they_are_spread() -> None:
    timer = Timer()
    for index in range(101):
        timer.record(index / 1000, float(index))
    found = timer.numbers("x_ms")
    assert found["x_ms"] == found["x_ms/max"] == 100.0
    assert (found["x_ms/min"], found["x_ms/count"]) == (0.0, 101.0)
    assert [round(found[f"x_ms/{name}"], 6) for name in ("p50", "p90", "p95", "p99", "p999", "p9999")] == [50, 90, 95, 99, 99.9, 99.99]


def test_the_old_ones_do_not_count() -> None:
    timer = Timer(window_s=10.0)
    for at_s in (0.0, 1.0, 95.0, 100.0):
        timer.record(at_s, at_s)
    assert timer.numbers("x_ms")["x_ms/count"] == 2.0
    assert timer.total == 4


def test_memory_is_bounded() -> None:
    timer = Timer()
    for _ in range(2 * SAMPLES_MAX):
        timer.record(1.0, 1.0)
    assert timer.numbers("x_ms")["x_ms/count"] == SAMPLES_MAX
    assert timer.total == 2 * SAMPLES_MAX


def test_a_tally_keeps_sums_only() -> None:
    assert Tally().numbers("x_ms") == {}
    assert Tally().with_one(2.0).with_one(1.0).numbers("x_ms") == {
        "x_ms": 1000.0,
        "x_ms/count": 2.0,
        "x_ms/max": 2000.0,
        "x_ms/total": 3000.0,
    }
