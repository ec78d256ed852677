"""The default executor: groups of tasks that live and die together (v1 LAUNCH_GROUP).

Each task is a process of its own with the life of a command task (`kernel.executor.command`); what is added here
is what the members of a group owe each other and when the executor itself is done. Rules: spec mesos-v1, 3.6.
"""

from __future__ import annotations

from kernel.wire.task import TaskState

MATE_GRACE_S = 3.0  # For whoever ends because of a mate or of SHUTDOWN, whatever its own kill policy says.
LINGER_S = 60.0  # How long an executor without tasks waits for the acknowledgement of its last updates.

_SPARES_THE_GROUP = frozenset({TaskState.TASK_FINISHED})


def brings_group_down(terminal: TaskState) -> bool:
    """Whether a task that ended so takes the rest of its group with it: all ends but TASK_FINISHED do."""
    return terminal not in _SPARES_THE_GROUP


def is_done(live_tasks: int, unacknowledged: int, idle_for_s: float) -> bool:
    """Whether an executor ends: it has no live task and its updates are acknowledged, or it waited for that long enough."""
    return live_tasks == 0 and (unacknowledged == 0 or idle_for_s >= LINGER_S)
