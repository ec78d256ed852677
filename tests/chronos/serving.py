"""The scheduler's HTTP server on a real socket, over its real core and history; only the master is made up, and time moves by hand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from chronos import inputs
from chronos.api.server import ChronosServer
from chronos.core import ChronosScheduler, chronos_info
from chronos.history import History
from chronos.job import Defaults
from chronos.leadership import Leadership
from chronos.life import Settings
from chronos.records import Output, record_of
from frameworks.sdk.tasks import resources
from frameworks.sdk.testing import FakeMaster
from kernel.clock import Now
from kernel.election.election import Leader
from kernel.net.auth import Authenticator
from kernel.wire.task import TaskState
from tests.e2e.http import Answer, ask

T = TypeVar("T")
START = Now(1_000.0, 1_767_225_600.0)  # 2026-01-01T00:00:00Z
START_MS = int(START.wall_s * 1000)
ROOM = {"a1": resources(cpus=40, mem=40_960, disk=40_960)}


class Work:
    """As `chronos.leadership.Working`, without main loop."""

    def __init__(self, history: History, **settings: Any) -> None:
        def make(kept: dict[str, bytes], fresh_id: str, spread: float) -> ChronosScheduler:
            info = chronos_info("chronos", user="", roles=("*",), failover_timeout_s=604_800.0, webui_url=None, principal=None)
            return ChronosScheduler(info, kept, fresh_id=fresh_id, spread=spread, settings=Settings(**settings))

        self.history = history
        self.master = FakeMaster(make, ROOM, start=START)
        self.framework = SimpleNamespace(loop=SimpleNamespace(numbers=dict))

    @property
    def core(self) -> ChronosScheduler:
        assert isinstance(self.master.scheduler, ChronosScheduler)
        return self.master.scheduler

    async def ask(self, message: Any) -> Any:
        reply = self.master.tell(message)
        await self.record()
        return reply

    async def record(self) -> None:
        effects, self.master.effects = self.master.effects, []
        over = [record_of(effect.run, effect.job, effect.framework_id) for effect in effects if isinstance(effect, inputs.Over)]
        if over:
            await self.history.record(over)
            self.master.tell(inputs.Recorded(tuple(record.id for record in over)))


class Api:
    """A client, and what a test does to the world behind the server."""

    def __init__(self, url: str, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self.url, self.work, self._loop = url, work, loop

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.url, path, method, data, **headers)

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer.body
        return answer.json()

    def post(self, name: str = "j", prefix: str = "/v1/scheduler", method: str = "POST", **fields: Any) -> Answer:
        fields = {"name": name, "command": "true", **fields}
        if "parents" not in fields:
            fields.setdefault("schedule", "R/2026-01-01T00:01:00Z/PT1M")
        return self.ask(method, f"{prefix}/{'dependency' if 'parents' in fields else 'iso8601'}", fields)

    def job(self, name: str = "j") -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/scheduler/job/{name}")
        return found

    def runs(self, job: str = "j") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/v1/meseta/runs?job={job}")["runs"]
        return found

    @property
    def tasks(self) -> list[str]:
        return self.inside(lambda work: list(work.master.tasks))

    def wait(self, seconds: float) -> None:
        self.inside(lambda work: work.master.advance(seconds))

    def end(self, state: TaskState = TaskState.TASK_FINISHED, **more: Any) -> None:
        """Every task that was launched runs and ends so."""

        def end(work: Work) -> None:
            work.master.run_all()
            for task_id in list(work.master.tasks):
                work.master.update(task_id, state, **more)

        self.inside(end)

    def printed(self, run_id: str, stdout: bytes, stderr: bytes) -> None:
        """What was fetched of a run's output."""
        put = self.work.history.put_output(run_id, Output(stdout, stderr))
        asyncio.run_coroutine_threadsafe(put, self._loop).result(20)

    def inside(self, do: Callable[[Work], T]) -> T:
        async def run() -> T:
            done = do(self.work)
            await self.work.record()
            return done

        future: Future[T] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        return future.result(20)


@contextmanager
def serving(folder: Path, authenticator: Authenticator | None = None, *, cors: bool = False, **settings: Any) -> Iterator[Api]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    history = History(folder / "history.db")

    async def start() -> tuple[ChronosServer, Work, int]:
        leadership = Leadership(Leader("me", "127.0.0.1", "127.0.0.1", 4400))
        leadership.leader = leadership.me
        work = Work(history, **settings)
        leadership.work = work  # type: ignore[assignment]
        server = ChronosServer(
            leadership,
            history,
            authenticator,
            ip="127.0.0.1",
            hostname=None,
            defaults=Defaults(user=""),
            history_limit=5,
            measured=dict,
            cors=cors,
        )
        return server, work, await server.start("127.0.0.1", 0)

    server, work, port = run(start())
    try:
        yield Api(f"http://127.0.0.1:{port}", work, loop)
    finally:
        run(server.stop())
        run(history.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
