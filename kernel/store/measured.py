"""A store that is watched: how long it takes, how much it holds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kernel.metrics import Timer
from kernel.store.store import Store

WINDOW_S = 86_400.0


class MeasuredStore:
    """Any store, unchanged, with numbers about it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}
        self._size_bytes = 0
        self._fetch_s: float | None = None
        self._writes = Timer(WINDOW_S)
        self._under_way = 0

    async def load(self) -> dict[str, bytes]:
        started_s = time.perf_counter()
        entries = await self._store.load()
        self._fetch_s = time.perf_counter() - started_s
        self._sizes = {key: len(key) + len(value) for key, value in entries.items()}
        self._size_bytes = sum(self._sizes.values())
        return entries

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        started_s = time.perf_counter()
        self._under_way += len(changes)
        try:
            await self._store.write(changes)
        finally:
            self._under_way -= len(changes)
        ended_s = time.perf_counter()
        self._writes.record(ended_s - started_s, ended_s)
        for key, value in changes:
            size = 0 if value is None else len(key) + len(value)
            self._size_bytes += size - (self._sizes.pop(key, 0) if value is None else self._sizes.get(key, 0))
            if value is not None:
                self._sizes[key] = size

    async def close(self) -> None:
        await self._store.close()

    def numbers(self) -> dict[str, float]:
        """By the names that Mesos has for its registry."""
        found = {
            "registrar/queued_operations": float(self._under_way),
            "registrar/registry_size_bytes": float(self._size_bytes),
            **self._writes.numbers("registrar/state_store_ms"),
        }
        if self._fetch_s is not None:
            found |= {"registrar/state_fetch_ms": self._fetch_s * 1e3, "registrar/log/recovered": 1.0}
        return found
