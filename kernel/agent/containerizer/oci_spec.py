"""What runc is told of a container: the `config.json` of an OCI bundle. Pure. Source: OCI runtime-spec 1.0.2, config.md, config-linux.md.

The container has namespaces of its own for processes, mounts, host name and IPC, and the machine's network unless it joins others. It has
the capabilities that Docker gives, no new privileges by set-id programs, a filter of system calls, and the kernel's sensitive files are
hidden or read-only.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from kernel.agent.containerizer import seccomp
from kernel.agent.containerizer.seccomp import Profile
from kernel.agent.images.config import RunConfig
from kernel.agent.networks import wishes
from kernel.agent.volumes.places import Mount
from kernel.wire.common import ImageType, Volume, VolumeMode, VolumeSourceType
from kernel.wire.container import CapabilityInfo, ContainerInfo

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAPABILITIES = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID",
    "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
MASKED = (
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DEVICES = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2))  # null, zero, full, random, urandom, tty, ptmx.
SHM_MIB = 64
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")


class User(Struct, frozen=True):
    """Whom the container's process runs as, inside."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class DeviceFile(Struct, frozen=True):
    """A character device of this machine that the container gets at path."""

    path: str
    major: int
    minor: int


class Bundle(Struct, frozen=True):
    """What else there is to say. env, argv: of the task; sandbox: on this machine, seen in the container at sandbox_path; cgroup: as runc
    names it; network: the file of its namespace, empty for the machine's; files: those that depend on it (NETWORK_FILES), by their paths in
    the container, and where they are on this machine; seccomp: None for no filter; machine, release: what `uname` says; gpu_hook: a program
    of the driver's that puts its libraries into the container, "" none; volumes: persistent ones."""

    container_id: str
    rootfs: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    shell: bool
    sandbox: str
    sandbox_path: str
    cgroup: str
    user: User
    info: ContainerInfo
    network: str = ""
    files: Mapping[str, str] = {}
    seccomp: Profile | None = None
    machine: str = ""
    release: str = ""
    devices: tuple[DeviceFile, ...] = ()
    gpu_hook: str = ""
    volumes: tuple[Mount, ...] = ()


def unsupported_in_image(info: ContainerInfo) -> str | None:
    """What a container asks for that cannot be given, in words for its user."""
    image = info.mesos.image if info.mesos is not None else None
    if image is not None and (image.type is not ImageType.DOCKER or image.docker is None):
        return f"'container.mesos.image': images of type {image.type.value} are not supported; DOCKER is, with 'docker.name'"
    problem = wishes.problem(info.network_infos)
    if problem is not None:
        return problem
    for volume in info.volumes:
        problem = _volume_problem(volume)
        if problem is not None:
            return problem
    asked = info.linux_info.seccomp if info.linux_info is not None else None
    if asked is not None and asked.unconfined and asked.profile_name:
        return "'container.linux_info.seccomp': 'profile_name' and 'unconfined' exclude each other"
    return None


def _volume_problem(volume: Volume) -> str | None:
    if volume.image is not None:
        return f"volume {volume.container_path}: images as volumes are not supported"
    kind = volume.source.type if volume.source is not None else None
    if kind is not None and kind not in (VolumeSourceType.HOST_PATH, VolumeSourceType.SANDBOX_PATH):
        return f"volume {volume.container_path}: a source of type {kind.value} is not supported; HOST_PATH and SANDBOX_PATH are"
    if ".." in volume.container_path.split("/"):
        return f"volume {volume.container_path}: container_path must not contain '..'"
    return None


def arguments(argv: Sequence[str], shell: bool, image: RunConfig) -> list[str]:
    """What is executed: a shell command as it is; else after the image's entry point, with its own command where none is given."""
    if shell:
        return list(argv)
    return [*(image.entrypoint or ()), *(argv or image.cmd or ())]


def environment(given: Mapping[str, str], image: RunConfig) -> list[str]:
    """The image's variables, then the task's."""
    variables = {"PATH": PATH}
    for entry in image.env or ():
        name, _, value = entry.partition("=")
        variables[name] = value
    return overridden([f"{name}={value}" for name, value in variables.items()], given)


def overridden(entries: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """Variables, as `NAME=VALUE`, with others that win over them."""
    variables = dict(entry.split("=", 1) for entry in entries)
    variables.update(given)
    return [f"{name}={value}" for name, value in variables.items()]


def hostname(info: ContainerInfo, container_id: str) -> str:
    return info.hostname or container_id[:63]


def spec(bundle: Bundle, image: RunConfig) -> dict[str, Any]:
    """The whole `config.json`."""
    info, linux = bundle.info, bundle.info.linux_info
    capabilities = _capabilities(linux.bounding_capabilities if linux else None, CAPABILITIES)
    effective = _capabilities((linux.effective_capabilities or linux.capability_info) if linux else None, capabilities)
    namespaces = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")]
    if linux is not None and linux.share_pid_namespace:
        namespaces.remove({"type": "pid"})
    if bundle.network:
        namespaces.append({"type": "network", "path": bundle.network})
    whole = {
        "ociVersion": "1.0.2",
        "hostname": hostname(info, bundle.container_id),
        "root": {"path": bundle.rootfs, "readonly": False},
        "process": {
            "terminal": False,
            "user": {"uid": bundle.user.uid, "gid": bundle.user.gid, "additionalGids": list(bundle.user.groups)},
            "args": arguments(bundle.argv, bundle.shell, image),
            "env": environment(bundle.env, image),
            "cwd": image.working_dir or bundle.sandbox_path,
            "capabilities": {
                "bounding": capabilities,
                "permitted": effective,
                "effective": effective if bundle.user.uid == 0 else [],
                "inheritable": [],
                "ambient": [],
            },
            "noNewPrivileges": True,
            "rlimits": _rlimits(info),
        },
        "mounts": [*_SYSTEM_MOUNTS, _SYS_OF_NETWORK if bundle.network else _SYS, _shm(info), *_volumes(bundle)],
        "linux": {
            "cgroupsPath": bundle.cgroup,
            "resources": {"devices": [{"allow": False, "access": "rwm"}, *_devices(bundle)]},
            "devices": [_device(device) for device in bundle.devices],
            "namespaces": namespaces,
            **_seccomp(bundle, capabilities),
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"} if bundle.network else {},
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
        },
    }
    if bundle.gpu_hook:
        hook = {"path": bundle.gpu_hook, "args": [bundle.gpu_hook.rpartition("/")[2], "prestart"]}
        whole["hooks"] = {"prestart": [hook]}
    return whole


_SYSTEM_MOUNTS: tuple[dict[str, Any], ...] = (
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
)
_SYS: dict[str, Any] = {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]}
_SYS_OF_NETWORK = _SYS | {"type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}  # With its devices.


def _seccomp(bundle: Bundle, capabilities: Sequence[str]) -> dict[str, Any]:
    if bundle.seccomp is None:
        return {}
    return {"seccomp": seccomp.told(bundle.seccomp, seccomp.Place(bundle.machine, bundle.release, capabilities))}


def _shm(info: ContainerInfo) -> dict[str, Any]:
    size_mib = info.linux_info.shm_size if info.linux_info is not None and info.linux_info.shm_size is not None else SHM_MIB
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={size_mib}m"]
    return {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options}


def _volumes(bundle: Bundle) -> list[dict[str, Any]]:
    found = [_bind(bundle.sandbox, bundle.sandbox_path, "rw")]
    found += [_bind(source, path, "ro") for path, source in bundle.files.items()]
    for mount in bundle.volumes:
        target = posixpath.join(bundle.sandbox_path, mount.container_path)
        found.append(_bind(mount.place.path, target, "ro" if mount.read_only else "rw"))
    for volume in bundle.info.volumes:
        target = volume.container_path if volume.container_path.startswith("/") else f"{bundle.sandbox_path}/{volume.container_path}"
        found.append(_bind(volume_source(volume, bundle.sandbox), target, "ro" if volume.mode is VolumeMode.RO else "rw"))
    return found


def volume_source(volume: Volume, sandbox: str) -> str:
    """Where a volume is on this machine. Relative: in the sandbox."""
    path = volume.host_path or ""
    if volume.source is not None and volume.source.host_path is not None:
        path = volume.source.host_path.path
    if volume.source is not None and volume.source.sandbox_path is not None:
        path = volume.source.sandbox_path.path.lstrip("/")
    return path if path.startswith("/") else f"{sandbox}/{path}"


def _bind(source: str, destination: str, mode: str) -> dict[str, Any]:
    return {"destination": destination, "type": "none", "source": source, "options": ["rbind", "rprivate", mode]}


def _capabilities(asked: CapabilityInfo | None, otherwise: Collection[str]) -> list[str]:
    names = otherwise if asked is None else [capability.value for capability in asked.capabilities]
    return [name if name.startswith("CAP_") else f"CAP_{name}" for name in names]


def _rlimits(info: ContainerInfo) -> list[dict[str, Any]]:
    limits = info.rlimit_info.rlimits if info.rlimit_info is not None else ()
    unlimited = 2**64 - 1
    return [
        {
            "type": f"RLIMIT_{limit.type.value.removeprefix('RLMT_')}",
            "hard": unlimited if limit.hard is None else limit.hard,
            "soft": unlimited if limit.soft is None else limit.soft,
        }
        for limit in limits
        if limit.type is not None
    ]


def _device(device: DeviceFile) -> dict[str, Any]:
    return {"path": device.path, "type": "c", "major": device.major, "minor": device.minor, "fileMode": 0o666, "uid": 0, "gid": 0}


def _devices(bundle: Bundle) -> list[dict[str, Any]]:
    numbers = (*DEVICES, *((device.major, device.minor) for device in bundle.devices))
    allowed = [{"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in numbers]
    return [*allowed, {"allow": True, "type": "c", "major": 136, "access": "rwm"}, {"allow": True, "access": "m"}]
