"""The control groups a process is started in: the thread that starts it goes there first, and comes back when it has no more to start.

So the process is in them from its first instruction, and so is whatever it starts. In version 1 one thread can be in another group than
its process; in version 2 the whole launcher goes along. Which groups there are, and what they are limited to, is the agent's matter.
Each move makes the kernel hold up all that fork and exit, so there are as few as can be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable


class Groups:
    """Where the thread that made this is, of all hierarchies of control groups."""

    def __init__(self) -> None:
        self._homes = _homes()
        self._away: tuple[str, ...] = ()
        self._doors: dict[str, int] = {}  # Mount point -> the open file that leads home.

    def enter(self, files: tuple[str, ...]) -> None:
        """Go into these groups, one of each hierarchy (`tasks` or `cgroup.procs` in it). Raises OSError, with this thread at home."""
        if len(files) != len(self._away):
            self.leave()
        entered = 0
        try:
            for file in files:
                self._home(file)  # Nobody goes where no way back is known.
                _go(file)
                entered += 1
        except OSError:
            self._away = (*files[:entered], *self._away[entered:])
            self.leave()
            raise
        self._away = files

    def leave(self) -> None:
        """Go home. Raises OSError, which ends the launcher: it must not go on in the group of a container."""
        for file in self._away:
            mount, home = self._home(file)
            if mount not in self._doors:
                self._doors[mount] = os.open(home, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._doors[mount], b"0")
        self._away = ()

    def _home(self, file: str) -> tuple[str, str]:
        for mount, home in self._homes:
            if file.startswith(mount + "/"):
                return mount, home
        raise FileNotFoundError(2, "it is in no hierarchy of control groups that the launcher is in", file)


def _go(file: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from None
    finally:
        os.close(fd)


def _homes() -> list[tuple[str, str]]:
    with open("/proc/thread-self/cgroup", encoding="utf-8") as file:
        groups = file.readlines()
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return homes(groups, file.readlines())


def homes(groups: Iterable[str], mounts: Iterable[str]) -> list[tuple[str, str]]:
    """Return (mount point, file to write into) of each hierarchy a thread is in, longest mount point first. groups: the lines of its
    /proc/.../cgroup; mounts: those of mountinfo. A hierarchy of which another part is mounted, where the thread is not, is left out."""
    paths = {}
    for line in groups:
        number, controllers, path = line.rstrip("\n").split(":", 2)
        paths["" if number == "0" else controllers] = path
    found = {}
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        _, _, _, root, mount, *_ = (field.encode().decode("unicode_escape") for field in fields.split())  # Spaces are written as \040.
        kind, _, options = rest.split()
        for controllers, path in paths.items():
            if kind == "cgroup2" and not controllers:
                file = "cgroup.procs"
            elif kind == "cgroup" and controllers and set(controllers.split(",")) <= set(options.split(",")):
                file = "tasks"
            else:
                continue
            below = os.path.relpath(path, root)
            if below != ".." and not below.startswith("../"):
                found[mount] = os.path.normpath(f"{mount}/{below}/{file}")  # The last that is mounted there hides the others.
            else:
                found.pop(mount, None)
    return sorted(found.items(), key=lambda home: len(home[0]), reverse=True)
