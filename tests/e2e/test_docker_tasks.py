"""What tasks and executors ask for in containers of a real Docker engine: networks, files, limits, logs, ends."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kernel.wire.command import URI
from kernel.wire.container import Network, NetworkInfo
from kernel.wire.task import CommandInfo, Environment, Reason, TaskState, Variable
from tests.cluster import Cluster, eventually
from tests.docker import IMAGE, DockerEngine
from tests.e2e.docked import LAUNCH_FAILED, given, nothing_left, output, parameters, printed, sandbox, told
from tests.e2e.processes import settled, unsupervised
from tests.e2e.scheduler import Scheduler

pytestmark = pytest.mark.e2e

EXECUTOR = Path(__file__).with_name("executor_of_test.py")
ROOT = Path(__file__).parents[2]
SANDBOX = "/mnt/mesos/sandbox"


@pytest.fixture(autouse=True)
def nothing_is_left(docked: Cluster, docker_engine: DockerEngine) -> Iterator[None]:
    with nothing_left(docked, docker_engine):
        yield


@pytest.fixture
def net(docker_engine: DockerEngine) -> Iterator[str]:
    """A network of its own."""
    docker_engine.docker("network", "create", "--subnet", "10.97.0.0/24", "backend")
    yield "backend"
    docker_engine.docker("network", "rm", "backend")


def inspected(engine: DockerEngine) -> Any:
    """The only container."""
    (name,) = engine.names()
    return engine.inspect(name)


def scalars(**amounts: float) -> list[dict[str, Any]]:
    return [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in amounts.items()]


# ---- Networks -------------------------------------------------------------------------------------------


def test_tasks_find_each_other_in_a_network_by_name(docked: Cluster, docker_engine: DockerEngine, net: str) -> None:
    inside: dict[str, Any] = {"network": Network.USER, "network_infos": (NetworkInfo(name=net),)}
    serve = "echo welcome > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    serving = given(docked, serve, parameters=parameters(init="true", network_alias="front"), **inside)
    status = serving.running()
    assert status.container_status is not None
    (address,) = status.container_status.network_infos[0].ip_addresses
    assert str(address.ip_address).startswith("10.97.0.")
    assert printed(docked, given(docked, "until wget -q -O - http://front/index.html; do sleep 0.1; done", **inside)) == "welcome\n"
    docked.meseta("task", "kill", status.task_id.value)
    assert serving.end().state is TaskState.TASK_KILLED
    eventually(lambda: not docker_engine.names())


def test_a_network_that_is_not_there_fails_with_a_reason(docked: Cluster) -> None:
    status = given(docked, "true", network=Network.USER, network_infos=(NetworkInfo(name="none-such"),)).end()
    assert told(status) == LAUNCH_FAILED
    assert "none-such" in str(status.message)


# ---- Files ----------------------------------------------------------------------------------------------


def test_files_it_brings_are_in_its_sandbox(docked: Cluster, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho from a file\n")
    command = CommandInfo(value=f"{SANDBOX}/tool; ls $MESOS_SANDBOX", uris=(URI(f"file://{tmp_path}/tool", executable=True),))
    assert printed(docked, given(docked, command)) == "from a file\nstderr\nstdout\ntool\n"


def test_files_that_cannot_be_had_fail_it_before_it_starts(docked: Cluster, tmp_path: Path) -> None:
    status = given(docked, CommandInfo(value="true", uris=(URI(f"file://{tmp_path}/none-such"),))).end()
    assert (status.state, status.reason) == (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED)
    assert "none-such" in str(status.message)


# ---- What it is held to, and what it may ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "quota", "memory_mib"),
    [
        ({}, 0, 64),
        ({"cpus": {"value": 0.25}, "mem": {"value": 96}}, 25_000, 96),
        ({"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}}, 0, 0),
    ],
    ids=["what it was given", "more, in part", "as much as there is"],
)
def test_limits(docked: Cluster, docker_engine: DockerEngine, limits: dict[str, Any], quota: int, memory_mib: int) -> None:
    scheduler = Scheduler(docked, "limits")
    inside = {"type": "DOCKER", "docker": {"image": IMAGE, "parameters": [{"key": "init", "value": "true"}]}}
    scheduler.launch("held", "exec sleep 1000", container=inside, resources=scalars(cpus=0.2, mem=64), limits=limits)
    scheduler.status("held")
    host = inspected(docker_engine)["HostConfig"]
    assert (host["CpuShares"], host["CpuQuota"], host["Memory"]) == (204, quota, memory_mib << 20)
    assert host["MemoryReservation"] == 64 << 20
    scheduler.close()


def test_privileges_are_had_by_those_who_ask(docked: Cluster) -> None:
    """Where this machine has them itself, else the engine says so."""
    show = "grep CapEff /proc/self/status"
    assert printed(docked, given(docked, show, parameters=parameters(cap_drop="ALL"))).split()[1] == "0" * 16
    ended = given(docked, show, privileged=True)
    every = (1 << (int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1)) - 1
    if f"CapBnd:\t{every:016x}" in Path("/proc/self/status").read_text():
        assert int(printed(docked, ended).split()[1], 16) == every
    else:
        assert told(ended.end()) == LAUNCH_FAILED
        assert "unable to apply caps" in str(ended.end().message)


# ---- Custom executors -----------------------------------------------------------------------------------


def executor(tasks_end: str) -> dict[str, Any]:
    """One whose program, and Python, the container sees as this machine does."""
    paths = {"/usr", "/lib", "/lib64", sys.prefix, os.path.realpath(sys.prefix), sys.base_prefix, str(ROOT)}
    tops = sorted(path for path in paths if not any(path != other and path.startswith(f"{other}/") for other in paths))
    return {
        "type": "CUSTOM",
        "executor_id": {"value": "docked"},
        "command": {
            "value": f"exec {sys.executable} -P {EXECUTOR} {SANDBOX}/{tasks_end}",
            "environment": {"variables": [{"name": "PYTHONPATH", "value": str(ROOT)}]},
        },
        "container": {
            "type": "DOCKER",
            "docker": {"image": IMAGE},
            "volumes": [{"mode": "RO", "container_path": path, "host_path": path} for path in tops],
        },
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
        ],
    }


def test_a_custom_executor_runs_its_tasks_and_is_held_to_what_they_have(docked: Cluster, docker_engine: DockerEngine) -> None:
    """More for each task, less again after it; it outlives its agent."""
    scheduler = Scheduler(docked, "executors", checkpoint=True)
    info = {**executor("go"), "framework_id": scheduler.framework_id}

    def memory_mib() -> int:
        held: int = inspected(docker_engine)["HostConfig"]["Memory"]
        return held >> 20

    for name in ("first", "second"):
        scheduler.launch(name, "", command=None, executor=info)
    scheduler.status("second")
    eventually(lambda: memory_mib() == 64 + 32 + 32)
    before = inspected(docker_engine)["State"]["Pid"]
    docked.kill("agent-1")
    settled(docked)
    (place,) = docked.work_dir.glob(f"agent-1/slaves/latest/frameworks/{scheduler.framework_id['value']}/executors/docked/runs/latest")
    (place / "go").touch()
    assert {scheduler.status(name, "TASK_FINISHED")["message"] for name in ("first", "second")} == {"without a token"}
    assert inspected(docker_engine)["State"]["Pid"] == before
    eventually(lambda: memory_mib() == 64)
    scheduler.close()


@pytest.mark.skipif(not os.path.isdir("/sys/fs/cgroup/memory"), reason="with control groups of version 2 nothing is refused")
def test_what_uses_more_than_it_is_to_have_is_held_to_it_once_it_uses_less(docked: Cluster, docker_engine: DockerEngine) -> None:
    scheduler = Scheduler(docked, "executors")
    scheduler.launch("first", "", command=None, executor={**executor("go"), "framework_id": scheduler.framework_id})
    scheduler.launch("second", "", command=None, executor={**executor("go"), "framework_id": scheduler.framework_id})
    scheduler.status("second")
    (name,) = docker_engine.names()
    eventually(lambda: inspected(docker_engine)["HostConfig"]["Memory"] == 128 << 20)
    hold = f"(head -c 70000000 /dev/zero; until test -e {SANDBOX}/less; do sleep 0.1; done) | tail -c 70000000 > /dev/null"
    docker_engine.docker("exec", "--detach", name, "sh", "-c", hold)
    used = "exec", name, "cat", "/sys/fs/cgroup/memory/memory.usage_in_bytes"
    eventually(lambda: int(docker_engine.docker(*used).stdout) > 70_000_000)
    docker_engine.docker("exec", name, "touch", f"{SANDBOX}/go")
    assert scheduler.status("first", "TASK_FINISHED")
    assert scheduler.status("second", "TASK_FINISHED")
    log = docked.work_dir / "log" / "agent-1.log"
    eventually(lambda: "unable to set memory limit" in log.read_text(), what="it is refused")
    docker_engine.docker("exec", name, "touch", f"{SANDBOX}/less")
    eventually(lambda: inspected(docker_engine)["HostConfig"]["Memory"] == 64 << 20, 60)
    scheduler.close()


# ---- Logs -----------------------------------------------------------------------------------------------


def test_a_last_line_without_an_end_is_in_its_output(docked: Cluster) -> None:
    """The engine tells one in seven of them only to who asks after the end."""
    for _ in range(2):
        running = [given(docked, "printf 'first\nlast'") for _ in range(10)]
        assert [printed(docked, one) for one in running] == ["first\nlast"] * 10


def test_a_log_is_rotated_and_followed_over_deaths_of_the_agent_without_loss(docked: Cluster) -> None:
    counts = "for _ in $(seq 100); do i=$((i+1)); echo line $i; done; sleep 0.01"
    script = f"i=0; until test -e $MESOS_SANDBOX/stdout.3; do {counts}; done; echo end $i"
    sizes = (Variable("CONTAINER_LOGGER_MAX_STDOUT_SIZE", value="16KB"), Variable("CONTAINER_LOGGER_MAX_FILES", value="100"))
    running = given(docked, CommandInfo(value=script, environment=Environment(sizes)))
    task_id = running.running().task_id.value
    place = sandbox(docked, task_id)
    with unsupervised(docked) as kill:
        for _ in range(3):
            time.sleep(0.7)
            kill()
    assert running.end(60).state is TaskState.TASK_FINISHED
    files = sorted(place.glob("stdout.*"), key=lambda path: -int(path.suffix[1:]))
    lines = "".join(path.read_text() for path in (*files, place / "stdout")).splitlines()
    assert lines == [*(f"line {i + 1}" for i in range(len(lines) - 1)), f"end {len(lines) - 1}"]
    assert len(files) >= 3


# ---- Ends -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), [("SIGQUIT", "QUIT"), ("SIGUSR1", "USR1")])
def test_it_is_asked_to_end_by_its_own_stop_signal(docked: Cluster, number: str, name: str) -> None:
    script = f"trap 'echo asked; exit 4' {name}; trap '' TERM; echo up; while true; do sleep 0.1; done"
    running = given(docked, script, kill_grace_s=20.0, parameters=parameters(stop_signal=number))
    task_id = running.running().task_id.value
    eventually(lambda: output(docked, task_id) == "up\n")
    docked.meseta("task", "kill", task_id)
    status = running.end()
    assert (status.state, status.message) == (TaskState.TASK_KILLED, "Command exited with status 4")
    assert output(docked, task_id) == "up\nasked\n"


def test_a_stop_signal_of_no_such_name_is_refused(docked: Cluster) -> None:
    status = given(docked, "true", parameters=parameters(stop_signal="none-such")).end()
    assert told(status) == LAUNCH_FAILED
    assert re.search("(?i)signal", str(status.message))
