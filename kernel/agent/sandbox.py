"""Sandboxes on the disk: made for a container before it starts, shown over HTTP as long as they exist.

Paths come from `kernel.agent.layout`, where ids are checked. Parents belong to the agent and only the sandbox itself to
the task's user: no task can put a symlink into a path that the agent will follow.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import threading
from functools import lru_cache

from kernel.agent.effects import Beside, LaunchContainer
from kernel.agent.folders import open_folder, step
from kernel.agent.sandboxes.rotator import read_following
from kernel.errors import KernelError
from kernel.net.files import Files

SANDBOX_MODE = 0o750
NESTED = "containers"  # The folder in a sandbox for those of containers inside.
PARENT_MODE = 0o755
_FRESH_LINK = "\\new"  # No id is like this, so nobody's link is.

LAYOUT = threading.Lock()
"""Held while parents and symlinks of sandboxes are made or removed: launches and collection are different threads."""


class SandboxError(KernelError):
    """A sandbox cannot be made; the text says why, for the task's user."""


def prepare(launch: LaunchContainer) -> None:
    """Make the sandbox of a container with its parents and symlinks. A repeat changes nothing. Raises SandboxError.

    The process's umask must leave PARENT_MODE as it is.
    """
    folder = os.path.dirname(launch.directory)
    try:
        with LAYOUT:
            _make_parents(folder)
            _make_sandbox(launch.directory, launch.user)
            for path, target in launch.links:
                folder_of_link = os.path.dirname(path)
                if folder_of_link != folder:
                    _make_parents(folder_of_link)
                link(path, target)
    except OSError as error:
        raise SandboxError(f"cannot make the sandbox {launch.directory}: {error.strerror}") from error


def prepare_nested(launch: LaunchContainer, beside: Beside, owner: tuple[int, int] | None) -> None:
    """The same for the sandbox of a container inside another: there the other's user may put anything, so nothing is done by its path.
    owner: user and group id, None for those of the sandbox it is in. Raises SandboxError."""
    try:
        at = open_folder(beside.directory)
        try:
            around = os.fstat(at)
            for name in os.path.relpath(launch.directory, beside.directory).split("/")[1::2]:
                around = os.fstat(at)
                at = _enter(_enter(at, NESTED, PARENT_MODE), name, SANDBOX_MODE)
            if os.geteuid() == 0:
                os.fchown(at, *(owner or (around.st_uid, around.st_gid)))
        finally:
            os.close(at)
    except OSError as error:
        raise SandboxError(f"cannot make the sandbox {launch.directory}: {error.strerror}") from error


def make_below(launch: LaunchContainer, path: str) -> None:
    """Make a folder below a sandbox that is missing, with those above it, for the sandbox's user. Raises SandboxError, also where what is
    there leads out of the sandbox."""
    root = os.path.realpath(launch.directory)
    if os.path.lexists(path):
        if not f"{os.path.realpath(path)}/".startswith(f"{root}/"):
            raise SandboxError(f"{os.path.relpath(path, launch.directory)!r} leads out of the sandbox")
        return
    try:
        at = open_folder(launch.directory)
        try:
            for name in os.path.relpath(path, launch.directory).split("/"):
                at = _enter(at, name, PARENT_MODE)
                if launch.user is not None:
                    os.fchown(at, *owner(launch.user))
        finally:
            os.close(at)
    except OSError as error:
        raise SandboxError(f"cannot make {os.path.relpath(path, launch.directory)!r} in the sandbox: {error.strerror}") from error


def _enter(at: int, name: str, mode: int) -> int:
    """Go from an open folder into one of its own, which is made when it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=at)
    return step(at, name)


def discard(path: str) -> None:
    """Remove a file of ours from a sandbox, as far as its user leaves it to us: a link in its place goes, what it leads to stays."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def link(path: str, target: str) -> None:
    """Make a symlink, replacing one that is there. Raises OSError."""
    try:
        os.symlink(target, path)
    except FileExistsError:
        if os.readlink(path) != target:
            fresh = os.path.join(os.path.dirname(path), _FRESH_LINK)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(fresh)  # Of an agent that was killed right here.
            os.symlink(target, fresh)
            os.replace(fresh, path)


def _make_sandbox(path: str, user: str | None) -> None:
    try:
        os.mkdir(path, SANDBOX_MODE)
    except FileExistsError:
        return
    if user is not None:
        uid, gid = owner(user)
        os.chown(path, uid, gid)


def _make_parents(path: str) -> None:
    """Make folders that others may pass through but not write."""
    try:
        os.mkdir(path, PARENT_MODE)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_parents(os.path.dirname(path))
        os.mkdir(path, PARENT_MODE)


@lru_cache(maxsize=256)
def owner(user: str) -> tuple[int, int]:
    """A user's ids. Raises SandboxError."""
    try:
        found = pwd.getpwnam(user)
    except (KeyError, ValueError):  # The latter for a zero byte.
        raise SandboxError(f"no user is called '{user}' on this agent") from None
    return found.pw_uid, found.pw_gid


class SandboxFiles(Files):
    """Files under virtual paths: what is attached, and every sandbox there is, also of tasks long gone.

    A sandbox is shown under its own path, also one that belongs to no framework; under that with `latest` for the container; and under
    `/frameworks/FID/executors/EID/runs/latest` (spec: mesos-v1, section 5.5).
    """

    def __init__(self, work_dir: str) -> None:
        super().__init__()
        self.agent_id = ""
        self._root = f"{work_dir}/slaves"
        self._sandbox = re.compile(rf"(?:{re.escape(self._root)}/([^/]+))?(/frameworks/[^/]+/executors/[^/]+/runs/[^/]+)")
        self._standalone = re.compile(rf"{re.escape(work_dir)}/containers/(?!\.\.?$)[^/]+")

    def real(self, virtual: str) -> str | None:
        found = self._sandbox.fullmatch(virtual)
        if found is None:
            if self._standalone.fullmatch(virtual):
                return virtual if os.path.isdir(virtual) else None
            return super().real(virtual)
        agent_id = found[1] or self.agent_id
        if not agent_id or any(part in (".", "..") for part in (agent_id, *found[2].split("/"))):
            return None
        path = f"{self._root}/{agent_id}{found[2]}"
        return path if os.path.isdir(path) else None

    def follow(self, virtual: str, offset: int, length: int) -> tuple[int, int, bytes]:
        return read_following(self.read, virtual, offset, length)
