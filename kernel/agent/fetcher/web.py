"""What comes by HTTP: streamed to the disk piece by piece, however large."""

from __future__ import annotations

import functools
import http
import logging
import os
import socket
import time
import urllib.request
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from kernel.agent.fetcher.budget import Budget
from kernel.agent.fetcher.plan import PROGRESS_EVERY_S, FetchError, Wanted
from kernel.agent.fetcher.tree import PIECE_BYTES, created, write_all

log = logging.getLogger(__name__)

REDIRECTS_MAX = 10
# Bytes are kept as they are sent: an archive that its server calls encoded must not lose its suffix's meaning.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "meseta-fetcher"}

InThread = Callable[[Callable[[], None]], Awaitable[None]]


async def download(wanted: Wanted, target: str, budget: Budget, stall_s: float, in_thread: InThread) -> None:
    """Download into a new file. stall_s: how long nothing may come. in_thread: writes. Raises FetchError, OSError."""
    got = 0
    shown_s = time.monotonic()
    try:
        async with _session(stall_s) as session, session.get(_url(wanted), proxy=_proxy(wanted), max_redirects=REDIRECTS_MAX) as response:
            _check(response)
            total = response.content_length
            if total is not None:
                budget.expect(total)
            with created(target) as fd:
                async for piece in response.content.iter_chunked(PIECE_BYTES):
                    budget.take(len(piece))
                    await in_thread(functools.partial(write_all, fd, piece))
                    got += len(piece)
                    if time.monotonic() - shown_s > PROGRESS_EVERY_S:
                        shown_s = time.monotonic()
                        log.info("fetching %s: %d bytes%s", wanted.shown, got, f" of {total}" if total is not None else "")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise FetchError(_describe(error, stall_s, got)) from error


async def size(wanted: Wanted, stall_s: float) -> int | None:
    """How many bytes it says to have, None when it does not say. Raises nothing."""
    try:
        head = functools.partial(aiohttp.ClientSession.head, allow_redirects=True, max_redirects=REDIRECTS_MAX)
        async with _session(stall_s) as session, head(session, _url(wanted), proxy=_proxy(wanted)) as response:
            return response.content_length if response.status == http.HTTPStatus.OK else None
    except (aiohttp.ClientError, TimeoutError, ValueError, FetchError):
        return None


def _session(stall_s: float) -> aiohttp.ClientSession:
    """One for each file: what belongs to one task (cookies, connections) is nobody else's."""
    timeout = aiohttp.ClientTimeout(total=None, connect=stall_s, sock_connect=stall_s, sock_read=stall_s)
    return aiohttp.ClientSession(timeout=timeout, headers=_HEADERS, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())


def _url(wanted: Wanted) -> URL:
    """As it is written, where that can be sent: signatures are over the very characters."""
    url = URL(wanted.uri, encoded=wanted.uri.isascii() and wanted.uri.isprintable() and " " not in wanted.uri)
    if not url.host:
        raise FetchError("it names no host")
    return url


def _proxy(wanted: Wanted) -> str | None:
    """The agent's proxy, by the usual variables. Not aiohttp's trust_env: that would show the agent's .netrc on behalf of tasks."""
    if urllib.request.proxy_bypass(_url(wanted).host or ""):
        return None
    return urllib.request.getproxies().get(wanted.scheme)


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != http.HTTPStatus.OK:
        try:
            phrase = http.HTTPStatus(response.status).phrase
        except ValueError:
            phrase = ""
        raise FetchError(f"the server answers {response.status} {phrase}".strip())


def _describe(error: Exception, stall_s: float, got: int) -> str:
    """In words of our own: those of the library may repeat addresses with secrets in them."""
    match error:
        case TimeoutError():
            return f"nothing came for {stall_s:g} s, after {got} bytes"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host} is not trusted"
        case aiohttp.ClientConnectorError(os_error=socket.gaierror()):
            return f"the host {error.host} is not known"
        case aiohttp.ClientConnectorError():
            code = error.os_error.errno
            return f"cannot connect to {error.host} port {error.port}" + (f": {os.strerror(code)}" if code and code > 0 else "")
        case aiohttp.TooManyRedirects():
            return f"the server redirects more than {REDIRECTS_MAX} times"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return f"the connection broke off after {got} bytes"
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError() | ValueError():
            return "it is not a URL, or its server redirects to what is none"
    return f"the server does not speak HTTP as it should ({type(error).__name__})"
