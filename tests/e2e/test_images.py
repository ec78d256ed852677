"""Tasks in images without a daemon, run by the real runc on a real cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kernel.wire.common import Image, ImageDocker, ImageType
from kernel.wire.container import ContainerInfo, ContainerType, MesosInfo
from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import in_images
from tests.e2e.in_images import left
from tests.e2e.outliving import outlive

pytestmark = in_images.NEEDS
IN = ("--image", in_images.IMAGE)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_images.registry(tmp_path_factory.mktemp("registry"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, registry: Path) -> Iterator[Cluster]:
    """A cluster of one agent that has the images."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent", environ={"MESETA_DOCKER_REGISTRY": str(registry)})
    try:
        made.up()
        yield made
    finally:
        made.down()


def run(machine: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    return machine.meseta("run", "--cpus", "0.1", "--mem", "64", *IN, "--", *arguments, check=False)


def test_a_task_sees_its_image_and_not_the_machine(machine: Cluster) -> None:
    done = run(machine, "sh", "-c", "cat /etc/os-release; ls /etc; echo $COLOUR; pwd; id -u; ps | grep -c . ; exit 4")
    lines = done.stdout.split("\n")
    assert done.returncode == 4, done.stderr
    assert lines[0] == 'NAME="Alpine-like"'
    assert "group" not in lines, "its upper layer takes that away"
    assert {"passwd", "blue", "/mnt/mesos/sandbox", "0"} <= set(lines)
    eventually(lambda: not left(machine), what=str(left(machine)))


def test_what_it_writes_is_its_own_and_the_sandbox_is_kept(machine: Cluster) -> None:
    first = run(machine, "sh", "-c", "echo changed > /etc/os-release; echo kept > result; cat /etc/os-release")
    second = run(machine, "cat", "/etc/os-release")
    assert (first.stdout, second.stdout) == ("changed\n", 'NAME="Alpine-like"\n')
    assert any(path.read_text() == "kept\n" for path in machine.work_dir.glob("agent-1/slaves/*/frameworks/*/executors/*/runs/*/result"))


@pytest.mark.parametrize(
    ("image", "command", "says"),
    [
        ("alpine-like:2", "true", "image alpine-like:2 is not there"),
        ("broken:1", "true", "cannot be read"),
        ("No Such Name", "true", "is no name of an image"),
        ("alpine-like:1", "no-such-program", "executable file not found"),
    ],
)
def test_what_cannot_be_run_fails_with_the_reason_and_leaves_nothing(machine: Cluster, image: str, command: str, says: str) -> None:
    done = machine.meseta("run", "--image", image, "--", command, check=False)
    assert done.returncode == 125
    assert "Failed to launch container" in done.stderr
    assert says in done.stderr
    eventually(lambda: not left(machine), what=str(left(machine)))


def test_system_calls_are_filtered(machine: Cluster) -> None:
    done = run(machine, "sh", "-c", "grep -c 'Seccomp:.2' /proc/self/status; unshare -U true || echo refused")
    assert done.stdout == "1\nrefused\n"


def test_memory_is_held_inside_as_outside(machine: Cluster) -> None:
    done = run(machine, "sh", "-c", "x=$(yes | cat)")
    assert done.returncode == 137
    assert "Memory limit exceeded: Requested: 64MB" in done.stderr
    eventually(lambda: not left(machine), what=str(left(machine)))


def test_a_kill_ends_all_of_it(machine: Cluster) -> None:
    """The first process of a container ignores what it has no handler for; the grace ends with SIGKILL."""
    command = [*MESETA, "run", "--name", "stubborn", "--cpus", "0.1", "--mem", "64", *IN, "--", "sh", "-c", "echo up; exec sleep 1000"]
    process = machine.spawn(command)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (task,) = [task for task in machine.json("task", "list") if task["name"] == "stubborn"]
        machine.meseta("task", "kill", task["task_id"]["value"])
        assert process.wait(30) == 137
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: not left(machine), what=str(left(machine)))


def test_a_session_is_inside_its_image(machine: Cluster) -> None:
    command = [*MESETA, "run", "--name", "visited", "--cpus", "0.1", "--mem", "64", *IN, "--", "sh", "-c", "echo up; exec sleep 1000"]
    process = machine.spawn(command)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        (task,) = [task for task in machine.json("task", "list") if task["name"] == "visited"]
        inside = "cat /etc/os-release; echo $COLOUR; read line; echo got $line; exit 5"
        done = subprocess.run(
            [*MESETA, "task", "exec", "-i", task["task_id"]["value"], "--", "sh", "-c", inside],
            env=machine.environ,
            input="ours\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stdout) == (5, 'NAME="Alpine-like"\nblue\ngot ours\n'), done.stderr
        machine.meseta("task", "kill", task["task_id"]["value"])
        process.wait(30)
    finally:
        process.kill()
        process.communicate()
    eventually(lambda: not left(machine), what=str(left(machine)))


@pytest.mark.parametrize(
    ("count", "agents", "launchers"), [(12, 4, 1), pytest.param(200, 20, 5, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_containers_outlive_agent_and_launcher(
    start_cluster: Callable[..., Cluster], registry: Path, count: int, agents: int, launchers: int
) -> None:
    """kill -9 at random moments: see `outlive`."""
    environ = {"MESETA_DOCKER_REGISTRY": str(registry), "MESETA_RESOURCES": "cpus:64;mem:16000"}
    machine = start_cluster(agents=1, only="master,agent", environ=environ)
    image = Image(ImageType.DOCKER, docker=ImageDocker(in_images.IMAGE))
    outlive(machine, count, agents, launchers, ContainerInfo(ContainerType.MESOS, mesos=MesosInfo(image)))
    eventually(lambda: not left(machine), 60, str(left(machine)))


def test_files_are_fetched_with_the_rights_of_who_runs_in_the_image(machine: Cluster, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("echo fetched; stat -c %u script\n")
    fetch = ("--cpus", "0.1", "--mem", "64", *IN, "--fetch")
    assert machine.meseta("run", *fetch, str(script), "--", "sh", "script").stdout == "fetched\n0\n"
    refused = machine.meseta("run", *fetch, "/etc/shadow", "--user", "nobody", "--", "cat", "shadow", check=False)
    assert (refused.returncode, refused.stdout) == (125, "")
    assert "Failed to fetch /etc/shadow: Permission denied" in refused.stderr
