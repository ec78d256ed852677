"""Reconciliation: asking the master about tasks until it has answered for each (spec: mesos-v1, section 2.14).

Pure. A cycle begins with one implicit RECONCILE, which also shows tasks the framework has forgotten; what it left
unanswered is asked for by name, at growing intervals. A master that waits for its agents to come back stays silent about
their tasks, so no single answer is relied on.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.clock import Now
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.scheduler import Reconcile, ReconcileTask

FIRST_S = 1.0
LONGEST_S = 60.0
CYCLE_S = 900.0
TASKS_PER_CALL = 1_000


class Reconciliation:
    """Whose turn it is to be asked for. The caller sends the bodies that `begin` and `tick` return."""

    def __init__(self) -> None:
        self.unanswered: dict[str, str] = {}  # Task id to agent id.
        self._due_s = float("inf")
        self._wait_s = FIRST_S
        self._next_cycle_s = float("inf")

    def begin(self, tasks: Iterable[tuple[str, str]], now: Now) -> list[Reconcile]:
        """Start a cycle over these tasks (task id, agent id), forgetting the one before."""
        self.unanswered = dict(tasks)
        self._wait_s = FIRST_S
        self._due_s = now.mono_s + FIRST_S
        self._next_cycle_s = now.mono_s + CYCLE_S
        return [Reconcile()]

    def halt(self) -> None:
        """There is nobody to ask."""
        self.unanswered.clear()
        self._due_s = self._next_cycle_s = float("inf")

    def answered(self, task_id: str) -> None:
        """Something was heard of a task."""
        self.unanswered.pop(task_id, None)

    def cycle_due(self, now: Now) -> bool:
        """Whether it is time to begin again."""
        return now.mono_s >= self._next_cycle_s

    def tick(self, now: Now) -> list[Reconcile]:
        """Ask by name for what is still unanswered, when its time has come."""
        if not self.unanswered or now.mono_s < self._due_s:
            return []
        self._wait_s = min(LONGEST_S, self._wait_s * 2)
        self._due_s = now.mono_s + self._wait_s
        asked = [ReconcileTask(TaskID(task_id), AgentID(agent_id) if agent_id else None) for task_id, agent_id in self.unanswered.items()]
        return [Reconcile(tuple(asked[start : start + TASKS_PER_CALL])) for start in range(0, len(asked), TASKS_PER_CALL)]
