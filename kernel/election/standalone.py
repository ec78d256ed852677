"""Election without a quorum: a single daemon leads, at a known address."""

from __future__ import annotations

import asyncio

from kernel.election.election import Leader
from kernel.errors import ConfigError


class StandaloneContender:
    """Leads at once and until it withdraws."""

    def __init__(self) -> None:
        self._withdrawn = asyncio.Event()

    async def contend(self) -> None:
        pass

    async def confirm(self) -> None:
        pass

    async def lost(self) -> None:
        await self._withdrawn.wait()

    async def withdraw(self) -> None:
        self._withdrawn.set()


class FixedDetector:
    """Knows one leader that never changes."""

    def __init__(self, leader: Leader) -> None:
        self.leader = leader

    async def detect(self, known: Leader | None) -> Leader | None:
        if known == self.leader:
            await asyncio.Event().wait()  # No other will ever come.
        return self.leader

    async def close(self) -> None:
        pass


def parse_address(text: str) -> Leader:
    """Return the leader at `host:port` (`[v6]:port`; a leading `http://` is dropped). Raises ConfigError."""
    host, _, port = text.removeprefix("http://").rstrip("/").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"master: {text!r} is no address; give host:port")
    return Leader(id="", hostname=host, ip="", port=int(port))
