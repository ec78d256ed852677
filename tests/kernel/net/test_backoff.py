"""The delays between attempts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kernel.net.backoff import delay_s


@given(failures=st.integers(-5, 10_000), roll=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_zero_and_never_beyond_its_bound(failures: int, roll: float) -> None:
    assert 0.05 <= delay_s(failures, roll, first_s=0.1, most_s=30.0) <= 30.0


def test_delays_double_until_the_bound() -> None:
    assert [delay_s(failures, 0.0, first_s=1.0, most_s=5.0) for failures in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_roll_takes_off_up_to_half() -> None:
    assert delay_s(1, 0.5, first_s=1.0) == 0.75
