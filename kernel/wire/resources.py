"""Resource messages and `Resources`, the value every decision reckons with (spec: mesos-v1, sections 6 and 15).

A message says what a client said; a `Resources` is what it means: integers of thousandths, checked, merged, without the
allocation. The unreserved, non-revocable scalars cpus, mem, disk and gpus have slots of their own (nearly all traffic);
everything else lies in `other` under a `Key`. Knows nothing of who holds or wants them.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import chain

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.wire.base import ProtoMessage
from kernel.wire.common import Labels, Volume
from kernel.wire.ids import ResourceProviderID
from kernel.wire.roles import ANY_ROLE, is_strict_subrole, validate_role
from kernel.wire.values import (
    Range,
    Ranges,
    Scalar,
    Set,
    Spans,
    Text,
    Value,
    ValueType,
    coalesce,
    format_items,
    format_milli,
    format_spans,
    parse_value,
    span_contains,
    span_difference,
    span_size,
    span_union,
    to_items,
    to_milli,
    to_spans,
)

__all__ = [
    "EMPTY", "AllocationInfo", "DiskInfo", "DiskMount", "DiskPath", "DiskSource", "DiskSourceType", "Form", "Key", "Persistence",
    "Range", "Ranges", "ReservationInfo", "ReservationType", "Resource", "Resources", "RevocableInfo", "Scalar", "Set", "SharedInfo",
    "Text", "Use", "Value", "ValueType", "is_indivisible",
]  # fmt: skip


# ---- Messages -------------------------------------------------------------------------------------------


class AllocationInfo(ProtoMessage, frozen=True):
    role: str | None = None


class ReservationType(enum.Enum):
    UNKNOWN = "UNKNOWN"
    STATIC = "STATIC"
    DYNAMIC = "DYNAMIC"


class ReservationInfo(ProtoMessage, frozen=True):
    """One level of a reservation. In Resource.reservation (the old form) type and role are unset."""

    type: ReservationType | None = None
    role: str | None = None
    principal: str | None = None
    labels: Labels | None = None


class Persistence(ProtoMessage, frozen=True):
    id: str
    principal: str | None = None


class DiskPath(ProtoMessage, frozen=True):
    root: str | None = None


class DiskMount(ProtoMessage, frozen=True):
    root: str | None = None


class DiskSourceType(enum.Enum):
    UNKNOWN = "UNKNOWN"
    PATH = "PATH"
    MOUNT = "MOUNT"
    BLOCK = "BLOCK"
    RAW = "RAW"


class DiskSource(ProtoMessage, frozen=True):
    type: DiskSourceType
    path: DiskPath | None = None
    mount: DiskMount | None = None
    vendor: str | None = None
    id: str | None = None
    metadata: Labels | None = None
    profile: str | None = None


class DiskInfo(ProtoMessage, frozen=True):
    """What makes a disk special. persistence set: a persistent volume, mounted as `volume` says."""

    persistence: Persistence | None = None
    volume: Volume | None = None
    source: DiskSource | None = None


class RevocableInfo(ProtoMessage, frozen=True):
    """Present: the agent may take the resource back at any time."""


class SharedInfo(ProtoMessage, frozen=True):
    """Present: tasks may use the same volume at the same time."""


class Resource(ProtoMessage, frozen=True):
    """One named amount. Exactly the part that `type` names is set; `role` and `reservation` are the old form of `reservations`."""

    name: str
    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    role: str | None = None
    reservation: ReservationInfo | None = None
    reservations: tuple[ReservationInfo, ...] = ()
    disk: DiskInfo | None = None
    revocable: RevocableInfo | None = None
    shared: SharedInfo | None = None
    allocation_info: AllocationInfo | None = None
    provider_id: ResourceProviderID | None = None


class Form(enum.Enum):
    """How reservations are written (spec 6.3). PRE: for frameworks without RESERVATION_REFINEMENT; ENDPOINT: legacy JSON."""

    POST = "post-refinement"
    PRE = "pre-refinement"
    ENDPOINT = "endpoint"


# ---- The value ------------------------------------------------------------------------------------------


class Use:
    """How a persistent volume is mounted. Any is as good as any other: each task may mount the same volume elsewhere, so what it
    says there is no part of what the volume is (as in Mesos)."""

    __slots__ = ("volume",)

    def __init__(self, volume: Volume | None) -> None:
        self.volume = volume

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Use)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "Use"


class Key(Struct, frozen=True, cache_hash=True, gc=False):
    """What must agree for two amounts to merge into one.

    size: thousandths of a thing that is never cut or merged (a persistent volume, a MOUNT or BLOCK disk, a RAW disk with an
    id). Its amount is a count: 1, or for a shared volume how many users it has. disk: without the `volume` of a persistent volume,
    which is in `use`.
    """

    name: str
    kind: ValueType = ValueType.SCALAR
    reservations: tuple[ReservationInfo, ...] = ()
    disk: DiskInfo | None = None
    provider: str | None = None
    revocable: bool = False
    shared: bool = False
    size: int | None = None
    use: Use | None = None

    @property
    def role(self) -> str:
        """For whom it is reserved; `*` when for nobody."""
        return (self.reservations[-1].role or ANY_ROLE) if self.reservations else ANY_ROLE


Amount = int | Spans | frozenset[str]  # By Key.kind: SCALAR, RANGES, SET.

_PORTS = Key("ports", ValueType.RANGES)
_SLOTS = frozenset(("cpus", "mem", "disk", "gpus"))


class Resources(Struct, frozen=True, gc=False):
    """An immutable amount of anything an agent has. `a + b` joins, `a - b` takes away (ValueError unless a contains b).

    Units: thousandths for every scalar. other: never an empty dict and never an empty amount in it; not to be changed.
    """

    cpus: int = 0
    mem: int = 0
    disk: int = 0
    gpus: int = 0
    other: dict[Key, Amount] | None = None

    @staticmethod
    def of(messages: Iterable[Resource], field: str = "resources") -> Resources:
        """Check and add up messages, in any form of reservation, whatever their allocation.

        field: what CallError calls the list. Checks each message in the order of spec 6.3.
        """
        cpus = mem = disk = gpus = 0
        other: dict[Key, list[Amount]] | None = None
        for index, message in enumerate(messages):
            name = message.name
            scalar = message.scalar
            if (
                scalar is not None
                and name in _SLOTS
                and message.type is ValueType.SCALAR
                and message.ranges is None
                and message.set is None
                and (message.role is None or message.role == ANY_ROLE)
                and not message.reservations
                and message.reservation is None
                and message.disk is None
                and message.revocable is None
                and message.shared is None
                and message.provider_id is None
            ):
                value = scalar.value
                milli = int(value * 1000 + 0.5) if 0.001 <= value < 1e12 else to_milli(value, f"{field}[{index}].scalar.value")
                if name == "cpus":
                    cpus += milli
                elif name == "mem":
                    mem += milli
                elif name == "disk":
                    disk += milli
                else:
                    gpus += _whole(milli, f"{field}[{index}]")
                continue
            key, amount = _read(message, f"{field}[{index}]")
            if not amount or key.size == 0:
                continue
            if other is None:
                other = {}
            other.setdefault(key, []).append(amount)
        return Resources(cpus, mem, disk, gpus, _joined(other))

    @staticmethod
    def sum(parts: Iterable[Resources]) -> Resources:
        """All parts together. Cost: in proportion to the parts, also where each has a port of its own: adding them up one by one
        would make thousands of ever longer lists of ranges."""
        cpus = mem = disk = gpus = 0
        other: dict[Key, list[Amount]] = {}
        for part in parts:
            cpus += part.cpus
            mem += part.mem
            disk += part.disk
            gpus += part.gpus
            for key, amount in (part.other or {}).items():
                other.setdefault(key, []).append(amount)
        return Resources(cpus, mem, disk, gpus, _joined(other))

    @staticmethod
    def made_of(parts: Iterable[tuple[Key, Amount]]) -> Resources:
        """Amounts by what they are, as one; the unreserved, non-revocable scalars come into their slots."""
        slots = dict.fromkeys(_SLOTS, 0)
        other: dict[Key, list[Amount]] = {}
        for key, amount in parts:
            if key.name in slots and isinstance(amount, int) and key == Key(key.name):
                slots[key.name] += amount
            elif amount:
                other.setdefault(_PORTS if key == _PORTS else key, []).append(amount)
        return Resources(slots["cpus"], slots["mem"], slots["disk"], slots["gpus"], _joined(other))

    def parts(self) -> list[tuple[Key, Amount]]:
        """What `made_of` takes: all amounts by what they are."""
        slots = (("cpus", self.cpus), ("mem", self.mem), ("disk", self.disk), ("gpus", self.gpus))
        return [*((Key(name), amount) for name, amount in slots if amount), *(self.other or {}).items()]

    @staticmethod
    def parse(text: str, default_role: str = ANY_ROLE, field: str = "resources") -> Resources:
        """`name(role):value` joined by `;`, or a JSON array of Resource. Raises CallError."""
        if text.lstrip().startswith("["):
            try:
                messages = msgspec.json.decode(text, type=tuple[Resource, ...])
                return Resources.of([_with_role(message, default_role) for message in messages], field)
            except msgspec.MsgspecError as error:
                raise CallError(f"{field}: {error}") from error
        return Resources.of([_parse_one(part, default_role, field) for part in text.split(";") if part.strip()], field)

    def messages(self, allocation_role: str | None = None, form: Form = Form.POST) -> tuple[Resource, ...]:
        """As messages, in a fixed order, allocated to the role when one is given. PRE: nothing may be refined (ValueError)."""
        allocation = None if allocation_role is None else _allocation_info(allocation_role)
        role = None if form is Form.POST else ANY_ROLE
        made = []
        if self.cpus:
            made.append(_scalar("cpus", self.cpus, role, allocation))
        if self.mem:
            made.append(_scalar("mem", self.mem, role, allocation))
        if self.disk:
            made.append(_scalar("disk", self.disk, role, allocation))
        if self.gpus:
            made.append(_scalar("gpus", self.gpus, role, allocation))
        if self.other is not None:
            for key in self.other if len(self.other) == 1 else sorted(self.other, key=_order):
                made += _write(key, self.other[key], allocation, form)
        return tuple(made)

    def __add__(self, more: Resources) -> Resources:
        mine, theirs = self.other, more.other
        return Resources(
            self.cpus + more.cpus,
            self.mem + more.mem,
            self.disk + more.disk,
            self.gpus + more.gpus,
            mine if theirs is None else theirs if mine is None else _plus(mine, theirs),
        )

    def __sub__(self, less: Resources) -> Resources:
        if not self.contains(less):
            raise ValueError(f"{{{self}}} does not contain {{{less}}}")
        return Resources(
            self.cpus - less.cpus,
            self.mem - less.mem,
            self.disk - less.disk,
            self.gpus - less.gpus,
            self.other if less.other is None or self.other is None else _minus(self.other, less.other),
        )

    def without(self, less: Resources) -> Resources:
        """What is left when `less` is taken away, as far as it is there."""
        return Resources(
            self.cpus - less.cpus if self.cpus > less.cpus else 0,
            self.mem - less.mem if self.mem > less.mem else 0,
            self.disk - less.disk if self.disk > less.disk else 0,
            self.gpus - less.gpus if self.gpus > less.gpus else 0,
            self.other if less.other is None or self.other is None else _minus(self.other, less.other),
        )

    def contains(self, less: Resources) -> bool:
        """Whether `less` could be taken out of this."""
        if self.cpus < less.cpus or self.mem < less.mem or self.disk < less.disk or self.gpus < less.gpus:
            return False
        if less.other is None:
            return True
        mine = self.other
        if mine is None:
            return False
        return all((held := mine.get(key)) is not None and _covers(held, amount) for key, amount in less.other.items())

    def __bool__(self) -> bool:
        return bool(self.cpus or self.mem or self.disk or self.gpus or self.other is not None)

    def __hash__(self) -> int:
        return hash((self.cpus, self.mem, self.disk, self.gpus, self.other and frozenset(self.other.items())))

    def scalars(self) -> dict[str, int]:
        """Thousandths by name, reserved or not; ranges by how many numbers, sets by how many items (in thousandths too)."""
        sums = {name: milli for name in ("cpus", "mem", "disk", "gpus") if (milli := getattr(self, name))}
        for key, amount in (self.other or {}).items():
            sums[key.name] = sums.get(key.name, 0) + quantity(key, amount)
        return sums

    def where(self, wanted: Callable[[Key], bool], plain: bool = False) -> Resources:
        """The part whose key is wanted. plain: whether the slots (unreserved, non-revocable scalars) stay."""
        kept = {key: amount for key, amount in (self.other or {}).items() if wanted(key)}
        if plain:
            return Resources(self.cpus, self.mem, self.disk, self.gpus, kept or None)
        return Resources(other=kept or None)

    def __str__(self) -> str:
        """Text form; what `parse` cannot read (dynamic reservations, disks, flags) stands after the name in brackets."""
        return "; ".join(_format(message) for message in self.messages())


EMPTY = Resources()


def quantity(key: Key, amount: Amount) -> int:
    """How much it is, in thousandths: a scalar its value, a range or set its size, an indivisible thing its size."""
    if isinstance(amount, int):
        return amount if key.size is None else key.size  # Shared users use one and the same volume.
    return 1000 * (len(amount) if isinstance(amount, frozenset) else span_size(amount))


def _join(a: Amount, b: Amount) -> Amount:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return span_union(a, b)
    assert isinstance(a, frozenset), "amounts under one key are of one kind"
    assert isinstance(b, frozenset), "amounts under one key are of one kind"
    return a | b


def _joined(amounts: dict[Key, list[Amount]] | None) -> dict[Key, Amount] | None:
    """The amounts of each key as one."""
    return {key: listed[0] if len(listed) == 1 else _join_all(listed) for key, listed in amounts.items()} if amounts else None


def _join_all(amounts: list[Amount]) -> Amount:
    """What `_join` makes of them one by one."""
    first = amounts[0]
    if isinstance(first, int):
        return sum(amount for amount in amounts if isinstance(amount, int))
    if isinstance(first, tuple):
        return coalesce(sorted(chain.from_iterable(amount for amount in amounts if isinstance(amount, tuple))))
    return first.union(*(amount for amount in amounts if isinstance(amount, frozenset)))


def _without(a: Amount, b: Amount) -> Amount:
    if isinstance(a, int) and isinstance(b, int):
        return max(0, a - b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return span_difference(a, b)
    assert isinstance(a, frozenset), "amounts under one key are of one kind"
    assert isinstance(b, frozenset), "amounts under one key are of one kind"
    return a - b


def _covers(a: Amount, b: Amount) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a >= b
    if isinstance(a, tuple) and isinstance(b, tuple):
        return span_contains(a, b)
    assert isinstance(a, frozenset), "amounts under one key are of one kind"
    assert isinstance(b, frozenset), "amounts under one key are of one kind"
    return a >= b


def _plus(a: dict[Key, Amount], b: dict[Key, Amount]) -> dict[Key, Amount]:
    joined = a.copy()
    for key, amount in b.items():
        held = joined.get(key)
        joined[key] = amount if held is None else _join(held, amount)
    return joined


def _minus(a: dict[Key, Amount], b: dict[Key, Amount]) -> dict[Key, Amount] | None:
    left = a.copy()
    for key, amount in b.items():
        if key not in left:
            continue
        rest = _without(left[key], amount)
        if rest:
            left[key] = rest
        else:
            del left[key]
    return left or None


# ---- From messages --------------------------------------------------------------------------------------


def _whole(milli: int, field: str) -> int:
    if milli % 1000:
        raise CallError(f"{field}: gpus must be a whole number")
    return milli


def _read(message: Resource, field: str) -> tuple[Key, Amount]:
    """Check one message. Returns its key and amount, which may be empty. CallError names the part of `field`."""
    name = message.name
    if not name:
        raise CallError(f"{field}.name: must not be empty")
    amount = _read_amount(message, field)
    disk = message.disk
    size = use = None
    if disk is not None:
        _check_disk(message, disk, field)
        if is_indivisible(disk):
            assert isinstance(amount, int), "a disk is a scalar"
            size, amount = amount, 1
        if disk.persistence is not None:
            use, disk = Use(disk.volume), replace(disk, volume=None)
    if message.shared is not None and (disk is None or disk.persistence is None):
        raise CallError(f"{field}.shared: only persistent volumes can be shared")
    key = Key(
        name,
        message.type,
        _read_reservations(message, field),
        disk,
        None if message.provider_id is None else message.provider_id.value,
        message.revocable is not None,
        message.shared is not None,
        size,
        use,
    )
    return (_PORTS if key == _PORTS else key), amount


def _read_amount(message: Resource, field: str) -> Amount:
    kind = message.type
    if kind is ValueType.TEXT:
        raise CallError(f"{field}.type: TEXT is for attributes only")
    for part, given in ((ValueType.SCALAR, message.scalar), (ValueType.RANGES, message.ranges), (ValueType.SET, message.set)):
        if (given is not None) != (part is kind):
            raise CallError(f"{field}: the type {kind.value} needs exactly `{kind.value.lower()}` to be set")
    if message.scalar is not None:
        milli = to_milli(message.scalar.value, f"{field}.scalar.value")
        return _whole(milli, field) if message.name == "gpus" else milli
    if message.ranges is not None:
        return to_spans(message.ranges.range, f"{field}.ranges")
    assert message.set is not None
    return to_items(message.set.item, f"{field}.set")


def _check_disk(message: Resource, disk: DiskInfo, field: str) -> None:
    if message.name != "disk" or message.type is not ValueType.SCALAR:
        raise CallError(f"{field}.disk: only the scalar `disk` may have it, not `{message.name}`")
    if disk.volume is not None and (disk.volume.image is not None or disk.volume.source is not None):
        raise CallError(f"{field}.disk.volume: a persistent volume has neither image nor source")
    source = disk.source
    if source is None:
        return
    if source.type is DiskSourceType.UNKNOWN:
        raise CallError(f"{field}.disk.source.type: must be PATH, MOUNT, BLOCK or RAW")
    if source.path is not None and source.type is not DiskSourceType.PATH:
        raise CallError(f"{field}.disk.source.path: a {source.type.value} disk has none")
    if source.mount is not None and source.type is not DiskSourceType.MOUNT:
        raise CallError(f"{field}.disk.source.mount: a {source.type.value} disk has none")


def is_indivisible(disk: DiskInfo) -> bool:
    """Whether such a disk is used whole or not at all."""
    if disk.persistence is not None:
        return True
    source = disk.source
    if source is None:
        return False
    if source.type is DiskSourceType.RAW:
        return source.id is not None
    return source.type in (DiskSourceType.MOUNT, DiskSourceType.BLOCK)


def _read_reservations(message: Resource, field: str) -> tuple[ReservationInfo, ...]:
    """The stack of reservations, outermost first, from whichever form was used (spec 6.3)."""
    role, old, stack = message.role, message.reservation, message.reservations
    if role is not None:
        validate_role(role, f"{field}.role")
    if not stack:
        if old is not None and (old.type is not None or old.role is not None):
            raise CallError(f"{field}.reservation: type and role belong into `reservations`")
        if role is None or role == ANY_ROLE:
            if old is not None:
                raise CallError(f"{field}.reservation: the role '*' cannot be reserved")
            return ()
        if old is None:
            return (ReservationInfo(ReservationType.STATIC, role),)
        return (ReservationInfo(ReservationType.DYNAMIC, role, old.principal, old.labels),)
    for index, entry in enumerate(stack):
        at = f"{field}.reservations[{index}]"
        if entry.type not in (ReservationType.STATIC, ReservationType.DYNAMIC):
            raise CallError(f"{at}.type: must be STATIC or DYNAMIC")
        if entry.role is None or entry.role == ANY_ROLE:
            raise CallError(f"{at}.role: must be set, and '*' cannot be reserved")
        validate_role(entry.role, f"{at}.role")
        if index:
            if entry.type is not ReservationType.DYNAMIC:
                raise CallError(f"{at}.type: a refined reservation must be DYNAMIC")
            above = stack[index - 1].role
            assert above is not None
            if not is_strict_subrole(entry.role, above):
                raise CallError(f"{at}.role: '{entry.role}' is not below '{above}'")
    if role is not None and role != ANY_ROLE and (len(stack) > 1 or role != stack[0].role):
        raise CallError(f"{field}.role: does not agree with `reservations`")
    if old is not None and (
        len(stack) > 1 or stack[0].type is ReservationType.STATIC or (old.principal, old.labels) != (stack[0].principal, stack[0].labels)
    ):
        raise CallError(f"{field}.reservation: does not agree with `reservations`")
    return stack


def _with_role(message: Resource, role: str) -> Resource:
    """The message, for the role if it names none."""
    return message if message.role is not None or message.reservations else replace(message, role=role)


def _parse_one(text: str, default_role: str, field: str) -> Resource:
    head, colon, value_text = text.replace(" ", "").partition(":")
    if not colon:
        raise CallError(f"{field}: '{text.strip()}' is not name:value or name(role):value")
    name, bracket, rest = head.partition("(")
    if bracket and not rest.endswith(")"):
        raise CallError(f"{field}: unbalanced brackets in '{head}'")
    value = parse_value(value_text, f"{field} `{name}`")
    if value.type is ValueType.TEXT:
        raise CallError(f"{field} `{name}`: '{value_text}' is not a number, [ranges] or {{set}}")
    return Resource(name, value.type, value.scalar, value.ranges, value.set, role=rest[:-1] if bracket else default_role)


# ---- To messages ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _allocation_info(role: str) -> AllocationInfo:
    return AllocationInfo(role)


def _scalar(name: str, milli: int, role: str | None, allocation: AllocationInfo | None) -> Resource:
    return Resource(name, ValueType.SCALAR, Scalar(milli / 1000), role=role, allocation_info=allocation)


def _order(key: Key) -> tuple[str, ...]:
    return (key.name, repr(key))


def _write(key: Key, amount: Amount, allocation: AllocationInfo | None, form: Form) -> list[Resource]:
    """One message; an indivisible thing as often as it is counted."""
    role, old, stack = _write_reservations(key.reservations, form)
    copies = 1
    scalar = ranges = items = None
    if isinstance(amount, int):
        if key.size is None:
            scalar = Scalar(amount / 1000)
        else:
            scalar, copies = Scalar(key.size / 1000), amount
    elif isinstance(amount, frozenset):
        items = Set(tuple(sorted(amount)))
    else:
        ranges = Ranges(tuple([Range(begin, end) for begin, end in amount]))
    disk = key.disk
    if disk is not None and key.use is not None:
        disk = replace(disk, volume=key.use.volume)
    message = Resource(
        key.name,
        key.kind,
        scalar,
        ranges,
        items,
        role,
        old,
        stack,
        disk,
        RevocableInfo() if key.revocable else None,
        SharedInfo() if key.shared else None,
        allocation,
        None if key.provider is None else ResourceProviderID(key.provider),
    )
    return [message] * copies


def _write_reservations(
    stack: tuple[ReservationInfo, ...], form: Form
) -> tuple[str | None, ReservationInfo | None, tuple[ReservationInfo, ...]]:
    """Role, reservation and reservations as the form has them."""
    if form is Form.POST:
        return None, None, stack
    if not stack:
        return ANY_ROLE, None, ()
    if len(stack) > 1:
        if form is Form.PRE:
            raise ValueError("a refined reservation has no pre-refinement form")
        return None, None, stack
    only = stack[0]
    old = ReservationInfo(principal=only.principal, labels=only.labels) if only.type is ReservationType.DYNAMIC else None
    return only.role, old, stack if form is Form.ENDPOINT else ()


def _format(message: Resource) -> str:
    stack = message.reservations
    text = message.name
    if len(stack) == 1 and stack[0].type is ReservationType.STATIC:
        text += f"({stack[0].role})"
    elif stack:
        levels = (",".join(str(part) for part in (e.type and e.type.value, e.role, e.principal) if part) for e in stack)
        text += "(reservations: [" + ",".join(f"({level})" for level in levels) + "])"
    if message.disk is not None:
        disk = message.disk
        source = disk.source and disk.source.type.value + "".join(
            f"({part})" for part in (disk.source.id, disk.source.profile) if part is not None
        )
        volume = disk.persistence and disk.persistence.id + (f":{disk.volume.container_path}" if disk.volume is not None else "")
        text += "[" + ",".join(part for part in (source, volume) if part) + "]"
    text += ("{REV}" if message.revocable is not None else "") + ("<SHARED>" if message.shared is not None else "")
    if message.scalar is not None:
        return f"{text}:{format_milli(round(message.scalar.value * 1000))}"
    if message.ranges is not None:
        return f"{text}:{format_spans(tuple((part.begin, part.end) for part in message.ranges.range))}"
    return f"{text}:{format_items(message.set.item if message.set is not None else ())}"
