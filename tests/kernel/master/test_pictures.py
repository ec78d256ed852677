"""Pictures: the state at one instant, while it goes on."""

from __future__ import annotations

from kernel.master.pictures import Pictures
from kernel.wire.task import TaskState
from tests.builders import accept, task
from tests.kernel.master.conductor import Conductor


def launched() -> Conductor:
    c = Conductor()
    fid = c.subscribe()
    aid = c.agent(1)
    (offer,) = c.offers()
    c.call(fid, accept([offer.id.value], task("t", aid)))
    return c


def test_what_does_not_change_is_shown_itself():
    c = launched()
    (framework,) = c.core.state.frameworks.values()
    picture = c.core.state.pictures.take()
    assert picture.look(framework.tasks["t"]) is framework.tasks["t"]


def test_what_changes_is_shown_as_it_was():
    c = launched()
    (framework,), (agent,) = c.core.state.frameworks.values(), c.core.state.agents.values()
    live = framework.tasks["t"]
    before = c.core.state.pictures.take()
    c.update(1, framework.framework_id, "t", TaskState.TASK_RUNNING)
    between = c.core.state.pictures.take()
    c.update(1, framework.framework_id, "t", TaskState.TASK_FINISHED)
    assert [picture.look(live).state for picture in (before, between)] == [TaskState.TASK_STAGING, TaskState.TASK_RUNNING]
    assert [len(picture.look(live).statuses) for picture in (before, between)] == [0, 1]
    assert (live.state, before.look(live).sent) == (TaskState.TASK_FINISHED, None)
    assert before.look(agent).used.cpus == between.look(agent).used.cpus == 1000
    assert agent.used.cpus == 0


def test_nothing_is_kept_for_a_picture_that_nobody_holds():
    pictures = Pictures()
    first, second = pictures.take(), pictures.take()
    assert len(pictures) == 2
    del first
    assert len(pictures) == 1
    del second
    assert not pictures


def test_live_tasks_are_counted_by_state_as_they_change():
    c = launched()
    (framework,) = c.core.state.frameworks.values()
    fid = framework.framework_id

    def live() -> dict[str, int]:
        return {name: count for name, count in framework.live.items() if count}

    assert live() == {"TASK_STAGING": 1}
    c.update(1, fid, "t", TaskState.TASK_RUNNING)
    assert live() == {"TASK_RUNNING": 1}
    c.later(100)  # The agent is silent: its tasks are unreachable, none is live.
    assert (live(), list(framework.unreachable)) == ({}, ["t"])
