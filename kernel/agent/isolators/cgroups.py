"""Control groups: what holds a container to its cpus, memory and processes, and counts what it uses.

Each container has one group in every hierarchy that is used: of version 1 one hierarchy a controller, of version 2 one for
all. Where both are mounted the controllers are usually those of version 1.
Sources: the kernel's documentation, admin-guide/cgroup-v1 and cgroup-v2; spec mesos-v1, section 8.6.

All of it waits for the kernel: for microseconds, at worst some milliseconds. Paths are plain text: a launch makes a dozen system
calls here, and Path objects would cost as much as these.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from kernel.agent.isolators import device_filter, group_files
from kernel.agent.isolators.delegation import delegate
from kernel.agent.isolators.limits import Limits, Usage
from kernel.errors import KernelError

CPU_PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
MEM_MIB_MIN = 32  # What a program needs to be started at all.
MAKE_TRIES = 10
KILL_TRIES = 50
KILL_PAUSE_S = 0.002
WANTED = ("cpu", "memory", "pids")  # Controllers that limit.
COUNTING = "cpuacct"  # In version 1 the one that counts time; version 2 counts without.
DEVICES = "devices"  # Keeps containers away from devices: in version 1 a controller, in version 2 a filter (`device_filter`).


class CgroupError(KernelError):
    """A group cannot be made or set; the text says which file and why."""


class Hierarchy(Struct, frozen=True):
    """A mounted hierarchy. version: 1 or 2; controllers: those that can be used in it."""

    path: str
    version: int
    controllers: frozenset[str]


def mounted(mounts: Iterable[str]) -> list[Hierarchy]:
    """The hierarchies of this machine. mounts: the lines of /proc/self/mounts; what is mounted over another hides it."""
    found = {}
    for line in mounts:
        _, path, kind, options, *_ = line.split()
        path = path.encode().decode("unicode_escape")  # Spaces are written as \040.
        if kind == "cgroup":
            found[path] = Hierarchy(path, 1, frozenset(options.split(",")))
        elif kind == "cgroup2":
            found[path] = Hierarchy(path, 2, frozenset(group_files.text(f"{path}/cgroup.controllers").split()))
    return list(found.values())


class _Folder(Struct, frozen=True):
    """Our folder in one hierarchy. controllers: those we use there."""

    path: str
    version: int
    controllers: tuple[str, ...]

    def group(self, container_id: str) -> str:
        return f"{self.path}/{container_id}"


class Cgroups:
    """The groups of one agent's containers, below a folder of its own in each hierarchy."""

    def __init__(self, root: str, hierarchies: Iterable[Hierarchy], wanted: Collection[str] = WANTED) -> None:
        """root: the folder, such as `meseta/agent-5051`. wanted: controllers. Raises CgroupError when it cannot be made."""
        self.spared: Callable[[], int | None] = lambda: None  # The process that no container's end ends, though it may be in its groups.
        self._folders: list[_Folder] = []
        hierarchies = list(hierarchies)
        filtered = not any(DEVICES in hierarchy.controllers for hierarchy in hierarchies) and DEVICES in wanted and device_filter.usable()
        for hierarchy in hierarchies:
            useful = {*wanted, COUNTING} if hierarchy.version == 1 else set(wanted)
            available = hierarchy.controllers | {DEVICES} if hierarchy.version == 2 and filtered else hierarchy.controllers
            controllers = tuple(sorted(available & useful))
            if controllers:
                self._folders.append(_Folder(f"{hierarchy.path}/{root}", hierarchy.version, controllers))
        self._of = {controller: folder for folder in self._folders for controller in folder.controllers}
        self.limits = frozenset(self._of) - {COUNTING}  # The controllers that hold containers to something here.
        self.folders = frozenset(folder.path for folder in self._folders)
        try:
            for folder in self._folders:
                _make(folder.path)
                if folder.version == 2:
                    delegate(folder.path, [name for name in folder.controllers if name != DEVICES])
        except OSError as error:
            raise CgroupError(f"cannot use control groups: {error.filename}: {error.strerror}") from error

    # ---- One container ----------------------------------------------------------------------------------

    def make(self, container_id: str, limits: Limits) -> tuple[str, ...]:
        """Make a container's groups; return the files that whoever starts it writes `0` into, to be in them itself.

        A repeat sets the limits anew. Raises CgroupError.
        """
        try:
            for folder in self._folders:
                try:
                    os.mkdir(folder.group(container_id))
                    new = True
                except FileExistsError:
                    new = False
                _set(folder, container_id, limits, new)
        except OSError as error:
            raise CgroupError(f"cannot set the control group {error.filename}: {error.strerror}") from error
        return self.doors(container_id)

    def doors(self, container_id: str) -> tuple[str, ...]:
        """The files of a container's groups that take in whoever writes `0` into them."""
        return tuple(f"{folder.path}/{container_id}/{'tasks' if folder.version == 1 else 'cgroup.procs'}" for folder in self._folders)

    def update(self, container_id: str, limits: Limits) -> None:
        """Hold a running container to other limits. Raises CgroupError."""
        try:
            for folder in self._folders:
                _set(folder, container_id, limits, False)
        except OSError as error:
            raise CgroupError(f"cannot set the control group {error.filename}: {error.strerror}") from error

    def exists(self, container_id: str) -> bool:
        """Whether a container has groups."""
        return any(os.path.isdir(folder.group(container_id)) for folder in self._folders)

    def usage(self, container_id: str) -> Usage:
        """What a container uses. A group that is gone uses nothing."""
        counted: dict[str, float | int] = {}
        for controller, folder in self._of.items():
            counted |= _READINGS[controller, folder.version](folder.group(container_id))
        if self._folders:
            first = self._folders[0]
            counted["processes"] = len(group_files.text(f"{first.path}/{container_id}/cgroup.procs").split())
            threads = "tasks" if first.version == 1 else "cgroup.threads"
            counted["threads"] = len(group_files.text(f"{first.path}/{container_id}/{threads}").split())
        return Usage(**counted)  # type: ignore[arg-type]

    def killed_for_memory(self, container_id: str) -> bool:
        """Whether the kernel killed a process of this container because it was at its memory limit."""
        folder = self._of.get("memory")
        if folder is None:
            return False
        events = group_files.pairs(f"{folder.path}/{container_id}/{'memory.oom_control' if folder.version == 1 else 'memory.events'}")
        return events.get("oom_kill", 0) > 0

    def watch_memory(self, container_id: str) -> int | None:
        """A file descriptor that is readable once the kernel is about to kill for memory. Version 2 needs none: there it kills the
        whole group (memory.oom.group)."""
        folder = self._of.get("memory")
        if folder is None or folder.version == 2:
            return None
        group = folder.group(container_id)
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(f"{group}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                group_files.put(f"{group}/cgroup.event_control", f"{told} {control}")
            finally:
                os.close(control)
        except OSError:  # The group is gone.
            os.close(told)
            return None
        return told

    def refused_processes(self, container_id: str) -> bool:
        """Whether this container tried to have more processes than it may."""
        folder = self._of.get("pids")
        return folder is not None and group_files.pairs(f"{folder.path}/{container_id}/pids.events").get("max", 0) > 0

    def kill(self, container_id: str) -> bool:
        """SIGKILL all processes of a container, also such as made themselves a session of their own. Whether none is left."""
        for tried in range(KILL_TRIES):
            pids = self._pids(container_id)
            spared = self.spared()
            if not pids - {spared}:
                return True
            if tried and spared not in pids:
                self._kill_at_once(container_id)
            for pid in pids - {spared}:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(KILL_PAUSE_S)
        return False

    def _kill_at_once(self, container_id: str) -> None:
        """What forks faster than it can be killed one by one ends so, where the kernel, from 5.14, can do that."""
        for folder in self._folders:
            if folder.version == 2:
                try:
                    group_files.put(f"{folder.path}/{container_id}/cgroup.kill", "1")
                except OSError:
                    pass

    def _pids(self, container_id: str) -> set[int]:
        groups = (group for folder in self._folders for group, _, _ in os.walk(folder.group(container_id)))
        return {int(pid) for group in groups for pid in group_files.text(f"{group}/cgroup.procs").split()}

    def remove(self, container_id: str) -> bool:
        """Remove a container's groups, and those it made below; False when one still has processes. One that is gone is fine."""
        left = [folder for folder in self._folders if not _removed(folder.group(container_id), below=True)]
        return not left

    # ---- All of them ------------------------------------------------------------------------------------

    def leftovers(self, known: Collection[str]) -> set[str]:
        """Containers that have groups here and are not known."""
        found: set[str] = set()
        for folder in self._folders:
            found.update(entry.name for entry in _entries(folder.path) if entry.is_dir(follow_symlinks=False))
        return found - set(known)

    def close(self) -> None:
        """Remove our own folders, as far as nothing is in them, theirs included."""
        for folder in self._folders:
            if _removed(folder.path):
                _removed(os.path.dirname(folder.path))


def _make(path: str) -> None:
    """Make a folder and those above it, which another agent may be just about to remove, as it leaves."""
    for left in reversed(range(MAKE_TRIES)):
        try:
            return os.makedirs(path, exist_ok=True)
        except FileNotFoundError:
            if not left:
                raise


def _removed(group: str, *, below: bool = False) -> bool:
    """Whether it is gone. below: those in it may go, too."""
    try:
        os.rmdir(group)
    except FileNotFoundError:
        pass
    except OSError:
        inner = [entry.path for entry in _entries(group) if entry.is_dir(follow_symlinks=False)] if below else []
        return bool(inner) and all(_removed(path, below=True) for path in inner) and _removed(group)
    return True


def _entries(group: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(group) as entries:
            return list(entries)
    except OSError:  # It is gone.
        return []


# ---- What is written --------------------------------------------------------------------------------------

Setting = tuple[str, str, bool]  # A file, what to write, and whether that is also what it has when it is new.

_MEMORY, _WITH_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_MAX = "memory.max"
_OPTIONAL = {_WITH_SWAP, "memory.swap.max"}  # Swap is not counted by every kernel.


def _set(folder: _Folder, container_id: str, limits: Limits, new: bool) -> None:
    if folder.version == 2 and DEVICES in folder.controllers and (limits.allowed or limits.denied):
        device_filter.attach(folder.group(container_id), limits.denied)
    for controller in folder.controllers:
        for name, value, is_default in _SETTINGS[controller, folder.version](limits):
            if not (new and is_default) and (new or name != _MAX or _room(folder.group(container_id), value)):
                _write(folder.group(container_id), name, value)


def _room(group: str, limit: str) -> bool:
    """Whether a group of version 2 can be held to this much memory: there the kernel kills where in version 1 it refuses. What can be taken
    back from it is, first."""
    used = group_files.number(f"{group}/memory.current")
    if limit == "max" or used is None or used <= int(limit):
        return True
    try:
        group_files.put(f"{group}/memory.reclaim", str(used - int(limit)))
    except OSError:
        return False  # It is not so much, or this kernel, before 5.19, is not told to.
    return (group_files.number(f"{group}/memory.current") or 0) <= int(limit)


def _write(group: str, name: str, value: str) -> None:
    try:
        group_files.put(f"{group}/{name}", value)
    except OSError as error:
        if error.errno == errno.EBUSY:  # More is used already: as in Mesos, the limit of what runs stays then.
            return
        if error.errno in (errno.ENOENT, errno.EACCES) and name in _OPTIONAL:
            return
        if error.errno != errno.EINVAL or name not in (_MEMORY, _WITH_SWAP):
            raise
        if name == _MEMORY:  # Never more than with swap: when both rise, that one goes first. When both stay, it does, too.
            group_files.put(f"{group}/{_WITH_SWAP}", value)
            group_files.put(f"{group}/{name}", value)


def _cpu_1(limits: Limits) -> Iterator[Setting]:
    yield "cpu.shares", str(limits.cpu_shares), False
    yield "cpu.cfs_quota_us", "-1" if limits.cpu_limit_milli is None else _quota_us(limits.cpu_limit_milli), limits.cpu_limit_milli is None


def _cpu_2(limits: Limits) -> Iterator[Setting]:
    yield (
        "cpu.weight",
        str(1 + (min(limits.cpu_shares, 262_144) - 2) * 9_999 // 262_142),
        False,
    )  # The kernel's own way from shares to weights.
    quota = "max" if limits.cpu_limit_milli is None else _quota_us(limits.cpu_limit_milli)
    yield "cpu.max", f"{quota} {CPU_PERIOD_US}", limits.cpu_limit_milli is None


def _quota_us(cpu_milli: int) -> str:
    return str(max(QUOTA_US_MIN, cpu_milli * CPU_PERIOD_US // 1000))


def _hard_bytes(limits: Limits, unlimited: str) -> str:
    return unlimited if limits.mem_limit_mib is None else str(max(MEM_MIB_MIN, limits.mem_limit_mib) << 20)


def _memory_1(limits: Limits) -> Iterator[Setting]:
    unlimited = limits.mem_limit_mib is None
    yield "memory.soft_limit_in_bytes", str(max(MEM_MIB_MIN, limits.mem_mib) << 20), False
    yield _MEMORY, _hard_bytes(limits, "-1"), unlimited
    yield _WITH_SWAP, _hard_bytes(limits, "-1"), unlimited  # With swap the same: there is none beyond.


def _memory_2(limits: Limits) -> Iterator[Setting]:
    yield "memory.low", str(max(MEM_MIB_MIN, limits.mem_mib) << 20), False
    yield _MAX, _hard_bytes(limits, "max"), limits.mem_limit_mib is None
    yield "memory.swap.max", "0", False
    yield "memory.oom.group", "1", False  # A container without one of its processes is of no use to anybody.


def _pids(limits: Limits) -> Iterator[Setting]:
    yield "pids.max", "max" if limits.pids_max is None else str(limits.pids_max), limits.pids_max is None


def _devices_1(limits: Limits) -> Iterator[Setting]:
    for rule in limits.allowed:
        yield "devices.allow", f"{rule} rwm", True
    for rule in limits.denied:
        yield "devices.deny", f"{rule} rwm", False


_SETTINGS: Mapping[tuple[str, int], Callable[[Limits], Iterable[Setting]]] = {
    ("cpu", 1): _cpu_1,
    ("cpu", 2): _cpu_2,
    ("memory", 1): _memory_1,
    ("memory", 2): _memory_2,
    ("pids", 1): _pids,
    ("pids", 2): _pids,
    (COUNTING, 1): lambda limits: (),
    (DEVICES, 1): _devices_1,
    (DEVICES, 2): lambda limits: (),
}


# ---- What is read -----------------------------------------------------------------------------------------


def _known(numbers: Mapping[str, float | int | None]) -> dict[str, float | int]:
    return {name: number for name, number in numbers.items() if number is not None}


def _time_of_1(group: str) -> dict[str, float | int]:
    ticks, tick_s = group_files.pairs(f"{group}/cpuacct.stat"), 1 / os.sysconf("SC_CLK_TCK")
    return {"user_s": ticks["user"] * tick_s, "system_s": ticks["system"] * tick_s} if ticks else {}


def _throttling_of_1(group: str) -> dict[str, float | int]:
    stat = group_files.pairs(f"{group}/cpu.stat")
    return {"periods": stat["nr_periods"], "throttled": stat["nr_throttled"], "throttled_s": stat["throttled_time"] / 1e9} if stat else {}


def _cpu_of_2(group: str) -> dict[str, float | int]:
    stat = group_files.pairs(f"{group}/cpu.stat")
    if not stat:
        return {}
    found = {"user_s": stat["user_usec"] / 1e6, "system_s": stat["system_usec"] / 1e6}
    if "nr_periods" in stat:
        found |= {"periods": stat["nr_periods"], "throttled": stat["nr_throttled"], "throttled_s": stat["throttled_usec"] / 1e6}
    return found


def _mem_of_1(group: str) -> dict[str, float | int]:
    stat = group_files.pairs(f"{group}/memory.stat")
    return _known({
        "mem_bytes": group_files.number(f"{group}/memory.usage_in_bytes"),
        "mem_peak_bytes": group_files.number(f"{group}/memory.max_usage_in_bytes"),
        "mem_limit_bytes": group_files.number(f"{group}/{_MEMORY}"),
        "rss_bytes": stat.get("total_rss"),
        "cache_bytes": stat.get("total_cache"),
        "mapped_bytes": stat.get("total_mapped_file"),
    })  # fmt: skip


def _mem_of_2(group: str) -> dict[str, float | int]:
    stat = group_files.pairs(f"{group}/memory.stat")
    return _known({
        "mem_bytes": group_files.number(f"{group}/memory.current"),
        "mem_peak_bytes": group_files.number(f"{group}/memory.peak"),
        "mem_limit_bytes": group_files.number(f"{group}/{_MAX}"),
        "rss_bytes": stat.get("anon"),
        "cache_bytes": stat.get("file"),
        "mapped_bytes": stat.get("file_mapped"),
    })  # fmt: skip


_READINGS: Mapping[tuple[str, int], Callable[[str], Mapping[str, float | int]]] = {
    ("cpu", 1): _throttling_of_1,
    (COUNTING, 1): _time_of_1,
    ("memory", 1): _mem_of_1,
    ("pids", 1): lambda group: {},
    ("cpu", 2): _cpu_of_2,
    ("memory", 2): _mem_of_2,
    ("pids", 2): lambda group: {},
    (DEVICES, 1): lambda group: {},
    (DEVICES, 2): lambda group: {},
}
