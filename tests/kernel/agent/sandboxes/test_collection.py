"""Which sandboxes may go, and when: by age, sooner on a full disk, never one that is in use."""

from __future__ import annotations

import pytest

from kernel.agent.sandboxes.collection import InUse, Sandbox, Search, Verdict, disk_usage, judge, removal_age_s, search_is_due
from kernel.agent.state import Kind
from kernel.agent.views import render
from kernel.wire.task import ExecutorType
from tests.builders import executor
from tests.kernel.agent.desk import command, running

WEEK_S = 604800.0
OLD, NEWER, YOUNG = Sandbox("/runs/old", 100.0), Sandbox("/runs/newer", 200.0), Sandbox("/runs/young", 900.0)


@pytest.mark.parametrize(
    ("blocks", "free", "inodes", "free_inodes", "usage"),
    [(100, 25, 100, 99, 0.75), (100, 99, 100, 10, 0.9), (100, 50, 0, 0, 0.5), (0, 0, 0, 0, 0.0)],
)
def test_a_disk_is_as_full_as_what_is_scarcest_on_it(blocks: int, free: int, inodes: int, free_inodes: int, usage: float) -> None:
    assert disk_usage(blocks, free, inodes, free_inodes) == pytest.approx(usage)


@pytest.mark.parametrize(("usage", "age_s"), [(0.0, 0.9 * WEEK_S), (0.5, 0.4 * WEEK_S), (0.8, 0.1 * WEEK_S), (0.9, 120.0), (1.0, 120.0)])
def test_the_fuller_the_disk_the_sooner(usage: float, age_s: float) -> None:
    """As Mesos, but never within two looks of the end: `meseta run` is still reading then."""
    assert removal_age_s(WEEK_S, 0.1, usage, 60.0) == pytest.approx(age_s)


def test_who_wants_sandboxes_gone_at_once_gets_that() -> None:
    assert removal_age_s(0.0, 0.1, 0.5, 60.0) == 0.0
    assert removal_age_s(1.0, 0.0, 1.0, 60.0) == 1.0


def test_the_old_go_oldest_first_the_young_stay() -> None:
    assert judge([YOUNG, NEWER, OLD], InUse(), 500.0, 1000.0) == Verdict([OLD, NEWER], 1, 900.0)


def test_what_is_in_use_stays_however_old() -> None:
    assert judge([OLD, NEWER], InUse(frozenset({"/runs/old"})), 500.0, 1000.0).expired == [NEWER]


def test_a_nested_one_goes_by_itself_only_while_its_parent_stays() -> None:
    nested = Sandbox("/runs/old/containers/n", 100.0, "/runs/old")
    assert judge([OLD, nested], InUse(), 500.0, 1000.0).expired == [OLD]
    assert judge([OLD, nested], InUse(frozenset({"/runs/old"})), 500.0, 1000.0).expired == [nested]
    assert judge([OLD, nested], InUse(frozenset({"/runs/old", nested.path})), 500.0, 1000.0).expired == []


def test_a_change_in_the_future_is_no_age() -> None:
    """The clock was put back; it stays until its time."""
    assert judge([Sandbox("/runs/x", 5000.0)], InUse(), 0.0, 1000.0) == Verdict([], 1, 5000.0)


def test_the_disk_is_searched_only_when_something_can_be_old_enough() -> None:
    assert search_is_due(None, 500.0, 1000.0)
    last = Search.done(Verdict([], 1, 900.0), 1000.0)
    assert not search_is_due(last, 500.0, 1399.0)
    assert search_is_due(last, 500.0, 1400.0)
    assert search_is_due(last, 10.0, 1001.0), "the disk fills up"
    assert not search_is_due(Search.done(Verdict([], 1, 501.0), 1000.0), 500.0, 1002.0), "not for each that gets old"
    assert search_is_due(last, 500.0, 10.0), "the clock was put back"
    assert not search_is_due(Search.done(Verdict([], 0, None), 1000.0), 500.0, 1499.0), "what came since is younger"


def test_a_sandbox_is_in_use_until_the_end_of_its_task_is_acknowledged() -> None:
    desk = running()
    container = desk.run_task(command("t"))
    path = f"/work/slaves/m-S1/frameworks/f/executors/t/runs/{container}"
    assert render(desk.core.state, "sandboxes") == InUse(frozenset({path}), frozenset(), "m-S1")
    desk.started(container)
    desk.exited(container)
    assert render(desk.core.state, "sandboxes").sandboxes == {path}
    desk.acknowledge_all()
    assert render(desk.core.state, "sandboxes").sandboxes == frozenset()


def test_a_default_executor_keeps_its_own_sandbox_and_those_of_its_tasks() -> None:
    desk = running()
    (container,) = desk.run_group(executor("e", type=ExecutorType.DEFAULT, command=None), command("t"))
    (kept,) = desk.core.state.frameworks["f"].executors.values()
    assert kept.kind is Kind.DEFAULT
    parent = f"/work/slaves/m-S1/frameworks/f/executors/e/runs/{kept.container_id}"
    assert render(desk.core.state, "sandboxes") == InUse(
        frozenset({parent, f"{parent}/containers/{container}"}), frozenset({parent}), "m-S1"
    )
