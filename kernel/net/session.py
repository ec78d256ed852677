"""aiohttp's client as our long-lived processes use it: few peers, bounded waits and answers, one kind of error.

For commands, which want to start quickly and may block, there is `kernel.net.client`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from kernel.errors import PeerError

CONNECT_S = 5.0
ANSWER_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024
READ_BYTES = 256 * 1024

Session = aiohttp.ClientSession


class Answer(NamedTuple):
    """A whole answer. headers: found by names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace").strip()


def base_url(text: str, default_port: int) -> str:
    """`http://host:port` of `http://host:port/path`, `//host:port` or `host:port`. Raises ValueError."""
    parts = urlsplit(text if "//" in text else f"//{text}")
    if parts.scheme not in ("", "http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is not a URL like http://host:{default_port}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme or 'http'}://{host}:{parts.port or default_port}"


def open_session(headers: Mapping[str, str]) -> Session:
    """Return a session that sends these headers with each request. It keeps connections; leave it by `async with`.

    Not compressed: peers are near, and an event must not wait in a compressor. No cookies, no proxies; TLS is verified.
    """
    return Session(
        headers={"Accept-Encoding": "identity", **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
        read_bufsize=READ_BYTES,
    )


async def post(session: Session, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float = ANSWER_S) -> Answer:
    """Send one request, return the whole answer, whatever its status; redirects are not followed.

    Raises PeerError: no or no whole answer; whether the request was taken is not known.
    """
    with _told(url):
        async with asyncio.timeout(timeout_s), session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            return Answer(response.status, response.headers, b"".join([piece async for piece in _bounded(response)]))


async def fetch(
    session: Session,
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = ANSWER_S,
) -> Answer:
    """As `post`, with any method."""
    with _told(url):
        async with (
            asyncio.timeout(timeout_s),
            session.request(method, url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            return Answer(response.status, response.headers, b"".join([piece async for piece in _bounded(response)]))


@asynccontextmanager
async def listen(
    session: Session, url: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float = ANSWER_S, method: str = "POST"
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Send one request whose answer has no end, or a long one; hand out how it begins, to be read by `pieces`, and hang up at the end.

    Raises PeerError as `post`.
    """
    with _told(url):
        async with asyncio.timeout(timeout_s):
            response = await session.request(method, url, data=body, headers=headers, allow_redirects=False)
    try:
        yield response
    finally:
        response.close()


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The payload as it comes, however long that takes. Raises PeerError when it breaks off."""
    with _told(str(response.url)):
        async for piece in response.content.iter_any():
            yield piece


async def whole(response: aiohttp.ClientResponse, timeout_s: float = ANSWER_S) -> Answer:
    """The rest of what turned out to be no stream. Raises PeerError."""
    with _told(str(response.url)):
        async with asyncio.timeout(timeout_s):
            return Answer(response.status, response.headers, b"".join([piece async for piece in _bounded(response)]))


async def _bounded(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    left = ANSWER_BYTES_MAX
    async for piece in response.content.iter_any():
        left -= len(piece)
        if left < 0:
            raise PeerError(f"an answer of more than {ANSWER_BYTES_MAX} bytes is too long")
        yield piece


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Make errors of connections and of HTTP those of the peer."""
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        parts = urlsplit(url)
        raise PeerError(f"{parts.scheme}://{parts.netloc}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError | ConnectionResetError | BrokenPipeError):
        return "the server hung up"
    return str(error) or type(error).__name__
