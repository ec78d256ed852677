"""How often frameworks may call: evenly spaced by principal, a bounded queue, the rest together."""

from __future__ import annotations

import pytest

from kernel.errors import ConfigError, Unavailable
from kernel.master.rate_limits import Limit, RateLimiter, RateLimits


def test_without_limits_nobody_waits() -> None:
    limiter = RateLimiter(RateLimits())
    assert [limiter.enter("a", 10_000, 1.0) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_calls_beyond_the_rate_are_spaced_evenly() -> None:
    limiter = RateLimiter(RateLimits((Limit("batch", qps=4),)))
    assert [limiter.enter("batch", 1, 10.0) for _ in range(3)] == [0.0, 0.25, 0.5]
    assert limiter.enter("batch", 1, 11.0) == 0.0, "time that nobody used is not saved up"
    assert limiter.enter("batch", 1, 11.0) == 0.25


def test_a_batch_takes_as_many_places_as_it_has_calls() -> None:
    limiter = RateLimiter(RateLimits((Limit("batch", qps=4),)))
    assert limiter.enter("batch", 8, 0.0) == 0.0
    assert limiter.enter("batch", 1, 0.0) == 2.0


def test_a_full_queue_refuses_and_has_room_again_later() -> None:
    limiter = RateLimiter(RateLimits((Limit("batch", qps=1, capacity=2),)))
    assert [limiter.enter("batch", 1, 0.0) for _ in range(3)] == [0.0, 1.0, 2.0]
    with pytest.raises(Unavailable, match="principal 'batch' may make 1 calls a second, and 2 wait already"):
        limiter.enter("batch", 1, 0.0)
    assert limiter.enter("batch", 1, 1.0) == 2.0


def test_each_principal_has_its_queue_and_the_others_share_one() -> None:
    limiter = RateLimiter(RateLimits((Limit("batch", qps=1), Limit("core")), aggregate_default_qps=2))
    assert limiter.enter("batch", 5, 0.0) == 0.0
    assert [limiter.enter("core", 9, 0.0) for _ in range(2)] == [0.0, 0.0], "named without a rate: never waits"
    assert [limiter.enter(None, 1, 0.0), limiter.enter("somebody", 1, 0.0)] == [0.0, 0.5]


def test_a_principal_named_twice_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="'a' is named twice"):
        RateLimiter(RateLimits((Limit("a"), Limit("a"))))
