"""What the Docker engine is asked for, by what a framework asked of us (spec: mesos-v1, sections 8.6 and 15). Pure.

Bodies are those of the engine's own `POST /containers/create`. Whatever cannot be given is refused by name, before anything is done.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from kernel.agent.containerizer.docker_parameters import DockerOptionError, apply
from kernel.agent.effects import LaunchContainer
from kernel.agent.isolators.limits import Limits
from kernel.wire.common import MountPropagationMode, SandboxPathType, Volume, VolumeMode, VolumeSourceType
from kernel.wire.container import ContainerInfo, DockerInfo, Network
from kernel.wire.resources import Resource
from kernel.wire.values import Spans, span_contains, to_spans

AGENT_LABEL = "meseta.agent"  # Whose container it is.
CONTAINER_LABEL = "meseta.container"
SANDBOX_LABEL = "meseta.sandbox"  # Where its output goes.

CPU_PERIOD_US = 100_000
CPU_QUOTA_US_MIN = 1_000  # The kernel takes no less.
MEMORY_MIB_MIN = 32  # As in Mesos; below some 6 MiB the engine starts nothing.
MIB = 1 << 20
PROTOCOLS = ("tcp", "udp", "sctp")
_PROPAGATION = {MountPropagationMode.HOST_TO_CONTAINER: "rslave", MountPropagationMode.BIDIRECTIONAL: "rshared"}

Body = dict[str, Any]


class Place(Struct, frozen=True):
    """owner: what tells our containers from those of other agents. sandbox_directory: where a container sees its sandbox."""

    owner: str
    sandbox_directory: str


def container_name(container_id: str) -> str:
    return f"mesos-{container_id}"


def problem(info: ContainerInfo, given: Iterable[Resource]) -> str | None:
    """Why a container that is given these resources cannot be had, in words for its user; None when it can."""
    try:
        from_info(info, "/", "/")
        assert info.docker is not None
        held = _ports(given)
        for mapping in info.docker.port_mappings:
            if not span_contains(held, ((mapping.host_port, mapping.host_port),)):
                raise DockerOptionError(f"host port {mapping.host_port} is not among the ports that the task has: {_text(held)}")
    except DockerOptionError as error:
        return str(error)
    return None


def create_body(launch: LaunchContainer, place: Place, user: tuple[int, int] | None) -> Body:
    """All that the engine is asked for. user: the ids to run as, None for those of the image. Raises DockerOptionError."""
    assert launch.info is not None
    host: Body = {**held_to(launch.limits), "Binds": [], "Mounts": []}
    _bind(host, launch.directory, place.sandbox_directory, "rw")
    for mount in launch.volumes:
        target = posixpath.join(place.sandbox_directory, mount.container_path)
        _bind(host, mount.place.path, target, "ro" if mount.read_only else "rw")
    body: Body = {
        "Image": image(launch.info),
        "Env": [f"{name}={value}" for name, value in _environment(launch, place).items()],
        "Labels": {AGENT_LABEL: place.owner, CONTAINER_LABEL: launch.container_id, SANDBOX_LABEL: launch.directory},
        "HostConfig": host,
    }
    if launch.gpus:  # As `docker run --gpus device=...` asks.
        body["HostConfig"]["DeviceRequests"] = [{"DeviceIDs": [gpu.uuid for gpu in launch.gpus], "Capabilities": [["gpu"]]}]
    if launch.shell:
        body |= {"Entrypoint": ["/bin/sh", "-c"], "Cmd": [launch.argv[-1]]}
    elif launch.argv:
        body["Cmd"] = list(launch.argv)
    if user is not None:
        body["User"] = user_text(user)
    return _merged(body, from_info(launch.info, launch.directory, place.sandbox_directory))


def user_text(user: tuple[int, int] | None) -> str:
    """The engine's words for ids; empty for whoever the container's user is."""
    return "" if user is None else f"{user[0]}:{user[1]}"


def image(info: ContainerInfo) -> str:
    """The image's name, with the tag or digest that is meant. Raises DockerOptionError."""
    if info.docker is None or not info.docker.image:
        raise DockerOptionError("'container.docker.image' must name an image")
    return info.docker.image


def held_to(limits: Limits) -> Body:
    """The engine's words for limits. Swap counts as memory: a container gets none."""
    body: Body = {"CpuShares": limits.cpu_shares}
    if limits.cpu_limit_milli is not None:
        quota = max(CPU_QUOTA_US_MIN, limits.cpu_limit_milli * CPU_PERIOD_US // 1000)
        body |= {"CpuPeriod": CPU_PERIOD_US, "CpuQuota": quota}
    if limits.mem_mib:
        body["MemoryReservation"] = max(MEMORY_MIB_MIN, limits.mem_mib) * MIB
    if limits.mem_limit_mib:
        at_most = max(MEMORY_MIB_MIN, limits.mem_limit_mib) * MIB
        body |= {"Memory": at_most, "MemorySwap": at_most}
    if limits.pids_max is not None:
        body["PidsLimit"] = limits.pids_max
    return body


def from_info(info: ContainerInfo, sandbox: str, sandbox_directory: str) -> Body:
    """What ContainerInfo alone decides; sandbox: where it is on the machine. Raises DockerOptionError."""
    docker = info.docker
    image(info)
    assert docker is not None
    _refuse_others(info)
    host: Body = {"Binds": [], "Mounts": []}
    body: Body = {"HostConfig": host}
    if info.hostname is not None:
        body["Hostname"] = info.hostname
    if docker.privileged:
        host["Privileged"] = True
    _network(body, info, docker)
    _map_ports(body, docker)
    for volume in info.volumes:
        _mount(host, volume, docker.volume_driver, sandbox, sandbox_directory)
    if info.rlimit_info is not None:
        host["Ulimits"] = [_ulimit(limit.type, limit.soft, limit.hard) for limit in info.rlimit_info.rlimits]
    for parameter in docker.parameters:
        apply(body, parameter.key, parameter.value)
    return body


def _refuse_others(info: ContainerInfo) -> None:
    linux = info.linux_info
    if linux is not None and (linux.capability_info or linux.effective_capabilities or linux.bounding_capabilities):
        raise DockerOptionError("capabilities of a docker container are given by the parameters 'cap-add' and 'cap-drop'")
    if linux is not None and linux.seccomp is not None:
        raise DockerOptionError("the seccomp profile of a docker container is given by the parameter 'security-opt'")
    if linux is not None and (linux.share_pid_namespace is not None or linux.ipc_mode is not None or linux.shm_size is not None):
        raise DockerOptionError("namespaces of a docker container are given by the parameters 'pid', 'ipc' and 'shm-size'")
    if info.tty_info is not None:
        raise DockerOptionError("docker containers have no terminal here ('container.tty_info')")


def _environment(launch: LaunchContainer, place: Place) -> dict[str, str]:
    ours = {"MESOS_SANDBOX": place.sandbox_directory, "MESOS_CONTAINER_NAME": container_name(launch.container_id)}
    return launch.env | ours


def _merged(body: Body, more: Body) -> Body:
    """Both; lists one after the other, where both say the same thing the second is right."""
    merged = dict(body)
    for key, value in more.items():
        had = merged.get(key)
        if isinstance(had, dict) and isinstance(value, dict):
            merged[key] = _merged(had, value)
        elif isinstance(had, list) and isinstance(value, list) and key not in ("Cmd", "Entrypoint"):
            merged[key] = had + value
        else:
            merged[key] = value
    return merged


# ---- Networks -------------------------------------------------------------------------------------------


def _network(body: Body, info: ContainerInfo, docker: DockerInfo) -> None:
    named = [network.name for network in info.network_infos if network.name]
    if any(network.port_mappings for network in info.network_infos):
        raise DockerOptionError("ports of a docker container are mapped by 'docker.port_mappings', not by 'network_infos'")
    if docker.network is not Network.USER:
        if named:
            raise DockerOptionError(f"the network '{named[0]}' needs 'docker.network' to be USER")
        body["HostConfig"]["NetworkMode"] = docker.network.value.lower()
        return
    if len(named) != 1:
        raise DockerOptionError(f"the network USER needs exactly one name in 'network_infos', not {len(named)}")
    body["HostConfig"]["NetworkMode"] = named[0]


def _map_ports(body: Body, docker: DockerInfo) -> None:
    if docker.port_mappings and docker.network not in (Network.BRIDGE, Network.USER):
        raise DockerOptionError(f"ports can be mapped in the networks BRIDGE and USER, not in {docker.network.value}")
    bindings: dict[str, list[dict[str, str]]] = {}
    for mapping in docker.port_mappings:
        protocol = (mapping.protocol or "tcp").lower()
        if protocol not in PROTOCOLS:
            raise DockerOptionError(f"a port's protocol '{mapping.protocol}' is none of {', '.join(PROTOCOLS)}")
        bindings.setdefault(f"{mapping.container_port}/{protocol}", []).append({"HostPort": str(mapping.host_port)})
    if bindings:
        body["ExposedPorts"] = {port: {} for port in bindings}
        body["HostConfig"]["PortBindings"] = bindings


def _ports(given: Iterable[Resource]) -> Spans:
    ranges = [part for resource in given if resource.name == "ports" and resource.ranges for part in resource.ranges.range]
    return to_spans(ranges, "ports")


def _text(spans: Spans) -> str:
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans) or "none"


# ---- Volumes --------------------------------------------------------------------------------------------


def _mount(host: Body, volume: Volume, driver: str | None, sandbox: str, sandbox_directory: str) -> None:
    target, read_only = posixpath.join(sandbox_directory, volume.container_path), volume.mode is VolumeMode.RO
    mode = "ro" if read_only else "rw"
    source = volume.source
    if volume.image is not None:
        raise DockerOptionError(f"the volume at {target} is an image: such volumes are not supported yet")
    if volume.host_path is not None:
        _bind(host, _on_host(volume.host_path, sandbox), target, mode)
    elif source is None:
        host["Mounts"].append({"Type": "volume", "Target": target, "ReadOnly": read_only})
    elif source.type is VolumeSourceType.HOST_PATH and source.host_path is not None:
        propagation = source.host_path.mount_propagation
        extra = _PROPAGATION.get(propagation.mode) if propagation is not None and propagation.mode is not None else None
        _bind(host, _on_host(source.host_path.path, sandbox), target, mode, extra)
    elif source.type is VolumeSourceType.SANDBOX_PATH and source.sandbox_path is not None:
        if source.sandbox_path.type is SandboxPathType.PARENT or source.sandbox_path.path.startswith("/"):
            raise DockerOptionError(f"the volume at {target} can only be a relative path in the task's own sandbox")
        _bind(host, _on_host(source.sandbox_path.path, sandbox), target, mode)
    elif source.type is VolumeSourceType.DOCKER_VOLUME and source.docker_volume is not None:
        wanted = source.docker_volume
        mount: Body = {"Type": "volume", "Source": wanted.name, "Target": target, "ReadOnly": read_only}
        if wanted.driver or driver:
            parameters = wanted.driver_options.parameter if wanted.driver_options is not None else ()
            options_of_driver = {parameter.key: parameter.value for parameter in parameters}
            mount["VolumeOptions"] = {"DriverConfig": {"Name": wanted.driver or driver, "Options": options_of_driver}}
        host["Mounts"].append(mount)
    else:
        kind = source.type.value if source.type is not None else "none"
        raise DockerOptionError(f"the volume at {target} has a source of the type {kind}: not supported for docker containers")


def _on_host(path: str, sandbox: str) -> str:
    """A path of the machine; relative ones are in the sandbox, and stay there."""
    if not posixpath.isabs(path) and ".." in path.split("/"):
        raise DockerOptionError(f"the volume's path '{path}' leads out of the sandbox")
    return posixpath.normpath(posixpath.join(sandbox, path))


def _bind(host: Body, source: str, target: str, mode: str, propagation: str | None = None) -> None:
    """As `docker run --volume` has it, where the engine makes a source that is missing. That form knows no path with a colon, and ids of
    Chronos' tasks have some; in the other a source must be there."""
    if ":" in source or ":" in target:
        options = {"BindOptions": {"Propagation": propagation}} if propagation else {}
        host["Mounts"].append({"Type": "bind", "Source": source, "Target": target, "ReadOnly": mode == "ro", **options})
    else:
        host["Binds"].append(f"{source}:{target}:{mode},{propagation}" if propagation else f"{source}:{target}:{mode}")


def sources_in_sandbox(info: ContainerInfo, sandbox: str) -> list[str]:
    """What of the sandbox is mounted somewhere else, too: paths of the machine."""
    return [_on_host(path, sandbox) for path in map(_path_of, info.volumes) if path and not posixpath.isabs(path)]


def _path_of(volume: Volume) -> str | None:
    source = volume.source
    if volume.host_path is not None or source is None:
        return volume.host_path
    place = source.host_path if source.type is VolumeSourceType.HOST_PATH else source.sandbox_path
    return place.path if place is not None else None


# ---- Resource limits ------------------------------------------------------------------------------------


def _ulimit(kind: Any, soft: int | None, hard: int | None) -> Body:
    name = kind.value.removeprefix("RLMT_").lower() if kind is not None else "unknown"
    return {"Name": name, "Soft": -1 if soft is None else soft, "Hard": -1 if hard is None else hard}
