"""Custom executors: processes of frameworks that speak the v1 executor API (spec: mesos-v1, sections 3.1 to 3.5)."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from kernel.agent import checkpoint
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.effects import (
    CloseExecutorStream,
    ExecutorData,
    ExecutorStreamClosed,
    ExecutorUnknown,
    ExecutorUpdate,
    LimitContainer,
    SignalContainer,
    SubscribeExecutor,
    ToExecutor,
    ToMaster,
    VolumesNotLinked,
)
from kernel.agent.frameworks import Frameworks
from kernel.agent.launch import executor_container, executor_limits, shutdown_grace_s, task_volumes, unsupported_volumes
from kernel.agent.state import AgentState, Cause, Executor, Framework, Kind, Task
from kernel.agent.tasks import NO_GPU, Tasks
from kernel.agent.token import Claims
from kernel.agent.transitions import ExecutorState
from kernel.agent.updates import Updates
from kernel.errors import CallError, Forbidden, NotSupported
from kernel.executor.command import Limitation
from kernel.wire import executor as api
from kernel.wire.agent import ExecutorMessage
from kernel.wire.container import NetworkInfo
from kernel.wire.ids import AgentID, ContainerID, TaskID
from kernel.wire.task import (
    AgentInfo,
    ExecutorInfo,
    KillPolicy,
    Reason,
    Source,
    TaskGroupInfo,
    TaskInfo,
    TaskResourceLimitation,
    TaskState,
    TaskStatus,
)

TERMINATED = Cause(TaskState.TASK_FAILED, TaskState.TASK_FAILED, Reason.REASON_EXECUTOR_TERMINATED, "Executor terminated")
NOT_REGISTERED = Cause(
    TaskState.TASK_FAILED,
    TaskState.TASK_FAILED,
    Reason.REASON_EXECUTOR_REGISTRATION_TIMEOUT,
    "Executor did not register within the timeout; Executor terminated",
)
NOT_BACK = Cause(
    TaskState.TASK_LOST,
    TaskState.TASK_GONE,
    Reason.REASON_EXECUTOR_REREGISTRATION_TIMEOUT,
    "Executor did not reregister within the timeout; Executor terminated",
)
SHUTDOWN = api.Event("SHUTDOWN")


class Executors:
    """Starts and ends custom executors, hands them their tasks and takes their updates."""

    def __init__(self, state: AgentState, updates: Updates, frameworks: Frameworks, tasks: Tasks) -> None:
        self.state, self.updates, self.frameworks, self.tasks = state, updates, frameworks, tasks

    # ---- Launching ------------------------------------------------------------------------------------

    def launch(self, framework: Framework, info: ExecutorInfo, infos: Sequence[TaskInfo], problem: str | None, group: bool) -> None:
        """Give tasks to an executor, which is started when missing."""
        executor_id = info.executor_id.value
        executor = framework.executors.get(executor_id)
        problem = problem or unsupported_volumes(infos, info, executor is not None)
        own = info.resources if executor is None else ()
        assigned = self.state.assign_gpus(own, *(task_info.resources for task_info in infos))
        if assigned is None:
            problem = problem or NO_GPU
        elif executor is not None and executor.containerizer is not Containerizer.PROCESS and any(assigned):
            problem = problem or "a container that runs in an image gets no further GPUs"
        if problem is not None or assigned is None:
            for task_info in infos:
                self.tasks.reject(framework, Kind.CUSTOM, task_info, executor_id, problem or NO_GPU)
            return
        number = self.state.new_group() if group else 0
        batch = []
        for task_info, gpus in zip(infos, assigned[1:], strict=True):
            batch.append(self.tasks.add(framework, Kind.CUSTOM, task_info, executor_id, number, gpus))
        if executor is None:
            executor = self._start(framework, info, assigned[0])
        else:
            self._limit(executor)
            shown = task_volumes(self.state, executor, infos)
            if shown is not None:
                self.state.emit(shown)
        executor.queued.append(tuple(batch))
        self._deliver(executor)

    def _start(self, framework: Framework, info: ExecutorInfo, gpus: tuple[int, ...]) -> Executor:
        state = self.state
        executor = Executor(framework, info, Kind.CUSTOM, state.new_container_id(), state.now.wall_s, ExecutorState.REGISTERING)
        executor.gpus = gpus
        framework.executors[executor.executor_id] = executor
        state.containers[executor.container_id] = executor
        state.emit(checkpoint.keep_executor(executor))
        state.emit(executor_container(state, executor))
        if not _fetches(executor):
            self._await(executor, state.config.executor_registration_timeout_s)
        return executor

    def volumes_not_linked(self, message: VolumesNotLinked) -> None:
        """Tasks were given to their executor without the volumes they need: they fail, and are to end there."""
        framework = self.state.frameworks.get(message.framework_id)
        for task_id in message.task_ids:
            task = framework.tasks.get(task_id) if framework is not None else None
            if task is not None and not task.terminal:
                self.kill(task, None)
                self.updates.report(task, TaskState.TASK_FAILED, message.message, Reason.REASON_CONTAINER_UPDATE_FAILED)

    def _limit(self, executor: Executor) -> None:
        """Hold it to what it and its tasks have together."""
        if executor.state is not ExecutorState.TERMINATED:
            self.state.emit(LimitContainer(executor.container_id, executor_limits(self.state, executor)))

    def _deliver(self, executor: Executor) -> None:
        """Send what is queued: single tasks first, then groups, each in the order of arrival."""
        if executor.stream is None or executor.state is not ExecutorState.RUNNING:
            return
        batches, executor.queued = executor.queued, []
        for batch in sorted(batches, key=lambda batch: batch[0].group > 0):
            for task in batch:
                task.delivered = executor.given = True
            if batch[0].group:
                group = TaskGroupInfo(tuple(task.info for task in batch))
                self._tell(executor, api.Event("LAUNCH_GROUP", launch_group=api.LaunchGroup(group)))
            else:
                self._tell(executor, api.Event("LAUNCH", launch=api.Launch(batch[0].info)))

    def _tell(self, executor: Executor, event: api.Event) -> None:
        if executor.stream is not None:
            self.state.emit(ToExecutor(executor.stream, event))

    def may_launch(self, executor: Executor) -> bool:
        """Whether an executor that the launcher does not have was never started."""
        return executor.state is ExecutorState.REGISTERING and executor.pid is None

    # ---- The executor API ------------------------------------------------------------------------------

    def subscribe(self, message: SubscribeExecutor) -> None:
        """Take an executor's (new) stream, settle what it and we know, then send what waits for it."""
        executor, state = self._find(message), self.state
        if state.departure is not None or executor.framework.terminating or executor.state is ExecutorState.TERMINATING:
            state.emit(ToExecutor(message.stream, SHUTDOWN))
            state.emit(CloseExecutorStream(message.stream))
            return
        if executor.stream is not None:
            state.streams.pop(executor.stream, None)
            state.emit(CloseExecutorStream(executor.stream))
        executor.stream = message.stream
        state.streams[message.stream] = executor
        for update in message.body.unacknowledged_updates:
            if _problem(update.status, executor.executor_id) is None:
                self._take(executor, update.status)
        held = {info.task_id.value for info in message.body.unacknowledged_tasks}
        for task in executor.tasks():
            if task.delivered and task.state is TaskState.TASK_STAGING and task.task_id not in held:
                self.updates.report(
                    task,
                    task.framework.lost(TaskState.TASK_DROPPED),
                    "Task launched during agent restart",
                    Reason.REASON_AGENT_RESTARTED,
                )
        if executor.state is not ExecutorState.RUNNING:
            executor.enter(ExecutorState.RUNNING)
            executor.due_s = None
            state.emit(checkpoint.keep_executor(executor))
        if not executor.given and not executor.queued:  # All it was started for was killed meanwhile.
            self.shut_down(executor)
            return
        self._tell(executor, api.Event("SUBSCRIBED", subscribed=self._subscribed(executor)))
        for task in executor.tasks():
            if task.kill_wanted is not None and task.delivered and not task.terminal:
                self._tell_kill(executor, task, task.kill_wanted)
        self._deliver(executor)

    def _subscribed(self, executor: Executor) -> api.Subscribed:
        config, node = self.state.config, self.state.node
        agent = AgentInfo(
            config.public_hostname, config.public_port, node.resources, node.attributes, AgentID(self.state.agent_id), node.domain
        )
        return api.Subscribed(executor.info, executor.framework.info, agent, ContainerID(executor.container_id))

    def update(self, message: ExecutorUpdate) -> None:
        """Take a status update. Acknowledged once it is kept: from then on it is ours to deliver."""
        problem = _problem(message.body.status, message.executor_id)
        if problem is not None:
            raise CallError(f"Failed to validate executor::Call: {problem}")
        executor = self._find(message)
        self._must_be_subscribed(executor)
        self._take(executor, message.body.status)

    def _take(self, executor: Executor, status: TaskStatus) -> None:
        task = executor.framework.tasks.get(status.task_id.value)
        if task is not None and task.executor_id == executor.executor_id:
            self.updates.take(task, status)
            if task.terminal:
                self._limit(executor)
                if executor.framework.terminating:
                    self.frameworks.task_done(task)
        self._tell(executor, api.Event("ACKNOWLEDGED", acknowledged=api.Acknowledged(status.task_id, status.uuid or b"")))

    def data(self, message: ExecutorData) -> None:
        """Pass bytes on to the scheduler, best effort."""
        executor = self._find(message)
        self._must_be_subscribed(executor)
        if self.state.registered:
            self.state.emit(ToMaster(ExecutorMessage(message.framework_id, message.executor_id, message.data)))

    def unknown(self, message: ExecutorUnknown) -> None:
        self._must_be_subscribed(self._find(message))
        raise NotSupported("UNKNOWN is no call")

    def stream_closed(self, message: ExecutorStreamClosed) -> None:
        """The executor may come back with another stream, or end: its exit will tell."""
        executor = self.state.streams.pop(message.stream, None)
        if executor is not None:
            executor.stream = None

    def _find(self, message: SubscribeExecutor | ExecutorUpdate | ExecutorData | ExecutorUnknown) -> Executor:
        framework_id, executor_id = message.framework_id, message.executor_id
        framework = self.state.frameworks.get(framework_id)
        if framework is None:
            raise CallError(f"Framework {framework_id} cannot be found")
        executor = framework.executors.get(executor_id)
        if executor is None or executor.kind is not Kind.CUSTOM:
            raise CallError(f"Executor {executor_id} of framework {framework_id} cannot be found")
        if message.claims not in (None, Claims(executor.container_id, executor_id, framework_id)):
            raise Forbidden("the token is not that of this executor")
        return executor

    def _must_be_subscribed(self, executor: Executor) -> None:
        if executor.state in (ExecutorState.REGISTERING, ExecutorState.REREGISTERING):
            raise Forbidden("Executor is not subscribed")

    # ---- Orders of the master --------------------------------------------------------------------------

    def kill(self, task: Task, policy: KillPolicy | None) -> None:
        """End a task: forget it if its executor never had it, else tell the executor."""
        executor = task.framework.executors.get(task.executor_id)
        if task.terminal or executor is None:
            return
        for batch in executor.queued:
            if task in batch:
                executor.queued.remove(batch)
                for mate in batch:
                    self.tasks.drop_undelivered(mate)
                if _fetches(executor) and self.may_launch(executor) and not executor.queued:
                    self._destroy(executor)  # Nobody waits for its files any more.
                return
        task.kill_wanted = policy or KillPolicy()
        self.state.emit(checkpoint.keep_task(task, self.state))
        self._tell_kill(executor, task, task.kill_wanted)

    def _tell_kill(self, executor: Executor, task: Task, policy: KillPolicy) -> None:
        given = policy if policy.grace_period is not None else None
        self._tell(executor, api.Event("KILL", kill=api.Kill(TaskID(task.task_id), given)))

    def message(self, executor: Executor, data: bytes) -> None:
        """Bytes from the scheduler, best effort."""
        if executor.state is ExecutorState.RUNNING:
            self._tell(executor, api.Event("MESSAGE", message=api.EventMessage(data)))

    # ---- Ending ---------------------------------------------------------------------------------------

    def shut_down(self, executor: Executor) -> None:
        """SHUTDOWN now, the end of the container after the grace; at once when it could not hear the former."""
        if executor.state is ExecutorState.TERMINATING:
            return
        if executor.stream is None:
            self._destroy(executor)
            return
        executor.enter(ExecutorState.TERMINATING)
        self.state.emit(checkpoint.keep_executor(executor))
        self._tell(executor, SHUTDOWN)
        self._await(executor, shutdown_grace_s(self.state, executor))

    def preempt(self, executor: Executor, why: str) -> None:
        """End its container at once: others need what it has."""
        if executor.state is not ExecutorState.TERMINATING:
            executor.cause = Cause(TaskState.TASK_LOST, TaskState.TASK_GONE, Reason.REASON_CONTAINER_PREEMPTED, why)
            self._destroy(executor)

    def _await(self, executor: Executor, timeout_s: float) -> None:
        executor.due_s = self.state.now.mono_s + timeout_s
        self.state.look_at(executor.due_s, self._check, executor)

    def _check(self, executor: Executor) -> None:
        if executor.due_s is None or self.state.now.mono_s < executor.due_s:
            return
        executor.due_s = None
        if executor.state is ExecutorState.REGISTERING:
            executor.cause = NOT_REGISTERED
        elif executor.state is ExecutorState.REREGISTERING:
            executor.cause = NOT_BACK
        elif executor.state is not ExecutorState.TERMINATING:
            return
        self._destroy(executor)

    def _destroy(self, executor: Executor) -> None:
        if executor.state is not ExecutorState.TERMINATING:
            executor.enter(ExecutorState.TERMINATING)
            self.state.emit(checkpoint.keep_executor(executor))
        self.state.emit(SignalContainer(executor.container_id, signal.SIGKILL))

    def repeat(self, executor: Executor) -> None:
        """What runs it was away: what was to be done to it may be lost."""
        if executor.pid is not None:
            self._limit(executor)
        if executor.state is ExecutorState.TERMINATING and executor.due_s is None:
            self.state.emit(SignalContainer(executor.container_id, signal.SIGKILL))

    def resume(self, executor: Executor) -> None:
        """After a restart: wait for an executor that was read back."""
        config = self.state.config
        if executor.state is ExecutorState.REREGISTERING:
            self._await(executor, config.executor_reregistration_timeout_s)
        elif executor.state is ExecutorState.REGISTERING and not _fetches(executor):
            self._await(executor, config.executor_registration_timeout_s)
        groups: dict[int, list[Task]] = {}
        for task in executor.tasks():
            if task.state is TaskState.TASK_STAGING and not executor.given:
                groups.setdefault(task.group or -len(groups) - 1, []).append(task)
            else:
                task.delivered = True
        executor.queued = [tuple(batch) for batch in groups.values()]

    # ---- What the container did ------------------------------------------------------------------------

    def started(self, executor: Executor, pid: int, networks: tuple[NetworkInfo, ...] = ()) -> None:
        """Its process runs. What it took to fetch its files does not count as its own time."""
        executor.networks = networks
        first, executor.pid = executor.pid is None, pid or None
        if first and executor.state is ExecutorState.REGISTERING and _fetches(executor):
            self._await(executor, self.state.config.executor_registration_timeout_s)

    def launch_failed(self, executor: Executor, message: str) -> None:
        text = f"Failed to launch container: {message}"
        executor.cause = Cause(TaskState.TASK_FAILED, TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED, text)
        self.exited(executor, None)

    def exited(self, executor: Executor, status: int | None, limitation: Limitation | None = None) -> None:
        """Its process ended: so do its tasks."""
        executor.enter(ExecutorState.TERMINATED)
        if limitation is not None:
            used_up = TaskResourceLimitation(limitation.resources)
            executor.cause = Cause(TaskState.TASK_FAILED, TaskState.TASK_FAILED, limitation.reason, limitation.message, used_up)
        executor.due_s = None
        executor.queued.clear()
        cause, framework = executor.cause or TERMINATED, executor.framework
        for task in executor.tasks():
            if not task.terminal:
                ended = cause.partition_aware_state if framework.partition_aware else cause.state
                self.updates.report(task, ended, cause.message, cause.reason, limitation=cause.limitation)
            if framework.terminating:
                self.frameworks.task_done(task)
        self.frameworks.executor_gone(executor, status)


def _fetches(executor: Executor) -> bool:
    return executor.info.command is not None and bool(executor.info.command.uris)


def _problem(status: TaskStatus, executor_id: str) -> str | None:
    """What is wrong with an update of this executor, None when nothing is."""
    if status.uuid is None:
        return "Expecting 'uuid' to be present"
    if len(status.uuid) != 16:
        return "'uuid' must be 16 bytes"
    if status.executor_id is not None and status.executor_id.value != executor_id:
        return "ExecutorID in the status update does not match the executor's"
    if status.source is not Source.SOURCE_EXECUTOR:
        return "'source' must be SOURCE_EXECUTOR"
    if status.state is TaskState.TASK_STAGING:
        return "TASK_STAGING is not allowed"
    return None
