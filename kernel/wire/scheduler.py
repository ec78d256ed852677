"""The scheduler API: calls of a framework to the master, events back (spec: mesos-v1, section 2).

`type` is plain text, so that a call or event of a newer release can be read and refused or ignored by name.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from kernel.wire.base import Int32, ProtoMessage
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OfferID, OperationID, ResourceProviderID, TaskID
from kernel.wire.nodes import MasterInfo
from kernel.wire.offer import Filters, InverseOffer, Offer, OfferConstraints, Operation, OperationStatus, RoleConstraints
from kernel.wire.resources import Resource
from kernel.wire.task import KillPolicy, TaskStatus

# ---- Calls ----------------------------------------------------------------------------------------------


class Subscribe(ProtoMessage, frozen=True):
    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()
    offer_constraints: OfferConstraints | None = None


class Teardown(ProtoMessage, frozen=True):
    """The TEARDOWN call has no body; this one is made where calls are taken apart."""


class Unknown(ProtoMessage, frozen=True):
    """What the type UNKNOWN, the default of protobuf, stands for: no call at all. Made as Teardown is."""


class Accept(ProtoMessage, frozen=True):
    offer_ids: tuple[OfferID, ...] = ()
    operations: tuple[Operation, ...] = ()
    filters: Filters | None = None


class Decline(ProtoMessage, frozen=True):
    offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class AcceptInverseOffers(ProtoMessage, frozen=True):
    inverse_offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class DeclineInverseOffers(ProtoMessage, frozen=True):
    inverse_offer_ids: tuple[OfferID, ...] = ()
    filters: Filters | None = None


class Revive(ProtoMessage, frozen=True):
    """roles: empty for all."""

    roles: tuple[str, ...] = ()


class Suppress(ProtoMessage, frozen=True):
    """roles: empty for all."""

    roles: tuple[str, ...] = ()


class Kill(ProtoMessage, frozen=True):
    task_id: TaskID
    agent_id: AgentID | None = None
    kill_policy: KillPolicy | None = None


class Shutdown(ProtoMessage, frozen=True):
    executor_id: ExecutorID
    agent_id: AgentID


class Acknowledge(ProtoMessage, frozen=True):
    agent_id: AgentID
    task_id: TaskID
    uuid: bytes


class AcknowledgeOperationStatus(ProtoMessage, frozen=True):
    uuid: bytes
    operation_id: OperationID
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None


class ReconcileTask(ProtoMessage, frozen=True):
    """The Call.Reconcile.Task of v1."""

    task_id: TaskID
    agent_id: AgentID | None = None


class Reconcile(ProtoMessage, frozen=True):
    """tasks: empty for all the master holds."""

    tasks: tuple[ReconcileTask, ...] = ()


class ReconcileOperation(ProtoMessage, frozen=True):
    """The Call.ReconcileOperations.Operation of v1."""

    operation_id: OperationID
    agent_id: AgentID | None = None
    resource_provider_id: ResourceProviderID | None = None


class ReconcileOperations(ProtoMessage, frozen=True):
    """operations: empty for all the master holds."""

    operations: tuple[ReconcileOperation, ...] = ()


class Message(ProtoMessage, frozen=True):
    agent_id: AgentID
    executor_id: ExecutorID
    data: bytes


class ResourceRequest(ProtoMessage, frozen=True):
    """A shape of tasks that wait, the mesos.v1.Request; all but agent_id and resources is our extension.

    resources: what one task needs; of a name that is marked revocable, slack. agent_id: the only agent it may run on. name: what to
    call it when explaining. role: one of the framework's, None for its only one. count: how many wait. min: fewer at once are of no
    use. constraints: groups as in OfferConstraints. priority: higher first within the framework. prefer: agents it would rather run
    on, best first.
    """

    agent_id: AgentID | None = None
    resources: Annotated[tuple[Resource, ...], Meta(max_length=1_000)] = ()
    name: Annotated[str, Meta(max_length=255)] = ""
    role: str | None = None
    count: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    min: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    constraints: RoleConstraints | None = None
    priority: Int32 = 0
    prefer: Annotated[tuple[AgentID, ...], Meta(max_length=1_000)] = ()


class Request(ProtoMessage, frozen=True):
    """The framework's whole demand, in place of what it said before; empty: nothing waits."""

    requests: Annotated[tuple[ResourceRequest, ...], Meta(max_length=10_000)] = ()


class UpdateFramework(ProtoMessage, frozen=True):
    framework_info: FrameworkInfo
    suppressed_roles: tuple[str, ...] = ()
    offer_constraints: OfferConstraints | None = None


class Call(ProtoMessage, frozen=True):
    """The envelope of all calls: the part that `type` names is set (SUBSCRIBE: subscribe)."""

    framework_id: FrameworkID | None = None
    type: str | None = None
    subscribe: Subscribe | None = None
    accept: Accept | None = None
    decline: Decline | None = None
    accept_inverse_offers: AcceptInverseOffers | None = None
    decline_inverse_offers: DeclineInverseOffers | None = None
    revive: Revive | None = None
    kill: Kill | None = None
    shutdown: Shutdown | None = None
    acknowledge: Acknowledge | None = None
    acknowledge_operation_status: AcknowledgeOperationStatus | None = None
    reconcile: Reconcile | None = None
    reconcile_operations: ReconcileOperations | None = None
    message: Message | None = None
    request: Request | None = None
    suppress: Suppress | None = None
    update_framework: UpdateFramework | None = None


# ---- Events ---------------------------------------------------------------------------------------------


class Subscribed(ProtoMessage, frozen=True):
    framework_id: FrameworkID
    heartbeat_interval_seconds: float | None = None
    master_info: MasterInfo | None = None


class Offers(ProtoMessage, frozen=True):
    offers: tuple[Offer, ...] = ()


class InverseOffers(ProtoMessage, frozen=True):
    inverse_offers: tuple[InverseOffer, ...] = ()


class Rescind(ProtoMessage, frozen=True):
    offer_id: OfferID


class RescindInverseOffer(ProtoMessage, frozen=True):
    inverse_offer_id: OfferID


class Update(ProtoMessage, frozen=True):
    status: TaskStatus


class UpdateOperationStatus(ProtoMessage, frozen=True):
    status: OperationStatus


class EventMessage(ProtoMessage, frozen=True):
    """The Event.Message of v1 (`Message` here is the call)."""

    agent_id: AgentID
    executor_id: ExecutorID
    data: bytes


class Failure(ProtoMessage, frozen=True):
    """With executor_id that executor ended, status being its raw wait status or -1; without, the agent is lost."""

    agent_id: AgentID | None = None
    executor_id: ExecutorID | None = None
    status: Int32 | None = None


class Error(ProtoMessage, frozen=True):
    """The stream ends here; the framework must subscribe again or stop."""

    message: str


class Event(ProtoMessage, frozen=True):
    """What the master tells a framework: the part that `type` names is set; HEARTBEAT has none."""

    type: str | None = None
    subscribed: Subscribed | None = None
    offers: Offers | None = None
    inverse_offers: InverseOffers | None = None
    rescind: Rescind | None = None
    rescind_inverse_offer: RescindInverseOffer | None = None
    update: Update | None = None
    update_operation_status: UpdateOperationStatus | None = None
    message: EventMessage | None = None
    failure: Failure | None = None
    error: Error | None = None
