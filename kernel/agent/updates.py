"""The status update manager: every update of a task reaches its scheduler, in order, at least once.

Per task one update is under way; the next goes out when it is acknowledged. It is sent again after 10 s, doubling to
10 minutes, and at once when the agent has registered anew (spec: mesos-v1, section 2.13). When the task ends meanwhile, it
is sent again soon: beside it the master is told the latest state, and frees what the task had, whoever is there to acknowledge.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from kernel.agent import checkpoint
from kernel.agent.effects import ToMaster
from kernel.agent.state import AgentState, Drain, Executor, Kind, Task, UpdateQueue
from kernel.agent.transitions import may_follow
from kernel.executor.command import KillCause
from kernel.wire.agent import AcknowledgeUpdate, StatusUpdate
from kernel.wire.container import ContainerStatus, IPAddress, NetworkInfo
from kernel.wire.ids import AgentID, ContainerID, ExecutorID, TaskID
from kernel.wire.task import TERMINAL, Reason, Source, TaskResourceLimitation, TaskState, TaskStatus

log = logging.getLogger(__name__)

RETRY_S = 10.0
RETRY_S_MAX = 600.0
END_TOLD_S = 1.0
PENDING_MAX = 100  # Beyond, a check's update takes the place of the one before it: a scheduler may be away for long.

_OF_CHECKS = (Reason.REASON_TASK_CHECK_STATUS_UPDATED, Reason.REASON_TASK_HEALTH_CHECK_STATUS_UPDATED)

_KILLS = (TaskState.TASK_KILLING, TaskState.TASK_KILLED)
_METRICS = {state: f"slave/tasks_{state.value.removeprefix('TASK_').lower()}" for state in TERMINAL}


class Updates:
    """Makes, keeps, sends and forgets status updates."""

    def __init__(self, state: AgentState) -> None:
        self.state = state
        self._networks = (NetworkInfo((IPAddress(ip_address=state.config.public_ip),)),)

    def report(
        self,
        task: Task,
        new_state: TaskState,
        message: str | None = None,
        reason: Reason | None = None,
        source: Source = Source.SOURCE_AGENT,
        limitation: TaskResourceLimitation | None = None,
    ) -> bool:
        """Make an update of ours. False, and nothing done, when the task cannot come into this state any more."""
        if not may_follow(task.state, new_state):
            return False
        state = self.state
        status = TaskStatus(
            task.info.task_id,
            new_state,
            message,
            source,
            reason,
            agent_id=AgentID(state.agent_id),
            executor_id=ExecutorID(task.executor_id),
            timestamp=state.now.wall_s,
            uuid=state.new_uuid(),
            healthy=_healthy(task, new_state),
            check_status=task.check.found if task.check is not None else None,
            container_status=self.container_status(task),
            limitation=limitation,
        )
        self._add(task, status)
        return True

    def take(self, task: Task, status: TaskStatus) -> bool:
        """Take an update of a custom executor (uuid set). False for a repeat and for what may not follow."""
        queue = task.updates
        if status.uuid in queue.seen or not may_follow(task.state, status.state):
            self.state.counts["slave/invalid_status_updates"] += 1
            return False
        queue.seen.append(status.uuid or b"")
        status = replace(
            status,
            agent_id=AgentID(self.state.agent_id),
            executor_id=ExecutorID(task.executor_id),
            timestamp=self.state.now.wall_s if status.timestamp is None else status.timestamp,
            container_status=_merged(status.container_status, self.container_status(task)),
        )
        self._add(task, status)
        return True

    def _add(self, task: Task, status: TaskStatus) -> None:
        if task.preempted and status.state in _KILLS:
            status = _preempted(task, status)
        elif self.state.drain is not None and status.state in _KILLS:
            status = _drained(task, status, self.state.drain)
        task.state = status.state
        task.note(status)
        self.state.counts["slave/valid_status_updates"] += 1
        if status.state in TERMINAL:
            self.state.counts[_METRICS[status.state]] += 1
        if task.framework.terminating or self.state.leaves_for_good:  # Nobody would take it.
            return
        pending = task.updates.pending
        if len(pending) >= PENDING_MAX and status.reason in _OF_CHECKS and pending[-1].reason in _OF_CHECKS:
            pending[-1] = status
        else:
            pending.append(status)
        self.state.emit(checkpoint.keep_updates(task, self.state))
        if len(task.updates.pending) == 1:
            self._start(task)
        elif status.state in TERMINAL and self.state.registered:
            task.updates.retry_s = RETRY_S
            self._send_at(task, min(task.updates.retry_due_s, self.state.now.mono_s + END_TOLD_S))

    def _start(self, task: Task) -> None:
        """Send the first pending update for the first time."""
        if self.state.registered:
            task.updates.retry_s = RETRY_S
            self._send(task)

    def _send(self, task: Task) -> None:
        queue, state = task.updates, self.state
        state.emit(ToMaster(StatusUpdate(task.framework.framework_id, queue.pending[0], task.state)))
        self._send_at(task, state.now.mono_s + queue.retry_s)
        queue.retry_s = min(queue.retry_s * 2, RETRY_S_MAX)

    def _send_at(self, task: Task, due_s: float) -> None:
        task.updates.retry_due_s = due_s
        self.state.look_at(due_s, self._retry, task)

    def _retry(self, task: Task) -> None:
        queue = task.updates
        if queue.pending and self.state.registered and queue.retry_due_s <= self.state.now.mono_s:
            self._send(task)

    def send_all(self) -> None:
        """The agent has registered: whatever is pending goes out now."""
        for framework in self.state.frameworks.values():
            for task in framework.tasks.values():
                if task.updates.pending:
                    self._start(task)

    def acknowledge(self, message: AcknowledgeUpdate) -> Task | None:
        """Note an acknowledgement and send the next update. Repeats and unknown uuids are harmless.

        Returns the task when its last update ever was acknowledged: nothing is owed any more.
        """
        orphan = self.state.orphans.get((message.framework_id, message.task_id))
        if orphan is not None and orphan.pending[0].uuid == message.uuid:
            del self.state.orphans[message.framework_id, message.task_id]
            return None
        framework = self.state.frameworks.get(message.framework_id)
        task = framework.tasks.get(message.task_id) if framework is not None else None
        if task is None or not task.updates.pending or task.updates.pending[0].uuid != message.uuid:
            return None
        queue = task.updates
        queue.acknowledged = queue.pending.popleft()
        if not queue.pending and queue.acknowledged.state in TERMINAL:
            return task
        self.state.emit(checkpoint.keep_updates(task, self.state))
        if queue.pending:
            self._start(task)
        return None

    def refuse(self, framework_id: str, task_id: str, new_state: TaskState, reason: Reason, message: str) -> None:
        """Answer for a task that we do not know, sending again until acknowledged.

        Kept no longer than the link: at the next registration the master asks again for what it still believes here.
        """
        state = self.state
        framework = state.frameworks.get(framework_id)
        queue = state.orphans.get((framework_id, task_id))
        if queue is None:
            queue = state.orphans[framework_id, task_id] = UpdateQueue()
            queue.pending.append(
                TaskStatus(
                    TaskID(task_id),
                    # Who does not know the framework cannot know its capabilities: the old word is understood by all.
                    TaskState.TASK_LOST if framework is None else framework.lost(new_state),
                    message,
                    Source.SOURCE_AGENT,
                    reason,
                    agent_id=AgentID(state.agent_id),
                    timestamp=state.now.wall_s,
                    uuid=state.new_uuid(),
                )
            )
        queue.retry_s = RETRY_S
        self._send_orphan((framework_id, task_id))

    def _send_orphan(self, key: tuple[str, str]) -> None:
        queue, state = self.state.orphans[key], self.state
        state.emit(ToMaster(StatusUpdate(key[0], queue.pending[0], queue.pending[0].state)))
        queue.retry_due_s = state.now.mono_s + queue.retry_s
        queue.retry_s = min(queue.retry_s * 2, RETRY_S_MAX)
        state.look_at(queue.retry_due_s, self._retry_orphan, key)

    def _retry_orphan(self, key: tuple[str, str]) -> None:
        queue = self.state.orphans.get(key)
        if queue is not None and queue.retry_due_s <= self.state.now.mono_s:
            self._send_orphan(key)

    def container_status(self, task: Task) -> ContainerStatus | None:
        """Where the task runs; None while nothing does."""
        executor = task.framework.executors.get(task.executor_id)
        owner: Task | Executor
        parent = ContainerID(executor.container_id) if executor is not None else None
        if task.kind is Kind.CUSTOM:
            if executor is None:
                return None
            container_id, pid, owner = parent, executor.pid, executor
        elif task.run is None:
            return None
        else:
            container_id, pid, owner = ContainerID(task.container_id, parent), task.run.pid, task
        return ContainerStatus(container_id, owner.networks or self._networks, executor_pid=pid)


def _drained(task: Task, status: TaskStatus, drain: Drain) -> TaskStatus:
    """A kill on an agent that drains says so; whoever can understand it is told that the agent will never be back."""
    gone = drain.config.mark_gone and status.state is TaskState.TASK_KILLED and task.framework.partition_aware
    return replace(status, state=TaskState.TASK_GONE_BY_OPERATOR if gone else status.state, reason=Reason.REASON_AGENT_DRAINING)


def _preempted(task: Task, status: TaskStatus) -> TaskStatus:
    """A kill that nobody asked for but that others need the room: as schedulers know it of Mesos, so that they start it elsewhere."""
    state = task.framework.lost(TaskState.TASK_GONE) if status.state is TaskState.TASK_KILLED else status.state
    message = f"{task.preempted}; {status.message}" if status.message else task.preempted
    return replace(status, state=state, source=Source.SOURCE_AGENT, reason=Reason.REASON_CONTAINER_PREEMPTED, message=message)


def _healthy(task: Task, new_state: TaskState) -> bool | None:
    """What a status of ours says of the task's health: while it runs what was found last, at its end only whether that was the cause."""
    if new_state in TERMINAL:
        executor = task.framework.executors.get(task.executor_id)
        by_check = task.run is not None and task.run.kill is not None and task.run.kill.cause is KillCause.HEALTH
        return False if by_check or (executor is not None and executor.unhealthy) else None
    return task.health.healthy if task.health is not None and new_state is TaskState.TASK_RUNNING else None


def _merged(given: ContainerStatus | None, ours: ContainerStatus | None) -> ContainerStatus | None:
    """What the executor said of its container, completed by what we know."""
    if given is None or ours is None:
        return given or ours
    return ContainerStatus(
        given.container_id or ours.container_id,
        given.network_infos or ours.network_infos,
        given.cgroup_info,
        given.executor_pid or ours.executor_pid,
    )
