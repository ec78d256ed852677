"""Messages of any class with values that nobody sends in earnest, from a seed; and what a state looks like from outside.

Well-typed as the wire has them (whatever is not, the decoders refuse): ids that are paths, numbers at every edge, enums at random,
parts left out or doubled. Some texts are ids that exist, or nothing would get far.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

T = TypeVar("T")

TEXTS = (
    "", ".", "..", "/", "../../etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", " ", "*", "é" * 200, "x" * 255, "-1", "1e999", "%2e%2e", "cpus",
    "mem", "disk", "gpus", "ports", "web", "eng/dev", "latest", "'; --", "<script>", "\u202e", "\ufffe", "0" * 40,
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 100, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
NUMBERS = (0.0, -0.0, 1.0, 0.1, 0.0004, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 2.0**53, 1e15, 365 * 86400.0)
DATA = (b"", b"x", b"0123456789abcdef", b"\xff" * 16, bytes(300))

INVALID = (msgspec.MsgspecError, ValueError)


class Anything:
    """words: texts that mean something to who gets the messages."""

    def __init__(self, seed: int, words: Sequence[str] = ()) -> None:
        self.random = random.Random(seed)
        self.words = tuple(words)

    def message(self, kind: type[T], **fixed: Any) -> T:
        """One message; fixed: fields that are as given."""
        while True:
            made = self._struct(inspect.type_info(kind), 0, fixed)  # type: ignore[arg-type]
            try:  # Bounds of fields are the decoders' matter: what breaks one never arrives.
                return msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=kind)
            except INVALID:
                continue

    def twisted(self, message: T) -> T:
        """An honest message with one part of it, however deep, as nobody sends it."""
        kind: type[T] = type(message)
        while True:
            try:
                return msgspec.msgpack.decode(msgspec.msgpack.encode(self._twist(message)), type=kind)
            except INVALID:
                continue

    def _twist(self, message: Any) -> Any:
        types = {field.name: field.type for field in inspect.type_info(type(message)).fields}  # type: ignore[union-attr]
        if not types:
            return message
        name = self.random.choice(list(types))
        value = getattr(message, name)
        if isinstance(value, msgspec.Struct) and self.random.random() < 0.9:
            return msgspec.structs.replace(message, **{name: self._twist(value)})
        if isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct) and self.random.random() < 0.8:
            place = self.random.randrange(len(value))
            return msgspec.structs.replace(message, **{name: (*value[:place], self._twist(value[place]), *value[place + 1 :])})
        return msgspec.structs.replace(message, **{name: self._value(types[name], 3)})

    def _struct(self, kind: inspect.StructType, depth: int, fixed: dict[str, Any] | None = None) -> Any:
        fields = {}
        for field in kind.fields:
            if fixed and field.name in fixed:
                fields[field.name] = fixed[field.name]
            elif field.required or self.random.random() < (0.5 if depth < 3 else 0.1):
                fields[field.name] = self._value(field.type, depth + 1)
        try:
            return kind.cls(**fields)
        except ValueError:  # Its own check refuses it, as it would on the wire.
            return self._struct(kind, depth, fixed)

    def _value(self, kind: inspect.Type, depth: int) -> Any:
        pick = self.random.choice
        match kind:
            case inspect.StructType():
                return self._struct(kind, depth)
            case inspect.VarTupleType():
                many = 0 if depth > 6 else pick((0, 1, 1, 1, 2, 3))
                items = [self._value(kind.item_type, depth) for _ in range(many)]
                return tuple(items + items[:1] if self.random.random() < 0.1 else items)
            case inspect.TupleType():
                return tuple(self._value(item, depth) for item in kind.item_types)
            case inspect.DictType():
                many = 0 if depth > 6 else pick((0, 1, 2))
                return {self._value(kind.key_type, depth): self._value(kind.value_type, depth) for _ in range(many)}
            case inspect.UnionType():
                return self._value(pick(kind.types), depth)
            case inspect.EnumType():
                return pick(list(kind.cls))
            case inspect.StrType():
                return pick(self.words) if self.words and self.random.random() < 0.6 else pick(TEXTS)
            case inspect.IntType():
                return pick(INTEGERS)
            case inspect.FloatType():
                return pick(NUMBERS)
            case inspect.BytesType():
                return pick(DATA)
            case inspect.BoolType():
                return pick((True, False))
            case inspect.NoneType():
                return None
            case inspect.AnyType():
                return pick((None, 0, "x", [], {}))
            case inspect.LiteralType():
                return pick(kind.values)
        raise AssertionError(f"no value of {kind}")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Bytes with a few of them changed, left out, doubled or put in."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(out) + 1)
        match chance.randrange(4):
            case 0:
                out[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                del out[place : place + chance.randint(1, 8)]
            case 2:
                out[place:place] = chance.randbytes(chance.randint(1, 8))
            case _:
                out[place:place] = out[place : place + 16]
    return bytes(out)


def picture(thing: Any, leave_out: Sequence[str] = ()) -> Any:
    """All that an object holds, as values that compare; what it holds twice is shown once."""
    seen: dict[int, int] = {}

    def draw(value: Any) -> Any:
        match value:
            case None | bool() | int() | str() | bytes() | enum.Enum():
                return value
            case float():
                return repr(value)
            case msgspec.Struct() if value.__struct_config__.frozen:
                return repr(value)
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        match value:
            case dict():
                return [(draw(key), draw(part)) for key, part in value.items()]
            case list() | tuple() | deque():
                return [draw(part) for part in value]
            case set() | frozenset():
                return sorted(map(repr, value))
            case Callable():  # type: ignore[misc]
                return "a function"
        names = {name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())} | set(getattr(value, "__dict__", ()))
        return [(name, draw(getattr(value, name, None))) for name in sorted(names) if name not in leave_out]

    return draw(thing)
