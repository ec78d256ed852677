"""The operator API of the master: calls, responses and events (spec: mesos-v1, section 4).

Names as in v1, so some are those of other APIs: import this as a module. `type` is plain text, as in the scheduler API.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from typing import Annotated

from msgspec import Meta, field

from kernel.wire.base import ProtoMessage, declared
from kernel.wire.common import TimeInfo
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import AgentID, FrameworkID, TaskID
from kernel.wire.nodes import AgentInfo, AgentInfoCapability, DrainInfo, MachineID, MasterInfo, Unavailability
from kernel.wire.offer import InverseOffer, Offer, OfferConstraints, TrackedOperation
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
from kernel.wire.task import ExecutorInfo, KillPolicy, Task, TaskState, TaskStatus
from kernel.wire.values import Scalar

__all__ = [
    "Agent",
    "AgentAdded",
    "AgentRemoved",
    "Call",
    "ClusterStatus",
    "CreateVolumes",
    "DeactivateAgent",
    "DestroyVolumes",
    "DrainAgent",
    "DrainingMachine",
    "Duration",
    "Event",
    "Executor",
    "FileInfo",
    "Flag",
    "Framework",
    "FrameworkAdded",
    "FrameworkRemoved",
    "FrameworkUpdated",
    "GetAgents",
    "GetExecutors",
    "GetFlags",
    "GetFrameworks",
    "GetHealth",
    "GetLoggingLevel",
    "GetMaintenanceSchedule",
    "GetMaintenanceStatus",
    "GetMaster",
    "GetMetrics",
    "GetMetricsCall",
    "GetOperations",
    "GetQuota",
    "GetRoles",
    "GetState",
    "GetTasks",
    "GetVersion",
    "GetWeights",
    "GrowVolume",
    "InverseOfferAnswer",
    "InverseOfferStatus",
    "KillTask",
    "ListFiles",
    "ListFilesCall",
    "MarkAgentGone",
    "Metric",
    "QuotaConfig",
    "QuotaInfo",
    "QuotaRequest",
    "QuotaStatus",
    "ReactivateAgent",
    "ReadFile",
    "ReadFileCall",
    "RemoveQuota",
    "ReserveResources",
    "ResourceProvider",
    "ResourceProviderInfo",
    "Response",
    "Role",
    "Schedule",
    "SetLoggingLevel",
    "SetQuota",
    "ShrinkVolume",
    "StartMaintenance",
    "StopMaintenance",
    "Subscribed",
    "TaskAdded",
    "TaskUpdated",
    "Teardown",
    "UnreserveResources",
    "UpdateMaintenanceSchedule",
    "UpdateQuota",
    "UpdateWeights",
    "VersionInfo",
    "WeightInfo",
    "Window",
]

# ---- Weights, quota, maintenance ------------------------------------------------------------------------


class WeightInfo(ProtoMessage, frozen=True):
    weight: float
    role: str | None = None


class QuotaConfig(ProtoMessage, frozen=True):
    """Guarantees and limits of a role, by resource. A missing limit is none, a missing guarantee 0."""

    role: str
    guarantees: dict[str, Scalar] = field(default_factory=dict)
    limits: dict[str, Scalar] = field(default_factory=dict)


class QuotaInfo(ProtoMessage, frozen=True):
    """The older form of a QuotaConfig."""

    role: str | None = None
    principal: str | None = None
    guarantee: tuple[Resource, ...] = ()


class QuotaRequest(ProtoMessage, frozen=True):
    force: bool | None = None
    role: str | None = None
    guarantee: tuple[Resource, ...] = ()


class QuotaStatus(ProtoMessage, frozen=True):
    infos: tuple[QuotaInfo, ...] = ()
    configs: tuple[QuotaConfig, ...] = ()


class Window(ProtoMessage, frozen=True):
    """Machines that are unavailable together."""

    unavailability: Unavailability
    machine_ids: tuple[MachineID, ...] = ()


class Schedule(ProtoMessage, frozen=True):
    windows: tuple[Window, ...] = ()


class InverseOfferAnswer(Enum):
    """The allocator.InverseOfferStatus.Status of v1."""

    UNKNOWN = "UNKNOWN"
    ACCEPT = "ACCEPT"
    DECLINE = "DECLINE"


class InverseOfferStatus(ProtoMessage, frozen=True):
    """What a framework last answered to an inverse offer."""

    status: InverseOfferAnswer
    framework_id: FrameworkID
    timestamp: TimeInfo


class DrainingMachine(ProtoMessage, frozen=True):
    id: MachineID
    statuses: tuple[InverseOfferStatus, ...] = ()


class ClusterStatus(ProtoMessage, frozen=True):
    draining_machines: tuple[DrainingMachine, ...] = ()
    down_machines: tuple[MachineID, ...] = ()


# ---- Calls ----------------------------------------------------------------------------------------------


class UpdateWeights(ProtoMessage, frozen=True):
    weight_infos: tuple[WeightInfo, ...] = ()


class ReserveResources(ProtoMessage, frozen=True):
    """source: the resources as they are now; resources: as they shall be."""

    agent_id: AgentID
    source: tuple[Resource, ...] = ()
    resources: tuple[Resource, ...] = ()


class UnreserveResources(ProtoMessage, frozen=True):
    agent_id: AgentID
    resources: tuple[Resource, ...] = ()


class CreateVolumes(ProtoMessage, frozen=True):
    agent_id: AgentID
    volumes: tuple[Resource, ...] = ()


class DestroyVolumes(ProtoMessage, frozen=True):
    agent_id: AgentID
    volumes: tuple[Resource, ...] = ()


class GrowVolume(ProtoMessage, frozen=True):
    volume: Resource
    addition: Resource
    agent_id: AgentID | None = None


class ShrinkVolume(ProtoMessage, frozen=True):
    volume: Resource
    subtract: Scalar
    agent_id: AgentID | None = None


class UpdateMaintenanceSchedule(ProtoMessage, frozen=True):
    schedule: Schedule


class StartMaintenance(ProtoMessage, frozen=True):
    machines: tuple[MachineID, ...] = ()


class StopMaintenance(ProtoMessage, frozen=True):
    machines: tuple[MachineID, ...] = ()


_DURATION_TEXT = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,9})?)s")


class Duration(ProtoMessage, frozen=True):
    """The google.protobuf.Duration, read as an object or as text such as `60s` or `1.5s`. nanos has the sign of seconds."""

    seconds: Annotated[int, Meta(ge=-315_576_000_000, le=315_576_000_000)] = 0
    nanos: Annotated[int, Meta(ge=-999_999_999, le=999_999_999)] = 0

    @classmethod
    def from_text(cls, text: str) -> dict[str, int] | str:
        """Return the object the text stands for, or the text when it stands for none; the codec checks what comes back."""
        found = _DURATION_TEXT.fullmatch(text)
        if found is None:
            return text
        nanoseconds = int(Decimal(found[1]) * 1_000_000_000)
        sign = -1 if nanoseconds < 0 else 1
        return {"seconds": sign * (abs(nanoseconds) // 1_000_000_000), "nanos": sign * (abs(nanoseconds) % 1_000_000_000)}

    @property
    def nanoseconds(self) -> int:
        return self.seconds * 1_000_000_000 + self.nanos


class DrainAgent(ProtoMessage, frozen=True):
    """max_grace_period: caps the kill grace of tasks. mark_gone: once drained, the agent never comes back."""

    agent_id: AgentID
    max_grace_period: Duration | None = None
    mark_gone: bool = field(default_factory=declared(False))


class DeactivateAgent(ProtoMessage, frozen=True):
    agent_id: AgentID


class ReactivateAgent(ProtoMessage, frozen=True):
    agent_id: AgentID


class UpdateQuota(ProtoMessage, frozen=True):
    """force: skips the checks that the cluster can satisfy the guarantees and that limits cover what is used. All configs are applied
    or none. dry_run, our own: none is, but what is wrong is told."""

    force: bool | None = None
    quota_configs: tuple[QuotaConfig, ...] = ()
    dry_run: bool | None = None


class SetQuota(ProtoMessage, frozen=True):
    quota_request: QuotaRequest


class RemoveQuota(ProtoMessage, frozen=True):
    role: str


class Teardown(ProtoMessage, frozen=True):
    framework_id: FrameworkID


class MarkAgentGone(ProtoMessage, frozen=True):
    agent_id: AgentID


class KillTask(ProtoMessage, frozen=True):
    """Our own call KILL_TASK: end one task in its framework's place."""

    framework_id: FrameworkID
    task_id: TaskID
    kill_policy: KillPolicy | None = None


class Call(ProtoMessage, frozen=True):
    """The envelope of all calls: the part that `type` names is set, if the call has one."""

    type: str | None = None
    get_metrics: GetMetricsCall | None = None
    set_logging_level: SetLoggingLevel | None = None
    list_files: ListFilesCall | None = None
    read_file: ReadFileCall | None = None
    update_weights: UpdateWeights | None = None
    reserve_resources: ReserveResources | None = None
    unreserve_resources: UnreserveResources | None = None
    create_volumes: CreateVolumes | None = None
    destroy_volumes: DestroyVolumes | None = None
    grow_volume: GrowVolume | None = None
    shrink_volume: ShrinkVolume | None = None
    update_maintenance_schedule: UpdateMaintenanceSchedule | None = None
    start_maintenance: StartMaintenance | None = None
    stop_maintenance: StopMaintenance | None = None
    drain_agent: DrainAgent | None = None
    deactivate_agent: DeactivateAgent | None = None
    reactivate_agent: ReactivateAgent | None = None
    update_quota: UpdateQuota | None = None
    teardown: Teardown | None = None
    mark_agent_gone: MarkAgentGone | None = None
    set_quota: SetQuota | None = None
    remove_quota: RemoveQuota | None = None
    kill_task: KillTask | None = None


# ---- Responses ------------------------------------------------------------------------------------------


class Agent(ProtoMessage, frozen=True):
    """The Response.GetAgents.Agent of v1. version: of the API; meseta_version: of the agent's release, our own addition."""

    agent_info: AgentInfo
    active: bool
    version: str
    deactivated: bool | None = None
    pid: str | None = None
    registered_time: TimeInfo | None = None
    reregistered_time: TimeInfo | None = None
    total_resources: tuple[Resource, ...] = ()
    allocated_resources: tuple[Resource, ...] = ()
    offered_resources: tuple[Resource, ...] = ()
    capabilities: tuple[AgentInfoCapability, ...] = ()
    resource_providers: tuple[ResourceProvider, ...] = ()
    meseta_version: str | None = None
    drain_info: DrainInfo | None = None
    estimated_drain_start_time: TimeInfo | None = None


class GetAgents(ProtoMessage, frozen=True):
    """recovered_agents: known from before a failover and not back yet."""

    agents: tuple[Agent, ...] = field(default_factory=declared(()))
    recovered_agents: tuple[AgentInfo, ...] = field(default_factory=declared(()))


class Framework(ProtoMessage, frozen=True):
    """The Response.GetFrameworks.Framework of v1."""

    framework_info: FrameworkInfo
    active: bool
    connected: bool
    recovered: bool
    registered_time: TimeInfo | None = None
    reregistered_time: TimeInfo | None = None
    unregistered_time: TimeInfo | None = None
    offers: tuple[Offer, ...] = ()
    inverse_offers: tuple[InverseOffer, ...] = ()
    allocated_resources: tuple[Resource, ...] = ()
    offered_resources: tuple[Resource, ...] = ()
    offer_constraints: OfferConstraints | None = None


class GetFrameworks(ProtoMessage, frozen=True):
    frameworks: tuple[Framework, ...] = field(default_factory=declared(()))
    completed_frameworks: tuple[Framework, ...] = field(default_factory=declared(()))


class Executor(ProtoMessage, frozen=True):
    """The Response.GetExecutors.Executor of v1."""

    executor_info: ExecutorInfo
    agent_id: AgentID


class GetExecutors(ProtoMessage, frozen=True):
    executors: tuple[Executor, ...] = field(default_factory=declared(()))


class GetOperations(ProtoMessage, frozen=True):
    operations: tuple[TrackedOperation, ...] = ()


class GetTasks(ProtoMessage, frozen=True):
    tasks: tuple[Task, ...] = field(default_factory=declared(()))
    unreachable_tasks: tuple[Task, ...] = field(default_factory=declared(()))
    completed_tasks: tuple[Task, ...] = field(default_factory=declared(()))


class GetState(ProtoMessage, frozen=True):
    get_tasks: GetTasks | None = None
    get_executors: GetExecutors | None = None
    get_frameworks: GetFrameworks | None = None
    get_agents: GetAgents | None = None


class Role(ProtoMessage, frozen=True):
    """resources: allocated and offered to the role and those below it."""

    name: str
    weight: float
    frameworks: tuple[FrameworkID, ...] = ()
    resources: tuple[Resource, ...] = ()


class GetRoles(ProtoMessage, frozen=True):
    roles: tuple[Role, ...] = ()


class GetWeights(ProtoMessage, frozen=True):
    weight_infos: tuple[WeightInfo, ...] = ()


class GetMaster(ProtoMessage, frozen=True):
    """start_time, elected_time: seconds since the epoch."""

    master_info: MasterInfo | None = None
    start_time: float | None = None
    elected_time: float | None = None


class GetMaintenanceStatus(ProtoMessage, frozen=True):
    status: ClusterStatus


class GetMaintenanceSchedule(ProtoMessage, frozen=True):
    schedule: Schedule


class GetQuota(ProtoMessage, frozen=True):
    status: QuotaStatus


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
    get_agents: GetAgents | None = None
    get_frameworks: GetFrameworks | None = None
    get_executors: GetExecutors | None = None
    get_operations: GetOperations | None = None
    get_tasks: GetTasks | None = None
    get_roles: GetRoles | None = None
    get_weights: GetWeights | None = None
    get_master: GetMaster | None = None
    get_maintenance_status: GetMaintenanceStatus | None = None
    get_maintenance_schedule: GetMaintenanceSchedule | None = None
    get_quota: GetQuota | None = None


# ---- Events ---------------------------------------------------------------------------------------------


class Subscribed(ProtoMessage, frozen=True):
    get_state: GetState | None = None
    heartbeat_interval_seconds: float | None = None


class TaskAdded(ProtoMessage, frozen=True):
    task: Task


class TaskUpdated(ProtoMessage, frozen=True):
    """state: the latest the agent told, maybe ahead of status."""

    framework_id: FrameworkID
    status: TaskStatus
    state: TaskState


class AgentAdded(ProtoMessage, frozen=True):
    agent: Agent


class AgentRemoved(ProtoMessage, frozen=True):
    agent_id: AgentID


class FrameworkAdded(ProtoMessage, frozen=True):
    framework: Framework


class FrameworkUpdated(ProtoMessage, frozen=True):
    framework: Framework


class FrameworkRemoved(ProtoMessage, frozen=True):
    framework_info: FrameworkInfo


class Event(ProtoMessage, frozen=True):
    """What the master tells its operators: the part that `type` names is set; HEARTBEAT has none."""

    type: str | None = None
    subscribed: Subscribed | None = None
    task_added: TaskAdded | None = None
    task_updated: TaskUpdated | None = None
    agent_added: AgentAdded | None = None
    agent_removed: AgentRemoved | None = None
    framework_added: FrameworkAdded | None = None
    framework_updated: FrameworkUpdated | None = None
    framework_removed: FrameworkRemoved | None = None
