"""The HTTP server of a scheduler: its table of routes, and requests for the leader passed on to it (spec: chronos-v1, 1)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from chronos.api import answers
from chronos.api.graph import GraphApi
from chronos.api.jobs import JobsApi
from chronos.api.more import MoreApi
from chronos.api.runs import RunsApi
from chronos.api.system import SystemApi
from chronos.exchange import PATH
from chronos.feed import NUMBER_MAX
from chronos.history import History
from chronos.job import Defaults
from chronos.leadership import Leadership
from kernel.errors import KernelError, PeerError, Unavailable
from kernel.net import logging_level, response
from kernel.net.auth import Authenticator
from kernel.net.errors import HttpError
from kernel.net.logging_level import LoggingLevel
from kernel.net.pages import Pages
from kernel.net.request import Request, read_body
from kernel.net.response import text
from kernel.net.server import Handler, HttpServer, Routes, own_names
from kernel.net.session import Session, listen, open_session, pieces, whole

log = logging.getLogger(__name__)

REALM = "chronos"
PREFIXES = ("/scheduler", "/v1/scheduler")
OURS = "/v1/meseta"
READ, WRITE, BOTH = ("GET", "HEAD"), ("POST", "PUT"), ("GET", "HEAD", "PUT", "POST", "DELETE")
PASSED_ON = "Meseta-Passed-On"  # A request that was passed on once is not passed on again.
_OF_ONE_HOP = frozenset({
    "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "content-length", "host", "proxy-authorization",
    "content-encoding",
})  # fmt: skip


class ChronosServer:
    """Sockets on one side, the scheduler on the other."""

    def __init__(
        self,
        leadership: Leadership,
        history: History,
        authenticator: Authenticator | None,
        *,
        ip: str,
        hostname: str | None,
        defaults: Defaults,
        history_limit: int,
        measured: Callable[[], dict[str, float]],
        cors: bool,
    ) -> None:
        """cors: let pages of any site read, also where nobody is asked who he is."""
        self._leadership, self._history = leadership, history
        self._cors = cors or authenticator is not None
        self._level = LoggingLevel()
        self._http: Session | None = None
        routes = self._routes(
            JobsApi(leadership, defaults, history_limit),
            GraphApi(leadership),
            MoreApi(leadership),
            RunsApi(leadership),
            SystemApi(leadership, measured),
        )
        self._server = HttpServer(routes, authenticator, names=own_names(ip, hostname))

    async def start(self, ip: str, port: int) -> int:
        """Listen; return the port."""
        self._http = open_session({})
        try:
            return await self._server.start(ip, port)
        except BaseException:
            await self._http.close()
            raise

    async def stop(self) -> None:
        await self._server.stop()
        if self._http is not None:
            await self._http.close()

    # ---- Routes -----------------------------------------------------------------------------------------

    def _routes(self, jobs: JobsApi, graph: GraphApi, more: MoreApi, runs: RunsApi, system: SystemApi) -> Routes:
        routes = Routes()
        pages = Pages(routes, "Meseta chronos", "chronos")

        def add(path: str, handler: Handler, methods: tuple[str, ...] = READ, about: str = "", *, tree: bool = False) -> None:
            routes.add(path, self._led(handler), realm=REALM, methods=methods, tree=tree, about=about, plain=not tree)

        routes.add("/", pages.index, realm=None)
        routes.add("/help", pages.help, realm=None, about="this list; ?format=json")
        routes.add("/health", self._health, realm=None, about="200 while this process works")
        routes.add("/logging", self._toggle, realm=REALM, methods=("GET", "HEAD", "POST"), about=logging_level.ABOUT)
        routes.add("/ping", self._led(system.ping), realm=None, about="pong")
        add("/metrics", system.metrics, about="metrics, as Chronos or for Prometheus, by Accept")
        add("/metrics/prometheus", system.prometheus, about="metrics for Prometheus")
        add("/metrics/snapshot", system.snapshot, about="metrics by name")
        add("/leader", system.leader, about="who leads")
        for prefix in PREFIXES:
            add(f"{prefix}/leader", system.leader)
            add(f"{prefix}/iso8601", jobs.scheduled, WRITE, "a scheduled job, new or in the place of one")
            add(f"{prefix}/dependency", jobs.dependent, WRITE, "the same of a job with parents")
            add(f"{prefix}/jobs", jobs.all, about="all jobs")
            add(f"{prefix}/jobs/summary", jobs.summary, about="what each is and does, short")
            add(f"{prefix}/jobs/search", jobs.search, about="?name= ?command= ?any= ?limit=10 ?offset=")
            add(f"{prefix}/job", jobs.job, BOTH, "a job: GET, PUT runs it, DELETE; stat/NAME, success/NAME", tree=True)
            add(f"{prefix}/task", jobs.task, BOTH, "DELETE kill/NAME, DELETE all, PUT ID: as a client knows that it ended", tree=True)
            add(f"{prefix}/stats", jobs.percentile, about="how long jobs take: stats/99thPercentile", tree=True)
            add(f"{prefix}/graph/dot", graph.dot, about="dependencies for Graphviz")
            add(f"{prefix}/graph/csv", graph.csv, about="dependencies as lines")
        about = (
            "jobs: ?limit= ?after= ?name= ?owner= ?label= ?state= ?kind=; below, of one: next, live; "
            "POST run, backfill, pause, resume, enable, disable"
        )
        routes.add(f"{OURS}/jobs", self._led(self._either(more.jobs, more.job)), realm=REALM, methods=BOTH, tree=True, about=about)
        about = (
            "runs that are over: ?job= ?identity= ?state= ?owner= ?from= ?to= ?limit= ?before=; below: ID, ID/output, ID/why; "
            "DELETE ID, POST ID/again"
        )
        routes.add(f"{OURS}/runs", self._led(self._either(runs.history, runs.run)), realm=REALM, methods=BOTH, tree=True, about=about)
        add(f"{OURS}/live", runs.live, about="runs that are not in the history yet: ?job= ?limit= ?offset=")
        add(f"{OURS}/export", runs.export, about="history as lines of JSON, or ?format=csv")
        add(f"{OURS}/quarantined", more.quarantined, about="jobs that are kept and do not run")
        add(f"{OURS}/pauses", more.pauses, about="whose slots are skipped")
        for name in ("pause", "resume"):
            add(f"{OURS}/{name}", more.pause, ("POST",), 'all jobs, or {"label":"KEY=VALUE"}')
        routes.add(PATH, self._feed, realm=REALM, methods=READ, about="history as the schedulers tell it each other: ?history= ?after=")
        handler = self._led(self._either(more.calendars, more.calendar))
        routes.add(f"{OURS}/calendars", handler, realm=REALM, methods=BOTH, tree=True, about="calendars; PUT and DELETE NAME")
        return routes

    @staticmethod
    def _either(all_of_them: Handler, one: Handler) -> Handler:
        async def handle(request: Request) -> web.StreamResponse:
            if request.rest:
                return await one(request)
            if request.method not in READ:
                raise HttpError(405, f"{request.method} needs a name", {"Allow": "GET, HEAD"})
            return await all_of_them(request)

        return handle

    def _led(self, handler: Handler) -> Handler:
        """The handler where this scheduler leads; elsewhere the leader's answer. Errors in Chronos' shape."""

        async def handle(request: Request) -> web.StreamResponse:
            request.open = self._readable(request)
            try:
                answer = await (handler(request) if self._leadership.elsewhere is None else self._passed_on(request))
            except KernelError as error:
                answer = answers.refusal(error)
            if not answer.prepared:
                answer.headers.update(answers.headers(request))
            return answer

        return handle

    def _readable(self, request: Request) -> bool:
        """Whether to tell a browser that any page may read this, as Chronos did. Not on loopback without credentials, for a page of another
        site that an operator happens to have open."""
        origin = request.headers.get("Origin")
        return self._cors or origin is None or urlsplit(origin).netloc == request.headers.get("Host")

    async def _health(self, request: Request) -> web.StreamResponse:
        return text(200)

    async def _feed(self, request: Request) -> web.StreamResponse:
        """Of this scheduler, whoever leads."""
        feed = await self._history.feed(answers.text(request, "history") or "", answers.number(request, "after", 0, high=NUMBER_MAX))
        return await response.json(request, msgspec.json.encode(feed))

    async def _toggle(self, request: Request) -> web.StreamResponse:
        return logging_level.toggle(request, self._level)

    # ---- Passing on -------------------------------------------------------------------------------------

    async def _passed_on(self, request: Request) -> web.StreamResponse:
        leader = self._leadership.elsewhere
        assert leader is not None, "another leads"
        assert self._http is not None, "it listens"
        if PASSED_ON in request.headers:
            raise Unavailable("it is not known who leads; try again")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_HOP}
        body = await read_body(request, answers.BODY_BYTES_MAX)
        url = f"http://{leader.address}{request.rel_url.raw_path_qs}"
        try:
            async with listen(self._http, url, body or None, {**headers, PASSED_ON: "1"}, method=request.method) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OF_ONE_HOP}
                if answer.content_length is None and request.method != "HEAD":
                    return await _streamed(request, answer.status, kept, pieces(answer))
                return web.Response(status=answer.status, body=(await whole(answer)).body, headers=kept)
        except PeerError as error:
            raise HttpError(500, f"passing the request on to the leader failed: {error}") from error


async def _streamed(request: Request, status: int, headers: Mapping[str, str], body: AsyncIterator[bytes]) -> web.StreamResponse:
    """An answer of any length, as it comes; one that breaks off there breaks off here."""
    stream = web.StreamResponse(status=status, headers=headers)
    await stream.prepare(request)
    try:
        async for piece in body:
            await stream.write(piece)
    except PeerError as error:
        log.warning("passing an answer of the leader on failed: %s", error)
        if request.transport is not None:
            request.transport.abort()
    return stream
