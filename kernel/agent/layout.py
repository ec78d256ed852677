"""Where things lie under the work directory, as text (spec: mesos-v1, section 8.4). Touches no disk.

Every id that becomes part of a path is checked here.
"""

from __future__ import annotations

from kernel.errors import CallError
from kernel.wire.ids import validate_id

LATEST = "latest"  # The link to the present agent among agents, to the present run among runs.


def agent_dir(work_dir: str, agent_id: str) -> str:
    validate_id(agent_id, "agent_id")
    if agent_id == LATEST:
        raise CallError(f"agent_id: {LATEST!r} is the name of a link")
    return f"{work_dir}/slaves/{agent_id}"


def executor_dir(work_dir: str, agent_id: str, framework_id: str, executor_id: str) -> str:
    validate_id(framework_id, "framework_id")
    validate_id(executor_id, "executor_id")
    return f"{agent_dir(work_dir, agent_id)}/frameworks/{framework_id}/executors/{executor_id}"


def sandbox(work_dir: str, agent_id: str, framework_id: str, executor_id: str, container_id: str) -> str:
    """The sandbox of an executor's run; a command task is its own executor."""
    validate_id(container_id, "container_id")
    return f"{executor_dir(work_dir, agent_id, framework_id, executor_id)}/runs/{container_id}"


def standalone_sandbox(work_dir: str, container_id: str) -> str:
    """The sandbox of a container that belongs to no framework."""
    validate_id(container_id, "container_id")
    return f"{work_dir}/containers/{container_id}"


def nested_sandbox(parent: str, container_id: str) -> str:
    """The sandbox of a container inside another whose sandbox is `parent`: of a task in a default executor, for one."""
    validate_id(container_id, "container_id")
    return f"{parent}/containers/{container_id}"


def latest_link(sandbox: str) -> tuple[str, str]:
    """The symlink beside a run's sandbox by which the present run is found, and what it leads to."""
    runs, _, container_id = sandbox.rpartition("/")
    return f"{runs}/{LATEST}", container_id


def task_link(parent: str, task_id: str) -> str:
    """The symlink by which such a task is found by its id."""
    validate_id(task_id, "task_id")
    return f"{parent}/tasks/{task_id}"
