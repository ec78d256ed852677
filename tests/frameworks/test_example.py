"""The documented example framework: short, right against the fake master, and running on a real cluster."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from frameworks.sdk.scheduler import Scheduler
from frameworks.sdk.tasks import resources
from frameworks.sdk.testing import FakeMaster
from kernel.wire.task import TaskState
from tests.cluster import Cluster, eventually

SOURCE = Path(__file__).parents[2] / "docs/example_framework.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("example_framework", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def master(example: ModuleType, copies: int = 2) -> FakeMaster:
    def make(kept: Mapping[str, bytes], fresh_id: str, spread: float) -> Scheduler:
        framework: Scheduler = example.KeepRunning(["sleep", "9"], copies, kept, fresh_id, spread)
        return framework

    return FakeMaster(make, {"a1": resources(cpus=4, mem=4096)})


def test_it_is_a_whole_framework_in_100_lines() -> None:
    assert len(SOURCE.read_text().splitlines()) <= 100


def test_copies_are_kept_running(example: ModuleType) -> None:
    cluster = master(example)
    assert list(cluster.tasks) == ["copy-0-1", "copy-1-1"]
    cluster.run_all()
    cluster.update("copy-0-1", TaskState.TASK_FAILED, "Command exited with status 1")
    assert list(cluster.tasks) == ["copy-1-1"]
    cluster.advance(2)
    assert list(cluster.tasks) == ["copy-1-1", "copy-0-2"]


def test_a_restart_neither_doubles_nor_forgets_a_copy(example: ModuleType) -> None:
    cluster = master(example)
    cluster.run_all()
    cluster.restart()
    cluster.advance(5)
    assert list(cluster.tasks) == ["copy-0-1", "copy-1-1"]


def test_fewer_copies_after_a_restart_end_the_rest(example: ModuleType) -> None:
    cluster = master(example, copies=3)
    cluster.run_all()
    kept = cluster.kept
    fewer = master(example, copies=1)
    fewer.kept, fewer.tasks = kept, cluster.tasks
    fewer.restart()
    assert list(fewer.tasks) == ["copy-0-1"]


@pytest.mark.e2e
def test_it_runs_on_a_cluster_and_comes_back_to_its_copies(cluster: Cluster, tmp_path: Path) -> None:
    command = [sys.executable, str(SOURCE), "--copies", "2", "--state", str(tmp_path / "state.db"), "--", "sleep", "600"]

    def copies() -> dict[str, str]:
        found: list[dict[str, Any]] = cluster.json("task", "list", "--framework", "keep-running")
        return {task["id"]: task["state"] for task in found}

    def active() -> bool:
        return ("keep-running", "active") in [(one["name"], one["state"]) for one in cluster.json("framework", "list")]

    running = dict.fromkeys(("copy-0-1", "copy-1-1"), "TASK_RUNNING")
    try:
        for end in (signal.SIGKILL, signal.SIGTERM):
            process = cluster.spawn(command, stdout=subprocess.DEVNULL)
            eventually(active)
            eventually(lambda: copies() == running, what="both copies run, and no other")
            process.send_signal(end)
            process.communicate(timeout=20)
            assert copies() == running
        cluster.meseta("task", "kill", "copy-0-1")
        process = cluster.spawn(command, stdout=subprocess.DEVNULL)
        eventually(lambda: copies() == {"copy-1-1": "TASK_RUNNING", "copy-0-2": "TASK_RUNNING"}, what="the killed copy is replaced")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    finally:
        cluster.meseta("framework", "teardown", "keep-running")
