"""Reading on in what a container prints: its files are the source, so nobody sits between it and them, and a restart of the agent loses
nothing but those who read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from kernel.errors import KernelError
from kernel.net.files import READ_BYTES_MAX, Files, in_thread
from kernel.wire.agent_operator import DataType

STREAMS = {"stdout": DataType.STDOUT, "stderr": DataType.STDERR}
PAUSE_FIRST_S, PAUSE_LAST_S = 0.02, 0.2  # Between two looks: right after there was something, and after a while of silence.

Take = Callable[[DataType, bytes], Awaitable[None]]


async def ends(files: Files, sandbox: str) -> dict[str, int]:
    """How far a container's files go by now, by name. sandbox: its virtual path."""
    return {name: (await in_thread(_piece, files, f"{sandbox}/{name}", None))[0] for name in STREAMS}


async def follow(files: Files, sandbox: str, offsets: dict[str, int], ended: asyncio.Future[Any], take: Take) -> None:
    """Give `take` what is written to a container's files behind these offsets, also over their rotation; returns when all is read of one
    that has ended. take: may wait; what comes meanwhile is in the files."""
    pause_s = PAUSE_FIRST_S
    while True:
        last = ended.done()  # Known before the files are read: what is read then is all.
        silent = True
        for name, kind in STREAMS.items():
            while True:
                offsets[name], data = await in_thread(_piece, files, f"{sandbox}/{name}", offsets[name])
                if not data:
                    break
                silent = False
                await take(kind, data)
        if last:
            return
        pause_s = min(2 * pause_s, PAUSE_LAST_S) if silent else PAUSE_FIRST_S
        await asyncio.wait({ended}, timeout=pause_s)


def _piece(files: Files, path: str, offset: int | None) -> tuple[int, bytes]:
    """What stands at an offset, and the offset behind it; None: behind all. A file that is not there yet is empty."""
    try:
        total, begin, data = files.follow(path, offset or 0, 0 if offset is None else READ_BYTES_MAX)
    except KernelError:
        return offset or 0, b""
    return total if offset is None else begin + len(data), data
