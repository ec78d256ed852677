"""Control groups in hierarchies that we do not use ourselves: a runtime of containers makes some of a container's in each, below the same
folder, and leaves that folder, and whatever it had no time to remove. Only what holds nothing goes: the kernel refuses the rest."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable


class Leavings:
    """What is left below one agent's folders."""

    def __init__(self, folders: Iterable[str]) -> None:
        """folders: one in each hierarchy that is not ours; most are not there."""
        self._folders = tuple(folders)

    def sweep(self, known: Collection[str]) -> None:
        """Remove the groups of containers that are not known."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                for name in [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]:
                    if name not in known:
                        with contextlib.suppress(OSError):
                            os.rmdir(f"{folder}/{name}")

    def close(self) -> None:
        """Remove the folders, too. Not the one above them, which agents share: another's runtime may be just about to use it."""
        self.sweep(())
        for folder in self._folders:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
