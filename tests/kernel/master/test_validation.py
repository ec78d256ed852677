"""What a framework may say of itself: every rule, and which one speaks first (spec: mesos-v1, sections 2.2, 2.11, 2.12, 6.4)."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.master import effects as e
from kernel.master.validation import constraints_fault, framework_fault, groups_fault, immutable_fault, suppressed_fault
from kernel.wire.framework import Capability, FrameworkCapability, FrameworkInfo, MinAllocatableResources, OfferFilters, ResourceQuantities
from kernel.wire.offer import (
    AttributeConstraint,
    ConstraintGroup,
    Exists,
    NotExists,
    OfferConstraints,
    Predicate,
    PseudoattributeType,
    RoleConstraints,
    Selector,
    TextEquals,
    TextMatches,
    TextNotMatches,
)
from kernel.wire.scheduler import Subscribe, Teardown
from kernel.wire.values import Scalar
from tests.builders import framework_id, framework_info
from tests.kernel.master.conductor import Conductor

MULTI = FrameworkCapability.MULTI_ROLE
FINE = framework_info("f", MULTI, roles=("a", "b"))


def fault(info: FrameworkInfo, roles_allowed: Any = None, root_allowed: bool = True) -> str:
    return framework_fault(info, roles_allowed, root_allowed) or ""


def at_least(milli: float) -> OfferFilters:
    return OfferFilters(MinAllocatableResources((ResourceQuantities({"cpus": Scalar(milli)}),)))


class TestFrameworkInfo:
    @pytest.mark.parametrize(
        "info",
        [
            FINE,
            framework_info("f"),
            framework_info("f", role="eng/db"),
            framework_info("f", MULTI),
            framework_info("f", id=framework_id("")),
            framework_info("f", failover_timeout=9.0e9),
            framework_info("f", role="a", offer_filters={"a": at_least(0.5)}),
            framework_info("f", offer_filters={"*": OfferFilters()}),
            framework_info("", user=""),
            replace(FINE, capabilities=(*FINE.capabilities, Capability(None))),
        ],
    )
    def test_these_are_fine(self, info: FrameworkInfo) -> None:
        assert fault(info) == ""

    # In the order they are checked: each names its field, though all that come after it are wrong as well.
    FAULTS = (
        ({"role": "a"}, "framework_info.role: "),
        ({"roles": ("a", "a")}, "framework_info.roles: a role is named twice"),
        ({"roles": ("a", "/a")}, "framework_info.roles: "),
        ({"id": framework_id("x/y")}, "framework_info.id: "),
        ({"offer_filters": {"foreign": OfferFilters()}}, "framework_info.offer_filters: 'foreign'"),
        ({"failover_timeout": -1.0}, "framework_info.failover_timeout: -1.0"),
        ({"roles": ("a", "other")}, "framework_info.roles: 'other' is not one of this master's"),
        ({"user": "root"}, "framework_info.user: "),
    )

    @pytest.mark.parametrize("first", range(len(FAULTS)))
    def test_the_first_fault_is_told(self, first: int) -> None:
        fields: dict[str, Any] = {}
        for wrong, _ in reversed(self.FAULTS[first:]):
            fields |= wrong
        assert fault(replace(FINE, **fields), roles_allowed=("a", "b"), root_allowed=False).startswith(self.FAULTS[first][1])

    def test_roles_need_the_capability(self) -> None:
        assert fault(framework_info("f", roles=("a",))).startswith("framework_info.roles: needs the capability MULTI_ROLE")

    @pytest.mark.parametrize("role", ["a b", "-a", "a//b", "a/../b", "a/*", "a\b"])
    def test_a_role_must_be_one(self, role: str) -> None:
        assert fault(framework_info("f", role=role)).startswith("framework_info.role: ")

    @pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf"), 1e10, -0.001])
    def test_a_failover_timeout_is_a_duration(self, seconds: float) -> None:
        assert "failover_timeout" in fault(framework_info("f", failover_timeout=seconds))

    @pytest.mark.parametrize("amount", [float("nan"), -1.0, float("inf"), 1e-9])
    def test_minimum_offers_are_amounts(self, amount: float) -> None:
        found = fault(framework_info("f", role="a", offer_filters={"a": at_least(amount)}))
        assert found.startswith("framework_info.offer_filters.a.min_allocatable_resources.cpus: ")

    def test_the_default_role_must_be_allowed_too(self) -> None:
        assert "'*'" in fault(framework_info("f"), roles_allowed=("a",))


class TestSubscribing:
    def test_what_the_master_knows_is_looked_at_after_what_the_info_says(self) -> None:
        """removed -> suppressed roles -> constraints -> principal."""
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", role="a", failover_timeout=9.0, principal="p"))
        info = framework_info("f", role="a", principal="q", id=framework_id(fid))
        foreign = OfferConstraints({"x": RoleConstraints()})

        def refusal(info: FrameworkInfo, *more: Any) -> str:
            c.give(e.SubscribeFramework("again", fid, None, Subscribe(info, *more)))
            message: str = c.take("again")[0].error.message
            return message

        assert refusal(replace(info, user="u", role="a b"), ("x",), foreign).startswith("framework_info.role: ")
        assert refusal(info, ("x",), foreign).startswith("suppressed_roles: 'x'")
        assert refusal(info, (), foreign).startswith("offer_constraints: 'x'")
        assert refusal(info) == "Changing framework's principal is not allowed."
        c.call(fid, Teardown())
        assert refusal(info, ("x",), foreign) == "Framework has been removed"
        assert refusal(replace(info, role="a b")).startswith("framework_info.role: ")

    def test_suppressed_roles_are_of_the_framework(self) -> None:
        assert suppressed_fault(("a",), ("a", "b")) is None
        assert suppressed_fault(("a", "c"), ("a", "b")) == "suppressed_roles: 'c' is not one of the framework's roles"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"user": "other"}, "framework_info.user: cannot change from 'nobody' to 'other'"),
        ({"checkpoint": True}, "framework_info.checkpoint: cannot change"),
        ({"principal": "p"}, "Changing framework's principal is not allowed."),
        ({"name": "g", "webui_url": "x", "roles": ("c",), "failover_timeout": 9.0, "hostname": "h"}, None),
    ],
)
def test_what_update_framework_may_not_change(fields: dict[str, Any], says: str | None) -> None:
    assert immutable_fault(FINE, replace(FINE, **fields)) == says


class TestConstraints:
    RACK = Selector(attribute_name="rack")
    EXISTS = Predicate(exists=Exists())

    def of(self, *constraints: AttributeConstraint) -> RoleConstraints:
        return RoleConstraints((ConstraintGroup(constraints),))

    def test_a_fine_one(self) -> None:
        host = Selector(pseudoattribute_type=PseudoattributeType.HOSTNAME)
        fine = self.of(
            AttributeConstraint(self.RACK, self.EXISTS),
            AttributeConstraint(host, Predicate(text_matches=TextMatches("n[0-9]+"))),
            AttributeConstraint(host, Predicate(text_equals=TextEquals(""))),
        )
        assert constraints_fault(OfferConstraints({"a": fine}), ("a",)) is None
        assert constraints_fault(None, ()) is None

    def test_a_role_of_others_is_refused(self) -> None:
        assert "'b'" in (constraints_fault(OfferConstraints({"b": RoleConstraints()}), ("a",)) or "")

    @pytest.mark.parametrize(
        ("selector", "predicate", "says"),
        [
            (Selector(), EXISTS, ".selector: exactly one"),
            (Selector(PseudoattributeType.ZONE, "rack"), EXISTS, ".selector: exactly one"),
            (Selector(PseudoattributeType.UNKNOWN), EXISTS, ".selector.pseudoattribute_type: "),
            (RACK, Predicate(), ".predicate: exactly one"),
            (RACK, Predicate(exists=Exists(), not_exists=NotExists()), ".predicate: exactly one"),
            (RACK, Predicate(text_matches=TextMatches("(")), ".predicate.text_matches.regex: "),
            (RACK, Predicate(text_not_matches=TextNotMatches("a" * 1001)), ".predicate.text_not_matches.regex: "),
            (RACK, Predicate(text_matches=TextMatches("(" * 900)), ".predicate.text_matches.regex: "),
        ],
    )
    def test_a_faulty_one_is_named(self, selector: Selector, predicate: Predicate, says: str) -> None:
        found = groups_fault(self.of(AttributeConstraint(self.RACK, self.EXISTS), AttributeConstraint(selector, predicate)), "c")
        assert found is not None
        assert found.startswith("c.groups[0].attribute_constraints[1]" + says)

    def test_nothing_may_be_empty(self) -> None:
        assert groups_fault(RoleConstraints(), "c") == "c.groups: must not be empty"
        assert groups_fault(RoleConstraints((ConstraintGroup(),)), "c") == "c.groups[0].attribute_constraints: must not be empty"
