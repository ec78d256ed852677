"""One loader for the frozen configs of all daemons: TOML file < environment < flags.

A config is a frozen msgspec Struct whose fields carry a `Setting`; a field without one cannot be set from
outside. This module knows no daemon: which settings exist is said by the Struct, which Mesos flags are known
but have no effect by the caller.

    class AgentConfig(Struct, frozen=True, kw_only=True):
        work_dir: Annotated[str, Setting("Where state is kept.", kind="path")]
        gc_delay_s: Annotated[float, Setting("Age at which a sandbox is removed.", kind="duration", flag="gc_delay"), Meta(ge=0)] = 604800.0
"""

from __future__ import annotations

import difflib
import json
import logging
import math
import re
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from kernel.errors import ConfigError

log = logging.getLogger(__name__)

Kind = Literal["text", "int", "number", "bool", "list", "duration", "size", "path", "json"]
C = TypeVar("C", bound=Struct)

PREFIXES = ("MESETA_", "MESOS_")  # The first wins where both are set.
DURATION_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "secs": 1.0, "mins": 60.0, "hrs": 3600.0, "days": 86400.0, "weeks": 604800.0}
DURATION_S |= {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}  # Ours: what people type.
SIZE_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
FILE_BYTES_MAX = 16 << 20


class Setting(Struct, frozen=True):
    """Says how a field of a config is set from outside.

    kind: how text becomes the value; without it, by the field's type (str, int, float, bool, tuple[str, ...] as a
    comma-separated list). `duration` ("15secs") gives float seconds, `size` ("2GB") int bytes, `path` a str without
    `file://`, `json` whatever the field's type is, from inline JSON or from the file that a path names. Any other
    value may be `file:///path`: the file's text is taken. flag: name with underscores, when not the field's own.
    """

    help: str
    kind: Kind | None = None
    flag: str | None = None


class SettingError(ConfigError):
    """A setting cannot be what it was set to. field: its name as the user wrote it; hint: what to write instead."""

    def __init__(self, field: str, problem: str, hint: str = "") -> None:
        super().__init__(f"{field}: {problem}" + (f"; {hint}" if hint else ""))
        self.field, self.problem, self.hint = field, problem, hint


class Field(typing.NamedTuple):
    """One settable field of a config: attribute name, flag name (underscores), kind, help, default as shown, required."""

    name: str
    flag: str
    kind: Kind
    help: str
    default: Any
    required: bool


@cache
def fields(config_type: type[Struct]) -> Mapping[str, Field]:
    """The settable fields of a config by flag name, in the order of the Struct."""
    hints = typing.get_type_hints(config_type, include_extras=True)
    found = {}
    for info in msgspec.structs.fields(config_type):
        setting = next((extra for extra in getattr(hints[info.name], "__metadata__", ()) if isinstance(extra, Setting)), None)
        if setting is not None:
            default = info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default
            required = default is msgspec.NODEFAULT
            flag = setting.flag or info.name
            kind = setting.kind or _kind_of(hints[info.name].__origin__)
            found[flag] = Field(info.name, flag, kind, setting.help, None if required else default, required)
    return found


def _kind_of(hint: Any) -> Kind:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    by_type: dict[Any, Kind] = {bool: "bool", int: "int", float: "number", str: "text", tuple: "list"}
    return by_type.get(typing.get_origin(hint) or hint, "text")


def load(
    config_type: type[C],
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    file: str | None = None,
    without_effect: Collection[str] = (),
) -> C:
    """Make a config. The last source that names a setting wins: defaults, file, environment, flags.

    flags: what was given, by flag name with underscores. environ: `MESETA_<NAME>`, else `MESOS_<NAME>`; other variables
    with these prefixes are no concern of ours (executors get many). file: TOML, keys are flag names with `_` or `-`.
    without_effect: known names that only warn. Raises SettingError for an unknown flag or key and for a wrong value.
    """
    settable = fields(config_type)
    given: dict[str, tuple[str, Any]] = {}  # flag name -> (where it was said, value)
    if file is not None:
        for key, value in _read_toml(file).items():
            given[key.replace("-", "_")] = (f"{file}: {key}", value)
    for name in [*settable, *without_effect]:
        for prefix in reversed(PREFIXES):
            if (text := environ.get(prefix + name.upper())) is not None:
                given[name] = (prefix + name.upper(), text)
    given |= {name: (shown(name), value) for name, value in flags.items()}

    values = {}
    said = {}
    for name, (where, value) in given.items():
        if (field := settable.get(name)) is not None:
            values[field.name] = parse(field.kind, value, where)
            said[field.name] = where
        elif name in without_effect:
            log.warning("%s has no effect in Meseta", where)
        else:
            raise SettingError(where, "no such setting", did_you_mean(name, [*settable, *without_effect]))
    for field in settable.values():
        if field.required and field.name not in values:
            raise SettingError(shown(field.flag), "required", f"give {shown(field.flag)} or set {PREFIXES[0]}{field.flag.upper()}")
    try:
        return msgspec.convert(values, config_type)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$.")
        name = re.split(r"[.\[`]", place)[0]
        raise SettingError(said.get(name, name or config_type.__name__), problem) from error


def shown(flag: str) -> str:
    """How we write a flag: `--work-dir` for work_dir."""
    return "--" + flag.replace("_", "-")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint with the nearest known flag, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {shown(near[0])}?" if near else ""


def parse(kind: Kind, value: Any, where: str) -> Any:
    """The value of a setting from text, or from TOML's own types. Raises SettingError naming `where`."""
    if not isinstance(value, str):
        return float(value) if kind in ("duration", "number") and type(value) is int else value
    text = value
    if kind == "path":
        return text.removeprefix("file://")
    if kind == "json":
        text = text if text.lstrip()[:1] in ("{", "[") else _read_text(text.removeprefix("file://"), where)
        try:
            return json.loads(text)
        except ValueError as error:
            raise SettingError(where, f"not JSON ({error})") from error
    if text.startswith("file://"):
        text = _read_text(text.removeprefix("file://"), where).strip()
    if kind == "text":
        return text
    if kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return _PARSERS[kind](text.strip())
    except ValueError as error:
        raise SettingError(where, f"{text!r} is not {_SHAPES[kind]}") from error


def duration(text: str) -> float:
    """Seconds of `15secs`, `1.5mins`, `2h`; a bare number is seconds. Raises ValueError."""
    match = re.fullmatch(r"(-?[\d.]+)\s*([a-z]*)", text)
    if match is None or match[2] not in ("", *DURATION_S):
        raise ValueError(text)
    return float(match[1]) * DURATION_S.get(match[2], 1.0)


def size(text: str) -> int:
    """Bytes of `2GB` (powers of 1024); a bare number is bytes. Raises ValueError."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)
    if match is None or match[2].upper() not in ("", *SIZE_BYTES):
        raise ValueError(text)
    return int(match[1]) * SIZE_BYTES.get(match[2].upper(), 1)


def boolean(text: str) -> bool:
    """`true` or `1`, `false` or `0`. Raises ValueError."""
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_PARSERS: dict[str, typing.Callable[[str], Any]] = {"bool": boolean, "int": int, "number": _number, "duration": duration, "size": size}
_SHAPES = {
    "bool": "true or false",
    "int": "a whole number",
    "number": "a number",
    "duration": "a duration like 15secs, 1.5mins or 2hrs",
    "size": "a size like 512MB or 2GB",
}


def _read_text(path: str, where: str) -> str:
    try:
        with Path(path).open("rb") as stream:
            return stream.read(FILE_BYTES_MAX).decode()
    except (OSError, ValueError) as error:
        raise SettingError(where, f"cannot read {path} ({error})") from error


def _read_toml(path: str) -> dict[str, Any]:
    import tomllib  # Only for those who have a file: 10 ms.

    try:
        return tomllib.loads(_read_text(path, "--config"))
    except tomllib.TOMLDecodeError as error:
        raise SettingError("--config", f"{path} is not TOML ({error})") from error
