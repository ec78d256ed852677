"""What an agent serves: its routes, and the performing of what its core decides.

Realms: spec mesos-v1, section 10.1; routes: section 5.3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol

import msgspec
from aiohttp import web

from kernel.agent import sandbox
from kernel.agent.config import AgentConfig
from kernel.agent.container_api import ContainerApi, Waiters
from kernel.agent.effects import ContainerBegan, ContainerEnded, View
from kernel.agent.executor_api import ExecutorApi, ExecutorStreams
from kernel.agent.isolators.limits import Usage
from kernel.agent.operator_api import OperatorApi
from kernel.agent.sessions import Sessions
from kernel.agent.stream_api import Enters, StreamApi
from kernel.errors import Unavailable
from kernel.mainloop import MainLoop
from kernel.net import common, logging_level, response
from kernel.net.auth import Authenticator
from kernel.net.files import ABOUT_FILES, FileApi, own_log
from kernel.net.logging_level import LoggingLevel
from kernel.net.metrics import Metrics
from kernel.net.pages import Pages
from kernel.net.request import Request
from kernel.net.server import HttpServer, Routes, own_names

READ, WRITE = "mesos-agent-readonly", "mesos-agent-readwrite"

# Legacy reads, each a view of the same name that gets the query.
VIEWS = {
    "state": "what runs here: frameworks, executors, tasks, with their sandboxes",
    "monitor/statistics": "what executors use",
    "containers": "the containers of executors; ?container_id= or ?framework_id= &executor_id= select",
    "containerizer/debug": "operations on containers that are under way",
}


MEASURED = ("monitor/statistics", "containers")
Numbers = Callable[[], Mapping[str, float]]
AddDisk = Callable[[Mapping[str, Usage]], Mapping[str, Usage]]


class Containers(Enters, Protocol):
    """What is asked of those who run containers, see `kernel.agent.containerizer.containerizer.Runs`."""

    async def usage(self, pids: Mapping[str, int]) -> Mapping[str, Usage]: ...

    async def prune(self, keep: Collection[str]) -> None: ...


class AgentServer:
    """The HTTP edge of one agent. Answers 503 until `begin` was called and the core knows what runs here."""

    def __init__(self, config: AgentConfig, authenticator: Authenticator | None, executor_key: bytes = b"") -> None:
        """executor_key: what the tokens of executors must be signed with; empty: they need none."""
        self.streams, self.sessions = ExecutorStreams(), Sessions()
        self.starting: Waiters[ContainerBegan] = Waiters()
        self.waiters: Waiters[ContainerEnded] = Waiters()
        self.files = sandbox.SandboxFiles(config.work_dir)
        log = own_log()
        if log is not None:
            self.files.attach("/slave/log", log)
        self._config = config
        self._level = LoggingLevel()
        self._metrics = Metrics(lambda: self.loop().numbers(), self._ask_metrics)
        self._loop: MainLoop | None = None
        self._recovered: Callable[[], bool] = lambda: False
        self._containers: Containers
        self._add_disk: AddDisk
        self._numbers: Numbers
        self._discard: Callable[[str], Awaitable[None]]
        self._http = HttpServer(self._routes(executor_key), authenticator, names=own_names(config.ip, config.hostname))

    async def start(self, ip: str, port: int) -> int:
        """Listen; return the port."""
        return await self._http.start(ip, port)

    def begin(
        self,
        loop: MainLoop,
        recovered: Callable[[], bool],
        containers: Containers,
        add_disk: AddDisk,
        numbers: Numbers,
        discard: Callable[[str], Awaitable[None]],
    ) -> None:
        """From now on calls go to this main loop, as soon as `recovered` says so. add_disk: adds what containers use of the disk.
        numbers: metrics of what works beside the core. discard: takes away a sandbox; raises OSError."""
        self._loop, self._recovered, self._containers, self._add_disk, self._numbers = loop, recovered, containers, add_disk, numbers
        self._discard = discard

    async def stop(self) -> None:
        """End all streams; the main loop must have stopped, or it would take this for the executors' doing."""
        self.streams.close_all()
        await self.sessions.close()
        await self._http.stop()

    def loop(self) -> MainLoop:
        """Return the main loop. Raises as `gate` does."""
        self.gate()
        assert self._loop is not None
        return self._loop

    def gate(self) -> None:
        """Raises Unavailable while the agent does not know yet what runs on it (spec: mesos-v1, 1.2, check 4)."""
        if self._loop is None or not self._recovered():
            raise Unavailable("Agent has not finished recovery")

    # ---- Routes -----------------------------------------------------------------------------------------

    def _routes(self, executor_key: bytes) -> Routes:
        routes = Routes(prefix="/slave(1)")
        containers = ContainerApi(self.loop, self.starting, self.waiters, self.sessions, lambda path: self._discard(path))
        streams = StreamApi(self.loop, self.files, self.waiters, self.sessions, lambda: self._containers)
        doors = self._config, self.loop, self.files, containers, streams
        operators = OperatorApi(*doors, self._level, self._metrics, self._measure, self._prune)
        executors = ExecutorApi(self.loop, self.streams, executor_key, anywhere=self._config.insecure)
        files, pages, gate = FileApi(self.files), Pages(routes, "Meseta agent", "slave(1)"), self.gate
        routes.add("/", pages.index, realm=None)
        routes.add("/help", pages.help, realm=None, about="this list; ?format=json")
        routes.add("/api/v1/executor", executors.handle, realm=None, methods=("POST",), about="v1 executor API")
        routes.add("/api/v1", operators.handle, realm=WRITE, methods=("POST",), gate=gate, about="v1 operator API")
        routes.add("/api/v1/operator", operators.handle, realm=WRITE, methods=("POST",), gate=gate, about="the same")
        routes.add("/health", self._health, realm=None, about="200 while this agent works")
        routes.add("/version", self._version, realm=None, about="the release, and the version of Mesos's API")
        routes.add("/flags", self._flags, realm=READ, about="the settings in force")
        routes.add("/metrics/snapshot", self._metrics.snapshot, realm=READ, gate=gate, about="metrics by name; ?timeout=2secs")
        routes.add("/metrics", self._metrics.prometheus, realm=READ, gate=gate, about="the same for Prometheus")
        routes.add("/system/stats.json", self._metrics.system, realm=READ, about="load and memory of this machine")
        for name, about in VIEWS.items():
            routes.add(f"/{name}", self._measured if name in MEASURED else self._view, realm=READ, gate=gate, about=about)
        for name, about in ABOUT_FILES.items():
            routes.add(f"/files/{name}", getattr(files, name), realm=READ, about=about, plain=name == "debug")
        routes.add("/logging/toggle", self._toggle, realm=WRITE, methods=("GET", "HEAD", "POST"), about=logging_level.ABOUT)
        return routes

    async def _health(self, request: Request) -> web.StreamResponse:
        self.gate()
        return response.text(200)

    async def _version(self, request: Request) -> web.StreamResponse:
        return await response.json(request, common.version_json())

    async def _flags(self, request: Request) -> web.StreamResponse:
        return await response.json(request, msgspec.json.encode({"flags": common.flags(self._config)}))

    async def _view(self, request: Request) -> web.StreamResponse:
        return await response.json(request, await self.loop().submit(View(_view_name(request), dict(request.query))))

    async def _measured(self, request: Request) -> web.StreamResponse:
        return await response.json(request, await self._measure(_view_name(request), dict(request.query)))

    async def _measure(self, name: str, arguments: Any) -> bytes:
        processes = await self.loop().submit(View("processes"))
        usages = self._add_disk(await self._containers.usage(processes))
        rendered: bytes = await self.loop().submit(View(name, (arguments, usages)))
        return rendered

    async def _prune(self, keep: Collection[str]) -> None:
        self.loop()
        await self._containers.prune(keep)

    async def _toggle(self, request: Request) -> web.StreamResponse:
        return logging_level.toggle(request, self._level)

    async def _ask_metrics(self) -> tuple[Mapping[str, float], ...]:
        return (await self.loop().submit(View("metrics")), self._numbers())


def _view_name(request: Request) -> str:
    return request.path.removeprefix("/slave(1)").strip("/").removesuffix(".json")
