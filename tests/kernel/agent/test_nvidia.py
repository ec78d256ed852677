"""The driver's tool is asked once; however it fails, the agent has no GPUs and says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kernel.agent import detect, nvidia
from kernel.agent.config import AgentConfig
from kernel.agent.gpus import NO_GPUS
from kernel.agent.main import node
from kernel.errors import ConfigError
from kernel.wire.resources import Resources
from tests.nvidia import STAND_INS, UUIDS, devices, tool


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first in PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


def test_without_the_tool_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia.find() == NO_GPUS


def test_what_it_tells_and_where_the_devices_are(path: Path, tmp_path: Path) -> None:
    tool(path)
    found = nvidia.find(str(tmp_path / "none"))
    assert found.trouble == ""
    assert tuple(gpu.uuid for gpu in found.found) == UUIDS
    assert [gpu.node for gpu in found.found] == [None, None]
    if os.geteuid() == 0:
        folder = str(devices(tmp_path / "dev"))
        assert [(gpu.path, gpu.node) for gpu in nvidia.find(folder).found] == [
            (f"{folder}/nvidia0", STAND_INS[0]),
            (f"{folder}/nvidia1", STAND_INS[1]),
        ]
        assert nvidia.controls(folder) == {f"{folder}/nvidiactl": (1, 3)}


def test_the_driver_says_which_device_file_is_whose(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(path)
    for bus, minor in (("0000:3b:00.0", 1), ("0000:af:00.0", 0)):
        (tmp_path / "driver" / bus).mkdir(parents=True)
        (tmp_path / "driver" / bus / "information").write_text(f"Model: \t\t Tesla T4\nDevice Minor: \t {minor}\n")
    monkeypatch.setattr(nvidia, "DRIVER", str(tmp_path / "driver"))
    assert [nvidia._minor(gpu) for gpu in nvidia.find().found] == [1, 0]


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
            "status 9: NVIDIA-SMI has failed",
        ),
        ("echo 'No devices were found'", "cannot read its answer"),
        ("head -c 3000000 /dev/urandom", "cannot read its answer"),
        ("kill -9 $$", "status -9"),
        ("exec sleep 1000", "does not answer within"),
    ],
    ids=["no driver", "no devices", "garbage", "killed", "stuck"],
)
def test_a_broken_tool_means_no_gpus_and_an_agent_that_works(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, script: str, says: str
) -> None:
    monkeypatch.setattr(nvidia, "ANSWER_S", 0.5)
    tool(path, script)
    announced = node(AgentConfig(work_dir=str(tmp_path)))
    assert announced.gpus == ()
    assert "gpus" not in Resources.of(announced.resources).scalars()
    assert says in caplog.text
    with pytest.raises(ConfigError, match="gpus:1 is more than the 0") as refused:
        node(AgentConfig(work_dir=str(tmp_path), resources="gpus:1"))
    assert says in str(refused.value)


def test_they_become_a_resource_of_whole_units(path: Path, tmp_path: Path) -> None:
    tool(path)
    found = nvidia.find()
    offers = detect.resources("", "prod", tmp_path, found)
    assert Resources.of(offers.resources).scalars()["gpus"] == 2000
    assert {resource.name: resource.role or resource.reservations[0].role for resource in offers.resources}["gpus"] == "prod"
    assert "gpus" in offers.detected
    fewer = detect.resources("gpus:1", "*", tmp_path, found, (1,))
    assert ([gpu.index for gpu in fewer.gpus], "gpus" in fewer.detected) == ([1], False)
    assert detect.resources("gpus:0", "*", tmp_path, found).gpus == ()
    assert detect.resources("gpus(a):1;gpus(b):1", "*", tmp_path, found).gpus == found.found
    with pytest.raises(ConfigError, match="gpus must be a whole number"):
        detect.resources("gpus:0.5", "*", tmp_path, found)


def test_a_number_of_a_gpu_is_a_number(path: Path, tmp_path: Path) -> None:
    tool(path)
    assert [gpu.index for gpu in node(AgentConfig(work_dir=str(tmp_path), nvidia_gpu_devices=("1",))).gpus] == [1]
    with pytest.raises(ConfigError, match="--nvidia-gpu-devices: 'GPU-1' is no number"):
        node(AgentConfig(work_dir=str(tmp_path), nvidia_gpu_devices=("GPU-1",)))
