"""The executor API: calls of an executor to its agent, events back (spec: mesos-v1, section 3).

Names as in v1, so some are those of the scheduler API: import this as a module.
"""

from __future__ import annotations

from kernel.wire.base import ProtoMessage
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import ContainerID, ExecutorID, FrameworkID, TaskID
from kernel.wire.nodes import AgentInfo
from kernel.wire.task import ExecutorInfo, KillPolicy, TaskGroupInfo, TaskInfo, TaskStatus

# ---- Calls ----------------------------------------------------------------------------------------------


class Update(ProtoMessage, frozen=True):
    status: TaskStatus


class Subscribe(ProtoMessage, frozen=True):
    """What the agent has not acknowledged yet: tasks of which no update was, and updates."""

    unacknowledged_tasks: tuple[TaskInfo, ...] = ()
    unacknowledged_updates: tuple[Update, ...] = ()


class Message(ProtoMessage, frozen=True):
    data: bytes


class Call(ProtoMessage, frozen=True):
    """The envelope of all calls: the part that `type` names is set; HEARTBEAT has none."""

    executor_id: ExecutorID
    framework_id: FrameworkID
    type: str | None = None
    subscribe: Subscribe | None = None
    update: Update | None = None
    message: Message | None = None


# ---- Events ---------------------------------------------------------------------------------------------


class Subscribed(ProtoMessage, frozen=True):
    executor_info: ExecutorInfo
    framework_info: FrameworkInfo
    agent_info: AgentInfo
    container_id: ContainerID | None = None


class Launch(ProtoMessage, frozen=True):
    task: TaskInfo


class LaunchGroup(ProtoMessage, frozen=True):
    task_group: TaskGroupInfo


class Kill(ProtoMessage, frozen=True):
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class Acknowledged(ProtoMessage, frozen=True):
    task_id: TaskID
    uuid: bytes


class EventMessage(ProtoMessage, frozen=True):
    """The Event.Message of v1 (`Message` here is the call)."""

    data: bytes


class Error(ProtoMessage, frozen=True):
    message: str


class Event(ProtoMessage, frozen=True):
    """What an agent tells an executor: the part that `type` names is set; SHUTDOWN and HEARTBEAT have none."""

    type: str | None = None
    subscribed: Subscribed | None = None
    acknowledged: Acknowledged | None = None
    launch: Launch | None = None
    launch_group: LaunchGroup | None = None
    kill: Kill | None = None
    message: EventMessage | None = None
    error: Error | None = None
