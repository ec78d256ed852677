"""What an operator may decide, as options of commands that try it out: quotas and weights of roles."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from kernel.commands import output
from kernel.errors import CallError
from kernel.wire.roles import WEIGHT_MAX, WEIGHT_MIN, validate_role

if TYPE_CHECKING:
    from kernel.planning.plan import Quota

T = TypeVar("T")
OF_ROLE = "ROLE:AMOUNTS"


def quotas(guarantees: Iterable[str], limits: Iterable[str]) -> dict[str, Quota]:
    """Of `--guarantee` and `--limit`, by role. Raises CallError."""
    from kernel.planning.plan import Quota

    guaranteed = _each((_amounts(text, "--guarantee") for text in guarantees), "--guarantee")
    limited = _each((_amounts(text, "--limit") for text in limits), "--limit")
    found = {name: Quota(guaranteed.get(name, {}), limited.get(name, {})) for name in (*guaranteed, *limited)}
    for name, quota in found.items():
        for resource, amount in quota.guarantees.items():
            if amount > quota.limits.get(resource, amount):
                least, most = (output.amount(resource, milli / 1000) for milli in (amount, quota.limits[resource]))
                raise CallError(f"--guarantee: {least} {resource} of '{name}' is above its limit, {most}")
    return found


def weights(texts: Iterable[str]) -> dict[str, float]:
    """Of `--weight`, by role. Raises CallError."""
    return _each(map(_weight, texts), "--weight")


def _each(pairs: Iterable[tuple[str, T]], field: str) -> dict[str, T]:
    """By role. Raises CallError for one that is there twice."""
    found: dict[str, T] = {}
    for name, given in pairs:
        if name in found:
            raise CallError(f"{field}: '{name}' is given twice")
        found[name] = given
    return found


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        found = float(number)
    except ValueError:
        found = 0.0
    if not WEIGHT_MIN <= found <= WEIGHT_MAX:  # NaN is not.
        raise CallError(f"--weight: '{text}' is not allowed; ROLE=NUMBER is due, a number above 0, from {WEIGHT_MIN} to {WEIGHT_MAX}")
    return role(name, "--weight"), found


def role(name: str, field: str) -> str:
    """The name, which must be a role's. Raises CallError."""
    validate_role(name, field)
    return name


def _amounts(text: str, field: str) -> tuple[str, dict[str, int]]:
    from kernel.planning.plan import quota_amounts

    name, colon, given = text.rpartition(":")
    if not colon:
        raise CallError(f"{field}: '{text}' is not allowed; {OF_ROLE} is due, as in eng/batch:cpus=8,mem=16g")
    return role(name, field), quota_amounts(given, field)
