"""What operations on offered resources make of them (spec: mesos-v1, sections 2.8 and 6). Pure.

Master and agent reckon with the same: the master at once, so that what follows in the same ACCEPT can use the result, the agent
when it is told. Whether an operation may be done is the master's matter (`kernel.master.operation_validation`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.wire.offer import Create, Destroy, GrowVolume, Operation, OperationType, Reserve, ShrinkVolume, Unreserve
from kernel.wire.resources import Amount, DiskInfo, Key, ReservationType, Resource, Resources, is_indivisible
from kernel.wire.values import to_milli

T = TypeVar("T")


class Conversion(Struct, frozen=True, gc=False):
    """consumed turns into converted; of each kind of resource it is as much as before."""

    consumed: Resources
    converted: Resources


def conversion(operation: Operation) -> Conversion:
    """What an operation does to resources. Raises CallError for one that says nothing sensible, and for launches."""
    convert = _CONVERSIONS.get(operation.type) if operation.type is not None else None
    if convert is None:
        raise CallError(f"an operation of type {operation.type.value if operation.type is not None else None} converts nothing")
    return convert(operation)


# ---- Parts of resources ---------------------------------------------------------------------------------


def is_dynamic(key: Key) -> bool:
    """Whether it is reserved by an operation, on whatever level."""
    return any(entry.type is ReservationType.DYNAMIC for entry in key.reservations)


def is_volume(key: Key) -> bool:
    """Whether it is a persistent volume."""
    return key.disk is not None and key.disk.persistence is not None


def persistence_id(key: Key) -> str:
    """The id of a persistent volume."""
    assert key.disk is not None, "a volume is a disk"
    assert key.disk.persistence is not None, "a volume has an id"
    return key.disk.persistence.id


def volumes(resources: Resources) -> list[Key]:
    """Its persistent volumes."""
    return [key for key in resources.other or () if is_volume(key)]


def checkpointed(resources: Resources) -> Resources:
    """The part that operations have made: what an agent must remember."""
    return resources.where(lambda key: is_dynamic(key) or is_volume(key))


def unshared(resources: Resources) -> Resources:
    """All but shared volumes, which users do not take from each other."""
    if resources.other is None or not any(key.shared for key in resources.other):
        return resources
    return resources.where(lambda key: not key.shared, plain=True)


def once(resources: Resources) -> Resources:
    """The same with one user of each shared volume."""
    if resources.other is None or not any(key.shared for key in resources.other):
        return resources
    return Resources.made_of((key, 1 if key.shared else amount) for key, amount in resources.parts())


def stripped(resources: Resources) -> Resources:
    """The same before any operation: what is reserved statically stays so."""
    return Resources.made_of(_strip(*without_volume(key, amount)) for key, amount in resources.parts())


def popped(resources: Resources, field: str) -> Resources:
    """The same without the last reservation of each part. Raises CallError for a part that has none, or a static one."""
    return Resources.made_of((_pop(key, field), amount) for key, amount in resources.parts())


def without_volume(key: Key, amount: Amount) -> tuple[Key, Amount]:
    """The disk that a persistent volume is made of; anything else as it is."""
    if not is_volume(key):
        return key, amount
    assert key.disk is not None, "a volume is a disk"
    assert key.size is not None, "a volume has a size"
    source = key.disk.source
    disk = DiskInfo(source=source) if source is not None else None
    plain = Key(key.name, key.kind, key.reservations, disk, key.provider, key.revocable)
    return (replace(plain, size=key.size), 1) if disk is not None and is_indivisible(disk) else (plain, key.size)


def resized(volume: Key, by_milli: int) -> Key:
    """The volume, larger or smaller."""
    assert volume.size is not None, "a volume has a size"
    return replace(volume, size=volume.size + by_milli)


def _strip(key: Key, amount: Amount) -> tuple[Key, Amount]:
    return replace(key, reservations=tuple(entry for entry in key.reservations if entry.type is ReservationType.STATIC)), amount


def _pop(key: Key, field: str) -> Key:
    if not key.reservations or key.reservations[-1].type is not ReservationType.DYNAMIC:
        raise CallError(f"{field}: {key.name} is not reserved dynamically (type DYNAMIC), as the last of its reservations must be")
    return replace(key, reservations=key.reservations[:-1])


# ---- By operation ---------------------------------------------------------------------------------------


def _reserve(body: Reserve) -> Conversion:
    wanted = Resources.of(body.resources, "reserve.resources")
    if body.source:
        return Conversion(Resources.of(body.source, "reserve.source"), wanted)
    return Conversion(popped(wanted, "reserve.resources"), wanted)


def _unreserve(body: Unreserve) -> Conversion:
    held = Resources.of(body.resources, "unreserve.resources")
    return Conversion(held, popped(held, "unreserve.resources"))


def _create(body: Create) -> Conversion:
    made = Resources.of(body.volumes, "create.volumes")
    return Conversion(_disks(made), made)


def _destroy(body: Destroy) -> Conversion:
    held = Resources.of(body.volumes, "destroy.volumes")
    return Conversion(held, _disks(held))


def _grow(body: GrowVolume) -> Conversion:
    volume = _volume(body.volume, "grow_volume.volume")
    addition = Resources.of((body.addition,), "grow_volume.addition")
    added = sum(amount for _, amount in addition.parts() if isinstance(amount, int))
    return Conversion(Resources.made_of([(volume, 1)]) + addition, Resources.made_of([(resized(volume, added), 1)]))


def _shrink(body: ShrinkVolume) -> Conversion:
    volume = _volume(body.volume, "shrink_volume.volume")
    less = to_milli(body.subtract.value, "shrink_volume.subtract.value")
    disk, _ = without_volume(volume, 1)
    return Conversion(Resources.made_of([(volume, 1)]), Resources.made_of([(resized(volume, -less), 1), (replace(disk, size=None), less)]))


def _disks(resources: Resources) -> Resources:
    return Resources.made_of(without_volume(key, amount) for key, amount in resources.parts())


def _volume(message: Resource, field: str) -> Key:
    found = volumes(Resources.of((message,), field))
    if not found:
        raise CallError(f"{field}: must be a persistent volume (disk.persistence set)")
    return found[0]


def _of(part: str, convert: Callable[[T], Conversion]) -> Callable[[Operation], Conversion]:
    def found(operation: Operation) -> Conversion:
        body: T | None = getattr(operation, part)
        if body is None:
            raise CallError(f"{part}: must be set for an operation of type {part.upper()}")
        return convert(body)

    return found


_CONVERSIONS: dict[OperationType, Callable[[Operation], Conversion]] = {
    OperationType.RESERVE: _of("reserve", _reserve),
    OperationType.UNRESERVE: _of("unreserve", _unreserve),
    OperationType.CREATE: _of("create", _create),
    OperationType.DESTROY: _of("destroy", _destroy),
    OperationType.GROW_VOLUME: _of("grow_volume", _grow),
    OperationType.SHRINK_VOLUME: _of("shrink_volume", _shrink),
}


def apply(total: Resources, change: Conversion) -> Resources:
    """An agent's resources after an operation. Raises ValueError when what it consumes is not there."""
    return total - change.consumed + change.converted
