"""The agent is emptied: what runs is killed, nothing new is started (spec: mesos-v1, section 7.7).

The master says when and for how long: it knows when all is acknowledged, and tells again at each registration.
"""

from __future__ import annotations

from kernel.agent import checkpoint
from kernel.agent.executors import Executors
from kernel.agent.state import AgentState, Drain, Kind, Task
from kernel.agent.tasks import Tasks
from kernel.executor.command import KillCause, kill_grace_s
from kernel.wire.command import KillPolicy
from kernel.wire.nodes import DrainConfig


class Draining:
    """Follows what the master says of draining."""

    def __init__(self, state: AgentState, tasks: Tasks, executors: Executors) -> None:
        self.state, self.tasks, self.executors = state, tasks, executors

    def follow(self, config: DrainConfig | None) -> None:
        """Drain on these terms; None: do not, or no more. An agent with nothing to end does not begin to."""
        state = self.state
        if config is None:
            if state.drain is not None:
                state.drain = None
                state.emit(checkpoint.forget_drain())
            return
        changed = state.drain is None or state.drain.config != config
        if changed:
            if not any(framework.tasks or framework.executors for framework in state.frameworks.values()):
                return
            state.drain = Drain(config, state.now.wall_s)
            state.emit(checkpoint.keep_drain(state.drain))
        for framework in list(state.frameworks.values()):
            for task in list(framework.tasks.values()):
                if not framework.terminating and not task.terminal:
                    self._kill(task, kill_policy(config, task), changed)

    def _kill(self, task: Task, policy: KillPolicy | None, changed: bool) -> None:
        if task.kind is not Kind.CUSTOM:
            self.tasks.end(task, KillCause.REQUEST, kill_grace_s(policy, task.info.kill_policy))
        elif changed or task.kill_wanted is None:
            self.executors.kill(task, policy)


def kill_policy(config: DrainConfig, task: Task) -> KillPolicy | None:
    """By what to kill a task instead of its own policy: the longest grace, unless its own is shorter."""
    most, own = config.max_grace_period, task.info.kill_policy.grace_period if task.info.kill_policy is not None else None
    if most is None or (own is not None and own.nanoseconds <= most.nanoseconds):
        return None
    return KillPolicy(most)
