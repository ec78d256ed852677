"""Identifiers: one-field messages, and the rule for what an id may be (spec: mesos-v1, section 0)."""

from __future__ import annotations

from kernel.errors import CallError
from kernel.wire.base import ProtoMessage

ID_BYTES_MAX = 255
CONTAINER_DEPTH_MAX = 32


class FrameworkID(ProtoMessage, frozen=True):
    value: str


class OfferID(ProtoMessage, frozen=True):
    value: str


class AgentID(ProtoMessage, frozen=True):
    value: str


class TaskID(ProtoMessage, frozen=True):
    value: str


class ExecutorID(ProtoMessage, frozen=True):
    value: str


class OperationID(ProtoMessage, frozen=True):
    value: str


class ResourceProviderID(ProtoMessage, frozen=True):
    value: str


class UUID(ProtoMessage, frozen=True):
    """value: the 16 bytes, not the text of 36 characters."""

    value: bytes


class ContainerID(ProtoMessage, frozen=True):
    """A container, inside its parent when there is one; at most CONTAINER_DEPTH_MAX levels."""

    value: str
    parent: ContainerID | None = None

    def __post_init__(self) -> None:
        """Bound the only message that holds itself, so that whatever walks or writes it needs no bound."""
        depth, parent = 1, self.parent
        while parent is not None:
            depth, parent = depth + 1, parent.parent
        if depth > CONTAINER_DEPTH_MAX:
            raise ValueError(f"at most {CONTAINER_DEPTH_MAX} levels of containers are allowed")


def validate_id(text: str, field: str) -> None:
    """Raise CallError, naming `field`, unless `text` is allowed as an id: 1 to 255 bytes that can be a file's name."""
    if not text:
        raise CallError(f"{field}: an id must not be empty")
    if len(text) > ID_BYTES_MAX or (not text.isascii() and len(text.encode()) > ID_BYTES_MAX):
        raise CallError(f"{field}: an id has at most {ID_BYTES_MAX} bytes, this one has {len(text.encode())}")
    if text in (".", ".."):
        raise CallError(f"{field}: {text!r} is not allowed as an id")
    if "/" in text or "\\" in text:
        raise CallError(f"{field}: {text!r} contains a slash or backslash, which no id may")
    if not (text.isascii() and text.isprintable()) and any(character < " " or character == "\x7f" for character in text):
        raise CallError(f"{field}: {text!r} contains a control character, which no id may")
