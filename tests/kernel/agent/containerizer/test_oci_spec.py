"""What runc is told: whose command is run, with which variables, mounts and rights."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent.containerizer.oci_spec import Bundle, DeviceFile, User, arguments, environment, overridden, spec, unsupported_in_image
from kernel.agent.images.config import RunConfig
from kernel.wire.common import HostPath, Image, ImageAppc, ImageType, SandboxPath, Volume, VolumeMode, VolumeSource, VolumeSourceType
from kernel.wire.container import (
    CapabilityInfo,
    ContainerInfo,
    LinuxCapability,
    LinuxInfo,
    MesosInfo,
    NetworkInfo,
    PortMapping,
    RLimit,
    RLimitInfo,
    RLimitType,
)

IMAGE = RunConfig(env=["PATH=/bin", "A=image"], entrypoint=["/entry"], cmd=["default"], working_dir="/w")
BUNDLE = Bundle(
    "c1", "/b/rootfs", ("x",), {"A": "task"}, False, "/s", "/mnt/mesos/sandbox", "/meseta/1/c1", User(12, 34, (56,)), ContainerInfo()
)


@pytest.mark.parametrize(
    ("argv", "shell", "expected"),
    [
        (("sh", "-c", "x"), True, ["sh", "-c", "x"]),
        (("a", "b"), False, ["/entry", "a", "b"]),
        ((), False, ["/entry", "default"]),
    ],
)
def test_a_shell_replaces_the_entry_point_and_arguments_the_command(argv: tuple[str, ...], shell: bool, expected: list[str]) -> None:
    assert arguments(argv, shell, IMAGE) == expected


def test_an_image_that_says_nothing_runs_nothing_by_itself() -> None:
    assert arguments((), False, RunConfig()) == []
    assert arguments(("a",), False, RunConfig()) == ["a"]


def test_the_tasks_variables_win_over_the_images() -> None:
    assert environment({"A": "task", "B": "x=y"}, IMAGE) == ["PATH=/bin", "A=task", "B=x=y"]
    assert environment({}, RunConfig())[0].startswith("PATH=/usr/local/sbin:")


def test_a_commands_variables_win_over_its_tasks() -> None:
    assert overridden(["A=1=2", "B="], {"B": "b", "C": "c"}) == ["A=1=2", "B=b", "C=c"]


def test_gpus_are_devices_that_may_be_used_and_a_hook_brings_the_drivers_libraries() -> None:
    bundle = replace(BUNDLE, devices=(DeviceFile("/dev/nvidia1", 195, 1),), gpu_hook="/usr/bin/nvidia-hook")
    told = spec(bundle, IMAGE)
    (device,) = told["linux"]["devices"]
    assert (device["path"], device["type"], device["major"], device["minor"]) == ("/dev/nvidia1", "c", 195, 1)
    assert {"allow": True, "type": "c", "major": 195, "minor": 1, "access": "rwm"} in told["linux"]["resources"]["devices"]
    assert told["hooks"] == {"prestart": [{"path": "/usr/bin/nvidia-hook", "args": ["nvidia-hook", "prestart"]}]}
    assert "hooks" not in spec(BUNDLE, IMAGE)
    assert spec(BUNDLE, IMAGE)["linux"]["devices"] == []


def test_a_user_who_is_not_root_has_no_capabilities_in_force() -> None:
    process = spec(BUNDLE, IMAGE)["process"]
    assert process["user"] == {"uid": 12, "gid": 34, "additionalGids": [56]}
    assert process["capabilities"]["effective"] == []
    assert "CAP_SETUID" in process["capabilities"]["bounding"]
    assert process["noNewPrivileges"]
    assert process["cwd"] == "/w"


def test_capabilities_and_limits_are_what_is_asked_for() -> None:
    linux = LinuxInfo(
        bounding_capabilities=CapabilityInfo((LinuxCapability.NET_ADMIN, LinuxCapability.CHOWN)),
        effective_capabilities=CapabilityInfo((LinuxCapability.NET_ADMIN,)),
    )
    limits = RLimitInfo((RLimit(RLimitType.RLMT_NOFILE, hard=200, soft=100), RLimit(RLimitType.RLMT_CORE)))
    process = spec(replace(BUNDLE, user=User(0, 0), info=ContainerInfo(linux_info=linux, rlimit_info=limits)), IMAGE)["process"]
    assert process["capabilities"]["bounding"] == ["CAP_NET_ADMIN", "CAP_CHOWN"]
    assert process["capabilities"]["effective"] == process["capabilities"]["permitted"] == ["CAP_NET_ADMIN"]
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100},
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
    ]


def test_the_sandbox_and_volumes_are_mounted() -> None:
    volumes = (
        Volume(VolumeMode.RO, "/data", host_path="/srv/data"),
        Volume(VolumeMode.RW, "cache", host_path="cache"),
        Volume(VolumeMode.RW, "/h", source=VolumeSource(VolumeSourceType.HOST_PATH, host_path=HostPath("/srv/h"))),
        Volume(VolumeMode.RW, "/p", source=VolumeSource(VolumeSourceType.SANDBOX_PATH, sandbox_path=SandboxPath("p"))),
    )
    mounts = spec(replace(BUNDLE, info=ContainerInfo(volumes=volumes), files={"/etc/hosts": "/b/hosts"}), IMAGE)["mounts"]
    binds = {mount["destination"]: (mount["source"], mount["options"][-1]) for mount in mounts if "rprivate" in mount["options"]}
    assert binds == {
        "/mnt/mesos/sandbox": ("/s", "rw"),
        "/etc/hosts": ("/b/hosts", "ro"),
        "/data": ("/srv/data", "ro"),
        "/mnt/mesos/sandbox/cache": ("/s/cache", "rw"),
        "/h": ("/srv/h", "rw"),
        "/p": ("/s/p", "rw"),
    }


def test_processes_are_its_own_unless_it_shares_them() -> None:
    def kinds(**linux: Any) -> set[str]:
        found = spec(replace(BUNDLE, info=ContainerInfo(linux_info=LinuxInfo(**linux))), IMAGE)
        return {namespace["type"] for namespace in found["linux"]["namespaces"]}

    assert kinds() == {"pid", "mount", "uts", "ipc"}
    assert kinds(share_pid_namespace=True) == {"mount", "uts", "ipc"}


def test_a_network_of_its_own_is_a_namespace_with_its_devices() -> None:
    """Anybody may listen on any port there."""
    own, machines = spec(replace(BUNDLE, network="/b/network"), IMAGE), spec(BUNDLE, IMAGE)
    assert {"type": "network", "path": "/b/network"} in own["linux"]["namespaces"]
    assert own["linux"]["sysctl"] == {"net.ipv4.ip_unprivileged_port_start": "0"}
    assert machines["linux"]["sysctl"] == {}
    kinds = [next(mount["type"] for mount in found["mounts"] if mount["destination"] == "/sys") for found in (own, machines)]
    assert kinds == ["sysfs", "none"]


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (ContainerInfo(network_infos=(NetworkInfo(port_mappings=(PortMapping(31000, 80),)),)), "'container.network_infos'"),
        (ContainerInfo(mesos=MesosInfo(Image(ImageType.APPC, appc=ImageAppc("a")))), "type APPC are not supported; DOCKER is"),
        (ContainerInfo(mesos=MesosInfo(Image(ImageType.DOCKER))), "with 'docker.name'"),
        (ContainerInfo(volumes=(Volume(VolumeMode.RW, "/a/../../etc", host_path="/x"),)), "must not contain"),
        (ContainerInfo(volumes=(Volume(VolumeMode.RW, "/a", source=VolumeSource(VolumeSourceType.SECRET)),)), "SECRET is not supported"),
    ],
)
def test_what_cannot_be_given_is_said(info: ContainerInfo, says: str) -> None:
    assert says in (unsupported_in_image(info) or "")
