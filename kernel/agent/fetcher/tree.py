"""A folder that is filled for a task's user by what nobody vouches for: archives, and names that he chose.

Every file is made beside open folders, none of which is reached through a link; links are made when all else is there. Refused by
its name is what lies or leads outside. Owners, set-id bits and folders' modes are not taken over. Works in a thread: it waits for the disk.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from kernel.agent.fetcher.budget import Budget
from kernel.agent.fetcher.plan import FetchError, quoted

PIECE_BYTES = 256 << 10
FOLDER_MODE = 0o755
DEPTH_MAX = 100  # What removes and hands over folders goes one step deeper for each.
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Tree:
    """A folder that is filled; links are made at the end."""

    def __init__(self, folder: str, budget: Budget) -> None:
        self._folder, self._budget = folder, budget
        self._links: dict[str, str] = {}

    def __enter__(self) -> Tree:
        self._root = os.open(self._folder, FOLDER)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._make_links()
        finally:
            os.close(self._root)

    def add_folder(self, name: str) -> None:
        with self._opened(_parts(name)):
            pass

    def add_file(self, name: str, mode: int, content: Readable, changed_s: float | None = None) -> None:
        """changed_s: when it was changed last, wall clock."""
        with self.place(name) as (folder, last):
            fd = os.open(last, _NEW_FILE, (mode & 0o777) | stat.S_IRUSR | stat.S_IWUSR, dir_fd=folder)
            with open(fd, "wb", buffering=0) as file:
                while piece := content.read(PIECE_BYTES):
                    self._budget.take(len(piece))
                    write_all(file.fileno(), piece)
                if changed_s is not None:
                    try:
                        os.utime(fd, (changed_s, changed_s))
                    except (OSError, OverflowError, ValueError):
                        pass  # A time that there is not: it is as old as its copy.

    def add_link(self, name: str, target: str) -> None:
        parts = _parts(name)
        inside = posixpath.normpath(posixpath.join(*parts[:-1], target))
        if not parts or not target or target.startswith("/") or "\0" in target or inside.split("/")[0] == "..":
            raise FetchError(f"the link {quoted(name)} leads outside, to {quoted(target)}")
        self._budget.take_entry()
        self._links["/".join(parts)] = target

    def add_hard_link(self, name: str, target: str) -> None:
        source = _parts(target)
        if not source:
            raise FetchError(f"the link {quoted(name)} leads to {quoted(target)}")
        try:
            with self._opened(source[:-1], make=False) as from_folder:
                if not stat.S_ISREG(os.stat(source[-1], dir_fd=from_folder, follow_symlinks=False).st_mode):
                    raise FetchError(f"the link {quoted(name)} leads to {quoted(target)}, which is not a file")
                with self.place(name) as (folder, last):
                    os.link(source[-1], last, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            raise FetchError(f"the link {quoted(name)} leads to {quoted(target)}, which is not there") from None

    def _make_links(self) -> None:
        for name, target in self._links.items():
            with self.place(name) as (folder, last):
                os.symlink(target, last, dir_fd=folder)
        root = os.path.realpath(self._folder)
        for name, target in self._links.items():  # Together they may lead where none does alone.
            if os.path.commonpath((root, os.path.realpath(f"{root}/{name}"))) != root:
                raise FetchError(f"the link {quoted(name)} leads outside, to {quoted(target)}")

    @contextmanager
    def place(self, name: str) -> Iterator[tuple[int, str]]:
        """The folder that something goes into, and its name there, which is free: the last of several has it, as with tar."""
        parts = _parts(name)
        if not parts:
            raise FetchError(f"{quoted(name)} is no name for a file")
        self._budget.take_entry()
        with self._opened(parts[:-1]) as folder:
            try:
                os.unlink(parts[-1], dir_fd=folder)
            except FileNotFoundError:
                pass
            except (IsADirectoryError, PermissionError):
                raise FetchError(f"{quoted(name)} is there both as a file and as a folder") from None
            yield folder, parts[-1]

    @contextmanager
    def _opened(self, parts: list[str], make: bool = True) -> Iterator[int]:
        """A folder below the root, made with its parents where missing. Never through a link."""
        fd = os.dup(self._root)
        try:
            for part in parts:
                if make:
                    try:
                        os.mkdir(part, FOLDER_MODE, dir_fd=fd)
                        self._budget.take_entry()
                    except FileExistsError:
                        pass
                try:
                    below = os.open(part, FOLDER, dir_fd=fd)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    raise FetchError(f"{quoted('/'.join(parts))} is not a folder") from None
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)


def _parts(name: str) -> list[str]:
    """A member's name as steps from the root; the root itself has none. Raises FetchError when it is not below the root."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise FetchError(f"{quoted(name)} would lie outside")
    if len(parts) > DEPTH_MAX:
        raise FetchError(f"{quoted(name)} is more than {DEPTH_MAX} folders deep")
    return parts


@contextmanager
def created(path: str) -> Iterator[int]:
    """A new file to write to, closed at the end, for the agent alone. Raises OSError."""
    fd = os.open(path, _NEW_FILE, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write to a file, all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
