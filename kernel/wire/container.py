"""What a container is made of: image, network, Linux settings, limits; and what is told of a running one."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import ProtoMessage, UInt32, UInt64, declared
from kernel.wire.common import Image, Labels, Parameter, Volume
from kernel.wire.ids import ContainerID


class ContainerType(Enum):
    DOCKER = "DOCKER"
    MESOS = "MESOS"


class Network(Enum):
    """How a Docker container is attached to the network."""

    HOST = "HOST"
    BRIDGE = "BRIDGE"
    NONE = "NONE"
    USER = "USER"


class DockerPortMapping(ProtoMessage, frozen=True):
    host_port: UInt32
    container_port: UInt32
    protocol: str | None = None


class DockerInfo(ProtoMessage, frozen=True):
    image: str
    network: Network = field(default_factory=declared(Network.HOST))
    port_mappings: tuple[DockerPortMapping, ...] = ()
    privileged: bool = field(default_factory=declared(False))
    parameters: tuple[Parameter, ...] = ()
    force_pull_image: bool | None = None
    volume_driver: str | None = None


class MesosInfo(ProtoMessage, frozen=True):
    image: Image | None = None


class Protocol(Enum):
    """The NetworkInfo.Protocol of v1."""

    IPv4 = "IPv4"
    IPv6 = "IPv6"


class IPAddress(ProtoMessage, frozen=True):
    protocol: Protocol = field(default_factory=declared(Protocol.IPv4))
    ip_address: str | None = None


class PortMapping(ProtoMessage, frozen=True):
    """The NetworkInfo.PortMapping of v1."""

    host_port: UInt32
    container_port: UInt32
    protocol: str | None = None


class NetworkInfo(ProtoMessage, frozen=True):
    """A network a container asks for or has joined. name: a CNI network, None the host's."""

    ip_addresses: tuple[IPAddress, ...] = ()
    name: str | None = None
    groups: tuple[str, ...] = ()
    labels: Labels | None = None
    port_mappings: tuple[PortMapping, ...] = ()


class LinuxCapability(Enum):
    """The CapabilityInfo.Capability of v1: what capabilities(7) names CAP_..."""

    UNKNOWN = "UNKNOWN"
    CHOWN = "CHOWN"
    DAC_OVERRIDE = "DAC_OVERRIDE"
    DAC_READ_SEARCH = "DAC_READ_SEARCH"
    FOWNER = "FOWNER"
    FSETID = "FSETID"
    KILL = "KILL"
    SETGID = "SETGID"
    SETUID = "SETUID"
    SETPCAP = "SETPCAP"
    LINUX_IMMUTABLE = "LINUX_IMMUTABLE"
    NET_BIND_SERVICE = "NET_BIND_SERVICE"
    NET_BROADCAST = "NET_BROADCAST"
    NET_ADMIN = "NET_ADMIN"
    NET_RAW = "NET_RAW"
    IPC_LOCK = "IPC_LOCK"
    IPC_OWNER = "IPC_OWNER"
    SYS_MODULE = "SYS_MODULE"
    SYS_RAWIO = "SYS_RAWIO"
    SYS_CHROOT = "SYS_CHROOT"
    SYS_PTRACE = "SYS_PTRACE"
    SYS_PACCT = "SYS_PACCT"
    SYS_ADMIN = "SYS_ADMIN"
    SYS_BOOT = "SYS_BOOT"
    SYS_NICE = "SYS_NICE"
    SYS_RESOURCE = "SYS_RESOURCE"
    SYS_TIME = "SYS_TIME"
    SYS_TTY_CONFIG = "SYS_TTY_CONFIG"
    MKNOD = "MKNOD"
    LEASE = "LEASE"
    AUDIT_WRITE = "AUDIT_WRITE"
    AUDIT_CONTROL = "AUDIT_CONTROL"
    SETFCAP = "SETFCAP"
    MAC_OVERRIDE = "MAC_OVERRIDE"
    MAC_ADMIN = "MAC_ADMIN"
    SYSLOG = "SYSLOG"
    WAKE_ALARM = "WAKE_ALARM"
    BLOCK_SUSPEND = "BLOCK_SUSPEND"
    AUDIT_READ = "AUDIT_READ"
    PERFMON = "PERFMON"
    BPF = "BPF"
    CHECKPOINT_RESTORE = "CHECKPOINT_RESTORE"


class CapabilityInfo(ProtoMessage, frozen=True):
    capabilities: tuple[LinuxCapability, ...] = ()


class SeccompInfo(ProtoMessage, frozen=True):
    profile_name: str | None = None
    unconfined: bool | None = None


class IpcMode(Enum):
    UNKNOWN = "UNKNOWN"
    PRIVATE = "PRIVATE"
    SHARE_PARENT = "SHARE_PARENT"


class LinuxInfo(ProtoMessage, frozen=True):
    """shm_size: megabytes, with a private ipc_mode only."""

    capability_info: CapabilityInfo | None = None
    bounding_capabilities: CapabilityInfo | None = None
    effective_capabilities: CapabilityInfo | None = None
    share_pid_namespace: bool | None = None
    seccomp: SeccompInfo | None = None
    ipc_mode: IpcMode | None = None
    shm_size: UInt32 | None = None
    share_cgroups: bool = field(default_factory=declared(True))


class RLimitType(Enum):
    UNKNOWN = "UNKNOWN"
    RLMT_AS = "RLMT_AS"
    RLMT_CORE = "RLMT_CORE"
    RLMT_CPU = "RLMT_CPU"
    RLMT_DATA = "RLMT_DATA"
    RLMT_FSIZE = "RLMT_FSIZE"
    RLMT_LOCKS = "RLMT_LOCKS"
    RLMT_MEMLOCK = "RLMT_MEMLOCK"
    RLMT_MSGQUEUE = "RLMT_MSGQUEUE"
    RLMT_NICE = "RLMT_NICE"
    RLMT_NOFILE = "RLMT_NOFILE"
    RLMT_NPROC = "RLMT_NPROC"
    RLMT_RSS = "RLMT_RSS"
    RLMT_RTPRIO = "RLMT_RTPRIO"
    RLMT_RTTIME = "RLMT_RTTIME"
    RLMT_SIGPENDING = "RLMT_SIGPENDING"
    RLMT_STACK = "RLMT_STACK"


class RLimit(ProtoMessage, frozen=True):
    type: RLimitType | None = None
    hard: UInt64 | None = None
    soft: UInt64 | None = None


class RLimitInfo(ProtoMessage, frozen=True):
    rlimits: tuple[RLimit, ...] = ()


class WindowSize(ProtoMessage, frozen=True):
    rows: UInt32
    columns: UInt32


class TTYInfo(ProtoMessage, frozen=True):
    window_size: WindowSize | None = None


class ContainerInfo(ProtoMessage, frozen=True):
    """type: required by Mesos; clients that send an empty message mean no particular container."""

    type: ContainerType = field(default_factory=declared(ContainerType.MESOS))
    volumes: tuple[Volume, ...] = ()
    hostname: str | None = None
    docker: DockerInfo | None = None
    mesos: MesosInfo | None = None
    network_infos: tuple[NetworkInfo, ...] = ()
    linux_info: LinuxInfo | None = None
    rlimit_info: RLimitInfo | None = None
    tty_info: TTYInfo | None = None


class NetCls(ProtoMessage, frozen=True):
    classid: UInt32 | None = None


class CgroupInfo(ProtoMessage, frozen=True):
    net_cls: NetCls | None = None


class ContainerStatus(ProtoMessage, frozen=True):
    """What is known of a running container; network_infos holds the agent's own address for one on the host's network."""

    container_id: ContainerID | None = None
    network_infos: tuple[NetworkInfo, ...] = ()
    cgroup_info: CgroupInfo | None = None
    executor_pid: UInt32 | None = None
