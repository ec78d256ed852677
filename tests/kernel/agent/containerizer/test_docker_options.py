"""What the Docker engine is asked for, value in, value out; bodies are those of its `POST /containers/create`."""

from __future__ import annotations

from typing import Any

import pytest

from kernel.agent.containerizer.docker_options import Place, create_body, held_to, problem, sources_in_sandbox
from kernel.agent.containerizer.docker_parameters import _DECIDED, _MEANING
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.effects import LaunchContainer
from kernel.agent.gpus import Gpu
from kernel.agent.isolators.limits import Limits
from kernel.wire.common import (
    DockerVolume,
    HostPath,
    Image,
    ImageType,
    MountPropagation,
    MountPropagationMode,
    Parameter,
    Parameters,
    SandboxPath,
    SandboxPathType,
    Volume,
    VolumeMode,
    VolumeSource,
    VolumeSourceType,
)
from kernel.wire.container import (
    CapabilityInfo,
    ContainerInfo,
    ContainerType,
    DockerInfo,
    DockerPortMapping,
    LinuxInfo,
    Network,
    NetworkInfo,
    PortMapping,
    RLimit,
    RLimitInfo,
    RLimitType,
    SeccompInfo,
    TTYInfo,
)
from tests.builders import resources

PLACE = Place("/work", "/mnt/mesos/sandbox")
LIMITS = Limits(500, 64, None, 64, 100)
MIB = 1 << 20
PORTS = resources("cpus:1;ports:[31000-31005,31010-31010]")


def info(docker: dict[str, Any] | None = None, **fields: Any) -> ContainerInfo:
    return ContainerInfo(ContainerType.DOCKER, docker=DockerInfo(**{"image": "i:1", **(docker or {})}), **fields)


def parameter(key: str, value: str) -> ContainerInfo:
    return info({"network": Network.USER, "parameters": (Parameter(key, value),)}, network_infos=(NetworkInfo(name="net"),))


def body(
    asked: ContainerInfo,
    argv: tuple[str, ...] = ("sh", "-c", "x"),
    shell: bool = True,
    user: tuple[int, int] | None = None,
    gpus: tuple[Gpu, ...] = (),
) -> Any:
    kind = Containerizer.DOCKER
    launch = LaunchContainer("c", "", argv, {"A": "1"}, "/work/sandbox", None, (), LIMITS, kind, info=asked, shell=shell, gpus=gpus)
    return create_body(launch, PLACE, user)


def test_a_plain_container() -> None:
    assert body(info()) == {
        "Image": "i:1",
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["x"],
        "Env": ["A=1", "MESOS_SANDBOX=/mnt/mesos/sandbox", "MESOS_CONTAINER_NAME=mesos-c"],
        "Labels": {"meseta.agent": "/work", "meseta.container": "c", "meseta.sandbox": "/work/sandbox"},
        "HostConfig": {
            "NetworkMode": "host",
            "Binds": ["/work/sandbox:/mnt/mesos/sandbox:rw"],
            "Mounts": [],
            "CpuShares": 512,
            "Memory": 64 * MIB,
            "MemorySwap": 64 * MIB,
            "MemoryReservation": 64 * MIB,
            "PidsLimit": 100,
        },
    }


def test_gpus_are_asked_for_as_docker_run_does() -> None:
    gpus = (Gpu(1, "GPU-a", "T4", 16, "0:1"), Gpu(3, "GPU-b", "T4", 16, "0:3"))
    assert body(info(), gpus=gpus)["HostConfig"]["DeviceRequests"] == [{"DeviceIDs": ["GPU-a", "GPU-b"], "Capabilities": [["gpu"]]}]


def test_without_a_shell_the_entry_point_is_the_image_s() -> None:
    asked = body(info(), ("a", "b"), shell=False, user=(7, 8))
    assert (asked.get("Entrypoint"), asked["Cmd"], asked["User"]) == (None, ["a", "b"], "7:8")
    assert "Cmd" not in body(info(), (), shell=False)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(1, 1, None, 1), {"CpuShares": 2, "Memory": 32 * MIB, "MemorySwap": 32 * MIB, "MemoryReservation": 32 * MIB}),
        (Limits(1500, 64, 2000, 128), {"CpuPeriod": 100_000, "CpuQuota": 200_000, "Memory": 128 * MIB, "MemoryReservation": 64 * MIB}),
        (Limits(1000, 64, 1, None), {"CpuQuota": 1000, "MemoryReservation": 64 * MIB}),
    ],
)
def test_what_limits_mean(limits: Limits, expected: dict[str, int]) -> None:
    held = held_to(limits)
    assert expected.items() <= held.items()
    assert ("Memory" in held) == (limits.mem_limit_mib is not None)


@pytest.mark.parametrize(
    ("network", "fields", "mode"),
    [
        (Network.HOST, {}, "host"),
        (Network.BRIDGE, {}, "bridge"),
        (Network.NONE, {}, "none"),
        (Network.USER, {"network_infos": (NetworkInfo(name="blue"),)}, "blue"),
    ],
)
def test_networks(network: Network, fields: dict[str, Any], mode: str) -> None:
    assert body(info({"network": network}, **fields))["HostConfig"]["NetworkMode"] == mode


def test_ports_are_mapped() -> None:
    mappings = (DockerPortMapping(31000, 80), DockerPortMapping(31001, 53, "UDP"), DockerPortMapping(31002, 80))
    asked = info({"network": Network.BRIDGE, "port_mappings": mappings})
    assert problem(asked, PORTS) is None
    bindings = body(asked)["HostConfig"]["PortBindings"]
    assert bindings == {
        "80/tcp": [{"HostPort": "31000"}, {"HostPort": "31002"}],
        "53/udp": [{"HostPort": "31001"}],
    }
    assert body(asked)["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}


def of(kind: VolumeSourceType, path: str = "/m", mode: VolumeMode = VolumeMode.RW, **part: Any) -> Volume:
    return Volume(mode, path, source=VolumeSource(kind, **part))


@pytest.mark.parametrize(
    ("volume", "bind"),
    [
        (Volume(VolumeMode.RO, "/m", host_path="/h"), "/h:/m:ro"),
        (Volume(VolumeMode.RW, "/m", host_path="a/./b"), "/work/sandbox/a/b:/m:rw"),
        (Volume(VolumeMode.RW, "m", host_path="/h"), "/h:/mnt/mesos/sandbox/m:rw"),
        (of(VolumeSourceType.HOST_PATH, host_path=HostPath("/h")), "/h:/m:rw"),
        (
            of(VolumeSourceType.HOST_PATH, host_path=HostPath("/h", MountPropagation(MountPropagationMode.BIDIRECTIONAL))),
            "/h:/m:rw,rshared",
        ),
        (of(VolumeSourceType.SANDBOX_PATH, sandbox_path=SandboxPath("s", SandboxPathType.SELF)), "/work/sandbox/s:/m:rw"),
    ],
)
def test_volumes_of_paths(volume: Volume, bind: str) -> None:
    assert body(info(volumes=(volume,)))["HostConfig"]["Binds"] == ["/work/sandbox:/mnt/mesos/sandbox:rw", bind]


@pytest.mark.parametrize(
    ("volume", "mount"),
    [
        (Volume(VolumeMode.RO, "/m", host_path="a"), {"Source": "/work/ct:1/a", "Target": "/m", "ReadOnly": True}),
        (Volume(VolumeMode.RW, "/m:n", host_path="/h"), {"Source": "/h", "Target": "/m:n", "ReadOnly": False}),
        (
            of(VolumeSourceType.HOST_PATH, host_path=HostPath("/h:", MountPropagation(MountPropagationMode.HOST_TO_CONTAINER))),
            {"Source": "/h:", "Target": "/m", "ReadOnly": False, "BindOptions": {"Propagation": "rslave"}},
        ),
    ],
)
def test_paths_with_a_colon_are_mounted(volume: Volume, mount: dict[str, Any]) -> None:
    launch = LaunchContainer("c", "", ("x",), {}, "/work/ct:1", None, (), LIMITS, info=info(volumes=(volume,)))
    sandbox = {"Type": "bind", "Source": "/work/ct:1", "Target": "/mnt/mesos/sandbox", "ReadOnly": False}
    host = create_body(launch, PLACE, None)["HostConfig"]
    assert (host["Binds"], host["Mounts"]) == ([], [sandbox, {"Type": "bind", **mount}])


def test_what_of_the_sandbox_is_mounted_is_known() -> None:
    volumes = (
        Volume(VolumeMode.RW, "/a", host_path="data"),
        Volume(VolumeMode.RW, "/b", host_path="/h"),
        of(VolumeSourceType.SANDBOX_PATH, sandbox_path=SandboxPath("s/t", SandboxPathType.SELF)),
        of(VolumeSourceType.DOCKER_VOLUME, docker_volume=DockerVolume("v")),
        Volume(VolumeMode.RW, "/nameless"),
    )
    assert sources_in_sandbox(info(volumes=volumes), "/work") == ["/work/data", "/work/s/t"]


def test_volumes_of_the_engine() -> None:
    options = Parameters((Parameter("size", "1"),))
    volumes = (
        of(VolumeSourceType.DOCKER_VOLUME, "/a", docker_volume=DockerVolume("v", "nfs", options)),
        of(VolumeSourceType.DOCKER_VOLUME, "/b", VolumeMode.RO, docker_volume=DockerVolume("w")),
        Volume(VolumeMode.RW, "/c"),
    )
    assert body(info(volumes=volumes))["HostConfig"]["Mounts"] == [
        {
            "Type": "volume",
            "Source": "v",
            "Target": "/a",
            "ReadOnly": False,
            "VolumeOptions": {"DriverConfig": {"Name": "nfs", "Options": {"size": "1"}}},
        },
        {"Type": "volume", "Source": "w", "Target": "/b", "ReadOnly": True},
        {"Type": "volume", "Target": "/c", "ReadOnly": False},
    ]


@pytest.mark.parametrize(
    ("key", "value", "where", "expected"),
    [
        ("label", "a=b=c", ("Labels", "a"), "b=c"),
        ("--env", "B=2", ("Env", -1), "B=2"),
        ("v", "/h:/m:ro", ("HostConfig", "Binds", -1), "/h:/m:ro"),
        ("volume", "/nameless", ("HostConfig", "Mounts", -1, "Target"), "/nameless"),
        ("ulimit", "nofile=10:20", ("HostConfig", "Ulimits", 0), {"Name": "nofile", "Soft": 10, "Hard": 20}),
        ("ulimit", "core=0", ("HostConfig", "Ulimits", 0), {"Name": "core", "Soft": 0, "Hard": 0}),
        ("cap-add", "NET_ADMIN", ("HostConfig", "CapAdd", 0), "NET_ADMIN"),
        ("cap-drop", "ALL", ("HostConfig", "CapDrop", 0), "ALL"),
        ("dns", "1.1.1.1", ("HostConfig", "Dns", 0), "1.1.1.1"),
        ("add-host", "h:1.2.3.4", ("HostConfig", "ExtraHosts", 0), "h:1.2.3.4"),
        ("w", "/here", ("WorkingDir",), "/here"),
        ("user", "nobody", ("User",), "nobody"),
        ("memory-swap", "-1", ("HostConfig", "MemorySwap"), -1),
        ("shm-size", "64m", ("HostConfig", "ShmSize"), 64 * MIB),
        ("init", "true", ("HostConfig", "Init"), True),
        ("read-only", "", ("HostConfig", "ReadonlyRootfs"), True),
        ("tmpfs", "/t:size=1m", ("HostConfig", "Tmpfs"), {"/t": "size=1m"}),
        ("device", "/dev/fuse", ("HostConfig", "Devices", 0, "PathInContainer"), "/dev/fuse"),
        ("log-driver", "local", ("HostConfig", "LogConfig", "Type"), "local"),
        ("log-opt", "max-size=1m", ("HostConfig", "LogConfig", "Config"), {"max-size": "1m"}),
        ("net-alias", "web", ("NetworkingConfig", "EndpointsConfig", "net", "Aliases"), ["web"]),
        ("entrypoint", "/run", ("Entrypoint",), ["/run"]),
        ("sysctl", "a.b=1", ("HostConfig", "Sysctls"), {"a.b": "1"}),
    ],
)
def test_parameters(key: str, value: str, where: tuple[str | int, ...], expected: object) -> None:
    found = body(parameter(key, value), user=(1, 1))
    for step in where:
        found = found[step]
    assert found == expected


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (parameter("restart", "always"), "'restart' is not for tasks to give: the agent starts, watches and removes the container"),
        (parameter("m", "1g"), "'m' is not for tasks to give: what a container is held to comes from the task's resources"),
        (parameter("p", "80:80"), "docker.port_mappings"),
        (parameter("gpus", "all"), "'gpus' is not supported; supported are add-host"),
        (parameter("shm-size", "big"), "'shm-size' cannot be 'big': a number of bytes is needed"),
        (parameter("ulimit", "nofile"), "NAME=VALUE is needed"),
        (parameter("init", "maybe"), "true or false"),
        (parameter("label", "meseta.agent=/other"), "does not begin with 'meseta.'"),
        (info({"parameters": (Parameter("network-alias", "web"),)}), "needs the network USER, not HOST"),
        (info({"image": ""}), "must name an image"),
        (info({"network": Network.USER}), "exactly one name in 'network_infos', not 0"),
        (info(network_infos=(NetworkInfo(name="blue"),)), "'blue' needs 'docker.network' to be USER"),
        (info(network_infos=(NetworkInfo(port_mappings=(PortMapping(1, 2),)),)), "'docker.port_mappings'"),
        (info({"port_mappings": (DockerPortMapping(31000, 80),)}), "not in HOST"),
        (info({"network": Network.BRIDGE, "port_mappings": (DockerPortMapping(31000, 80, "icmp"),)}), "'icmp' is none of tcp"),
        (
            info({"network": Network.BRIDGE, "port_mappings": (DockerPortMapping(31006, 80),)}),
            "host port 31006 is not among the ports that the task has: 31000-31005, 31010",
        ),
        (info(volumes=(Volume(VolumeMode.RW, "/m", host_path="../x"),)), "leads out of the sandbox"),
        (info(volumes=(Volume(VolumeMode.RW, "/m", image=Image(ImageType.DOCKER)),)), "is an image"),
        (info(volumes=(of(VolumeSourceType.SECRET),)), "of the type SECRET"),
        (
            info(volumes=(of(VolumeSourceType.SANDBOX_PATH, sandbox_path=SandboxPath("s", SandboxPathType.PARENT)),)),
            "in the task's own sandbox",
        ),
        (info(linux_info=LinuxInfo(capability_info=CapabilityInfo())), "'cap-add'"),
        (info(linux_info=LinuxInfo(seccomp=SeccompInfo())), "'security-opt'"),
        (info(linux_info=LinuxInfo(shm_size=1)), "'shm-size'"),
        (info(tty_info=TTYInfo()), "no terminal"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(asked: ContainerInfo, says: str) -> None:
    assert says in (problem(asked, PORTS) or "")


def test_resource_limits() -> None:
    asked = info(rlimit_info=RLimitInfo((RLimit(RLimitType.RLMT_NOFILE, 20, 10), RLimit(RLimitType.RLMT_CORE))))
    assert body(asked)["HostConfig"]["Ulimits"] == [
        {"Name": "nofile", "Soft": 10, "Hard": 20},
        {"Name": "core", "Soft": -1, "Hard": -1},
    ]


def test_what_is_decided_elsewhere_has_no_meaning_of_its_own() -> None:
    assert not _MEANING.keys() & _DECIDED.keys()
