"""Containers whose processes belong to the launcher: each is a process group of its own in a sandbox of its own, held to its
resources where this machine can. It sees this machine's files, or those of an image (`oci`).

What waits for the disk or the kernel is done in a thread, many containers at a time; the order of what concerns one is kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from kernel.agent import effects, sandbox
from kernel.agent.containerizer import oci
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.containerizer.oci import Bundles
from kernel.agent.containerizer.workers import Workers
from kernel.agent.fetcher.fetcher import Fetcher
from kernel.agent.fetcher.plan import FetchError
from kernel.agent.images.collection import JUST_USED_S, Image
from kernel.agent.images.store import Store
from kernel.agent.isolators.cgroups import CgroupError
from kernel.agent.isolators.isolation import Isolation
from kernel.agent.isolators.limits import Usage
from kernel.agent.launcher import client
from kernel.agent.sessions import Entry, Guest
from kernel.agent.volumes import disk
from kernel.errors import KernelError
from kernel.executor.command import Limitation
from kernel.wire.container import NetworkInfo

log = logging.getLogger(__name__)


ENDING = (signal.SIGTERM, signal.SIGKILL)
IMAGES_AT_ONCE = 2
NETWORKS_AT_ONCE = 4
WINDOW_MAX = 0xFFFF  # The kernel's.
WATCH_S = 1.0  # Below this age a container's memory is not watched: what ran out is found out when it is that old, or has ended.
_LOOKED_INTO = (client.Exited, client.LaunchFailed, client.LauncherState)


class ProcessContainerizer:
    """Carries the core's effects to the launcher and the launcher's news to the core."""

    def __init__(
        self, directory: Path, isolation: Isolation, store: Store, bundles: Bundles, fetcher: Fetcher, post: Callable[[Any], None]
    ) -> None:
        """directory: the launcher's own. post: takes the core's inputs."""
        self._isolation, self._store, self._bundles, self._fetcher, self._post = isolation, store, bundles, fetcher, post
        self.launcher = client.LauncherClient(directory, self._on_event)
        isolation.spare(lambda: self.launcher.pid)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="containers")
        self._images = ThreadPoolExecutor(max_workers=IMAGES_AT_ONCE, thread_name_prefix="images")
        self._joining = Workers(NETWORKS_AT_ONCE, "networks")
        self._providing: set[asyncio.Task[None]] = set()
        self._launches: list[effects.LaunchContainer] = []  # To be prepared by the next flush.
        self._probes: list[effects.LaunchProbe] = []  # The same.
        self._preparing: dict[str, list[int]] = {}  # Container -> signals that came meanwhile.
        self._fetches: dict[str, asyncio.Task[None]] = {}  # Of those that are being prepared.
        self._news: deque[client.LauncherEvent] = deque()  # In the order told; the first is being looked into, or none is.
        self._looking = False
        self._closed = False
        self._young: set[str] = set()  # Containers that run since the last look; most end before the next.
        self._watches: dict[str, int] = {}  # Of the older ones: readable once the memory of one runs out.

    # ---- Effects --------------------------------------------------------------------------------------

    def launch(self, launch: effects.LaunchContainer) -> None:
        if launch.container_id not in self._preparing:
            self._preparing[launch.container_id] = []
            self._launches.append(launch)

    def probe(self, probe: effects.LaunchProbe) -> None:
        self._preparing[probe.container_id] = []
        self._probes.append(probe)

    def limit(self, effect: effects.LimitContainer) -> None:
        if not self._isolation.idle:
            self._worker.submit(self._limit, effect)

    def signal(self, container_id: str, number: int) -> None:
        waiting = self._preparing.get(container_id)
        if waiting is not None:
            waiting.append(number)
            fetch = self._fetches.get(container_id)
            if number in ENDING and fetch is not None and not fetch.cancelling():  # Once: it cleans up then.
                fetch.cancel()
        else:
            self.launcher.signal(container_id, number)

    def forget(self, container_id: str) -> None:
        self.launcher.forget(container_id)

    def flush(self) -> None:
        """Begin what was gathered."""
        if self._probes:
            probes, self._probes = self._probes, []
            prepared = asyncio.get_running_loop().run_in_executor(self._worker, self._prepare_probes, probes)
            prepared.add_done_callback(lambda future: self._begin_probes(probes, future.result()))
        if self._launches:
            launches, self._launches = self._launches, []
            plain = [launch for launch in launches if _needs_no_image(launch)]
            if plain:
                self._prepare_then_start(plain, {})
            for launch in launches:
                if not _needs_no_image(launch):
                    task = asyncio.create_task(self._provide(launch))
                    self._providing.add(task)
                    task.add_done_callback(self._providing.discard)

    def _begin_probes(self, probes: Sequence[effects.LaunchProbe], prepared: Sequence[client.Launch | str]) -> None:
        for probe, found in zip(probes, prepared, strict=True):
            self._begin(probe.container_id, found)

    async def _provide(self, launch: effects.LaunchContainer) -> None:
        """Have the container's image and networks here, then go on."""
        try:
            image = await asyncio.get_running_loop().run_in_executor(self._images, self._store.provide, *oci.image_of(launch))
            await self._joining.run(self._bundles.join, launch)
        except KernelError as error:
            del self._preparing[launch.container_id]
            self._post(effects.ContainerFailed(launch.container_id, str(error)))
        else:
            self._prepare_then_start([launch], {launch.container_id: image})

    def _prepare_then_start(self, launches: Sequence[effects.LaunchContainer], images: Mapping[str, Image]) -> None:
        prepared = asyncio.get_running_loop().run_in_executor(self._worker, self._prepare_all, launches, images)
        prepared.add_done_callback(lambda future: self._start(launches, future.result()))

    async def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        """What containers use, by the pids of their first processes."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._isolation.usage, pids)

    async def entry(self, place: effects.LaunchContainer, guest: Guest) -> Entry:
        """How a process gets into a container. Its user: the one asked for, else the container's."""
        if place.containerizer is Containerizer.OCI:
            return self._bundles.entry(place, guest)

        def join(pid: int) -> None:
            try:
                for door in self._isolation.join(place.beside.container_id if place.beside is not None else place.container_id):
                    with open(door, "w", encoding="ascii") as file:
                        file.write(str(pid))
            except OSError as error:  # It has ended, or its container has.
                log.info("process %d is not held with container %s: %s", pid, place.container_id, error.strerror)

        return Entry(guest.argv, guest.env, place.directory, guest.user or place.user, join)

    async def terminal(self, container_id: str) -> int:
        """Our end of a container's terminal."""
        return await self.launcher.terminal(container_id)

    async def prune(self, keep: Collection[str]) -> None:
        """Forget the images that no container has and that are not to be kept; not those that one is just about to have."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._images, lambda: self._store.prune(keep, self._bundles.held(), JUST_USED_S))

    async def stop(self, kill_all: bool) -> None:
        """End the launcher where nothing runs any more; kill_all: or is to."""
        await self.launcher.stop(kill_all=kill_all)
        if kill_all and self._bundles.used:  # There may be no agent after us that finds them.
            await asyncio.get_running_loop().run_in_executor(self._worker, self._remove_all)

    def close(self) -> None:
        """Let go of the thread."""
        for task in self._providing:
            task.cancel()
        self._images.shutdown(wait=False, cancel_futures=True)
        self._joining.close()
        self._worker.submit(self._isolation.close)
        self._worker.shutdown(wait=False)

    def _start(self, launches: Sequence[effects.LaunchContainer], prepared: Sequence[client.Launch | str]) -> None:
        for launch, found in zip(launches, prepared, strict=True):
            if launch.uris and not isinstance(found, str):
                self._fetches[launch.container_id] = asyncio.create_task(self._fetch(launch, found))
            else:
                self._begin(launch.container_id, found)

    async def _fetch(self, launch: effects.LaunchContainer, prepared: client.Launch | str) -> None:
        """Fetch what the container wants, then begin it. What ends it meanwhile cancels this."""
        problem = None
        try:
            if not any(number in ENDING for number in self._preparing[launch.container_id]):
                user = launch.user if launch.containerizer is Containerizer.PROCESS else None
                await self._fetcher.fetch(launch.container_id, launch.uris, launch.directory, user)
        except FetchError as error:
            problem = str(error)
        except asyncio.CancelledError:
            pass
        del self._fetches[launch.container_id]
        if self._closed:
            return  # The next agent begins anew.
        if problem is None and any(number in ENDING for number in self._preparing[launch.container_id]):
            problem = "killed while its files were fetched"
        if problem is not None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._end, launch.container_id, {})
            prepared = problem
        self._begin(launch.container_id, prepared)

    def _begin(self, container_id: str, prepared: client.Launch | str) -> None:
        signals = self._preparing.pop(container_id)
        if isinstance(prepared, str):
            self._post(effects.ContainerFailed(container_id, prepared))
            return
        self.launcher.launch(prepared)
        for number in signals:
            self.launcher.signal(container_id, number)

    # ---- News -----------------------------------------------------------------------------------------

    def _on_event(self, event: client.LauncherEvent) -> None:
        self._news.append(event)
        if not self._looking:
            self._tell()

    def _tell(self) -> None:
        """Tell the core what there is, in order; ends are looked into first."""
        idle = self._isolation.idle and not self._bundles.used
        while self._news and (idle or type(self._news[0]) not in _LOOKED_INTO):
            self._post_event(self._news.popleft(), {})
        if self._news:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._begin_look)  # Ends that come together are looked into together.

    def _begin_look(self) -> None:
        batch = list(self._news)
        begun = {*self._preparing, *self.launcher.unanswered}
        looked = asyncio.get_running_loop().run_in_executor(self._worker, self._look, batch, begun)
        looked.add_done_callback(lambda future: self._looked(batch, future.result()))

    def _looked(self, batch: Sequence[client.LauncherEvent], limitations: Mapping[str, Limitation]) -> None:
        for event in batch:
            self._news.popleft()
            self._post_event(event, limitations)
        self._looking = False
        self._tell()

    def _post_event(self, event: client.LauncherEvent, limitations: Mapping[str, Limitation]) -> None:
        match event:
            case client.Started(container, pid):
                self._young.add(container)
                self._post(effects.ContainerStarted(container, pid, self._bundles.networks(container)))
            case client.Exited(container, status, ended_s):
                self._unwatch(container)
                self._post(effects.ContainerExited(container, effects.Exit(status, ended_s), limitations.get(container)))
            case client.LaunchFailed(container, _, message):
                self._unwatch(container)
                self._post(effects.ContainerFailed(container, message))
            case client.LauncherState(containers):
                self._young.update(report.container for report in containers if _runs(report))
                known = [_known(report, limitations, self._bundles.networks(report.container)) for report in containers]
                self._post(effects.LauncherState(tuple(known)))
            case client.LauncherLost():
                log.warning("the launcher is gone; starting it again")

    # ---- Memory that runs out -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected to the launcher until cancelled, or until it was ended; watch over containers meanwhile."""
        watching = asyncio.create_task(self._watch())
        try:
            await self.launcher.run()
        finally:
            watching.cancel()
            await self._end_fetches()

    async def _end_fetches(self) -> None:
        self._closed = True
        fetches = list(self._fetches.values())
        for fetch in fetches:
            if not fetch.cancelling():
                fetch.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._isolation.idle:
            await asyncio.sleep(WATCH_S)
            grown = self._young - self._watches.keys()
            self._young.clear()
            found = await loop.run_in_executor(self._worker, self._watch_all, grown)
            for container_id, fd in found.items():
                if fd is not None:
                    self._watches[container_id] = fd
                    loop.add_reader(fd, self._ran_out, container_id)

    def _unwatch(self, container_id: str) -> None:
        self._young.discard(container_id)
        fd = self._watches.pop(container_id, None)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    def _ran_out(self, container_id: str) -> None:
        self._unwatch(container_id)
        self._worker.submit(self._isolation.ran_out, container_id)

    # ---- In the thread --------------------------------------------------------------------------------

    def _watch_all(self, names: Collection[str]) -> dict[str, int | None]:
        self._isolation.sweep()
        return {name: self._isolation.watch(name) for name in names}

    def _prepare_all(self, launches: Sequence[effects.LaunchContainer], images: Mapping[str, Image]) -> list[client.Launch | str]:
        return [self._prepare(launch, images.get(launch.container_id)) for launch in launches]

    def _prepare(self, launch: effects.LaunchContainer, image: Image | None) -> client.Launch | str:
        """How a container is to be started, or why it cannot."""
        try:
            if launch.beside is not None:
                return self._prepare_beside(launch, launch.beside)
            if image is not None:
                sandbox.prepare(replace(launch, user=None))  # Whose it is, the image says; the same of its volumes.
                disk.show(launch.directory, None, launch.volumes, links=False)
                self._isolation.prepare(launch.container_id, launch.limits)
                return self._bundles.prepare(launch, image)
            sandbox.prepare(launch)
            disk.show(launch.directory, launch.user, launch.volumes, links=True)
            return _plain(launch, self._isolation.prepare(launch.container_id, launch.limits))
        except KernelError as error:
            self._isolation.ended(launch.container_id)
            return str(error)

    def _prepare_beside(self, launch: effects.LaunchContainer, beside: effects.Beside) -> client.Launch:
        """The same for one inside another. Raises SandboxError, BundleError."""
        if launch.containerizer is Containerizer.OCI:
            sandbox.prepare_nested(launch, beside, self._bundles.owner(launch, beside))
            return self._bundles.prepare_beside(launch, beside)
        sandbox.prepare_nested(launch, beside, sandbox.owner(launch.user) if launch.user is not None else None)
        return _plain(launch, self._isolation.join(beside.container_id))

    def _prepare_probes(self, probes: Sequence[effects.LaunchProbe]) -> list[client.Launch | str]:
        """How commands of checks are to be started: beside their tasks, with nothing of their own but a file; or why they cannot."""
        prepared: list[client.Launch | str] = []
        for probe in probes:
            sandbox.discard(probe.output)
            if self._bundles.has(probe.task_container_id):
                try:
                    prepared.append(self._bundles.prepare_probe(probe))
                except KernelError as error:
                    prepared.append(str(error))
                continue
            cgroups = self._isolation.join(probe.task_container_id)
            files = probe.directory, probe.output, probe.output
            prepared.append(client.Launch(probe.container_id, probe.argv, probe.env, *files, probe.executable, probe.user, cgroups=cgroups))
        return prepared

    def _remove_all(self) -> None:
        for container_id in self._bundles.leftovers(()):
            self._bundles.remove(container_id)

    def _limit(self, effect: effects.LimitContainer) -> None:
        try:
            self._isolation.update(effect.container_id, effect.limits)
        except CgroupError as error:  # It has ended, or keeps the limits it has.
            log.info("container %s: %s", effect.container_id, error)

    def _look(self, batch: list[client.LauncherEvent], begun: set[str]) -> dict[str, Limitation]:
        """What the containers of these news ran into. begun: those the launcher may not know yet."""
        limitations: dict[str, Limitation] = {}
        for index, event in enumerate(batch):
            if isinstance(event, client.LauncherState):
                batch[index] = event = replace(event, containers=tuple(map(self._in_doubt, event.containers)))
                for report in event.containers:
                    if not _runs(report):
                        self._end(report.container, limitations)
                known = {report.container for report in event.containers if _runs(report)} | begun
                for container_id in self._bundles.leftovers(known):
                    self._bundles.remove(container_id)
                for container_id in known:
                    self._bundles.recall(container_id)
                self._isolation.reconcile(known)
            elif isinstance(event, client.Exited | client.LaunchFailed):
                failed = isinstance(event, client.LaunchFailed) or event.status == signal.SIGKILL
                if failed and self._bundles.probed_ended(event.container):
                    batch[index] = client.Exited(event.container, None, time.time())  # From which nothing follows.
                self._end(event.container, limitations)
        return limitations

    def _in_doubt(self, report: client.ContainerReport) -> client.ContainerReport:
        """A report of a check's command that ended with its container, not by itself: nothing follows from that."""
        failed = report.failed is not None or (report.exit is not None and report.exit.status == signal.SIGKILL)
        if failed and self._bundles.probed_ended(report.container):
            return replace(report, exit=client.Exit(None, time.time()), failed=None)
        return report

    def _end(self, container_id: str, limitations: dict[str, Limitation]) -> None:
        limitation = self._isolation.ended(container_id)
        self._bundles.remove(container_id)
        if limitation is not None:
            limitations[container_id] = limitation


def _needs_no_image(launch: effects.LaunchContainer) -> bool:
    return launch.containerizer is Containerizer.PROCESS or launch.beside is not None


def _plain(launch: effects.LaunchContainer, cgroups: tuple[str, ...]) -> client.Launch:
    """A process that sees this machine's files."""
    files = f"{launch.directory}/stdout", f"{launch.directory}/stderr"
    who, window = (launch.executable, launch.user), launch.terminal
    terminal = None if window is None else (min(window.rows, WINDOW_MAX), min(window.columns, WINDOW_MAX))
    made = launch.container_id, launch.argv, launch.env, launch.directory
    return client.Launch(*made, *files, *who, cgroups=cgroups, terminal=terminal)


def _known(
    report: client.ContainerReport, limitations: Mapping[str, Limitation], networks: tuple[NetworkInfo, ...]
) -> effects.KnownContainer:
    exit = None if report.exit is None else effects.Exit(report.exit.status, report.exit.ended_s)
    failure = None if report.failed is None else report.failed.message
    return effects.KnownContainer(report.container, report.pid, exit, failure, limitations.get(report.container), networks)


def _runs(report: client.ContainerReport) -> bool:
    return report.exit is None and report.failed is None
