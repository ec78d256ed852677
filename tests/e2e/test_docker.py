"""Tasks as containers of a real Docker engine, on a real cluster."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from frameworks.sdk.tasks import docker_command, task
from kernel.wire.common import DockerVolume, Volume, VolumeMode, VolumeSource, VolumeSourceType
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo, DockerPortMapping, Network
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, Reason, TaskState
from tests.cluster import Cluster, eventually
from tests.docker import ENTRY_IMAGE, IMAGE, DockerEngine
from tests.e2e.docked import LAUNCH_FAILED, free_ports, given, nothing_left, numbers, output, parameters, printed, run, sandbox, told
from tests.e2e.given import Given
from tests.e2e.http import ask
from tests.e2e.outliving import once_each
from tests.e2e.processes import unsupervised

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def nothing_is_left(docked: Cluster, docker_engine: DockerEngine) -> Iterator[None]:
    with nothing_left(docked, docker_engine):
        yield


# ---- Running --------------------------------------------------------------------------------------------


def test_a_command_runs_in_an_image_as_if_it_ran_here(docked: Cluster) -> None:
    done = run(docked, "sh", "-c", "echo out; echo err >&2; printf 'no newline'; exit 3")
    assert (done.returncode, done.stdout) == (3, "out\nno newline"), done.stderr
    assert "err\n" in done.stderr


def test_the_signal_that_ended_it_is_told(docked: Cluster) -> None:
    status = given(docked, "ulimit -c 0; sh -c 'kill -SEGV $$'; exit $?").end()
    assert (status.state, status.message) == (TaskState.TASK_FAILED, "Command terminated with signal Segmentation fault")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (CommandInfo(value="echo shell"), "shell\n"),
        (CommandInfo(shell=False, value="one", arguments=("two",)), "entry one two\n"),
        (CommandInfo(shell=False, arguments=("two",)), "entry two\n"),
        (CommandInfo(shell=False), "entry default\n"),
    ],
    ids=["a shell replaces the entry point", "a value and arguments follow it", "so do arguments", "without any, the image decides"],
)
def test_what_is_run_follows_the_rules_of_mesos(docked: Cluster, command: CommandInfo, expected: str) -> None:
    assert printed(docked, given(docked, command, image=ENTRY_IMAGE)) == expected


def test_what_is_asked_for_is_there(docked: Cluster, docker_engine: DockerEngine, tmp_path: Path) -> None:
    """Volumes, sandbox, environment, name, limits and parameters, all seen from inside."""
    (tmp_path / "given").write_text("from the host")
    script = """
        cat /host/given; touch /host/x 2>/dev/null || echo ' read-only'
        echo $GREETING $HOSTNAME $(hostname) $(id -u) $(pwd)
        echo kept > /volume/file; echo here > $MESOS_SANDBOX/inside; echo there > /data/file
        echo $(cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares)
        touch /rootfs 2>/dev/null || echo read-only root
    """
    ended = given(
        docked,
        script,
        "cpus:0.5;mem:64",
        network=Network.BRIDGE,
        hostname="box",
        parameters=parameters(env="GREETING=hello", label="color=blue", workdir="/tmp", read_only="true", user="0:0", volume="/nameless"),
        volumes=(
            Volume(VolumeMode.RO, "/host", host_path=str(tmp_path)),
            Volume(VolumeMode.RW, "/data", host_path="data"),
            Volume(VolumeMode.RW, "/volume", source=VolumeSource(VolumeSourceType.DOCKER_VOLUME, docker_volume=DockerVolume("kept"))),
        ),
    )
    text = printed(docked, ended)
    limits = f"{64 << 20} 4096 512\n" if os.path.isdir("/sys/fs/cgroup/memory") else "\n"
    assert text == f"from the host read-only\nhello box box 0 /tmp\n{limits}read-only root\n"
    place = sandbox(docked, ended.end().task_id.value)
    assert ((place / "inside").read_text(), (place / "data" / "file").read_text()) == ("here\n", "there\n")
    eventually(lambda: not docker_engine.names())
    docker_engine.docker("volume", "rm", "kept")


def test_a_task_whose_id_has_colons_has_its_sandbox_and_its_volumes(docked: Cluster) -> None:
    """As those of Chronos have; `docker run --volume` knows no such path."""
    volumes = (Volume(VolumeMode.RW, "/data", host_path="some/data"), Volume(VolumeMode.RO, "own", host_path="some"))
    script = "cd $MESOS_SANDBOX; echo there > /data/file; echo here > inside; cat own/data/file; touch own/x || echo read-only"
    ended = given(docked, script, name="ct:1764195600000:0:job:", volumes=volumes)
    text = printed(docked, ended)
    place = sandbox(docked, ended.end().task_id.value)
    assert (text, (place / "inside").read_text()) == ("there\nread-only\n", "here\n")


def test_a_task_beyond_its_memory_is_killed_and_says_so(docked: Cluster) -> None:
    for _ in range(3):  # On a busy machine containerd drops the news where the control group is gone before it looks.
        status = given(docked, "exec tail /dev/zero", "cpus:1;mem:32").end()
        if status.limitation is not None:
            break
    assert told(status) == (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LIMITATION_MEMORY)
    assert status.message == "Memory limit exceeded: Requested: 32MB Maximum Used: 32MB; Command terminated with signal Killed"
    assert status.limitation is not None
    assert [resource.name for resource in status.limitation.resources] == ["mem"]


def test_a_port_leads_into_a_container_which_has_an_address_and_is_measured(docked: Cluster) -> None:
    (port,) = free_ports(docked, 1)
    serving = given(
        docked,
        "echo welcome > /tmp/index.html; exec httpd -f -p 80 -h /tmp",
        f"cpus:0.1;mem:32;ports:[{port}-{port}]",
        network=Network.BRIDGE,
        port_mappings=(DockerPortMapping(port, 80),),
        parameters=parameters(init="true"),
    )
    status = serving.running()
    assert eventually(lambda: fetched(port)) == b"welcome\n"
    assert status.container_status is not None
    (address,) = status.container_status.network_infos[0].ip_addresses
    assert str(address.ip_address).startswith("172.")
    rows = ask(docked.urls["agent-1"], "/monitor/statistics").json()
    (used,) = [row["statistics"] for row in rows if row["executor_id"] == status.task_id.value]
    assert 0 < used["mem_total_bytes"] < used["mem_limit_bytes"] == 32 << 20
    assert used["cpus_user_time_secs"] >= 0
    assert "cpus" in docked.meseta("task", "stats", status.task_id.value).stdout
    docked.meseta("task", "kill", status.task_id.value)
    assert serving.end().state is TaskState.TASK_KILLED
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5)


def fetched(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=5) as answer:
            body: bytes = answer.read()
            return body
    except OSError:
        return b""


# ---- Killing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("trap 'echo bye; exit 5' TERM; echo up; while true; do sleep 0.1; done", "Command exited with status 5"),
        ("trap '' TERM; echo up; while true; do sleep 0.1; done", "Command terminated with signal Killed"),
    ],
    ids=["gently", "after the grace"],
)
def test_a_kill(docked: Cluster, script: str, message: str) -> None:
    running = given(docked, script, kill_grace_s=1.0)
    task_id = running.running().task_id.value
    eventually(lambda: output(docked, task_id) == "up\n")
    began_s = time.monotonic()
    docked.meseta("task", "kill", task_id)
    status = running.end()
    assert (status.state, status.message) == (TaskState.TASK_KILLED, message)
    assert output(docked, task_id) == ("up\nbye\n" if "exit 5" in script else "up\n")
    assert "exit 5" in script or time.monotonic() - began_s >= 1.0


# ---- Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image": "localhost:1/nobody/nothing:7"}, ["cannot fetch the image localhost:1/nobody/nothing:7"]),
        ({"parameters": parameters(restart="always")}, ["'restart'", "not for tasks to give"]),
        ({"parameters": parameters(no_such_thing="1")}, ["'no-such-thing'", "not supported", "ulimit"]),
        ({"network": Network.BRIDGE, "port_mappings": (DockerPortMapping(22, 22),)}, ["22", "not among the ports"]),
        ({"parameters": parameters(runtime="none-such")}, ["none-such"]),
        ({"volumes": (Volume(VolumeMode.RW, "/x", host_path="../../x"),)}, ["leads out of the sandbox"]),
    ],
)
def test_what_cannot_be_had_fails_with_a_reason(docked: Cluster, fields: dict[str, Any], words: list[str]) -> None:
    status = given(docked, "true", **fields).end()
    assert told(status) == LAUNCH_FAILED
    assert all(word in str(status.message) for word in words), status.message


def test_a_program_that_is_not_there_fails_with_a_reason(docked: Cluster) -> None:
    done = run(docked, "no-such-program")
    assert done.returncode == 125
    assert "no-such-program" in done.stderr


def test_a_port_that_is_taken_fails_with_a_reason(docked: Cluster) -> None:
    (port,) = free_ports(docked, 1)
    with socket.create_server(("0.0.0.0", port)):
        mapping = (DockerPortMapping(port, 80),)
        ports = f"cpus:0.1;mem:32;ports:[{port}-{port}]"
        status = given(docked, "true", ports, network=Network.BRIDGE, port_mappings=mapping).end()
    assert told(status) == LAUNCH_FAILED
    assert "address already in use" in str(status.message)


# ---- What dies ------------------------------------------------------------------------------------------

# Prints numbers until it is told to end, then one more line: none may be missing or doubled.
COUNTING = "i=0; until test -e /gate/open; do i=$((i+1)); echo line $i; sleep 0.02; done; echo end $i; echo bad >&2; exit 7"


def counting(cluster: Cluster, folder: Path, count: int) -> Given:
    """Containers that count, each once."""
    volumes = (Volume(VolumeMode.RO, "/gate", host_path=str(folder)),)
    info = ContainerInfo(ContainerType.DOCKER, docker=DockerInfo(IMAGE), volumes=volumes)
    command = docker_command(["sh", "-c", COUNTING])
    wants = Resources.parse("cpus:0.005;mem:32")
    return Given(cluster, [(task(f"count-{next(numbers)}", command, container=info), wants) for _ in range(count)])


def check_counts(cluster: Cluster, ended: Given, within_s: float) -> None:
    for task_id, status in ended.ends(within_s).items():
        assert (status.state, status.message) == (TaskState.TASK_FAILED, "Command exited with status 7"), status
        once_each(ended.heard[task_id])
        lines = output(cluster, task_id).splitlines()
        assert lines == [*(f"line {i + 1}" for i in range(len(lines) - 1)), f"end {len(lines) - 1}"]
        assert output(cluster, task_id, "stderr") == "bad\n"


def survives_kills(cluster: Cluster, engine: DockerEngine, folder: Path, count: int, times: int, within_s: float) -> None:
    begun = counting(cluster, folder, count)
    eventually(lambda: len(engine.names("status=running")) == count, within_s, "all containers run")
    ids = set(engine.names())
    with unsupervised(cluster) as kill:
        for i in range(times - 1):
            kill()
            time.sleep((0.3, 0.6, 0.9, 1.2)[i % 4])  # Killed as it starts, as it looks around, as it copies.
        assert set(engine.names()) == ids
        (folder / "open").touch()
        eventually(lambda: len(engine.names("status=running")) < count)
        kill()  # While they end.
    check_counts(cluster, begun, within_s)


def test_an_agent_killed_twenty_times_loses_nothing(docked: Cluster, docker_engine: DockerEngine, tmp_path: Path) -> None:
    survives_kills(docked, docker_engine, tmp_path, count=6, times=20, within_s=60)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_engine_that_goes_away_and_comes_back(docked: Cluster, docker_engine: DockerEngine, number: signal.Signals) -> None:
    """Nothing is told while it is away; whoever wants a container meanwhile is told why not; when it is back, the truth is told."""
    running = given(docked, "trap 'exit 9' TERM; echo up; while true; do sleep 0.1; done")
    (statuses,) = running.told.values()
    task_id = running.running().task_id.value
    eventually(lambda: output(docked, task_id) == "up\n")
    docker_engine.stop(number)
    try:
        status = given(docked, "true").end()
        assert told(status) == LAUNCH_FAILED
        assert f"the Docker engine at {docker_engine.socket} cannot be asked" in str(status.message)
        assert status.message.endswith(("No such file or directory", "Connection refused"))
        assert statuses[-1].state is TaskState.TASK_RUNNING
    finally:
        docker_engine.start()
    end = running.end()
    assert end.state is TaskState.TASK_FAILED
    assert end.message == "Command exited with status 9"  # One that was killed ends its containers when it is back.
    assert printed(docked, given(docked, "echo again")) == "again\n"


def test_a_container_that_somebody_removed_has_an_unknown_end(docked: Cluster, docker_engine: DockerEngine) -> None:
    running = given(docked, "while true; do sleep 0.1; done")
    running.running()
    (name,) = docker_engine.names()
    assert name.startswith("mesos-")
    docker_engine.docker("rm", "--force", name)
    status = running.end()
    assert (status.state, status.message) in [
        (TaskState.TASK_FAILED, "exit status unknown"),
        (TaskState.TASK_FAILED, "Command terminated with signal Killed"),
    ]


def test_what_nobody_knows_is_ended_and_what_is_of_others_is_left_alone(docked: Cluster, docker_engine: DockerEngine) -> None:
    owner = f"meseta.agent={docked.work_dir / 'agent-1'}"
    idle = ("--init", IMAGE, "sleep", "1000")
    docker_engine.docker("run", "--detach", "--name", "other", "--label", "meseta.agent=/other", *idle)
    folder = docked.work_dir / "agent-1" / "orphan"
    folder.mkdir()
    labels = ("--label", owner, "--label", "meseta.container=orphan", "--label", f"meseta.sandbox={folder}")
    docker_engine.docker("run", "--detach", "--name", "mesos-orphan", *labels, *idle)
    docked.kill("agent-1")
    eventually(lambda: docker_engine.names() == ["other"], 30)
    docker_engine.docker("rm", "--force", "other")


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_hundred_containers_survive_twenty_kills_of_their_agent(docked: Cluster, docker_engine: DockerEngine, tmp_path: Path) -> None:
    survives_kills(docked, docker_engine, tmp_path, count=200, times=20, within_s=600)
