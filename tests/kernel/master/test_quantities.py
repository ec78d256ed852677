"""Sums that are kept up to date by each change."""

from __future__ import annotations

import random

import pytest

from kernel.master.quantities import Holdings, Quantities
from kernel.wire.resources import Resources
from tests.builders import accept, register, task
from tests.kernel.master.conductor import Conductor

PARTS = ("cpus:1;mem:32", "cpus:0.1;ports:[1-2]", "ports:[2-3];nics:{a}", "nics:{a,b};tokens:2", "cpus(eng):1;mem:8", "tokens:0.5")


def test_ranges_and_sets_are_united_and_the_rest_added_up():
    holdings = Holdings()
    for text in ("cpus:1;mem:32;ports:[1-2];nics:{a};tokens:2", "cpus:1;mem:32;ports:[2-3];nics:{a};tokens:2"):
        holdings.add("eng", Resources.parse(text))
    assert holdings.total() == Resources.parse("cpus:2;mem:64;ports:[1-3];nics:{a};tokens:4")


def test_of_a_framework_they_follow_what_it_runs():
    c = Conductor()
    fid = c.subscribe()
    text = "cpus:4;mem:4096;ports:[1-9];nics:{a,b};tokens:8"
    for link in (1, 2):
        aid = c.agent(link, register(str(link), text))
        (offer,) = c.offers()
        c.call(fid, accept([offer.id.value], task(f"t{link}", aid, f"cpus:1;mem:32;ports:[{link}-{link + 1}];nics:{{a}};tokens:2")))
    framework = c.core.state.frameworks[fid]
    assert framework.used.total() == Resources.parse("cpus:2;mem:64;ports:[1-3];nics:{a};tokens:4")
    assert framework.offered.total() == Resources()


def test_scalars_count_ranges_by_their_size_and_may_leave_out_what_is_reserved():
    quantities = Quantities()
    quantities.add(Resources.parse("cpus:1;ports:[10-12];cpus(eng):2"))
    quantities.add(Resources.parse("ports:[10-12]"))
    assert quantities.scalars() == {"cpus": 3000, "ports": 6000}
    assert quantities.scalars(free_only=True) == {"cpus": 1000, "ports": 6000}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_added_and_taken_leaves_nothing(seed: int):
    """Whatever the order, roles that hold nothing are forgotten."""
    chance, holdings, held = random.Random(seed), Holdings(), []
    for _ in range(100):
        if held and chance.random() < 0.4:
            holdings.take(*held.pop(chance.randrange(len(held))))
        else:
            held.append((chance.choice(("a", "b")), Resources.parse(chance.choice(PARTS))))
            holdings.add(*held[-1])
        assert holdings.by_role.keys() == {role for role, _ in held}
    for role, part in held:
        holdings.take(role, part)
    assert holdings.by_role == {}
