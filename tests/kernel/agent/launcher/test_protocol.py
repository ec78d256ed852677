"""Lines from an agent are checked before they become commands."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.agent.launcher import client
from kernel.agent.launcher.client import _encode
from kernel.agent.launcher.core import BadCommand, Exit, Forget, Hello, Launch, Replace, Signal
from kernel.agent.launcher.protocol import BadLaunch, OtherVersion, decode

LAUNCH = {"type": "launch", "container": "c", "argv": ["true"], "env": {"A": "b"}, "cwd": "/", "stdout": "out", "stderr": "err"}


def line(message: Any) -> bytes:
    return json.dumps(message).encode()


@pytest.mark.parametrize(
    ("message", "command"),
    [
        (LAUNCH, Launch("c", ("true",), {"A": "b"}, "/", "out", "err")),
        (
            {**LAUNCH, "user": "u", "groups": [1], "executable": "/bin/x", "rlimits": {"RLIMIT_CORE": [0, None]}},
            Launch("c", ("true",), {"A": "b"}, "/", "out", "err", "/bin/x", "u", (1,), {"RLIMIT_CORE": (0, None)}),
        ),
        ({**LAUNCH, "user": None, "groups": None}, Launch("c", ("true",), {"A": "b"}, "/", "out", "err")),
        ({"type": "signal", "container": "c", "signal": 9}, Signal("c", 9, True)),
        ({"type": "signal", "container": "c", "signal": 9, "whole_group": False}, Signal("c", 9, False)),
        ({"type": "forget", "container": "c", "new": 1}, Forget("c")),
        ({"type": "hello", "version": 1}, Hello()),
        ({"type": "exit"}, Exit(False)),
        ({"type": "exit", "kill_all": True}, Exit(True)),
        ({"type": "replace", "argv": ["a", "b"]}, Replace(("a", "b"))),
    ],
)
def test_commands(message: Any, command: Any) -> None:
    assert decode(line(message), 1) == command


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        {},
        {"type": "unknown"},
        {"type": ["launch"]},
        {"type": "launch"},
        *({**LAUNCH, **wrong} for wrong in [{"container": ""}, {"container": "x" * 256}, {"container": "a\0b"}, {"container": 1}]),
        *({**LAUNCH, **wrong} for wrong in [{"argv": []}, {"argv": "true"}, {"argv": [1]}, {"env": []}, {"env": {"A": 1}}]),
        *({**LAUNCH, **wrong} for wrong in [{"cwd": None}, {"stdout": 1}, {"user": 0}, {"groups": [-1]}, {"groups": [True]}]),
        *({**LAUNCH, "rlimits": wrong} for wrong in [[], {"RLIMIT_CORE": 1}, {"RLIMIT_CORE": [1]}, {"RLIMIT_CORE": [-1, 1]}]),
        {"type": "signal", "container": "c"},
        {"type": "signal", "container": "c", "signal": 65},
        {"type": "signal", "container": "c", "signal": True},
        {"type": "hello"},
        {"type": "replace", "argv": []},
        {"type": "exit", "kill_all": 1},
    ],
)
def test_what_is_not_a_command_is_refused(message: Any) -> None:
    with pytest.raises(BadCommand):
        decode(line(message), 1)


def test_a_wrong_launch_is_told_apart_as_it_can_be_answered() -> None:
    with pytest.raises(BadLaunch, match="cwd") as raised:
        decode(line({**LAUNCH, "cwd": 1}), 1)
    assert raised.value.container == "c"


def test_another_version_is_told_apart() -> None:
    with pytest.raises(OtherVersion):
        decode(line({"type": "hello", "version": 2}), 1)


texts = st.text("aä/=\0", max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts, lambda v: st.lists(v) | st.dictionaries(texts, v), max_leaves=5
)


@given(st.binary() | st.fixed_dictionaries({"type": st.sampled_from(["launch", "signal", "exit", "hello"])}).map(line))
def test_any_bytes_are_a_command_or_refused(data: bytes) -> None:
    try:
        decode(data, 1)
    except (BadCommand, OtherVersion):
        pass


@given(st.dictionaries(st.sampled_from([*LAUNCH, "user", "groups", "rlimits", "executable", "signal"]), json_values))
def test_any_fields_are_a_command_or_refused(fields: dict[str, Any]) -> None:
    try:
        decode(line({**LAUNCH, **fields}), 1)
    except BadCommand:
        pass


def test_the_client_says_what_the_launcher_understands() -> None:
    sent = client.Launch("c", ("a", "b"), {"A": "b"}, "/w", "out", "err", "/bin/a", "u", (4, 5), {"RLIMIT_CORE": (0, None)})
    expected = Launch("c", ("a", "b"), {"A": "b"}, "/w", "out", "err", "/bin/a", "u", (4, 5), {"RLIMIT_CORE": (0, None)})
    assert decode(_encode(sent), 1) == expected
    assert decode(_encode(client.Signal("c", 15, False)), 1) == Signal("c", 15, False)
    assert decode(_encode(client.Forget("c")), 1) == Forget("c")
