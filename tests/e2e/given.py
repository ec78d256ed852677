"""A framework that runs the tasks it is given, as they are, and keeps all it is told of them; in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from frameworks.sdk.framework import run_framework
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import TERMINAL, TaskRecord
from kernel.clock import Now
from kernel.store.memory import MemoryStore
from kernel.wire.resources import Resources
from kernel.wire.scheduler import Event
from kernel.wire.task import TaskInfo, TaskState, TaskStatus
from tests.cluster import Cluster, eventually


class _Scheduler(Scheduler):
    """Ends with its last task."""

    def __init__(self, given: Given, kept: Mapping[str, bytes], fresh_id: str, spread: float) -> None:
        super().__init__(framework_info("given"), kept, fresh_id=fresh_id, spread=spread)
        self.given = given

    def started(self, now: Now) -> None:
        for info, wants in self.given.tasks:
            self.add(info, wants)

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        told = self.given.told
        told[task.task_id].append(status)
        if all(statuses and statuses[-1].state in TERMINAL for statuses in told.values()):
            self.stop()

    def heard(self, event: Event, now: Now) -> None:
        if event.update is not None:
            self.given.heard[event.update.status.task_id.value].append(event.update.status)


class Given:
    """Tasks under way. told: what came of each, by its id; heard: the same as it came from the master, repeats included."""

    def __init__(self, cluster: Cluster, tasks: list[tuple[TaskInfo, Resources]]) -> None:
        self.tasks = tasks
        self.told: dict[str, list[TaskStatus]] = {info.task_id.value: [] for info, _ in tasks}
        self.heard: dict[str, list[TaskStatus]] = {task_id: [] for task_id in self.told}
        self._master = cluster.urls["master"]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def make(kept: Mapping[str, bytes], fresh_id: str, spread: float) -> Any:
            return _Scheduler(self, kept, fresh_id, spread)

        asyncio.run(run_framework(make, MemoryStore(), [self._master], name=f"given-{uuid.uuid4().hex[:8]}"))

    def running(self, within_s: float = 30.0) -> TaskStatus:
        """The first update that says that the (only) task runs."""
        (statuses,) = self.told.values()
        return eventually(
            lambda: next((status for status in list(statuses) if status.state is TaskState.TASK_RUNNING), None), within_s, f"{statuses}"
        )

    def end(self, within_s: float = 30.0) -> TaskStatus:
        """The last update of the (only) task."""
        (end,) = self.ends(within_s).values()
        return end

    def ends(self, within_s: float = 30.0) -> dict[str, TaskStatus]:
        self._thread.join(within_s)
        assert not self._thread.is_alive(), f"some have not ended: {self.told}"
        return {task_id: statuses[-1] for task_id, statuses in self.told.items()}
