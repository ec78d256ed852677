"""All messages of the v1 API: what is written reads back, read strictly or leniently."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from kernel.wire import agent_operator, executor, operator, scheduler
from kernel.wire.base import ProtoMessage
from kernel.wire.codec import JsonCodec, decode, encode

ENVELOPES = [
    scheduler.Call,
    scheduler.Event,
    executor.Call,
    executor.Event,
    operator.Call,
    operator.Response,
    operator.Event,
    agent_operator.Call,
    agent_operator.Response,
]
LONG_NUMBER = {"no_field": 10**20}  # Ignored as unknown, and sends the body the lenient way.


def messages(kind: type[ProtoMessage], within: frozenset[type] = frozenset()) -> st.SearchStrategy[Any]:
    """Messages of a class with at most three optional fields set, never one inside its like."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    inside = within | {kind}
    required = {field.name: field.type for field in info.fields if field.required}
    optional = {field.name: field.type for field in info.fields if not field.required and struct_of(field.type) not in inside}

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        chosen = draw(st.sets(st.sampled_from(sorted(optional)), max_size=3)) if optional else set()
        parts = required | {name: optional[name] for name in chosen}
        return kind(**{name: draw(values(part, inside)) for name, part in sorted(parts.items())})

    return build()


def struct_of(kind: inspect.Type) -> type | None:
    if isinstance(kind, inspect.UnionType):
        kind = next(part for part in kind.types if not isinstance(part, inspect.NoneType))
    return kind.cls if isinstance(kind, inspect.StructType) else None


def values(kind: inspect.Type, within: frozenset[type]) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType():
            return messages(kind.cls, within)
        case inspect.VarTupleType():
            return st.lists(values(kind.item_type, within), max_size=2).map(tuple)
        case inspect.DictType():
            return st.dictionaries(st.text(max_size=5), values(kind.value_type, within), max_size=2)
        case inspect.UnionType():
            return values(next(part for part in kind.types if not isinstance(part, inspect.NoneType)), within)
        case inspect.EnumType():
            return st.sampled_from(list(kind.cls))
        case inspect.StrType():
            return st.text(max_size=min(kind.max_length or 20, 20))
        case inspect.IntType():
            return st.integers(-(2**63) if kind.ge is None else kind.ge, 2**64 - 1 if kind.le is None else kind.le)
        case inspect.FloatType():
            return st.floats(allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.BytesType():
            return st.binary(max_size=20)
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ENVELOPES, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
@given(data=st.data())
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_written_reads_back(kind: type[ProtoMessage], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    body = encode(message)
    assert body.isascii()
    assert decode(body, kind) == message
    lenient = encode(msgspec.json.decode(body) | LONG_NUMBER)
    assert decode(lenient, kind) == message


def every_message() -> list[type[ProtoMessage]]:
    found: set[type[ProtoMessage]] = set()
    waiting = [ProtoMessage]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind not in found and kind.__module__.startswith("kernel.wire."):
                found.add(kind)
                waiting.append(kind)
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


@pytest.mark.parametrize("kind", every_message(), ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_every_message_is_a_frozen_value_that_reads_leniently(kind: type[ProtoMessage]) -> None:
    """Its fields are of types the codec knows, and null in each optional one is as good as nothing."""
    assert kind.__struct_config__.frozen
    assert not kind.__struct_config__.gc
    fields = inspect.type_info(kind).fields  # type: ignore[attr-defined]
    nulls = {field.encode_name: None for field in fields if not field.required}
    required = {field.encode_name: example(field.type) for field in fields if field.required}
    assert JsonCodec().decode(encode(required | nulls), kind) == JsonCodec().decode(encode(required), kind)


def example(kind: inspect.Type) -> Any:
    match kind:
        case inspect.StructType():
            return {field.encode_name: example(field.type) for field in kind.fields if field.required}
        case inspect.EnumType():
            return next(iter(kind.cls)).value
        case inspect.StrType() | inspect.BytesType():
            return ""
        case inspect.BoolType():
            return False
        case _:
            return 0
