"""What the core decided is carried out here: runs go into history, calls begin, people are told. Nothing in here waits."""

from __future__ import annotations

import asyncio
from typing import Any

from chronos import inputs
from chronos.calls import Calls
from chronos.history import History
from chronos.leadership import Leadership
from chronos.notifier import Notifier
from chronos.notify import Event, Message, Notices, events_of
from chronos.output import Outputs
from chronos.recording import Recorder
from chronos.records import record_of
from kernel.clock import SystemClock
from kernel.net.machine import Uptime

OUTPUTS_MAX = 1000  # That are fetched after a start.


class Edge:
    """The effects of one scheduler. `begin` gives it the parts, which are there from when it leads."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._uptime = Uptime()
        self._clock = SystemClock()
        self._history: History | None = None
        self._ready = asyncio.Event()

    def begin(self, history: History, recorder: Recorder, outputs: Outputs, calls: Calls, notifier: Notifier, notices: Notices) -> None:
        self._history, self._recorder, self._outputs, self._calls = history, recorder, outputs, calls
        self._notifier, self._notices = notifier, notices
        self._ready.set()

    def perform(self, effect: Any) -> None:
        """Carry out one effect of the core, without waiting."""
        kind = type(effect)
        if kind is inputs.Over:
            record = record_of(effect.run, effect.job, effect.framework_id)
            self._recorder.put(record, self._messages(events_of(effect.job, effect.run)))
            self._outputs.put((record,))
        elif kind is inputs.StartCall:
            self._calls.start(effect)
        elif kind is inputs.CancelCall:
            self._calls.cancel(effect)
        elif kind is inputs.Missed:
            self._recorder.tell(self._messages([Event("deadline", effect.job, effect.run)]))
        else:
            assert kind is inputs.Removed, f"nobody performs {kind.__name__}"
            self._recorder.tell(self._messages([Event("removed", effect.job)]))

    def _messages(self, events: list[Event]) -> list[Message]:
        now_ms = self._now_ms()
        return [message for event in events for message in self._notices.messages(event, now_ms)]

    def _now_ms(self) -> int:
        return int(self._clock.now().wall_s * 1000)

    async def run(self, framework: asyncio.Task[None]) -> None:
        """Work beside the framework until one part ends. Raises what it raised."""
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait((ready, framework), return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.is_set():
            ready.cancel()
            framework.result()
            return
        assert self._history is not None, "it has begun"
        unsent = await self._history.unsent()  # Before more come.
        parts = [asyncio.create_task(part) for part in (self._recorder.run(), self._outputs.run(), self._notifier.run())]
        try:
            self._outputs.put(await self._history.without_output(self._now_ms(), OUTPUTS_MAX))
            self._notifier.put(unsent)
            done, _ = await asyncio.wait((framework, *parts), return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)

    async def close(self) -> None:
        if self._ready.is_set():
            await self._calls.close()

    def numbers(self) -> dict[str, float]:
        """What is measured of it."""
        found = {"chronos/uptime_secs": self._uptime.seconds(), "chronos/elected": float(self._leadership.work is not None)}
        if self._ready.is_set():
            found |= {
                "chronos/history_waiting": float(self._recorder.waiting),
                "chronos/notifications_waiting": float(self._notifier.waiting),
                "chronos/notifications_sent": float(self._notifier.sent),
                "chronos/notifications_failed": float(self._notifier.failed),
            }
        return found
