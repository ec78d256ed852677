"""A queue with a bound, and a few workers that empty it: for what is done beside the scheduler, which waits for none of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from kernel.net.session import Session, open_session

T = TypeVar("T")


class Workers(Generic[T]):
    """work: deals with one, over a session that all share. at_once: how many are dealt with at a time. headers: of the session."""

    def __init__(
        self, work: Callable[[Session, T], Awaitable[None]], *, at_once: int, waiting_max: int, headers: dict[str, str] | None = None
    ) -> None:
        self._do, self._at_once, self._waiting_max, self._headers = work, at_once, waiting_max, headers or {}
        self._waiting: deque[T] = deque()
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, one: T) -> bool:
        """Take one in, without waiting. False: so many wait already that it is given up."""
        if len(self._waiting) >= self._waiting_max:
            return False
        self._waiting.append(one)
        self._wake.set()
        return True

    async def run(self) -> None:
        """Work for ever. Raises what `work` raises, and then nobody works."""
        async with open_session(self._headers) as http:
            workers = [asyncio.create_task(self._work(http)) for _ in range(self._at_once)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()

    async def _work(self, http: Session) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            await self._do(http, self._waiting.popleft())
