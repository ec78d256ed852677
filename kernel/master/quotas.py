"""Quotas and weights of roles at run time: checked, written to the registry, in force, and then offers beyond them taken back (spec:
mesos-v1, sections 4.1, 7.1 and 7.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master import preemption, registry
from kernel.master import quota_validation as validation
from kernel.master.allocator import Quota
from kernel.master.roles import consumed_by
from kernel.master.state import MasterState
from kernel.wire import operator
from kernel.wire.resources import quantity


def update_quota(s: MasterState, call: operator.UpdateQuota, now: Now) -> None:
    """UPDATE_QUOTA: all configs or none. dry_run: only say whether it would be done. Raises CallError."""
    updates = validation.quotas_of(call.quota_configs, s.config.roles_allowed)
    _check(s, updates, force=bool(call.force), legacy=False)
    if not call.dry_run:
        _set(s, dict(updates), now)


def set_quota(s: MasterState, call: operator.SetQuota, now: Now) -> None:
    """SET_QUOTA, POST /quota: the older form, for roles without a quota. Raises CallError, Conflict."""
    request = call.quota_request
    role = validation.check_role(request.role, s.config.roles_allowed, "quota_request.role")
    if role in s.quotas:
        raise CallError(f"quota_request.role: '{role}' has a quota already; UPDATE_QUOTA changes it")
    updates = {role: validation.legacy_quota(request.guarantee, "quota_request.guarantee")}
    _check(s, updates, force=bool(request.force), legacy=True)
    _set(s, dict(updates), now)


def remove_quota(s: MasterState, call: operator.RemoveQuota, now: Now) -> None:
    """REMOVE_QUOTA, DELETE /quota/ROLE: nothing is rescinded. Raises CallError."""
    role = validation.check_role(call.role, None, "remove_quota.role")
    if role not in s.quotas:
        raise CallError(f"remove_quota.role: '{role}' has no quota")
    _set(s, {role: None}, now)


def update_weights(s: MasterState, call: operator.UpdateWeights, now: Now) -> None:
    """UPDATE_WEIGHTS, PUT /weights: all or none; every offer is rescinded if a framework is in one of the roles. Raises CallError."""
    updates = validation.weights_of(call.weight_infos, s.config.roles_allowed)
    for role, weight in updates.items():
        s.weights[role] = weight
        s.out.append(registry.keep_weight(role, weight))
        s.allocator.set_weight(role, weight)
    subscribed = {role for framework in s.frameworks.values() for role in framework.roles}
    if any(of == role or of.startswith(f"{role}/") for role in updates for of in subscribed):
        for offer in list(s.offers.values()):
            s.rescind(offer, now, tell=True)


def _check(s: MasterState, updates: Mapping[str, Quota], force: bool, legacy: bool) -> None:
    after = {**s.quotas, **updates}
    validation.check_hierarchy(after)
    if not force:
        capacity = _capacity(s)
        validation.check_known(updates, capacity)
        validation.check_capacity(s.quotas, after, capacity, legacy)
        validation.check_consumed(s.quotas, updates, {role: consumed_by(s, role) for role in updates})


def _capacity(s: MasterState) -> Counter[str]:
    """What all registered agents have of scalars that are not revocable, disconnected ones too."""
    sums: Counter[str] = Counter()
    for agent in s.agents.values():
        total = agent.total
        sums.update(cpus=total.cpus, mem=total.mem, disk=total.disk, gpus=total.gpus)
        for key, amount in (total.other or {}).items():
            if isinstance(amount, int) and not key.revocable:
                sums[key.name] += quantity(key, amount)
    return +sums


def _set(s: MasterState, updates: Mapping[str, Quota | None], now: Now) -> None:
    """None: there is none any more. One without guarantee and limit is told until it is removed, and is none at the next start."""
    for role, quota in updates.items():
        if quota is None:
            del s.quotas[role]
        else:
            s.quotas[role] = quota
        s.out.append(registry.keep_quota(role, quota if quota != Quota() else None))
    s.allocator.set_quotas(s.quotas)
    preemption.begin(s, now)
    if not s.quotas:
        _resume(s)
    for allocation in s.allocator.offers_beyond_quota() if any(updates.values()) else ():
        s.rescind(s.offer_of[allocation], now, tell=True)


# ---- After a start --------------------------------------------------------------------------------------


def recover(s: MasterState, recorded: registry.Registry, now: Now) -> None:
    """Put back what the registry knows. Where there are quotas, nothing is offered until most agents are back with what they run: before
    that, nobody knows what roles consume. Called when the agents of the registry are known."""
    for role, weight in recorded.weights.items():
        s.weights[role] = weight
        s.allocator.set_weight(role, weight)
    s.quotas.update(recorded.quotas)
    s.allocator.set_quotas(s.quotas)
    preemption.begin(s, now)
    awaited = int(len(s.recovered) * s.config.allocator_agent_recovery_factor)
    if s.quotas and awaited:
        s.paused_until = len(s.recovered) - awaited
        s.allocator.pause(True)
        s.deadlines.push(now.mono_s + s.config.allocator_recovery_timeout_s, "recovery", "")


def look_again(s: MasterState) -> None:
    """Offer again, if as many agents are back as were waited for."""
    if s.paused_until is not None and len(s.recovered) <= s.paused_until:
        _resume(s)


def recovery_due(s: MasterState, key: str, now: Now) -> None:
    """Deadline: no agent is waited for any more."""
    _resume(s)


def _resume(s: MasterState) -> None:
    s.paused_until = None
    s.allocator.pause(False)
