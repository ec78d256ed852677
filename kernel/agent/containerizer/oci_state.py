"""What runc keeps of a container: `state.json`, in a folder of its own below `--root`. All of this waits for the kernel: for a thread."""

from __future__ import annotations

import os
import shutil

import msgspec

from kernel.agent.containerizer.first_process import is_dying


class State(msgspec.Struct):
    """What of it concerns us. cgroup_paths: of each hierarchy the container's control group; of version 2 under an empty name.
    init_process_pid, init_process_start: the container's first process, and when it began, in clock ticks since boot."""

    cgroup_paths: dict[str, str] = {}
    init_process_pid: int = 0
    init_process_start: int = 0


def read(folder: str) -> State | None:
    """None for a container that runc does not know, or has only begun to make."""
    try:
        with open(f"{folder}/state.json", "rb") as file:
            return msgspec.json.decode(file.read(), type=State)
    except (OSError, msgspec.MsgspecError):
        return None


def members(folder: str) -> list[int]:
    """The processes of a container, by the control groups that runc has put it into; none once it has ended."""
    state = read(folder)
    for path in state.cgroup_paths.values() if state is not None else ():
        try:
            with open(f"{path}/cgroup.procs", encoding="ascii") as file:
                pids = file.read().split()
        except OSError:
            continue
        if pids:
            return [int(pid) for pid in pids]
    return []


def ended(folder: str) -> bool:
    """Whether a container's first process is dead or dying."""
    state = read(folder)
    return state is None or is_dying(state.init_process_pid, state.init_process_start)


def remove(folder: str) -> bool:
    """Take away what `runc delete` would of a container in which nothing runs, for a hundredth of what a start of it costs. False where
    something does, or it is not known what there is: then runc has to."""
    state = read(folder)
    if state is None or not state.cgroup_paths:
        return False
    for path in state.cgroup_paths.values():
        try:
            os.rmdir(path)  # The kernel refuses where a process is in it, or another group.
        except FileNotFoundError:
            pass
        except OSError:
            return False
    shutil.rmtree(folder, ignore_errors=True)
    return not os.path.exists(folder)
