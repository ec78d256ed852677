"""Tasks that the agent runs itself: command tasks, and groups on the default executor.

The rules are in `kernel.executor`; here they meet the agent's containers, updates and deadlines.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence

from kernel.agent import checkpoint
from kernel.agent.checks import Checks
from kernel.agent.effects import ContainerEnded, Exit, SignalContainer
from kernel.agent.frameworks import Frameworks
from kernel.agent.launch import SHUTDOWN_MARGIN_S, shutdown_grace_s, task_container, unsupported
from kernel.agent.state import AgentState, Executor, Framework, Kind, Task
from kernel.agent.transitions import ExecutorState
from kernel.agent.updates import Updates
from kernel.executor.command import Action, Kill, KillCause, Limitation, Report, kill_grace_s
from kernel.executor.default import LINGER_S, MATE_GRACE_S, brings_group_down, is_done
from kernel.wire.container import NetworkInfo
from kernel.wire.task import ExecutorInfo, Reason, Source, TaskInfo, TaskState

NO_GPU = "fewer GPUs are free on this agent than it wants"


class Tasks:
    """Starts, ends and follows the tasks whose process is ours to launch."""

    def __init__(self, state: AgentState, updates: Updates, frameworks: Frameworks) -> None:
        self.state, self.updates, self.frameworks = state, updates, frameworks
        self.checks = Checks(state, updates, self._end_unhealthy)

    # ---- Launching ------------------------------------------------------------------------------------

    def launch_command(self, framework: Framework, info: TaskInfo) -> None:
        """Start a command task, or report why that cannot be."""
        problem, assigned = unsupported(info, self.state.config), self.state.assign_gpus(info.resources)
        if problem is not None or assigned is None:
            self.reject(framework, Kind.COMMAND, info, info.task_id.value, problem or NO_GPU)
        else:
            self._launch(framework, Kind.COMMAND, info, info.task_id.value, 0, assigned[0])

    def launch_group(self, framework: Framework, executor_info: ExecutorInfo, infos: Sequence[TaskInfo], problem: str | None) -> None:
        """Start a group on a default executor, which is made when missing: all tasks of it or none."""
        executor_id = executor_info.executor_id.value
        assigned = self.state.assign_gpus(*(info.resources for info in infos))
        problem = problem or (NO_GPU if assigned is None else None)
        problems = [problem or unsupported(info, self.state.config) for info in infos]
        if any(problems):
            for info, wrong in zip(infos, problems, strict=True):
                if wrong is not None:
                    self.reject(framework, Kind.DEFAULT, info, executor_id, wrong)
                else:
                    self.drop_undelivered(self.add(framework, Kind.DEFAULT, info, executor_id))
            return
        state = self.state
        executor = framework.executors.get(executor_id)
        if executor is None:
            container_id = state.new_container_id()
            executor = Executor(framework, executor_info, Kind.DEFAULT, container_id, state.now.wall_s, ExecutorState.RUNNING)
            framework.executors[executor_id] = executor
            state.emit(checkpoint.keep_executor(executor))
        group = state.new_group()
        executor.idle_since_s = None
        for info, gpus in zip(infos, assigned or (), strict=True):
            self._launch(framework, Kind.DEFAULT, info, executor_id, group, gpus)

    def _launch(self, framework: Framework, kind: Kind, info: TaskInfo, executor_id: str, group: int, gpus: tuple[int, ...]) -> None:
        state = self.state
        task = Task(framework, info, kind, executor_id, state.new_container_id(), state.now.wall_s, group)
        task.gpus = gpus
        framework.add(task)
        state.containers[task.container_id] = task
        task.delivered = True
        state.emit(checkpoint.keep_task(task, state))
        self.updates.report(task, TaskState.TASK_STARTING, source=Source.SOURCE_EXECUTOR)
        state.emit(task_container(state, task))
        self._watch_completion(task)

    def add(self, framework: Framework, kind: Kind, info: TaskInfo, executor_id: str, group: int = 0, gpus: tuple[int, ...] = ()) -> Task:
        """Note a task without a process of its own."""
        task = Task(framework, info, kind, executor_id, "", self.state.now.wall_s, group)
        task.gpus = gpus
        framework.add(task)
        self.state.emit(checkpoint.keep_task(task, self.state))
        return task

    def reject(self, framework: Framework, kind: Kind, info: TaskInfo, executor_id: str, problem: str) -> None:
        """A task that this agent cannot run fails at once."""
        text = f"Failed to launch container: {problem}"
        self.updates.report(
            self.add(framework, kind, info, executor_id), TaskState.TASK_FAILED, text, Reason.REASON_CONTAINER_LAUNCH_FAILED
        )

    def drop_undelivered(self, task: Task) -> None:
        """A task that never reached its executor is killed."""
        text = "Killed before it was given to its executor"
        self.updates.report(task, TaskState.TASK_KILLED, text, Reason.REASON_TASK_KILLED_DURING_LAUNCH)

    # ---- Deadlines ------------------------------------------------------------------------------------

    def resume(self, task: Task) -> None:
        """After a restart: take up the deadlines of a task that was read back."""
        assert task.run is not None
        task.delivered = True
        self._watch_completion(task)
        if task.run.kill_due_s is not None:
            self.state.look_at(task.run.kill_due_s, self._check_kill, task)

    def _watch_completion(self, task: Task) -> None:
        limit = task.info.max_completion_time
        if limit is not None and not task.terminal:
            so_far_s = max(0.0, self.state.now.wall_s - task.launched_wall_s)
            task.completion_due_s = self.state.now.mono_s + limit.nanoseconds / 1e9 - so_far_s
            self.state.look_at(task.completion_due_s, self._check_completion, task)

    def _check_completion(self, task: Task) -> None:
        if not task.terminal:
            self.end(task, KillCause.COMPLETION_TIME, 0.0)

    def _check_kill(self, task: Task) -> None:
        assert task.run is not None
        self._apply(task, task.run.expire(self.state.now.mono_s))

    # ---- Ending ---------------------------------------------------------------------------------------

    def end(self, task: Task, cause: KillCause, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after the grace. A repeat may only shorten it."""
        run, state = task.run, self.state
        if run is None:
            return
        self.checks.stop(task)
        before = run.kill
        announce = task.framework.kills_are_announced and not task.framework.terminating
        actions = run.end(Kill(cause, state.now.mono_s, grace_s), announce)
        if run.kill is before:
            return
        state.emit(checkpoint.keep_task(task, state))
        self._apply(task, actions)
        due_s = run.kill_due_s
        assert due_s is not None
        if due_s <= state.now.mono_s:
            self._check_kill(task)
        else:
            state.look_at(due_s, self._check_kill, task)

    def _end_unhealthy(self, task: Task) -> None:
        """Its health check failed too often."""
        executor = task.framework.executors.get(task.executor_id) if task.kind is Kind.DEFAULT else None
        if executor is not None and not executor.unhealthy:
            executor.unhealthy = True
            self.state.emit(checkpoint.keep_executor(executor))
        self.end(task, KillCause.HEALTH, kill_grace_s(task.info.kill_policy))

    def shut_down(self, task: Task) -> None:
        """End a command task as SHUTDOWN does."""
        self.end(task, KillCause.REQUEST, max(0.0, shutdown_grace_s(self.state, task) - SHUTDOWN_MARGIN_S))

    def shut_down_executor(self, executor: Executor) -> None:
        """End a default executor with its tasks."""
        if executor.state is not ExecutorState.TERMINATING:
            executor.enter(ExecutorState.TERMINATING)
            self.state.emit(checkpoint.keep_executor(executor))
        for task in executor.tasks():
            self.end(task, KillCause.REQUEST, MATE_GRACE_S)
        self.check_done(executor)

    def repeat_signal(self, task: Task) -> None:
        """The launcher was away: what was sent to it may be lost."""
        run = task.run
        if run is not None and run.kill is not None:
            self.state.emit(SignalContainer(task.container_id, signal.SIGKILL if run.hard else signal.SIGTERM))

    # ---- What the container did ------------------------------------------------------------------------

    def started(self, task: Task, pid: int, networks: tuple[NetworkInfo, ...] = ()) -> None:
        assert task.run is not None
        task.networks = networks
        if task.run.pid is None:
            task.run.pid = pid or None
        if task.run.kill is None:
            self.checks.begin(task)  # First: the report keeps since when.
        self._apply(task, task.run.started(pid))

    def launch_failed(self, task: Task, message: str) -> None:
        assert task.run is not None
        self._apply(task, task.run.failed(message))
        self._ended(task)

    def exited(self, task: Task, status: int | None, limitation: Limitation | None) -> None:
        assert task.run is not None
        self._apply(task, task.run.exited(status, limitation))
        self._ended(task)

    def _apply(self, task: Task, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Report):
                self.updates.report(task, action.state, action.message, action.reason, action.source, action.limitation)
            else:
                self.state.emit(SignalContainer(task.container_id, action.number))

    def _ended(self, task: Task) -> None:
        self.checks.stop(task)
        framework = task.framework
        if task.kind is Kind.COMMAND:  # Its executor is only a name, but one that is counted.
            self.state.counts["slave/executors_terminated"] += 1
        executor = framework.executors.get(task.executor_id) if task.kind is Kind.DEFAULT else None
        if framework.terminating:
            self.frameworks.task_done(task)
        elif executor is not None and task.group and brings_group_down(task.state) and self.state.drain is None:  # Else each has its own.
            for mate in executor.tasks():
                if mate.group == task.group and not mate.terminal:
                    self.end(mate, KillCause.GROUP, MATE_GRACE_S)
        if executor is not None:
            self.check_done(executor)

    def check_done(self, executor: Executor) -> None:
        """End a default executor that has nothing left to do."""
        if executor.framework.executors.get(executor.executor_id) is not executor:
            return
        tasks, now_s = executor.tasks(), self.state.now.mono_s
        live = sum(not task.terminal for task in tasks)
        if live:
            executor.idle_since_s = None
            return
        if executor.idle_since_s is None:
            executor.idle_since_s = now_s
            self.state.look_at(now_s + LINGER_S, self.check_done, executor)
        if is_done(live, len(tasks), now_s - executor.idle_since_s):
            executor.enter(ExecutorState.TERMINATED)
            self.state.emit(ContainerEnded(executor.container_id, executor.container_id, Exit(0, self.state.now.wall_s)))
            self.frameworks.executor_gone(executor, 0)
