"""Commands of checks in containers of a Docker engine. Each is a process of ours (`docker_exec`) that ends with us: an agent that starts
anew finds none.

Where the engine cannot be asked, or the container has ended, nothing is said of the task: how it ended is told by others.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from kernel.agent import effects, sandbox
from kernel.agent.containerizer import docker_exec, docker_options
from kernel.agent.containerizer.containerizer import Post
from kernel.agent.containerizer.docker_state import EngineAway, EngineError, NoSuchContainer
from kernel.agent.containerizer.first_process import is_dying
from kernel.agent.containerizer.workers import Workers
from kernel.agent.launcher.processes import CONTAINER_VARIABLE
from kernel.agent.sessions import Guest

if TYPE_CHECKING:
    from kernel.agent.containerizer.docker import Engine

KILLED = 128 + signal.SIGKILL  # The exit code of what the engine saw killed.


class _Command(Struct, eq=False):
    """One under way. killed: by us."""

    process: subprocess.Popen[bytes] | None = None
    started: bool = False
    killed: bool = False


class DockerProbes:
    """All of an agent's."""

    def __init__(self, path: str, workers: Workers, engine: Callable[[], Engine], post: Post) -> None:
        """path: the engine's socket. engine: what asks it; to be called in threads."""
        self._path, self._workers, self._engine, self._post = path, workers, engine, post
        self._running: dict[str, _Command] = {}

    def known(self) -> Iterator[effects.KnownContainer]:
        """Those whose end was not told yet."""
        for name, command in self._running.items():
            pid = command.process.pid if command.started and command.process is not None else None
            yield effects.KnownContainer(name, pid)

    def kill(self, name: str) -> bool:
        """End one; whether there is one of this name."""
        command = self._running.get(name)
        if command is None:
            return False
        command.killed = True
        if command.process is not None:
            command.process.kill()  # What it has begun ends with it.
        return True

    async def run(self, probe: effects.LaunchProbe) -> None:
        """Run one, and tell the core of it."""
        if probe.container_id in self._running:
            return
        command = self._running[probe.container_id] = _Command()
        told: effects.ContainerExited | effects.ContainerFailed
        try:
            status = await self._run(probe, command)
            told = effects.ContainerExited(probe.container_id, effects.Exit(status, time.time()))
        except (EngineAway, NoSuchContainer):
            told = effects.ContainerExited(probe.container_id, effects.Exit(None, time.time()))
        except (EngineError, sandbox.SandboxError, OSError) as error:
            told = effects.ContainerFailed(probe.container_id, str(error))
        finally:
            del self._running[probe.container_id]
        self._post(told)

    async def _run(self, probe: effects.LaunchProbe, command: _Command) -> int | None:
        """Returns its wait status, None when nobody knows that."""
        task = docker_options.container_name(probe.task_container_id)
        lifeline, theirs = socket.socketpair()
        try:
            command.process = await self._workers.run(self._start, probe, task, theirs)
        except BaseException:
            lifeline.close()
            raise
        finally:
            theirs.close()
        if command.killed:
            command.process.kill()
        reader, writer = await asyncio.open_connection(sock=lifeline)
        try:
            if await reader.read(1):
                command.started = True
                self._post(effects.ContainerStarted(probe.container_id, command.process.pid))
            await reader.read()  # Until it has ended.
            code = await self._workers.run(command.process.wait)
        finally:
            writer.close()
            if command.process.returncode is None:
                command.process.kill()
                command.process.wait()
        if code < 0:
            return -code if command.killed else None
        if code == KILLED and await self._workers.run(self._ended, task):
            return None  # It ended with its container.
        return code << 8

    def _ended(self, task: str) -> bool:
        """Whether a container has ended, be it that the engine has not noticed yet."""
        state = self._engine().inspect(task)
        return not state.running or is_dying(state.pid)

    def _start(self, probe: effects.LaunchProbe, task: str, lifeline: socket.socket) -> subprocess.Popen[bytes]:
        user = sandbox.owner(probe.user) if probe.user is not None else None
        guest = Guest((probe.executable, *probe.argv[1:]), probe.variables, docker_options.user_text(user), False)
        mark = f"{CONTAINER_VARIABLE}={probe.container_id}"
        name = self._engine().prepare(task, guest, mark, reads=False)
        sandbox.discard(probe.output)
        output = os.open(probe.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            if user is not None:
                os.fchown(output, *user)
            argv = docker_exec.command(self._path, name, mark, lifeline=True)
            return subprocess.Popen(argv, stdin=lifeline.fileno(), stdout=output, stderr=output, cwd="/", env={}, start_new_session=True)
        finally:
            os.close(output)
