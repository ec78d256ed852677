"""A store that forgets at exit: for tests, simulations and daemons started with `--registry=in_memory`."""

from __future__ import annotations

from collections.abc import Sequence


class MemoryStore:
    """Keeps everything in one dictionary. kept: what a store before this one left behind, shared with it."""

    def __init__(self, kept: dict[str, bytes] | None = None) -> None:
        self.kept: dict[str, bytes] = {} if kept is None else kept

    async def load(self) -> dict[str, bytes]:
        return dict(self.kept)

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        for key, value in changes:
            if value is None:
                self.kept.pop(key, None)
            else:
                self.kept[key] = value

    async def close(self) -> None:
        pass
