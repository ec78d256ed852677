"""What the Docker engine tells for as long as a container runs: its log and its end. On the event loop, so that hundreds of
containers need no thread of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from kernel.agent.containerizer.docker_logs import STREAMS, Entries, Follower, Marks
from kernel.agent.containerizer.docker_state import EngineAway, EngineError, NoSuchContainer
from kernel.agent.containerizer.workers import Workers
from kernel.agent.sandboxes.rotator import written

log = logging.getLogger(__name__)

CONNECT_S = 5.0
STATS_S = 2.0
MARK_BYTES = 1 << 20  # How much may be written before it is noted anew: so much is read again after a restart.


class Streams:
    """The engine's endless answers, over connections of our own."""

    def __init__(self, path: str) -> None:
        """path: the engine's socket."""
        self._path = path
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path, limit=0), timeout=timeout)

    async def end(self, name: str) -> None:
        """Return when a container runs no more. Raises NoSuchContainer, EngineAway."""
        async with self._asking("POST", f"/containers/{name}/wait", {}) as answer:
            if "StatusCode" not in json.loads(await answer.read() or b"{}"):
                raise EngineAway(f"the Docker engine at {self._path} broke off")

    async def log(self, name: str, since: str, follow: bool) -> AsyncIterator[bytes]:
        """The log from an instant on, what there is or until the container ends. Raises EngineError, EngineAway."""
        wanted = {"follow": str(int(follow)), "stdout": "1", "stderr": "1", "timestamps": "1", "since": since}
        async with self._asking("GET", f"/containers/{name}/logs", wanted) as answer:
            async for data in answer.content.iter_any():
                yield data

    async def stats(self, name: str) -> Mapping[str, Any] | None:
        """What a container uses; None when that cannot be had soon."""
        try:
            async with (
                asyncio.timeout(STATS_S),
                self._asking("GET", f"/containers/{name}/stats", {"stream": "false", "one-shot": "true"}) as answer,
            ):
                told: dict[str, Any] = json.loads(await answer.read())
                return told
        except (EngineError, TimeoutError):
            return None

    async def close(self) -> None:
        await self._session.close()

    @asynccontextmanager
    async def _asking(self, method: str, path: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, f"http://docker{path}", params=query) as answer:
                if answer.status >= 400:
                    text = (await answer.text()).strip()
                    raise (NoSuchContainer if answer.status == 404 else EngineError)(text)
                yield answer
        except (aiohttp.ClientError, OSError, json.JSONDecodeError) as error:
            raise EngineAway(f"the Docker engine at {self._path} broke off ({type(error).__name__})") from error


class Output:
    """The files of one container's output, and the note beside them."""

    def __init__(self, sandbox: str, note: Path) -> None:
        self._sandbox, self._note = sandbox, note
        self._files: dict[str, int] = {}
        self._followers: dict[str, Follower] = {}
        self._unnoted = 0

    def open(self, owner: tuple[int, int] | None = None) -> str:
        """Begin to write where it was left off; returns from when on the log is needed. owner: whose new files become. Waits for
        the disk. Raises OSError, also for what is no file: the container can put anything there."""
        marks = _read(self._note)
        since = marks.since
        for stream in STREAMS.values():
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = self._files.get(stream)
            if fd is None:
                fd = self._files[stream] = os.open(f"{self._sandbox}/{stream}", flags, 0o644)
                if owner is not None:
                    os.fchown(fd, *owner)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(f"{stream} is not a file")
            self._followers[stream] = Follower(getattr(marks, stream), since, written(self._sandbox, stream))
        return since

    def write(self, entries: list[Any]) -> None:
        """Write what is new of these. Waits for the disk. Raises OSError."""
        pieces: dict[str, list[bytes]] = {}
        for entry in entries:
            data = self._followers[entry.stream].take(entry)
            if data:
                pieces.setdefault(entry.stream, []).append(data)
        for stream, parts in pieces.items():
            data = b"".join(parts)
            self._unnoted += len(data)
            while data:
                data = data[os.write(self._files[stream], data) :]
        if self._unnoted >= MARK_BYTES:
            self.note()

    def note(self) -> None:
        """Keep how far it is. Waits for the disk. Raises OSError."""
        self._unnoted = 0
        marks = Marks(**{stream: follower.mark for stream, follower in self._followers.items()})
        fresh = self._note.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(marks))
        fresh.replace(self._note)

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()


def _read(note: Path) -> Marks:
    try:
        return msgspec.json.decode(note.read_bytes() or b"{}", type=Marks)
    except (FileNotFoundError, msgspec.DecodeError):
        return Marks()


async def copy_log(streams: Streams, disk: Workers, name: str, output: Output, *, follow: bool) -> None:
    """Write what the sandbox lacks of a container's log into it: what there is, or until it ends.

    Raises EngineAway, and NoSuchContainer; what else goes wrong is logged: a log that cannot be had, or not be written, is no reason to
    lose sight of the container.
    """
    try:
        since = await disk.run(output.open)
        entries = Entries()
        async for data in streams.log(name, since, follow):
            if found := list(entries.feed(data)):
                await disk.run(output.write, found)
        await disk.run(output.note)
    except (EngineAway, NoSuchContainer):
        raise
    except (EngineError, OSError, ValueError) as error:
        log.warning("the output of container %s is not copied any more: %s", name, error)
