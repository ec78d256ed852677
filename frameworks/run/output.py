"""Follows what a task prints: reads its stdout and stderr from the agent, while it runs and to the end after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from msgspec import Struct

from kernel.errors import PeerError
from kernel.net.auth import Credential
from kernel.net.session import Session, base_url, open_session, post
from kernel.wire.operator_common import ReadFile, ReadFileCall

POLL_FIRST_S = 0.02
POLL_MAX_S = 0.25
PIECE_BYTES = 64 * 1024  # What an agent gives at once.
GIVE_UP_S = 5.0  # For an agent that does not answer after the task has ended.
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}

Write = Callable[[str, bytes], None]
"""Takes the name of a stream (stdout, stderr) and what came on it."""


class _Answer(Struct):
    read_file: ReadFile


class Follower:
    """Copies the output of one command task to `write` until `end` was called and everything is copied."""

    def __init__(self, agent_url: str, framework_id: str, task_id: str, credential: Credential | None, write: Write) -> None:
        self._headers = {"Authorization": credential.header()} if credential is not None else {}
        self._url = base_url(agent_url, 5051) + "/api/v1"
        # The executor of a command task is named as the task; the agent shows its latest sandbox under this path.
        self._sandbox = f"/frameworks/{framework_id}/executors/{task_id}/runs/latest"
        self._offsets = {"stdout": 0, "stderr": 0}
        self._write = write
        self._ended = asyncio.Event()

    def end(self) -> None:
        """The task is over: what there is now is all there will be."""
        self._ended.set()

    async def run(self) -> str | None:
        """Return why the output is not complete, None when it is."""
        async with open_session(self._headers) as http:
            return await self._run(http)

    async def _run(self, http: Session) -> str | None:
        clock = asyncio.get_running_loop().time
        wait_s = POLL_FIRST_S
        failing_since: float | None = None
        while True:
            last = self._ended.is_set()  # Looked at first: what is read after it is the rest.
            error = None
            moved = False
            try:
                for name in self._offsets:
                    moved |= await self._copy(http, name)
                failing_since = None
            except PeerError as failed:
                error = str(failed)
                failing_since = failing_since or clock()
            if last and error is None and not moved:
                return None
            if last and error is not None and failing_since is not None and clock() > failing_since + GIVE_UP_S:
                return error
            wait_s = POLL_FIRST_S if moved else min(POLL_MAX_S, wait_s * 1.5)
            if not last:
                try:
                    async with asyncio.timeout(wait_s):
                        await self._ended.wait()
                except TimeoutError:
                    pass
            elif error is not None:
                await asyncio.sleep(wait_s)

    async def _copy(self, http: Session, name: str) -> bool:
        """Copy what is new of one stream; return whether there was anything."""
        moved = False
        while True:
            offset = self._offsets[name]
            call = ReadFileCall(f"{self._sandbox}/{name}", offset, PIECE_BYTES, follow=True)  # A rotation changes no offset.
            reply = await post(http, self._url, msgspec.json.encode({"type": "READ_FILE", "read_file": call}), HEADERS)
            if reply.status == 404:  # There is no sandbox yet, or no such file in it.
                return moved
            if reply.status != 200:
                raise PeerError(f"the agent answered {reply.status}: {reply.text}")
            try:
                answer = msgspec.json.decode(reply.body, type=_Answer).read_file
            except (msgspec.MsgspecError, ValueError) as error:
                raise PeerError(f"the agent's answer cannot be read: {error}") from error
            self._offsets[name] = (offset if answer.offset is None else answer.offset) + len(answer.data)
            if not answer.data:
                return moved
            self._write(name, answer.data)
            moved = True
            if self._offsets[name] >= answer.size:
                return moved
