"""Runs that are over, and what is to be told of them, on their way into history: gathered, written together, then the scheduler is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from chronos import inputs
from chronos.history import History
from chronos.notify import Message, Unsent
from chronos.records import Record
from kernel.clock import Clock

log = logging.getLogger(__name__)

BATCH_MAX = 1000


class Recorder:
    """Writes to one history. told: takes `Recorded`, and send: the messages, once they are durable."""

    def __init__(
        self, history: History, told: Callable[[inputs.Recorded], None], send: Callable[[Sequence[Unsent]], None], clock: Clock
    ) -> None:
        self._history, self._told, self._send, self._clock = history, told, send, clock
        self._waiting: list[Record] = []
        self._messages: dict[str, Sequence[Message]] = {}  # By run.
        self._others: list[Message] = []
        self._wake = asyncio.Event()

    def put(self, record: Record, messages: Sequence[Message]) -> None:
        """Take one in, with what is to be told of it; never waits."""
        self._waiting.append(record)
        if messages:
            self._messages[record.id] = messages
        self._wake.set()

    def tell(self, messages: Sequence[Message]) -> None:
        """Take in what is to be told of no run's end; never waits."""
        self._others += messages
        self._wake.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def run(self) -> None:
        """Write what comes, for ever. Raises StoreError when something cannot be written: then nothing may go on."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._others:
                others, self._others = self._others, []
                self._send(await self._history.post(others, self._now_ms()))
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
                await self._write(batch)

    async def _write(self, batch: Sequence[Record]) -> None:
        told = {record.id: messages for record in batch if (messages := self._messages.pop(record.id, ()))}
        self._send(await self._history.record(batch, told, self._now_ms()))
        self._told(inputs.Recorded(tuple(record.id for record in batch)))

    def _now_ms(self) -> int:
        return int(self._clock.now().wall_s * 1000)
