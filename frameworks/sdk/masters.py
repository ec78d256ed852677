"""Where a framework looks for the leading master: addresses that are tried in turn, or an ensemble that knows it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kernel.election.detection import ZK, find_master
from kernel.election.election import Detector, Leader
from kernel.net.session import base_url

PORT = 5050
NEXT_S = 5.0  # How long another leader is waited for when the one that is known does not answer.


class Masters:
    """One for each framework; used by one attempt at a time."""

    def __init__(self, masters: Sequence[str]) -> None:
        """masters: URLs, or one `zk://...`. Raises ValueError when one is neither, ConfigError for a wrong `zk://...`."""
        self._zk = masters[0] if masters and masters[0].startswith(ZK) else None
        self._urls = [] if self._zk else [base_url(master, PORT) for master in masters]
        if self._zk is not None:
            from kernel.zookeeper import parse_url  # kazoo is only for those who have an ensemble.

            parse_url(self._zk)
        self._tries = 0
        self._detector: Detector | None = None
        self._leader: Leader | None = None
        self._silent = False

    async def find(self, last: str | None) -> str:
        """The URL to try now. last: the one that was the leader's until now, if any."""
        if self._zk is None:
            return last or self._urls[self._tries % len(self._urls)]
        if self._detector is None:
            self._detector = find_master(self._zk)
        if self._silent:
            try:
                async with asyncio.timeout(NEXT_S):
                    await self._detector.detect(self._leader)
            except TimeoutError:
                pass
        self._leader = None
        while self._leader is None:
            self._leader = await self._detector.detect(None)
        return f"http://{self._leader.address}"

    async def moved(self) -> None:
        """Return when the leader that was found leads no more; never, where that cannot be known."""
        if self._detector is None:
            await asyncio.Event().wait()
        else:
            await self._detector.detect(self._leader)

    def ended(self, answered: bool) -> None:
        """The attempt, or the connection, has ended. answered: whether there was any answer."""
        self._tries += 1
        self._silent = not answered

    async def close(self) -> None:
        if self._detector is not None:
            await self._detector.close()
