"""The first process of a container: the others end with it."""

from __future__ import annotations

_FLAGS, _START = 6, 19  # In /proc/PID/stat, behind the name.
_EXITING = 0x4  # PF_EXITING.


def is_dying(pid: int, began: int | None = None) -> bool:
    """Whether it is dead, or dying: while it waits for the others to end, too, nothing can be started there. began: in clock ticks since
    boot, where that is known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return True
    return began not in (None, int(fields[_START])) or fields[0] in (b"Z", b"X") or bool(int(fields[_FLAGS]) & _EXITING)
