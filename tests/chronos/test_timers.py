"""When runs are looked at again."""

from __future__ import annotations

import msgspec

from chronos.run import Attempt, Cause, Run, RunState
from chronos.timers import Timers, goes_on_ms

RUN = Run("j@1", "j", 1, Cause.SCHEDULE, RunState.WAITING, 100, 1)


def test_a_run_goes_on_by_itself_only_where_it_waits_for_a_time() -> None:
    tried = msgspec.structs.replace(RUN, not_before_ms=500, attempts=(Attempt(0, "t", 100),))
    silent = msgspec.structs.replace(tried, state=RunState.UNREACHABLE, not_before_ms=50)
    assert [goes_on_ms(RUN), goes_on_ms(tried), goes_on_ms(silent)] == [100, 500, 50]
    others = set(RunState) - {RunState.WAITING, RunState.UNREACHABLE}
    assert {goes_on_ms(msgspec.structs.replace(tried, state=state)) for state in others} == {None}


def test_what_is_due_is_told_once_the_earliest_first() -> None:
    timers = Timers()
    for number, at_ms in enumerate((300, 100, 200, 100)):
        timers.wait(msgspec.structs.replace(RUN, run_id=f"j@{number}", due_ms=at_ms))
    timers.wait(msgspec.structs.replace(RUN, state=RunState.RUNNING))
    assert not timers.any_due(99)
    assert list(timers.due(200)) == [("j@1", RunState.WAITING, 100), ("j@3", RunState.WAITING, 100), ("j@2", RunState.WAITING, 200)]
    assert not timers.any_due(200)
    assert timers.any_due(300)


def test_deadlines_are_beside_that() -> None:
    timers = Timers()
    timers.watch("late", 20)
    timers.watch("early", 10)
    assert list(timers.passed(9)) == []
    assert list(timers.passed(20)) == ["early", "late"]
    assert list(timers.passed(99)) == []
    assert not timers.any_due(99)
