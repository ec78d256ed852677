"""Reading HTTP requests: bodies within bounds, media types, the checks all v1 calls share (spec: mesos-v1, 1.2)."""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import web

from kernel.errors import CallError, Unavailable
from kernel.net.errors import HttpError

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
RECORDIO = "application/recordio"
BODY_BYTES_MAX = 8 * 1024 * 1024
BODY_READ_S = 30.0
BODIES_BYTES_MAX = 256 * 1024 * 1024  # Of all that are coming in at a time.


class Request(web.BaseRequest):
    """A request as handlers get it.

    principal: who calls, when the route's realm asks for it. rest: for routes that hold a tree, the path
    below the route, without leading slash. open: whether pages of any site may read the answer, where a daemon cares.
    """

    principal: str | None = None
    rest: str = ""
    open: bool = False


class _Coming:
    """What this process holds of bodies that have not come to their end."""

    bytes = 0


async def read_body(request: Request, limit_bytes: int = BODY_BYTES_MAX) -> bytes:
    """Return the whole body, unpacked. Raises HttpError: 413 too large, also when unpacked; 415 packed in a way not known here;
    408 when the client is too slow in sending it. Raises Unavailable when too much of others' is coming in."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    body = await _read(request, limit_bytes)
    return body if encoding in ("", "identity") else _unpacked(body, encoding, limit_bytes)


def _unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise HttpError(415, "Expecting 'Content-Encoding' of gzip or deflate")
    unpacker = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # Either of the two, by its header.
    try:
        unpacked = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise CallError(f"the body is not {encoding}: {error}") from None
    if len(unpacked) > limit_bytes:
        raise _too_large(limit_bytes)
    if not unpacker.eof or unpacker.unused_data:
        raise CallError(f"the body is not {encoding}: it is {'followed by something' if unpacker.eof else 'cut off'}")
    return unpacked


async def _read(request: Request, limit_bytes: int) -> bytes:
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    content = request.content
    if content.is_eof():  # The usual case: it came with the headers, no timer is needed.
        body = content.read_nowait()
        if len(body) > limit_bytes:
            raise _too_large(limit_bytes)
        return body
    if request.headers.get("Expect", "").lower() == "100-continue":
        transport = request.transport
        if transport is not None and not transport.is_closing():
            transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_READ_S):
            while part := await content.readany():
                size += len(part)
                _Coming.bytes += len(part)
                if size > limit_bytes:
                    raise _too_large(limit_bytes)
                if _Coming.bytes > BODIES_BYTES_MAX:
                    raise Unavailable("too many large calls are coming in; try again")
                parts.append(part)
    except TimeoutError:
        raise HttpError(408, f"the body did not arrive within {BODY_READ_S:g} s", {"Connection": "close"}) from None
    except web.RequestPayloadError as error:
        raise CallError(f"the body is broken: {error}") from error
    finally:
        _Coming.bytes -= size
    return b"".join(parts)


def _too_large(limit_bytes: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit_bytes} bytes", {"Connection": "close"})


def content_type(request: Request, allowed: tuple[str, ...] = (JSON,)) -> str:
    """Return which of the allowed media types the body has. Raises CallError when not said, HttpError 415."""
    said = request.headers.get("Content-Type")
    if said is None:
        raise CallError("Expecting 'Content-Type' to be present")
    if said in allowed:
        return said
    bare = said.partition(";")[0].strip().lower()  # Mesos compares exactly; a charset is let through.
    if bare in allowed:
        return bare
    raise HttpError(415, f"Expecting 'Content-Type' of {' or '.join(allowed)}")


def acceptable(request: Request, offered: tuple[str, ...] = (JSON,)) -> str:
    """Return the media type to answer with: the first offered that Accept allows. Raises HttpError 406."""
    accept = request.headers.get("Accept")
    if accept is None:
        return offered[0]
    allowed = quality(accept)
    for media in offered:
        for name in (media, media.partition("/")[0] + "/*", "*/*"):
            if name in allowed:  # The most specific entry decides.
                if allowed[name] > 0.0:
                    return media
                break
    raise HttpError(406, f"Expecting 'Accept' to allow {' or '.join(offered)}")


def accepts_gzip(request: Request) -> bool:
    """Whether the answer may be compressed."""
    accept = request.headers.get("Accept-Encoding")
    if not accept:
        return False
    allowed = quality(accept)
    return allowed.get("gzip", allowed.get("*", 0.0)) > 0.0


def quality(header: str) -> dict[str, float]:
    """Return the entries of an Accept-like header in lower case, with their q (1 when absent, 0 when unreadable)."""
    entries: dict[str, float] = {}
    for entry in header.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        if not name:
            continue
        entries[name] = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    entries[name] = float(parameter[2:])
                except ValueError:
                    entries[name] = 0.0
    return entries
