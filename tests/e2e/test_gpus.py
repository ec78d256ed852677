"""GPUs on a real cluster, by a stand-in for the driver's tool and harmless devices: each task may open its own and no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import in_images
from tests.nvidia import UUIDS, devices, tool

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.geteuid() != 0, reason="only root may make control groups and devices")]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("gpus")
    tool(folder / "bin")
    environ = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "MESETA_NVIDIA_DEVICE_DIR": str(devices(folder / "dev")),
        "MESETA_ATTRIBUTES": "rack:a7",
        "MESETA_DOCKER_REGISTRY": str(in_images.registry(tmp_path_factory.mktemp("registry"))),
    }
    made = Cluster(folder / "cluster", agents=1, only="master,agent", environ=environ)
    folder.joinpath("cluster").mkdir()
    try:
        made.up()
        yield made
    finally:
        made.down()


def opens(folder: str) -> str:
    """A script that tries both devices, and says what it was told of them."""
    one = f"if head -c 0 {folder}/nvidia%d 2>/dev/null; then echo opens %d; fi"
    return "; ".join([one % (0, 0), one % (1, 1), 'echo $NVIDIA_VISIBLE_DEVICES; echo "<$CUDA_VISIBLE_DEVICES>"'])


def gpus(count: int, *command: str) -> list[str]:
    return ["run", "--cpus", "0.1", "--mem", "64", *(["--gpus", str(count)] if count else []), *command]


def held(machine: Cluster, count: int, *more: str) -> subprocess.Popen[str]:
    """A task that has so many GPUs until it is killed."""
    return machine.spawn([*MESETA, *gpus(count, *more), "--", "sh", "-c", "echo $NVIDIA_VISIBLE_DEVICES; exec sleep 1000"])


def test_a_task_may_use_its_own_gpus_and_no_others(machine: Cluster) -> None:
    script = opens(machine.environ["MESETA_NVIDIA_DEVICE_DIR"])
    told = {count: machine.meseta(*gpus(count), "--", "sh", "-c", script).stdout.split() for count in (0, 1, 2)}
    assert told[0] == ["void", "<>"]
    assert told[1] == ["opens", "0", UUIDS[0], f"<{UUIDS[0]}>"]
    assert told[2] == ["opens", "0", "opens", "1", ",".join(UUIDS), f"<{','.join(UUIDS)}>"]


def test_a_gpu_stays_whose_it_is_when_the_agent_is_killed(machine: Cluster) -> None:
    holder = held(machine, 1)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == UUIDS[0]
        for _ in range(2):
            machine.kill("agent-1")
            eventually(lambda: machine.daemon("agent-1")["state"] == "running", 30)
            done = machine.meseta(*gpus(1), "--", "sh", "-c", opens(machine.environ["MESETA_NVIDIA_DEVICE_DIR"]))
            assert done.stdout.split() == ["opens", "1", UUIDS[1], f"<{UUIDS[1]}>"]
        (node,) = machine.json("node", "list")
        assert {resource["name"]: resource["scalar"]["value"] for resource in node["allocated_resources"]}["gpus"] == 1
    finally:
        holder.kill()
        holder.communicate()
        for task in machine.json("task", "list"):
            machine.meseta("task", "kill", task["task_id"]["value"])
        eventually(lambda: not machine.json("task", "list"), 30)


def test_commands_show_gpus_and_attributes(machine: Cluster) -> None:
    heading, row = machine.meseta("node", "list").stdout.splitlines()
    assert heading.split()[-3:] == ["GPUS", "AGE", "ATTRIBUTES"]
    assert "0/2" in row.split()
    assert row.split()[-1] == "rack=a7"
    shown = machine.meseta("node", "show", row.split()[0]).stdout
    assert "rack=a7" in shown
    assert "0 used, " in shown.split("gpus")[1].splitlines()[0]


def test_in_an_image_there_are_its_own_devices_only(machine: Cluster) -> None:
    if any(mark.name == "skipif" and mark.args[0] for mark in in_images.NEEDS):
        pytest.skip("runc or busybox is not installed")
    script = "ls /dev | grep nvidia | sort | tr '\\n' ' '; head -c 0 /dev/nvidia0 && echo opens; echo $NVIDIA_VISIBLE_DEVICES"
    done = machine.meseta(*gpus(1, "--image", in_images.IMAGE), "--", "sh", "-c", script)
    assert done.stdout.split() == ["nvidia0", "nvidiactl", "opens", UUIDS[0]], done.stderr
    none = machine.meseta(*gpus(0, "--image", in_images.IMAGE), "--", "sh", "-c", script, check=False)
    assert none.stdout.split() == ["void"]


def test_more_gpus_than_there_are_stop_the_agent_at_its_start(machine: Cluster, tmp_path: Path) -> None:
    done = start(machine, tmp_path, "--resources", "gpus:3")
    assert done.returncode != 0
    assert "--resources: gpus:3 is more than the 2 that this machine has (found: 0, 1)" in done.stderr


def start(machine: Cluster, work_dir: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [*MESETA, "serve", "agent", "--port", "0", "--work-dir", str(work_dir), *flags]
    return subprocess.run(command, env=machine.environ, capture_output=True, text=True, timeout=60)
