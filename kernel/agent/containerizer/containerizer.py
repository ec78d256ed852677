"""Several containerizers beside each other, as one: each container goes to the one that is to run it, and what comes from all is
told to the core by the same inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from kernel.agent import effects
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.isolators.limits import Usage
from kernel.agent.sessions import Entry, Guest
from kernel.errors import NotFound

Post = Callable[[Any], None]


class Runs(Protocol):
    """One containerizer. It posts to the core: LauncherState whenever it has got hold of what runs its containers, then
    ContainerStarted, ContainerFailed and ContainerExited; an end is told again with each state until it is forgotten."""

    def launch(self, launch: effects.LaunchContainer) -> None:
        """Start a container; a repeat changes nothing. Nothing here waits."""

    def probe(self, probe: effects.LaunchProbe) -> None:
        """Run the command of a check beside its task, which is a container here."""

    def limit(self, effect: effects.LimitContainer) -> None:
        """Hold a running container to other limits."""

    def signal(self, container_id: str, number: int) -> None:
        """Send a signal to all processes of a container, also to one that is just being started."""

    def forget(self, container_id: str) -> None:
        """The end of this container is recorded."""

    def flush(self) -> None:
        """Begin what was gathered in this turn of the main loop."""

    async def usage(self, pids: Mapping[str, int]) -> Mapping[str, Usage]:
        """What those of these containers use that are its own, by the pids of their first processes."""

    async def run(self) -> None:
        """Work until cancelled."""

    async def entry(self, place: effects.LaunchContainer, guest: Guest) -> Entry:
        """How a process gets into one of its containers, see `kernel.agent.sessions`. Raises CallError where it cannot."""

    async def terminal(self, container_id: str) -> int:
        """The end of a container's terminal on which one types: a descriptor that does not block, the caller's from now on. Raises NotFound
        where there is none."""

    async def prune(self, keep: Collection[str]) -> None:
        """Forget images that nothing needs, but for these. Raises CallError for what is no name."""

    async def stop(self, kill_all: bool) -> None:
        """The agent leaves; kill_all: and nothing of its containers may stay."""

    def close(self) -> None:
        """Let go of threads and files."""


class Containerizers:
    """All containerizers of an agent."""

    def __init__(self, post: Post) -> None:
        """post: takes the core's inputs."""
        self._post = post
        self._runs: dict[Containerizer, Runs] = {}
        self._all: list[Runs] = []
        self._where: dict[str, Runs] = {}  # Containers, ours or nobody's, whose ends are not recorded yet.

    def add(self, kinds: Collection[Containerizer], make: Callable[[Post], Runs]) -> None:
        """Let one more run containers of these kinds."""

        def told(message: Any) -> None:
            if isinstance(message, effects.LauncherState):
                self._where.update((known.container_id, runs) for known in message.containers)
            self._post(message)

        runs = make(told)
        self._all.append(runs)
        self._runs.update(dict.fromkeys(kinds, runs))

    def launch(self, launch: effects.LaunchContainer) -> None:
        self._where[launch.container_id] = runs = self._runs[launch.containerizer]
        runs.launch(launch)

    def probe(self, probe: effects.LaunchProbe) -> None:
        """It goes where its task is."""
        if (runs := self._where.get(probe.task_container_id)) is not None:
            self._where[probe.container_id] = runs
            runs.probe(probe)
        else:
            self._post(effects.ContainerFailed(probe.container_id, "its task has no container"))

    def limit(self, effect: effects.LimitContainer) -> None:
        if (runs := self._where.get(effect.container_id)) is not None:
            runs.limit(effect)

    def signal(self, container_id: str, number: int) -> None:
        if (runs := self._where.get(container_id)) is not None:
            runs.signal(container_id, number)

    def forget(self, container_id: str) -> None:
        if (runs := self._where.pop(container_id, None)) is not None:
            runs.forget(container_id)

    def flush(self) -> None:
        for runs in self._all:
            runs.flush()

    async def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        found: dict[str, Usage] = {}
        theirs: dict[Runs, dict[str, int]] = {runs: {} for runs in self._all}
        for container_id, pid in pids.items():
            if (runs := self._where.get(container_id)) is not None:
                theirs[runs][container_id] = pid
        for part in await asyncio.gather(*(runs.usage(own) for runs, own in theirs.items())):
            found |= part
        return found

    async def run(self) -> None:
        await asyncio.gather(*(runs.run() for runs in self._all))

    async def entry(self, place: effects.LaunchContainer, guest: Guest) -> Entry:
        return await self._runs[place.containerizer].entry(place, guest)

    async def terminal(self, container_id: str) -> int:
        if (runs := self._where.get(container_id)) is None:
            raise NotFound(f"Container {container_id} has no terminal")
        return await runs.terminal(container_id)

    async def prune(self, keep: Collection[str]) -> None:
        for runs in self._all:
            await runs.prune(keep)

    async def stop(self, kill_all: bool) -> None:
        for runs in self._all:
            await runs.stop(kill_all)

    def close(self) -> None:
        for runs in self._all:
            runs.close()
