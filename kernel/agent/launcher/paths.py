"""Opening files along paths in which others may have put symlinks: none is followed, neither at the end nor on the way."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_OPENAT2, _AT_FDCWD, _NO_SYMLINKS = 437, -100, 0x04  # Linux 5.6.
_UNKNOWN = (errno.ENOSYS, errno.EPERM)  # The latter from filters of system calls that are older than it; or it is meant: then both say so.

_libc = ctypes.CDLL(None, use_errno=True)


def open_without_links(path: str, flags: int, mode: int) -> int:
    """The file descriptor. Raises OSError: at a symlink ELOOP or ENOTDIR."""
    try:
        return _at_once(path, flags, mode)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    return step_by_step(path, flags, mode)


def _at_once(path: str, flags: int, mode: int) -> int:
    how = struct.pack("QQQ", flags, mode if flags & os.O_CREAT else 0, _NO_SYMLINKS)
    fd: int = _libc.syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), how, len(how))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def step_by_step(path: str, flags: int, mode: int) -> int:
    """The same without openat2: each folder is opened in the one before it, so what is swapped meanwhile changes nothing."""
    *folders, last = path.split("/")
    at = os.open("/" if path.startswith("/") else ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in filter(None, folders):
            above, at = at, os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(above)
        return os.open(last or ".", flags | os.O_NOFOLLOW, mode, dir_fd=at)
    finally:
        os.close(at)
