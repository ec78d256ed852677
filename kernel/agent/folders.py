"""Folders below which others may put symlinks at any moment: opened part by part, so that none is followed."""

from __future__ import annotations

import os

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_folder(path: str) -> int:
    """Open a folder by its absolute path, none of whose parts may be a symlink. Raises OSError, NotADirectoryError for a symlink."""
    *parents, last = path.strip("/").split("/")
    at = os.open("/", _PART)
    try:
        for name in parents:
            at = step(at, name, _PART)
        return os.open(last, FOLDER, dir_fd=at)
    finally:
        os.close(at)


def step(at: int, name: str, flags: int = FOLDER) -> int:
    """Go from an open folder, which is closed if that works, into one of its own. Raises OSError."""
    onward = os.open(name, flags, dir_fd=at)
    os.close(at)
    return onward
