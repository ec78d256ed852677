"""The election interface: which of several equal daemons leads, and where it is."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct


class Leader(Struct, frozen=True):
    """A daemon that may lead, as the others and the clients need to know it.

    id: unique to this start of the process (master id; empty when only the address is known). hostname:
    what clients connect to; ip: its address, empty when not known.
    """

    id: str
    hostname: str
    ip: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, as it stands in URLs."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{host}:{self.port}"


class Contender(Protocol):
    """Strives to lead, once: a process that has lost its leadership exits and starts anew."""

    async def contend(self) -> None:
        """Return as soon as this process leads. Raises Unavailable when it cannot take part."""

    async def confirm(self) -> None:
        """Return while this process leads for certain; wait while that cannot be known. Raises Unavailable when it
        leads no more, or nobody could tell for too long. Awaited before anything decided is done."""

    async def lost(self) -> None:
        """Return when the leadership won is lost; nothing may be decided after."""

    async def withdraw(self) -> None:
        """Give up at once, so that another can lead without waiting for a timeout."""


class Detector(Protocol):
    """Tells who leads."""

    async def detect(self, known: Leader | None) -> Leader | None:
        """Return the leader (None: there is none) as soon as it is another than `known`."""

    async def close(self) -> None:
        """Stop watching; a `detect` under way never returns and is to be cancelled."""
