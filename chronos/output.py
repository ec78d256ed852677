"""The end of what runs printed, fetched from their agents into history, as sandboxes do not stay. Best effort: it holds up nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from chronos.history import History
from chronos.records import Output, Record
from chronos.workers import Workers
from kernel.errors import PeerError
from kernel.net.auth import Credential
from kernel.net.session import Session, base_url, post
from kernel.wire.operator_common import ReadFile, ReadFileCall

log = logging.getLogger(__name__)

TAIL_BYTES = 8 * 1024
AT_ONCE = 8
WAITING_MAX = 20_000  # More are given up.
TRIES = 3
WAIT_S = 2.0
ANSWER_S = 10.0
AGENT_PORT = 5051
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class _Answer(Struct):
    read_file: ReadFile


class Outputs:
    """Fetches a few at a time."""

    def __init__(self, history: History, credential: Credential | None) -> None:
        self._history = history
        headers = {"Authorization": credential.header()} if credential is not None else {}
        self._queue: Workers[Record] = Workers(self._take, at_once=AT_ONCE, waiting_max=WAITING_MAX, headers=headers)

    def put(self, records: Iterable[Record]) -> None:
        """Fetch what these have printed; those that never were on an agent are passed over."""
        for record in records:
            if record.attempts and record.attempts[-1].agent_url and not self._queue.put(record):
                log.info("the output of %s stays where it is: %d wait already", record.id, WAITING_MAX)

    async def run(self) -> None:
        """Fetch for ever."""
        await self._queue.run()

    async def _take(self, http: Session, record: Record) -> None:
        output = await self._fetch(http, record)
        if output is not None:
            await self._history.put_output(record.id, output)

    async def _fetch(self, http: Session, record: Record) -> Output | None:
        attempt = record.attempts[-1]
        executor = record.executor or attempt.task_id  # That of a command task is named as the task.
        sandbox = f"/frameworks/{record.framework_id}/executors/{executor}/runs/latest"
        for number in range(TRIES):
            try:
                url = base_url(attempt.agent_url, AGENT_PORT) + "/api/v1"
                return Output(await _tail(http, url, f"{sandbox}/stdout"), await _tail(http, url, f"{sandbox}/stderr"))
            except (PeerError, ValueError) as error:
                if number == TRIES - 1:
                    log.info("the output of %s stays where it is: %s", record.id, error)
                else:
                    await asyncio.sleep(WAIT_S * 2**number)
        return None


async def _tail(http: Session, url: str, path: str) -> bytes:
    """The last bytes of a file, nothing where there is none. Raises PeerError."""
    size = (await _read(http, url, ReadFileCall(path, 0, 0, follow=True))).size
    return (await _read(http, url, ReadFileCall(path, max(0, size - TAIL_BYTES), TAIL_BYTES, follow=True))).data if size else b""


async def _read(http: Session, url: str, call: ReadFileCall) -> ReadFile:
    reply = await post(http, url, msgspec.json.encode({"type": "READ_FILE", "read_file": call}), HEADERS, ANSWER_S)
    if reply.status == 404:
        return ReadFile(0, b"")
    if reply.status != 200:
        raise PeerError(f"the agent answered {reply.status}: {reply.text[:200]}")
    try:
        return msgspec.json.decode(reply.body, type=_Answer).read_file
    except (msgspec.MsgspecError, ValueError) as error:
        raise PeerError(f"the agent's answer cannot be read: {error}") from error
