"""How a task ended, as a shell would put it: agents say it in words (spec: mesos-v1, section 3.6)."""

from __future__ import annotations

import re
import signal

from kernel.wire.task import Reason, TaskState, TaskStatus

COULD_NOT_RUN = 125

_STATUS = re.compile(r"exited with status (\d+)")
_SIGNAL = re.compile(r"terminated with signal (.+)")


def exit_status(status: TaskStatus) -> int:
    """What a shell would say of a task that ended so."""
    text = status.message or ""
    if status.state is TaskState.TASK_FINISHED:
        return 0
    if status.reason is Reason.REASON_CONTAINER_LAUNCH_FAILED:  # Whatever its message says of other programs.
        return COULD_NOT_RUN
    if status.state in (TaskState.TASK_FAILED, TaskState.TASK_KILLED):
        if (found := _STATUS.search(text)) is not None:
            return int(found[1])
        if (found := _SIGNAL.search(text)) is not None:
            return 128 + signal_number(found[1].strip())
        if status.state is TaskState.TASK_KILLED:
            return 128 + signal.SIGTERM
    return COULD_NOT_RUN


def signal_number(name: str) -> int:
    """The number of `SIGKILL`, `Killed` or `9`; that of SIGKILL when nobody knows it."""
    if name.isdigit():
        return int(name)
    for known in signal.Signals:
        if name in (known.name, known.name.removeprefix("SIG")) or name == signal.strsignal(known):
            return int(known)
    return int(signal.SIGKILL)
