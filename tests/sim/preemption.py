"""Operators who lower limits and raise guarantees of a crowded cluster whose master makes room for guarantees, under all faults."""

from __future__ import annotations

from typing import Any

from kernel.master import effects as m
from kernel.master import registry
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.master.model import TaskKey
from kernel.wire import operator
from kernel.wire.agent import KillTask
from kernel.wire.command import CommandInfo, Environment, Variable
from kernel.wire.ids import TaskID
from kernel.wire.nodes import MasterInfo
from kernel.wire.operator import QuotaConfig
from kernel.wire.resources import Resources
from kernel.wire.task import TaskInfo, TaskState
from kernel.wire.values import Scalar
from tests.sim.cluster import Framework, Master
from tests.sim.quotas import Regulated

NOTICE_S = 10.0
LOW, HIGH = "role0", "role1"  # Of the first and the second framework. Nothing is limited but the one, nor guaranteed but to the other.
SHAPE, LARGE = "cpus:1;mem:256", "cpus:3;mem:768"
MET_S = 60.0  # After so long a guarantee is met for which there is room to be made: settling, notice, grace and a launch.


class Preempting(Master):
    """A master with the switch on, that checks each kill of its own. given: since when there is notice, by task; ordered: ends that were
    ordered; preempted: ids of tasks for which that ever was."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self.given: dict[TaskKey, float] = {}
        self.ordered: set[TaskKey] = set()
        self.preempted: set[str] = set()

    def make(self) -> MasterCore:
        info = MasterInfo(id=f"M{self.life}", ip=0, port=5050, hostname="master")
        config = MasterConfig(preempt_for_guarantees=True, preemption_notice_s=NOTICE_S)
        self.given, self.ordered = {}, set()  # What an earlier master said is void.
        return MasterCore(config, info, registry.load(self.kept.items()), self.now(), lambda *_: [])

    def perform(self, effect: Any) -> None:
        if type(effect) is m.ToAgent and isinstance(effect.message, KillTask) and effect.message.preempted:
            self._check_kill(effect.message)
        super().perform(effect)

    def _check_kill(self, kill: KillTask) -> None:
        key = (kill.framework_id, kill.task_id)
        self.preempted.add(kill.task_id)
        if key in self.ordered:
            return  # It is told again.
        assert key in self.given, f"{key} is killed without notice"
        waited_s = self.world.now_s - self.given[key]
        assert waited_s >= 0.99 * NOTICE_S - 0.5, f"{key} is killed {waited_s:g} s after it was given notice"
        role = self.core.state.frameworks[kill.framework_id].tasks[kill.task_id].role
        assert role == LOW, f"{key} of {role} is killed, which has no limit"
        (bound,) = self.core.state.allocator._state.quota.bounds[LOW]
        left = bound.consumed - sum(self._holds(other) for other in self.ordered)
        assert left > bound.limit, f"{key} is killed, {role} has no more than {left} of {bound.limit}"
        self.ordered.add(key)

    def _holds(self, key: TaskKey) -> int:
        """What of cpus a task has that is being ended."""
        task = self.core.state.frameworks[key[0]].tasks.get(key[1])
        return 0 if task is None or task.freed else task.resources.cpus

    def look(self) -> None:
        """Note who has been given notice, and who has none any more."""
        known = self.core.state.notices.of
        self.given = {key: self.given.get(key, self.world.now_s) for key in known}
        self.ordered = {key for key in self.ordered if self._is_ordered(key)}

    def _is_ordered(self, key: TaskKey) -> bool:
        framework = self.core.state.frameworks.get(key[0])
        task = framework.tasks.get(key[1]) if framework is not None else None
        return task is not None and bool(task.preempted)


class Crowded(Regulated):
    """The first framework has more long tasks than fit; the second, now and then, some for what it is guaranteed."""

    master_class = Preempting

    def regulate(self) -> None:
        chance = self.world.chance
        if chance.random() < 0.5:
            self._limit(chance.choice((2, 4, 8, 12)))
        else:
            self._guarantee(chance.choice((0, 2, 4)))

    def _limit(self, cpus: float) -> None:
        self._try(operator.UpdateQuota(True, (QuotaConfig(LOW, {}, {"cpus": Scalar(cpus)}),)))

    def _guarantee(self, cpus: float) -> None:
        self._try(operator.UpdateQuota(True, (QuotaConfig(HIGH, {"cpus": Scalar(cpus)}, {}),)))

    def submit(self) -> None:
        chance = self.world.chance
        framework = self.frameworks[chance.random() < 0.2]
        if framework.core is not None and len(framework.core.tasks) < (4 if framework is self.frameworks[1] else 20):
            self.submit_to(framework, round(chance.uniform(10, 120), 2))

    def submit_to(self, framework: Framework, seconds: float, shape: str = SHAPE) -> None:
        self._tasks += 1
        task_id = f"t{self._tasks}"
        command = CommandInfo(value=f"run {seconds} exit 0", environment=Environment((Variable("SIM_TASK", value=task_id),)))
        info = TaskInfo(name=task_id, task_id=TaskID(task_id), agent_id=None, command=command)  # type: ignore[arg-type]
        if (
            framework.give(("submit", info, Resources.parse(shape))) is None
            and framework.core is not None
            and task_id in framework.core.tasks
        ):
            self.submitted[task_id] = (framework, 0, False)

    def _check_sums(self) -> None:
        super()._check_sums()
        self.master.look()

    # ---- The end ----------------------------------------------------------------------------------------

    def check_guarantees_are_met(self) -> None:
        """All is well but crowded; then a limit is lowered, and who is guaranteed something has it soon."""
        low, high = self.frameworks[:2]
        for _ in range(14):
            self.submit_to(low, 300)
        self._until(lambda: self._used(low) >= 12_000, 200.0, "the cluster does not fill")
        limit = self.world.chance.choice((2, 9))
        self._limit(limit)
        self._guarantee(4)
        if self.world.chance.random() < 0.5:
            for _ in range(4):
                self.submit_to(high, 300)
            wanted = 4_000
        else:
            self.submit_to(high, 300, LARGE)
            wanted = 3_000
        before, room = self._used(low), min(wanted, 12_000 - 1_000 * limit)
        self._until(lambda: self._used(high) >= room, MET_S, "the guarantee is not met")
        until_s = self.world.now_s + MET_S
        self._until(lambda: self.world.now_s >= until_s - 1, MET_S, "")
        assert self._used(low) >= before - room, "more ended than was needed"

    def _used(self, framework: Framework) -> int:
        """Thousandths of cpus, as the master counts them."""
        used = self.master.core.state.frameworks[framework.core.framework_id].used.by_role.values()
        return sum(quantities.cpus for quantities in used)

    def _until(self, holds: Any, within_s: float, otherwise: str) -> None:
        until_s = self.world.now_s + within_s
        while not holds():
            assert self.world.now_s < until_s, otherwise
            self.world.step()
            self.check()

    def check_end(self) -> None:
        """Who was told that its task is gone was told the truth; all the others as ever."""
        for task_id in self.master.preempted & self.submitted.keys():
            framework = self.submitted[task_id][0]
            ends = framework.core.ends.get(task_id)
            assert ends is not None and len(ends) == 1, f"{task_id} has the ends {ends}"  # noqa: PT018
            if ends[0].state in (TaskState.TASK_GONE, TaskState.TASK_LOST):
                del self.submitted[task_id]
        super().check_end()


def live(seed: int, seconds: float = 240.0) -> Crowded:
    """A whole history. Raises AssertionError."""
    cluster = Crowded(seed)

    def regulate() -> None:
        if cluster.world.now_s < seconds - 10:
            cluster.regulate()
            cluster.world.after(cluster.world.chance.expovariate(1 / 15), regulate)

    cluster.world.after(5.0, regulate)
    cluster.run(seconds, troubles_per_minute=4)
    cluster.free_all()
    cluster.settle()
    cluster.check_guarantees_are_met()
    cluster.free_all()
    cluster.settle()
    cluster.check_end()
    return cluster
