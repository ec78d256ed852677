"""How one of several equal daemons takes part: it contends, follows whoever leads, works while it leads itself, and withdraws."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kernel.election.election import Contender, Detector, Leader
from kernel.errors import Unavailable


class Standing:
    """Who leads, as far as one of them knows. me: this one. leader: who is known to lead."""

    def __init__(self, me: Leader) -> None:
        self.me = me
        self.leader: Leader | None = None
        self._elected = False

    def elected(self) -> None:
        """This one leads from now on, whatever a detector says that hears of it a little later."""
        self._elected, self.leader = True, self.me

    async def follow(self, detector: Detector) -> None:
        """Keep `leader` up to date, for ever."""
        known = None
        while True:
            known = await detector.detect(known)
            if not self._elected:
                self.leader = known


async def lead(
    standing: Standing, contender: Contender, detector: Detector, work: Callable[[], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Contend, and work once elected, until told to stop.

    work: what a leader does. It is cancelled when it is to end, and waited for; what it then raises is raised here.
    Raises Unavailable when the leadership is lost, or this one cannot take part.
    """
    following = asyncio.create_task(standing.follow(detector))
    try:
        if await first(contender.contend(), stop.wait()) == 0:
            standing.elected()
            working = asyncio.ensure_future(work())
            ended = await first(working, stop.wait(), contender.lost())
            if not working.cancelled():
                working.result()
            if ended == 2:
                raise Unavailable("the leadership is lost")
    finally:
        following.cancel()
        await contender.withdraw()
        await detector.close()


async def first(*awaitables: Awaitable[Any]) -> int:
    """Wait until one is done, cancel the others and let them end; return its index. Raises what it raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        index = next(index for index, task in enumerate(tasks) if task.done())
        tasks[index].result()
        return index
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
