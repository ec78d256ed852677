"""Terminals of tasks: the launcher holds them, so they outlive the agent as tasks do, and copies what is shown there into the file that
takes a task's output. Who wants to type is handed the other end.

What is typed and the size of the window need nothing of the launcher. A launcher that is killed takes its terminals with it, and the
kernel hangs up on their tasks (SIGHUP); one that is replaced in place hands them on.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import termios
from typing import NamedTuple

VARIABLE = "MESETA_TERMINALS"
"""In the environment of a launcher that replaces another in place: the terminals, whose descriptors it inherits."""

_READ_BYTES = 64 * 1024


class Terminal(NamedTuple):
    """master: our end, not blocking. slave: the task's, kept open so that ours works also while nobody has it. output: the file."""

    master: int
    slave: int
    output: int


class Terminals:
    """All of a launcher's, by container."""

    def __init__(self, inherited: str = "") -> None:
        """inherited: what `hand_on` has given to a predecessor's environment."""
        self._open = {name: Terminal(*fds) for name, fds in json.loads(inherited or "{}").items()}
        for terminal in self._open.values():
            for fd in terminal:
                os.set_inheritable(fd, False)

    def make(self, container: str, rows: int, columns: int, output: int) -> str:
        """Make one, its size is in characters; return the path of the task's end, which is the calling thread's user's. output: the file,
        which stays the caller's. Raises OSError."""
        master, slave = os.openpty()
        try:
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.set_blocking(master, False)
            self._open[container] = Terminal(master, slave, os.dup(output))
            return os.ttyname(slave)
        except BaseException:
            os.close(master)
            os.close(slave)
            raise

    def names(self) -> list[str]:
        """The containers that have one."""
        return list(self._open)

    def get(self, container: str) -> Terminal | None:
        return self._open.get(container)

    def copy(self, container: str) -> bool:
        """Copy one piece of what is shown into its file; return whether there was any. A full disk holds nobody up."""
        terminal = self._open.get(container)
        if terminal is None:  # It was closed in this very turn.
            return False
        try:
            data = os.read(terminal.master, _READ_BYTES)
        except OSError:  # Nothing for now.
            return False
        try:
            os.write(terminal.output, data)
        except OSError:
            pass
        return bool(data)

    def close(self, container: str) -> None:
        """Let go of it, after what is still to be copied."""
        if container in self._open:
            while self.copy(container):
                pass
            for fd in self._open.pop(container):
                os.close(fd)

    def hand_on(self) -> str:
        """Let a program that replaces this one have them all; what to tell it."""
        for terminal in self._open.values():
            for fd in terminal:
                os.set_inheritable(fd, True)
        return json.dumps(self._open)
