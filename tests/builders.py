"""Small makers of messages for tests: name what matters, the rest has a sensible value."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kernel.clock import Now
from kernel.wire.agent import LINK_VERSION, Register
from kernel.wire.common import Volume, VolumeMode
from kernel.wire.container import IPAddress, NetworkInfo
from kernel.wire.framework import Capability, FrameworkCapability, FrameworkInfo
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OfferID, OperationID, TaskID
from kernel.wire.nodes import AGENT_CAPABILITIES
from kernel.wire.offer import (
    Create,
    Destroy,
    Filters,
    GrowVolume,
    Launch,
    LaunchGroup,
    Operation,
    OperationType,
    Reserve,
    ShrinkVolume,
    Unreserve,
)
from kernel.wire.resources import (
    DiskInfo,
    DiskSource,
    Persistence,
    ReservationInfo,
    ReservationType,
    Resource,
    Resources,
    RevocableInfo,
    Scalar,
    SharedInfo,
)
from kernel.wire.scheduler import Accept
from kernel.wire.task import CommandInfo, ExecutorInfo, TaskGroupInfo, TaskInfo


def at(seconds: float) -> Now:
    """An instant `seconds` after the start of a test; the wall clock is far from the other."""
    return Now(seconds, 1_700_000_000.0 + seconds)


def resources(text: str) -> tuple[Resource, ...]:
    return Resources.parse(text).messages()


def register(name: str = "a", text: str = "cpus:4;mem:4096;disk:1000", **fields: Any) -> Register:
    """A registration of the agent process `name`."""
    values: dict[str, Any] = {
        "version": LINK_VERSION,
        "agent_id": "",
        "run": f"run-{name}",
        "hostname": f"host-{name}",
        "ip": "10.0.0.1",
        "port": 5051 + sum(name.encode()),  # Each agent of a test listens somewhere else.
        "resources": resources(text),
        "software": "1.0",
        "boot_id": "boot",
        "capabilities": AGENT_CAPABILITIES,
    }
    return Register(**{**values, **fields})


def framework_info(name: str = "f", *capabilities: FrameworkCapability, **fields: Any) -> FrameworkInfo:
    return FrameworkInfo(
        fields.pop("user", "nobody"), name, capabilities=tuple(Capability(capability) for capability in capabilities), **fields
    )


def task(task_id: str, agent_id: str, text: str = "cpus:1;mem:32", **fields: Any) -> TaskInfo:
    """A command task, or one of an executor when `executor` is given."""
    if "executor" not in fields:
        fields.setdefault("command", CommandInfo(value="true"))
    return TaskInfo(name=task_id, task_id=TaskID(task_id), agent_id=AgentID(agent_id), resources=resources(text), **fields)


def networks(address: str, **fields: Any) -> tuple[NetworkInfo, ...]:
    """The network of a container that has this address there."""
    return (NetworkInfo((IPAddress(ip_address=address),), **fields),)


def executor(executor_id: str, text: str = "cpus:0.1;mem:32;disk:10", **fields: Any) -> ExecutorInfo:
    fields.setdefault("command", CommandInfo(value="run-executor"))
    return ExecutorInfo(executor_id=ExecutorID(executor_id), resources=resources(text), **fields)


def accept(offer_ids: list[str], *tasks: TaskInfo, refuse_s: float = 5.0) -> Accept:
    operations = (Operation(OperationType.LAUNCH, launch=Launch(tasks)),) if tasks else ()
    return Accept(tuple(OfferID(offer_id) for offer_id in offer_ids), operations, Filters(refuse_s))


def accept_group(offer_ids: list[str], group_executor: ExecutorInfo, *tasks: TaskInfo) -> Accept:
    operation = Operation(OperationType.LAUNCH_GROUP, launch_group=LaunchGroup(group_executor, TaskGroupInfo(tasks)))
    return Accept(tuple(OfferID(offer_id) for offer_id in offer_ids), (operation,))


def reserved(text: str, *roles: str, principal: str | None = None) -> tuple[Resource, ...]:
    """Resources reserved dynamically for these roles, outermost first."""
    stack = tuple(ReservationInfo(ReservationType.DYNAMIC, role, principal) for role in roles)
    return tuple(replace(resource, reservations=stack) for resource in resources(text))


def slack(text: str) -> tuple[Resource, ...]:
    """Revocable amounts of these."""
    return tuple(replace(resource, revocable=RevocableInfo()) for resource in resources(text))


def volume(
    name: str,
    size_mb: float,
    *roles: str,
    path: str = "data",
    mode: VolumeMode = VolumeMode.RW,
    principal: str | None = None,
    shared: bool = False,
    source: DiskSource | None = None,
) -> Resource:
    """A persistent volume on a disk reserved dynamically for these roles."""
    (disk,) = reserved(f"disk:{size_mb:f}", *roles, principal=principal)
    info = DiskInfo(Persistence(name, principal), Volume(mode, path), source)
    return replace(disk, disk=info, shared=SharedInfo() if shared else None)


def reserve(*wanted: Resource, source: tuple[Resource, ...] = (), **fields: Any) -> Operation:
    return operation(OperationType.RESERVE, reserve=Reserve(source, wanted), **fields)


def unreserve(*held: Resource, **fields: Any) -> Operation:
    return operation(OperationType.UNRESERVE, unreserve=Unreserve(held), **fields)


def create(*wanted: Resource, **fields: Any) -> Operation:
    return operation(OperationType.CREATE, create=Create(wanted), **fields)


def destroy(*held: Resource, **fields: Any) -> Operation:
    return operation(OperationType.DESTROY, destroy=Destroy(held), **fields)


def grow(held: Resource, addition: Resource, **fields: Any) -> Operation:
    return operation(OperationType.GROW_VOLUME, grow_volume=GrowVolume(held, addition), **fields)


def shrink(held: Resource, by_mb: float, **fields: Any) -> Operation:
    return operation(OperationType.SHRINK_VOLUME, shrink_volume=ShrinkVolume(held, Scalar(by_mb)), **fields)


def launch(*tasks: TaskInfo) -> Operation:
    return Operation(OperationType.LAUNCH, launch=Launch(tasks))


def operation(kind: OperationType, operation_id: str | None = None, **parts: Any) -> Operation:
    return Operation(kind, OperationID(operation_id) if operation_id is not None else None, **parts)


def accept_operations(offer_ids: list[str], *operations: Operation, refuse_s: float = 5.0) -> Accept:
    return Accept(tuple(OfferID(offer_id) for offer_id in offer_ids), operations, Filters(refuse_s))


def framework_id(text: str) -> FrameworkID:
    return FrameworkID(text)
