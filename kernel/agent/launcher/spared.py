"""Who is not ended when memory runs out: the launcher. The kernel ends all of a container then, in version 2 of control groups also who is
there only to start a command beside it; and without the launcher nobody learns how any container ends.

What it starts gets the same from it, as there is no way to start a process with less, so that is taken back at once.
"""

from __future__ import annotations

import contextlib
import os

NEVER = -1000  # The kernel's word for a process that it does not end for memory.


def spare_ourselves() -> int | None:
    """Do not be ended for want of memory. Returns what the processes that we start are to have, None when we may not."""
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            before = int(file.read())
            file.seek(0)
            file.write(str(NEVER))
    except OSError:
        return None
    return 0 if before == NEVER else before  # We, before an upgrade; or a service of the system's that is spared.


def spare_no_longer(pid: int, score: int) -> None:
    """A process that has just been started is like others."""
    with contextlib.suppress(OSError):  # It has ended.
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(score).encode())
        finally:
            os.close(fd)
