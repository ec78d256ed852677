"""Which sandboxes must stay: those of all that runs here, or whose end is not acknowledged yet."""

from __future__ import annotations

from typing import Any

from kernel.agent.launch import sandbox, task_sandbox
from kernel.agent.sandboxes.collection import InUse
from kernel.agent.state import AgentState, Kind


def in_use(state: AgentState, _: Any = None) -> InUse:
    """For the collector."""
    if not state.agent_id:
        return InUse()
    found, parents = set[str](), set[str]()
    for framework in state.frameworks.values():
        for executor in framework.executors.values():
            path = sandbox(state, framework.framework_id, executor.executor_id, executor.container_id)
            found.add(path)
            if executor.kind is Kind.DEFAULT:
                parents.add(path)
        for task in framework.tasks.values():
            if task.container_id and (task.kind is Kind.COMMAND or task.executor_id in framework.executors):
                found.add(task_sandbox(state, task))
    return InUse(frozenset(found), frozenset(parents), state.agent_id)
