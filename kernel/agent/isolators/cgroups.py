"""Control groups: what holds a container to its cpus, memory and processes, and counts what it uses.

Each container has one group in every hierarchy that is used: of version 1 one hierarchy a controller, of version 2 one for
all. Where both are mounted the controllers are usually those of version 1, and version 2 still kills a whole group at once.
Sources: the kernel's documentation, admin-guide/cgroup-v1 and cgroup-v2; spec mesos-v1, section 8.6.

All of it waits for the kernel: for microseconds, at worst some milliseconds.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from kernel.agent.isolators.limits import Limits, Usage
from kernel.errors import KernelError

CPU_PERIOD_US = 100_000
QUOTA_US_MIN = 1_000
SHARES_A_CPU = 1024
SHARES_MIN = 2
MEM_MIB_MIN = 32  # What a program needs to be started at all.
KILL_TRIES = 50
KILL_PAUSE_S = 0.002
WANTED = ("cpu", "memory", "pids")  # Controllers that limit.
COUNTING = "cpuacct"  # In version 1 the one that counts time; version 2 counts without.


class CgroupError(KernelError):
    """A group cannot be made or set; the text says which file and why."""


class Hierarchy(Struct, frozen=True):
    """A mounted hierarchy. version: 1 or 2; controllers: those that can be used in it."""

    path: Path
    version: int
    controllers: frozenset[str]


def mounted(mounts: Iterable[str]) -> list[Hierarchy]:
    """The hierarchies of this machine. mounts: the lines of /proc/self/mounts."""
    found = []
    for line in mounts:
        _, path, kind, options, *_ = line.split()
        place = Path(path.encode().decode("unicode_escape"))  # Spaces are written as \040.
        if kind == "cgroup":
            found.append(Hierarchy(place, 1, frozenset(options.split(","))))
        elif kind == "cgroup2":
            try:
                names = (place / "cgroup.controllers").read_text().split()
            except OSError:
                names = []
            found.append(Hierarchy(place, 2, frozenset(names)))
    return found


class Cgroups:
    """The groups of one agent's containers, below a folder of its own in each hierarchy."""

    def __init__(self, root: str, hierarchies: Iterable[Hierarchy], wanted: Collection[str] = WANTED) -> None:
        """root: the folder, such as `meseta/agent-5051`. wanted: controllers. Raises CgroupError when it cannot be made."""
        self._of: dict[str, Path] = {}  # By controller of version 1.
        self._unified: Path | None = None
        self._unified_controllers: frozenset[str] = frozenset()
        for hierarchy in hierarchies:
            if hierarchy.version == 2:
                self._unified, self._unified_controllers = hierarchy.path / root, hierarchy.controllers & set(wanted)
            else:
                for name in hierarchy.controllers & {*wanted, COUNTING}:
                    self._of[name] = hierarchy.path / root
        for name in self._unified_controllers:
            self._of.pop(name, None)
        folders = {*self._of.values()}
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            if self._unified is not None:
                self._delegate(self._unified)
        except OSError as error:
            raise CgroupError(f"cannot use control groups: {error.filename}: {error.strerror}") from error
        self._folders = sorted(folders | ({self._unified} if self._unified is not None else set()))

    def _delegate(self, folder: Path) -> None:
        """Make a folder of version 2 whose children have the controllers: each parent must say so."""
        folder.mkdir(parents=True, exist_ok=True)
        if not self._unified_controllers:
            return
        wanted = " ".join(f"+{name}" for name in sorted(self._unified_controllers))
        for parent in reversed([folder, *folder.parents]):
            if (parent / "cgroup.procs").exists():
                (parent / "cgroup.subtree_control").write_text(wanted)

    @property
    def limits(self) -> frozenset[str]:
        """The controllers that hold containers to something here."""
        return frozenset(self._of) & set(WANTED) | self._unified_controllers

    # ---- One container ----------------------------------------------------------------------------------

    def make(self, container_id: str, limits: Limits) -> tuple[str, ...]:
        """Make a container's groups; return the files that whoever starts it writes its thread's id into, 0 for itself.

        A repeat sets the limits anew. Raises CgroupError.
        """
        try:
            for folder in self._folders:
                (folder / container_id).mkdir(exist_ok=True)
            self._set(container_id, limits)
        except OSError as error:
            raise CgroupError(f"cannot set the control group {error.filename}: {error.strerror}") from error
        return tuple(self._entrance(folder / container_id) for folder in self._folders)

    def _entrance(self, group: Path) -> str:
        return str(group / ("cgroup.procs" if group.parent == self._unified else "tasks"))

    def update(self, container_id: str, limits: Limits) -> None:
        """Hold a running container to other limits. Raises CgroupError."""
        try:
            self._set(container_id, limits)
        except OSError as error:
            raise CgroupError(f"cannot set the control group {error.filename}: {error.strerror}") from error

    def _set(self, container_id: str, limits: Limits) -> None:
        for controller in self.limits:
            for name, value in _SETTINGS[controller, self._version(controller)](limits):
                self._write(controller, container_id, name, value)

    def _version(self, controller: str) -> int:
        return 2 if controller in self._unified_controllers else 1

    def _group(self, controller: str, container_id: str) -> Path:
        folder = self._unified if controller in self._unified_controllers else self._of[controller]
        assert folder is not None
        return folder / container_id

    def _write(self, controller: str, container_id: str, name: str, value: str) -> None:
        path = self._group(controller, container_id) / name
        if name in _OPTIONAL and not path.exists():  # Swap is not counted by every kernel.
            return
        try:
            _put(path, value)
        except OSError as error:
            if error.errno == errno.EBUSY:  # More is used already: as in Mesos, the limit of what runs stays then.
                return
            if error.errno != errno.EINVAL or name not in (_MEMORY, _WITH_SWAP):
                raise
            if name == _MEMORY:  # Never more than with swap: when both rise, that one goes first. When both stay, it does, too.
                _put(path.with_name(_WITH_SWAP), value)
                _put(path, value)

    def usage(self, container_id: str) -> Usage:
        """What a container uses. A group that is gone uses nothing."""
        counted: dict[str, float | int] = {}
        if self._unified is not None:  # Counts the time whichever version has the controller.
            counted |= _cpu_of_2(self._unified / container_id)
        counted |= _cpu_of_1(self._of.get("cpu"), self._of.get(COUNTING), container_id)
        if "memory" in self.limits:
            group = self._group("memory", container_id)
            counted |= _mem_of_2(group) if self._version("memory") == 2 else _mem_of_1(group)
        counted["processes"], counted["threads"] = self._population(container_id)
        return Usage(**counted)  # type: ignore[arg-type]

    def _population(self, container_id: str) -> tuple[int, int]:
        group = self._folders[0] / container_id if self._folders else None
        if group is None:
            return 0, 0
        threads = "cgroup.threads" if group.parent == self._unified else "tasks"
        return len(_text(group / "cgroup.procs").split()), len(_text(group / threads).split())

    def exists(self, container_id: str) -> bool:
        """Whether a container has groups."""
        return any((folder / container_id).is_dir() for folder in self._folders)

    def killed_for_memory(self, container_id: str) -> bool:
        """Whether the kernel killed a process of this container because it was at its memory limit."""
        if "memory" not in self.limits:
            return False
        group = self._group("memory", container_id)
        events = _pairs(group / ("memory.events" if self._version("memory") == 2 else "memory.oom_control"))
        return events.get("oom_kill", 0) > 0

    def watch_memory(self, container_id: str) -> int | None:
        """A file descriptor that is readable once the kernel is about to kill for memory. Version 2 needs none: there it kills the
        whole group (memory.oom.group)."""
        if "memory" not in self._of:
            return None
        group = self._of["memory"] / container_id
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(group / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _put(group / "cgroup.event_control", f"{told} {control}")
            finally:
                os.close(control)
        except OSError:  # The group is gone.
            os.close(told)
            return None
        return told

    def refused_processes(self, container_id: str) -> bool:
        """Whether this container tried to have more processes than it may."""
        return "pids" in self.limits and _pairs(self._group("pids", container_id) / "pids.events").get("max", 0) > 0

    def kill(self, container_id: str) -> bool:
        """SIGKILL all processes of a container, also such as made themselves a session of their own. Whether none is left."""
        if self._unified is not None:
            try:
                (self._unified / container_id / "cgroup.kill").write_text("1")
            except OSError:
                pass  # A kernel before 5.14, or the group is gone.
        for _ in range(KILL_TRIES):
            pids = self._pids(container_id)
            if not pids:
                return True
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(KILL_PAUSE_S)
        return False

    def _pids(self, container_id: str) -> set[int]:
        return {int(pid) for folder in self._folders for pid in _text(folder / container_id / "cgroup.procs").split()}

    def remove(self, container_id: str) -> bool:
        """Remove a container's groups; False when one still has processes. One that is gone is fine."""
        left = [folder for folder in self._folders if not _removed(folder / container_id)]
        return not left

    def close(self) -> None:
        """Remove our own folders, as far as nothing is in them, theirs included."""
        for folder in self._folders:
            if _removed(folder):
                _removed(folder.parent)

    def leftovers(self, known: Collection[str]) -> set[str]:
        """Containers that have groups here and are not known."""
        found: set[str] = set()
        for folder in self._folders:
            with os.scandir(folder) as entries:
                found.update(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        return found - set(known)


def _put(path: Path, value: str) -> None:
    """Write a file of the kernel's; its errors name it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        os.close(fd)


def _removed(group: Path) -> bool:
    try:
        os.rmdir(group)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


# ---- What is written --------------------------------------------------------------------------------------


def _cpu_1(limits: Limits) -> Iterable[tuple[str, str]]:
    yield "cpu.shares", str(max(SHARES_MIN, limits.cpu_milli * SHARES_A_CPU // 1000))
    yield "cpu.cfs_period_us", str(CPU_PERIOD_US)
    yield "cpu.cfs_quota_us", "-1" if limits.cpu_limit_milli is None else str(_quota_us(limits.cpu_limit_milli))


def _cpu_2(limits: Limits) -> Iterable[tuple[str, str]]:
    shares = max(SHARES_MIN, limits.cpu_milli * SHARES_A_CPU // 1000)
    yield "cpu.weight", str(1 + (min(shares, 262_144) - 2) * 9_999 // 262_142)  # The kernel's own way from shares to weights.
    yield "cpu.max", f"{'max' if limits.cpu_limit_milli is None else _quota_us(limits.cpu_limit_milli)} {CPU_PERIOD_US}"


def _quota_us(cpu_milli: int) -> int:
    return max(QUOTA_US_MIN, cpu_milli * CPU_PERIOD_US // 1000)


def _hard_bytes(limits: Limits, unlimited: str) -> str:
    return unlimited if limits.mem_limit_mib is None else str(max(MEM_MIB_MIN, limits.mem_limit_mib) << 20)


def _memory_1(limits: Limits) -> Iterable[tuple[str, str]]:
    yield "memory.soft_limit_in_bytes", str(max(MEM_MIB_MIN, limits.mem_mib) << 20)
    yield _MEMORY, _hard_bytes(limits, "-1")
    yield _WITH_SWAP, _hard_bytes(limits, "-1")  # With swap the same: there is none beyond.


def _memory_2(limits: Limits) -> Iterable[tuple[str, str]]:
    yield "memory.low", str(max(MEM_MIB_MIN, limits.mem_mib) << 20)
    yield "memory.max", _hard_bytes(limits, "max")
    yield "memory.swap.max", "0"
    yield "memory.oom.group", "1"  # A container without one of its processes is of no use to anybody.


def _pids(limits: Limits) -> Iterable[tuple[str, str]]:
    yield "pids.max", "max" if limits.pids_max is None else str(limits.pids_max)


_SETTINGS = {
    ("cpu", 1): _cpu_1,
    ("cpu", 2): _cpu_2,
    ("memory", 1): _memory_1,
    ("memory", 2): _memory_2,
    ("pids", 1): _pids,
    ("pids", 2): _pids,
}
_MEMORY, _WITH_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
_OPTIONAL = {_WITH_SWAP, "memory.swap.max"}


# ---- What is read -----------------------------------------------------------------------------------------


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _pairs(path: Path) -> Mapping[str, int]:
    """The lines `name number` of a file, empty when it is gone."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _cpu_of_1(cpu: Path | None, accounting: Path | None, container_id: str) -> dict[str, float | int]:
    found: dict[str, float | int] = {}
    if accounting is not None and (ticks := _pairs(accounting / container_id / "cpuacct.stat")):
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
        found |= {"user_s": ticks.get("user", 0) * tick_s, "system_s": ticks.get("system", 0) * tick_s}
    if cpu is not None and (stat := _pairs(cpu / container_id / "cpu.stat")):
        found |= {"periods": stat["nr_periods"], "throttled": stat["nr_throttled"], "throttled_s": stat["throttled_time"] / 1e9}
    return found


def _cpu_of_2(group: Path) -> dict[str, float | int]:
    stat = _pairs(group / "cpu.stat")
    found: dict[str, float | int] = {}
    if "usage_usec" in stat:
        found |= {"user_s": stat["user_usec"] / 1e6, "system_s": stat["system_usec"] / 1e6}
    if "nr_periods" in stat:
        found |= {"periods": stat["nr_periods"], "throttled": stat["nr_throttled"], "throttled_s": stat["throttled_usec"] / 1e6}
    return found


def _mem_of_1(group: Path) -> dict[str, float | int]:
    stat = _pairs(group / "memory.stat")
    numbers = {
        "mem_bytes": _number(group / "memory.usage_in_bytes"),
        "mem_peak_bytes": _number(group / "memory.max_usage_in_bytes"),
        "mem_limit_bytes": _number(group / "memory.limit_in_bytes"),
        "rss_bytes": stat.get("total_rss"),
        "cache_bytes": stat.get("total_cache"),
        "mapped_bytes": stat.get("total_mapped_file"),
    }
    return {name: number for name, number in numbers.items() if number is not None}


def _mem_of_2(group: Path) -> dict[str, float | int]:
    stat = _pairs(group / "memory.stat")
    numbers = {
        "mem_bytes": _number(group / "memory.current"),
        "mem_peak_bytes": _number(group / "memory.peak"),
        "mem_limit_bytes": _number(group / "memory.max"),
        "rss_bytes": stat.get("anon"),
        "cache_bytes": stat.get("file"),
        "mapped_bytes": stat.get("file_mapped"),
    }
    return {name: number for name, number in numbers.items() if number is not None}
