"""What happens in the master, told to its operators' event streams (spec: mesos-v1, section 4.3).

Nothing is rendered while nobody listens; each event is one object for all listeners, so it is encoded once.
"""

from __future__ import annotations

from msgspec.structs import replace

from kernel.master import render
from kernel.master.effects import ToStream
from kernel.master.model import Agent, Framework, Task
from kernel.master.state import MasterState
from kernel.wire import operator
from kernel.wire.ids import AgentID, FrameworkID
from kernel.wire.task import TaskStatus


def _tell(s: MasterState, event: operator.Event) -> None:
    for stream in s.operators:
        s.out.append(ToStream(stream, event))


def task_added(s: MasterState, task: Task) -> None:
    if s.operators:
        _tell(s, operator.Event("TASK_ADDED", task_added=operator.TaskAdded(render.task_message(task))))


def task_updated(s: MasterState, task: Task, status: TaskStatus) -> None:
    if s.operators:
        body = operator.TaskUpdated(FrameworkID(task.framework_id), replace(status, data=None), task.state)
        _tell(s, operator.Event("TASK_UPDATED", task_updated=body))


def agent_added(s: MasterState, agent: Agent) -> None:
    if s.operators:
        _tell(s, operator.Event("AGENT_ADDED", agent_added=operator.AgentAdded(render.agent_message(agent))))


def agent_removed(s: MasterState, agent_id: str) -> None:
    if s.operators:
        _tell(s, operator.Event("AGENT_REMOVED", agent_removed=operator.AgentRemoved(AgentID(agent_id))))


def framework_changed(s: MasterState, framework: Framework, added: bool) -> None:
    if s.operators:
        message = render.framework_message(render.FrameworkLook.of(framework), framework.offers.values(), framework.inverse_offers.values())
        if added:
            _tell(s, operator.Event("FRAMEWORK_ADDED", framework_added=operator.FrameworkAdded(message)))
        else:
            _tell(s, operator.Event("FRAMEWORK_UPDATED", framework_updated=operator.FrameworkUpdated(message)))


def framework_removed(s: MasterState, framework: Framework) -> None:
    if s.operators:
        _tell(s, operator.Event("FRAMEWORK_REMOVED", framework_removed=operator.FrameworkRemoved(framework.info)))
