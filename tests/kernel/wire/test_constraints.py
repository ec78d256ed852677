"""Constraints on agents' attributes mean what the reference says (spec: mesos-v1, section 2.12)."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.wire.common import DomainInfo, FaultDomain, RegionInfo, ZoneInfo
from kernel.wire.constraints import REGEX_PROGRAM_SIZE_MAX, Site, compiled, satisfied
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    Exists,
    NotExists,
    Predicate,
    PseudoattributeType,
    RoleConstraints,
    Selector,
    TextEquals,
    TextMatches,
    TextNotEquals,
    TextNotMatches,
)
from kernel.wire.task import Attribute
from kernel.wire.values import Scalar, Text, ValueType

RACK = Selector(attribute_name="rack")
TEXT = (Attribute("rack", ValueType.TEXT, text=Text("r1")),)
NUMBER = (Attribute("rack", ValueType.SCALAR, scalar=Scalar(1.0)),)
HERE = DomainInfo(FaultDomain(RegionInfo("eu"), ZoneInfo("eu-1")))


def holds(selector: Selector, predicate: Predicate, site: Site) -> bool:
    return satisfied(RoleConstraints((ConstraintGroup((AttributeConstraint(selector, predicate),)),)), site)


@pytest.mark.parametrize(
    ("predicate", "on_text", "on_absent", "on_number"),
    [
        (Predicate(exists=Exists()), True, False, True),
        (Predicate(not_exists=NotExists()), False, True, False),
        (Predicate(text_equals=TextEquals("r1")), True, False, True),
        (Predicate(text_equals=TextEquals("r2")), False, False, True),
        (Predicate(text_not_equals=TextNotEquals("r1")), False, True, True),
        (Predicate(text_matches=TextMatches("r[0-9]")), True, False, True),
        (Predicate(text_matches=TextMatches("r")), False, False, True),
        (Predicate(text_not_matches=TextNotMatches("r.*")), False, True, True),
    ],
)
def test_a_predicate_looks_at_text_and_at_what_is_missing(predicate: Predicate, on_text: bool, on_absent: bool, on_number: bool) -> None:
    sites = (Site("h", TEXT), Site("h"), Site("h", NUMBER))
    assert tuple(holds(RACK, predicate, site) for site in sites) == (on_text, on_absent, on_number)


@pytest.mark.parametrize(("kind", "value"), [("HOSTNAME", "h1"), ("REGION", "eu"), ("ZONE", "eu-1")])
def test_hostname_region_and_zone_can_be_chosen(kind: str, value: str) -> None:
    selector, equal = Selector(pseudoattribute_type=PseudoattributeType(kind)), Predicate(text_equals=TextEquals(value))
    assert holds(selector, equal, Site("h1", domain=HERE))
    assert not holds(selector, equal, Site("h2"))


def test_the_first_attribute_of_a_name_counts() -> None:
    twice = Site("h", (*TEXT, Attribute("rack", ValueType.TEXT, text=Text("r2"))))
    assert holds(RACK, Predicate(text_equals=TextEquals("r1")), twice)
    assert not holds(RACK, Predicate(text_equals=TextEquals("r2")), twice)


def test_one_group_is_enough_but_all_of_it() -> None:
    yes, no = AttributeConstraint(RACK, Predicate(exists=Exists())), AttributeConstraint(RACK, Predicate(not_exists=NotExists()))
    site = Site("h", TEXT)
    assert satisfied(RoleConstraints((ConstraintGroup((no,)), ConstraintGroup((yes,)))), site)
    assert not satisfied(RoleConstraints((ConstraintGroup((yes, no)),)), site)


@pytest.mark.parametrize("regex", ["(", "(?=x)", "x{1001}", r"(a)\1"])
def test_what_is_no_expression_of_re2_is_refused(regex: str) -> None:
    with pytest.raises(CallError, match="cannot be used"):
        compiled(regex)


@pytest.mark.parametrize("regex", ["abc" * (REGEX_PROGRAM_SIZE_MAX // 2), "((a{10}){10}){9}"])
def test_a_large_expression_is_refused(regex: str) -> None:
    with pytest.raises(CallError, match=r"too large|cannot be used"):
        compiled(regex)


def test_an_expression_takes_no_longer_than_the_text_is_long() -> None:
    assert compiled("(a+)+b")("a" * 100_000) is None  # Exponential for those that backtrack.
