"""What is wrong with quotas and weights that an operator asks for (spec: mesos-v1, sections 6.4, 6.5 and 7.4).

Unlike in Mesos any role may have a quota. Of a role and those below it must hold, for each resource: its guarantee is at most its limit;
its limit is at most that of any role above; what is guaranteed below it (the larger of a role's own guarantee and the sum of those right
below it) is at most its guarantee, if it has one, and at most its limit. What has no guarantee above it counts against the cluster.

Pure: looks at values only. All raise CallError, naming the field, the value and what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping

from kernel.errors import CallError, Conflict
from kernel.master.allocator import Quota
from kernel.wire.operator import QuotaConfig, WeightInfo
from kernel.wire.resources import Resource
from kernel.wire.roles import WEIGHT_MAX, WEIGHT_MIN, ancestors, validate_role
from kernel.wire.values import Scalar, ValueType, format_milli

MEM_MAX = 2**40  # Megabytes: an exabyte.
AMOUNT_MAX = 10**12
ROUNDING = 1e-9  # Of a double that was written with three decimals.
WELL_KNOWN = frozenset({"cpus", "mem", "disk", "gpus"})


# ---- One value ------------------------------------------------------------------------------------------


def check_role(role: str | None, allowed: Collection[str] | None, field: str) -> str:
    """The role, if it is one and of this master's, when it has a list of them."""
    if role is None or not role:
        raise CallError(f"{field}: must be set")
    validate_role(role, field)
    if allowed is not None and role not in allowed:
        raise CallError(f"{field}: '{role}' is not one of this master's roles ({', '.join(sorted(allowed))})")
    return role


def thousandths(value: float, name: str, field: str) -> int:
    most = MEM_MAX if name in ("mem", "disk") else AMOUNT_MAX
    if not math.isfinite(value) or not 0 <= value <= most:
        raise CallError(f"{field}: {value!r} is not allowed; a number from 0 to {most} is")
    milli = round(value * 1000)
    if abs(value * 1000 - milli) > ROUNDING * max(1.0, value * 1000):
        near = max(milli, 1) / 1000
        raise CallError(f"{field}: {value!r} is too precise; thousandths are the least, such as {near!r}, from 0 to {most}")
    if name == "gpus" and milli % 1000:
        raise CallError(f"{field}: {value!r} is not allowed; gpus are whole numbers")
    return milli


def weights_of(infos: Iterable[WeightInfo], allowed: Collection[str] | None) -> dict[str, float]:
    found: dict[str, float] = {}
    for index, info in enumerate(infos):
        field = f"weight_infos[{index}]"
        role = check_role(info.role, allowed, f"{field}.role")
        if not WEIGHT_MIN <= info.weight <= WEIGHT_MAX:  # NaN is not.
            raise CallError(f"{field}.weight: {info.weight!r} is not allowed; a number above 0, from {WEIGHT_MIN} to {WEIGHT_MAX}, is")
        if role in found:
            raise CallError(f"{field}.role: '{role}' appears twice")
        found[role] = info.weight
    return found


# ---- One quota ------------------------------------------------------------------------------------------


def quotas_of(configs: Iterable[QuotaConfig], allowed: Collection[str] | None) -> dict[str, Quota]:
    """What each config says, by role."""
    found: dict[str, Quota] = {}
    for index, config in enumerate(configs):
        field = f"quota_configs[{index}]"
        role = check_role(config.role, allowed, f"{field}.role")
        if role in found:
            raise CallError(f"{field}.role: '{role}' appears twice")
        guarantees, limits = _amounts(config.guarantees, f"{field}.guarantees"), _amounts(config.limits, f"{field}.limits")
        for name, guarantee in guarantees.items():
            if guarantee > limits.get(name, guarantee):
                raise CallError(
                    f"{field}.guarantees.{name}: {format_milli(guarantee)} is above the limit of '{role}', {format_milli(limits[name])}"
                )
        found[role] = Quota({name: amount for name, amount in guarantees.items() if amount}, limits)
    return found


def _amounts(scalars: Mapping[str, Scalar], field: str) -> dict[str, int]:
    for name in scalars:
        if not name or not name.isprintable() or any(character in " /;:()[]{}" for character in name):
            raise CallError(f"{field}: {name!r} is not the name of a resource")
    return {name: thousandths(scalar.value, name, f"{field}.{name}") for name, scalar in scalars.items()}


def legacy_quota(guarantee: Iterable[Resource], field: str = "guarantee") -> Quota:
    """The quota that the older form asks for: the guarantee is the limit, too."""
    amounts: dict[str, int] = {}
    for index, resource in enumerate(guarantee):
        at = f"{field}[{index}]"
        if resource.type is not ValueType.SCALAR or resource.scalar is None:
            raise CallError(f"{at}: '{resource.name}' is not a scalar; only scalars can be guaranteed")
        if resource.reservations or resource.reservation is not None or resource.role not in (None, "*"):
            raise CallError(f"{at}: must not be reserved")
        if resource.revocable is not None or resource.disk is not None or resource.shared is not None:
            raise CallError(f"{at}: must not be revocable or shared, nor a disk of its own")
        if resource.name in amounts:
            raise CallError(f"{at}.name: '{resource.name}' appears twice")
        amounts |= _amounts({resource.name: resource.scalar}, at)
    if not amounts:
        raise CallError(f"{field}: must name at least one resource")
    return Quota({name: amount for name, amount in amounts.items() if amount}, amounts)


# ---- All of them together -------------------------------------------------------------------------------


def check_hierarchy(quotas: Mapping[str, Quota]) -> None:
    """Whether these, all that would be set, fit into each other. Cost: their number times resources and depth."""
    for name in _names(quotas):
        below = guaranteed_below(quotas, name)
        for role, quota in quotas.items():
            own, limit, beneath = quota.guarantees.get(name, 0), quota.limits.get(name), below[role]
            if limit is not None:
                for above in ancestors(role):
                    most = quotas[above].limits.get(name) if above in quotas else None
                    if most is not None and limit > most:
                        raise CallError(
                            f"limits.{name} of '{role}': {format_milli(limit)} is above {format_milli(most)}, the limit of '{above}'"
                        )
            for what, amount in (("guarantees", own or None), ("limits", limit)):
                if amount is not None and beneath > amount:
                    raise CallError(
                        f"{what}.{name} of '{role}': {format_milli(amount)} is below {format_milli(beneath)}, what is guaranteed to the "
                        "roles below it in all"
                    )


def guaranteed_below(quotas: Mapping[str, Quota], name: str) -> dict[str, int]:
    """What of a resource is guaranteed below each role that has a quota, and, under the empty name, in all."""
    below = dict.fromkeys(quotas, 0) | {"": 0}
    for role in sorted(quotas, key=lambda role: role.count("/"), reverse=True):  # Those below come before those above.
        above = next((above for above in reversed(ancestors(role)) if above in quotas), "")
        below[above] += max(below[role], quotas[role].guarantees.get(name, 0))
    return below


def _names(quotas: Mapping[str, Quota]) -> dict[str, None]:
    return dict.fromkeys(name for quota in quotas.values() for name in (*quota.guarantees, *quota.limits))


def check_known(quotas: Mapping[str, Quota], known: Mapping[str, int]) -> None:
    """Whether the cluster has such resources at all. known: what all agents have together."""
    for role, quota in quotas.items():
        for what, amounts in (("guarantees", quota.guarantees), ("limits", quota.limits)):
            for name in amounts:
                if name not in WELL_KNOWN and name not in known:
                    there = ", ".join(sorted(WELL_KNOWN | known.keys()))
                    raise CallError(
                        f"{what}.{name} of '{role}': no agent has such a scalar resource; allowed are {there} (force sets it all the same)"
                    )


def check_capacity(before: Mapping[str, Quota], after: Mapping[str, Quota], capacity: Mapping[str, int], legacy: bool = False) -> None:
    """Whether the cluster (thousandths by name) has what would be guaranteed; less than before is always allowed. legacy: raises
    Conflict."""
    for name in _names(after):
        wanted = guaranteed_below(after, name)[""]
        if wanted > max(capacity.get(name, 0), guaranteed_below(before, name)[""]):
            text = (
                f"guarantees.{name}: with this update {format_milli(wanted)} would be guaranteed in all, and all agents have "
                f"{format_milli(capacity.get(name, 0))} (force sets it all the same)"
            )
            raise Conflict(text) if legacy else CallError(text)


def check_consumed(before: Mapping[str, Quota], updates: Mapping[str, Quota], consumed: Mapping[str, Mapping[str, int]]) -> None:
    """Whether limits leave room for what is used and reserved; raising one is always allowed. consumed: by role."""
    for role, quota in updates.items():
        for name, limit in quota.limits.items():
            now = consumed.get(role, {}).get(name, 0)
            former = before[role].limits.get(name) if role in before else None
            if limit < now and (former is None or limit < former):
                raise CallError(
                    f"limits.{name} of '{role}': {format_milli(limit)} is below {format_milli(now)}, what the role uses and has reserved "
                    "(force sets it all the same; no task is ended)"
                )
