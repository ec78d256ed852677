"""Attributes of an agent: facts about a machine that are matched, never used up (spec: mesos-v1, section 6.1)."""

from __future__ import annotations

from kernel.errors import CallError
from kernel.wire.task import Attribute
from kernel.wire.values import ValueType, format_spans, parse_value


def parse_attributes(text: str, field: str = "attributes") -> tuple[Attribute, ...]:
    """`key:value;key2:value2`: the first `:` splits. Scalars, ranges and text; a `{set}` is a CallError."""
    return tuple(_parse_attribute(part, field) for part in text.split(";") if part.strip())


def _parse_attribute(text: str, field: str) -> Attribute:
    name, colon, value_text = text.partition(":")
    name = name.strip()
    if not colon or not name:
        raise CallError(f"{field}: '{text.strip()}' is not key:value")
    value = parse_value(value_text, f"{field} `{name}`")
    if value.type is ValueType.SET:
        raise CallError(f"{field} `{name}`: an attribute cannot be a set")
    return Attribute(name, value.type, scalar=value.scalar, ranges=value.ranges, text=value.text)


def format_attribute(attribute: Attribute) -> str:
    """The value alone, as `parse_attributes` would read it."""
    if attribute.scalar is not None:
        return f"{attribute.scalar.value:.3f}".rstrip("0").rstrip(".")
    if attribute.ranges is not None:
        return format_spans(tuple((part.begin, part.end) for part in attribute.ranges.range))
    return attribute.text.value if attribute.text is not None else ""
