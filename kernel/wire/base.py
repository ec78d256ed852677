"""What every v1 message is made of: its base class and the integer types of protobuf.

A field with a default that protobuf declares is written out even when unset (spec: mesos-v1, section 1.6), other
unset fields are not. msgspec leaves out a field that equals its `default` but never one made by a `default_factory`;
so declared defaults are written `field(default_factory=...)`, and `declared` makes the factory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from msgspec import Meta, Struct

T = TypeVar("T")

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
UInt64 = Annotated[int, Meta(ge=0)]  # msgspec takes no bound above int64; the codec refuses what is above uint64.


class ProtoMessage(Struct, frozen=True, gc=False, omit_defaults=True):
    """Base of the v1 messages: immutable values; optional fields are None, repeated ones empty tuples."""


def declared(value: T) -> Callable[[], T]:
    """Return a factory of `value`, for a default that is to be printed."""
    return lambda: value
