"""The control groups a process is started in: the thread that starts it goes there first, and comes back.

So the process is in them from its first instruction, and so is whatever it starts. In version 1 one thread can be in another group than
its process; in version 2 the whole launcher goes along for the time of a posix_spawn. Which groups there are, and what they are
limited to, is the agent's matter.
"""

from __future__ import annotations

import os


class Entrances:
    """Ways into groups and back to where this thread was when it was made."""

    def __init__(self) -> None:
        self._homes = _homes()

    def enter(self, files: tuple[str, ...]) -> None:
        """Go into groups. Raises OSError, with this thread back at home."""
        for number, file in enumerate(files):
            try:
                _write(file)
            except OSError:
                self.leave(files[:number])
                raise

    def leave(self, files: tuple[str, ...]) -> None:
        """Go back. Raises OSError, which ends the launcher: it must not go on in the group of a container."""
        for file in files:
            _write(self._home(file))

    def _home(self, file: str) -> str:
        for mount, home in self._homes:
            if file.startswith(mount + "/"):
                return home
        raise FileNotFoundError(f"{file} is in no hierarchy of control groups that this launcher is in")


def _write(file: str) -> None:
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    except OSError as error:
        raise OSError(error.errno, error.strerror, file) from None
    finally:
        os.close(fd)


def _homes() -> list[tuple[str, str]]:
    """Return (mount point, file to write into) of each hierarchy this thread is in, longest mount point first."""
    paths = {}
    with open("/proc/thread-self/cgroup", encoding="utf-8") as file:
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            paths["" if number == "0" else controllers] = path.rstrip("/")
    homes = []
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, mount, kind, options, *_ = line.split()
            mount = mount.encode().decode("unicode_escape")
            if kind == "cgroup2" and "" in paths:
                homes.append((mount, f"{mount}{paths['']}/cgroup.procs"))
            elif kind == "cgroup":
                for controllers, path in paths.items():
                    if controllers and set(controllers.split(",")) <= set(options.split(",")):
                        homes.append((mount, f"{mount}{path}/tasks"))
    return sorted(homes, key=lambda home: len(home[0]), reverse=True)
