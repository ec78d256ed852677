"""Status updates: in order, one at a time, again and again until acknowledged, each exactly as it was."""

from __future__ import annotations

import pytest

from kernel.agent.effects import MasterConnected, MasterLost
from kernel.wire.agent import AcknowledgeUpdate, StatusUpdate
from kernel.wire.task import TaskState
from tests.kernel.agent.desk import Desk, command, register, running


def finished() -> Desk:
    """A task that has ended; nothing is acknowledged."""
    desk = running()
    container = desk.run_task(command("t"))
    desk.started(container)
    desk.exited(container, 0)
    return desk


def test_one_update_is_under_way_and_the_next_follows_its_acknowledgement() -> None:
    desk = finished()
    for expected in (TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_FINISHED):
        (status,) = desk.updates()
        assert status.state is expected
        desk.acknowledge(status)
    assert desk.updates() == []


def test_the_end_of_a_task_runs_ahead_of_its_update() -> None:
    """Nobody may be there to acknowledge; what the task had is free nevertheless."""
    desk = finished()
    desk.tick(1)
    (update,) = [message for message in desk.sent if isinstance(message, StatusUpdate)][1:]
    assert (update.status.state, update.latest_state) == (TaskState.TASK_STARTING, TaskState.TASK_FINISHED)
    desk.updates()
    desk.tick(9)
    assert desk.updates() == []
    desk.tick(1)
    assert desk.updates() == [update.status]


def test_an_end_that_is_acknowledged_in_time_is_told_once() -> None:
    desk = finished()
    desk.acknowledge_all()
    desk.tick(5)
    assert desk.updates() == []


def test_an_update_is_sent_again_after_10_s_doubling_to_10_minutes() -> None:
    desk = running()
    desk.run_task(command("t"))
    (first,) = desk.updates()
    waits, waited = [], 0.0
    while len(waits) < 9:
        desk.tick(1)
        waited += 1
        if again := desk.updates():
            assert again == [first]
            waits.append(waited)
            waited = 0.0
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]


def test_the_next_update_starts_with_the_short_wait() -> None:
    desk = running()
    desk.started(desk.run_task(command("t")))
    desk.tick(10)
    desk.tick(20)
    desk.acknowledge(desk.updates()[0])
    desk.updates()
    desk.tick(10)
    assert [status.state for status in desk.updates()] == [TaskState.TASK_RUNNING]


@pytest.mark.parametrize("uuid", [b"x" * 16, b"", b"short"])
def test_acknowledgements_of_something_else_are_ignored(uuid: bytes) -> None:
    desk = finished()
    desk.updates()
    desk.master(AcknowledgeUpdate("f", "t", uuid))
    desk.master(AcknowledgeUpdate("f", "other", uuid))
    desk.master(AcknowledgeUpdate("other", "t", uuid))
    assert desk.effects == []


def test_a_repeated_acknowledgement_does_not_count_for_the_next_update() -> None:
    desk = finished()
    (first,) = desk.updates()
    desk.acknowledge(first)
    (second,) = desk.updates()
    desk.acknowledge(first)
    assert desk.effects == []
    desk.acknowledge(second)
    assert [status.state for status in desk.updates()] == [TaskState.TASK_FINISHED]


def test_without_a_link_updates_gather_and_go_out_at_the_registration() -> None:
    desk = running()
    desk.give(MasterLost())
    desk.sent.clear()
    register(desk)
    container = desk.run_task(command("t"))
    desk.give(MasterLost())
    desk.updates()
    desk.exited(container, 0)
    desk.tick(100)
    assert desk.updates() == []
    desk.give(MasterConnected())
    assert desk.updates() == []
    register(desk)
    assert desk.acknowledge_all() == [TaskState.TASK_STARTING, TaskState.TASK_FINISHED]


def test_uuids_are_16_bytes_and_never_the_same() -> None:
    desk = running()
    uuids = []
    for run in (desk, desk.restart()):
        for index in range(3):
            uuids.append(run.core.state.new_uuid())
            assert len(uuids[-1]) == 16, index
    assert len(set(uuids)) == len(uuids)
