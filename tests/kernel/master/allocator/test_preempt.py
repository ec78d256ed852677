"""Whose tasks would have to end for what is guaranteed: which may, in which order, and no more than is needed."""

from __future__ import annotations

import random

import msgspec
import pytest

from kernel.master.allocator import FrameworkOptions, Quota, Relief, Run
from kernel.wire.resources import Resource, RevocableInfo
from kernel.wire.roles import ancestors, is_same_or_below
from kernel.wire.values import Scalar, ValueType
from tests.kernel.master.allocator.cluster import TestCluster, demand, parse

REVOCABLE = FrameworkOptions(revocable=True)


def beside(text: str, revocable: float) -> str:
    """These resources, and so many cpus that are revocable."""
    more = Resource("cpus", ValueType.SCALAR, Scalar(revocable), revocable=RevocableInfo())
    return msgspec.json.encode((*parse(text).messages(), more)).decode()


def full(*agents: str, over: str = "cpus:1;mem:100", each: int = 0) -> TestCluster:
    """Agents s0, s1, ... full of tasks of this shape of framework A in role a, launched agent by agent; each: so many on each."""
    c = TestCluster()
    c.framework("A", "a", demands=True)
    for number, total in enumerate(agents):
        agent_id = f"s{number}"
        c.agent(agent_id, total)
        times = each or int(parse(total).cpus // parse(over).cpus)
        c.request("A", demand(over, times, "a"))
        for offer in c.allocate():
            c.launch(offer, *[over] * times)
    return c


def want(c: TestCluster, *demands: str, role: str = "b", count: int = 1, **fields: object) -> None:
    """Framework B waits for tasks in a role."""
    if "B" not in c.allocator._state.frameworks:
        c.framework("B", role, demands=True)
    c.request("B", *(demand(shape, count, role, name=str(number), **fields) for number, shape in enumerate(demands)))  # type: ignore[arg-type]
    c.allocate()


def runs(c: TestCluster) -> list[Run]:
    """All that runs, the first launched first; keys are places in `tasks`."""
    return [Run(number, *task, started_s=float(number)) for number, task in enumerate(c.tasks)]


def ended(found: list[Relief]) -> list[object]:
    return [run.key for relief in found for run in relief.ended]


def test_the_newest_of_a_role_above_its_limit_ends_and_no_more_than_is_needed() -> None:
    c = full("cpus:4;mem:400")
    c.quota("a", limit="cpus:2")
    c.quota("b", "cpus:2;mem:200")
    want(c, "cpus:1;mem:100")
    (relief,) = c.allocator.reliefs(runs(c))
    assert (relief.framework_id, relief.role, relief.guarantees) == ("B", "b", ("b",))
    assert ([run.key for run in relief.ended], relief.lacks) == ([3], False)
    c.check()


def test_only_what_stands_above_the_limit_ends() -> None:
    c = full("cpus:4;mem:400")
    c.quota("a", limit="cpus:3")
    c.quota("b", "cpus:2;mem:200")
    want(c, "cpus:1;mem:100", count=2)
    (relief,) = c.allocator.reliefs(runs(c))
    assert ([run.key for run in relief.ended], relief.lacks) == ([3], True)


def test_who_is_within_its_limit_or_has_none_loses_nothing() -> None:
    for limit in ("cpus:4", ""):
        c = full("cpus:4;mem:400")
        if limit:
            c.quota("a", limit=limit)
        c.quota("b", "cpus:2;mem:200")
        want(c, "cpus:1;mem:100")
        (relief,) = c.allocator.reliefs(runs(c))
        assert (relief.ended, relief.lacks) == ([], True)


def test_nobody_is_in_need_whose_guarantee_is_met_or_who_wants_nothing() -> None:
    c = full("cpus:4;mem:400")
    c.quota("a", limit="cpus:2")
    assert not c.allocator.is_owed
    c.quota("b", "cpus:2")
    assert not c.allocator.is_owed  # Nobody is there.
    want(c, "cpus:1;mem:100")
    assert c.allocator.is_owed
    c.allocator.suppress("B", ["b"])
    assert not c.allocator.is_owed
    assert c.allocator.reliefs(runs(c)) == []


def test_a_task_that_goes_beyond_the_guarantee_ends_nothing() -> None:
    c = full("cpus:4;mem:400")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:1;mem:100")
    want(c, "cpus:2;mem:100")
    assert c.allocator.reliefs(runs(c)) == []


def test_what_runs_on_revocable_resources_goes_first() -> None:
    c = TestCluster()
    c.agent("s0", beside("cpus:2;mem:200", 2))
    c.framework("A", "a", demands=True)
    c.request("A", demand("cpus:1;mem:100", 1, "a"))
    c.launch(*c.allocate())
    c.framework("R", "r", options=REVOCABLE)
    (offer,) = c.allocate()
    c.launch(offer, *[beside("mem:50", 1)] * 2)
    c.framework("filler", "f")
    c.launch(*c.allocate(), "cpus:1")
    c.quota("a", limit="mem:50")
    c.quota("b", "mem:100")
    want(c, "mem:50")
    assert ended(c.allocator.reliefs(runs(c))) == [2]
    want(c, "mem:100")
    assert ended(c.allocator.reliefs(runs(c))) == [2, 1]


def test_of_two_roles_that_goes_first_which_is_further_above_its_limit_by_its_weight() -> None:
    for weights, first in (({}, 1), ({"d": 10.0}, 0)):
        c = TestCluster()
        c.agent("s0", "cpus:6;mem:600")
        for number, role in enumerate(("a", "d")):
            c.framework(role, role, demands=True)
            c.request(role, demand("cpus:3;mem:300", 1, role))
            c.launch(*c.allocate())
            assert c.tasks[number][1] == role
        for role, weight in weights.items():
            c.allocator.set_weight(role, weight)
        c.quota("a", limit="cpus:2")
        c.quota("d", limit="cpus:1")
        c.quota("b", "cpus:1;mem:100")
        want(c, "cpus:1;mem:100")
        assert ended(c.allocator.reliefs(runs(c))) == [first]


def test_it_ends_where_the_task_that_waits_may_run() -> None:
    c = full("cpus:2;mem:200", "cpus:2;mem:200")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:1;mem:100")
    want(c, "cpus:1;mem:100", agent="s0")
    assert ended(c.allocator.reliefs(runs(c))) == [1]
    c.allocator.set_agent_active("s0", False)
    (relief,) = c.allocator.reliefs(runs(c))
    assert (relief.ended, relief.lacks) == ([], True)


def test_what_does_not_make_it_fit_goes_on() -> None:
    """On s1 one large task is enough, which is older than the small ones of s0; there two would have to end."""
    c = full("cpus:4;mem:400", over="cpus:4;mem:400")
    c.agent("s1", "cpus:2;mem:200")
    c.request("A", demand("cpus:1;mem:10", 2, "a"))
    for offer in c.allocate():
        c.launch(offer, "cpus:1;mem:10", "cpus:1;mem:10")
    c.framework("filler", "f")
    c.launch(*c.allocate())
    c.quota("a", limit="cpus:0.5")
    c.quota("b", "mem:400")
    want(c, "mem:300")
    assert ended(c.allocator.reliefs(runs(c))) == [0]
    c.quota("b", "cpus:2")
    want(c, "cpus:2")
    assert ended(c.allocator.reliefs(runs(c))) == [2, 1]


def test_what_was_chosen_stays_chosen() -> None:
    c = full("cpus:2;mem:200", "cpus:2;mem:200")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:1;mem:100")
    want(c, "cpus:1;mem:100")
    assert ended(c.allocator.reliefs(runs(c))) == [3]
    known = [run._replace(noticed=run.key == 0) for run in runs(c)]
    assert ended(c.allocator.reliefs(known)) == [0]


def test_what_is_ending_already_is_waited_for() -> None:
    c = full("cpus:2;mem:200")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:1;mem:100")
    want(c, "cpus:1;mem:100")
    known = [run._replace(ending=run.key == 0) for run in runs(c)]
    assert c.allocator.reliefs(known) == []
    c.allocator.set_agent_active("s0", False)  # It is away for a moment.
    assert c.allocator.reliefs(known) == []


def test_nothing_below_the_role_that_is_to_gain_ends() -> None:
    c = full("cpus:4;mem:400")
    c.framework("X", "b/x", demands=True)
    c.finish(3)
    c.finish(2)
    c.request("X", demand("cpus:1;mem:100", 2, "b/x"))
    c.launch(*c.allocate(), "cpus:1;mem:100", "cpus:1;mem:100")
    c.quota("b", "cpus:4;mem:400")
    c.quota("b/x", limit="cpus:1")
    want(c, "cpus:1;mem:100", role="b/y")
    (relief,) = c.allocator.reliefs(runs(c))
    assert (relief.guarantees, relief.ended, relief.lacks) == (("b",), [], True)


def test_nobody_is_taken_below_a_guarantee_of_its_own() -> None:
    """Role p is above its limit; p/a has no more than it is guaranteed, and so p/c has to give way."""
    c = TestCluster()
    c.agent("s0", "cpus:4;mem:400")
    for name in ("c", "a"):
        c.framework(name, f"p/{name}", demands=True)
        c.request(name, demand("cpus:1;mem:100", 2, f"p/{name}"))
        c.launch(*c.allocate(), "cpus:1;mem:100", "cpus:1;mem:100")
    c.quota("p", "cpus:2", "cpus:3")
    c.quota("p/a", "cpus:2")
    c.quota("b", "cpus:2;mem:200")
    want(c, "cpus:1;mem:100")
    assert [c.tasks[key][0] for key in ended(c.allocator.reliefs(runs(c)))] == ["c"]  # type: ignore[call-overload]


def test_who_has_reserved_resources_keeps_them() -> None:
    c = TestCluster()
    c.agent("s0", "cpus:2;mem:100;mem(a):100")
    c.framework("A", "a", demands=True)
    c.request("A", demand("cpus:1;mem:100", 2, "a"))
    for offer in c.allocate():
        c.launch(offer)
    c.quota("a", limit="cpus:0.5")
    c.quota("b", "cpus:1")
    want(c, "cpus:1")
    held = [run for run in runs(c) if run.resources.other]
    assert held
    assert not set(ended(c.allocator.reliefs(runs(c)))) & {run.key for run in held}


def test_offers_come_back_before_anything_ends() -> None:
    c = full("cpus:1;mem:100")
    c.agent("s1", "cpus:1;mem:100")
    c.framework("whole", "w")
    (held,) = c.allocate()
    c.quotas["a"], c.quotas["b"] = Quota({}, {"cpus": 500}), Quota({"cpus": 1000})
    c.allocator.set_quotas(c.quotas)  # Without taking back what is beyond.
    want(c, "cpus:1;mem:100")
    (relief,) = c.allocator.reliefs(runs(c))
    assert (relief.returned, relief.ended) == ([held], [])


def test_a_gang_gets_room_as_a_whole_or_not_at_all() -> None:
    c = full("cpus:2;mem:200", "cpus:2;mem:200")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:4;mem:400")
    want(c, "cpus:1;mem:100", count=3, least=3)
    assert sorted(ended(c.allocator.reliefs(runs(c)))) == [1, 2, 3]  # type: ignore[type-var]
    c.quota("a", limit="cpus:2")
    (relief,) = c.allocator.reliefs(runs(c))
    assert (relief.ended, relief.lacks) == ([], True)


def test_who_states_no_demand_gets_as_much_as_is_owed() -> None:
    c = full("cpus:4;mem:400", "cpus:2;mem:200")
    c.quota("a", limit="cpus:1")
    c.quota("b", "cpus:3;mem:200")
    c.framework("B", "b")
    c.framework("second", "b")
    c.allocate()
    (relief,) = c.allocator.reliefs(runs(c))
    assert sorted(run.key for run in relief.ended) == [3, 4, 5]  # type: ignore[type-var]
    c.finish(5)
    c.allocate()
    (relief,) = c.allocator.reliefs(runs(c))
    assert sorted(run.key for run in relief.ended) == [3, 4]  # type: ignore[type-var]


def test_an_agent_is_kept_while_room_is_made_there() -> None:
    """The first task that ends there does not let somebody else in."""
    c = full("cpus:2;mem:200")
    c.agent("s1", "cpus:1;mem:200")
    c.framework("other", "o", demands=True)
    c.quota("a", limit="cpus:0.5")
    c.quota("b", "cpus:2;mem:200")
    want(c, "cpus:2;mem:200")
    (relief,) = c.allocator.reliefs(runs(c))
    ((entry, agent),) = relief.kept.items()
    assert c.allocator.keep(entry, agent)
    c.request("other", demand("cpus:1;mem:100", 9, "o"))
    c.allocate()
    c.finish(1)
    assert all(offer.agent_id != "s0" for offer in c.allocate())
    c.finish(0)
    assert ("B", "s0") in [(offer.framework_id, offer.agent_id) for offer in c.allocate()]


def test_an_agent_where_no_room_is_made_any_more_is_given_up() -> None:
    c = full("cpus:2;mem:200")
    c.quota("a", limit="cpus:0.5")
    c.quota("b", "cpus:2;mem:200")
    want(c, "cpus:2;mem:200")
    (relief,) = c.allocator.reliefs(runs(c))
    ((entry, agent),) = relief.kept.items()
    assert c.allocator.keep(entry, agent)
    c.allocator.give_up(entry, agent)
    assert agent.claim is None
    c.allocator.give_up(entry, agent)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_cluster_is_like(seed: int) -> None:
    """Only tasks above limits or on revocable resources end, nobody falls below a guarantee, none could be left out, all who are said to
    have enough get their tasks when those end; and asking changes nothing."""
    chance = random.Random(seed)
    c = TestCluster(seed)
    for number in range(chance.randint(1, 5)):
        c.agent(f"s{number}", beside(f"cpus:{chance.randint(2, 8)};mem:{chance.randint(2, 8) * 100}", chance.randint(1, 4)))
    roles = ("a", "a/x", "d", "r")
    for role in roles:
        c.framework(role, role, demands=role != "r", options=FrameworkOptions(revocable=role == "r"))
    for _ in range(6):
        for offer in [offer for offer in c.offers if offer.framework_id == "r"]:
            plain = offer.resources.where(lambda key: False, plain=True)
            c.launch(offer, beside(f"mem:{min(50, plain.mem // 1000)}", 1)) if chance.random() < 0.5 else c.decline(offer)
        role = chance.choice(roles[:3])
        c.request(role, demand(f"cpus:{chance.randint(1, 3)};mem:{chance.randint(1, 3) * 100}", chance.randint(1, 6), role))
        for offer in c.allocate():
            if offer.framework_id == "r":
                continue
            shapes = [str(entry.demand.shape).replace("; ", ";") for entry, times in offer.cover for _ in range(times)]
            c.launch(offer, *shapes)
    c.quota("a", "cpus:1", f"cpus:{chance.randint(1, 4)}")
    if chance.random() < 0.5:
        c.quota("d", limit=f"mem:{chance.randint(1, 3) * 100}")
    c.quota("b", f"cpus:{chance.randint(1, 6)};mem:{chance.randint(1, 6) * 100}")
    want(c, f"cpus:{chance.randint(1, 3)};mem:{chance.randint(1, 3) * 100}", count=chance.randint(1, 4))
    before = c.consumed("a")
    found = c.allocator.reliefs(runs(c))
    c.check()
    assert ended(c.allocator.reliefs(runs(c))) == ended(found)
    chosen = [run for relief in found for run in relief.ended]
    assert all(_is_above(c, run) for run in chosen)
    gaining = {relief.guarantees[-1] for relief in found if relief.ended}
    others_wait = any(entry.needed for name in roles[:3] for entry in c.allocator.waiting(name))
    for entry, agent in [pair for relief in found for pair in relief.kept.items()]:
        c.allocator.keep(entry, agent)
    for key in sorted((run.key for run in chosen), reverse=True):  # type: ignore[type-var]
        c.finish(key)  # type: ignore[arg-type]
    c.allocate()
    for role in gaining:
        assert any(is_same_or_below(offer.role, role) for offer in c.offers), "what ended was of no use"
    assert c.consumed("a").get("cpus", 0) >= min(1000, before.get("cpus", 0)), "a fell below its guarantee"
    if chosen and not others_wait and not any(relief.lacks for relief in found):
        left = c.allocator.reliefs(runs(c))
        assert not ended(left), f"more has to end: {left}"


def _is_above(c: TestCluster, run: Run) -> bool:
    """Whether a run is on revocable resources, or of a role above its limit."""
    if any(key.revocable for key in run.resources.other or ()):
        return True
    return any(
        c.consumed(role).get(name, 0) > limit
        for role in (run.role, *ancestors(run.role))
        if role in c.quotas
        for name, limit in c.quotas[role].limits.items()
    )
