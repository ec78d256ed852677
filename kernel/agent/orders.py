"""What the master orders: run, kill, shut down, acknowledge, reconcile (spec: mesos-v1, sections 2.15, 8.1, 8.2)."""

from __future__ import annotations

from collections.abc import Sequence

from kernel.agent import checkpoint
from kernel.agent.effects import ToMaster
from kernel.agent.executors import Executors
from kernel.agent.frameworks import Frameworks
from kernel.agent.launch import unsupported_executor
from kernel.agent.state import AgentState, Framework, Kind, Task
from kernel.agent.tasks import Tasks
from kernel.agent.transitions import ExecutorState
from kernel.agent.updates import Updates
from kernel.errors import CallError, PeerError
from kernel.executor.command import KillCause, kill_grace_s
from kernel.wire.agent import (
    AcknowledgeUpdate,
    ExecutorExited,
    FrameworkMessage,
    KillTask,
    ReconcileTasks,
    RunTask,
    RunTaskGroup,
    ShutdownExecutor,
    ShutdownFramework,
)
from kernel.wire.conversion import checkpointed, once
from kernel.wire.ids import validate_id
from kernel.wire.resources import Resources
from kernel.wire.task import ExecutorInfo, ExecutorType, Reason, TaskInfo, TaskState

DRAINING = "Agent is draining"
UNKNOWN = "The agent has no such reservation or volume"


class Orders:
    """Checks an order against what is here and hands it to whoever carries it out."""

    def __init__(self, state: AgentState, updates: Updates, frameworks: Frameworks, tasks: Tasks, executors: Executors) -> None:
        self.state, self.updates, self.frameworks, self.tasks, self.executors = state, updates, frameworks, tasks, executors

    # ---- Launching ------------------------------------------------------------------------------------

    def run_task(self, message: RunTask) -> None:
        """Launch one task: a command task, or one for a custom executor."""
        info = message.task
        framework = self._admit(message.framework_id, info.executor, (info,))
        if framework is None:
            return
        if info.executor is not None:
            self._run(framework, info.executor, (info,), message.launch_executor, group=False)
        elif self.state.drain is not None:
            self._drop(framework, (info,), info.task_id.value, Reason.REASON_AGENT_DRAINING, DRAINING)
        elif not self._has((info,), None):
            self._drop(framework, (info,), info.task_id.value, Reason.REASON_RESOURCES_UNKNOWN, UNKNOWN)
        elif info.task_id.value in framework.executors:
            self._drop(framework, (info,), info.task_id.value, Reason.REASON_TASK_INVALID, "Its id is that of a running executor")
        else:
            self.tasks.launch_command(framework, info)

    def run_group(self, message: RunTaskGroup) -> None:
        """Launch tasks together under one executor."""
        framework = self._admit(message.framework_id, message.executor, message.tasks)
        if framework is not None:
            self._run(framework, message.executor, message.tasks, message.launch_executor, group=True)

    def _admit(self, framework_id: str, executor: ExecutorInfo | None, infos: Sequence[TaskInfo]) -> Framework | None:
        """Return the framework, or None when the order is void (a repeat, or everything is about to end)."""
        framework = self.state.frameworks.get(framework_id)
        _check(framework_id, executor, infos)
        if self.state.departure is not None:
            self._turn_away(framework_id, framework, executor, infos)
            return None
        if framework is None:
            for info in infos:
                self.updates.refuse(
                    framework_id, info.task_id.value, TaskState.TASK_DROPPED, Reason.REASON_INVALID_FRAMEWORKID, "Unknown framework"
                )
            return None
        if framework.terminating or any(info.task_id.value in framework.tasks for info in infos):
            return None
        return framework

    def _turn_away(self, framework_id: str, framework: Framework | None, executor: ExecutorInfo | None, infos: Sequence[TaskInfo]) -> None:
        """The agent is about to leave: whoever sent the tasks places them elsewhere."""
        if not self.state.registered or (framework is not None and any(info.task_id.value in framework.tasks for info in infos)):
            return
        for info in infos:
            self.updates.refuse(
                framework_id, info.task_id.value, TaskState.TASK_DROPPED, Reason.REASON_AGENT_DRAINING, "The agent is about to stop"
            )
        if executor is not None and (framework is None or executor.executor_id.value not in framework.executors):
            self.state.emit(ToMaster(ExecutorExited(framework_id, executor.executor_id.value, -1)))

    def _run(self, framework: Framework, info: ExecutorInfo, infos: Sequence[TaskInfo], launch_executor: bool, group: bool) -> None:
        executor_id = info.executor_id.value
        executor = framework.executors.get(executor_id)
        if self.state.drain is not None:
            self._drop(framework, infos, executor_id, Reason.REASON_AGENT_DRAINING, DRAINING)
            return self._tell_not_started(framework, executor_id)
        if not self._has(infos, info if executor is None else None):
            self._drop(framework, infos, executor_id, Reason.REASON_RESOURCES_UNKNOWN, UNKNOWN)
            return self._tell_not_started(framework, executor_id)
        if executor is None and not launch_executor:
            return self._drop(framework, infos, executor_id, Reason.REASON_EXECUTOR_TERMINATED, "Executor terminated")
        if executor is not None and launch_executor:
            return self._drop(framework, infos, executor_id, Reason.REASON_EXECUTOR_TERMINATED, "An executor with this id still exists")
        if executor is not None and executor.state is ExecutorState.TERMINATING:
            return self._drop(framework, infos, executor_id, Reason.REASON_EXECUTOR_TERMINATED, "Executor is terminating")
        if executor is None and self._is_command_task(framework, executor_id):
            return self._drop(framework, infos, executor_id, Reason.REASON_EXECUTOR_TERMINATED, "Executor id is that of a running task")
        problem = unsupported_executor(info, self.state.config)
        if info.type is ExecutorType.DEFAULT:
            self.tasks.launch_group(framework, info, infos, problem)
        else:
            self.executors.launch(framework, info, infos, problem, group)
        return self._tell_not_started(framework, executor_id)

    def _has(self, infos: Sequence[TaskInfo], executor: ExecutorInfo | None) -> bool:
        """Whether the agent has the reservations and volumes that tasks and a new executor count on."""
        given = [*(resource for info in infos for resource in info.resources), *(executor.resources if executor is not None else ())]
        special = tuple(resource for resource in given if resource.disk is not None or resource.reservations or resource.reservation)
        return not special or self.state.total.contains(once(checkpointed(Resources.of(special))))

    def _tell_not_started(self, framework: Framework, executor_id: str) -> None:
        if executor_id not in framework.executors and self.state.registered:
            self.state.emit(ToMaster(ExecutorExited(framework.framework_id, executor_id, -1)))

    def _is_command_task(self, framework: Framework, executor_id: str) -> bool:
        task = framework.tasks.get(executor_id)
        return task is not None and task.kind is Kind.COMMAND

    def _drop(self, framework: Framework, infos: Sequence[TaskInfo], executor_id: str, reason: Reason, message: str) -> None:
        kind = Kind.COMMAND if infos[0].executor is None and infos[0].task_id.value == executor_id else Kind.CUSTOM
        for info in infos:
            self.updates.report(self.tasks.add(framework, kind, info, executor_id), framework.lost(TaskState.TASK_DROPPED), message, reason)

    # ---- Ending ---------------------------------------------------------------------------------------

    def kill_task(self, message: KillTask) -> None:
        """End one task, gently at first."""
        framework = self.state.frameworks.get(message.framework_id)
        task = framework.tasks.get(message.task_id) if framework is not None else None
        if task is None:
            self.updates.refuse(
                message.framework_id,
                message.task_id,
                TaskState.TASK_DROPPED,
                Reason.REASON_EXECUTOR_TERMINATED,
                "Cannot find executor",
            )
            return
        if message.preempted and not task.ending:
            task.preempted = message.preempted  # Kept with the kill.
        if task.kind is Kind.CUSTOM:
            self.executors.kill(task, message.kill_policy)
        else:
            self.tasks.end(task, KillCause.REQUEST, kill_grace_s(message.kill_policy, task.info.kill_policy))

    def shut_down_executor(self, message: ShutdownExecutor) -> None:
        """End an executor; a command task counts as its own."""
        framework = self.state.frameworks.get(message.framework_id)
        if framework is None:
            return
        executor = framework.executors.get(message.executor_id)
        task = framework.tasks.get(message.executor_id)
        if executor is not None:
            if executor.kind is Kind.CUSTOM:
                self.executors.shut_down(executor)
            else:
                self.tasks.shut_down_executor(executor)
        elif task is not None and task.kind is Kind.COMMAND:
            self.tasks.shut_down(task)

    def shut_down_framework(self, message: ShutdownFramework) -> None:
        """End all of a framework; nobody wants its updates any more."""
        framework = self.state.frameworks.get(message.framework_id)
        if framework is not None:
            self.end_framework(framework)

    def end_framework(self, framework: Framework) -> None:
        """End everything of a framework without updates; it is forgotten when the last container is gone."""
        if not framework.terminating:
            framework.terminating = True
            self.state.emit(checkpoint.keep_framework(framework))
        for task in list(framework.tasks.values()):
            if task.terminal:
                task.updates.pending.clear()
                self.frameworks.task_done(task)
        self.end_work(framework)
        self.frameworks.settle(framework)

    def end_work(self, framework: Framework) -> None:
        """End all that runs of a framework, which hears of it."""
        for task in list(framework.tasks.values()):
            if task.kind is Kind.COMMAND and not task.terminal:
                self.tasks.shut_down(task)
        for executor in list(framework.executors.values()):
            if executor.kind is Kind.CUSTOM:
                self.executors.shut_down(executor)
            else:
                self.tasks.shut_down_executor(executor)

    # ---- The rest -------------------------------------------------------------------------------------

    def acknowledge(self, message: AcknowledgeUpdate) -> None:
        """Note an acknowledgement; a task whose end is acknowledged is history."""
        task = self.updates.acknowledge(message)
        if task is not None:
            self.task_done(task)

    def task_done(self, task: Task) -> None:
        """Move a task to history, and its default executor too if that was all."""
        self.frameworks.task_done(task)
        executor = task.framework.executors.get(task.executor_id)
        if executor is not None and executor.kind is Kind.DEFAULT:
            self.tasks.check_done(executor)

    def reconcile(self, message: ReconcileTasks) -> None:
        """Tell the master which of these tasks are not here."""
        for framework_id, task_id in message.tasks:
            framework = self.state.frameworks.get(framework_id)
            if framework is None or task_id not in framework.tasks:
                self.updates.refuse(
                    framework_id,
                    task_id,
                    TaskState.TASK_DROPPED,
                    Reason.REASON_RECONCILIATION,
                    "Reconciliation: task unknown to the agent",
                )

    def framework_message(self, message: FrameworkMessage) -> None:
        """Pass bytes on to a custom executor, best effort."""
        framework = self.state.frameworks.get(message.framework_id)
        executor = framework.executors.get(message.executor_id) if framework is not None else None
        if executor is not None and executor.kind is Kind.CUSTOM:
            self.state.counts["slave/valid_framework_messages"] += 1
            self.executors.message(executor, message.data)
        else:
            self.state.counts["slave/invalid_framework_messages"] += 1


def _check(framework_id: str, executor: ExecutorInfo | None, infos: Sequence[TaskInfo]) -> None:
    """What the rest relies on, and no honest master gets wrong. Raises PeerError."""
    try:
        validate_id(framework_id, "framework_id")
        for info in infos:
            validate_id(info.task_id.value, "task_id")
            Resources.of(info.resources)
            if any(not limit.value >= 0 for limit in info.limits.values()):
                raise CallError("limits: must be numbers from 0 on")
        if executor is not None:
            validate_id(executor.executor_id.value, "executor_id")
            Resources.of(executor.resources)
    except CallError as error:
        raise PeerError(str(error)) from error
    if not infos or len({info.task_id.value for info in infos}) != len(infos):
        raise PeerError("a launch of no task, or of one twice")
    custom = executor is not None and executor.type is not ExecutorType.DEFAULT
    if executor is not None and custom and executor.command is None:
        raise PeerError(f"executor {executor.executor_id.value} has no command")
    if not custom and any(info.command is None for info in infos):
        raise PeerError("a task has neither a command nor a custom executor")
