"""Answers in fragments: what is large is rendered while it is sent, from a picture taken at one instant.

The core takes the picture (`kernel.master.pictures`); the edge iterates, and other work goes on in between. An empty fragment
is a place to pause. What is handed to the generators here must not change any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from kernel.wire.codec import encode

ITEMS = 128  # Of an array in one fragment: at most some milliseconds of work.
BATCH = 2048  # Items only looked at between two pauses.

T = TypeVar("T")


def members(*parts: Any) -> bytes:
    """The members of several objects as those of one, without its braces."""
    return b",".join(body[1:-1] for body in map(encode, parts) if body != b"{}")


def extended(body: bytes, *parts: Any) -> bytes:
    """The encoded object with the members of more objects."""
    return b"%b,%b}" % (body[:-1], members(*parts))


def array(items: Iterable[bytes]) -> Iterator[bytes]:
    """An array of encoded items."""
    yield b"["
    comma, rest = b"", iter(items)
    while batch := list(islice(rest, ITEMS)):
        yield comma + b",".join(batch)
        comma = b","
    yield b"]"


def array_of_documents(items: Iterable[Iterable[bytes]]) -> Iterator[bytes]:
    """An array of items that come in fragments themselves."""
    yield b"["
    for index, item in enumerate(items):
        if index:
            yield b","
        yield from item
    yield b"]"


def document(head: bytes, parts: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    """An object: the members in `head` (maybe none), then those of `parts`."""
    yield b"{" + head
    comma = "," if head else ""
    for name, fragments in parts:
        yield f'{comma}"{name}":'.encode()
        yield from fragments
        comma = ","
    yield b"}"


def batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in portions, after each of which to pause."""
    return (items[begin : begin + BATCH] for begin in range(0, len(items), BATCH))
