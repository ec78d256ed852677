"""Writing HTTP answers: text, JSON, JSONP, gzip, and large answers in pieces."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping

from aiohttp import web

from kernel.errors import CallError, Forbidden
from kernel.net.request import JSON, Request, accepts_gzip

GZIP_BYTES_MIN = 1024
PIECE_BYTES = 256 * 1024
PAUSE_S = 0.003  # For how long rendering goes on before others have their turn.
_CALLBACK = re.compile(r"[A-Za-z0-9_$.\[\]]{1,128}")


def text(status: int, message: str = "", headers: dict[str, str] | None = None) -> web.Response:
    """Return an answer of plain text; without a message, one without body."""
    if not message:
        return web.Response(status=status, headers=headers)
    return web.Response(status=status, text=message, headers=headers)


async def json(
    request: Request, body: bytes | Iterable[bytes], *, media: str = JSON, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Answer 200 with encoded JSON, wrapped as `?jsonp=` asks, compressed when large and accepted.

    body: may come as fragments, which are rendered and sent with pauses in between, so that an answer of 100 MB holds up
    nobody. Raises CallError on a callback that is not a name, Forbidden for a page of another site.
    """
    before, after = b"", b""
    callback = request.query.get("jsonp") if request.method == "GET" else None
    if callback is not None:
        # What comes as a script, any page can read. Browsers say so of what they load from loopback or by TLS.
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Forbidden("jsonp: pages of other sites are refused")
        if not _CALLBACK.fullmatch(callback):
            raise CallError("jsonp: not the name of a function")
        before, after, media = callback.encode() + b"(", b");", "text/javascript"
    if isinstance(body, bytes):
        body = (body,)
    pieces = paced(before, body, after)
    first = await anext(pieces, b"")
    second = await anext(pieces, None)
    if second is None:
        response = web.Response(body=first, content_type=media, headers=headers, zlib_executor_size=PIECE_BYTES)
        if len(first) >= GZIP_BYTES_MIN and accepts_gzip(request):
            response.enable_compression(web.ContentCoding.gzip)
        return response
    stream = web.StreamResponse(headers={"Content-Type": media, **(headers or {})})
    if accepts_gzip(request):
        stream.enable_compression(web.ContentCoding.gzip)
    await stream.prepare(request)
    await stream.write(first)
    await stream.write(second)
    async for piece in pieces:
        await stream.write(piece)  # Waits while the client does not read (the server's sockets time out).
    return stream


async def paced(before: bytes, fragments: Iterable[bytes], after: bytes = b"") -> AsyncIterator[bytes]:
    """Join fragments into pieces of PIECE_BYTES. Making fragments is work: others have their turn in between."""
    gathered, size = [before], len(before)
    since_s = time.perf_counter()
    for fragment in fragments:
        gathered.append(fragment)
        size += len(fragment)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
        if time.perf_counter() - since_s >= PAUSE_S:
            await asyncio.sleep(0)
            since_s = time.perf_counter()
    gathered.append(after)
    rest = b"".join(gathered)
    if rest:
        yield rest
