"""Constraints on agents' attributes, as frameworks state them for offers and demands (spec: mesos-v1, section 2.12).

Regular expressions come from outside and are matched by RE2, whose time is linear in the text, within the bounds of Mesos.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct

from kernel.errors import CallError
from kernel.wire.common import DomainInfo
from kernel.wire.offer import AttributeConstraint, Predicate, PseudoattributeType, RoleConstraints
from kernel.wire.task import Attribute
from kernel.wire.values import ValueType

REGEX_MEMORY_BYTES_MAX = 4096
REGEX_PROGRAM_SIZE_MAX = 100


class Site(Struct, frozen=True):
    """What constraints look at of an agent."""

    hostname: str
    attributes: Sequence[Attribute] = ()
    domain: DomainInfo | None = None

    @property
    def region(self) -> str | None:
        fault_domain = self.domain.fault_domain if self.domain is not None else None
        return fault_domain.region.name if fault_domain is not None else None

    @property
    def zone(self) -> str | None:
        fault_domain = self.domain.fault_domain if self.domain is not None else None
        return fault_domain.zone.name if fault_domain is not None else None


def satisfied(constraints: RoleConstraints, site: Site) -> bool:
    """Whether all constraints of some group hold. Raises CallError for an expression that `compiled` refuses."""
    return any(all(_holds(constraint, site) for constraint in group.attribute_constraints) for group in constraints.groups)


@lru_cache(maxsize=1024)
def compiled(regex: str) -> Callable[[str], Any]:
    """What matches whole texts. Raises CallError for what is no regular expression of RE2, or too large a one."""
    import re2  # Late: few processes need it.

    options = re2.Options()
    options.max_mem, options.log_errors = REGEX_MEMORY_BYTES_MAX, False
    try:
        pattern = re2.compile(regex, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        raise CallError(f"'{regex}' cannot be used: {text.decode(errors='replace') if isinstance(text, bytes) else text}") from error
    if pattern.programsize > REGEX_PROGRAM_SIZE_MAX:
        raise CallError(f"'{regex}' is too large: {pattern.programsize} steps of a program; at most {REGEX_PROGRAM_SIZE_MAX}")
    fullmatch: Callable[[str], Any] = pattern.fullmatch
    return fullmatch


def _holds(constraint: AttributeConstraint, site: Site) -> bool:
    selector, predicate = constraint.selector, constraint.predicate
    value: str | None
    match selector.pseudoattribute_type:
        case PseudoattributeType.HOSTNAME:
            value = site.hostname
        case PseudoattributeType.REGION:
            value = site.region
        case PseudoattributeType.ZONE:
            value = site.zone
        case _:
            named = next((attribute for attribute in site.attributes if attribute.name == selector.attribute_name), None)
            if named is not None and named.type is not ValueType.TEXT:
                return predicate.not_exists is None  # Text predicates hold for what is no text.
            value = named.text.value if named is not None and named.text is not None else None
    return _true(predicate, value)


def _true(predicate: Predicate, value: str | None) -> bool:
    if predicate.exists is not None:
        return value is not None
    if predicate.not_exists is not None:
        return value is None
    if predicate.text_equals is not None:
        return value == predicate.text_equals.value
    if predicate.text_not_equals is not None:
        return value != predicate.text_not_equals.value
    if predicate.text_matches is not None:
        return value is not None and compiled(predicate.text_matches.regex)(value) is not None
    if predicate.text_not_matches is not None:
        return value is None or compiled(predicate.text_not_matches.regex)(value) is None
    return False
