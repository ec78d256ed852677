"""Who masters, agents and machines are."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import Int32, ProtoMessage, UInt32, declared
from kernel.wire.common import Address, DomainInfo, DurationInfo, TimeInfo
from kernel.wire.ids import AgentID
from kernel.wire.resources import Resource
from kernel.wire.values import Ranges, Scalar, Set, Text, ValueType


class Attribute(ProtoMessage, frozen=True):
    """What is true of an agent, for frameworks to choose by. The part that `type` names is set."""

    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    text: Text | None = None


class AgentCapability(Enum):
    UNKNOWN = "UNKNOWN"
    MULTI_ROLE = "MULTI_ROLE"
    HIERARCHICAL_ROLE = "HIERARCHICAL_ROLE"
    RESERVATION_REFINEMENT = "RESERVATION_REFINEMENT"
    RESOURCE_PROVIDER = "RESOURCE_PROVIDER"
    RESIZE_VOLUME = "RESIZE_VOLUME"
    AGENT_OPERATION_FEEDBACK = "AGENT_OPERATION_FEEDBACK"
    AGENT_DRAINING = "AGENT_DRAINING"
    TASK_RESOURCE_LIMITS = "TASK_RESOURCE_LIMITS"


AGENT_CAPABILITIES = (  # All have.
    AgentCapability.MULTI_ROLE,
    AgentCapability.HIERARCHICAL_ROLE,
    AgentCapability.RESERVATION_REFINEMENT,
    AgentCapability.AGENT_DRAINING,
    AgentCapability.RESIZE_VOLUME,
    AgentCapability.AGENT_OPERATION_FEEDBACK,
)


class AgentInfoCapability(ProtoMessage, frozen=True):
    type: AgentCapability | None = None


class AgentInfo(ProtoMessage, frozen=True):
    hostname: str
    port: Int32 = field(default_factory=declared(5051))
    resources: tuple[Resource, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    id: AgentID | None = None
    domain: DomainInfo | None = None


class MasterCapability(Enum):
    UNKNOWN = "UNKNOWN"
    AGENT_UPDATE = "AGENT_UPDATE"
    AGENT_DRAINING = "AGENT_DRAINING"
    QUOTA_V2 = "QUOTA_V2"


class MasterInfoCapability(ProtoMessage, frozen=True):
    type: MasterCapability | None = None


class MasterInfo(ProtoMessage, frozen=True):
    """ip: the IPv4 address as an integer in network order, as it lies in memory (127.0.0.1 is 16777343)."""

    id: str
    ip: UInt32
    port: UInt32 = field(default_factory=declared(5050))
    pid: str | None = None
    hostname: str | None = None
    version: str | None = None
    address: Address | None = None
    domain: DomainInfo | None = None
    capabilities: tuple[MasterInfoCapability, ...] = ()


class MachineID(ProtoMessage, frozen=True):
    hostname: str | None = None
    ip: str | None = None


class Unavailability(ProtoMessage, frozen=True):
    """When a machine is not to be counted on. duration: None for ever."""

    start: TimeInfo
    duration: DurationInfo | None = None


class MachineMode(Enum):
    UP = "UP"
    DRAINING = "DRAINING"
    DOWN = "DOWN"


class MachineInfo(ProtoMessage, frozen=True):
    id: MachineID
    mode: MachineMode | None = None
    unavailability: Unavailability | None = None


class DrainState(Enum):
    UNKNOWN = "UNKNOWN"
    DRAINING = "DRAINING"
    DRAINED = "DRAINED"


class DrainConfig(ProtoMessage, frozen=True):
    """max_grace_period: caps the kill grace of tasks. mark_gone: once drained, the agent never comes back."""

    max_grace_period: DurationInfo | None = None
    mark_gone: bool = field(default_factory=declared(False))


class DrainInfo(ProtoMessage, frozen=True):
    state: DrainState
    config: DrainConfig
