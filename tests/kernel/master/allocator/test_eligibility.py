"""Which agents are offered to whom at all: constraints, regions, GPUs (spec: mesos-v1, sections 2.3, 2.12 and 7.2)."""

from __future__ import annotations

from kernel.master.allocator import Demand, FrameworkOptions
from kernel.wire.common import DomainInfo, FaultDomain, RegionInfo, ZoneInfo
from kernel.wire.constraints import Site
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    Exists,
    OfferConstraints,
    Predicate,
    PseudoattributeType,
    RoleConstraints,
    Selector,
    TextEquals,
)
from kernel.wire.task import Attribute
from kernel.wire.values import Text, ValueType
from tests.kernel.master.allocator.cluster import TestCluster, parse

AGENT = "cpus:2;mem:1024"
RACKED = (Attribute("rack", ValueType.TEXT, text=Text("r1")),)


def where(selector: Selector, predicate: Predicate) -> RoleConstraints:
    return RoleConstraints((ConstraintGroup((AttributeConstraint(selector, predicate),)),))


ON_A_RACK = where(Selector(attribute_name="rack"), Predicate(exists=Exists()))
ON_S2 = where(Selector(pseudoattribute_type=PseudoattributeType.HOSTNAME), Predicate(text_equals=TextEquals("s2")))


def constrained(**by_role: RoleConstraints) -> FrameworkOptions:
    return FrameworkOptions(constraints=OfferConstraints(dict(by_role)))


def domain(region: str) -> DomainInfo:
    return DomainInfo(FaultDomain(RegionInfo(region), ZoneInfo("z")))


def offered(cluster: TestCluster) -> list[tuple[str, str]]:
    return [(allocation.framework_id, allocation.agent_id) for allocation in cluster.allocate()]


def test_offer_constraints_hold_for_their_role_only() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", "b", options=constrained(a=ON_A_RACK))
    cluster.agent("s1", AGENT)
    assert [(allocation.role, allocation.agent_id) for allocation in cluster.allocate()] == [("b", "s1")]
    cluster.agent("s2", AGENT, attributes=RACKED)
    assert [(allocation.role, allocation.agent_id) for allocation in cluster.allocate()] == [("a", "s2")]


def test_other_constraints_hold_from_the_next_pass_on() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", options=constrained(a=ON_A_RACK))
    cluster.agent("s1", AGENT)
    assert cluster.allocate() == []
    cluster.allocator.update_framework("f1", ("a",), (), FrameworkOptions())
    assert offered(cluster) == [("f1", "s1")]


def test_an_agent_with_other_attributes_is_judged_anew() -> None:
    cluster = TestCluster()
    cluster.framework("f1", "a", options=constrained(a=ON_A_RACK))
    cluster.agent("s1", AGENT)
    assert cluster.allocate() == []
    cluster.allocator.update_agent("s1", parse(AGENT), Site("s1", RACKED), cluster.now)
    assert offered(cluster) == [("f1", "s1")]


def test_a_demand_goes_only_where_its_constraints_hold() -> None:
    cluster = TestCluster()
    cluster.agent("s1", AGENT)
    cluster.agent("s2", AGENT)
    cluster.framework("f1", "a", demands=True)
    cluster.request("f1", Demand("d", "a", parse("cpus:1;mem:1"), 3, constraints=ON_S2))
    (allocation,) = cluster.allocate()
    assert (allocation.agent_id, allocation.resources) == ("s2", parse("cpus:2;mem:2"))
    assert [reason.waiting for reason in cluster.allocator.explain("f1")] == [1]


def test_agents_of_another_region_go_to_frameworks_that_know_of_regions() -> None:
    cluster = TestCluster(region="here")
    cluster.framework("f1", "a")
    cluster.agent("s1", AGENT, domain=domain("here"))
    cluster.agent("s2", AGENT, domain=domain("there"))
    cluster.agent("s3", AGENT)
    assert offered(cluster) == [("f1", "s1"), ("f1", "s3")]
    cluster.framework("f2", "a", options=FrameworkOptions(region_aware=True))
    assert offered(cluster) == [("f2", "s2")]
