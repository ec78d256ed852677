"""Frameworks on this agent: what the master tells of them, and the end of their tasks, executors and themselves."""

from __future__ import annotations

from kernel.agent import checkpoint
from kernel.agent.effects import CloseExecutorStream, ToMaster
from kernel.agent.state import AgentState, Executor, Framework, Task
from kernel.errors import CallError, PeerError
from kernel.wire.agent import ExecutorExited
from kernel.wire.ids import validate_id
from kernel.wire.task import FrameworkInfo


class Frameworks:
    """Adds and removes. A framework stays known as long as it has anything here, and at least while the link lasts."""

    def __init__(self, state: AgentState) -> None:
        self.state = state

    def inform(self, info: FrameworkInfo) -> None:
        """Take a framework's description, known or new."""
        if info.id is None:
            raise PeerError("a framework without an id")
        try:
            validate_id(info.id.value, "framework.id")
        except CallError as error:
            raise PeerError(str(error)) from error
        framework = self.state.frameworks.get(info.id.value)
        if framework is None:
            framework = self._add(info.id.value, info)
        else:
            framework.inform(info)
        self.state.emit(checkpoint.keep_framework(framework))

    def _add(self, framework_id: str, info: FrameworkInfo) -> Framework:
        """Add one that has nothing here now. It may have had, and was forgotten for a while: that is still its past."""
        state = self.state
        framework = state.frameworks[framework_id] = Framework(framework_id, info, state.config.max_completed_executors_per_framework)
        former = next((found for found in state.completed_frameworks if found.framework_id == framework_id), None)
        if former is not None:
            state.completed_frameworks.remove(former)
            framework.completed_tasks, framework.completed_executors = former.completed_tasks, former.completed_executors
        return framework

    def task_done(self, task: Task) -> None:
        """Nothing more is owed for this task: its end is acknowledged, or nobody is left to tell."""
        framework = task.framework
        framework.remove(task)
        framework.completed_tasks.append(task)
        self.state.out += checkpoint.forget_task(task)
        self.settle(framework)

    def executor_gone(self, executor: Executor, status: int | None) -> None:
        """An executor has ended; its tasks have been dealt with."""
        framework = executor.framework
        del framework.executors[executor.executor_id]
        framework.completed_executors.append(executor)
        self.state.counts["slave/executors_terminated"] += 1
        self.state.emit(checkpoint.forget_executor(executor))
        if executor.stream is not None:
            self.state.streams.pop(executor.stream, None)
            self.state.emit(CloseExecutorStream(executor.stream))
            executor.stream = None
        if self.state.registered and not framework.terminating:
            exited = ExecutorExited(framework.framework_id, executor.executor_id, -1 if status is None else status)
            self.state.emit(ToMaster(exited))
        self.settle(framework)

    def settle(self, framework: Framework) -> None:
        """Remove a framework that is to end and has nothing left here."""
        if framework.terminating and not framework.tasks and not framework.executors:
            self._remove(framework)

    def forget_idle(self) -> None:
        """The link is gone: at the next one the master tells anew of each framework before its first task."""
        for framework in [f for f in self.state.frameworks.values() if not f.tasks and not f.executors]:
            self._remove(framework)

    def _remove(self, framework: Framework) -> None:
        if self.state.frameworks.pop(framework.framework_id, None) is not None:
            if framework.completed_tasks or framework.completed_executors:
                self.state.completed_frameworks.append(framework)
            self.state.emit(checkpoint.forget_framework(framework))
