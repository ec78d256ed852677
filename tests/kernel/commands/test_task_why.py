"""`meseta task why` as a person calls it, against a made-up cluster."""

from __future__ import annotations

import json
from typing import Any

from tests.kernel.commands.cluster import Cluster
from tests.kernel.commands.test_commands import Run, cluster, meseta  # noqa: F401 - fixtures.

WAITING: dict[str, Any] = {
    "framework_id": "fw-1",
    "framework": "chronos",
    "name": "report",
    "role": "eng/batch",
    "resources": {"cpus": 2.0},
    "waiting": 3,
    "offered": 0,
    "since": 1_700_000_000.0,
    "why": "QUOTA_LIMIT",
    "reason": "role eng/batch is at its limit of 32 cpus",
    "unblocks": "tasks of the role must end",
}


def test_the_reason_is_told_and_what_would_unblock_it(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    cluster.explained["demands"] = [WAITING]
    status, out, _ = meseta("task", "why", "report")
    assert status == 0
    assert "why:        role eng/batch is at its limit of 32 cpus" in out
    assert "unblocks:   tasks of the role must end" in out
    assert json.loads(meseta("task", "why", "report", "--json")[1]) == [WAITING]


def test_of_a_task_that_runs_its_state_is_told(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    status, out, _ = meseta("task", "why", "sh-1")
    assert status == 0
    assert "running" in out
    assert "it waits for no offer, it is on agent S0: as told" in out
    (one,) = json.loads(meseta("task", "why", "sh-1", "--json")[1])
    assert (one["task_id"], one["framework_id"], one["state"]) == ("sh-1", "fw-1", "running")


def test_of_a_task_that_has_ended_too(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    status, out, _ = meseta("task", "why", "sh-0")
    assert status == 0
    assert "failed" in out
    assert "it waits for nothing, it has ended: as told" in out


def test_what_may_be_several_is_not_guessed(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    status, _, err = meseta("task", "why", "sh-")
    assert status == 1
    assert "may be any of 2 tasks: sh-1, sh-0" in err


def test_of_what_nobody_knows_it_is_said_where_to_look(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    status, _, err = meseta("task", "why", "nothing")
    assert status == 1
    assert "no task called 'nothing' waits, runs or has ended; `meseta task list --all`" in err
    cluster.explained["silent"] = [{"framework_id": "fw-9", "framework": "marathon"}]
    _, _, err = meseta("task", "why", "nothing")
    assert "a framework that states no demand (marathon)" in err
    assert "`meseta role show ROLE`" in err


def test_what_is_done_for_its_guarantee_is_told(cluster: Cluster, meseta: Run) -> None:  # noqa: F811
    room = {"guarantee": "eng", "tasks": 2, "frameworks": ["web", "ci"], "due": 4e9, "lacks": True}
    cluster.explained["demands"] = [{**WAITING, "room": room}]
    _, out, _ = meseta("task", "why", "report")
    assert "2 tasks of web, ci must end within" in out
    assert "for what role eng is guaranteed; role eng has less than it is guaranteed, and no more tasks may be ended for it" in out
    cluster.explained["demands"] = [{**WAITING, "room": {**room, "tasks": 0, "due": None}}]
    assert "guarantee:  role eng has less than it is guaranteed, and no tasks may be ended for it" in meseta("task", "why", "report")[1]
