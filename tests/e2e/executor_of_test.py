"""A custom executor for tests: says what it was given, runs each task for as long as a file is missing.

python executor_of_test.py FILE
"""

from __future__ import annotations

import os
import sys
import threading
import time

from frameworks.sdk.executor import Executor, run
from kernel.wire.task import TaskInfo, TaskState


class Waiting(Executor):
    def launch(self, task: TaskInfo) -> None:
        self.update(task.task_id.value, TaskState.TASK_RUNNING)
        threading.Thread(target=self._wait, args=(task.task_id.value,), daemon=True).start()

    def _wait(self, task_id: str) -> None:
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.05)
        token = os.environ.get("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", "")
        self.update(task_id, TaskState.TASK_FINISHED, message="with a token" if token else "without a token")


if __name__ == "__main__":
    sys.exit(run(Waiting()))
