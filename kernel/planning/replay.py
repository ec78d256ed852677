"""A trace replayed on the allocator in virtual time: who got what, when, and how long the others waited.

Frameworks state their demand, take what they are offered at once and share it fairly among their jobs: whichever has the fewest
tasks running is next, as in Hadoop's fair scheduler. Tasks start in no time and never fail.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

from msgspec import Struct, field

from kernel.clock import Now
from kernel.master.allocator import Allocation, Allocator, AllocatorConfig, Demand, FrameworkOptions, Quota, Why
from kernel.planning.series import Series
from kernel.planning.trace import Job
from kernel.wire.constraints import Site
from kernel.wire.resources import EMPTY, Resources

NOBODY_S = 600.0  # When nothing runs and nothing has begun for so long, what still waits waits for ever.


class Policy(Struct, frozen=True):
    """What an operator decided: weights and quotas by role."""

    weights: Mapping[str, float] = {}
    quotas: Mapping[str, Quota] = {}


class Course(Struct):
    """How one job went. arrived_s: None when it never did. waited_s: of its tasks that started, in all. stuck: why those that never
    started did not."""

    job: Job
    arrived_s: float | None = None
    started: int = 0
    ended: int = 0
    running: int = 0
    waited_s: float = 0.0
    first_s: float | None = None
    end_s: float | None = None
    stuck: str | None = None

    @property
    def waiting(self) -> int:
        return self.job.tasks - self.started


class Outcome(Struct):
    """All of it. waits: by role, (seconds, how many tasks). shares: weighted dominant shares by role; used: part of the cluster by
    resource."""

    courses: list[Course]
    waits: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    shares: dict[str, Series] = field(default_factory=dict)
    used: dict[str, Series] = field(default_factory=dict)
    end_s: float = 0.0


class _Kind(Struct, frozen=True):
    """Tasks that are one demand: of one role and shape; of a gang, those of its job alone."""

    role: str
    shape: Resources
    gang: int | None = None

    @staticmethod
    def of(job: Job) -> _Kind:
        return _Kind(job.role, job.shape, job.number if job.gang else None)

    @property
    def name(self) -> str:
        return f"{self.role}:{self.shape}" if self.gang is None else f"{self.role}:{self.shape}:{self.gang}"


class _Framework:
    """A framework and its jobs. Those of one kind are in a heap by how many of their tasks run; an entry that says otherwise than its
    job is void."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.roles: dict[str, None] = {}
        self._kinds: dict[str, _Kind] = {}
        self._pending: dict[_Kind, int] = {}
        self._queues: dict[_Kind, list[tuple[int, int, Course]]] = {}

    def add(self, course: Course) -> None:
        job = course.job
        self.roles[job.role] = None
        kind = _Kind.of(job)
        self._kinds[kind.name] = kind
        self._pending[kind] = self._pending.get(kind, 0) + job.tasks
        self.queue(course)

    def queue(self, course: Course) -> None:
        """The job is new, or has more or fewer tasks running."""
        if course.waiting:
            job = course.job
            heapq.heappush(self._queues.setdefault(_Kind.of(job), []), (course.running, job.number, course))

    def demands(self) -> list[Demand]:
        return [
            Demand(kind.name, kind.role, kind.shape, count, None if kind.gang is None else count)
            for kind, count in self._pending.items()
            if count
        ]

    def take(self, name: str, count: int) -> list[tuple[Course, int]]:
        """Which jobs so many tasks of a demand belong to."""
        kind = self._kinds[name]
        queue = self._queues[kind]
        self._pending[kind] -= count
        taken: dict[int, tuple[Course, int]] = {}
        while count:
            running, number, course = heapq.heappop(queue)
            if running == course.running and course.waiting:
                count -= 1
                course.started += 1
                course.running += 1
                taken[number] = (course, taken.get(number, (course, 0))[1] + 1)
                self.queue(course)
        if not self._pending[kind]:
            del self._pending[kind]
        return list(taken.values())


class _End(Struct, frozen=True):
    """Tasks of one job on one agent that end together."""

    course: Course
    count: int
    agent_id: str


class Replay:
    """One run. agents: what each has."""

    def __init__(self, agents: Sequence[Resources], jobs: Sequence[Job], policy: Policy, config: AllocatorConfig | None = None) -> None:
        self.allocator = Allocator(config or AllocatorConfig())
        self.now = Now(0.0, 0.0)
        self.outcome = Outcome([Course(job) for job in jobs])
        self._frameworks: dict[str, _Framework] = {}
        self._events: list[tuple[float, int, Course | _End]] = []
        self._numbers = 0
        self._running = self._pending = 0
        self._totals: dict[str, int] = {}
        self._held: dict[str, int] = {}
        for number, total in enumerate(agents):
            self.allocator.add_agent(f"agent-{number}", total, Site(f"host-{number}"), self.now)
            for name, amount in total.scalars().items():
                self._totals[name] = self._totals.get(name, 0) + amount
        for role, weight in policy.weights.items():
            self.allocator.set_weight(role, weight)
        if policy.quotas:
            self.allocator.set_quotas(policy.quotas)
        self._followers: dict[int, list[Course]] = {}
        for course in self.outcome.courses:
            if course.job.after is None:
                self._push(course.job.arrival_s, course)
            else:
                self._followers.setdefault(course.job.after, []).append(course)

    def run(self) -> Outcome:
        """Replay until nothing is left that can run."""
        quiet_s = 0.0
        while self._events or self._pending:
            at_s = self._next_s()
            if not self._running and not self._events and (at_s is None or at_s > quiet_s + NOBODY_S):
                self._give_up()
                break
            assert at_s is not None, "something runs or arrives"
            self._record(at_s)
            self.now = Now(at_s, at_s)
            if self._take_events():
                quiet_s = at_s
            self._settle()
        self.outcome.end_s = quiet_s
        return self.outcome

    # ---- Time -------------------------------------------------------------------------------------------

    def _push(self, at_s: float, event: Course | _End) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (at_s, self._numbers, event))

    def _next_s(self) -> float | None:
        dues = [self._events[0][0]] if self._events else []
        if self._pending and (due_s := self.allocator.next_due()) is not None:
            dues.append(max(due_s, self.now.mono_s))
        return min(dues, default=None)

    def _take_events(self) -> bool:
        """Take in all that happens at this instant; say whether anything did."""
        changed: dict[str, _Framework] = {}
        happened = False
        while self._events and self._events[0][0] <= self.now.mono_s:
            happened = True
            event = heapq.heappop(self._events)[2]
            if isinstance(event, _End):
                self._ended(event)
            else:
                event.arrived_s = self.now.mono_s
                framework = self._framework(event)
                framework.add(event)
                self._pending += event.job.tasks
                changed[framework.name] = framework
        for framework in changed.values():
            self.allocator.update_framework(framework.name, framework.roles, (), FrameworkOptions())
            self.allocator.request(framework.name, framework.demands(), self.now)
        return happened

    def _framework(self, course: Course) -> _Framework:
        job = course.job
        framework = self._frameworks.get(job.framework)
        if framework is None:
            framework = self._frameworks[job.framework] = _Framework(job.framework)
            self.allocator.add_framework(job.framework, (job.role,), (), FrameworkOptions())
        return framework

    # ---- What is decided --------------------------------------------------------------------------------

    def _settle(self) -> None:
        self.allocator.expire(self.now)
        while self.allocator.unsettled:
            result = self.allocator.allocate(self.now)
            for allocation in result.rescind:
                self.allocator.close_offers((allocation,), EMPTY, None, self.now)
            for allocation in result.allocations:
                self._launch(allocation)

    def _launch(self, allocation: Allocation) -> None:
        """The framework takes what it was offered, as it was cut for it."""
        framework = self._frameworks[allocation.framework_id]
        shapes: list[Resources] = []
        used = EMPTY
        for entry, times in allocation.cover:
            shape = entry.demand.shape
            for course, count in framework.take(entry.demand.name, times):
                self._start(course, count, allocation.agent_id)
                shapes += [shape] * count
                used += _times(shape, count)
        self.allocator.close_offers((allocation,), used, None, self.now)
        self.allocator.launched(allocation.framework_id, allocation.role, shapes)

    def _start(self, course: Course, count: int, agent_id: str) -> None:
        now_s, job = self.now.mono_s, course.job
        assert course.arrived_s is not None, "it waits"
        waited_s = now_s - course.arrived_s
        course.waited_s += waited_s * count
        if course.first_s is None:
            course.first_s = now_s
        self.outcome.waits.setdefault(job.role, []).append((waited_s, count))
        self._pending -= count
        self._running += count
        self._hold(job.shape, count)
        if job.spread:
            for task in range(course.started - count, course.started):
                self._push(now_s + job.lasting_s(task), _End(course, 1, agent_id))
        else:
            self._push(now_s + job.duration_s, _End(course, count, agent_id))

    def _ended(self, end: _End) -> None:
        course, job = end.course, end.course.job
        course.running -= end.count
        course.ended += end.count
        self._running -= end.count
        self._hold(job.shape, -end.count)
        if course.ended == job.tasks:
            course.end_s = self.now.mono_s
            for follower in self._followers.get(job.number, ()):
                self._push(self.now.mono_s + follower.job.arrival_s, follower)
        self._frameworks[job.framework].queue(course)
        self.allocator.recover(job.framework, job.role, end.agent_id, _times(job.shape, end.count), self.now)

    def _give_up(self) -> None:
        """Nothing runs, nothing arrives, and some still wait: say why."""
        for name in self._frameworks:
            why = {reason.name: reason.why for reason in self.allocator.explain(name)}
            for course in self.outcome.courses:
                if course.job.framework == name and course.waiting:
                    course.stuck = why.get(_Kind.of(course.job).name, Why.NO_FREE).value

    # ---- What is written down ---------------------------------------------------------------------------

    def _hold(self, shape: Resources, count: int) -> None:
        for name, amount in shape.scalars().items():
            self._held[name] = self._held.get(name, 0) + amount * count

    def _record(self, until_s: float) -> None:
        """What held from the last instant until this one."""
        since_s = self.now.mono_s
        if until_s <= since_s:
            return
        for view in self.allocator.loads():
            self.outcome.shares.setdefault(view.role, Series()).add(since_s, until_s, view.share)
        for name, total in self._totals.items():
            self.outcome.used.setdefault(name, Series()).add(since_s, until_s, self._held.get(name, 0) / total)


def _times(shape: Resources, count: int) -> Resources:
    return shape if count == 1 else Resources.sum([shape] * count)
