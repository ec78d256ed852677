"""Rotates what tasks print: moves the beginning of `stdout` to `stdout.1`, that to `stdout.2`, and so on, while the task writes on.

Nobody sits between a task and its files, which are open for appending. So the beginning is copied and then cut off: where the file
system can (ext4, XFS), as whole blocks from the front, by which nothing is lost; elsewhere by truncation, after as much was copied as
there is. What was cut off so far is counted in `.stdout.rotated`, for those who follow (`read_following`).

A sandbox belongs to a task's user, who may put anything there at any moment: only plain files of his, or ours, with one name are touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import itertools
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping

from kernel.agent.config import AgentConfig
from kernel.agent.folders import open_folder
from kernel.agent.sandboxes.rotation import LOOK_FIRST_S, STREAMS, LogLimit, kept, log_limits, next_look_s
from kernel.agent.sandboxes.slices import Slices
from kernel.errors import KernelError

log = logging.getLogger(__name__)

Read = Callable[[str, int, int], tuple[int, bytes]]  # Of a path from an offset at most so many bytes: the size of the file, and they.

TURN_S = 0.5
PIECE_BYTES = 4 << 20
CATCH_UPS_MAX = 100  # Before a file that grows faster than it is copied is truncated all the same.
COUNT_BYTES = 32
_COLLAPSE_RANGE = 0x08
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

_CUTTING = threading.Lock()
"""Held while what was copied is cut off and counted: who follows must not read between the two."""


class _Log:
    """One stream of a container. size: as last seen, at seen_s."""

    def __init__(self, directory: str, stream: str, limit: LogLimit, now_s: float) -> None:
        self.directory, self.stream, self.limit = directory, stream, limit
        self.size, self.seen_s, self.pause_s = 0, now_s, LOOK_FIRST_S

    @property
    def due_s(self) -> float:
        return self.seen_s + self.pause_s


class Rotator:
    """Looks at the files of live containers, at each when it can have grown too large."""

    def __init__(self, config: AgentConfig, mono_s: Callable[[], float] = time.monotonic) -> None:
        self._config, self._mono_s = config, mono_s
        self._slices = Slices("rotation")
        self._logs: dict[str, list[_Log]] = {}  # By container.

    def watch(self, container_id: str, directory: str, env: Mapping[str, str]) -> None:
        """A container runs, or is about to."""
        limits, now_s = log_limits(self._config, env), self._mono_s()
        self._logs[container_id] = [_Log(directory, stream, limits[stream], now_s) for stream in STREAMS if limits[stream].bytes_max]

    def forget(self, container_id: str) -> None:
        """It has ended: its files grow no more."""
        self._logs.pop(container_id, None)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(TURN_S)
        finally:
            self._slices.close()

    async def look(self) -> None:
        """Once: rotate what is too large."""
        now_s = self._mono_s()
        due = [found for logs in self._logs.values() for found in logs if found.due_s <= now_s]
        if due:
            await self._slices.run(_look_at(due, now_s))


def _look_at(due: list[_Log], now_s: float) -> Generator[None, None, None]:
    for found in due:
        yield
        grown_to = size = found.size
        try:
            grown_to, size = _look(found)
        except OSError as error:  # Not there yet; or its task did something to it: its size is not ours to hold then.
            log.debug("%s/%s: %s", found.directory, found.stream, error)
        found.pause_s = next_look_s(size, grown_to - found.size, now_s - found.seen_s, found.pause_s, found.limit.bytes_max)
        found.size, found.seen_s = size, now_s


def _look(found: _Log) -> tuple[int, int]:
    """Rotate a file that is too large; return how large it was and is. Raises OSError."""
    folder = open_folder(found.directory)
    try:
        size = os.stat(found.stream, dir_fd=folder, follow_symlinks=False).st_size
        return size, size if size < found.limit.bytes_max else rotate(folder, found.stream, found.limit)
    finally:
        os.close(folder)


def rotate(folder: int, name: str, limit: LogLimit) -> int:
    """Move what is in a file away, return its size after that. Raises OSError."""
    with _opened(name, folder) as source:
        found = os.fstat(source)
        blocks = max(0, found.st_size - 1) // found.st_blksize * found.st_blksize  # The end of a file cannot be cut off so.
        sizes = _rotated(folder, name)
        stay = kept(sizes, limit, found.st_size)
        for number in range(stay, len(sizes)):
            os.unlink(f"{name}.{number + 1}", dir_fd=folder)
        fresh = f".{name}.new"
        with _fresh(fresh, folder, found) as copy:
            _copy(source, copy, max(0, found.st_size - limit.bytes_max * limit.files_max), blocks)
            with _CUTTING:
                if limit.files_max:
                    for number in range(stay, 0, -1):
                        os.rename(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=folder, dst_dir_fd=folder)
                    os.rename(fresh, f"{name}.1", src_dir_fd=folder, dst_dir_fd=folder)
                gone = _cut(source, copy, blocks)
                _count(folder, name, found, gone)
        if not limit.files_max:
            os.unlink(fresh, dir_fd=folder)
        return os.fstat(source).st_size


def _cut(source: int, copy: int, blocks: int) -> int:
    """Cut off what was copied, return how much that was. Where that cannot be done from the front, the rest is copied, too."""
    if blocks and _libc.fallocate(source, _COLLAPSE_RANGE, 0, blocks) == 0:
        return blocks
    copied = blocks
    for _ in range(CATCH_UPS_MAX):
        size = os.fstat(source).st_size
        if size <= copied:
            break
        _copy(source, copy, copied, size)
        copied = size
    os.ftruncate(source, 0)  # What was written since the last look at the size is lost.
    return copied


def written(directory: str, name: str) -> int:
    """How much was ever written to a file of a sandbox, what was rotated away included. Raises OSError."""
    folder = open_folder(directory)
    try:
        with _CUTTING:
            return _read_count(folder, name) + os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    finally:
        os.close(folder)


def _copy(source: int, copy: int, begin: int, end: int) -> None:
    while begin < end:
        sent = os.sendfile(copy, source, begin, min(PIECE_BYTES, end - begin))
        if sent == 0:  # Its task has truncated it.
            return
        begin += sent


def _count(folder: int, name: str, owner: os.stat_result, gone: int) -> None:
    total = gone + _read_count(folder, name)
    fresh = f".{name}.count"
    with _fresh(fresh, folder, owner) as file:
        os.write(file, str(total).encode())
    os.rename(fresh, _count_name(name), src_dir_fd=folder, dst_dir_fd=folder)


def _count_name(name: str) -> str:
    return f".{name}.rotated"


def _read_count(folder: int, name: str) -> int:
    try:
        with _opened(_count_name(name), folder) as file:
            return _parsed(os.read(file, COUNT_BYTES))
    except FileNotFoundError:
        return 0


def _parsed(data: bytes) -> int:
    """A count that a task may have written: anything else is 0."""
    return int(data) if data.isdigit() and len(data) < 18 else 0


def _rotated(folder: int, name: str) -> list[int]:
    """The sizes of the rotated files, newest first."""
    sizes: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        while True:
            sizes.append(os.stat(f"{name}.{len(sizes) + 1}", dir_fd=folder, follow_symlinks=False).st_size)
    return sizes


@contextlib.contextmanager
def _opened(name: str, folder: int) -> Iterator[int]:
    """A plain file of the sandbox's owner, or of ours (containers with images), that has no other name: not one of somebody else's that
    was linked here. Raises OSError."""
    located = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(located)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in (os.fstat(folder).st_uid, os.geteuid()):
            raise OSError(errno.EPERM, "not a file that is only its task's")
        file = os.open(f"/proc/self/fd/{located}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(located)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def _fresh(name: str, folder: int, owner: os.stat_result) -> Iterator[int]:
    """A new file, with owner and mode of another; it is removed when what is done with it fails. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        if os.geteuid() == 0:
            os.fchown(file, owner.st_uid, owner.st_gid)
        os.fchmod(file, stat.S_IMODE(owner.st_mode) & 0o666)
        yield file
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
        raise
    finally:
        os.close(file)


# ---- Reading on -------------------------------------------------------------------------------------------


def read_following(read: Read, path: str, offset: int, length: int) -> tuple[int, int, bytes]:
    """What `Files.follow` promises: what was rotated away is read from where it is now. The data begins later than asked for where that
    is not kept any more, and sooner where the file has become shorter by itself. read: as `Files.read`. Raises as that does."""
    folder, _, name = path.rstrip("/").rpartition("/")
    with _CUTTING:
        size, _ = read(path, 0, 0)
        start = _parsed(_piece(read, f"{folder}/{_count_name(name)}", COUNT_BYTES)[1])
        total = start + size
        begin, source = min(offset, total), path
        for number in itertools.count(1):
            older = f"{path}.{number}"
            if begin >= start or not (size := _piece(read, older, 0)[0]):
                break
            source, start = older, start - size
        begin = max(begin, start)
        return total, begin, read(source, begin - start, length)[1]


def _piece(read: Read, path: str, length: int) -> tuple[int, bytes]:
    try:
        return read(path, 0, length)
    except KernelError:  # It is not there, or is something else.
        return 0, b""
