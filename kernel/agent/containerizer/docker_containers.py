"""The `docker` containerizer: each container is one of a Docker engine, which owns it and outlives us.

The engine is asked for nothing before a container is asked for, or one was here. While it is away nothing is concluded: its containers
may run or not. When it is back, all it has is told to the core, as after a restart of ours.

For each container there is a note in `meta/docker`, from before its launch until its end is recorded (`docker_streams.Output`): one of ours
without a note is either waiting to be removed, or nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
import uuid
from collections.abc import Awaitable, Collection, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from kernel.agent import effects, sandbox
from kernel.agent.config import AgentConfig
from kernel.agent.containerizer import docker_exec, docker_options
from kernel.agent.containerizer.containerizer import Post
from kernel.agent.containerizer.docker_parameters import DockerOptionError
from kernel.agent.containerizer.docker_probes import DockerProbes
from kernel.agent.containerizer.docker_state import EngineAway, EngineError, NoSuchContainer, State, usage_of
from kernel.agent.containerizer.docker_streams import Output, Streams, copy_log
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.containerizer.workers import Workers
from kernel.agent.fetcher.fetcher import Fetcher
from kernel.agent.fetcher.plan import FetchError
from kernel.agent.isolators.isolation import out_of_memory
from kernel.agent.isolators.limits import Limits, Usage
from kernel.agent.launcher.processes import CONTAINER_VARIABLE
from kernel.agent.sessions import Entry, Guest
from kernel.agent.volumes import disk
from kernel.errors import CallError, NotFound, Unavailable
from kernel.executor.command import Limitation
from kernel.wire.container import IPAddress, NetworkInfo

if TYPE_CHECKING:
    from kernel.agent.containerizer.docker import Engine

log = logging.getLogger(__name__)

DOCKER = frozenset({Containerizer.DOCKER})
STARTERS = 4  # Calls under way at once. An engine starts no more than some three or four containers a second.
CONTROLLERS = 2  # Those that end and remove must not wait behind launches.
PULLERS = 2
GUESTS = 2  # What is run beside tasks must not wait behind them, either.
RETRY_S, RETRY_S_MAX = 0.1, 2.0
ENDING = frozenset({signal.SIGTERM, signal.SIGKILL})  # Signals that end a container which has not started.
LIMIT_AGAIN_S = (0.5, 2.0, 8.0, 32.0)  # After each refusal: it may use less by then.
LOG_S_MAX = 30.0  # How long the rest of the log may take after the end.
ABANDONED_S = 30.0  # After so long a container that was made and never started is nobody's.
LEAVE_S = 30.0
ENTRY_S = 8.0  # Whoever wants to get in waits no longer.
STATS_AT_ONCE = 8


class _Container(Struct, eq=False):
    """A container from its launch until its end is recorded. signals: those that came before it started; ended: one of them ends it.
    limits: others that it is to be held to; relimited: set by them; stop_signal: what it takes for a SIGTERM, as `docker stop` has it."""

    container_id: str
    output: Output
    started: bool = False
    pid: int = 0
    ip: str = ""
    stop_signal: int = signal.SIGTERM
    signals: list[int] = []
    limits: Limits | None = None
    relimited: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    ended: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    failure: str | None = None
    exit: effects.Exit | None = None
    limitation: Limitation | None = None

    @property
    def name(self) -> str:
        return docker_options.container_name(self.container_id)

    def runs(self, state: State) -> None:
        """It was found running, or has been."""
        self.started, self.pid, self.ip, self.stop_signal = True, state.pid, state.ip, state.stop_signal

    @property
    def networks(self) -> tuple[NetworkInfo, ...]:
        return (NetworkInfo((IPAddress(ip_address=self.ip),)),) if self.ip else ()

    @property
    def known(self) -> effects.KnownContainer:
        pid = self.pid if self.started else None
        return effects.KnownContainer(self.container_id, pid, self.exit, self.failure, self.limitation, self.networks)


class DockerContainerizer:
    """Carries the core's effects to a Docker engine and the engine's news to the core."""

    def __init__(self, config: AgentConfig, fetcher: Fetcher, post: Post) -> None:
        self._config, self._fetcher, self._post = config, fetcher, post
        self._place = docker_options.Place(config.work_dir, config.sandbox_directory)
        self._notes = Path(config.work_dir) / "meta" / "docker"
        self._kept: dict[str, _Container] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._starters, self._controllers = Workers(STARTERS, "docker-start"), Workers(CONTROLLERS, "docker-control")
        self._pullers, self._disk = Workers(PULLERS, "docker-pull"), Workers(1, "docker-disk")
        self._guests = Workers(GUESTS, "docker-exec")
        self._probes = DockerProbes(config.docker_socket, self._guests, lambda: self._connected, post)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._wanted, self._back = asyncio.Event(), asyncio.Event()
        self._streams: Streams | None = None
        self._engine: Engine | None = None
        self._used = False

    # ---- Effects --------------------------------------------------------------------------------------

    def launch(self, launch: effects.LaunchContainer) -> None:
        if launch.container_id not in self._kept:
            self._begin(self._launch(launch, self._keep(launch.container_id, launch.directory)))

    def probe(self, probe: effects.LaunchProbe) -> None:
        self._begin(self._probes.run(probe))

    def limit(self, effect: effects.LimitContainer) -> None:
        if (container := self._kept.get(effect.container_id)) is not None:
            idle, container.limits = container.limits is None, effect.limits
            container.relimited.set()
            if container.started and idle:
                self._begin(self._limit(container))

    def signal(self, container_id: str, number: int) -> None:
        if self._probes.kill(container_id):
            return
        container = self._kept.get(container_id)
        if container is None or container.exit is not None or container.failure is not None:
            return
        if container.started:
            self._begin(self._signal(container, number))
        else:
            container.signals.append(number)
            if number in ENDING:
                container.ended.set()

    def forget(self, container_id: str) -> None:
        if (container := self._kept.pop(container_id, None)) is not None:
            self._begin(self._disk.run(self._note(container_id).unlink, missing_ok=True))
            if container.failure is None:
                self._remove_at(container.name, time.time() + self._config.docker_remove_delay_s)

    def flush(self) -> None:
        """Nothing is gathered."""

    async def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        if self._streams is None:
            return {}
        streams, at_once = self._streams, asyncio.Semaphore(STATS_AT_ONCE)

        async def one(container: _Container) -> Mapping[str, Any] | None:
            async with at_once:
                return await streams.stats(container.name)

        running = [kept for name in pids if (kept := self._kept.get(name)) is not None and kept.started and kept.exit is None]
        told = await asyncio.gather(*map(one, running))
        return {kept.container_id: usage_of(stats) for kept, stats in zip(running, told, strict=True) if stats is not None}

    async def entry(self, place: effects.LaunchContainer, guest: Guest) -> Entry:
        """By the engine, which has the container's variables and knows the users of its image."""
        wanted = replace(guest, env={name: text for name, text in guest.env.items() if place.env.get(name) != text})
        name, mark = docker_options.container_name(place.container_id), f"{CONTAINER_VARIABLE}={uuid.uuid4()}"
        try:
            async with asyncio.timeout(ENTRY_S):
                made = await self._guests.run(lambda: self._connected.prepare(name, wanted, mark, reads=True))
        except TimeoutError:
            raise Unavailable(f"the Docker engine does not answer within {ENTRY_S:g} s") from None
        except EngineError as error:
            raise CallError(f"nothing can be run in container {place.container_id}: {error}") from error
        return Entry(docker_exec.command(self._config.docker_socket, made, mark), {}, "/", None, lambda pid: None, raw=True)

    async def terminal(self, container_id: str) -> int:
        raise NotFound(f"Container {container_id} of the Docker engine has no terminal of ours")

    async def prune(self, keep: Collection[str]) -> None:
        """The engine's images are the engine's to prune."""

    async def run(self) -> None:
        """Look for containers whenever there may be some, until cancelled."""
        if "docker" in (self._config.containerizers or ()) or self._notes.is_dir():
            self._wanted.set()
        try:
            looking = self._begin(self._look())
            await asyncio.wait({looking, self._broken}, return_when=asyncio.FIRST_COMPLETED)
            self._broken.result()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._streams is not None:
                await self._streams.close()

    async def stop(self, kill_all: bool) -> None:
        if kill_all and self._used:
            with contextlib.suppress(EngineError, TimeoutError):
                async with asyncio.timeout(LEAVE_S):
                    left = await self._controllers.run(self._list)
                    await self._controllers.run(self._connected.remove, [state.name for state in left])

    def close(self) -> None:
        for workers in (self._starters, self._controllers, self._pullers, self._disk, self._guests):
            workers.close()
        for container in self._kept.values():
            container.output.close()

    # ---- The engine -----------------------------------------------------------------------------------

    @property
    def _connected(self) -> Engine:
        """The engine. The first time this loads the `docker` package, which takes a while: in threads only."""
        if self._engine is None:
            from kernel.agent.containerizer.docker import Engine

            config = self._config
            self._engine = Engine(config.docker_socket, config.docker_config, f"{docker_options.AGENT_LABEL}={self._place.owner}")
        return self._engine

    def _list(self) -> list[State]:
        return self._connected.list()

    async def _look(self) -> None:
        """Tell the core what the engine has, each time we have got hold of it."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            wait_s = 0.0
            while True:
                try:
                    found = await self._controllers.run(self._list)
                    break
                except EngineAway as error:
                    if wait_s == 0.0:
                        log.warning("%s; what runs there is not known meanwhile", error)
                    wait_s = min(max(RETRY_S, wait_s * 2), RETRY_S_MAX)
                    await asyncio.sleep(wait_s)
                except EngineError as error:
                    log.error("the Docker engine does not list its containers: %s", error)
                    await asyncio.sleep(RETRY_S_MAX)
            if wait_s:
                log.info("the Docker engine is there")
            self._found(found, await self._disk.run(self._noted))
            self._back.set()

    def _found(self, states: Iterable[State], noted: set[str]) -> None:
        """Compare what the engine has with what we know, and tell the core."""
        self._used = True
        abandoned = []
        for state in states:
            if state.container_id in self._kept:
                continue
            if state.created:  # Of a launch that was cut off. If the core still wants it, it is about to launch it again.
                abandoned.append(state)
            elif state.running or state.container_id in noted:
                container = self._keep(state.container_id, state.sandbox)
                container.runs(state)
                self._begin(self._follow(container))
            else:
                self._remove_at(state.name, state.ended_s + self._config.docker_remove_delay_s)
        if abandoned:
            self._begin(self._sweep(abandoned))
        known = *(container.known for container in self._kept.values()), *self._probes.known()
        self._post(effects.LauncherState(known, DOCKER))

    async def _sweep(self, abandoned: Iterable[State]) -> None:
        await asyncio.sleep(ABANDONED_S)
        await self._remove([state.name for state in abandoned if state.container_id not in self._kept])

    async def _returned(self) -> None:
        """Return when the engine was away and is there again."""
        self._back.clear()
        self._wanted.set()
        await self._back.wait()

    def _remove_at(self, name: str, wall_s: float) -> None:
        asyncio.get_running_loop().call_later(max(0.0, wall_s - time.time()), lambda: self._begin(self._remove([name])))

    async def _remove(self, names: list[str]) -> None:
        try:
            await self._controllers.run(self._connected.remove, names)
        except EngineAway:  # Found again when it is back.
            self._wanted.set()
        except EngineError as error:
            log.warning("%s stays: %s", ", ".join(names), error)

    # ---- One container --------------------------------------------------------------------------------

    async def _launch(self, launch: effects.LaunchContainer, container: _Container) -> None:
        if not self._used:
            self._used = True
            self._wanted.set()  # There may be some of an earlier life.
        try:
            body = await self._disk.run(self._prepare, launch, container)
            if launch.uris:
                fetch = self._fetcher.fetch(launch.container_id, launch.uris, launch.directory, launch.user)
                await _unless_ended(container, fetch)
            await _unless_ended(container, self._provide_image(launch))
            await self._disk.run(_make_sources, launch)
            state = await self._starters.run(self._start, container.name, body)
        except (EngineError, DockerOptionError, FetchError, sandbox.SandboxError, OSError) as error:
            await self._fail(container, str(error))
            return
        container.runs(state)
        self._post(effects.ContainerStarted(container.container_id, state.pid, container.networks))
        for number in container.signals:
            self._begin(self._signal(container, number))
        if container.limits is not None:
            self._begin(self._limit(container))
        await self._follow(container)

    def _prepare(self, launch: effects.LaunchContainer, container: _Container) -> docker_options.Body:
        """What is needed on the disk, and what to ask for. In a thread."""
        user = sandbox.owner(launch.user) if launch.user is not None else None
        body = docker_options.create_body(launch, self._place, user)
        self._notes.mkdir(parents=True, exist_ok=True)
        self._note(launch.container_id).touch()
        sandbox.prepare(launch)
        disk.show(launch.directory, launch.user, launch.volumes, links=False)
        container.output.open(user)
        return body

    def _start(self, name: str, body: docker_options.Body) -> State:
        return self._connected.start(name, body)

    async def _provide_image(self, launch: effects.LaunchContainer) -> None:
        """Fetch the image, unless it is there; many that want one fetch it once."""
        assert launch.info is not None
        assert launch.info.docker is not None
        name, force = docker_options.image(launch.info), launch.info.docker.force_pull_image
        if not force and await self._starters.run(lambda: self._connected.has_image(name)):
            return
        pull = self._pulls.get(name)
        if pull is None:
            log.info("fetching the image %s", name)
            pull = self._pulls[name] = asyncio.create_task(self._pullers.run(lambda: self._connected.pull(name)))
            pull.add_done_callback(lambda done: self._pulled(name, done))
        try:
            await asyncio.shield(pull)
        except EngineAway:
            raise
        except EngineError as error:
            raise EngineError(f"cannot fetch the image {name}: {error}") from error

    def _pulled(self, name: str, done: asyncio.Task[None]) -> None:
        del self._pulls[name]
        if not done.cancelled():
            done.exception()  # Those who wait for it are told.

    async def _fail(self, container: _Container, message: str) -> None:
        """A launch has failed: leave nothing of it."""
        with contextlib.suppress(EngineError):
            await self._controllers.run(lambda: self._connected.remove([container.name]))
        container.output.close()
        container.failure = message
        self._post(effects.ContainerFailed(container.container_id, message))

    async def _follow(self, container: _Container) -> None:
        """Copy its output until it has ended, whatever becomes of the engine meanwhile; then tell the end."""
        state: State | None = None
        while state is None:
            try:
                await self._until_end(container)
                state = await self._controllers.run(lambda: self._connected.inspect(container.name))
                if state.running:
                    state = None
                    await asyncio.sleep(RETRY_S)
            except EngineAway:
                await self._returned()
            except NoSuchContainer:  # Somebody has removed it.
                break
            except EngineError as error:
                log.error("container %s cannot be watched: %s", container.container_id, error)
                await asyncio.sleep(RETRY_S_MAX)
        container.output.close()
        if state is None:
            container.exit = effects.Exit(None, time.time())
        else:
            container.exit = effects.Exit(state.status, state.ended_s or time.time())
            if state.out_of_memory and state.status:
                container.limitation = out_of_memory(state.mem_limit_mib, state.mem_limit_mib)
        self._post(effects.ContainerExited(container.container_id, container.exit, container.limitation))

    async def _until_end(self, container: _Container) -> None:
        if self._streams is None:
            self._streams = Streams(self._config.docker_socket)
        copying = asyncio.create_task(copy_log(self._streams, self._disk, container.name, container.output, follow=True))
        try:
            await self._streams.end(container.name)
            await asyncio.wait({copying}, timeout=LOG_S_MAX)
            if copying.done():
                copying.result()
            else:
                log.warning("the engine did not end the log of container %s", container.container_id)
        finally:
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
        # Who follows is not surely told what comes with the end, as a last line without its own (moby/moby#43860).
        try:
            async with asyncio.timeout(LOG_S_MAX):
                await copy_log(self._streams, self._disk, container.name, container.output, follow=False)
        except TimeoutError:
            log.warning("the engine did not tell the end of the log of container %s", container.container_id)

    async def _signal(self, container: _Container, number: int) -> None:
        sent = container.stop_signal if number == signal.SIGTERM else number
        try:
            await self._controllers.run(lambda: self._connected.signal(container.name, sent))
        except EngineAway:  # The core says it again when the engine is back.
            self._wanted.set()
        except EngineError as error:
            log.warning("container %s does not get signal %d: %s", container.container_id, number, error)

    async def _limit(self, container: _Container) -> None:
        """One call after the other: the last is to hold."""
        wanted, again_s = None, iter(LIMIT_AGAIN_S)
        while container.limits is not None and container.limits is not wanted:
            wanted = container.limits
            container.relimited.clear()
            try:
                await self._controllers.run(self._hold, container.name, docker_options.held_to(wanted))
            except EngineAway:
                wanted = None
                await self._returned()
            except EngineError as error:  # It has ended, or uses more memory than it is to have.
                log.info("container %s: %s", container.container_id, error)
                if container.exit is None and (wait_s := next(again_s, None)) is not None:
                    wanted = None
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await container.relimited.wait()
                            again_s = iter(LIMIT_AGAIN_S)
        container.limits = None

    def _hold(self, name: str, body: docker_options.Body) -> None:
        self._connected.limit(name, body)

    # ---- Odds and ends --------------------------------------------------------------------------------

    def _keep(self, container_id: str, directory: str) -> _Container:
        container = self._kept[container_id] = _Container(container_id, Output(directory, self._note(container_id)))
        return container

    def _note(self, container_id: str) -> Path:
        return self._notes / f"{container_id}.json"

    def _noted(self) -> set[str]:
        """Whose end is not recorded. In a thread."""
        try:
            return {name.removesuffix(".json") for name in os.listdir(self._notes) if name.endswith(".json")}
        except FileNotFoundError:
            return set()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A mistake of ours is not to pass unseen: it ends the agent, and the next one finds all as it is."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._broken.done():
            self._broken.set_exception(error)


def _make_sources(launch: effects.LaunchContainer) -> None:
    """Make what of the sandbox is mounted and missing, once all is fetched. In a thread. Raises SandboxError, OSError."""
    assert launch.info is not None
    for source in docker_options.sources_in_sandbox(launch.info, launch.directory):
        sandbox.make_below(launch, source)


async def _unless_ended(container: _Container, work: Awaitable[None]) -> None:
    """Do what comes before a start; who ends the container meanwhile need not wait for it. Raises EngineError then."""
    working, ended = asyncio.ensure_future(work), asyncio.ensure_future(container.ended.wait())
    try:
        await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
        if container.ended.is_set():
            raise EngineError("ended before it started")
        working.result()
    finally:
        ended.cancel()
        working.cancel()
        await asyncio.gather(working, ended, return_exceptions=True)
