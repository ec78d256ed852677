"""How containers of processes are held apart on this machine: by control groups, or, where we may not, not at all.

For whoever starts and ends containers. All of it waits for the kernel, so it belongs into a thread.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from kernel.agent.isolators import processes
from kernel.agent.isolators.cgroups import DEVICES, CgroupError, Cgroups, Hierarchy, mounted
from kernel.agent.isolators.leavings import Leavings
from kernel.agent.isolators.limits import Limits, Usage
from kernel.errors import ConfigError
from kernel.executor.command import Limitation
from kernel.wire.resources import Resources
from kernel.wire.task import Reason

log = logging.getLogger(__name__)

CONTROLLERS = {"cgroups/cpu": "cpu", "cgroups/mem": "memory", "cgroups/pids": "pids"}
GPUS = frozenset({"gpu/nvidia", "cgroups/devices"})  # One keeps containers away from the GPUs of others by the other.
ALL = "cgroups/all"
POSIX = ("posix/cpu", "posix/mem")
DISK = frozenset({"disk/du", "posix/disk"})  # See `kernel.agent.isolators.disk`.
MIB = 1 << 20


class Isolation(Protocol):
    """What is done for a container before, while and after it runs."""

    place: str
    """Below which control group those of containers are, seen from the root of a hierarchy."""

    idle: bool
    """Whether nothing is ever done: no thread needs to be asked."""

    @property
    def limits(self) -> bool:
        """Whether a container can be held to more than it was given (TASK_RESOURCE_LIMITS)."""

    @property
    def devices(self) -> bool:
        """Whether a container can be kept away from devices."""

    def prepare(self, container_id: str, limits: Limits) -> tuple[str, ...]:
        """Make ready for a container; return the control groups it is to be started in. Raises CgroupError."""

    def join(self, container_id: str) -> tuple[str, ...]:
        """The control groups of a container that runs, for something to be started beside it; none where it has none."""

    def watch(self, container_id: str) -> int | None:
        """A file descriptor that is readable once the memory of a container may have run out and `ran_out` is to be called; None
        where that is not needed, or too late: then it was done."""

    def ran_out(self, container_id: str) -> None:
        """End a container whose memory has run out: the kernel kills one of its processes, the others are of no use without it."""

    def update(self, container_id: str, limits: Limits) -> None:
        """Hold it to other limits. Raises CgroupError."""

    def ended(self, container_id: str) -> Limitation | None:
        """Its first process has ended: end the others, clean up, and return what it ran into."""

    def sweep(self) -> None:
        """Look once more after containers that have ended and whose processes had not."""

    def spare(self, launcher: Callable[[], int | None]) -> None:
        """Whom not to end: the process that may be in a container's groups only to start something there. launcher: its pid now."""

    def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        """What containers use, by the pids of their first processes."""

    def reconcile(self, known: Collection[str]) -> None:
        """Clean up after containers that nobody knows any more."""

    def close(self) -> None:
        """Remove what was made for all containers together, once there are none."""


def isolation(wanted: Collection[str] | None, root: str, work_dir: str, *, gpus: bool = False) -> Isolation:
    """What is wanted; None: all that this machine can do. gpus: whether there are any to be kept away from. Raises ConfigError where
    it cannot."""
    names = set(wanted or ())
    unknown = names - set(CONTROLLERS) - {ALL, *POSIX, *DISK, *GPUS}
    if unknown:
        allowed = ", ".join([*CONTROLLERS, ALL, *POSIX, *sorted(DISK), *sorted(GPUS)])
        raise ConfigError(f"--isolation: {', '.join(sorted(unknown))} is not built; allowed are {allowed}")
    everything = wanted is None or ALL in names
    asked = {controller for name, controller in CONTROLLERS.items() if everything or name in names}
    apart = gpus and (everything or bool(names & GPUS))
    place = f"{root}/{zlib.crc32(os.path.abspath(work_dir).encode()):08x}"
    hierarchies = _hierarchies()
    folders = {f"{hierarchy.path}/{place}" for hierarchy in hierarchies}
    made: Isolation = NoIsolation(place, Leavings(folders))
    try:
        if asked or apart:
            groups = _groups(place, hierarchies, asked, {DEVICES} if apart else set(), insist=wanted is not None)
            made = CgroupIsolation(place, groups, Leavings(folders - groups.folders))
    except CgroupError as error:
        if wanted is not None:
            raise ConfigError(f"--isolation: {error}") from error
        log.warning("tasks are not held to their cpus, memory and number of processes: %s", error)
    if gpus and not made.devices:
        log.warning("nothing keeps a task from the GPUs of others but the variables that name its own: %s", _why_not(apart))
    return made


def _why_not(apart: bool) -> str:
    return "this machine has no control groups for devices that we may use" if apart else "--isolation has no gpu/nvidia"


def _hierarchies() -> list[Hierarchy]:
    """Those in which we may make groups."""
    if os.geteuid() != 0:
        return []
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        return mounted(mounts)


def _groups(root: str, hierarchies: Sequence[Hierarchy], asked: Collection[str], devices: Collection[str], *, insist: bool) -> Cgroups:
    """insist: whether devices must be among what they hold, too."""
    if os.geteuid() != 0:
        raise CgroupError("only root may make control groups")
    groups = Cgroups(root, hierarchies, {*asked, *devices})
    missing = {*asked, *(devices if insist else ())} - groups.limits
    if missing:
        groups.close()
        raise CgroupError(f"this machine has no control groups for {', '.join(sorted(missing))}")
    return groups


def out_of_memory(limit_mib: int, peak_mib: int) -> Limitation:
    """What is told of a container that wanted more memory than it may have."""
    message = f"Memory limit exceeded: Requested: {limit_mib}MB Maximum Used: {peak_mib}MB"
    return Limitation(Reason.REASON_CONTAINER_LIMITATION_MEMORY, message, Resources(mem=peak_mib * 1000).messages())


class NoIsolation:
    """Nothing holds a container; what it uses is counted all the same."""

    idle = True
    limits = devices = False

    def __init__(self, place: str, leavings: Leavings) -> None:
        self.place, self._leavings = f"/{place}", leavings

    def prepare(self, container_id: str, limits: Limits) -> tuple[str, ...]:
        return ()

    def join(self, container_id: str) -> tuple[str, ...]:
        return ()

    def watch(self, container_id: str) -> int | None:
        return None

    def ran_out(self, container_id: str) -> None:
        """It is never asked for: nothing is watched."""

    def update(self, container_id: str, limits: Limits) -> None:
        """There is nothing to hold it to."""

    def ended(self, container_id: str) -> Limitation | None:
        return None

    def sweep(self) -> None:
        """Nothing is left."""

    def spare(self, launcher: Callable[[], int | None]) -> None:
        """Nobody is ended."""

    def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        by_session = processes.usage_by_session()
        return {container_id: by_session[pid] for container_id, pid in pids.items() if pid in by_session}

    def reconcile(self, known: Collection[str]) -> None:
        self._leavings.sweep(known)

    def close(self) -> None:
        self._leavings.close()


class CgroupIsolation:
    """Control groups hold it."""

    idle = False

    def __init__(self, place: str, groups: Cgroups, leavings: Leavings) -> None:
        self.place, self.groups, self._leavings = f"/{place}", groups, leavings
        self.limits = {"cpu", "memory"} <= groups.limits
        self.devices = DEVICES in groups.limits
        self._out_of_memory: set[str] = set()
        self._left: set[str] = set()  # Ended, but for their groups.

    def prepare(self, container_id: str, limits: Limits) -> tuple[str, ...]:
        return self.groups.make(container_id, limits)

    def join(self, container_id: str) -> tuple[str, ...]:
        return self.groups.doors(container_id) if self.groups.exists(container_id) else ()

    def watch(self, container_id: str) -> int | None:
        told = self.groups.watch_memory(container_id)
        if told is not None and self.groups.killed_for_memory(container_id):
            os.close(told)
            self.ran_out(container_id)
            return None
        return told

    def ran_out(self, container_id: str) -> None:
        if self.groups.exists(container_id):  # Else it is told of its removal.
            self._out_of_memory.add(container_id)  # We may be quicker than the kernel, which then counts no kill.
            self.groups.kill(container_id)

    def update(self, container_id: str, limits: Limits) -> None:
        self.groups.update(container_id, limits)

    def ended(self, container_id: str) -> Limitation | None:
        limitation = self._limitation(container_id)
        if self.groups.remove(container_id):  # Almost always: nothing runs any more.
            return limitation
        self.groups.kill(container_id)
        if not self.groups.remove(container_id):
            log.warning("the control groups of container %s stay until what runs in them ends", container_id)
            self._left.add(container_id)
        return limitation

    def sweep(self) -> None:
        for container_id in sorted(self._left):
            self.groups.kill(container_id)
            if self.groups.remove(container_id):
                self._left.discard(container_id)

    def spare(self, launcher: Callable[[], int | None]) -> None:
        self.groups.spared = launcher

    def _limitation(self, container_id: str) -> Limitation | None:
        if container_id not in self._out_of_memory and not self.groups.killed_for_memory(container_id):
            return None
        self._out_of_memory.discard(container_id)
        usage = self.groups.usage(container_id)
        limit = usage.mem_limit_bytes or 0
        peak = limit if usage.mem_peak_bytes is None else usage.mem_peak_bytes  # In version 2 nobody counted it before Linux 5.19.
        return out_of_memory(limit // MIB, peak // MIB)

    def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        return {container_id: self.groups.usage(container_id) for container_id in pids}

    def reconcile(self, known: Collection[str]) -> None:
        for container_id in self.groups.leftovers(known):
            log.warning("ending what is left of container %s, which nobody knows", container_id)
            self.ended(container_id)
        self._leavings.sweep(known)

    def close(self) -> None:
        self.groups.close()
        self._leavings.close()
