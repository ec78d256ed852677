"""`/explain`: why demands wait, asked of the allocator, which decides by the same rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from kernel.master.allocator import Reason, Why
from kernel.master.notices import Notice
from kernel.master.state import MasterState
from kernel.wire.codec import encode
from kernel.wire.explanation import Explanation, Guarantee, Limit, Preemption, RoomMade, Silent, Unmet, WaitingDemand
from kernel.wire.resources import Resources
from kernel.wire.revocable import firm, revocable
from kernel.wire.roles import is_same_or_below

DEMANDS_MAX = 100
SILENT_MAX = 100
PREEMPTIONS_MAX = 1000

# What would let a demand go on.
UNBLOCKS: Mapping[Why, str] = {
    Why.INACTIVE: "the framework must connect again: see `meseta framework list`",
    Why.SUPPRESSED: "the framework must send REVIVE for the role",
    Why.NO_AGENTS: "an agent must register: see `meseta node list`",
    Why.CONSTRAINT: "an agent that meets the constraints, or a demand with others",
    Why.SIZE: "a larger agent, or a smaller demand",
    Why.SLACK: "an agent that lends more (`--resource_estimator`), or a demand that is not revocable",
    Why.RESERVED: "a reservation for this role, or less that is reserved for others: see `meseta reservation list`",
    Why.QUOTA_LIMIT: "tasks of the role must end, or its limit be raised: `meseta quota set {role} --limit ...`",
    Why.GUARANTEED: "a guarantee for this role, or smaller ones for others: see `meseta quota list`",
    Why.FILTERS: "the refusals of the framework must end; REVIVE ends them at once",
    Why.CLAIMED: "the tasks on the agent that is kept for it must end",
    Why.LOCALITY: "some time (`--locality_delay` of the master), or that an agent it prefers becomes free",
    Why.GANG: "tasks must end, or agents be added, until all fit at once",
    Why.NO_FREE: "tasks must end, or an agent be added",
    Why.PENDING: "nothing: it is about to be offered",
}


def explain(s: MasterState, query: Mapping[str, str]) -> tuple[bytes]:
    """?framework_id= and ?name= select; ?limit= demands at most. Cost: for each at worst a look at every agent."""
    wanted, name = query.get("framework_id"), query.get("name")
    limit = _limit(query.get("limit"))
    frameworks = [framework for framework in s.frameworks.values() if wanted in (None, framework.framework_id)]
    waiting = sorted(
        (
            (entry.since_s, framework.framework_id, framework.info.name, entry)
            for framework in frameworks
            for entry in s.allocator.waiting(framework.framework_id)
            if name is None or entry.demand.name == name
        ),
        key=lambda item: item[:2],
    )
    shown = tuple(
        _shown(s, framework_id, framework_name, s.allocator.why(entry)) for _, framework_id, framework_name, entry in waiting[:limit]
    )
    silent = (
        Silent(framework.framework_id, framework.info.name)
        for framework in frameworks
        if framework.connected and not s.allocator.states_demand(framework.framework_id)
    )
    preemptions = tuple(islice(map(_preemption, s.notices.all()), PREEMPTIONS_MAX))
    unmet = tuple(islice(_unmet(s), PREEMPTIONS_MAX))
    return (encode(Explanation(shown, len(waiting) - len(shown), tuple(islice(silent, SILENT_MAX)), preemptions, unmet)),)


def _shown(s: MasterState, framework_id: str, framework: str, reason: Reason) -> WaitingDemand:
    limit, kept = reason.limit, reason.kept
    return WaitingDemand(
        framework_id=framework_id,
        framework=framework,
        name=reason.name,
        role=reason.role,
        resources=_amounts(reason.shape),
        waiting=reason.waiting,
        offered=reason.offered,
        since=_wall_s(s, reason.waiting_since_s),
        why=reason.why.name,
        reason=reason.sentence,
        unblocks=UNBLOCKS[reason.why].format(role=reason.role if limit is None else limit.role),
        limit=None if limit is None else Limit(limit.role, limit.name, limit.limit / 1000, limit.consumed / 1000, limit.frameworks),
        guarantee=None if kept is None else Guarantee(kept.name, kept.free / 1000, kept.kept / 1000, kept.roles),
        room=_room(s, framework_id, reason.role),
    )


def _amounts(shape: Resources) -> dict[str, float]:
    """Units by name, what is revocable as NAME_revocable."""
    own, slack = firm(shape).scalars(), revocable(shape).scalars()
    return {name: amount / 1000 for name, amount in (*own.items(), *((f"{name}_revocable", amount) for name, amount in slack.items()))}


def _room(s: MasterState, framework_id: str, role: str) -> RoomMade | None:
    """What is done for a framework that waits in a role to which something is owed; None when nothing is, or has to be."""
    if (framework_id, role) not in s.notices.wanting:
        return None
    missing = s.notices.lacking.get((framework_id, role))
    notices = [notice for notice in s.notices.all() if is_same_or_below(role, notice.guarantees[-1])]
    if not notices and missing is None:
        return None
    return RoomMade(
        missing[0] if missing is not None else notices[0].guarantees[0],
        sum(len(notice.tasks) for notice in notices),
        tuple(dict.fromkeys(notice.framework.info.name for notice in notices)),
        max((round(notice.due_wall_s, 3) for notice in notices), default=None),
        missing is not None,
    )


def _unmet(s: MasterState) -> Iterator[Unmet]:
    for (framework_id, role), guarantees in s.notices.lacking.items():
        framework = s.frameworks.get(framework_id)
        if framework is not None:
            yield Unmet(guarantees[0], framework_id, framework.info.name, role)


def _preemption(notice: Notice) -> Preemption:
    framework, task = notice.framework, next(iter(notice.tasks.values()))
    return Preemption(
        notice.guarantees[0],
        framework.framework_id,
        framework.info.name,
        task.role,
        notice.agent.agent_id,
        tuple(task_id for _, task_id in notice.tasks),
        round(notice.due_wall_s, 3),
        notice.killed,
        notice.inquiry.answer.value,
    )


def _wall_s(s: MasterState, mono_s: float) -> float:
    """When that was, by the clock on the wall."""
    return mono_s if s.started is None else round(s.started.wall_s + mono_s - s.started.mono_s, 3)


def _limit(text: str | None) -> int:
    return min(int(text), DEMANDS_MAX) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else DEMANDS_MAX


VIEWS = {"explain": explain}
