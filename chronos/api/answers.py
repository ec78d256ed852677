"""How requests are read and answers look: Chronos' shape of errors, JSON on one line, values of queries and bodies checked."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from chronos.extension import unknown_fields
from kernel.errors import CallError, KernelError
from kernel.net import response
from kernel.net.errors import HttpError, status_of
from kernel.net.request import Request, read_body
from kernel.wire.codec import explain

BODY_BYTES_MAX = 1024 * 1024
CORS = "Access-Control-Allow-Origin"

T = TypeVar("T", bound=msgspec.Struct)


def refusal(error: KernelError) -> web.Response:
    """An error as Chronos told it, without its stack trace."""
    status = status_of(error)
    body = {"status": HTTPStatus(status).phrase, "message": str(error)}
    headers = dict(error.headers) if isinstance(error, HttpError) else None
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json", headers=headers)


def headers(request: Request) -> dict[str, str]:
    """What every answer has: that pages of any site may read it, where they may."""
    return {CORS: "*"} if request.open else {}


def nothing(request: Request) -> HttpError:
    """Nothing is served there, or not by this method."""
    return HttpError(404, f"nothing is served at {request.method} {request.path[:200]}")


def done() -> web.Response:
    """204, empty."""
    return web.Response(status=204)


async def raw(request: Request, body: bytes) -> web.StreamResponse:
    """200 with JSON."""
    return await response.json(request, body, headers=headers(request))


async def shown(request: Request, value: Any) -> web.StreamResponse:
    """200 with a value as JSON."""
    return await response.json(request, msgspec.json.encode(value), headers=headers(request))


async def listed(request: Request, items: Iterable[bytes]) -> web.StreamResponse:
    """200 with an array on one line; its items are made as they are sent."""
    return await response.json(request, _array(b"[", items, b"]"), headers=headers(request))


async def enclosed(request: Request, name: str, items: Iterable[bytes]) -> web.StreamResponse:
    """200 with `{"NAME":[...]}`."""
    return await response.json(request, _array(b'{"' + name.encode() + b'":[', items, b"]}"), headers=headers(request))


def _array(before: bytes, items: Iterable[bytes], after: bytes) -> Iterable[bytes]:
    yield before
    comma = b""
    for item in items:
        yield comma + item
        comma = b","
    yield after


async def body_of(request: Request, kind: type[T]) -> T:
    """The body as a message of ours, `{}` where there is none. Raises CallError naming the field, and for an unknown one the nearest."""
    body = await read_body(request, BODY_BYTES_MAX)
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        if kind.__struct_config__.forbid_unknown_fields:
            for path, hint in unknown_fields(msgspec.json.decode(body), kind):
                raise CallError(f"{path}: unknown field{hint}") from None
        raise CallError(explain(str(error))) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CallError(f"the body is not valid JSON: {error}") from None


def number(request: Request, name: str, default: int, low: int = 0, high: int = 1_000_000_000) -> int:
    """A whole number of the query; empty counts as absent. Raises CallError."""
    text = request.query.get(name, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high):
        raise CallError(f"{name}: {text[:100]!r} is not allowed: {low} to {high} are")
    return int(text)


def text(request: Request, name: str) -> str | None:
    """A text of the query; empty counts as absent."""
    return request.query.get(name, "").strip() or None
