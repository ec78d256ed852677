"""How much a fetch may write, and whether it is still wanted: asked before each piece, in whatever thread writes it."""

from __future__ import annotations

import os
import threading

from kernel.agent.fetcher.plan import FetchError

ENTRIES_MAX = 500_000  # Files and folders that one container may be given.
FREE_SHARE_MIN, FREE_BYTES_MIN = 0.05, 10 << 30  # The smaller of both is left to the agent and everybody else.
LOOK_EVERY_BYTES = 16 << 20


class Cancelled(Exception):
    """Nobody wants it any more. Never leaves the fetcher."""


class Budget:
    """Bounds all that is written for one container, or for one file of the cache."""

    def __init__(self, bytes_max: int, folder: str) -> None:
        """folder: on the file system that is not to be filled."""
        self._bytes_max, self._folder = bytes_max, folder
        self._lock = threading.Lock()
        self._until_look = 0
        self._cancelled = False
        self.bytes = 0
        self.entries = 0

    def cancel(self) -> None:
        """Whoever writes stops at the next piece."""
        self._cancelled = True

    def check(self) -> None:
        """Raises Cancelled."""
        if self._cancelled:
            raise Cancelled

    def expect(self, size: int) -> None:
        """Refuse what announces itself as too large. Raises FetchError."""
        if self.bytes + size > self._bytes_max:
            raise FetchError(f"it is too large: {size} bytes; {self._described}")

    def take(self, size: int) -> None:
        """Ask to write so many bytes more. Raises FetchError, Cancelled."""
        self.check()
        with self._lock:
            self.bytes += size
            self._until_look -= size
            look = self._until_look < 0
            if look:
                self._until_look = LOOK_EVERY_BYTES
        if self.bytes > self._bytes_max:
            raise FetchError(f"it is too large: {self._described}")
        if look:
            self._look()

    def take_entry(self) -> None:
        """Ask to make one file, folder or link more. Raises FetchError, Cancelled."""
        self.check()
        self.entries += 1
        if self.entries > ENTRIES_MAX:
            raise FetchError(f"it has too many files: a container may be given {ENTRIES_MAX}")

    def pass_over(self, position: int) -> None:
        """What is read of an archive and not written takes time, too. position: bytes unpacked so far. Raises FetchError, Cancelled."""
        self.check()
        if position > 2 * self._bytes_max:
            raise FetchError(f"it is too large: {self._described}")

    @property
    def _described(self) -> str:
        return f"fetched and extracted files may have {self._bytes_max} bytes together (--fetcher-bytes-max)"

    def _look(self) -> None:
        system = os.statvfs(self._folder)
        if system.f_bavail * system.f_frsize < min(system.f_blocks * system.f_frsize * FREE_SHARE_MIN, FREE_BYTES_MIN):
            raise FetchError("the agent's disk is full")
