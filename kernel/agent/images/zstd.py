"""Unpacking zstd by the program of that name: Python has none before 3.14."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from kernel.agent.images.config import ImageError

END_S = 30.0


@contextmanager
def unpacked(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """What is packed in a file, as a stream; the file is not to be used meanwhile. Raises ImageError, at the end for what is broken."""
    program = shutil.which("zstd")
    if program is None:
        raise ImageError("its layers are packed with zstd, for which the program zstd is needed: it is not installed on this agent")
    process = subprocess.Popen([program, "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    feeder = threading.Thread(target=_feed, args=(packed, process.stdin), daemon=True)
    feeder.start()
    try:
        yield process.stdout
        errors = process.stderr.read().decode(errors="replace").strip()
        if process.wait(END_S):
            raise ImageError(f"a layer cannot be unpacked: {errors[-300:]}")
    finally:
        process.kill()
        feeder.join()  # Its pipe is broken now, if it was not at its end.
        process.wait()
        process.stdout.close()
        process.stderr.close()


def _feed(packed: IO[bytes], pipe: IO[bytes]) -> None:
    try:
        with pipe:
            shutil.copyfileobj(packed, pipe, 1 << 20)
    except OSError:  # It reads no more; or the file cannot be read, which it notices by the end that comes too early.
        pass
