"""The agent link: our own messages between an agent and the master (spec: mesos-v1, sections 8 and 14.3).

One WebSocket from agent to master carries frames of many messages in msgpack. Frames are numbered per
direction, so that a lost, doubled or reordered one is noticed (`kernel.wire.link`); whatever breaks the
order closes the link and the agent registers anew with all it knows. Fields are only ever added at the
end and with defaults, so two releases can talk.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from kernel.wire.nodes import AgentCapability, DrainConfig
from kernel.wire.offer import Operation, OperationStatus
from kernel.wire.resources import Resource
from kernel.wire.task import Attribute, DomainInfo, ExecutorInfo, FrameworkInfo, KillPolicy, TaskInfo, TaskState, TaskStatus

LINK_VERSION = 1
ShortText = Annotated[str, Meta(max_length=255)]


class _Message(Struct, frozen=True, tag=True, array_like=True, gc=False, omit_defaults=False):
    """One message of the link, written as an array that starts with its class's name."""


class TaskReport(Struct, frozen=True, array_like=True, gc=False):
    """A task as its agent knows it, told when the agent registers.

    state: the latest state; sent: what the last status update handed to the master said (None: none yet).
    launched in an executor of its own when executor_id is empty (a command task).
    """

    framework_id: ShortText
    task: TaskInfo
    state: TaskState
    executor_id: str = ""
    status: TaskStatus | None = None


class ExecutorReport(Struct, frozen=True, array_like=True, gc=False):
    """A custom or default executor that lives on the agent, told when the agent registers."""

    framework_id: ShortText
    executor: ExecutorInfo


class OperationReport(Struct, frozen=True, array_like=True, gc=False):
    """An operation that the agent has carried out and whose status is not acknowledged. framework_id: empty for an operator's."""

    uuid: bytes
    framework_id: ShortText
    operation: Operation
    status: OperationStatus


# ---- Agent to master ------------------------------------------------------------------------------------


class Register(_Message, frozen=True):
    """First message of a link: who the agent is and all that runs there.

    agent_id: empty when the agent never had one. run: random text, new at each start of the agent process:
    a registration repeated by the same run is a repeat, by another run a restart. known_tasks: every task
    that is not terminal, or terminal with an update still unacknowledged. capabilities: what it can do. resources: as
    it is configured; total: what operations have made of them (empty: nothing else). slack: as in Oversubscribed.
    """

    version: int
    agent_id: str
    run: ShortText
    hostname: ShortText
    ip: ShortText
    port: Annotated[int, Meta(ge=0, le=65535)]
    resources: tuple[Resource, ...]
    attributes: tuple[Attribute, ...] = ()
    software: ShortText = ""
    boot_id: ShortText = ""
    frameworks: tuple[FrameworkInfo, ...] = ()
    executors: tuple[ExecutorReport, ...] = ()
    tasks: tuple[TaskReport, ...] = ()
    domain: DomainInfo | None = None
    capabilities: tuple[AgentCapability, ...] = ()
    total: tuple[Resource, ...] = ()
    operations: tuple[OperationReport, ...] = ()
    slack: tuple[Resource, ...] = ()


class StatusUpdate(_Message, frozen=True):
    """A task's state, sent again until acknowledged (status.uuid is set).

    latest_state: the newest state the agent knows, maybe ahead of status: the master frees the task's
    resources by it.
    """

    framework_id: ShortText
    status: TaskStatus
    latest_state: TaskState


class OperationUpdate(_Message, frozen=True):
    """What became of an operation, sent again until acknowledged (status.uuid is set). framework_id: empty for an operator's."""

    framework_id: ShortText
    uuid: bytes
    status: OperationStatus


class ExecutorExited(_Message, frozen=True):
    """A custom or default executor ended. status: its raw wait status, -1 unknown."""

    framework_id: ShortText
    executor_id: ShortText
    status: int


class ExecutorMessage(_Message, frozen=True):
    """Bytes from an executor to its scheduler; best effort."""

    framework_id: ShortText
    executor_id: ShortText
    data: bytes


class Oversubscribed(_Message, frozen=True):
    """So much of the agent may be given out once more as revocable, used or not, in place of what it said before. slack: revocable
    scalars that are reserved for nobody."""

    slack: tuple[Resource, ...] = ()


class Goodbye(_Message, frozen=True):
    """The agent stops: it wants no more tasks. final: it never comes back under this id (its tasks are gone); otherwise it restarts
    (upgrade), its tasks running or ended, and is waited for. Sent also before it ends its tasks, which takes a while."""

    final: bool = False


class AgentHeartbeat(_Message, frozen=True):
    """Sent by the agent each Registered.heartbeat_s; the master answers with a MasterHeartbeat."""


# ---- Master to agent ------------------------------------------------------------------------------------


class Registered(_Message, frozen=True):
    """The agent is admitted, known as agent_id. heartbeat_s: how often to send AgentHeartbeat;
    silence_s: without any frame for so long, either side takes the link for dead. drain: as in DrainAgent."""

    agent_id: ShortText
    master_id: ShortText
    heartbeat_s: float
    silence_s: float
    drain: DrainConfig | None = None


class ShutdownAgent(_Message, frozen=True):
    """The agent was refused or marked gone: end everything it runs, then exit. reason: for its log."""

    reason: str


class FrameworkUpdated(_Message, frozen=True):
    """A framework's info, sent before its first task on this link and at each change."""

    framework: FrameworkInfo


class RunTask(_Message, frozen=True):
    """Launch a task. Its executor (task.executor) starts when launch_executor, else it must be alive."""

    framework_id: ShortText
    task: TaskInfo
    launch_executor: bool


class RunTaskGroup(_Message, frozen=True):
    """Launch tasks together under one executor; all or none start."""

    framework_id: ShortText
    executor: ExecutorInfo
    tasks: tuple[TaskInfo, ...]
    launch_executor: bool


class KillTask(_Message, frozen=True):
    """End a task. An unknown one is answered with TASK_DROPPED (or LOST), `Cannot find executor`. preempted: for whom, if it is
    nobody's wish but that others need the room: its end is then TASK_GONE (or LOST), CONTAINER_PREEMPTED, and says so."""

    framework_id: ShortText
    task_id: ShortText
    kill_policy: KillPolicy | None = None
    preempted: str = ""


class AcknowledgeUpdate(_Message, frozen=True):
    """The scheduler has the update with this uuid; the next one of the task may go out."""

    framework_id: ShortText
    task_id: ShortText
    uuid: bytes


class ReconcileTasks(_Message, frozen=True):
    """After a registration: tasks (framework id, task id) the master holds and the agent did not report. The
    agent answers each it indeed does not know with TASK_DROPPED (or LOST), reason RECONCILIATION."""

    tasks: tuple[tuple[str, str], ...]


class ShutdownFramework(_Message, frozen=True):
    """The framework is gone: end its executors and tasks, send no updates for them."""

    framework_id: ShortText


class ShutdownExecutor(_Message, frozen=True):
    """End one executor: SHUTDOWN, grace, then its container is destroyed."""

    framework_id: ShortText
    executor_id: ShortText


class FrameworkMessage(_Message, frozen=True):
    """Bytes from a scheduler to its executor; best effort."""

    framework_id: ShortText
    executor_id: ShortText
    data: bytes


class DrainAgent(_Message, frozen=True):
    """End all tasks and take no others, until told otherwise: config None ends it. Only for agents that are AGENT_DRAINING."""

    config: DrainConfig | None = None


class ApplyOperation(_Message, frozen=True):
    """Change resources; what follows on the link counts on it. framework_id: empty for an operator's."""

    framework_id: ShortText
    uuid: bytes
    operation: Operation


class AcknowledgeOperation(_Message, frozen=True):
    """Whom it concerns has the status with this uuid: the operation may be forgotten."""

    uuid: bytes
    status_uuid: bytes


class MasterHeartbeat(_Message, frozen=True):
    """Answer to an AgentHeartbeat."""


AgentMessage = Register | StatusUpdate | OperationUpdate | ExecutorExited | ExecutorMessage | Oversubscribed | Goodbye | AgentHeartbeat
MasterMessage = (
    Registered
    | ShutdownAgent
    | FrameworkUpdated
    | RunTask
    | RunTaskGroup
    | KillTask
    | AcknowledgeUpdate
    | ReconcileTasks
    | ShutdownFramework
    | ShutdownExecutor
    | FrameworkMessage
    | ApplyOperation
    | AcknowledgeOperation
    | MasterHeartbeat
    | DrainAgent
)


class AgentFrame(Struct, frozen=True, array_like=True):
    """What an agent sends at once. number: 1 for the first frame of a link, then one more each."""

    number: int
    messages: tuple[AgentMessage, ...]


class MasterFrame(Struct, frozen=True, array_like=True):
    """What a master sends at once; numbered as AgentFrame is."""

    number: int
    messages: tuple[MasterMessage, ...]
