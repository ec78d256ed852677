"""Who leads, and whether this master may answer now."""

from __future__ import annotations

from collections.abc import Callable

from kernel.election.candidacy import Standing
from kernel.election.election import Leader
from kernel.errors import Unavailable
from kernel.mainloop import MainLoop
from kernel.net.errors import Redirect


class Leadership(Standing):
    """loop: this master's main loop, once it leads and has recovered. registrar: tells what is measured of its registry, then."""

    def __init__(self, me: Leader) -> None:
        super().__init__(me)
        self.registrar: Callable[[], dict[str, float]] = dict
        self._loop: MainLoop | None = None

    @property
    def leading(self) -> bool:
        return self._loop is not None

    def begin(self, loop: MainLoop, registrar: Callable[[], dict[str, float]] = dict) -> None:
        """This master leads and has recovered."""
        self._loop, self.registrar = loop, registrar

    def loop(self) -> MainLoop:
        """Return the main loop. Raises as `gate` does."""
        self.gate()
        assert self._loop is not None
        return self._loop

    def gate(self) -> None:
        """Raises Redirect when another master leads, Unavailable when none does or this one is not ready
        (spec: mesos-v1, section 1.2, checks 3 and 4)."""
        if self._loop is not None:
            return
        if self.leader is None:
            raise Unavailable("No leader elected")
        if self.leader.id == self.me.id:
            raise Unavailable("Master has not finished recovery")
        raise Redirect(self.leader.address)
