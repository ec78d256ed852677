"""Operators who drain agents, deactivate and reactivate them, and plan and do maintenance, at random and under all faults."""

from __future__ import annotations

from collections import Counter
from typing import Any

from kernel.errors import KernelError
from kernel.master import effects as m
from kernel.master import registry
from kernel.wire.agent import RunTask, RunTaskGroup
from kernel.wire.command import CommandInfo, Environment, Variable
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.ids import TaskID
from kernel.wire.nodes import MachineID, Unavailability
from kernel.wire.operator import Schedule, Window
from kernel.wire.resources import Resources
from kernel.wire.task import TaskInfo
from tests.sim.cluster import Master
from tests.sim.operations import Operated

WHOLE = "cpus:3"  # Two of these do not fit on one agent.


class Watched(Master):
    """A master that starts nothing on an agent that is deactivated."""

    def perform(self, effect: Any) -> None:
        if type(effect) is m.ToAgent and isinstance(effect.message, RunTask | RunTaskGroup):
            agent = self.core.state.links.get(effect.link)
            assert agent is None or agent.deactivation is None, f"a task is sent to {agent.agent_id}, which is deactivated"
        super().perform(effect)


class Maintained(Operated):
    """A cluster whose operators do all there is to do to agents and machines. deeds: how often each was done."""

    master_class = Watched

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.deeds: Counter[str] = Counter()
        self._looked = 0

    def operate(self) -> None:
        """One deed, chosen by chance; one that is refused is not tried again."""
        chance, core = self.world.chance, self.master.core
        if core is None:
            return
        known = [*core.state.agents, *core.state.unreachable] or ["nobody"]
        agent_id, machines = chance.choice(known), tuple(core.state.machines.windows)
        match chance.randrange(10):
            case 0:
                super().operate()
            case 1 | 2 | 3:
                grace_ns = chance.choice((None, 0, 2 * 10**9, 20 * 10**9))
                self._try(m.DrainAgent(agent_id, grace_ns, mark_gone=chance.random() < 0.2))
            case 4:
                self._try(m.DeactivateAgent(agent_id))
            case 5 | 6:
                self._try(m.ReactivateAgent(chance.choice([*core.state.deactivated, agent_id])))
            case 7:
                hosts = chance.sample([agent.name for agent in self.agents], chance.randint(0, 2))
                self._try(m.UpdateSchedule(self._schedule(hosts)))
            case 8 if machines:
                self._try(m.StartMaintenance((chance.choice(machines),)))
            case 9 if machines:
                self._try(m.StopMaintenance((chance.choice(machines),)))

    def _schedule(self, hosts: list[str]) -> Schedule:
        down = {machine.hostname for machine in self.master.core.state.machines.down}
        machines = tuple(MachineID(host) for host in sorted({*hosts, *down}))
        when = Unavailability(TimeInfo(self.world.chance.choice((0, 2 * 10**18))), DurationInfo(3600 * 10**9))
        return Schedule((Window(when, machines),) if machines else ())

    def _try(self, message: Any) -> None:
        if not isinstance(self.master.give(message), KernelError):
            self.operated += 1
            self.deeds[type(message).__name__] += 1

    # ---- The end ----------------------------------------------------------------------------------------

    def settle(self, within_s: float = 1500.0) -> None:
        """Whatever was taken out of service is put back, as soon as that is allowed."""
        self._put_back()
        super().settle(within_s)

    def _put_back(self) -> None:
        core = self.master.core
        if core is not None:
            for agent_id, deactivation in list(core.state.deactivated.items()):
                if not deactivation.draining:
                    self._try(m.ReactivateAgent(agent_id))
            core = self.master.core
        if core is not None and core.state.machines:
            down = tuple(core.state.machines.down)
            self._try(m.StopMaintenance(down) if down else m.UpdateSchedule(Schedule()))
        self.world.after(1.0, self._put_back)

    def check_all_are_used(self, within_s: float = 200.0) -> None:
        """Every agent that was put back is offered again: of tasks that fill one each, all run at once."""
        framework = self.frameworks[0]
        for number, _ in enumerate(self.agents):
            task_id = f"whole{number}"
            command = CommandInfo(value="run 100 exit 0", environment=Environment((Variable("SIM_TASK", value=task_id),)))
            info = TaskInfo(name=task_id, task_id=TaskID(task_id), agent_id=None, command=command)  # type: ignore[arg-type]
            assert framework.give(("submit", info, Resources.parse(WHOLE))) is None
            self.submitted[task_id] = (framework, 0, False)
        until = self.world.now_s + within_s
        while self.world.next_s < until:
            self.world.step()
            self.check()
            agents = self.master.core.state.agents.values()
            if sum(bool(agent.used) for agent in agents) == len(self.agents):
                return
        raise AssertionError(
            f"not all agents are used again: {[(a.agent_id, a.state, a.used) for a in self.master.core.state.agents.values()]}"
        )

    # ---- Invariants -------------------------------------------------------------------------------------

    def _check_sums(self) -> None:
        super()._check_sums()
        state = self.master.core.state
        for agent_id, deactivation in state.deactivated.items():
            agent = state.agents.get(agent_id)
            if agent is not None:
                assert not agent.offers, f"{agent_id} is deactivated and offered"
                live = [key for key, task in agent.tasks.items() if not task.terminal]  # Of others the agent missed the acknowledgement.
                assert not (deactivation.drained and live), f"{agent_id} is drained and has {live}"
        self._looked += 1
        if self._looked % 20 == 0:
            written = registry.load(self.master.kept.items())
            assert written.deactivated == state.deactivated, "what is deactivated is not what is written"
            assert written.maintenance.schedule == state.machines.schedule
            assert frozenset(written.maintenance.down) == state.machines.down


def live(seed: int, seconds: float = 180.0) -> Maintained:
    """A whole history: deeds under faults, then peace, in which everything comes back to use and to rest. AssertionError when
    something that must hold does not."""
    cluster = Maintained(seed)

    def operate() -> None:
        if cluster.world.now_s < seconds - 10:
            cluster.operate()
            cluster.world.after(cluster.world.chance.expovariate(1 / 4), operate)

    cluster.world.after(5.0, operate)
    cluster.run(seconds)
    cluster.settle()
    cluster.check_all_are_used()
    cluster.settle()
    cluster.check_end()
    return cluster
