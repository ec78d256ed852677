"""Scalars, ranges and sets: the parts of a `Value`, their arithmetic and text form (spec: mesos-v1, sections 6.1, 15).

Scalars are integers of thousandths (`milli`). Ranges are `Spans`: sorted, disjoint, inclusive (begin, end) pairs that do not
even touch. Knows nothing of roles or of what is being measured.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from operator import itemgetter

from kernel.errors import CallError
from kernel.wire.base import ProtoMessage, UInt64

Spans = tuple[tuple[int, int], ...]
_BEGIN: itemgetter[int] = itemgetter(0)
_END: itemgetter[int] = itemgetter(1)
UINT64_MAX = 2**64 - 1
# Past this a double no longer tells neighbouring thousandths apart.
SCALAR_MAX = 2**53 / 1000


class ValueType(enum.Enum):
    SCALAR = "SCALAR"
    RANGES = "RANGES"
    SET = "SET"
    TEXT = "TEXT"


class Scalar(ProtoMessage, frozen=True):
    value: float


class Range(ProtoMessage, frozen=True):
    begin: UInt64
    end: UInt64


class Ranges(ProtoMessage, frozen=True):
    range: tuple[Range, ...] = ()


class Set(ProtoMessage, frozen=True):
    item: tuple[str, ...] = ()


class Text(ProtoMessage, frozen=True):
    value: str


class Value(ProtoMessage, frozen=True):
    """A value on its own. Exactly the part that `type` names is set."""

    type: ValueType
    scalar: Scalar | None = None
    ranges: Ranges | None = None
    set: Set | None = None
    text: Text | None = None


def to_milli(value: float, field: str) -> int:
    """Thousandths, rounded half away from zero. CallError for NaN, infinite, negative or so small that nothing is left."""
    if not 0.0 <= value <= SCALAR_MAX:
        raise CallError(f"{field}: must be a number from 0 to {SCALAR_MAX:.0f}, not {value}")
    milli = int(value * 1000 + 0.5)
    if milli == 0 and value != 0:
        raise CallError(f"{field}: must be 0 or at least 0.001, not {value}")
    return milli


def to_spans(ranges: Iterable[Range], field: str) -> Spans:
    """Ranges of a message, in any order, coalesced. CallError when one is reversed, outside uint64 or overlaps another."""
    pairs = sorted((part.begin, part.end) for part in ranges)
    previous = -1
    for begin, end in pairs:
        if not 0 <= begin <= end <= UINT64_MAX:
            raise CallError(f"{field}: the range [{begin}-{end}] is not begin <= end within 64 bits")
        if begin <= previous:
            raise CallError(f"{field}: ranges overlap at {begin}")
        previous = end
    return coalesce(pairs)


def to_items(items: Iterable[str], field: str) -> frozenset[str]:
    """Items of a message. CallError when one is named twice."""
    listed = tuple(items)
    unique = frozenset(listed)
    if len(unique) != len(listed):
        raise CallError(f"{field}: an item appears twice")
    return unique


# ---- Spans ----------------------------------------------------------------------------------------------


def coalesce(pairs: Iterable[tuple[int, int]]) -> Spans:
    """Merge pairs, given in ascending order, that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for begin, end in pairs:
        if merged and begin <= merged[-1][1] + 1:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((begin, end))
    return tuple(merged)


def _touched(a: Spans, b: Spans) -> tuple[int, int]:
    """From where to where in `a` there may be spans that `b`, which is not empty, overlaps or touches. Mostly `b` is one port of
    thousands: only what is near it is then looked at."""
    return bisect_left(a, b[0][0] - 1, key=_END), bisect_right(a, b[-1][1] + 1, key=_BEGIN)


def span_union(a: Spans, b: Spans) -> Spans:
    if not b:
        return a
    begin, end = _touched(a, b)
    return a[:begin] + coalesce(sorted(a[begin:end] + b)) + a[end:]


def span_difference(a: Spans, b: Spans) -> Spans:
    """What of `a` is not in `b`."""
    if not b:
        return a
    begin, end = _touched(a, b)
    return a[:begin] + _difference(a[begin:end], b) + a[end:]


def _difference(a: Spans, b: Spans) -> Spans:
    left: list[tuple[int, int]] = []
    at = 0
    for begin, end in a:
        while at < len(b) and b[at][1] < begin:
            at += 1
        cut = at
        while cut < len(b) and b[cut][0] <= end:
            if b[cut][0] > begin:
                left.append((begin, b[cut][0] - 1))
            begin = b[cut][1] + 1
            cut += 1
        if begin <= end:
            left.append((begin, end))
    return tuple(left)


def span_contains(a: Spans, b: Spans) -> bool:
    """Whether each number of `b` is in `a`."""
    at = _touched(a, b)[0] if b else 0
    for begin, end in b:
        while at < len(a) and a[at][1] < begin:
            at += 1
        if at == len(a) or not a[at][0] <= begin <= end <= a[at][1]:
            return False
    return True


def span_size(a: Spans) -> int:
    return sum(end - begin + 1 for begin, end in a)


def span_take(a: Spans, count: int) -> Spans:
    """The lowest `count` numbers of `a`, or all of it when it has fewer."""
    taken: list[tuple[int, int]] = []
    for begin, end in a:
        if count <= 0:
            break
        last = min(end, begin + count - 1)
        taken.append((begin, last))
        count -= last - begin + 1
    return tuple(taken)


# ---- Text form ------------------------------------------------------------------------------------------


def parse_value(text: str, field: str) -> Value:
    """`[1-9,20-30]` ranges, `{a,b}` set, `1.5` scalar, anything else text. Spaces are dropped. Raises CallError."""
    text = text.replace(" ", "")
    if not text:
        raise CallError(f"{field}: the value is empty")
    opening, inner = text[0], text[1:-1]
    if opening in "[{" and not (len(text) > 1 and text[-1] == "]}"["[{".index(opening)]):
        raise CallError(f"{field}: unbalanced brackets in '{text}'")
    if any(bracket in (inner if opening in "[{" else text) for bracket in "[]{}"):
        raise CallError(f"{field}: a bracket inside '{text}'")
    if opening == "[":
        pairs = coalesce(sorted(_parse_range(part, field) for part in inner.split(",") if part))
        return Value(ValueType.RANGES, ranges=Ranges(tuple(Range(begin, end) for begin, end in pairs)))
    if opening == "{":
        return Value(ValueType.SET, set=Set(tuple(sorted({part for part in inner.split(",") if part}))))
    try:
        number = float(text)
    except ValueError:
        return Value(ValueType.TEXT, text=Text(text))
    if "_" in text or not math.isfinite(number):  # What float() takes beyond a plain number.
        return Value(ValueType.TEXT, text=Text(text))
    return Value(ValueType.SCALAR, scalar=Scalar(number))


def _parse_range(text: str, field: str) -> tuple[int, int]:
    begin, dash, end = text.partition("-")
    if not (dash and begin.isdecimal() and end.isdecimal()):
        raise CallError(f"{field}: '{text}' is not a range like 1-9")
    if not int(begin) <= int(end) <= UINT64_MAX:
        raise CallError(f"{field}: the range [{text}] is not begin <= end within 64 bits")
    return int(begin), int(end)


def format_milli(milli: int) -> str:
    whole, part = divmod(milli, 1000)
    return f"{whole}.{part:03d}".rstrip("0") if part else str(whole)


def format_spans(spans: Spans) -> str:
    return "[" + ", ".join(f"{begin}-{end}" for begin, end in spans) + "]"


def format_items(items: Iterable[str]) -> str:
    return "{" + ", ".join(sorted(items)) + "}"
