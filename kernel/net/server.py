"""The HTTP server of every daemon: a table of routes over aiohttp's low-level server.

It knows paths, realms and errors; what an API means is its handlers' matter.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Collection
from operator import itemgetter
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler
from msgspec import Struct

from kernel.errors import Forbidden, KernelError, NotFound, Unavailable
from kernel.net.auth import Authenticator
from kernel.net.errors import HttpError, Redirect, status_of
from kernel.net.request import Request
from kernel.net.response import text

log = logging.getLogger(__name__)

BACKLOG = 4096
CONNECTIONS_MAX = 50_000
FILES_KEPT = 256  # Of all that the system lets us open: for stores, logs, sandboxes and our own connections to others.
IDLE_S = 75.0  # Also how long a client may take to send its headers.
STALLED_S = 60  # A peer that takes nothing off its socket for so long is dropped by the system.


def _not_of_peers(record: logging.LogRecord) -> bool:
    """aiohttp logs a traceback for all that is not HTTP, which anyone can send as often as he likes, and for who leaves while he is
    answered. The one is told, the other is gone; that is enough."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError | web.RequestPayloadError | ConnectionError)


_http_log = log.getChild("aiohttp")
_http_log.addFilter(_not_of_peers)

Handler = Callable[[Request], Awaitable[web.StreamResponse]]


class Route(Struct, frozen=True):
    """What serves a path.

    realm: in which the caller must authenticate, None for never. methods: the others get 405. gate: called
    before the method is looked at, raises when this daemon may not answer now (Redirect, Unavailable). about: for people;
    without it the route is not listed. plain: a GET needs nothing but the path.
    """

    handler: Handler
    realm: str | None
    methods: tuple[str, ...]
    gate: Callable[[], None] | None
    about: str
    plain: bool


class Routes:
    """A table of paths. Each also answers below the daemon's own prefix (`/master`), with trailing slashes
    and with `.json` behind it."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix + "/" if prefix else ""
        self._exact: dict[str, Route] = {}
        self._trees: dict[str, Route] = {}

    def add(
        self,
        path: str,
        handler: Handler,
        *,
        realm: str | None,
        methods: tuple[str, ...] = ("GET", "HEAD"),
        gate: Callable[[], None] | None = None,
        tree: bool = False,
        about: str = "",
        plain: bool = True,
    ) -> None:
        """Serve `path`; with tree, all below it too (the handler finds the rest in `request.rest`)."""
        route = Route(handler, realm, methods, gate, about, plain)
        self._exact[path] = route
        if tree:
            self._trees[path] = route

    def listed(self) -> list[tuple[str, Route]]:
        """The routes that people are told of, by path."""
        return [(path, route) for path, route in sorted(self._exact.items(), key=itemgetter(0)) if route.about]

    def find(self, path: str) -> tuple[Route, str] | None:
        """Return the route for a decoded path, and the path below it when it is a tree's."""
        route = self._exact.get(path)
        if route is not None:
            return route, ""
        if self._prefix and (path + "/").startswith(self._prefix):
            path = path[len(self._prefix) - 1 :]
        path = path.rstrip("/") or "/"
        route = self._exact.get(path) or self._exact.get(path.removesuffix(".json"))
        if route is not None:
            return route, ""
        base = path
        while (slash := base.rfind("/")) > 0:
            base = base[:slash]
            if base in self._trees:
                return self._trees[base], path[slash + 1 :]
        return None


class HttpServer:
    """Serves a table of routes."""

    def __init__(
        self,
        routes: Routes,
        authenticator: Authenticator | None = None,
        *,
        names: Collection[str] | None = None,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """authenticator: None lets everyone in, without a principal. names: by which hosts we may be called, see `own_names`;
        None: by any."""
        self._routes, self._authenticator, self._names = routes, authenticator, names
        self._connections_max = connections_max
        self._server: _BoundedServer | None = None
        self._listener: asyncio.AbstractServer | None = None

    async def start(self, ip: str, port: int) -> int:
        """Listen; return the port (of the system's choice when 0 is asked for). Raises Unavailable."""
        self._server = _BoundedServer(
            self._answer,
            min(self._connections_max, _connections_possible()),
            request_factory=_make_request,
            handler_cancellation=True,  # So that a stream whose client went away ends at once.
            access_log=None,
            auto_decompress=False,  # It would unpack what nobody reads, such as the body of a call that is refused.
            logger=_http_log,
            keepalive_timeout=IDLE_S,
            lingering_time=2.0,
        )
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._server, ip, port, backlog=BACKLOG)
        except OSError as error:
            raise Unavailable(f"cannot listen on {ip} port {port}: {os.strerror(error.errno) if error.errno else error}") from error
        bound: int = self._listener.sockets[0].getsockname()[1]
        return bound

    async def stop(self, grace_s: float = 1.0) -> None:
        """Stop listening, let the calls under way end for so long, then close all connections."""
        if self._listener is not None:
            self._listener.close()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(grace_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, Request)
        try:
            if self._names is not None:
                _refuse_foreign_names(request, self._names)
            found = self._routes.find(request.path)
            if found is None:
                raise NotFound(f"nothing is served at {request.path}")
            route, request.rest = found
            if self._authenticator is not None:
                request.principal = self._authenticator.principal(route.realm, request.headers.get("Authorization"))
            _refuse_foreign_pages(request)
            if route.gate is not None:
                route.gate()
            if request.method not in route.methods:
                allowed = ", ".join(route.methods)
                expected = ", ".join(f"'{method}'" for method in route.methods)
                message = f"Expecting one of {{ {expected} }}, but received '{request.method}'."
                raise HttpError(405, message, {"Allow": allowed})
            return await route.handler(request)
        except KernelError as error:
            return error_response(request, error)
        except (asyncio.CancelledError, web.HTTPException):
            raise
        except Exception as error:
            if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                raise  # The client left.
            log.exception("%s %s failed", request.method, request.path)
            return text(500, "internal error")


def error_response(request: Request, error: KernelError) -> web.Response:
    """Return the answer that tells an error, as plain text."""
    if isinstance(error, Redirect):
        return text(307, headers={"Location": f"//{error.address}{request.rel_url.raw_path_qs}"})
    headers = dict(error.headers) if isinstance(error, HttpError) else None
    return text(status_of(error), str(error), headers)


def own_names(ip: str, *names: str | None) -> frozenset[str] | None:
    """By which names a daemon that listens on an address may be called, beside addresses and `localhost`; None: by any.

    On loopback, where nobody is asked who he is, a page could have its own name resolve to 127.0.0.1 (DNS rebinding): to the
    browser we would be the page's own site. Beyond, credentials keep such a page out, and clients may know us by any name.
    """
    if not ipaddress.ip_address(ip).is_loopback:
        return None
    return frozenset(name.lower() for name in (*names, socket.gethostname()) if name)


def _refuse_foreign_names(request: Request, names: Collection[str]) -> None:
    host = request.headers.get("Host", "")
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        if not name or name == "localhost" or name.endswith(".localhost") or name in names:
            return
        ipaddress.ip_address(name)  # Not a name, so nobody can have it resolve to us.
    except ValueError:
        raise Forbidden(f"Host: {host[:255]!r} is not a name of this daemon; call it by its address, or start it with --hostname") from None


def _refuse_foreign_pages(request: Request) -> None:
    """A page of another site, open in an operator's browser, must not act through it: reading is harmless
    (the browser hides the answer from the page; see `response.json` for what is not hidden), changing state and
    opening WebSockets are not."""
    origin = request.headers.get("Origin")
    if origin is None or (request.method in ("GET", "HEAD") and "Upgrade" not in request.headers):
        return
    if urlsplit(origin).netloc != request.headers.get("Host"):
        raise Forbidden(f"requests from pages of {origin} are refused")


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> Request:
    return Request(message, payload, protocol, writer, task, task.get_loop())


def _connections_possible() -> int:
    """How many connections leave us the files we need ourselves."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else max(files - FILES_KEPT, files // 2)


class _BoundedServer(web.Server):
    """Refuses connections beyond a number, and has the system drop peers that stop reading."""

    def __init__(self, handler: Any, connections_max: int, **settings: Any) -> None:
        super().__init__(handler, **settings)
        self._connections_max = connections_max

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._connections) > self._connections_max:
            transport.abort()
            return
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_S * 1000)
