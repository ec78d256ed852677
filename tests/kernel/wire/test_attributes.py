"""Attributes in text form."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.wire.attributes import format_attribute, parse_attributes
from kernel.wire.values import ValueType


def test_the_type_of_an_attribute_follows_from_its_value() -> None:
    rack, ports, speed = parse_attributes("rack:r1;ports:[1-9,20-30];speed:2.5")
    assert (rack.name, rack.type, rack.text and rack.text.value) == ("rack", ValueType.TEXT, "r1")
    assert (ports.type, ports.ranges and [(r.begin, r.end) for r in ports.ranges.range]) == (ValueType.RANGES, [(1, 9), (20, 30)])
    assert (speed.type, speed.scalar and speed.scalar.value) == (ValueType.SCALAR, 2.5)


def test_the_first_colon_splits() -> None:
    (attribute,) = parse_attributes("image:host:5000/name")
    assert attribute.text is not None
    assert (attribute.name, attribute.text.value) == ("image", "host:5000/name")


def test_no_text_is_no_attributes() -> None:
    assert parse_attributes("") == ()


@pytest.mark.parametrize("text", ["rack", ":r1", "rack:", "zones:{a,b}", "a:[1-", "a:[1-2-3]", "a:x{y"])
def test_what_cannot_be_an_attribute_is_refused(text: str) -> None:
    with pytest.raises(CallError, match=r"^attributes"):
        parse_attributes(text)


@pytest.mark.parametrize("text", ["r1", "2.5", "7", "[1-9, 20-30]"])
def test_values_print_as_they_are_read(text: str) -> None:
    assert format_attribute(parse_attributes(f"name:{text}")[0]) == text
