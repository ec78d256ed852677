"""One store made of two: what must outlive a power loss in one, what is void then in another that costs no disk sync."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernel.store.store import Store


class SplitStore:
    """synced, other: where entries are kept; is_synced says which. All changes of a write are made, or, when the process ends in
    between, only those of `synced`: what is written together must make sense so."""

    def __init__(self, synced: Store, other: Store, is_synced: Callable[[str], bool]) -> None:
        self._synced, self._other, self._is_synced = synced, other, is_synced

    async def load(self) -> dict[str, bytes]:
        return {**await self._other.load(), **await self._synced.load()}

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        synced = [change for change in changes if self._is_synced(change[0])]
        if synced:
            await self._synced.write(synced)
            changes = [change for change in changes if not self._is_synced(change[0])]
        if changes:
            await self._other.write(changes)

    async def close(self) -> None:
        await self._synced.close()
        await self._other.close()
