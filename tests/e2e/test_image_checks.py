"""Checks of tasks in images by commands that run inside, on a real cluster with the real runc (spec: mesos-v1, section 8.8)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, eventually
from tests.e2e import in_images
from tests.e2e.in_images import left
from tests.e2e.scheduler import Scheduler
from tests.e2e.test_checks import CHECKED, HEALTH, SLEEP, command_check, command_health, pids, put, text

pytestmark = in_images.NEEDS
INSIDE = {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": in_images.IMAGE}}}}
SANDBOX = "/mnt/mesos/sandbox"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_images.registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent", environ={"MESETA_DOCKER_REGISTRY": str(registry)})
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def scheduler(machine: Cluster) -> Iterator[Scheduler]:
    """Whatever its tasks were, nothing is left of them."""
    made = Scheduler(machine, "checks")
    yield made
    made.close()
    eventually(lambda: not left(machine), what=str(left(machine)))


def sandbox(machine: Cluster, task_id: str) -> Path:
    (found,) = machine.work_dir.glob(f"agent-1/slaves/latest/frameworks/*/executors/{task_id}/runs/latest")
    return found


def test_a_command_is_where_its_task_is(machine: Cluster, scheduler: Scheduler) -> None:
    """In the same image, namespaces, control groups and working directory, as the same user, with the same variables and its own."""
    show = "{ cat /etc/os-release /proc/self/cgroup; ls -l /proc/self/ns | cut -c 40-; id -u; pwd; echo $COLOUR $OF_TASK; } >"
    command = {"value": f"{show} task; {SLEEP}", "user": "nobody", "environment": {"variables": [{"name": "OF_TASK", "value": "yes"}]}}
    check = command_check(f"{show} check; echo $COLOUR $MINE $MESOS_SANDBOX")
    check["command"]["command"]["environment"] = {"variables": [{"name": "MINE", "value": "own"}]}
    scheduler.launch("shared", "", command=command, container=INSIDE, check=check)
    assert scheduler.status("shared")["check_status"] == {"type": "COMMAND", "command": {}}
    told = scheduler.status("shared", check_status={"type": "COMMAND", "command": {"exit_code": 0}})
    assert (told["reason"], told["source"]) == (CHECKED, "SOURCE_EXECUTOR")
    here = sandbox(machine, "shared")
    assert eventually(lambda: text(here / "check") == text(here / "task") != "")
    assert "65534\n" in text(here / "task")
    assert eventually(lambda: text(here / ".meseta-check.output") == f"blue own {SANDBOX}\n")


def test_exit_codes_are_told_and_failures_kill(machine: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("ill", f"echo 3 > code; touch up; {SLEEP}", container=INSIDE, check=command_check("exit $(cat code)"),
                     health_check=command_health("test -e up", consecutive_failures=2))  # fmt: skip
    scheduler.status("ill", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 3}})
    (sandbox(machine, "ill") / "up").unlink()
    assert scheduler.status("ill", "TASK_KILLED")["healthy"] is False
    assert [status.get("healthy") for status in scheduler.statuses if status.get("reason") == HEALTH][-2:] == [False, False]


def test_what_is_not_in_the_image_cannot_be_run(scheduler: Scheduler) -> None:
    health = {**command_health(""), "command": {"shell": False, "value": "/usr/bin/python3", "arguments": ["python3"]}}
    scheduler.launch("absent", SLEEP, container=INSIDE, health_check={**health, "consecutive_failures": 1})
    assert scheduler.status("absent", "TASK_KILLED")["healthy"] is False


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(machine: Cluster, scheduler: Scheduler) -> None:
    """Also with what has left its group; the task and what that started are not touched."""
    word, own = f"986{os.getpid()}", f"985{os.getpid()}"
    health = command_health(f"sleep {word} & setsid sleep {word} & touch begun; sleep {word}", timeout_seconds=1, consecutive_failures=3)
    scheduler.launch("hangs", f"setsid sleep {own} & {SLEEP}", container=INSIDE, health_check=health)
    scheduler.status("hangs", healthy=False)
    assert (sandbox(machine, "hangs") / "begun").exists()
    assert pids("sleep", own)
    assert scheduler.status("hangs", "TASK_KILLED")["healthy"] is False
    assert eventually(lambda: pids("sleep", word) == pids("sleep", own) == [])


def test_with_its_task_a_command_ends(scheduler: Scheduler) -> None:
    word = f"875{os.getpid()}"
    check = command_check(f"touch end; setsid sleep {word} & sleep {word}")
    scheduler.launch("ends", "until test -e end; do sleep 0.1; done", container=INSIDE, check=check)
    scheduler.status("ends", "TASK_FINISHED")
    assert eventually(lambda: pids("sleep", word) == [])


def test_checks_go_on_when_agent_or_launcher_are_killed(start_cluster: Callable[..., Cluster], registry: Path) -> None:
    """Nothing is told twice, nothing is lost; the command that was under way is left to nobody."""
    cluster = start_cluster(agents=1, only="master,agent", environ={"MESETA_DOCKER_REGISTRY": str(registry)})
    scheduler = Scheduler(cluster, "checks")
    word = f"764{os.getpid()}"
    script = f"test -e code || {{ setsid sleep {word} & exec sleep {word}; }}; exit $(cat code)"
    checks: dict[str, Any] = {
        "check": command_check(script, timeout_seconds=1000),
        "health_check": command_health("test -e up", consecutive_failures=2),
    }
    scheduler.launch("lasting", f"echo 4 > code; touch up; {SLEEP}", container=INSIDE, **checks)
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 4}})
    here = sandbox(cluster, "lasting")
    (here / "code").unlink()
    eventually(lambda: len(pids("sleep", word)) == 2)
    put(here / "code", "5")
    cluster.kill("agent-1")
    assert eventually(lambda: pids("sleep", word) == [])
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 5}})
    (launcher,) = pids("--dir", f"{cluster.work_dir}/agent-1/launcher")
    os.kill(launcher, signal.SIGKILL)
    put(here / "code", "6")
    scheduler.status("lasting", healthy=True, check_status={"type": "COMMAND", "command": {"exit_code": 6}})
    (here / "up").unlink()
    assert scheduler.status("lasting", "TASK_KILLED")["healthy"] is False
    told = {s["uuid"]: (s.get("healthy"), s["check_status"]) for s in scheduler.statuses if s.get("reason") in (CHECKED, HEALTH)}
    assert [healthy for healthy, _ in told.values()].count(False) == 2
    codes = [check_status["command"].get("exit_code") for _, check_status in told.values()]
    assert [code for code, _ in groupby(codes) if code is not None] == [4, 5, 6]
    scheduler.close()
    eventually(lambda: not left(cluster), what=str(left(cluster)))
