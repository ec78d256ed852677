"""What operators and power cuts do to a cluster, on top of its faults: frameworks torn down, agents marked gone, machines that restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frameworks.sdk.driver import Stop
from kernel.agent import effects as a
from kernel.errors import KernelError, NotFound
from kernel.master import effects as m
from kernel.wire.task import TaskState
from tests.kernel.master import invariants
from tests.sim.cluster import Cluster, Framework
from tests.sim.machine import Agent

# How a task may end that ran on a machine which an operator or a power cut took away.
TAKEN = {
    TaskState.TASK_GONE_BY_OPERATOR,  # Its agent was marked gone.
    TaskState.TASK_GONE,  # Its machine restarted, or its agent came back without it.
    TaskState.TASK_LOST,  # A new agent stands at the old one's address.
    TaskState.TASK_KILLED,  # Its framework was torn down.
    TaskState.TASK_FAILED,  # Nobody knows how it ended.
}


class OperatedAgent(Agent):
    """An agent whose machine may restart, and whose process ends when it has left."""

    def perform(self, effect: Any) -> None:
        if isinstance(effect, a.Leave):
            if effect.kill_all:
                self.end_all(9)
            self.world.after(0, self.crash)  # It is started again, and is another agent then.
        else:
            super().perform(effect)

    def end_all(self, status: int) -> None:
        for process in list(self.machine.processes.values()):
            self.machine.end(process, status)

    def restart_machine(self) -> None:
        """Power is cut: all processes die, nobody sees how."""
        self.boots += 1
        self.launcher.crash()
        self.crash()
        self.launcher.journal.clear()  # It knows by the boot id that all of it is void.
        self.end_all(9)


class OperatedFramework(Framework):
    """A framework that is started again when it has stopped, as its supervisor does."""

    def perform(self, effect: Any) -> None:
        super().perform(effect)
        if isinstance(effect, Stop):
            self.world.after(0, self.crash)


class Operated(Cluster):
    """A cluster with operators who keep trying until a master has done what they ask for."""

    agent_class, framework_class = OperatedAgent, OperatedFramework

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.operated = self._checks = 0

    def ask(self, make: Callable[[], Any]) -> None:
        message = make()
        answer = self.master.give(message) if message is not None and self.master.core is not None else NotFound("nobody to ask")
        if isinstance(answer, KernelError) or self.master.core is None:
            self.world.after(1.0, lambda: self.ask(make))
        else:
            self.operated += 1

    def operate(self) -> None:
        """One deed, chosen by chance."""
        chance = self.world.chance
        match chance.randrange(3):
            case 0:
                chance.choice(self.agents).restart_machine()
                self.operated += 1
            case 1:
                agent = chance.choice(self.agents)
                gone = agent.core.state.agent_id if agent.core is not None else ""
                if gone:
                    self.ask(lambda: m.MarkAgentGone(gone))
            case 2:
                framework = chance.choice(self.frameworks)
                ended = framework.core.framework_id if framework.core is not None else ""
                state = self.master.core.state if self.master.core is not None else None
                if state is not None and ended in state.frameworks:
                    self.ask(lambda: m.TeardownFramework(ended) if self._knows(ended) else None)

    def _knows(self, framework_id: str) -> bool:
        return self.master.core is not None and framework_id in self.master.core.state.frameworks

    def _check_sums(self) -> None:
        super()._check_sums()
        self._checks += 1
        if self._checks % 50 == 0:  # All of it takes long.
            invariants.check(self.master.core.state)

    def check_end(self) -> None:
        """Nothing acknowledged was lost or told twice; nothing runs that nobody wants."""
        runs = {task: len(ran) for agent in self.agents for task, ran in agent.machine.runs.items()}
        for task_id, (framework, status, _) in self.submitted.items():
            ends = framework.core.ends.get(task_id)
            assert ends, f"{task_id} of {framework.name} was lost: no end was ever told"
            assert len(ends) == 1, f"{task_id} ended more than once: {[e.state for e in ends]}"
            assert runs.get(task_id, 0) <= 1, f"{task_id} ran {runs[task_id]} times"
            state = ends[0].state
            if state is TaskState.TASK_FINISHED:
                assert status == 0
                assert runs[task_id] == 1
            else:
                assert state in TAKEN or state is TaskState.TASK_DROPPED, f"{task_id} ended as {state.value}: {ends[0].message}"
        for agent in self.agents:
            assert all(process.status is not None for process in agent.machine.processes.values())
