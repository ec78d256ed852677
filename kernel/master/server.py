"""What a master serves: its routes, and the performing of what its core decides to send.

Realms and redirects: spec mesos-v1, sections 1.5 and 10.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from kernel.errors import CallError, NotSupported, Unavailable
from kernel.master.config import MasterConfig
from kernel.master.effects import CloseLink, CloseStream, TeardownFramework, ToAgent, ToStream, View
from kernel.master.leadership import Leadership
from kernel.master.links import Links
from kernel.master.operator_api import OperatorApi
from kernel.master.scheduler_api import SchedulerApi
from kernel.master.streams import Streams
from kernel.net import common, logging_level, response
from kernel.net.auth import Authenticator
from kernel.net.files import FileApi, Files
from kernel.net.logging_level import LoggingLevel
from kernel.net.prometheus import exposition
from kernel.net.request import Request, read_body
from kernel.net.server import HttpServer, Routes, own_names

READ, WRITE = "mesos-master-readonly", "mesos-master-readwrite"
SCHEDULER, AGENT = "mesos-master-scheduler", "mesos-master-agent"

# Older reads: each is a view of the same name that gets the query.
VIEWS = ("state", "state-summary", "slaves", "frameworks", "tasks", "roles")
# Those whose writing is not built yet, and what can only be written.
VIEWS_LATER_WRITTEN = ("weights", "quota", "maintenance/schedule", "maintenance/status")
LATER = ("reserve", "unreserve", "create-volumes", "destroy-volumes", "machine/down", "machine/up")
WRITING = ("GET", "HEAD", "POST", "PUT", "DELETE")


class MasterServer:
    """The edge of one master: sockets on one side, main loop on the other."""

    def __init__(self, config: MasterConfig, leadership: Leadership, authenticator: Authenticator | None) -> None:
        self._config, self._leadership = config, leadership
        self._streams = Streams()
        self._level = LoggingLevel()
        self._files = Files()  # Logs go to stderr: whoever keeps them shows them.
        self._links = Links(lambda message: leadership.loop().post(message), lambda: leadership.loop().room())
        names = own_names(config.ip, config.hostname)
        self._http = HttpServer(self._routes(), authenticator, names=names)

    async def start(self, ip: str, port: int) -> int:
        """Listen; return the port."""
        return await self._http.start(ip, port)

    async def stop(self) -> None:
        """End all streams and links; the main loop must have stopped, or it would take this for the schedulers' doing."""
        self._streams.close_all()
        await self._http.stop()

    def perform(self, effect: Any) -> None:
        """Carry out one effect of the core, without waiting."""
        kind = type(effect)
        if kind is ToAgent:
            self._links.send(effect.link, effect.message)
        elif kind is ToStream:
            self._streams.send(effect.stream, effect.event)
        elif kind is CloseStream:
            self._streams.close(effect.stream)
        else:
            assert kind is CloseLink, f"the master's edge cannot perform {kind.__name__}"
            self._links.close(effect.link)

    def flush(self) -> None:
        """Send what `perform` gathered."""
        self._links.flush()

    # ---- Routes -----------------------------------------------------------------------------------------

    def _routes(self) -> Routes:
        routes = Routes(prefix="/master")
        gate = self._leadership.gate
        scheduler = SchedulerApi(self._leadership.loop, self._streams)
        operators = OperatorApi(self._config, self._leadership.loop, self._streams, self._files, self._level)
        files = FileApi(self._files)
        routes.add("/api/v1/scheduler", scheduler.handle, realm=SCHEDULER, methods=("POST",), gate=gate)
        routes.add("/api/v1", operators.handle, realm=WRITE, methods=("POST",), gate=gate)
        routes.add("/api/v1/operator", operators.handle, realm=WRITE, methods=("POST",), gate=gate)
        routes.add("/agent-link", self._links.serve, realm=AGENT, methods=("GET",), gate=gate)
        routes.add("/health", self._health, realm=None)
        routes.add("/version", self._version, realm=None)
        routes.add("/redirect", self._redirect, realm=None)
        routes.add("/flags", self._flags, realm=READ)
        routes.add("/metrics/snapshot", self._metrics_snapshot, realm=READ)
        routes.add("/metrics", self._metrics, realm=READ)
        for name in VIEWS:
            routes.add(f"/{name}", self._view, realm=READ, gate=gate)
        for name in ("browse", "read", "download", "debug"):
            routes.add(f"/files/{name}", getattr(files, name), realm=READ)
        routes.add("/logging/toggle", self._toggle, realm=WRITE, methods=("GET", "HEAD", "POST"))
        routes.add("/teardown", self._teardown, realm=WRITE, methods=("POST",), gate=gate)
        for name in VIEWS_LATER_WRITTEN + LATER:
            routes.add(f"/{name}", self._later, realm=WRITE, methods=WRITING, gate=gate, tree=name == "quota")
        return routes

    async def _health(self, request: Request) -> web.StreamResponse:
        return response.text(200)

    async def _version(self, request: Request) -> web.StreamResponse:
        return await response.json(request, common.version_json())

    async def _flags(self, request: Request) -> web.StreamResponse:
        return await response.json(request, msgspec.json.encode({"flags": common.flags(self._config)}))

    async def _redirect(self, request: Request) -> web.StreamResponse:
        leader = self._leadership.leader
        if leader is None:
            raise Unavailable("No leader elected")
        return response.text(307, headers={"Location": f"//{leader.address}"})

    async def _view(self, request: Request) -> web.StreamResponse:
        return await response.json(request, await self._ask(View(_view_name(request), dict(request.query))))

    async def _ask(self, view: View) -> bytes | Iterable[bytes]:
        rendered: bytes | Iterable[bytes] = await self._leadership.loop().submit(view)
        return rendered

    async def _metrics_snapshot(self, request: Request) -> web.StreamResponse:
        return await response.json(request, msgspec.json.encode(await self._numbers()))

    async def _metrics(self, request: Request) -> web.StreamResponse:
        body, media = exposition(await self._numbers(), request.headers.get("Accept"))
        return web.Response(body=body, headers={"Content-Type": media})

    async def _numbers(self) -> dict[str, float]:
        if not self._leadership.leading:
            return {"master/elected": 0.0}
        loop = self._leadership.loop()
        numbers: dict[str, float] = await loop.submit(View("metrics"))
        return numbers | {"main_loop/turns": float(loop.turns), "main_loop/longest_turn_s": loop.longest_turn_s}

    async def _toggle(self, request: Request) -> web.StreamResponse:
        return logging_level.toggle(request, self._level)

    async def _teardown(self, request: Request) -> web.StreamResponse:
        framework_id = form(await read_body(request)).get("frameworkId")
        if not framework_id:
            raise CallError("Missing 'frameworkId' query parameter")
        await self._leadership.loop().submit(TeardownFramework(framework_id))
        return response.text(200)

    async def _later(self, request: Request) -> web.StreamResponse:
        if request.method in ("GET", "HEAD") and _view_name(request) in VIEWS_LATER_WRITTEN:
            return await self._view(request)
        raise NotSupported(f"{request.path} is not built yet")


def _view_name(request: Request) -> str:
    return request.path.removeprefix("/master").strip("/").removesuffix(".json")


def form(body: bytes) -> dict[str, str]:
    """Return the fields of a form's body. Raises CallError."""
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=100))
    except ValueError as error:
        raise CallError(f"the form cannot be read: {error}") from error
