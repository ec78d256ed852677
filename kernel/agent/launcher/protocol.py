"""The lines on the launcher's socket: one JSON object each, turned into the core's commands and checked on the way."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kernel.agent.launcher.core import BadCommand, Command, Exit, Forget, Hello, Launch, Replace, Signal

LINE_BYTES_MAX = 1024 * 1024
SOCKET = "launcher.sock"
LOCK = "launcher.lock"
JOURNAL = "journal"
ALREADY_RUNNING = 3
"""Exit status of a launcher that finds another one in its directory."""

Json = dict[str, Any]


class BadLaunch(BadCommand):
    """A launch is wrong in itself. It fails alone: an agent would send it again after each reconnect."""

    def __init__(self, container: str, message: str) -> None:
        super().__init__(message)
        self.container = container


class HandOver(NamedTuple):
    """Give the peer our end of a container's terminal. Answered by one line, with a descriptor if there is one; also without a hello."""

    container: str


class OtherVersion(Exception):
    """The agent speaks another version of the protocol."""


def encode(message: Json) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes, version: int) -> Command | HandOver:
    """Return the command of a line. Raises BadCommand, BadLaunch, OtherVersion."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadCommand(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadCommand("not an object")
    match message.get("type"):
        case "launch":
            container = _field(message, "container", str)
            try:
                return _launch(message)
            except BadCommand as error:
                raise BadLaunch(container, str(error)) from None
        case "signal":
            number = _field(message, "signal", int)
            if not 0 <= number <= 64:
                raise BadCommand(f"signal: {number} is not a signal")
            return Signal(_container(message), number, _field(message, "whole_group", bool, True))
        case "forget":
            return Forget(_container(message))
        case "terminal":
            return HandOver(_container(message))
        case "hello":
            if _field(message, "version", int) != version:
                raise OtherVersion(message["version"])
            return Hello()
        case "exit":
            return Exit(_field(message, "kill_all", bool, False))
        case "replace":
            return Replace(_texts(message, "argv"))
        case other:
            raise BadCommand(f"type: {other!r} is not a command")


def _launch(message: Json) -> Launch:
    env = _field(message, "env", dict, {})
    if not all(isinstance(value, str) for value in env.values()):
        raise BadCommand("env: values must be text")
    groups = message.get("groups")
    if groups is not None and not (isinstance(groups, list) and all(type(g) is int and 0 <= g < 2**32 - 1 for g in groups)):
        raise BadCommand("groups: must be a list of group ids")
    return Launch(
        _container(message),
        _texts(message, "argv"),
        env,
        _field(message, "cwd", str),
        _field(message, "stdout", str),
        _field(message, "stderr", str),
        _field(message, "executable", str, None),
        _field(message, "user", str, None),
        None if groups is None else tuple(groups),
        _rlimits(message.get("rlimits")),
        _texts(message, "cgroups") if message.get("cgroups") else (),
        _field(message, "pidfile", str, None),
        _terminal(message.get("terminal")),
    )


def _terminal(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2 and all(type(number) is int and 0 <= number < 2**16 for number in value)):
        raise BadCommand("terminal: must be [rows, columns], numbers from 0 to 65535")
    return value[0], value[1]


def _rlimits(value: Any) -> dict[str, tuple[int | None, int | None]] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadCommand("rlimits: must be an object")
    for name, pair in value.items():
        if not (isinstance(pair, list) and len(pair) == 2 and all(v is None or (type(v) is int and 0 <= v < 2**63) for v in pair)):
            raise BadCommand(f"rlimits.{name}: must be [soft, hard], numbers or null")
    return {name: (pair[0], pair[1]) for name, pair in value.items()}


_REQUIRED: Any = object()


def _field(message: Json, name: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = message.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if type(value) is not kind:
        raise BadCommand(f"{name}: must be {kind.__name__}")
    return value


def _container(message: Json) -> str:
    name: str = _field(message, "container", str)
    if not name or len(name) > 255 or "\0" in name:
        raise BadCommand("container: must be 1 to 255 characters")
    return name


def _texts(message: Json, name: str) -> tuple[str, ...]:
    values = message.get(name)
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise BadCommand(f"{name}: must be a list of at least one text")
    return tuple(values)
