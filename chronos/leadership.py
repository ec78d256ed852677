"""Whether this scheduler is the one that works, and who is else."""

from __future__ import annotations

from typing import Any

from chronos.core import ChronosScheduler
from chronos.history import History
from frameworks.sdk.framework import Framework
from kernel.election.candidacy import Standing
from kernel.election.election import Leader
from kernel.errors import Unavailable


class Working:
    """A scheduler that leads and has taken in what its store held."""

    def __init__(self, framework: Framework, core: ChronosScheduler, history: History) -> None:
        self.framework, self.core, self.history = framework, core, history

    async def ask(self, message: Any) -> Any:
        """Hand the core an input, wait until what it decided is kept; return its reply. Raises KernelError."""
        return await self.framework.submit(message)


class Leadership(Standing):
    """work: there once this one leads and has taken in its state."""

    def __init__(self, me: Leader) -> None:
        super().__init__(me)
        self.work: Working | None = None

    def working(self) -> Working:
        """Raises Unavailable while this one does not work."""
        if self.work is None:
            raise Unavailable("no scheduler leads" if self.leader is None else "the scheduler has not taken in its state yet")
        return self.work

    @property
    def elsewhere(self) -> Leader | None:
        """The leader, when it is another."""
        return self.leader if self.work is None and self.leader is not None and self.leader.id != self.me.id else None
