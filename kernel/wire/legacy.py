"""The objects that Mesos's older endpoints share, which it wrote by hand (spec: mesos-v1, section 5.1).

Fields without a default are always printed, empty arrays too; those that default to None only when set.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from msgspec import Raw, Struct
from msgspec.structs import replace

from kernel.wire.codec import encode
from kernel.wire.command import CommandInfo, DiscoveryInfo, Environment, HealthCheck
from kernel.wire.common import Label, Secret
from kernel.wire.container import ContainerInfo, ContainerStatus
from kernel.wire.nodes import Attribute
from kernel.wire.resources import Key, Resources
from kernel.wire.task import TaskState, TaskStatus
from kernel.wire.values import coalesce, format_items, format_milli, format_spans

T = TypeVar("T")


def resources_object(resources: Resources) -> Raw:
    """Amounts by name: scalars as numbers, ranges and sets as text; of one name reserved and unreserved together,
    revocable apart."""
    if resources.other is None:
        return _plain(resources.cpus, resources.mem, resources.disk, resources.gpus)
    amounts: dict[str, Any] = {
        "cpus": resources.cpus / 1000,
        "gpus": resources.gpus / 1000,
        "mem": resources.mem / 1000,
        "disk": resources.disk / 1000,
    }
    spans: dict[str, list[tuple[int, int]]] = {}
    items: dict[str, set[str]] = {}
    for key, amount in resources.other.items():
        name = f"{key.name}_revocable" if key.revocable else key.name
        if isinstance(amount, int):
            amounts[name] = amounts.get(name, 0.0) + (amount if key.size is None else amount * key.size) / 1000
        elif isinstance(amount, tuple):
            spans.setdefault(name, []).extend(amount)
        else:
            items.setdefault(name, set()).update(amount)
    amounts |= {name: format_spans(coalesce(sorted(parts))) for name, parts in spans.items()}
    amounts |= {name: format_items(parts) for name, parts in items.items()}
    return Raw(encode(amounts))


@lru_cache(maxsize=65536)
def _plain(cpus: int, mem: int, disk: int, gpus: int) -> Raw:
    return Raw(encode({"cpus": cpus / 1000, "gpus": gpus / 1000, "mem": mem / 1000, "disk": disk / 1000}))


def reserved_by_role(resources: Resources) -> dict[str, Resources]:
    """The reserved part, by the role it is reserved for."""
    found: dict[str, Resources] = {}
    for key, amount in (resources.other or {}).items():
        if key.reservations:
            found[key.role] = found.get(key.role, Resources()) + Resources(other={key: amount})
    return found


def unreserved(resources: Resources) -> Resources:
    """The part that is reserved for nobody."""

    def free(key: Key) -> bool:
        return not key.reservations

    return resources if resources.other is None or all(map(free, resources.other)) else resources.where(free, plain=True)


def attributes_object(attributes: Iterable[Attribute]) -> dict[str, float | str]:
    """Attributes by name: numbers, or text."""
    shown: dict[str, float | str] = {}
    for attribute in attributes:
        if attribute.scalar is not None:
            shown[attribute.name] = float(format_milli(round(attribute.scalar.value * 1000)))
        elif attribute.ranges is not None:
            shown[attribute.name] = format_spans(tuple((part.begin, part.end) for part in attribute.ranges.range))
        elif attribute.set is not None:
            shown[attribute.name] = format_items(attribute.set.item)
        elif attribute.text is not None:
            shown[attribute.name] = attribute.text.value
    return shown


class StatusObject(Struct, gc=False, omit_defaults=True):
    state: TaskState
    timestamp: float
    labels: tuple[Label, ...] | None = None
    container_status: ContainerStatus | None = None
    healthy: bool | None = None


class TaskObject(Struct, gc=False, omit_defaults=True):
    """executor_id: empty for a command task."""

    id: str
    name: str
    framework_id: str
    executor_id: str
    slave_id: str
    state: TaskState
    resources: Raw
    role: str
    statuses: Sequence[StatusObject]
    limits: dict[str, float] | None = None
    user: str | None = None
    labels: tuple[Label, ...] | None = None
    discovery: DiscoveryInfo | None = None
    container: ContainerInfo | None = None
    health_check: HealthCheck | None = None


def status_object(status: TaskStatus) -> StatusObject:
    container = status.container_status
    if container is not None and container.executor_pid is not None:
        container = replace(container, executor_pid=None)
    labels = status.labels.labels if status.labels is not None else None
    return StatusObject(status.state, status.timestamp or 0.0, labels, container, status.healthy)


class UriObject(Struct, gc=False):
    value: str
    executable: bool


class CommandObject(Struct, gc=False, omit_defaults=True):
    argv: tuple[str, ...]
    uris: list[UriObject]
    shell: bool | None = None
    value: str | None = None
    environment: Environment | None = None


def command_object(command: CommandInfo | None) -> CommandObject:
    shown = without_secrets(command) or CommandInfo()
    uris = [UriObject(uri.value, uri.executable or False) for uri in shown.uris]
    return CommandObject(shown.arguments, uris, shown.shell, shown.value, shown.environment)


def without_secrets(message: T) -> T:
    """The message without the values of secrets, which are never shown; itself when it has none."""
    if isinstance(message, Secret):
        return message if message.value is None else replace(message, value=None)
    if isinstance(message, Struct):
        changed = {}
        for name in message.__struct_fields__:
            part = getattr(message, name)
            if isinstance(part, Struct | tuple | dict) and part and (shown := without_secrets(part)) is not part:
                changed[name] = shown
        return replace(message, **changed) if changed else message
    if isinstance(message, tuple):
        parts: Any = tuple(map(without_secrets, message))
        return message if all(new is old for new, old in zip(parts, message, strict=True)) else parts
    if isinstance(message, dict):
        found: Any = {name: without_secrets(part) for name, part in message.items()}
        return message if all(found[name] is part for name, part in message.items()) else found
    return message
