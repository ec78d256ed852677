"""Whether an operation on resources may be done, in the order Mesos checks (spec: mesos-v1, section 2.8).

Pure: one function for each type of operation. What is wrong is raised as OperationFault, whose text a scheduler gets in
OPERATION_ERROR and an operator in the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from kernel.errors import CallError
from kernel.wire.common import VolumeMode
from kernel.wire.conversion import (
    Conversion,
    checkpointed,
    conversion,
    is_dynamic,
    is_volume,
    persistence_id,
    stripped,
    volumes,
    without_volume,
)
from kernel.wire.ids import validate_id
from kernel.wire.nodes import AgentCapability
from kernel.wire.offer import Create, Destroy, GrowVolume, Operation, OperationType, Reserve, ShrinkVolume, Unreserve
from kernel.wire.resources import DiskSourceType, Key, Resource, Resources
from kernel.wire.roles import ANY_ROLE


class OperationFault(CallError):
    """An operation is not valid; the text says which field is wrong, and what is allowed."""


class Actor(Struct, frozen=True):
    """Who asks. principal: proved or claimed, None for nobody in particular. role: of the offers being accepted, None for an operator;
    roles: all that the framework has. shared: whether it knows of shared volumes."""

    principal: str | None = None
    role: str | None = None
    roles: tuple[str, ...] = ()
    shared: bool = True


class Place(Struct, frozen=True):
    """The agent: all it has, what of that is used, and what it is capable of."""

    total: Resources
    used: Resources
    capabilities: tuple[AgentCapability, ...]


def check(operation: Operation, actor: Actor, place: Place) -> Conversion:
    """Check an operation and return what it does. Raises OperationFault."""
    kind = operation.type
    found = _CHECKS.get(kind) if kind is not None else None
    if found is None:
        raise OperationFault(_unknown(kind))
    part, check_body = found
    body = getattr(operation, part)
    if body is None:
        raise OperationFault(f"{part}: must be set for an operation of type {part.upper()}")
    _require(
        AgentCapability.AGENT_OPERATION_FEEDBACK in place.capabilities,
        "the agent is not capable of AGENT_OPERATION_FEEDBACK: its release knows no operations",
    )
    try:
        check_body(body, actor, place)
        change = conversion(operation)
    except OperationFault:
        raise
    except CallError as error:
        raise OperationFault(str(error)) from error
    return change


def check_there(info: Operation, wanted: Resources, there: Resources, what: str) -> None:
    """Whether there is enough for it. what: what `there` is. Raises OperationFault naming what is missing."""
    if there.contains(wanted):
        return
    held = dict(there.parts())
    short = [(key, amount) for key, amount in wanted.parts() if not there.contains(Resources.made_of([(key, amount)]))]
    some = Resources.made_of((key, held[key]) for key, _ in short if key in held)
    field = _LISTS[info.type] if info.type is not None else ""
    raise OperationFault(f"{field}: {{{Resources.made_of(short)}}} is needed, {f'{{{some}}}' if some else 'none of that'} is {what}")


def _unknown(kind: OperationType | None) -> str:
    if kind in (OperationType.CREATE_DISK, OperationType.DESTROY_DISK):
        return f"{kind.value} needs a resource provider: the agent is not capable of RESOURCE_PROVIDER"
    return f"type: {kind.value if kind is not None else None} is unknown; allowed are {', '.join(known.value for known in _CHECKS)}"


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise OperationFault(text)


# ---- What several have in common ------------------------------------------------------------------------


def _check_messages(messages: tuple[Resource, ...], field: str, actor: Actor) -> Resources:
    """Well-formed amounts of the agent's own, allocated as they must be."""
    _require(bool(messages), f"{field}: must not be empty")
    for index, message in enumerate(messages):
        at, allocation = f"{field}[{index}]", message.allocation_info
        if actor.role is None:
            _require(allocation is None, f"{at}.allocation_info: must not be set by an operator")
        elif allocation is not None and allocation.role not in (None, actor.role):
            raise OperationFault(f"{at}.allocation_info.role: is '{allocation.role}', the offer's role is '{actor.role}'")
        _require(message.provider_id is None, f"{at}.provider_id: the agent has no resource providers")
        _require(message.revocable is None, f"{at}.revocable: revocable resources can neither be reserved nor made volumes of")
    resources = Resources.of(messages, field)
    _require(bool(resources), f"{field}: all of it is 0; amounts must be above 0")
    for key, amount in resources.parts():
        if is_volume(key) and amount != 1:
            raise OperationFault(f"{field}: the volume '{persistence_id(key)}' is named twice")
    return resources


def _check_principal(given: str | None, field: str, actor: Actor) -> None:
    if actor.principal is not None:
        _require(given is not None, f"{field}: must be '{actor.principal}', the principal of who asks; it is missing")
        _require(given == actor.principal, f"{field}: is '{given}', the principal of who asks is '{actor.principal}'")


def _check_reserver(key: Key, field: str, actor: Actor, place: Place) -> None:
    """The last reservation of a part is one that the actor may make."""
    last, role = key.reservations[-1], key.role
    able = place.capabilities
    _require("/" not in role or AgentCapability.HIERARCHICAL_ROLE in able, f"{field}: the agent is not capable of HIERARCHICAL_ROLE")
    refined = len(key.reservations) > 1
    _require(not refined or AgentCapability.RESERVATION_REFINEMENT in able, f"{field}: the agent is not capable of RESERVATION_REFINEMENT")
    if actor.role is not None:
        _require(role == actor.role, f"{field}.role: is '{role}', the offer's role is '{actor.role}': only for it can be reserved")
        _require(role in actor.roles, f"{field}.role: '{role}' is not one of the framework's roles")
    _check_principal(last.principal, f"{field}.principal", actor)


def _reserved(resources: Resources, field: str) -> list[Key]:
    """Its parts, all of which are reserved, none being a volume."""
    keys = [key for key, _ in resources.parts()]
    for key in keys:
        _require(not is_volume(key), f"{field}: the volume of {key.name} must be destroyed first")
        _require(key.role != ANY_ROLE, f"{field}: {key.name} names no reservation ('*' is the role of what is not reserved)")
    return keys


# ---- Reservations ---------------------------------------------------------------------------------------


def _check_reserve(body: Reserve, actor: Actor, place: Place) -> None:
    wanted = _check_messages(body.resources, "reserve.resources", actor)
    if not body.source:
        for key in _reserved(wanted, "reserve.resources"):
            _require(is_dynamic(key), f"reserve.resources: the reservation of {key.name} must be of type DYNAMIC")
            _check_reserver(key, "reserve.resources.reservations", actor, place)
        return
    _require(actor.role is None, "reserve.source: only operators can change reservations; unreserve, then reserve")
    held = _check_messages(body.source, "reserve.source", actor)
    _reserved(held, "reserve.source")
    for key in _reserved(wanted, "reserve.resources"):
        _check_reserver(key, "reserve.resources.reservations", actor, place)
    for what, part in (("source", held), ("resources", wanted)):
        _require(checkpointed(part) == part, f"reserve.{what}: each must be reserved dynamically (type DYNAMIC)")
    if stripped(held) != stripped(wanted):
        raise OperationFault(f"reserve.resources: {{{wanted}}} is not as much as reserve.source, {{{held}}}")


def _check_unreserve(body: Unreserve, actor: Actor, place: Place) -> None:
    held = _check_messages(body.resources, "unreserve.resources", actor)
    for key in _reserved(held, "unreserve.resources"):
        _require(is_dynamic(key), f"unreserve.resources: {key.name} is reserved statically, by the agent's flags")


# ---- Volumes --------------------------------------------------------------------------------------------


def _check_create(body: Create, actor: Actor, place: Place) -> None:
    wanted = _check_messages(body.volumes, "create.volumes", actor)
    taken = {(key.role, persistence_id(key)) for key in volumes(place.total)}
    for key, _ in wanted.parts():
        _require(is_volume(key), f"create.volumes: {key.name} is not a persistent volume (disk.persistence set)")
        name = persistence_id(key)
        validate_id(name, "create.volumes.disk.persistence.id")
        _check_mount(key, "create.volumes.disk.volume")
        _require(key.role != ANY_ROLE, f"create.volumes: the disk of '{name}' must be reserved")
        _require(
            (key.role, name) not in taken,
            f"create.volumes.disk.persistence.id: role '{key.role}' has a volume '{name}' here already",
        )
        taken.add((key.role, name))
        assert key.disk is not None, "a volume is a disk"
        assert key.disk.persistence is not None, "a volume has an id"
        source = key.disk.source
        if source is not None and source.type not in (DiskSourceType.PATH, DiskSourceType.MOUNT):
            raise OperationFault(f"create.volumes.disk.source.type: is {source.type.value}; allowed are PATH and MOUNT")
        _require(actor.shared or not key.shared, "create.volumes.shared: the framework is not capable of SHARED_RESOURCES")
        _check_principal(key.disk.persistence.principal, "create.volumes.disk.persistence.principal", actor)


def _check_mount(key: Key, field: str) -> None:
    volume = key.use.volume if key.use is not None else None
    if volume is None:
        raise OperationFault(f"{field}: must be set")
    _require(volume.mode is VolumeMode.RW, f"{field}.mode: must be RW, a volume is made to be written")
    _require(volume.host_path is None, f"{field}.host_path: must not be set, the agent decides where a volume is")
    _require(bool(volume.container_path), f"{field}.container_path: must not be empty")
    _require(".." not in volume.container_path.split("/"), f"{field}.container_path: must not contain '..'")


def _check_destroy(body: Destroy, actor: Actor, place: Place) -> None:
    held = _check_messages(body.volumes, "destroy.volumes", actor)
    for key, _ in held.parts():
        _require(is_volume(key), f"destroy.volumes: {key.name} is not a persistent volume (disk.persistence set)")
        _check_exists(key, "destroy.volumes", place)


def _check_exists(key: Key, field: str, place: Place) -> None:
    name = persistence_id(key)
    _require(key in (place.total.other or ()), f"{field}: the agent has no such volume '{name}' of role '{key.role}'")
    _require(key not in (place.used.other or ()), f"{field}: the volume '{name}' of role '{key.role}' is used by a task")


def _check_resizable(message: Resource, field: str, actor: Actor, place: Place) -> Key:
    _require(AgentCapability.RESIZE_VOLUME in place.capabilities, f"{field}: the agent is not capable of RESIZE_VOLUME")
    found = volumes(_check_messages((message,), field, actor))
    if not found:
        raise OperationFault(f"{field}: must be a persistent volume (disk.persistence set)")
    (key,) = found
    assert key.disk is not None, "a volume is a disk"
    mount = key.disk.source is not None and key.disk.source.type is DiskSourceType.MOUNT
    _require(not mount, f"{field}.disk.source: a volume that takes a whole MOUNT disk cannot change its size")
    _require(not key.shared, f"{field}.shared: a shared volume cannot change its size")
    _check_exists(key, field, place)
    return key


def _check_grow(body: GrowVolume, actor: Actor, place: Place) -> None:
    volume = _check_resizable(body.volume, "grow_volume.volume", actor, place)
    addition = _check_messages((body.addition,), "grow_volume.addition", actor).parts()
    _require(bool(addition), "grow_volume.addition: must be above 0")
    plain, _ = without_volume(volume, 1)
    if addition[0][0] != plain:
        raise OperationFault("grow_volume.addition: must be plain disk with the reservations and source of the volume")


def _check_shrink(body: ShrinkVolume, actor: Actor, place: Place) -> None:
    volume = _check_resizable(body.volume, "shrink_volume.volume", actor, place)
    assert volume.size is not None, "a volume has a size"
    if not 0 < body.subtract.value * 1000 < volume.size:
        raise OperationFault(
            f"shrink_volume.subtract.value: is {body.subtract.value:g}, must be above 0 and below the size, {volume.size / 1000:g}"
        )


_LISTS = {  # Where each says what it takes.
    OperationType.RESERVE: "reserve.resources",
    OperationType.UNRESERVE: "unreserve.resources",
    OperationType.CREATE: "create.volumes",
    OperationType.DESTROY: "destroy.volumes",
    OperationType.GROW_VOLUME: "grow_volume.addition",
    OperationType.SHRINK_VOLUME: "shrink_volume.volume",
}
_CHECKS: dict[OperationType, tuple[str, Callable[[Any, Actor, Place], None]]] = {
    OperationType.RESERVE: ("reserve", _check_reserve),
    OperationType.UNRESERVE: ("unreserve", _check_unreserve),
    OperationType.CREATE: ("create", _check_create),
    OperationType.DESTROY: ("destroy", _check_destroy),
    OperationType.GROW_VOLUME: ("grow_volume", _check_grow),
    OperationType.SHRINK_VOLUME: ("shrink_volume", _check_shrink),
}
