"""Moves what was fetched into the sandbox, for the task's user to have.

A sandbox is its user's, whose other tasks may put links into it while we work. So all is made ready where only the agent can go, and
then moved entry by entry, by names in an open folder: no link is followed.
"""

from __future__ import annotations

import os
import shutil
import stat

from kernel.agent.fetcher.local import Owner
from kernel.agent.fetcher.plan import FetchError, quoted
from kernel.agent.fetcher.tree import FOLDER, Tree
from kernel.agent.folders import open_folder


def put(source: str, tree: Tree, output: str, executable: bool) -> None:
    """Move a file to its place among what is ready. Raises FetchError, OSError."""
    os.chmod(source, 0o755 if executable else 0o644)
    with tree.place(output) as (folder, last):
        os.rename(source, last, dst_dir_fd=folder)


def hand_over(tree: str, sandbox: str, owner: Owner | None) -> None:
    """Give all that is ready to a user, in his sandbox. What is there by the same names is replaced. Raises FetchError, OSError."""
    root = os.path.realpath(tree)
    for folder, folders, files, fd in os.fwalk(root):
        for name in (*folders, *files):
            if os.path.islink(f"{folder}/{name}"):
                _check_link(root, f"{folder}/{name}")
            if owner is not None:
                os.chown(name, owner.uid, owner.gid, dir_fd=fd, follow_symlinks=False)
    source = os.open(tree, FOLDER)
    try:
        target = open_folder(sandbox)
        try:
            for name in os.listdir(source):
                _move(name, source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _check_link(root: str, path: str) -> None:
    """Links of several archives may lead outside where those of none do alone. Whoever mounts or serves a sandbox may follow them."""
    if os.path.commonpath((root, os.path.realpath(path))) != root:
        name = quoted(os.path.relpath(path, root))
        raise FetchError(f"Failed to fetch: the link {name} of an archive leads outside, by links of another")


def _move(name: str, source: int, target: int) -> None:
    try:
        there = os.stat(name, dir_fd=target, follow_symlinks=False).st_mode
    except FileNotFoundError:
        pass
    else:  # Of an agent that was killed at this very work.
        if stat.S_ISDIR(there):
            shutil.rmtree(name, dir_fd=target)
        else:
            os.unlink(name, dir_fd=target)
    os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
