"""Identifiers: what may be an id, and how deep containers nest."""

from __future__ import annotations

import pytest

from kernel.errors import CallError
from kernel.wire.codec import decode, encode
from kernel.wire.ids import CONTAINER_DEPTH_MAX, UUID, ContainerID, FrameworkID, validate_id


@pytest.mark.parametrize("text", ["a", "task-1", "ct:15:0:job name:", "...", "x" * 255, "é" * 127, "8b4a-S0"])
def test_what_can_be_a_file_name_is_allowed(text: str) -> None:
    validate_id(text, "task_id")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "must not be empty"),
        (".", "not allowed"),
        ("..", "not allowed"),
        ("a/b", "slash"),
        ("a\\b", "slash"),
        ("a\nb", "control character"),
        ("a\x00", "control character"),
        ("\x7f", "control character"),
        ("x" * 256, "at most 255 bytes"),
        ("é" * 128, "at most 255 bytes"),
    ],
)
def test_everything_else_is_refused_with_the_field_and_the_reason(text: str, why: str) -> None:
    with pytest.raises(CallError, match=rf"kill\.task_id: .*{why}"):
        validate_id(text, "kill.task_id")


def test_ids_are_objects_with_a_value() -> None:
    assert encode(FrameworkID("f-0000")) == b'{"value":"f-0000"}'
    assert encode(ContainerID("child", ContainerID("parent"))) == b'{"value":"child","parent":{"value":"parent"}}'


def test_a_uuid_is_its_bytes_in_base64() -> None:
    assert encode(UUID(bytes(range(16)))) == b'{"value":"AAECAwQFBgcICQoLDA0ODw=="}'
    assert decode(b'{"value":"AAECAwQFBgcICQoLDA0ODw=="}', UUID) == UUID(bytes(range(16)))


def test_containers_nest_to_a_bound() -> None:
    def nested(levels: int) -> bytes:
        return b'{"value":"c","parent":' * (levels - 1) + b'{"value":"c"}' + b"}" * (levels - 1)

    assert encode(decode(nested(CONTAINER_DEPTH_MAX), ContainerID)) == nested(CONTAINER_DEPTH_MAX)
    for levels in (CONTAINER_DEPTH_MAX + 1, 400, 5_000, 200_000):
        with pytest.raises(CallError, match=r"levels|nested"):
            decode(nested(levels), ContainerID)
