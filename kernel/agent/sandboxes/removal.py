"""Takes sandboxes off the disk, whatever their tasks have left in them and go on doing there.

A sandbox is first moved, at once and as a whole, into a folder that only the agent can enter; from then on nobody finds it.
There it is flattened: files of a folder are removed, its folders are moved up, beside it. So no path has more than one part
below a folder of ours: nothing is ever followed (symlinks, `..`, a folder exchanged for something else), any depth costs the same,
and what is mounted inside, which cannot be moved, is never entered.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import stat
from collections import Counter
from collections.abc import Generator, Iterator

from kernel.agent import layout, sandbox
from kernel.agent.sandboxes.collection import Sandbox

BIN = "\\removed"  # Below slaves/. No id is like this.
TRIES_MAX = 3  # For a folder that does not get empty: somebody still writes there, or something in it cannot be removed.
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = 0o700


class Found:
    """What a search found. empty: folders of executors, frameworks and agents without sandboxes."""

    def __init__(self) -> None:
        self.sandboxes: list[Sandbox] = []
        self.empty: list[str] = []


def search(slaves: str, parents: frozenset[str]) -> Generator[None, None, Found]:
    """List all sandboxes below `slaves`, of earlier agents too. parents: those in which nested ones are to be listed as well."""
    found = Found()
    for agent in _folders(slaves):
        if agent.name == BIN:
            continue
        frameworks = _folders(f"{agent.path}/frameworks")
        for framework in frameworks:
            executors = _folders(f"{framework.path}/executors")
            for executor in executors:
                runs = f"{executor.path}/runs"
                before = len(found.sandboxes)
                for run in _folders(runs):
                    yield
                    _note(found, run, None)
                    if run.path in parents:
                        for nested in _folders(f"{run.path}/containers"):
                            _note(found, nested, run.path)
                if len(found.sandboxes) == before:
                    found.empty.append(runs)
            if not executors:
                found.empty.append(f"{framework.path}/executors")
        if not frameworks:
            found.empty.append(f"{agent.path}/frameworks")
    return found


def _folders(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _note(found: Found, entry: os.DirEntry[str], parent: str | None) -> None:
    with contextlib.suppress(FileNotFoundError):
        found.sandboxes.append(Sandbox(entry.path, entry.stat(follow_symlinks=False).st_ctime, parent))


class Bin:
    """The folder for what is to be removed, below `slaves`. Each thing in it is a folder with a name of chance, around a sandbox."""

    def __init__(self, slaves: str) -> None:
        self._slaves = slaves
        self._names = (f"{secrets.token_hex(8)}-{number}" for number in itertools.count())

    def take(self, path: str) -> None:
        """Move a sandbox here. Raises OSError."""
        with contextlib.ExitStack() as opened:
            top = _enter(opened, self._slaves)
            with contextlib.suppress(FileExistsError):
                os.mkdir(BIN, _FULL, dir_fd=top)
            bin_fd = _enter(opened, BIN, top)
            *folders, last = os.path.relpath(path, self._slaves).split("/")
            parent = top
            for folder in folders:
                parent = _enter(opened, folder, parent)
            name = next(self._names)
            os.mkdir(name, _FULL, dir_fd=bin_fd)
            try:
                _move(last, parent, next(self._names), _enter(opened, name, bin_fd))
            except OSError:
                os.rmdir(name, dir_fd=bin_fd)
                raise

    def tidy(self, path: str, agent_id: str) -> None:
        """Remove a folder that held sandboxes, and its parents, as far as they are empty; the present agent's own stays. Raises OSError."""
        kept = (self._slaves, f"{self._slaves}/{agent_id}")
        with sandbox.LAYOUT:  # Between two launches: none may find a parent gone that it has just made.
            _unlink_dangling(f"{path}/{layout.LATEST}")
            while path not in kept and _rmdir(path):
                path = os.path.dirname(path)

    def tidy_tasks(self, parent: str) -> None:
        """Remove the symlinks of tasks whose nested sandboxes are gone. Raises OSError."""
        with sandbox.LAYOUT, os.scandir(f"{parent}/tasks") as links:
            for link in links:
                _unlink_dangling(link.path)

    def waiting(self) -> list[str]:
        """What is to be removed, also what an earlier agent left."""
        try:
            return os.listdir(f"{self._slaves}/{BIN}")
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> Generator[None, None, bool]:
        """Remove one thing; pauses after each file. Returns whether it is gone: what is left is tried again another time."""
        with contextlib.ExitStack() as opened:
            bin_fd = _enter(opened, self._slaves, None, BIN)
            root = _enter(opened, name, bin_fd)
            tries: Counter[str] = Counter()
            left = True
            while left:
                left = False
                with os.scandir(root) as entries:
                    for entry in entries:
                        if tries[entry.name] < TRIES_MAX:
                            tries[entry.name] += 1
                            left = True
                            yield from self._flatten(entry, root)
            try:
                os.rmdir(name, dir_fd=bin_fd)
            except OSError:
                return False
            return True

    def _flatten(self, top: os.DirEntry[str], root: int) -> Iterator[None]:
        """Remove a folder of `root`; its own folders become its neighbours. What does not work now is left."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            if not top.is_dir(follow_symlinks=False):  # It was made something else while it was moved.
                os.unlink(top.name, dir_fd=root)
                return
            _unlock(top.name, root)
            folder = _enter(opened, top.name, root)
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield
                    with contextlib.suppress(OSError):
                        if not entry.is_dir(follow_symlinks=False):
                            os.unlink(entry.name, dir_fd=folder)
                        elif not _rmdir(entry.name, folder):
                            _move(entry.name, folder, next(self._names), root)
            os.rmdir(top.name, dir_fd=root)


def _unlink_dangling(link: str) -> None:
    """Remove a symlink that leads nowhere."""
    if os.path.islink(link) and not os.path.exists(link):
        os.unlink(link)


def _rmdir(name: str, folder: int | None = None) -> bool:
    """Return whether a folder is gone; it stays if anything is in it."""
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _enter(opened: contextlib.ExitStack, name: str, folder: int | None = None, *below: str) -> int:
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    opened.callback(os.close, descriptor)
    for part in below:
        descriptor = _enter(opened, part, descriptor)
    return descriptor


def _move(name: str, folder: int, fresh: str, to: int) -> None:
    """Move a folder. Raises OSError."""
    try:
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=to)
    except PermissionError:  # One must be allowed to write in a folder that gets another parent.
        _unlock(name, folder)
        os.rename(name, fresh, src_dir_fd=folder, dst_dir_fd=to)


def _unlock(name: str, folder: int) -> None:
    """Let its owner do everything in a folder. Raises OSError."""
    located = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        mode = os.fstat(located).st_mode
        if stat.S_ISDIR(mode) and mode & _FULL != _FULL:
            os.chmod(f"/proc/self/fd/{located}", stat.S_IMODE(mode) | _FULL)
    finally:
        os.close(located)
