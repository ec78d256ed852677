"""A framework that launches each task of a plan once and writes down every end it is told of, for tests that kill it.

    python recorder.py MASTER FILE PLAN

PLAN is a JSON file: task id -> shell script, or an object: `argv` of a custom executor, `data` for it. FILE keeps, beside
what the SDK keeps: `begun/ID`, before a task waits for an offer; `ended/ID/N` -> `STATE MESSAGE`, an end the SDK reports;
`heard/ID/N` -> `STATE UUID`, a terminal update as it came from the master, repeats included. Ends with status 0 once every
task has ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from frameworks.sdk.framework import run_framework
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import TERMINAL, TaskRecord, command, resources, task
from kernel.clock import Now
from kernel.store.sqlite import SqliteStore
from kernel.wire.ids import ExecutorID
from kernel.wire.scheduler import Event
from kernel.wire.task import ExecutorInfo, TaskInfo, TaskStatus


class Recorder(Scheduler):
    """Kills and lost machines aside, an id is launched once: the plan is its only source of tasks."""

    renews_id = False

    def __init__(self, plan: Mapping[str, str | dict[str, Any]], kept: Mapping[str, bytes], fresh_id: str, spread: float) -> None:
        super().__init__(framework_info("recorder"), kept, fresh_id=fresh_id, spread=spread)
        self.plan = plan
        own = self.kept.own
        self.begun = {key.removeprefix("begun/") for key in own if key.startswith("begun/")}
        self.ended = {key.split("/")[1] for key in own if key.startswith("ended/")}
        self.count = len(own)

    def started(self, now: Now) -> None:
        for task_id, wanted in self.plan.items():
            if task_id not in self.begun:
                self.keep(f"begun/{task_id}", b"")
                info = task(task_id, wanted) if isinstance(wanted, str) else self._for_executor(task_id, **wanted)
                self.add(info, resources(cpus=0.1, mem=8))
        self._look()

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        if status.state in TERMINAL:
            self.ended.add(task.task_id)
            self._note(f"ended/{task.task_id}", f"{status.state.value} {status.message}")
            self._look()

    def heard(self, event: Event, now: Now) -> None:
        if event.update is not None and event.update.status.state in TERMINAL and event.update.status.uuid:
            status = event.update.status
            self._note(f"heard/{status.task_id.value}", f"{status.state.value} {status.uuid.hex()}")

    def _for_executor(self, task_id: str, argv: list[str], data: dict[str, Any]) -> TaskInfo:
        executor = ExecutorInfo(executor_id=ExecutorID("witness"), command=command(argv))
        return msgspec.structs.replace(task(task_id, "true"), command=None, executor=executor, data=json.dumps(data).encode())

    def _note(self, key: str, text: str) -> None:
        self.count += 1
        self.keep(f"{key}/{self.count}", text.encode())

    def _look(self) -> None:
        if self.ended >= self.plan.keys():
            self.stop()


def main(master: str, file: str, plan: str) -> None:
    def make(kept: Mapping[str, bytes], fresh_id: str, spread: float) -> Recorder:
        return Recorder(json.loads(Path(plan).read_text()), kept, fresh_id, spread)

    asyncio.run(run_framework(make, SqliteStore(Path(file)), [master], name="recorder"))


if __name__ == "__main__":
    main(*sys.argv[1:])
