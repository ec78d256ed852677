"""Processes as the kernel shows them: who they are, which of them are ours after a restart, how they ended.

A pid alone names nothing for long; with its start time it does, until the machine starts anew.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from collections.abc import Collection
from typing import NamedTuple

CONTAINER_VARIABLE = "MESETA_CONTAINER_ID"
"""In the environment of each task: by it a launcher finds a process whose pid its predecessor could not record."""

STARTER_VARIABLE = "MESETA_STARTER_OF"
"""The same in the environment of a process that only starts the container's own."""

EXEC_LOOKS_MAX = 1000

_VSIZE, _ENV_END = 20, 48  # In /proc/PID/stat, behind the name.
_PIDFD_GET_INFO = 0xC040FF0B  # Linux 6.13; the exit status since 6.15.
_PIDFD_INFO_EXIT = 8
_PIDFD_INFO = struct.Struct("QQ11Ii")  # mask, cgroup id, ids, exit status.


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that we need. start: clock ticks since boot; exit_status: raw, known once state is Z."""

    state: str
    parent: int
    session: int
    start: int
    exit_status: int


def boot_id() -> str:
    """Return the id that the kernel made when the machine started."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def stat(pid: int) -> Stat | None:
    """Return what the kernel says of a process, None when there is none."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(fd, 4096)
        finally:
            os.close(fd)
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = data[data.rindex(b")") + 2 :].split()  # The name before it may hold anything. fields[0] is the third, the state.
    return Stat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]), int(fields[49]))


def open_pidfd(pid: int, start: int) -> int | None:
    """Return a file descriptor that is readable once the process has ended, None when it is gone already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    found = stat(pid)
    if found is not None and found.start == start:
        return fd
    os.close(fd)
    return None


def find_by_environment(containers: Collection[str]) -> dict[str, tuple[int, int]]:
    """Look for the leaders of containers by the variable they were started with. One pass over /proc.

    Returns: {container: (pid, start)}. A leader is the leader of its session; of several the oldest.
    """
    found: dict[str, tuple[int, int]] = {}
    for name in os.listdir("/proc"):
        container = container_of(int(name)) if name.isdigit() else None
        if container not in containers or container is None:
            continue
        status = stat(int(name))
        if status is None or status.session != int(name):
            continue
        if container not in found or status.start < found[container][1]:
            found[container] = (int(name), status.start)
    return found


def starters_of(containers: Collection[str]) -> list[int]:
    """Return the processes that are to start one of these containers. One pass over /proc."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if container_of(pid, STARTER_VARIABLE) in containers]


def container_of(pid: int, variable: str = CONTAINER_VARIABLE) -> str | None:
    """Return the container that a process was started in, as its environment says."""
    mark = variable.encode() + b"="
    try:
        environment = _environment(pid).split(b"\0")
    except OSError:  # It has ended, or is not ours.
        return None
    return next((os.fsdecode(v[len(mark) :]) for v in environment if v.startswith(mark)), None)


def _environment(pid: int) -> bytes:
    """Raises OSError. In the midst of an exec the kernel shows none, for as long as it takes to lay out the new one: it is waited for."""
    settled = False
    for _ in range(EXEC_LOOKS_MAX):
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
        if environment or settled:
            return environment
        if not _is_in_exec(pid):
            settled = True  # It may have got one since we looked.
        else:
            os.sched_yield()
    return b""


def _is_in_exec(pid: int) -> bool:
    """Whether its memory is a new program's that has no place for an environment yet. Not so the dead and the kernel's own: they have
    no memory."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[_VSIZE] != b"0" and fields[_ENV_END] == b"0"


def children_of_main_thread() -> list[int]:
    """Return the children that the kernel gave to us when their parents ended, maybe with others: it gives them to the main thread.

    Empty where the kernel does not tell (CONFIG_PROC_CHILDREN).
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


def exit_of_other(pidfd: int, pid: int, start: int) -> int | None:
    """Return the raw wait status of a process that has ended and is not our child, None when nobody can tell.

    As long as nobody reaped it /proc shows the status; afterwards the pidfd does, on Linux 6.15 and later.
    """
    found = stat(pid)
    if found is not None and found.start == start and found.state == "Z" and _may_look_into(pid):
        return found.exit_status
    try:
        answer = fcntl.ioctl(pidfd, _PIDFD_GET_INFO, _PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    except OSError:
        return None
    values = _PIDFD_INFO.unpack(answer)
    return int(values[-1]) if values[0] & _PIDFD_INFO_EXIT else None


def _may_look_into(pid: int) -> bool:
    """Whether we see the true exit status in /proc: to others (think of set-uid programs) the kernel shows 0.

    It asks the same question before it shows a namespace.
    """
    try:
        os.readlink(f"/proc/{pid}/ns/mnt")
    except PermissionError:
        return False
    except OSError:  # A zombie has none; but this is found out after the permission.
        pass
    return True


def next_dead_child() -> tuple[int, int] | None:
    """Return pid and raw wait status of a child that has ended, without reaping it; None when all live."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    if found.si_code == os.CLD_EXITED:
        return found.si_pid, found.si_status << 8
    return found.si_pid, found.si_status | (0x80 if found.si_code == os.CLD_DUMPED else 0)


def reap(pid: int) -> None:
    """Let the kernel forget a child that has ended."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def send_signal(pid: int, start: int, number: int, whole_group: bool) -> None:
    """Signal a process or the group it leads. One that has ended is nobody's fault.

    A group outlives its leader and keeps the number from being given away. Only when the number names another process now
    is the whole group known to be gone.
    """
    found = stat(pid)
    if found is not None and found.start != start:
        return
    try:
        if whole_group:
            os.killpg(pid, number)
        elif found is not None:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_child(pid: int) -> None:
    """SIGKILL a child, and the group that it leads, if it does. It is not reaped yet, so the number is surely its own."""
    kill_rest_of_group(pid)
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        pass


def kill_marked(pid: int, container: str) -> bool:
    """SIGKILL a process that was started in a container, if its environment says so and it is not dead. Not for children only."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if container_of(pid) != container:  # The dead have no environment.
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(pidfd)
    return True


def kill_rest_of_group(pid: int) -> None:
    """SIGKILL what a leader left in its group. Only before the leader is reaped: until then the number is surely its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
