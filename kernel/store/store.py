"""The store interface: what a daemon must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Store(Protocol):
    """A small ordered map of text keys (`agents/ID`) to bytes. One daemon owns it at a time."""

    async def load(self) -> dict[str, bytes]:
        """Return everything kept. Raises StoreError."""

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """Apply all changes in order, or none; durable on return. None removes a key. Raises StoreError."""

    async def close(self) -> None:
        """Let go of files and connections; `write` may not be called after."""
