"""What a master serves: its routes, and the performing of what its core decides to send.

Realms and redirects: spec mesos-v1, sections 1.5 and 10.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from kernel.errors import CallError, Unavailable
from kernel.mainloop import Tick
from kernel.master import reservation_api
from kernel.master.config import MasterConfig
from kernel.master.effects import (
    CloseLink,
    CloseStream,
    FromAgent,
    LinkClosed,
    StartMaintenance,
    StopMaintenance,
    TeardownFramework,
    ToAgent,
    ToStream,
    ToStreamInFragments,
    UpdateSchedule,
    View,
)
from kernel.master.leadership import Leadership
from kernel.master.links import Links
from kernel.master.operator_api import OperatorApi
from kernel.master.quota_api import QuotaApi
from kernel.master.rate_limits import RateLimiter, RateLimits
from kernel.master.scheduler_api import SchedulerApi
from kernel.master.streams import Streams
from kernel.net import common, logging_level, response
from kernel.net.auth import Authenticator
from kernel.net.files import ABOUT_FILES, FileApi, Files, own_log
from kernel.net.logging_level import LoggingLevel
from kernel.net.machine import Uptime
from kernel.net.metrics import Metrics
from kernel.net.pages import Pages
from kernel.net.request import Request, read_body
from kernel.net.server import HttpServer, Routes, own_names
from kernel.wire import codec
from kernel.wire.nodes import MachineID
from kernel.wire.operator import Schedule

READ, WRITE = "mesos-master-readonly", "mesos-master-readwrite"
SCHEDULER, AGENT = "mesos-master-scheduler", "mesos-master-agent"

# Older reads: each is a view of the same name that gets the query.
VIEWS = {
    "state": "agents, frameworks and tasks, all at one instant; ?slave_id= or ?framework_id= select",
    "state-summary": "the same with tasks only counted",
    "slaves": "the agents; ?slave_id=",
    "frameworks": "the frameworks with their tasks; ?framework_id=",
    "tasks": "the tasks; ?limit= ?offset= ?order=asc ?framework_id= ?task_id=",
    "roles": "the roles: weights, quotas, what they hold",
    "allocation": "everything that decides who is offered what",
    "explain": "why demands wait, and what would unblock them; ?framework_id= ?name= ?limit=",
    "maintenance/status": "machines under maintenance, and what frameworks say to it",
}


class MasterServer:
    """The edge of one master: sockets on one side, main loop on the other."""

    def __init__(self, config: MasterConfig, leadership: Leadership, authenticator: Authenticator | None) -> None:
        self._config, self._leadership = config, leadership
        self._streams = Streams()
        self._level = LoggingLevel()
        self._uptime = Uptime()
        self._metrics = Metrics(self._measured, self._ask_metrics)
        self._files = Files()
        log = own_log()
        if log is not None:
            self._files.attach("/master/log", log)
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
        elif kind is ToStreamInFragments:
            self._streams.send_fragments(effect.stream, effect.fragments, effect.heartbeat_s)
        elif kind is CloseStream:
            self._streams.close(effect.stream)
        else:
            assert kind is CloseLink, f"the master's edge cannot perform {kind.__name__}"
            self._links.close(effect.link, effect.reason)

    def flush(self) -> None:
        """Send what `perform` gathered."""
        self._links.flush()

    # ---- Routes -----------------------------------------------------------------------------------------

    def _routes(self) -> Routes:
        routes = Routes(prefix="/master")
        gate = self._leadership.gate
        limiter = RateLimiter(self._config.rate_limits or RateLimits())
        scheduler = SchedulerApi(self._leadership.loop, self._streams, limiter)
        operators = OperatorApi(self._config, self._leadership.loop, self._streams, self._files, self._level, self._metrics)
        files, pages = FileApi(self._files), Pages(routes, "Meseta master", "master")
        routes.add("/", pages.index, realm=None)
        routes.add("/help", pages.help, realm=None, about="this list; ?format=json")
        routes.add("/api/v1/scheduler", scheduler.handle, realm=SCHEDULER, methods=("POST",), gate=gate, about="v1 scheduler API")
        routes.add("/api/v1", operators.handle, realm=WRITE, methods=("POST",), gate=gate, about="v1 operator API")
        routes.add("/api/v1/operator", operators.handle, realm=WRITE, methods=("POST",), gate=gate, about="the same")
        routes.add("/agent-link", self._links.serve, realm=AGENT, methods=("GET",), gate=gate)
        routes.add("/health", self._health, realm=None, about="200 while this process works")
        routes.add("/version", self._version, realm=None, about="the release, and the version of Mesos's API")
        routes.add("/redirect", self._redirect, realm=None, about="leads to the leading master")
        routes.add("/flags", self._flags, realm=READ, about="the settings in force")
        routes.add("/metrics/snapshot", self._metrics.snapshot, realm=READ, about="metrics by name; ?timeout=2secs")
        routes.add("/metrics", self._metrics.prometheus, realm=READ, about="the same for Prometheus")
        routes.add("/system/stats.json", self._metrics.system, realm=READ, about="load and memory of this machine")
        for name, about in VIEWS.items():
            routes.add(f"/{name}", self._view, realm=READ, gate=gate, about=about)
        for name, about in ABOUT_FILES.items():
            routes.add(f"/files/{name}", getattr(files, name), realm=READ, about=about, plain=name == "debug")
        routes.add("/logging/toggle", self._toggle, realm=WRITE, methods=("GET", "HEAD", "POST"), about=logging_level.ABOUT)
        routes.add("/teardown", self._teardown, realm=WRITE, methods=("POST",), gate=gate, about="ends a framework; form frameworkId=")
        planned = "planned maintenance; as JSON, to plan other"
        routes.add("/maintenance/schedule", self._schedule, realm=WRITE, methods=("GET", "HEAD", "POST"), gate=gate, about=planned)
        for name, make, about in (("down", StartMaintenance, "takes down"), ("up", StopMaintenance, "brings up")):
            about = f"{about} machines that are scheduled, a JSON array"
            routes.add(f"/machine/{name}", self._machines(make), realm=WRITE, methods=("POST",), gate=gate, about=about, plain=False)
        quotas = QuotaApi(self._leadership.loop)
        about = "weights of roles; PUT sets some"
        routes.add("/weights", quotas.weights, realm=WRITE, methods=("GET", "HEAD", "PUT"), gate=gate, about=about)
        about, methods = "quotas of roles; POST sets one, DELETE /quota/ROLE removes it", ("GET", "HEAD", "POST", "DELETE")
        routes.add("/quota", quotas.quota, realm=WRITE, methods=methods, gate=gate, tree=True, about=about)
        for name, about in reservation_api.FORMS.items():
            routes.add(f"/{name}", self._operate, realm=WRITE, methods=("POST",), gate=gate, about=about)
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

    def _measured(self) -> dict[str, float]:
        found = {"master/uptime_secs": self._uptime.seconds(), "master/elected": float(self._leadership.leading)}
        if self._leadership.leading:
            loop = self._leadership.loop()
            waiting = loop.waiting()
            messages, ticks = waiting[FromAgent] + waiting[LinkClosed], waiting[Tick]
            found |= {
                "master/event_queue_messages": float(messages),
                "master/event_queue_dispatches": float(ticks),
                "master/event_queue_http_requests": float(waiting.total() - messages - ticks),
                **loop.numbers(),
                **self._leadership.registrar(),
            }
        return found

    async def _ask_metrics(self) -> Iterable[Mapping[str, float]]:
        if not self._leadership.leading:
            return ()
        numbers: Iterable[Mapping[str, float]] = await self._leadership.loop().submit(View("metrics"))
        return numbers

    async def _toggle(self, request: Request) -> web.StreamResponse:
        return logging_level.toggle(request, self._level)

    async def _teardown(self, request: Request) -> web.StreamResponse:
        framework_id = form(await read_body(request)).get("frameworkId")
        if not framework_id:
            raise CallError("Missing 'frameworkId' query parameter")
        await self._leadership.loop().submit(TeardownFramework(framework_id))
        return response.text(200)

    async def _schedule(self, request: Request) -> web.StreamResponse:
        if request.method != "POST":
            return await self._view(request)
        await self._leadership.loop().submit(UpdateSchedule(codec.decode(await read_body(request), Schedule)))
        return response.text(200)

    def _machines(self, make: type[StartMaintenance | StopMaintenance]) -> Callable[[Request], Awaitable[web.StreamResponse]]:
        async def handle(request: Request) -> web.StreamResponse:
            await self._leadership.loop().submit(make(codec.decode(await read_body(request), tuple[MachineID, ...])))
            return response.text(200)

        return handle

    async def _operate(self, request: Request) -> web.StreamResponse:
        fields = form(await read_body(request))
        await self._leadership.loop().submit(reservation_api.of_form(_view_name(request), fields, request.principal))
        return response.text(202)


def _view_name(request: Request) -> str:
    return request.path.removeprefix("/master").strip("/").removesuffix(".json")


def form(body: bytes) -> dict[str, str]:
    """Return the fields of a form's body. Raises CallError."""
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=100))
    except ValueError as error:
        raise CallError(f"the form cannot be read: {error}") from error
