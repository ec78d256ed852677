"""Lending what tasks were given and do not use, and taking it back (spec: mesos-v1, section 8.9; docs/decisions/oversubscription.md).

Each measurement is looked at twice: must something be taken back, and how much may be lent from now on. The master is told when that
has changed, and at each registration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kernel.agent.effects import Measured, ToMaster
from kernel.agent.executors import Executors
from kernel.agent.oversubscription.config import USAGE, controller_kind, fixed_slack
from kernel.agent.oversubscription.controller import Controller
from kernel.agent.oversubscription.estimator import usage_slack
from kernel.agent.oversubscription.usage import History, Use, Work, containers_of
from kernel.agent.state import AgentState, Executor, Framework, Kind, Task
from kernel.agent.tasks import Tasks
from kernel.agent.transitions import ExecutorState
from kernel.executor.command import KillCause
from kernel.wire.agent import Oversubscribed
from kernel.wire.resources import EMPTY, Resource, Resources
from kernel.wire.revocable import firm, revocable


class Oversubscription:
    """What an agent lends. Without an estimator it lends nothing, without a controller it takes nothing back."""

    def __init__(self, state: AgentState, tasks: Tasks, executors: Executors) -> None:
        """Raises ConfigError."""
        config = state.config
        self.state, self.tasks, self.executors = state, tasks, executors
        self._fixed = fixed_slack(config.resource_estimator, config.resource_estimator_parameters)
        self._history = History(config.resource_estimator_parameters.window_s)
        kind = controller_kind(config.resource_estimator, config.qos_controller)
        self._controller = Controller(kind, config.qos_controller_parameters, config.qos_correction_interval_min_s)

    def measured(self, message: Measured) -> None:
        """Take a measurement in."""
        state = self.state
        if not state.recovered:
            return
        owners = dict(_works(state))
        works = list(owners)
        self._history.observe(message.at_s, message.usages, containers_of(works))
        known = [(work, self._history.use(work)) for work in works]
        cpus = Resources.of(state.node.resources).scalars().get("cpus", 0)
        left = [(work, use) for work, use in known if not _is_ending(owners[work])]
        for correction in self._controller.corrections(message.at_s, left, cpus, message.machine):
            self._preempt(owners[correction.work], correction.why)
        self._lend(self._slack(message.at_s, known))

    def _slack(self, at_s: float, known: Iterable[tuple[Work, Use | None]]) -> Resources:
        state = self.state
        if state.departure is not None or state.drain is not None or not self._controller.is_calm(at_s):
            return EMPTY
        if state.config.resource_estimator == USAGE:
            return usage_slack(state.config.resource_estimator_parameters, known)
        return self._fixed

    def _lend(self, slack: Resources) -> None:
        self.state.slack = slack
        self.tell()

    def tell(self) -> None:
        """Tell the master what is lent, if it was told otherwise on this link."""
        state = self.state
        if state.registered and state.slack != state.slack_told:
            state.slack_told = state.slack
            state.emit(ToMaster(Oversubscribed(state.slack.messages())))

    # ---- Taking back ------------------------------------------------------------------------------------

    def _preempt(self, owner: Task | Executor, why: str) -> None:
        """End an executor at once; its tasks are gone, for the reason that is told."""
        self.state.counts["slave/executors_preempted"] += 1
        if isinstance(owner, Executor) and owner.kind is Kind.CUSTOM:
            self.executors.preempt(owner, why)
            return
        for task in _live(owner):
            if not task.ending:
                task.preempted = why
            self.tasks.end(task, KillCause.REQUEST, 0.0)


def _live(owner: Task | Executor) -> list[Task]:
    """The tasks of an executor that have not ended; of a command task itself."""
    return [task for task in (owner.tasks() if isinstance(owner, Executor) else [owner]) if not task.terminal]


def _is_ending(owner: Task | Executor) -> bool:
    if owner.framework.terminating:
        return True
    if isinstance(owner, Executor) and owner.kind is Kind.CUSTOM:
        return owner.state is ExecutorState.TERMINATING
    return all(task.ending for task in _live(owner))


def _works(state: AgentState) -> Iterator[tuple[Work, Task | Executor]]:
    """The executors that live, command tasks included, and what they have."""
    for framework in state.frameworks.values():
        for task in framework.tasks.values():
            if task.kind is Kind.COMMAND and not task.terminal:
                yield _work(framework, task), task
        for executor in framework.executors.values():
            if executor.state is not ExecutorState.TERMINATED:
                yield _work(framework, executor), executor


def _work(framework: Framework, owner: Task | Executor) -> Work:
    tasks = _live(owner)
    given: list[Resource] = list(owner.info.resources) if isinstance(owner, Executor) else []
    for task in tasks:
        given += task.info.resources
    if isinstance(owner, Executor) and owner.kind is Kind.CUSTOM:
        containers: tuple[str, ...] = (owner.container_id,)
    else:
        containers = tuple(task.container_id for task in tasks)
    resources = Resources.of(given)
    own, lent = firm(resources).scalars(), revocable(resources).scalars()
    amounts = own.get("cpus", 0), own.get("mem", 0), lent.get("cpus", 0), lent.get("mem", 0)
    return Work((framework.framework_id, owner.executor_id), containers, *amounts, owner.launched_wall_s)
