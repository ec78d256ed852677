"""Whether what a framework says of itself may be accepted, in the order Mesos checks (spec: mesos-v1, sections 2.2, 2.11 and
2.12). Pure: each function returns the first reason against, or None. Tasks: `kernel.master.task_validation`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from kernel.errors import CallError
from kernel.wire.constraints import compiled
from kernel.wire.framework import OfferFilters
from kernel.wire.ids import validate_id
from kernel.wire.offer import AttributeConstraint, OfferConstraints, RoleConstraints
from kernel.wire.roles import validate_role
from kernel.wire.task import FrameworkCapability, FrameworkInfo
from kernel.wire.values import to_milli

DURATION_S_MAX = 2**63 / 1e9  # What fits a protobuf duration in nanoseconds.
ROLES_MAX = 1000  # Of one framework.


def duration_fits(seconds: float) -> bool:
    return math.isfinite(seconds) and 0 <= seconds < DURATION_S_MAX


def framework_fault(info: FrameworkInfo, roles_allowed: Collection[str] | None, root_allowed: bool) -> str | None:
    """Why a FrameworkInfo cannot be accepted, whoever sends it."""
    multi_role = any(capability.type is FrameworkCapability.MULTI_ROLE for capability in info.capabilities)
    if multi_role and info.role is not None:
        return "framework_info.role: must not be set with the capability MULTI_ROLE; use 'roles'"
    if not multi_role and info.roles:
        return "framework_info.roles: needs the capability MULTI_ROLE; use 'role'"
    if len(set(info.roles)) != len(info.roles):
        return "framework_info.roles: a role is named twice"
    if len(info.roles) > ROLES_MAX:
        return f"framework_info.roles: a framework has at most {ROLES_MAX} roles, not {len(info.roles)}"
    roles = info.roles if multi_role else (info.role or "*",)
    try:
        for role in roles:
            validate_role(role, "framework_info.roles" if multi_role else "framework_info.role")
        if info.id is not None and info.id.value:
            validate_id(info.id.value, "framework_info.id")
        _check_offer_filters(info.offer_filters, roles)
    except CallError as error:
        return str(error)
    if not duration_fits(info.failover_timeout):
        return f"framework_info.failover_timeout: {info.failover_timeout} is not allowed; give seconds from 0 to {DURATION_S_MAX:.0f}"
    if roles_allowed is not None:
        for role in roles:
            if role not in roles_allowed:
                return f"framework_info.roles: '{role}' is not one of this master's roles ({', '.join(sorted(roles_allowed))})"
    if info.user == "root" and not root_allowed:
        return "framework_info.user: frameworks of user 'root' are not allowed here (--no-root-submissions)"
    return None


def _check_offer_filters(filters: Mapping[str, OfferFilters], roles: Collection[str]) -> None:
    for role, wanted in filters.items():
        if role not in roles:
            raise CallError(f"framework_info.offer_filters: '{role}' is not one of the framework's roles")
        if wanted.min_allocatable_resources is not None:
            for minimum in wanted.min_allocatable_resources.quantities:
                for name, scalar in minimum.quantities.items():
                    to_milli(scalar.value, f"framework_info.offer_filters.{role}.min_allocatable_resources.{name}")


def suppressed_fault(suppressed: Iterable[str], roles: Collection[str]) -> str | None:
    known = frozenset(roles)
    for role in suppressed:
        if role not in known:
            return f"suppressed_roles: '{role}' is not one of the framework's roles"
    return None


def immutable_fault(old: FrameworkInfo, new: FrameworkInfo) -> str | None:
    """Why UPDATE_FRAMEWORK cannot turn old into new."""
    if old.user != new.user:
        return f"framework_info.user: cannot change from '{old.user}' to '{new.user}'"
    if old.checkpoint != new.checkpoint:
        return "framework_info.checkpoint: cannot change"
    if old.principal != new.principal:
        return "Changing framework's principal is not allowed."
    return None


# ---- Constraints ----------------------------------------------------------------------------------------


def constraints_fault(constraints: OfferConstraints | None, roles: Collection[str]) -> str | None:
    """Why offer constraints cannot be accepted."""
    for role, wanted in constraints.role_constraints.items() if constraints is not None else ():
        if role not in roles:
            return f"offer_constraints: '{role}' is not one of the framework's roles"
        fault = groups_fault(wanted, f"offer_constraints.role_constraints.{role}")
        if fault is not None:
            return fault
    return None


def groups_fault(constraints: RoleConstraints | None, field: str) -> str | None:
    """Why the constraints of one role, or of one demand, cannot be accepted."""
    if constraints is None:
        return None
    if not constraints.groups:
        return f"{field}.groups: must not be empty"
    for number, group in enumerate(constraints.groups):
        if not group.attribute_constraints:
            return f"{field}.groups[{number}].attribute_constraints: must not be empty"
        for index, constraint in enumerate(group.attribute_constraints):
            fault = _constraint_fault(constraint, f"{field}.groups[{number}].attribute_constraints[{index}]")
            if fault is not None:
                return fault
    return None


def _constraint_fault(constraint: AttributeConstraint, field: str) -> str | None:
    selector, predicate = constraint.selector, constraint.predicate
    if (selector.attribute_name is None) == (selector.pseudoattribute_type is None):
        return f"{field}.selector: exactly one of 'attribute_name' and 'pseudoattribute_type' must be set"
    if selector.pseudoattribute_type is not None and selector.pseudoattribute_type.value == "UNKNOWN":
        return f"{field}.selector.pseudoattribute_type: must be HOSTNAME, REGION or ZONE"
    if sum(getattr(predicate, name) is not None for name in predicate.__struct_fields__) != 1:
        return f"{field}.predicate: exactly one of {', '.join(predicate.__struct_fields__)} must be set"
    for name, matches in (("text_matches", predicate.text_matches), ("text_not_matches", predicate.text_not_matches)):
        if matches is not None:
            try:
                compiled(matches.regex)
            except CallError as error:
                return f"{field}.predicate.{name}.regex: {error}"
    return None
