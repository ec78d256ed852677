"""Revocable resources: who asks for them gets them, and nothing else costs more for it (docs/decisions/oversubscription.md)."""

from __future__ import annotations

import pytest

from kernel.master.allocator import Demand, FrameworkOptions
from kernel.master.allocator.explain import Why
from kernel.wire.resources import Resources
from tests.builders import slack
from tests.kernel.master.allocator.cluster import TestCluster, given, parse, who

TAKES = FrameworkOptions(revocable=True)


def lent(text: str) -> Resources:
    return Resources.of(slack(text))


def demand(shape: Resources, count: int = 1, least: int | None = None) -> Demand:
    return Demand("", "*", shape, count, least)


def cluster(lends: str, total: str = "cpus:2;mem:1024") -> TestCluster:
    found = TestCluster()
    found.agent("s1", total)
    found.lend("s1", lent(lends))
    return found


def test_a_demand_for_slack_gets_slack_beside_what_is_firm() -> None:
    c = cluster("cpus:1.5")
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.5") + parse("mem:100"), 10))
    assert given(c.allocate()) == [("f", "s1", str(parse("mem:300") + lent("cpus:1.5")))]


def test_a_demand_for_firm_resources_gets_no_slack() -> None:
    c = cluster("cpus:8", "cpus:1;mem:1024")
    c.framework("f", options=TAKES)
    c.request("f", demand(parse("cpus:0.5;mem:10"), 10))
    assert given(c.allocate()) == [("f", "s1", "cpus:1; mem:20")]


def test_slack_alone_is_offered_when_nothing_else_is_free() -> None:
    c = cluster("cpus:1;mem:64")
    c.framework("whole")
    c.launch(*c.allocate())
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.25;mem:32"), 10))
    assert given(c.allocate()) == [("f", "s1", str(lent("cpus:0.5;mem:64")))]


def test_slack_that_comes_later_goes_to_those_who_wait() -> None:
    c = cluster("cpus:0.1")
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.5")))
    assert c.allocate() == []
    (reason,) = c.allocator.explain("f")
    assert reason.why is Why.SLACK
    c.lend("s1", lent("cpus:0.5"))
    assert given(c.allocate()) == [("f", "s1", str(lent("cpus:0.5")))]


def test_equal_demands_for_slack_get_equal_parts_of_it() -> None:
    c = cluster("cpus:4")
    for name in ("f", "g"):
        c.framework(name, options=TAKES, demands=True)
    for name in ("f", "g"):
        c.request(name, demand(lent("cpus:0.5"), 100))
    c.allocate()
    assert {offer.framework_id: offer.resources for offer in c.offers} == dict.fromkeys(("f", "g"), lent("cpus:2"))


def test_less_slack_than_is_used_offers_nothing_until_enough_has_ended() -> None:
    c = cluster("cpus:2")
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.5"), 100))
    (offer,) = c.allocate()
    c.launch(offer, *[])
    c.tasks = [(*c.tasks[0][:3], lent("cpus:0.5")) for _ in range(4)]
    c.lend("s1", lent("cpus:1.2"))
    assert c.allocate() == []
    for _ in range(2):
        c.finish()
        assert c.allocate() == []
    c.finish()
    assert given(c.allocate()) == [("f", "s1", str(lent("cpus:0.5")))]


def test_a_launch_on_slack_answers_the_demand_for_it_and_no_other() -> None:
    c = cluster("cpus:1")
    c.framework("f", options=TAKES)
    c.request("f", demand(parse("cpus:1;mem:10")), demand(lent("cpus:1") + parse("mem:10")))
    for offer in c.allocate():
        shape = lent("cpus:1") + parse("mem:10") if offer.resources.contains(lent("cpus:1")) else parse("cpus:1;mem:10")
        used = shape
        del c.offers[offer]
        c.tasks.append(("f", "*", "s1", used))
        c.allocator.close_offers([offer], used, 5.0, c.now)
        c.allocator.launched("f", "*", [used])
        break
    waiting = [entry.demand.shape for entry in c.allocator.waiting("f")]
    assert shape not in waiting


@pytest.mark.parametrize("least", [3, 2])
def test_a_gang_on_slack_starts_together(least: int) -> None:
    c = cluster("cpus:2")
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:1"), 3, least))
    offered = sum((offer.resources for offer in c.allocate()), Resources())
    assert offered == (lent("cpus:2") if least == 2 else Resources())


def test_limits_of_a_role_do_not_bound_what_may_be_taken_back() -> None:
    c = cluster("cpus:1")
    c.quota("*", limit="cpus:0.5")
    c.framework("f", options=TAKES)
    c.request("f", demand(parse("cpus:0.5;mem:10"), 5), demand(lent("cpus:0.5"), 5))
    c.allocate()
    assert sum((offer.resources for offer in c.offers), Resources()) == parse("cpus:0.5;mem:10") + lent("cpus:1")


def test_a_starving_demand_for_slack_keeps_no_agent_from_others() -> None:
    c = cluster("cpus:0.2")
    c.lend("s1", lent("cpus:1"))
    c.framework("busy", options=TAKES)
    c.launch(*c.allocate())
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.5")))
    c.wait(120)
    assert c.allocator._state.claimed == 0


def test_shares_are_parts_of_what_is_firm_so_slack_that_changes_moves_nobody() -> None:
    c = cluster("cpus:1")
    c.allocate()
    c.lend("s1", lent("cpus:4"))
    assert not c.allocator._state.totals_changed


def test_only_those_who_want_slack_are_looked_at_when_there_is_some() -> None:
    c = cluster("cpus:1")
    for number in range(50):
        c.framework(f"plain{number}", options=TAKES, demands=True)
    c.framework("f", options=TAKES)
    c.request("f", demand(lent("cpus:0.5"), 5))
    c.allocate()
    c.lend("s1", lent("cpus:0.9"))
    c.allocate()
    assert [leaf.name for leaf in c.allocator._state.tree.slackers] == ["f"]


def test_whole_offers_hold_the_slack_too() -> None:
    c = cluster("cpus:1")
    c.framework("f", options=TAKES)
    assert given(c.allocate()) == [("f", "s1", str(parse("cpus:2;mem:1024") + lent("cpus:1")))]
    c.lend("s1", Resources())
    assert who(c.allocate()) == ["f"]
    c.lend("s1", lent("cpus:3"))
    assert given(c.allocate()) == [("f", "s1", str(lent("cpus:3")))]


def test_slack_that_is_too_little_for_anybody_asks_nobody() -> None:
    c = cluster("cpus:0.1", "cpus:1;mem:64")
    c.framework("whole")
    c.launch(*c.allocate())
    for number in range(5):
        c.framework(f"f{number}", options=TAKES)
        c.request(f"f{number}", demand(lent("cpus:0.5"), 5))
    c.allocate()
    tree = c.allocator._state.tree
    asked: list[object] = []
    tree.path_key = lambda leaf, turns=False: asked.append(leaf) or ()  # type: ignore[method-assign,func-returns-value]
    c.lend("s1", lent("cpus:0.4"))
    c.allocate()
    assert not asked
