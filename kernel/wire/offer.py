"""Offers, what is done with them, and which offers a framework wants."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import ProtoMessage, declared
from kernel.wire.common import URL, DomainInfo
from kernel.wire.ids import UUID, AgentID, ExecutorID, FrameworkID, OfferID, OperationID, ResourceProviderID
from kernel.wire.nodes import Attribute, Unavailability
from kernel.wire.resources import AllocationInfo, DiskSourceType, Resource
from kernel.wire.task import ExecutorInfo, TaskGroupInfo, TaskInfo
from kernel.wire.values import Scalar

__all__ = [
    "AttributeConstraint",
    "ConstraintGroup",
    "Create",
    "CreateDisk",
    "Destroy",
    "DestroyDisk",
    "Exists",
    "Filters",
    "GrowVolume",
    "InverseOffer",
    "Launch",
    "LaunchGroup",
    "NotExists",
    "Offer",
    "OfferConstraints",
    "Operation",
    "OperationState",
    "OperationStatus",
    "OperationType",
    "Predicate",
    "PseudoattributeType",
    "Reserve",
    "RoleConstraints",
    "Selector",
    "ShrinkVolume",
    "TextEquals",
    "TextMatches",
    "TextNotEquals",
    "TextNotMatches",
    "TrackedOperation",
    "Unavailability",
    "Unreserve",
]


class Filters(ProtoMessage, frozen=True):
    """refuse_seconds: how long what is refused is not to be offered again."""

    refuse_seconds: float = field(default_factory=declared(5.0))


class Offer(ProtoMessage, frozen=True):
    """Resources of one agent, allocated to one role of one framework. executor_ids: that framework's, on the agent."""

    id: OfferID
    framework_id: FrameworkID
    agent_id: AgentID
    hostname: str
    url: URL | None = None
    domain: DomainInfo | None = None
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    executor_ids: tuple[ExecutorID, ...] = ()
    unavailability: Unavailability | None = None
    allocation_info: AllocationInfo | None = None


class InverseOffer(ProtoMessage, frozen=True):
    """A request to vacate an agent before it is unavailable."""

    id: OfferID
    framework_id: FrameworkID
    unavailability: Unavailability
    url: URL | None = None
    agent_id: AgentID | None = None
    resources: tuple[Resource, ...] = ()


# ---- Operations -----------------------------------------------------------------------------------------


class OperationType(Enum):
    UNKNOWN = "UNKNOWN"
    LAUNCH = "LAUNCH"
    LAUNCH_GROUP = "LAUNCH_GROUP"
    RESERVE = "RESERVE"
    UNRESERVE = "UNRESERVE"
    CREATE = "CREATE"
    DESTROY = "DESTROY"
    GROW_VOLUME = "GROW_VOLUME"
    SHRINK_VOLUME = "SHRINK_VOLUME"
    CREATE_DISK = "CREATE_DISK"
    DESTROY_DISK = "DESTROY_DISK"


class Launch(ProtoMessage, frozen=True):
    task_infos: tuple[TaskInfo, ...] = ()


class LaunchGroup(ProtoMessage, frozen=True):
    executor: ExecutorInfo
    task_group: TaskGroupInfo


class Reserve(ProtoMessage, frozen=True):
    """source: the resources as they are now; empty: as `resources` without their last reservation."""

    source: tuple[Resource, ...] = ()
    resources: tuple[Resource, ...] = ()


class Unreserve(ProtoMessage, frozen=True):
    resources: tuple[Resource, ...] = ()


class Create(ProtoMessage, frozen=True):
    volumes: tuple[Resource, ...] = ()


class Destroy(ProtoMessage, frozen=True):
    volumes: tuple[Resource, ...] = ()


class GrowVolume(ProtoMessage, frozen=True):
    volume: Resource
    addition: Resource


class ShrinkVolume(ProtoMessage, frozen=True):
    volume: Resource
    subtract: Scalar


class CreateDisk(ProtoMessage, frozen=True):
    source: Resource
    target_type: DiskSourceType
    target_profile: str | None = None


class DestroyDisk(ProtoMessage, frozen=True):
    source: Resource


class Operation(ProtoMessage, frozen=True):
    """The Offer.Operation of v1: one use of offered resources. The part that `type` names is set."""

    type: OperationType | None = None
    id: OperationID | None = None
    launch: Launch | None = None
    launch_group: LaunchGroup | None = None
    reserve: Reserve | None = None
    unreserve: Unreserve | None = None
    create: Create | None = None
    destroy: Destroy | None = None
    grow_volume: GrowVolume | None = None
    shrink_volume: ShrinkVolume | None = None
    create_disk: CreateDisk | None = None
    destroy_disk: DestroyDisk | None = None


class OperationState(Enum):
    OPERATION_UNSUPPORTED = "OPERATION_UNSUPPORTED"
    OPERATION_PENDING = "OPERATION_PENDING"
    OPERATION_FINISHED = "OPERATION_FINISHED"
    OPERATION_FAILED = "OPERATION_FAILED"
    OPERATION_ERROR = "OPERATION_ERROR"
    OPERATION_DROPPED = "OPERATION_DROPPED"
    OPERATION_UNREACHABLE = "OPERATION_UNREACHABLE"
    OPERATION_GONE_BY_OPERATOR = "OPERATION_GONE_BY_OPERATOR"
    OPERATION_RECOVERING = "OPERATION_RECOVERING"
    OPERATION_UNKNOWN = "OPERATION_UNKNOWN"


class OperationStatus(ProtoMessage, frozen=True):
    """One report on an operation. uuid: set when it is sent again until acknowledged."""

    state: OperationState
    operation_id: OperationID | None = None
    message: str | None = None
    converted_resources: tuple[Resource, ...] = ()
    uuid: UUID | None = None
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None


class TrackedOperation(ProtoMessage, frozen=True):
    """The mesos.v1.Operation: an operation under way and its reports (`Operation` here is the Offer.Operation)."""

    info: Operation
    latest_status: OperationStatus
    uuid: UUID
    framework_id: FrameworkID | None = None
    agent_id: AgentID | None = None
    statuses: tuple[OperationStatus, ...] = ()


# ---- Offer constraints ----------------------------------------------------------------------------------


class PseudoattributeType(Enum):
    UNKNOWN = "UNKNOWN"
    HOSTNAME = "HOSTNAME"
    REGION = "REGION"
    ZONE = "ZONE"


class Selector(ProtoMessage, frozen=True):
    """Exactly one is set."""

    pseudoattribute_type: PseudoattributeType | None = None
    attribute_name: str | None = None


class Exists(ProtoMessage, frozen=True):
    pass


class NotExists(ProtoMessage, frozen=True):
    pass


class TextEquals(ProtoMessage, frozen=True):
    value: str


class TextNotEquals(ProtoMessage, frozen=True):
    value: str


class TextMatches(ProtoMessage, frozen=True):
    regex: str


class TextNotMatches(ProtoMessage, frozen=True):
    regex: str


class Predicate(ProtoMessage, frozen=True):
    """Exactly one is set."""

    exists: Exists | None = None
    not_exists: NotExists | None = None
    text_equals: TextEquals | None = None
    text_not_equals: TextNotEquals | None = None
    text_matches: TextMatches | None = None
    text_not_matches: TextNotMatches | None = None


class AttributeConstraint(ProtoMessage, frozen=True):
    selector: Selector
    predicate: Predicate


class ConstraintGroup(ProtoMessage, frozen=True):
    """The OfferConstraints.RoleConstraints.Group of v1: true for an agent when all its constraints are."""

    attribute_constraints: tuple[AttributeConstraint, ...] = ()


class RoleConstraints(ProtoMessage, frozen=True, cache_hash=True):
    """True for an agent when one of its groups is."""

    groups: tuple[ConstraintGroup, ...] = ()


class OfferConstraints(ProtoMessage, frozen=True):
    """By role, which agents to offer."""

    role_constraints: dict[str, RoleConstraints] = field(default_factory=dict)
