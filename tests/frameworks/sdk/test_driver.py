"""The table of phases as a whole; what single inputs do is told in test_scheduler."""

from __future__ import annotations

from frameworks.sdk.driver import NEXT, Driver, Lost, Phase, Send
from frameworks.sdk.scheduler import framework_info
from frameworks.sdk.tasks import Shape, resources
from kernel.clock import Now
from kernel.wire.ids import FrameworkID
from kernel.wire.scheduler import Event, Subscribed


def subscribed() -> Driver:
    info = framework_info("x")
    from msgspec.structs import replace

    driver = Driver(replace(info, id=FrameworkID("f")), 0.5)
    driver.tick(Now(0.0, 0.0))
    driver.heard(Event(type="SUBSCRIBED", subscribed=Subscribed(FrameworkID("f"), 15.0)), Now(0.0, 0.0))
    return driver


def test_every_phase_has_its_row_and_can_be_reached() -> None:
    assert set(NEXT) == set(Phase)
    reached, frontier = {Phase.IDLE}, [Phase.IDLE]
    while frontier:
        found = NEXT[frontier.pop()] - reached
        reached |= found
        frontier += found
    assert reached == set(Phase)


def test_nothing_follows_stopped() -> None:
    assert NEXT[Phase.STOPPED] == frozenset()
    driver = subscribed()
    driver.stop(None)
    assert driver.stop("again") == []
    assert driver.tick(Now(1e6, 1e6)) == []
    assert driver.lost(Lost(1, "late"), Now(1e6, 1e6)) == []
    assert driver.want({Shape(resources(cpus=1), "*"): 1}) == []


def test_retries_wait_longer_and_longer_but_not_for_ever() -> None:
    driver, now_s, waits = subscribed(), 0.0, []
    for _ in range(12):
        driver.lost(Lost(driver.session, "gone"), Now(now_s, now_s))
        waits.append(round(driver.due_s - now_s, 6))
        now_s = driver.due_s
        driver.tick(Now(now_s, now_s))
    assert waits == sorted(waits)
    assert 0.0 < waits[0] < 0.2
    assert waits[-1] <= 10.0


def test_a_demand_of_many_shapes_is_told_in_parts() -> None:
    driver = subscribed()
    shapes = {Shape(resources(cpus=number + 1), "*"): 1 for number in range(1_500)}
    first = driver.want(shapes)[0]
    assert isinstance(first, Send)
    assert first.call.request is not None
    assert len(first.call.request.requests) == 1_000
    assert driver.want(shapes) == []
    launched = list(shapes)[:400]
    for shape in launched:
        driver.covered(shape, 1)
        del shapes[shape]
    more = driver.want(shapes)[0]
    assert isinstance(more, Send)
    assert more.call.request is not None
    assert len(more.call.request.requests) == 1_000
