"""Typing on the terminals of containers that run: the launcher has them, here they are borrowed as long as somebody types."""

from __future__ import annotations

import asyncio
import fcntl
import os
import termios
from typing import Any

from kernel.agent.sessions import window_bytes
from kernel.wire.container import WindowSize

END = b"\x04"  # Ctrl-D: what ends the input of who reads lines from a terminal.


class Terminal:
    """One, until `close`. over: done once its container has ended."""

    def __init__(self, fd: int, over: asyncio.Future[Any]) -> None:
        """fd: does not block; closed here."""
        self.over = over
        self._fd = fd

    async def write(self, data: bytes) -> None:
        """Type; nothing is the end of the input. Waits as long as nobody takes it; after its container's end it goes nowhere."""
        data = data or END
        while data and not self.over.done():
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                await self._room()
            except OSError:  # Hung up.
                return

    async def _room(self) -> None:
        loop = asyncio.get_running_loop()
        room: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._fd, _set, room)
        try:
            waited: set[asyncio.Future[Any]] = {room, self.over}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_writer(self._fd)

    def resize(self, size: WindowSize) -> None:
        """Tell how large the window is; the kernel tells the programs in it."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, window_bytes(size))

    def close(self) -> None:
        os.close(self._fd)


def _set(room: asyncio.Future[None]) -> None:
    if not room.done():
        room.set_result(None)
