"""Why demands wait: `GET /explain`."""

from __future__ import annotations

import json
from typing import Any

from kernel.master import views
from kernel.master.allocator.explain import Why
from kernel.master.views.explanation import UNBLOCKS
from kernel.wire import operator, scheduler
from kernel.wire.framework import FrameworkCapability
from kernel.wire.resources import Scalar
from tests.builders import framework_info, register, resources, slack
from tests.kernel.master.conductor import Conductor
from tests.kernel.master.test_preemption import asked, crowded, steps


def explained(c: Conductor, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b"".join(views.render(c.core.state, "explain", query)))
    return found


def waiting(c: Conductor, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = explained(c, **query)["demands"]
    return found


def request(c: Conductor, fid: str, shape: str, count: int = 1, name: str = "job", stream: str = "s") -> None:
    c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=resources(shape), name=name, count=count),)), stream)


def wanting(shape: str, count: int = 3, limit: float | None = None) -> Conductor:
    """A framework that has told what it waits for, and an agent of four cpus."""
    c = Conductor()
    fid = c.subscribe(info=framework_info("f"))
    request(c, fid, shape, count)
    if limit is not None:
        c.give(operator.UpdateQuota(True, (operator.QuotaConfig("*", limits={"cpus": Scalar(limit)}),)))
    c.agent(1, register("1", "cpus:4;mem:4096"))
    return c


def test_a_demand_larger_than_every_agent_says_so() -> None:
    (one,) = waiting(wanting("cpus:8"))
    assert (one["name"], one["waiting"], one["why"], one["reason"]) == ("job", 3, "SIZE", "no agent has more than 4 cpus, and 8 is needed")
    assert one["unblocks"] == "a larger agent, or a smaller demand"
    assert one["resources"] == {"cpus": 8.0}


def test_what_is_offered_does_not_wait() -> None:
    (one,) = waiting(wanting("cpus:2;mem:32"))
    assert (one["waiting"], one["offered"], one["why"]) == (1, 2, "NO_FREE")
    assert one["reason"] == "no agent has more than 0 cpus free, and 2 is needed"


def test_what_is_missing_most_is_named_and_nothing_when_it_is_there_but_not_together() -> None:
    c = wanting("cpus:8;mem:8000")
    c.agent(2, register("2", "cpus:8;mem:1000"))
    assert waiting(c)[0]["reason"] == "no agent has more than 4096 mem, and 8000 is needed"
    c.agent(3, register("3", "cpus:1;mem:8000"))
    assert waiting(c)[0]["reason"] == "no agent is large enough"


def test_a_role_at_its_limit_is_named_with_what_it_has() -> None:
    (one,) = waiting(wanting("cpus:2;mem:32", 2, limit=3))
    assert one["why"] == "QUOTA_LIMIT"
    assert one["limit"] == {"role": "*", "resource": "cpus", "limit": 3.0, "consumed": 2.0, "frameworks": 1}
    assert one["reason"].startswith("role * is too near its limit of 3 cpus: 2 used")
    assert one["unblocks"] == "tasks of the role must end, or its limit be raised: `meseta quota set * --limit ...`"


def test_demands_are_selected_and_the_oldest_come_first() -> None:
    c = wanting("cpus:8")
    c.later(5)
    other = c.subscribe("s2", info=framework_info("g"))
    request(c, other, "cpus:9", name="late", stream="s2")
    assert [one["name"] for one in waiting(c)] == ["job", "late"]
    assert [one["name"] for one in waiting(c, framework_id=other)] == ["late"]
    assert [one["name"] for one in waiting(c, name="job")] == ["job"]
    assert explained(c, limit="1")["more"] == 1
    assert waiting(c, name="nobody") == []


def test_frameworks_that_state_no_demand_are_named():
    c = wanting("cpus:8")
    other = c.subscribe("t", framework_info("whole"))
    assert explained(c)["silent"] == [{"framework_id": other, "framework": "whole"}]
    request(c, other, "cpus:1", stream="t")
    assert explained(c)["silent"] == []


def test_whose_tasks_end_for_a_guarantee_and_when() -> None:
    c, _ = asked()
    (one,) = waiting(c)
    assert one["room"] == {"guarantee": "b", "tasks": 1, "frameworks": ["a"], "due": one["room"]["due"], "lacks": False}
    (told,) = explained(c, limit="0")["preemptions"]
    assert told == {
        "guarantee": "b",
        "framework_id": "M-0000",
        "framework": "a",
        "role": "a",
        "agent_id": "M-S0",
        "tasks": ["t3"],
        "due": one["room"]["due"],
        "ending": False,
        "answer": "UNKNOWN",
    }
    steps(c, 31)
    (told,) = explained(c)["preemptions"]
    assert told["ending"]
    numbers: dict[str, float] = {}
    for part in views.render(c.core.state, "metrics"):
        numbers |= part
    assert (numbers["allocator/mesos/roles/a/preempted"], numbers["allocator/mesos/roles/b/preempted_for"]) == (1.0, 1.0)


def test_that_not_enough_may_end_is_said() -> None:
    c = crowded()
    c.give(operator.UpdateQuota(True, (operator.QuotaConfig("a", limits={"cpus": Scalar(4)}),)))
    steps(c, 8)
    (one,) = waiting(c)
    assert one["room"] == {"guarantee": "b", "tasks": 0, "frameworks": [], "due": None, "lacks": True}
    assert explained(c)["unmet"] == [{"guarantee": "b", "framework_id": "M-0001", "framework": "b", "role": "b"}]


def test_nothing_of_that_is_said_where_nobody_is_in_need() -> None:
    (one,) = waiting(wanting("cpus:8"))
    assert "room" not in one


def test_whatever_keeps_a_demand_has_a_way_out() -> None:
    assert set(UNBLOCKS) == set(Why)


def test_a_demand_for_slack_waits_for_agents_that_lend() -> None:
    c = Conductor()
    fid = c.subscribe(info=framework_info("f", FrameworkCapability.REVOCABLE_RESOURCES))
    c.agent(1, register("1", "cpus:4;mem:4096"))
    c.call(fid, scheduler.Request((scheduler.ResourceRequest(resources=slack("cpus:1"), name="job"),)))
    (one,) = waiting(c)
    assert (one["why"], one["reason"]) == ("SLACK", "no agent has so much to lend as revocable")
    assert "`--resource_estimator`" in one["unblocks"]
    assert one["resources"] == {"cpus_revocable": 1.0}
