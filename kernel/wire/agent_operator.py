"""The operator API of the agent: calls, responses and the input and output of containers (spec: mesos-v1, section 4.2).

Names as in v1, so some are those of other APIs: import this as a module. `type` is plain text, as in the scheduler API.
"""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import Int32, ProtoMessage, UInt32, UInt64, declared
from kernel.wire.command import CommandInfo
from kernel.wire.common import DurationInfo, Image, TimeInfo
from kernel.wire.container import ContainerInfo, ContainerStatus, TTYInfo
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import ContainerID, ExecutorID, FrameworkID, ResourceProviderID
from kernel.wire.nodes import AgentInfo, DrainConfig
from kernel.wire.offer import TrackedOperation
from kernel.wire.operator_common import (
    FileInfo,
    Flag,
    GetFlags,
    GetHealth,
    GetLoggingLevel,
    GetMetrics,
    GetMetricsCall,
    GetVersion,
    ListFiles,
    ListFilesCall,
    Metric,
    ReadFile,
    ReadFileCall,
    ResourceProvider,
    ResourceProviderInfo,
    SetLoggingLevel,
    VersionInfo,
)
from kernel.wire.resources import Resource
from kernel.wire.task import ExecutorInfo, Reason, Task, TaskResourceLimitation, TaskState
from kernel.wire.values import Scalar

__all__ = [
    "AddResourceProviderConfig",
    "AttachContainerInput",
    "AttachContainerOutput",
    "AttachInputType",
    "Call",
    "Container",
    "Control",
    "ControlType",
    "Data",
    "DataType",
    "Executor",
    "FileInfo",
    "Flag",
    "Framework",
    "GetAgent",
    "GetContainers",
    "GetContainersCall",
    "GetExecutors",
    "GetFlags",
    "GetFrameworks",
    "GetHealth",
    "GetLoggingLevel",
    "GetMetrics",
    "GetMetricsCall",
    "GetOperations",
    "GetResourceProviders",
    "GetState",
    "GetTasks",
    "GetVersion",
    "Heartbeat",
    "KillContainer",
    "KillNestedContainer",
    "LaunchContainer",
    "LaunchNestedContainer",
    "LaunchNestedContainerSession",
    "ListFiles",
    "ListFilesCall",
    "MarkResourceProviderGone",
    "Metric",
    "ProcessIO",
    "ProcessIOType",
    "PruneImages",
    "ReadFile",
    "ReadFileCall",
    "RemoveContainer",
    "RemoveNestedContainer",
    "RemoveResourceProviderConfig",
    "ResourceProvider",
    "ResourceProviderInfo",
    "ResourceStatistics",
    "Response",
    "SetLoggingLevel",
    "UpdateResourceProviderConfig",
    "VersionInfo",
    "WaitContainer",
    "WaitContainerCall",
    "WaitNestedContainer",
    "WaitNestedContainerCall",
]

# ---- Input and output of containers ---------------------------------------------------------------------


class ProcessIOType(Enum):
    UNKNOWN = "UNKNOWN"
    DATA = "DATA"
    CONTROL = "CONTROL"


class DataType(Enum):
    UNKNOWN = "UNKNOWN"
    STDIN = "STDIN"
    STDOUT = "STDOUT"
    STDERR = "STDERR"


class Data(ProtoMessage, frozen=True):
    """data: empty on STDIN for the end of the input."""

    type: DataType | None = None
    data: bytes | None = None


class ControlType(Enum):
    UNKNOWN = "UNKNOWN"
    TTY_INFO = "TTY_INFO"
    HEARTBEAT = "HEARTBEAT"


class Heartbeat(ProtoMessage, frozen=True):
    interval: DurationInfo | None = None


class Control(ProtoMessage, frozen=True):
    type: ControlType | None = None
    tty_info: TTYInfo | None = None
    heartbeat: Heartbeat | None = None


class ProcessIO(ProtoMessage, frozen=True):
    """One record of what goes into or comes out of a container."""

    type: ProcessIOType | None = None
    data: Data | None = None
    control: Control | None = None


# ---- Calls ----------------------------------------------------------------------------------------------


class GetContainersCall(ProtoMessage, frozen=True):
    """The Call.GetContainers of v1."""

    show_nested: bool | None = None
    show_standalone: bool | None = None


class LaunchNestedContainer(ProtoMessage, frozen=True):
    container_id: ContainerID
    command: CommandInfo | None = None
    container: ContainerInfo | None = None


class WaitNestedContainerCall(ProtoMessage, frozen=True):
    """The Call.WaitNestedContainer of v1."""

    container_id: ContainerID


class KillNestedContainer(ProtoMessage, frozen=True):
    """signal: None for SIGKILL."""

    container_id: ContainerID
    signal: Int32 | None = None


class RemoveNestedContainer(ProtoMessage, frozen=True):
    container_id: ContainerID


class LaunchNestedContainerSession(ProtoMessage, frozen=True):
    container_id: ContainerID
    command: CommandInfo | None = None
    container: ContainerInfo | None = None


class AttachInputType(Enum):
    """The Call.AttachContainerInput.Type of v1."""

    UNKNOWN = "UNKNOWN"
    CONTAINER_ID = "CONTAINER_ID"
    PROCESS_IO = "PROCESS_IO"


class AttachContainerInput(ProtoMessage, frozen=True):
    """First one that names the container, then any number with input for it."""

    type: AttachInputType | None = None
    container_id: ContainerID | None = None
    process_io: ProcessIO | None = None


class AttachContainerOutput(ProtoMessage, frozen=True):
    container_id: ContainerID


class LaunchContainer(ProtoMessage, frozen=True):
    """With container_id.parent the container is nested, else it stands alone."""

    container_id: ContainerID
    command: CommandInfo | None = None
    resources: tuple[Resource, ...] = ()
    container: ContainerInfo | None = None
    limits: dict[str, Scalar] = field(default_factory=dict)


class WaitContainerCall(ProtoMessage, frozen=True):
    """The Call.WaitContainer of v1."""

    container_id: ContainerID


class KillContainer(ProtoMessage, frozen=True):
    """signal: None for SIGKILL."""

    container_id: ContainerID
    signal: Int32 | None = None


class RemoveContainer(ProtoMessage, frozen=True):
    container_id: ContainerID


class AddResourceProviderConfig(ProtoMessage, frozen=True):
    info: ResourceProviderInfo


class UpdateResourceProviderConfig(ProtoMessage, frozen=True):
    info: ResourceProviderInfo


class RemoveResourceProviderConfig(ProtoMessage, frozen=True):
    type: str
    name: str


class MarkResourceProviderGone(ProtoMessage, frozen=True):
    resource_provider_id: ResourceProviderID


class PruneImages(ProtoMessage, frozen=True):
    excluded_images: tuple[Image, ...] = ()


class Call(ProtoMessage, frozen=True):
    """The envelope of all calls: the part that `type` names is set, if the call has one."""

    type: str | None = None
    get_metrics: GetMetricsCall | None = None
    set_logging_level: SetLoggingLevel | None = None
    list_files: ListFilesCall | None = None
    read_file: ReadFileCall | None = None
    get_containers: GetContainersCall | None = None
    launch_nested_container: LaunchNestedContainer | None = None
    wait_nested_container: WaitNestedContainerCall | None = None
    kill_nested_container: KillNestedContainer | None = None
    remove_nested_container: RemoveNestedContainer | None = None
    launch_nested_container_session: LaunchNestedContainerSession | None = None
    attach_container_input: AttachContainerInput | None = None
    attach_container_output: AttachContainerOutput | None = None
    launch_container: LaunchContainer | None = None
    wait_container: WaitContainerCall | None = None
    kill_container: KillContainer | None = None
    remove_container: RemoveContainer | None = None
    add_resource_provider_config: AddResourceProviderConfig | None = None
    update_resource_provider_config: UpdateResourceProviderConfig | None = None
    remove_resource_provider_config: RemoveResourceProviderConfig | None = None
    mark_resource_provider_gone: MarkResourceProviderGone | None = None
    prune_images: PruneImages | None = None


# ---- Responses ------------------------------------------------------------------------------------------


class ResourceStatistics(ProtoMessage, frozen=True):
    """What a container used, as far as we measure. timestamp: seconds since the epoch; the times: seconds of CPU."""

    timestamp: float
    processes: UInt32 | None = None
    threads: UInt32 | None = None
    cpus_user_time_secs: float | None = None
    cpus_system_time_secs: float | None = None
    cpus_limit: float | None = None
    cpus_soft_limit: float | None = None
    cpus_nr_periods: UInt32 | None = None
    cpus_nr_throttled: UInt32 | None = None
    cpus_throttled_time_secs: float | None = None
    mem_total_bytes: UInt64 | None = None
    mem_limit_bytes: UInt64 | None = None
    mem_soft_limit_bytes: UInt64 | None = None
    mem_file_bytes: UInt64 | None = None
    mem_anon_bytes: UInt64 | None = None
    mem_cache_bytes: UInt64 | None = None
    mem_rss_bytes: UInt64 | None = None
    mem_mapped_file_bytes: UInt64 | None = None
    mem_swap_bytes: UInt64 | None = None
    disk_limit_bytes: UInt64 | None = None
    disk_used_bytes: UInt64 | None = None


class Container(ProtoMessage, frozen=True):
    """The Response.GetContainers.Container of v1. container_id: the leaf alone; its parents are in container_status."""

    container_id: ContainerID
    framework_id: FrameworkID | None = None
    executor_id: ExecutorID | None = None
    executor_name: str | None = None
    container_status: ContainerStatus | None = None
    resource_statistics: ResourceStatistics | None = None


class GetContainers(ProtoMessage, frozen=True):
    containers: tuple[Container, ...] = ()


class Framework(ProtoMessage, frozen=True):
    """The Response.GetFrameworks.Framework of v1."""

    framework_info: FrameworkInfo


class GetFrameworks(ProtoMessage, frozen=True):
    frameworks: tuple[Framework, ...] = field(default_factory=declared(()))
    completed_frameworks: tuple[Framework, ...] = field(default_factory=declared(()))


class Executor(ProtoMessage, frozen=True):
    """The Response.GetExecutors.Executor of v1."""

    executor_info: ExecutorInfo


class GetExecutors(ProtoMessage, frozen=True):
    executors: tuple[Executor, ...] = field(default_factory=declared(()))
    completed_executors: tuple[Executor, ...] = field(default_factory=declared(()))


class GetOperations(ProtoMessage, frozen=True):
    operations: tuple[TrackedOperation, ...] = ()


class GetTasks(ProtoMessage, frozen=True):
    """pending: not yet given to an executor's queue; terminated: ended, but not acknowledged."""

    pending_tasks: tuple[Task, ...] = field(default_factory=declared(()))
    queued_tasks: tuple[Task, ...] = field(default_factory=declared(()))
    launched_tasks: tuple[Task, ...] = field(default_factory=declared(()))
    terminated_tasks: tuple[Task, ...] = field(default_factory=declared(()))
    completed_tasks: tuple[Task, ...] = field(default_factory=declared(()))


class GetState(ProtoMessage, frozen=True):
    get_tasks: GetTasks | None = None
    get_executors: GetExecutors | None = None
    get_frameworks: GetFrameworks | None = None


class GetAgent(ProtoMessage, frozen=True):
    agent_info: AgentInfo | None = None
    drain_config: DrainConfig | None = None
    estimated_drain_start_time: TimeInfo | None = None


class GetResourceProviders(ProtoMessage, frozen=True):
    resource_providers: tuple[ResourceProvider, ...] = ()


class WaitNestedContainer(ProtoMessage, frozen=True):
    """How a container ended. exit_status: the raw wait status."""

    exit_status: Int32 | None = None
    state: TaskState | None = None
    reason: Reason | None = None
    limitation: TaskResourceLimitation | None = None
    message: str | None = None


class WaitContainer(ProtoMessage, frozen=True):
    """How a container ended. exit_status: the raw wait status."""

    exit_status: Int32 | None = None
    state: TaskState | None = None
    reason: Reason | None = None
    limitation: TaskResourceLimitation | None = None
    message: str | None = None


class Response(ProtoMessage, frozen=True):
    """The envelope of all responses: the part that `type` names is set."""

    type: str | None = None
    get_health: GetHealth | None = None
    get_flags: GetFlags | None = None
    get_version: GetVersion | None = None
    get_metrics: GetMetrics | None = None
    get_logging_level: GetLoggingLevel | None = None
    list_files: ListFiles | None = None
    read_file: ReadFile | None = None
    get_state: GetState | None = None
    get_containers: GetContainers | None = None
    get_frameworks: GetFrameworks | None = None
    get_executors: GetExecutors | None = None
    get_operations: GetOperations | None = None
    get_tasks: GetTasks | None = None
    get_agent: GetAgent | None = None
    get_resource_providers: GetResourceProviders | None = None
    wait_nested_container: WaitNestedContainer | None = None
    wait_container: WaitContainer | None = None
