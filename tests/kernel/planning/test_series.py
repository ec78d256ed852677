"""A value over time keeps its means, however long the time becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.planning.series import STEPS_MAX, Series


def test_steps_hold_the_mean_of_what_was_told() -> None:
    series = Series()
    series.add(0, 0.5, 1.0)
    series.add(0.5, 2.0, 0.5)
    assert series.points(2.0) == [(0.0, 0.75), (1.0, 0.5)]


def test_the_last_step_is_as_long_as_the_time_was() -> None:
    series = Series()
    series.add(0, 1.5, 1.0)
    assert series.points(1.5) == [(0.0, 1.0), (1.0, 1.0)]


@given(st.lists(st.tuples(st.floats(0.01, 500), st.floats(0, 1)), min_size=1, max_size=30))
def test_the_mean_is_that_of_the_whole_and_the_steps_are_few(parts: list[tuple[float, float]]) -> None:
    series, at_s, area = Series(), 0.0, 0.0
    for length_s, value in parts:
        series.add(at_s, at_s + length_s, value)
        at_s, area = at_s + length_s, area + length_s * value
    assert series.mean(at_s) == pytest.approx(area / at_s)
    assert len(series.points(at_s)) <= STEPS_MAX
