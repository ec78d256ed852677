"""What an operator may decide, as options of commands that try it out: quotas and weights of roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernel.errors import CallError

if TYPE_CHECKING:
    from kernel.planning.plan import Quota

OF_ROLE = "ROLE:AMOUNTS"


def quotas(guarantees: Iterable[str], limits: Iterable[str]) -> dict[str, Quota]:
    """Of `--guarantee` and `--limit`, by role. Raises CallError."""
    from kernel.planning.plan import Quota

    guaranteed, limited = dict(_amounts(text, "guarantee") for text in guarantees), dict(_amounts(text, "limit") for text in limits)
    found = {name: Quota(guaranteed.get(name, {}), limited.get(name, {})) for name in (*guaranteed, *limited)}
    for name, quota in found.items():
        for resource, amount in quota.guarantees.items():
            if amount > quota.limits.get(resource, amount):
                raise CallError(f"guarantee: that of {name} for {resource} is above its limit")
    return found


def weight(text: str) -> tuple[str, float]:
    """Of `--weight`. Raises CallError."""
    name, _, number = text.rpartition("=")
    try:
        found = float(number)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise CallError(f"weight: '{text}' is not allowed; ROLE=NUMBER is due, a number above 0")
    return role(name, "weight"), found


def role(name: str, field: str) -> str:
    """The name, which must be a role's. Raises CallError."""
    from kernel.wire.roles import validate_role

    validate_role(name, field)
    return name


def _amounts(text: str, field: str) -> tuple[str, dict[str, int]]:
    from kernel.planning.amounts import parse_amounts

    name, colon, given = text.rpartition(":")
    if not colon:
        raise CallError(f"{field}: '{text}' is not allowed; {OF_ROLE} is due, as in eng/batch:cpus=8,mem=16g")
    return role(name, field), parse_amounts(given, field)
