"""Tasks and their executors. Re-exports the parts they are made of, so that users need not know which module holds which."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import ProtoMessage
from kernel.wire.command import (
    URI,
    CheckCommand,
    CheckHttp,
    CheckInfo,
    CheckStatusCommand,
    CheckStatusHttp,
    CheckStatusInfo,
    CheckStatusTcp,
    CheckTcp,
    CheckType,
    CommandInfo,
    DiscoveryInfo,
    Environment,
    HealthCheck,
    HTTPCheckInfo,
    KillPolicy,
    Port,
    Ports,
    TCPCheckInfo,
    Variable,
    VariableType,
    Visibility,
)
from kernel.wire.common import (
    URL,
    AccessMode,
    AccessModeMode,
    Address,
    BlockVolume,
    Credential,
    Credentials,
    CSIVolume,
    DockerVolume,
    DomainInfo,
    DurationInfo,
    FaultDomain,
    HostPath,
    Image,
    ImageAppc,
    ImageDocker,
    ImageType,
    Label,
    Labels,
    MountPropagation,
    MountPropagationMode,
    MountVolume,
    Parameter,
    Parameters,
    RegionInfo,
    SandboxPath,
    SandboxPathType,
    Secret,
    SecretReference,
    SecretType,
    SecretValue,
    StaticProvisioning,
    TimeInfo,
    Volume,
    VolumeCapability,
    VolumeMode,
    VolumeSource,
    VolumeSourceType,
    ZoneInfo,
)
from kernel.wire.container import (
    CapabilityInfo,
    CgroupInfo,
    ContainerInfo,
    ContainerStatus,
    ContainerType,
    DockerInfo,
    DockerPortMapping,
    IPAddress,
    IpcMode,
    LinuxCapability,
    LinuxInfo,
    MesosInfo,
    NetCls,
    Network,
    NetworkInfo,
    PortMapping,
    Protocol,
    RLimit,
    RLimitInfo,
    RLimitType,
    SeccompInfo,
    TTYInfo,
    WindowSize,
)
from kernel.wire.framework import (
    Capability,
    FrameworkCapability,
    FrameworkInfo,
    MinAllocatableResources,
    OfferFilters,
    ResourceQuantities,
)
from kernel.wire.ids import (
    AgentID,
    ExecutorID,
    FrameworkID,
    TaskID,
)
from kernel.wire.nodes import (
    AgentCapability,
    AgentInfo,
    AgentInfoCapability,
    Attribute,
    DrainConfig,
    DrainInfo,
    DrainState,
    MachineID,
    MachineInfo,
    MachineMode,
    MasterCapability,
    MasterInfo,
    MasterInfoCapability,
    Unavailability,
)
from kernel.wire.resources import Resource
from kernel.wire.values import Scalar

__all__ = [
    "URI",
    "URL",
    "AccessMode",
    "AccessModeMode",
    "Address",
    "AgentCapability",
    "AgentID",
    "AgentInfo",
    "AgentInfoCapability",
    "Attribute",
    "BlockVolume",
    "CSIVolume",
    "Capability",
    "CapabilityInfo",
    "CgroupInfo",
    "CheckCommand",
    "CheckHttp",
    "CheckInfo",
    "CheckStatusCommand",
    "CheckStatusHttp",
    "CheckStatusInfo",
    "CheckStatusTcp",
    "CheckTcp",
    "CheckType",
    "CommandInfo",
    "ContainerInfo",
    "ContainerStatus",
    "ContainerType",
    "Credential",
    "Credentials",
    "DiscoveryInfo",
    "DockerInfo",
    "DockerPortMapping",
    "DockerVolume",
    "DomainInfo",
    "DrainConfig",
    "DrainInfo",
    "DrainState",
    "DurationInfo",
    "Environment",
    "ExecutorID",
    "ExecutorInfo",
    "ExecutorType",
    "FaultDomain",
    "FrameworkCapability",
    "FrameworkID",
    "FrameworkInfo",
    "HTTPCheckInfo",
    "HealthCheck",
    "HostPath",
    "IPAddress",
    "Image",
    "ImageAppc",
    "ImageDocker",
    "ImageType",
    "IpcMode",
    "KillPolicy",
    "Label",
    "Labels",
    "LinuxCapability",
    "LinuxInfo",
    "MachineID",
    "MachineInfo",
    "MachineMode",
    "MasterCapability",
    "MasterInfo",
    "MasterInfoCapability",
    "MesosInfo",
    "MinAllocatableResources",
    "MountPropagation",
    "MountPropagationMode",
    "MountVolume",
    "NetCls",
    "Network",
    "NetworkInfo",
    "OfferFilters",
    "Parameter",
    "Parameters",
    "Port",
    "PortMapping",
    "Ports",
    "Protocol",
    "RLimit",
    "RLimitInfo",
    "RLimitType",
    "Reason",
    "RegionInfo",
    "ResourceQuantities",
    "SandboxPath",
    "SandboxPathType",
    "SeccompInfo",
    "Secret",
    "SecretReference",
    "SecretType",
    "SecretValue",
    "Source",
    "StaticProvisioning",
    "TCPCheckInfo",
    "TTYInfo",
    "Task",
    "TaskGroupInfo",
    "TaskID",
    "TaskInfo",
    "TaskResourceLimitation",
    "TaskState",
    "TaskStatus",
    "TimeInfo",
    "Unavailability",
    "Variable",
    "VariableType",
    "Visibility",
    "Volume",
    "VolumeCapability",
    "VolumeMode",
    "VolumeSource",
    "VolumeSourceType",
    "WindowSize",
    "ZoneInfo",
]


class ExecutorType(Enum):
    UNKNOWN = "UNKNOWN"
    DEFAULT = "DEFAULT"
    CUSTOM = "CUSTOM"


class ExecutorInfo(ProtoMessage, frozen=True):
    """What runs tasks on an agent. source: deprecated, kept as given."""

    executor_id: ExecutorID
    type: ExecutorType | None = None
    framework_id: FrameworkID | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    resources: tuple[Resource, ...] = ()
    name: str | None = None
    source: str | None = None
    data: bytes | None = None
    discovery: DiscoveryInfo | None = None
    shutdown_grace_period: DurationInfo | None = None
    labels: Labels | None = None


class TaskInfo(ProtoMessage, frozen=True):
    """A task to launch: its own command, or an executor that is told of it.

    limits: by resource (cpus, mem) how far it may go beyond what it was given.
    """

    name: str
    task_id: TaskID
    agent_id: AgentID
    resources: tuple[Resource, ...] = ()
    executor: ExecutorInfo | None = None
    command: CommandInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    check: CheckInfo | None = None
    kill_policy: KillPolicy | None = None
    data: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    max_completion_time: DurationInfo | None = None
    limits: dict[str, Scalar] = field(default_factory=dict)


class TaskGroupInfo(ProtoMessage, frozen=True):
    tasks: tuple[TaskInfo, ...] = ()


class TaskState(Enum):
    """What may follow what: spec mesos-v1, section 8.10."""

    __hash__ = object.__hash__  # Each member is one object; Enum's own hash is slow, and a task's states are looked up often.

    TASK_STAGING = "TASK_STAGING"
    TASK_STARTING = "TASK_STARTING"
    TASK_RUNNING = "TASK_RUNNING"
    TASK_KILLING = "TASK_KILLING"
    TASK_FINISHED = "TASK_FINISHED"
    TASK_FAILED = "TASK_FAILED"
    TASK_KILLED = "TASK_KILLED"
    TASK_ERROR = "TASK_ERROR"
    TASK_LOST = "TASK_LOST"
    TASK_DROPPED = "TASK_DROPPED"
    TASK_UNREACHABLE = "TASK_UNREACHABLE"
    TASK_GONE = "TASK_GONE"
    TASK_GONE_BY_OPERATOR = "TASK_GONE_BY_OPERATOR"
    TASK_UNKNOWN = "TASK_UNKNOWN"


TERMINAL = frozenset(
    {
        TaskState.TASK_FINISHED,
        TaskState.TASK_FAILED,
        TaskState.TASK_KILLED,
        TaskState.TASK_ERROR,
        TaskState.TASK_LOST,
        TaskState.TASK_DROPPED,
        TaskState.TASK_GONE,
        TaskState.TASK_GONE_BY_OPERATOR,
    }
)
"""States that end a task. TASK_UNREACHABLE is none (its agent may come back), nor is TASK_UNKNOWN (only an answer)."""


class Source(Enum):
    """The TaskStatus.Source of v1."""

    SOURCE_MASTER = "SOURCE_MASTER"
    SOURCE_AGENT = "SOURCE_AGENT"
    SOURCE_EXECUTOR = "SOURCE_EXECUTOR"


class Reason(Enum):
    """The TaskStatus.Reason of v1."""

    REASON_COMMAND_EXECUTOR_FAILED = "REASON_COMMAND_EXECUTOR_FAILED"
    REASON_CONTAINER_LAUNCH_FAILED = "REASON_CONTAINER_LAUNCH_FAILED"
    REASON_CONTAINER_LIMITATION = "REASON_CONTAINER_LIMITATION"
    REASON_CONTAINER_LIMITATION_DISK = "REASON_CONTAINER_LIMITATION_DISK"
    REASON_CONTAINER_LIMITATION_MEMORY = "REASON_CONTAINER_LIMITATION_MEMORY"
    REASON_CONTAINER_PREEMPTED = "REASON_CONTAINER_PREEMPTED"
    REASON_CONTAINER_UPDATE_FAILED = "REASON_CONTAINER_UPDATE_FAILED"
    REASON_MAX_COMPLETION_TIME_REACHED = "REASON_MAX_COMPLETION_TIME_REACHED"
    REASON_EXECUTOR_REGISTRATION_TIMEOUT = "REASON_EXECUTOR_REGISTRATION_TIMEOUT"
    REASON_EXECUTOR_REREGISTRATION_TIMEOUT = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT"
    REASON_EXECUTOR_TERMINATED = "REASON_EXECUTOR_TERMINATED"
    REASON_EXECUTOR_UNREGISTERED = "REASON_EXECUTOR_UNREGISTERED"
    REASON_FRAMEWORK_REMOVED = "REASON_FRAMEWORK_REMOVED"
    REASON_GC_ERROR = "REASON_GC_ERROR"
    REASON_INVALID_FRAMEWORKID = "REASON_INVALID_FRAMEWORKID"
    REASON_INVALID_OFFERS = "REASON_INVALID_OFFERS"
    REASON_IO_SWITCHBOARD_EXITED = "REASON_IO_SWITCHBOARD_EXITED"
    REASON_MASTER_DISCONNECTED = "REASON_MASTER_DISCONNECTED"
    REASON_RECONCILIATION = "REASON_RECONCILIATION"
    REASON_RESOURCES_UNKNOWN = "REASON_RESOURCES_UNKNOWN"
    REASON_AGENT_DISCONNECTED = "REASON_AGENT_DISCONNECTED"
    REASON_AGENT_DRAINING = "REASON_AGENT_DRAINING"
    REASON_AGENT_REMOVED = "REASON_AGENT_REMOVED"
    REASON_AGENT_REMOVED_BY_OPERATOR = "REASON_AGENT_REMOVED_BY_OPERATOR"
    REASON_AGENT_REREGISTERED = "REASON_AGENT_REREGISTERED"
    REASON_AGENT_RESTARTED = "REASON_AGENT_RESTARTED"
    REASON_AGENT_UNKNOWN = "REASON_AGENT_UNKNOWN"
    REASON_TASK_KILLED_DURING_LAUNCH = "REASON_TASK_KILLED_DURING_LAUNCH"
    REASON_TASK_CHECK_STATUS_UPDATED = "REASON_TASK_CHECK_STATUS_UPDATED"
    REASON_TASK_HEALTH_CHECK_STATUS_UPDATED = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
    REASON_TASK_GROUP_INVALID = "REASON_TASK_GROUP_INVALID"
    REASON_TASK_GROUP_UNAUTHORIZED = "REASON_TASK_GROUP_UNAUTHORIZED"
    REASON_TASK_INVALID = "REASON_TASK_INVALID"
    REASON_TASK_UNAUTHORIZED = "REASON_TASK_UNAUTHORIZED"
    REASON_TASK_UNKNOWN = "REASON_TASK_UNKNOWN"


class TaskResourceLimitation(ProtoMessage, frozen=True):
    """The resources a container used up."""

    resources: tuple[Resource, ...] = ()


class TaskStatus(ProtoMessage, frozen=True):
    """One report on a task.

    timestamp: seconds since the epoch. uuid: 16 bytes; set when the update is sent again until acknowledged.
    """

    task_id: TaskID
    state: TaskState
    message: str | None = None
    source: Source | None = None
    reason: Reason | None = None
    data: bytes | None = None
    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    timestamp: float | None = None
    uuid: bytes | None = None
    healthy: bool | None = None
    check_status: CheckStatusInfo | None = None
    labels: Labels | None = None
    container_status: ContainerStatus | None = None
    unreachable_time: TimeInfo | None = None
    limitation: TaskResourceLimitation | None = None


class Task(ProtoMessage, frozen=True):
    """A task as the operator API shows it. statuses: the last update of each run of equal states, without data."""

    name: str
    task_id: TaskID
    framework_id: FrameworkID
    agent_id: AgentID
    state: TaskState
    executor_id: ExecutorID | None = None
    resources: tuple[Resource, ...] = ()
    statuses: tuple[TaskStatus, ...] = ()
    status_update_state: TaskState | None = None
    status_update_uuid: bytes | None = None
    labels: Labels | None = None
    discovery: DiscoveryInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None
    kill_policy: KillPolicy | None = None
    user: str | None = None
    limits: dict[str, Scalar] = field(default_factory=dict)
