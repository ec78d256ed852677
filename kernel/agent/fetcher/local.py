"""Files of the agent's own machine, read with the rights of the task's user: what he may not read is not read for him."""

from __future__ import annotations

import asyncio
import ctypes
import os
import stat
import threading
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from kernel.agent.fetcher.budget import Budget, Cancelled
from kernel.agent.fetcher.plan import FetchError
from kernel.agent.fetcher.tree import PIECE_BYTES, created, write_all

T = TypeVar("T")

_SETGROUPS = {"x86_64": 116, "aarch64": 159}
_UNCHANGED = -1
_libc = ctypes.CDLL(None, use_errno=True)


class Owner(NamedTuple):
    """A user by his numbers. What programs are told of him besides: name, and home, his folder."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


async def copy(path: str, target: str, owner: Owner | None, budget: Budget) -> None:
    """Copy a file as a user, None for the agent's own. Raises FetchError, OSError. A cancelled one may stop later: a
    file system that does not answer cannot be hurried. By then it writes to a file that nobody else has."""
    with created(target) as fd:
        own = os.dup(fd)
    await _in_own_thread(lambda: _copy(path, own, owner, budget), budget)


async def size(path: str, owner: Owner | None, budget: Budget) -> int:
    """How many bytes a file has. Raises as copy does."""
    return await _in_own_thread(lambda: _size(path, owner), budget)


def _copy(path: str, target: int, owner: Owner | None, budget: Budget) -> None:
    with open(target, "wb", buffering=0), open(_open_as(path, owner), "rb", buffering=0) as source:
        budget.expect(os.fstat(source.fileno()).st_size)
        while piece := source.read(PIECE_BYTES):
            budget.take(len(piece))
            write_all(target, piece)


def _size(path: str, owner: Owner | None) -> int:
    with open(_open_as(path, owner), "rb", buffering=0) as source:
        return os.fstat(source.fileno()).st_size


def _open_as(path: str, owner: Owner | None) -> int:
    """Open a plain file. Changes the calling thread for good."""
    if owner is not None:
        _see_as(owner)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise FetchError(error.strerror) from error
    found = os.fstat(fd)
    # In /proc a thread may look into its own process, whoever it is: that is the agent's memory.
    if not stat.S_ISREG(found.st_mode) or found.st_dev == os.stat("/proc").st_dev:
        os.close(fd)
        raise FetchError("Is a directory" if stat.S_ISDIR(found.st_mode) else "it is not a plain file")
    return fd


def _see_as(owner: Owner) -> None:
    """Have the kernel judge this thread's access to files as a user's. Its other ids stay: else his processes could send signals to us.

    Raises FetchError.
    """
    number = _SETGROUPS.get(os.uname().machine)
    if number is None:
        raise FetchError(f"reading files as another user is not built for {os.uname().machine}")
    # By a raw call: that of libc concerns all threads.
    if _libc.syscall(number, len(owner.groups), (ctypes.c_uint * len(owner.groups))(*owner.groups)) != 0:
        raise FetchError(f"cannot read as {owner.name}: {os.strerror(ctypes.get_errno())}")
    _libc.setfsgid(owner.gid)
    _libc.setfsuid(owner.uid)  # Takes away root's way around permissions, too.
    if _libc.setfsgid(_UNCHANGED) != owner.gid or _libc.setfsuid(_UNCHANGED) != owner.uid:
        raise FetchError(f"cannot read as {owner.name}")


async def _in_own_thread(function: Callable[[], T], budget: Budget) -> T:
    """Call in a thread that is used for nothing else."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, problem = None, None
        try:
            result = function()
        except Cancelled:
            return
        except Exception as error:
            problem = error
        try:
            loop.call_soon_threadsafe(settle, result, problem)
        except RuntimeError:
            pass  # The agent has left meanwhile.

    threading.Thread(target=work, name="fetcher-local", daemon=True).start()
    try:
        return await answer
    except asyncio.CancelledError:
        budget.cancel()
        raise
