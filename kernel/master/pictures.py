"""Pictures of the state at one instant, taken without copying what is in it.

A read gathers references to the tasks and agents it will show; rendering them takes seconds and happens between inputs. What
changes meanwhile is first kept as it was for the pictures that are being read. So a picture costs the core next to nothing,
however large the cluster is, and a change costs nothing while nobody reads.
"""

from __future__ import annotations

import weakref
from typing import Any, Protocol

from msgspec import Struct

from kernel.master.registry import Deactivation
from kernel.wire.nodes import AgentCapability, AgentInfo
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState, TaskStatus


class TaskLook(Struct, gc=False):
    """What of a task changes."""

    state: TaskState
    statuses: tuple[TaskStatus, ...]
    sent: TaskStatus | None


class AgentLook(Struct, gc=False):
    """An agent as it is shown."""

    agent_id: str
    info: AgentInfo
    pid: str
    registered_wall_s: float
    reregistered_wall_s: float | None
    total: Resources
    used: Resources
    offered: Resources
    active: bool
    deactivation: Deactivation | None
    software: str
    capabilities: tuple[AgentCapability, ...]


class Changing(Protocol):
    """What a picture may show. look: what of it is shown, under the same names."""

    def look(self) -> Any: ...


class Picture:
    """One instant. It lasts for as long as somebody holds it."""

    __slots__ = ("__weakref__", "_kept")

    def __init__(self) -> None:
        self._kept: dict[Changing, Any] = {}

    def keep(self, item: Changing) -> None:
        if item not in self._kept:
            self._kept[item] = item.look()

    def look(self, item: Any) -> Any:
        """A task or an agent as it was: itself if it has not changed since, else what was kept of it."""
        return self._kept.get(item, item)


class Pictures:
    """Those that somebody holds."""

    def __init__(self) -> None:
        self._open: list[weakref.ref[Picture]] = []

    def __len__(self) -> int:
        return len(self._open)

    def take(self) -> Picture:
        """Take a picture of the present instant."""
        picture = Picture()
        self._open.append(weakref.ref(picture, self._open.remove))
        return picture

    def keep(self, item: Changing) -> None:
        """Something is about to change."""
        for reference in tuple(self._open):
            picture = reference()
            if picture is not None:
                picture.keep(item)
