"""Who a framework is."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import ProtoMessage, declared
from kernel.wire.common import Labels
from kernel.wire.ids import FrameworkID
from kernel.wire.values import Scalar


class FrameworkCapability(Enum):
    """What a framework can deal with; what each brings: spec mesos-v1, section 2.3."""

    UNKNOWN = "UNKNOWN"
    REVOCABLE_RESOURCES = "REVOCABLE_RESOURCES"
    TASK_KILLING_STATE = "TASK_KILLING_STATE"
    GPU_RESOURCES = "GPU_RESOURCES"
    SHARED_RESOURCES = "SHARED_RESOURCES"
    PARTITION_AWARE = "PARTITION_AWARE"
    MULTI_ROLE = "MULTI_ROLE"
    RESERVATION_REFINEMENT = "RESERVATION_REFINEMENT"
    REGION_AWARE = "REGION_AWARE"


class Capability(ProtoMessage, frozen=True):
    """type: None when the framework named one we do not know."""

    type: FrameworkCapability | None = None


class ResourceQuantities(ProtoMessage, frozen=True):
    quantities: dict[str, Scalar] = field(default_factory=dict)


class MinAllocatableResources(ProtoMessage, frozen=True):
    quantities: tuple[ResourceQuantities, ...] = ()


class OfferFilters(ProtoMessage, frozen=True):
    """min_allocatable_resources: offers that hold none of these quantities are not worth sending."""

    min_allocatable_resources: MinAllocatableResources | None = None


ENDS_WITH_TASKS = "meseta.ends_with_tasks"  # Label, any value: while nobody is subscribed, the last task ends the framework, too.


class FrameworkInfo(ProtoMessage, frozen=True):
    """A framework as it describes itself.

    user: whom its tasks run as, "" the agent's own. id: unset at the first SUBSCRIBE. failover_timeout: seconds it is
    waited for after its stream closed. role: only without the capability MULTI_ROLE (None: `*`), roles only with it.
    """

    user: str
    name: str
    id: FrameworkID | None = None
    failover_timeout: float = field(default_factory=declared(0.0))
    checkpoint: bool = field(default_factory=declared(False))
    role: str | None = None
    roles: tuple[str, ...] = ()
    hostname: str | None = None
    principal: str | None = None
    webui_url: str | None = None
    capabilities: tuple[Capability, ...] = ()
    labels: Labels | None = None
    offer_filters: dict[str, OfferFilters] = field(default_factory=dict)
