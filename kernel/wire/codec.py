"""How messages are read and written over HTTP: one codec a media type (spec: mesos-v1, section 1.6; clients, 1, 2, 10).

JSON is read strictly first, which is fast and what most clients send. Only what fails is read again without a type, mended
by what the type expects (null is absent, one value makes a list, text makes a number...) and converted; the error a client
is told is that of the second attempt. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import inspect

from kernel.errors import CallError

T = TypeVar("T")

INT64_MIN = -(2**63)
UINT64_MAX = 2**64 - 1


class Codec(Protocol):
    """Reads and writes messages in the form its media type names."""

    @property
    def media_type(self) -> str: ...

    def decode(self, body: bytes, kind: type[T]) -> T:
        """Read a message of a given class. CallError, naming the field, when it is none."""

    def encode(self, message: object) -> bytes: ...


class JsonCodec:
    """JSON: lenient when reading; compact and in ASCII alone when writing, so that bytes and characters count alike."""

    media_type = "application/json"

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()

    def decode(self, body: bytes, kind: type[T]) -> T:
        first = ""
        try:
            message = _decoder(kind).decode(body)
            if not _has_long_number(body):
                return message
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            first = str(error)
        try:
            untyped = msgspec.json.decode(body)
        except msgspec.ValidationError as error:  # A number no double holds: read with a type, it is told which.
            raise CallError(explain(first or str(error))) from None
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise _malformed(error) from None
        mended: Any = None
        try:
            mended = _mender(kind)(untyped)
            return msgspec.convert(mended, kind)
        except msgspec.ValidationError as error:
            raise CallError(explain(str(error), mended)) from None
        except (RecursionError, ValueError, OverflowError) as error:
            raise _malformed(error) from None

    def encode(self, message: object) -> bytes:
        """Write a message, without spaces or unset fields. A number that is not finite has no JSON form and becomes null."""
        body = self._encoder.encode(message)
        return body if body.isascii() else _NOT_ASCII.sub(_escape, body.decode()).encode("ascii")


def _malformed(error: Exception) -> CallError:
    if isinstance(error, RecursionError):
        return CallError("the body is nested too deeply")
    return CallError(f"the body is not valid JSON: {error}")


JSON = JsonCodec()
CODECS: Mapping[str, Codec] = {JSON.media_type: JSON}
decode = JSON.decode
encode = JSON.encode


_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder


_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


_DIGITS = bytes(ord("0") if chr(byte).isdigit() and byte < 128 else ord(" ") for byte in range(256))


def _has_long_number(body: bytes) -> bool:
    """Say whether an integer beyond 64 bits may be in there: msgspec bounds integers by int64 only, not by uint64, and
    cannot write what is longer. Two passes in C: under a microsecond for each kilobyte."""
    return b"0" * 20 in body.translate(_DIGITS)


# ---- The error in plain words ---------------------------------------------------------------------------

_ERROR = re.compile(r"(?P<text>.*?)(?: - at `(?:key` in `)?\$(?P<path>.*)`)?", re.DOTALL)
_PATH_CHARS_MAX = 200
_TEXT_CHARS_MAX = 300
_VALUE_CHARS_MAX = 40
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]|\[\.\.\.\]")
_NO_NUMBER = re.compile(r"Expected `(?:int|float)`, got `str`")
_GOT = re.compile(r"got `(\w+)`")
_KINDS = {"int": int, "float": float, "str": str, "bool": bool, "array": list, "object": dict, "null": type(None)}
_MISSING = re.compile(r"Object missing required field `(.*)`")
_WORDS = {
    "`int`": "an integer",
    "`IntegerBeyond64Bits`": "one beyond 64 bits",
    "`float`": "a number",
    "`str`": "a string",
    "`bytes`": "base64 text",
    "`bool`": "true or false",
    "`object`": "an object",
    "`array`": "a list",
    "`null`": "null",
    "Invalid enum value": "unknown name",
}


def explain(error: str, body: Any = None) -> str:
    """Turn msgspec's "Expected `int`, got `str` - at `$.a[0].b`" into "a[0].b: expected an integer, got a string, 'x'".

    body: what was to be converted, if known: for the keys of maps, which msgspec does not name (`[...]`), and the text where a number is
    due.
    """
    found = _ERROR.fullmatch(error)
    assert found is not None
    text, path = found["text"].replace(" | null`", "`"), (found["path"] or "").removeprefix(".")
    got, due = _GOT.search(text), _NO_NUMBER.match(text) is not None
    wrong = _KINDS.get(got[1]) if got is not None and (due or "[...]" in path) else None
    if wrong is not None and (place := _place(_STEP.findall(path), body, wrong)) is not None:
        path, given = place[0].removeprefix("."), repr(place[1])
        if due:
            text += f", {given if len(given) <= _VALUE_CHARS_MAX else given[:_VALUE_CHARS_MAX] + '...'}"
    if len(path) > _PATH_CHARS_MAX:
        path = path[:_PATH_CHARS_MAX] + "..."
    missing = _MISSING.fullmatch(text)
    if missing is not None:
        return f"{path}.{missing[1]}: required, but missing".removeprefix(".")
    for word, plain in _WORDS.items():
        text = text.replace(word, plain)
    return f"{path or 'the body'}: {text[:1].lower()}{text[1:_TEXT_CHARS_MAX]}"


def _place(steps: Sequence[str], value: Any, wrong: type) -> tuple[str, Any] | None:
    """The path to the first value of the kind that is wrong there, with the keys of maps (`[...]` in steps), and the value."""
    if not steps:
        return ("", value) if type(value) is wrong else None
    step, rest = steps[0], steps[1:]
    if step == "[...]":
        choices = [(f".{key}", part) for key, part in value.items()] if isinstance(value, dict) else []
    elif step.startswith("["):
        index = int(step[1:-1])
        choices = [(step, value[index])] if isinstance(value, list) and index < len(value) else []
    else:
        choices = [(f".{step}", value[step])] if isinstance(value, dict) and step in value else []
    for name, part in choices:
        if (found := _place(rest, part, wrong)) is not None:
            return name + found[0], found[1]
    return None


# ---- Mending --------------------------------------------------------------------------------------------

Mender = Callable[[Any], Any]
_ABSENT: Any = object()
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


class IntegerBeyond64Bits:
    """Stands for an integer that no field can hold; the conversion refuses it under this name."""


_menders: dict[type[Any], Mender] = {}


def _mender(kind: type[Any]) -> Mender:
    """Return what mends a value read without a type, as far as can be seen, so that it converts to `kind`."""
    mender = _menders.get(kind)
    if mender is None:
        mender = _menders[kind] = _compile(inspect.type_info(kind), {})
    return mender


def _compile(kind: inspect.Type, known: dict[type[Any], Mender]) -> Mender:
    match kind:
        case inspect.StructType():
            return known.get(kind.cls) or _struct_mender(kind, known)
        case inspect.VarTupleType() | inspect.ListType():
            return _list_mender(_compile(kind.item_type, known))
        case inspect.DictType():
            return _map_mender(_compile(kind.value_type, known))
        case inspect.UnionType():  # The only unions in messages are with None, and null is dropped before.
            return _compile(next(part for part in kind.types if not isinstance(part, inspect.NoneType)), known)
        case inspect.EnumType():
            names = {member.value for member in kind.cls}
            return lambda value: _ABSENT if isinstance(value, str) and value not in names else value
        case inspect.StrType():
            return _mend_text
        case inspect.IntType():
            return _mend_integer
        case inspect.FloatType():
            return _mend_number
        case inspect.BoolType():
            return lambda value: {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
        case _:
            return lambda value: value


def _struct_mender(kind: inspect.StructType, known: dict[type[Any], Mender]) -> Mender:
    fields: dict[str, tuple[Mender, bool]] = {}
    # A class whose message may also come as text has `from_text`, which returns the object meant (google.protobuf.Duration).
    from_text: Callable[[str], Any] | None = getattr(kind.cls, "from_text", None)

    def mend(value: Any) -> Any:
        if not isinstance(value, dict):
            return from_text(value) if from_text is not None and isinstance(value, str) else value
        mended = {}
        for name, part in value.items():
            if part is None or name not in fields:
                continue
            mend_part, required = fields[name]
            result = mend_part(part)
            if result is not _ABSENT:
                mended[name] = result
            elif required:
                mended[name] = part  # An enum's name that we do not know: the conversion will say so.
        return mended

    known[kind.cls] = mend  # Before its fields are compiled, as a message may contain itself.
    fields.update({part.encode_name: (_compile(part.type, known), part.required) for part in kind.fields})
    return mend


def _list_mender(mend_item: Mender) -> Mender:
    def mend(value: Any) -> list[Any]:
        items = value if isinstance(value, list) else [value]
        return [result for item in items if item is not None and (result := mend_item(item)) is not _ABSENT]

    return mend


def _map_mender(mend_value: Mender) -> Mender:
    def mend(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: result for key, part in value.items() if part is not None and (result := mend_value(part)) is not _ABSENT}

    return mend


def _mend_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _mend_integer(value: Any) -> Any:
    if (isinstance(value, str) and _INTEGER.fullmatch(value)) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if isinstance(value, int) and not INT64_MIN <= value <= UINT64_MAX:
        return IntegerBeyond64Bits()
    return value


def _mend_number(value: Any) -> Any:
    if isinstance(value, str):
        if value in ("Infinity", "-Infinity"):
            return math.inf if value == "Infinity" else -math.inf
        if _NUMBER.fullmatch(value) and math.isfinite(number := float(value)):
            return number
    return value
