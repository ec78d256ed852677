"""Long work on the disk in a thread, a bit at a time: it neither holds up the event loop nor takes a processor for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

SLICE_S = 0.02
REST_S = 0.03  # Between two slices: at most two fifths of a processor.


class Slices:
    """One thread for work that is written as generators: each `yield` is a place where it may pause."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Generator[Any, None, T]) -> T:
        """Return what the work returns, raise what it raises."""
        while True:
            ended = await asyncio.get_running_loop().run_in_executor(self._thread, _slice, work)
            if ended is not None:
                return ended[0]
            await asyncio.sleep(REST_S)

    def close(self) -> None:
        """Let go of the thread, after the present slice."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _slice(work: Generator[Any, None, T]) -> tuple[T] | None:
    until_s = time.monotonic() + SLICE_S
    try:
        while time.monotonic() < until_s:
            next(work)
    except StopIteration as ended:  # It cannot be raised through a future.
        return (ended.value,)
    return None
