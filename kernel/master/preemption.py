"""Room for guarantees: whose tasks stand in the way of what a role is guaranteed is asked to give way, and after the notice they are
killed (docs/decisions/preemption.md).

Whom that concerns is decided anew at each look (`kernel.master.allocator.preempt`), so a notice whose cause is gone is taken back. All
of it is in memory: the next master gives notice anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

from kernel.clock import Now
from kernel.master import inverse_offers, tasks
from kernel.master.allocator import Relief, Run
from kernel.master.model import Framework, InverseOffer, Task, TaskKey
from kernel.master.notices import Notice, Notices
from kernel.master.render import time_info
from kernel.master.state import MasterState
from kernel.wire.conversion import unshared
from kernel.wire.nodes import Unavailability
from kernel.wire.operator import InverseOfferAnswer
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.roles import is_same_or_below
from kernel.wire.task import ExecutorType

LOOK_S = 1.0
RUNS_MAX = 2000  # Looked at in a row, about; at least so many of each framework:
RUNS_OF_EACH_MIN = 20
BROAD_S = 60.0
SETTLE_S = 5.0  # So long somebody is in need before anybody is asked: offers that are answered and tasks that end may do.


def begin(s: MasterState, now: Now) -> None:
    """Quotas have changed: look, from now on, whether anybody is in need."""
    if s.config.preempt_for_guarantees and _is_anything_guaranteed(s):
        s.deadlines.push(now.mono_s, "preemption", "")


def due(s: MasterState, key: str, now: Now) -> None:
    """Deadline: see who is in need, and who is to give way for that."""
    _apply(s, s.allocator.reliefs(_runs(s)) if _may_decide(s) else [], now)
    if _is_anything_guaranteed(s):
        s.deadlines.push(now.mono_s + LOOK_S, "preemption", key)


def why(guarantees: tuple[str, ...]) -> str:
    """What the framework of a task is told."""
    return f"preempted for what role {guarantees[0]} is guaranteed"


def _is_anything_guaranteed(s: MasterState) -> bool:
    return any(quota.guarantees for quota in s.quotas.values())


def _may_decide(s: MasterState) -> bool:
    """While agents of the master before are still to come back, nobody knows what roles consume."""
    return s.paused_until is None and not s.recovered and s.allocator.is_owed


# ---- What runs ------------------------------------------------------------------------------------------


def _runs(s: MasterState) -> list[Run]:
    """What may be ended, in roles above a limit or with revocable resources: the latest of each framework, and what has notice."""
    sources, notices = _sources(s), s.notices
    share = max(RUNS_OF_EACH_MIN, RUNS_MAX // max(1, len(sources))) * notices.breadth
    notices.more = False
    noticed: dict[str, list[Task]] = {}
    for notice in notices.all():
        noticed.setdefault(notice.framework.framework_id, []).extend(notice.tasks.values())
    found: list[Run] = []
    for framework, roles in sources:
        known = noticed.pop(framework.framework_id, [])
        latest = islice(reversed(framework.tasks.values()), share)
        found += _runs_of(s, framework, dict.fromkeys((*known, *latest)), roles)
        notices.more = notices.more or len(framework.tasks) > share
    for framework_id, known in noticed.items():  # Their role is not above a limit any more: those that are ending still count.
        if (of := s.frameworks.get(framework_id)) is not None:
            found += _runs_of(s, of, known, {task.role for task in known})
    return found


def _sources(s: MasterState) -> list[tuple[Framework, set[str]]]:
    """The frameworks that have such, and in which roles."""
    over, sources = s.allocator.roles_over_limit(), []
    for framework in s.frameworks.values():
        roles = {
            role
            for role, used in framework.used.by_role.items()
            if any(is_same_or_below(role, above) for above in over) or any(key.revocable for key, _ in used.other)
        }
        if roles:
            sources.append((framework, roles))
    return sources


def _runs_of(s: MasterState, framework: Framework, tasks_: Iterable[Task], roles: set[str]) -> Iterator[Run]:
    pods: set[tuple[str, str]] = set()
    for task in tasks_:
        if task.freed or task.role not in roles:
            continue
        at = (task.agent_id, task.executor_id)
        executor = framework.executors.get(at)
        if executor is None or executor.info.type is not ExecutorType.DEFAULT:
            yield _run(s, framework, [task], task.resources)
        elif at not in pods:  # One ends, all end.
            pods.add(at)
            members = [
                other
                for other in s.agents[task.agent_id].tasks.values()
                if (other.framework_id, other.executor_id) == (task.framework_id, task.executor_id) and not other.freed
            ]
            yield _run(s, framework, members, Resources.sum([executor.resources, *(member.resources for member in members)]))


def _run(s: MasterState, framework: Framework, members: list[Task], resources: Resources) -> Run:
    first, keys = members[0], tuple((task.framework_id, task.task_id) for task in members)
    return Run(
        keys,
        framework.framework_id,
        first.role,
        first.agent_id,
        unshared(resources),
        max(_started_s(task) for task in members),
        any(task.killing for task in members) and s.agents[first.agent_id].deactivation is None,
        any(key in s.notices.of for key in keys),
    )


def _started_s(task: Task) -> float:
    """When it was first heard of it; what is still starting is newest."""
    started_s = task.statuses[0].timestamp if task.statuses else None
    return math.inf if started_s is None else started_s


# ---- Notices --------------------------------------------------------------------------------------------


def _apply(s: MasterState, found: Iterable[Relief], now: Now) -> None:
    notices, settled = s.notices, []
    before, notices.wanting = notices.wanting, {}
    for relief in found:
        at = (relief.framework_id, relief.role)
        since_s = notices.wanting[at] = before.get(at, now.mono_s)
        if since_s + SETTLE_S <= now.mono_s:
            settled.append(relief)
    _note_lack(notices, {(relief.framework_id, relief.role): relief.guarantees for relief in settled if relief.lacks}, now)
    wanted: dict[TaskKey, tuple[str, ...]] = {
        key: relief.guarantees
        for relief in settled
        for run in relief.ended
        for key in run.key  # type: ignore[attr-defined]  # As `_run` made it.
    }
    _take_back_offers(s, settled, now)
    _keep_agents(s, settled)
    _revise(s, wanted)
    _give(s, wanted, now)
    for notice in notices.all():
        if notice.due_s <= now.mono_s and not notice.killed:
            _kill(s, notice)
    _ask(s, now)


def _note_lack(notices: Notices, lacking: dict[tuple[str, str], tuple[str, ...]], now: Now) -> None:
    """For whom what was looked at is not enough: look at more, at last at all of it; that, again and again, only after a while."""
    if not notices.more:
        notices.lacking = lacking
        if lacking and notices.breadth > 1:
            notices.broad_s = now.mono_s + BROAD_S
    else:  # Others may do.
        notices.lacking = {at: guarantees for at, guarantees in notices.lacking.items() if at in lacking}
    notices.breadth = 2 * notices.breadth if lacking and notices.more and notices.broad_s <= now.mono_s else 1


def _take_back_offers(s: MasterState, settled: Iterable[Relief], now: Now) -> None:
    """What is offered goes first; who was just offered something is given time to answer."""
    for relief in settled:
        for allocation in relief.returned:
            offer = s.offer_of.get(allocation)
            if offer is not None and offer.made_s + s.config.offer_hold_s <= now.mono_s:
                s.rescind(offer, now, tell=True)


def _keep_agents(s: MasterState, settled: Iterable[Relief]) -> None:
    wanted = {entry: agent for relief in settled for entry, agent in relief.kept.items()}
    kept = s.notices.kept
    for entry, agent in list(kept.items()):
        if wanted.get(entry) is not agent or entry.claim is not agent:
            s.allocator.give_up(entry, agent)
            del kept[entry]
    for entry, agent in wanted.items():
        if entry not in kept and s.allocator.keep(entry, agent):
            kept[entry] = agent


def _revise(s: MasterState, wanted: dict[TaskKey, tuple[str, ...]]) -> None:
    """Tasks that have ended, and those that need not, are forgotten."""
    for notice in s.notices.all():
        for key, task in list(notice.tasks.items()):
            if task.freed or notice.framework.tasks.get(task.task_id) is not task:
                s.notices.drop(key)
            elif key not in wanted and not notice.killed:
                s.notices.drop(key)
                _withdraw(s, notice)
                notice.inquiry.answer = InverseOfferAnswer.UNKNOWN  # It is asked for less, if for anything.
        if not notice.tasks:
            _withdraw(s, notice)


def _give(s: MasterState, wanted: dict[TaskKey, tuple[str, ...]], now: Now) -> None:
    """Notice to those who have none yet."""
    given: dict[tuple[str, str, tuple[str, ...]], Notice] = {}
    for key, guarantees in wanted.items():
        framework = s.frameworks.get(key[0])
        task = framework.tasks.get(key[1]) if framework is not None else None
        if framework is None or task is None or key in s.notices.of:
            continue
        at = (framework.framework_id, task.agent_id, guarantees)
        notice = given.get(at)
        if notice is None:
            notice = given[at] = Notice(framework, s.agents[task.agent_id], guarantees, s.config.preemption_notice_s, now)
        s.notices.add(notice, key, task)


def _kill(s: MasterState, notice: Notice) -> None:
    notice.killed = True
    _withdraw(s, notice)
    for task in notice.tasks.values():
        if not task.killing:
            tasks.preempt(s, notice.framework, task, why(notice.guarantees))
            s.notices.ended[task.role] += 1
            s.notices.gained[notice.guarantees[0]] += 1


def _ask(s: MasterState, now: Now) -> None:
    """Inverse offers to those who have not answered one, and were not asked or are back."""
    made: dict[str, list[InverseOffer]] = {}
    for notice in s.notices.all():
        framework, inquiry = notice.framework, notice.inquiry
        if notice.killed or framework.stream is None or inquiry.offer is not None or inquiry.answer is not InverseOfferAnswer.UNKNOWN:
            continue
        resources = sum((task.resources for task in notice.tasks.values()), start=EMPTY)
        until = Unavailability(time_info(notice.due_wall_s))
        offer = inverse_offers.make(s, framework, notice.agent, inquiry, until, resources, now)
        made.setdefault(framework.framework_id, []).append(offer)
    inverse_offers.send(s, made)


def _withdraw(s: MasterState, notice: Notice) -> None:
    if notice.inquiry.offer is not None:
        inverse_offers.withdraw(s, notice.inquiry.offer, tell=True)
