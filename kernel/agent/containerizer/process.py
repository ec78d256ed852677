"""The `process` containerizer: each container is a process group of the launcher's, in a sandbox of its own.

Sandboxes are made in a thread, many at a time; the order of what concerns one container is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kernel.agent import effects, sandbox
from kernel.agent.launcher import client

log = logging.getLogger(__name__)


class ProcessContainerizer:
    """Carries the core's effects to the launcher and the launcher's news to the core."""

    def __init__(self, directory: Path, post: Callable[[Any], None]) -> None:
        """directory: the launcher's own. post: takes the core's inputs."""
        self._post = post
        self.launcher = client.LauncherClient(directory, self._on_event)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox")
        self._launches: list[effects.LaunchContainer] = []  # To be prepared by the next flush.
        self._preparing: dict[str, list[int]] = {}  # Container -> signals that came meanwhile.

    # ---- Effects --------------------------------------------------------------------------------------

    def launch(self, launch: effects.LaunchContainer) -> None:
        if launch.container_id not in self._preparing:
            self._preparing[launch.container_id] = []
            self._launches.append(launch)

    def signal(self, container_id: str, number: int) -> None:
        waiting = self._preparing.get(container_id)
        if waiting is not None:
            waiting.append(number)
        else:
            self.launcher.signal(container_id, number)

    def forget(self, container_id: str) -> None:
        self.launcher.forget(container_id)

    def flush(self) -> None:
        """Begin what was gathered."""
        if self._launches:
            launches, self._launches = self._launches, []
            prepared = asyncio.get_running_loop().run_in_executor(self._worker, _prepare_all, launches)
            prepared.add_done_callback(lambda future: self._start(launches, future.result()))

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.shutdown(wait=False)

    def _start(self, launches: Sequence[effects.LaunchContainer], problems: Sequence[str | None]) -> None:
        for launch, problem in zip(launches, problems, strict=True):
            signals = self._preparing.pop(launch.container_id)
            if problem is not None:
                self._post(effects.ContainerFailed(launch.container_id, problem))
                continue
            self.launcher.launch(
                client.Launch(
                    launch.container_id,
                    launch.argv,
                    launch.env,
                    launch.directory,
                    f"{launch.directory}/stdout",
                    f"{launch.directory}/stderr",
                    launch.executable,
                    launch.user,
                )
            )
            for number in signals:
                self.launcher.signal(launch.container_id, number)

    # ---- News -----------------------------------------------------------------------------------------

    def _on_event(self, event: client.LauncherEvent) -> None:
        match event:
            case client.Started(container, pid):
                self._post(effects.ContainerStarted(container, pid))
            case client.Exited(container, status, ended_s):
                self._post(effects.ContainerExited(container, effects.Exit(status, ended_s)))
            case client.LaunchFailed(container, _, message):
                self._post(effects.ContainerFailed(container, message))
            case client.LauncherState(containers):
                self._post(effects.LauncherState(tuple(_known(report) for report in containers)))
            case client.LauncherLost():
                log.warning("the launcher is gone; starting it again")


def _prepare_all(launches: Sequence[effects.LaunchContainer]) -> list[str | None]:
    problems: list[str | None] = []
    for launch in launches:
        try:
            sandbox.prepare(launch)
            problems.append(None)
        except sandbox.SandboxError as error:
            problems.append(str(error))
    return problems


def _known(report: client.ContainerReport) -> effects.KnownContainer:
    exit = None if report.exit is None else effects.Exit(report.exit.status, report.exit.ended_s)
    failure = None if report.failed is None else report.failed.message
    return effects.KnownContainer(report.container, report.pid, exit, failure)
