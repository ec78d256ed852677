"""A custom executor whose tasks write down when they begin and when they end, for tests that kill what is around it.

A task's data is a JSON object: `folder` for its notes; `seconds` it takes, or null to wait for the file `gate`; `good`, how it ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from frameworks.sdk.executor import Executor, run
from kernel.wire.task import TaskInfo, TaskState

GATE_EVERY_S = 0.1


class Witness(Executor):
    """Each task is a timer, or several in a row."""

    def launch(self, task: TaskInfo) -> None:
        orders: dict[str, Any] = json.loads(task.data or b"{}")
        task_id = task.task_id.value
        _note(orders, task_id, "begun")
        self.update(task_id, TaskState.TASK_RUNNING)
        self._wait(task_id, orders)

    def _wait(self, task_id: str, orders: dict[str, Any]) -> None:
        seconds = GATE_EVERY_S if orders["seconds"] is None else orders["seconds"]
        threading.Timer(seconds, self._look, (task_id, orders)).start()

    def _look(self, task_id: str, orders: dict[str, Any]) -> None:
        if orders["seconds"] is None and not Path(orders["folder"], "gate").exists():
            self._wait(task_id, orders)
            return
        _note(orders, task_id, "ended")
        self.update(task_id, TaskState.TASK_FINISHED if orders["good"] else TaskState.TASK_FAILED, "as ordered")


def _note(orders: dict[str, Any], task_id: str, what: str) -> None:
    with Path(orders["folder"], f"{task_id}.{what}").open("a") as stream:
        stream.write(f"{os.getpid()}\n")


if __name__ == "__main__":
    sys.exit(run(Witness()))
