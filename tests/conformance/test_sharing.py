"""Sorter and allocator where no other test has just this (spec: mesos-v1, 13.3 and 13.7): ChangeWeightOnSubtree, DeepHierarchy,
ShallowHierarchy, RecoverOversubscribedResources, UpdateAllocation, UpdateFramework: OfferConstraints."""

from __future__ import annotations

from kernel.master.allocator import FrameworkOptions
from kernel.wire import scheduler
from kernel.wire.constraints import Site
from kernel.wire.framework import FrameworkCapability
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    OfferConstraints,
    Predicate,
    PseudoattributeType,
    RoleConstraints,
    Selector,
    TextEquals,
)
from kernel.wire.resources import Key, Resources
from tests.builders import accept_operations, framework_id, framework_info, register, reserve, reserved
from tests.kernel.master.allocator.cluster import TestCluster, parse, who
from tests.kernel.master.conductor import Conductor

AGENT = "cpus:2;mem:1024"
HOSTNAME = PseudoattributeType.HOSTNAME


def counts(cluster: TestCluster) -> dict[str, int]:
    offers = who(cluster.offers)
    return {name: offers.count(name) for name in sorted(set(offers))}


def filled(agents: int, weights: dict[str, float], *roles: str) -> TestCluster:
    """One framework in each of these roles, named after it, and so many agents."""
    cluster = TestCluster()
    for role, weight in weights.items():
        cluster.allocator.set_weight(role, weight)
    for role in roles:
        cluster.framework(role, role)
    for number in range(agents):
        cluster.agent(f"s{number}", AGENT)
    cluster.allocate()
    return cluster


def test_in_a_shallow_hierarchy_roles_of_one_depth_share_as_if_flat() -> None:
    assert counts(filled(9, {}, "a/x", "b/x", "c/x")) == {"a/x": 3, "b/x": 3, "c/x": 3}


def test_in_a_deep_hierarchy_each_level_is_shared_by_itself() -> None:
    assert counts(filled(16, {}, "a/b/c/d", "a/b/e", "a/f", "g")) == {"a/b/c/d": 2, "a/b/e": 2, "a/f": 4, "g": 8}


def test_a_weight_changed_on_a_subtree_acts_among_siblings_and_for_all_below() -> None:
    assert counts(filled(12, {"a": 2.0}, "a/x", "a/y", "b")) == {"a/x": 4, "a/y": 4, "b": 4}
    assert counts(filled(12, {"a": 3.0, "a/x": 2.0}, "a/x", "a/y", "b")) == {"a/x": 6, "a/y": 3, "b": 3}


def test_oversubscribed_resources_that_come_back_are_offered_again_to_those_who_take_them_only() -> None:
    cluster = TestCluster()
    slack = Resources(other={Key("cpus", revocable=True): 1000})
    cluster.framework("plain")
    cluster.framework("taker", options=FrameworkOptions(revocable=True))
    cluster.agent("s1", AGENT)
    cluster.totals["s1"] = parse(AGENT) + slack
    cluster.allocator.update_agent("s1", cluster.totals["s1"], Site("s1"), cluster.now)
    for offer in cluster.allocate():
        if offer.resources.contains(slack):
            assert offer.framework_id == "taker"
            cluster.launch(offer)
    cluster.rescind(*cluster.offers)
    cluster.finish()
    holders = [offer.framework_id for offer in cluster.allocate() if offer.resources.contains(slack)]
    assert holders == ["taker"]


def test_what_an_operation_makes_of_an_offer_leaves_quantities_and_shares_as_they_were() -> None:
    c = Conductor()
    capable = (FrameworkCapability.MULTI_ROLE, FrameworkCapability.RESERVATION_REFINEMENT)
    fid = c.subscribe(info=framework_info("f", *capable, roles=("eng",)))
    c.agent()
    c.take("s")
    before = {view.role: view.allocated for view in c.core.state.allocator.shares()}
    (offer_id,) = c.core.state.offers
    c.call(fid, accept_operations([offer_id], reserve(*reserved("cpus:1", "eng"))))
    c.wait(6)
    assert {view.role: view.allocated for view in c.core.state.allocator.shares()} == before
    (offer,) = c.core.state.frameworks[fid].offers.values()
    assert offer.resources.scalars() == Resources.parse("cpus:4;mem:4096;disk:1000").scalars()


def test_offer_constraints_that_an_update_brings_hold_for_later_offers() -> None:
    c = Conductor()
    info = framework_info("f", role="a")
    fid = c.subscribe(info=info)
    by_host = AttributeConstraint(Selector(pseudoattribute_type=HOSTNAME), Predicate(text_equals=TextEquals("host-2")))
    only = OfferConstraints({"a": RoleConstraints((ConstraintGroup((by_host,)),))})
    c.call(fid, scheduler.UpdateFramework(framework_info("f", role="a", id=framework_id(fid)), offer_constraints=only))
    c.agent(1, register("1"))
    c.agent(2, register("2"))
    assert [offer.hostname for offer in c.offers()] == ["host-2"]
