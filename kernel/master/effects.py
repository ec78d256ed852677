"""What goes into the master's core and what comes out of it (besides `kernel.mainloop`'s own)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from kernel.wire import scheduler
from kernel.wire.agent import AgentMessage, MasterMessage
from kernel.wire.nodes import MachineID
from kernel.wire.offer import Operation
from kernel.wire.operator import Schedule
from kernel.wire.task import KillPolicy

# ---- Inputs ---------------------------------------------------------------------------------------------


class SubscribeFramework(Struct, frozen=True):
    """A scheduler asks for its event stream.

    stream: the Mesos-Stream-Id the edge made for it; the edge has its queue ready before it hands this in.
    framework_id: of the call's envelope, empty when absent. principal: by HTTP authentication, if any.
    """

    stream: str
    framework_id: str
    principal: str | None
    body: scheduler.Subscribe


class SchedulerCall(Struct, frozen=True):
    """Any other scheduler call; stream_id as in its header, None when absent."""

    framework_id: str
    stream_id: str | None
    principal: str | None
    body: Any


class StreamClosed(Struct, frozen=True):
    """A stream (of a framework or an operator) ended, at either side."""

    stream: str


class FromAgent(Struct, frozen=True, gc=False):
    """A message of an agent; link is the edge's number for the connection it came by."""

    link: int
    message: AgentMessage


class LinkClosed(Struct, frozen=True, gc=False):
    """The connection to an agent ended."""

    link: int


class SubscribeOperator(Struct, frozen=True):
    """An operator asks for the master's event stream."""

    stream: str


class TeardownFramework(Struct, frozen=True):
    """An operator ends a framework."""

    framework_id: str


class KillTaskByOperator(Struct, frozen=True):
    """An operator ends one task (our own call KILL_TASK; Mesos leaves that to frameworks)."""

    framework_id: str
    task_id: str
    kill_policy: KillPolicy | None = None


class MarkAgentGone(Struct, frozen=True):
    """An operator declares that an agent never comes back."""

    agent_id: str


class DrainAgent(Struct, frozen=True):
    """An operator empties an agent. grace_ns: caps the kill grace of its tasks; mark_gone: once empty, it never comes back."""

    agent_id: str
    grace_ns: int | None = None
    mark_gone: bool = False


class DeactivateAgent(Struct, frozen=True):
    """An operator has nothing more offered on an agent; what runs there goes on."""

    agent_id: str


class ReactivateAgent(Struct, frozen=True):
    """An operator has a deactivated agent offered again. Replied with whether it is registered right now."""

    agent_id: str


class UpdateSchedule(Struct, frozen=True):
    """An operator plans maintenance, in place of what was planned before."""

    schedule: Schedule


class StartMaintenance(Struct, frozen=True):
    """An operator takes machines down that are scheduled."""

    machines: tuple[MachineID, ...]


class StopMaintenance(Struct, frozen=True):
    """An operator brings machines up that are down."""

    machines: tuple[MachineID, ...]


class OperateByOperator(Struct, frozen=True):
    """An operator reserves, unreserves, makes, ends or resizes. principal: by HTTP authentication, if any."""

    agent_id: str
    operation: Operation
    principal: str | None = None


class View(Struct, frozen=True):
    """A read: `kernel.master.views` renders what `name` asks for from the state, seen at one instant."""

    name: str
    arguments: Any = None


# ---- Effects --------------------------------------------------------------------------------------------


class ToStream(Struct, frozen=True):
    """Send one event on a stream. The same event object may go to many: it is encoded once."""

    stream: str
    event: Any


class ToStreamInFragments(Struct, frozen=True):
    """Send one large event, encoded, on a stream that begins with it; heartbeats follow every so many seconds."""

    stream: str
    fragments: Iterable[bytes]
    heartbeat_s: float


class CloseStream(Struct, frozen=True):
    """End a stream after what was sent on it."""

    stream: str


class ToAgent(Struct, frozen=True):
    """Send one message on an agent's link."""

    link: int
    message: MasterMessage


class CloseLink(Struct, frozen=True):
    """End an agent's connection after what was sent on it. reason: for the log, when the agent is to blame."""

    link: int
    reason: str = ""
