"""Virtual time, one seeded source of chance, and processes that may die between any two of their acts."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from typing import Any

from kernel.clock import Now
from kernel.errors import KernelError
from kernel.mainloop import Persist, Reply, Tick

WALL_S = 1_700_000_000.0
TICK_S = 0.25


class World:
    """Everything that is to happen, soonest first; nothing sleeps, the clock jumps."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self._todo: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._todo, (self.now_s + delay_s, self._number, act))

    def step(self) -> None:
        """Let the next thing happen."""
        self.now_s, _, act = heapq.heappop(self._todo)
        act()

    @property
    def next_s(self) -> float:
        return self._todo[0][0]


class Crashed(Exception):
    """Raised inside a process that dies now."""


class Process:
    """A core, its store and its habits, run as `kernel.mainloop` would, one input a turn.

    What is in `kept` outlives a crash; `core` does not. Clocks are skewed: each process has its own offset of the wall
    clock and its own pace (within one part in a thousand) of the other.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.kept: dict[str, bytes] = {}
        self.core: Any = None
        self.life = 0  # Counts the starts; what belongs to an earlier life is ignored.
        self.turns = 0  # Counts the inputs: between two of them nothing changes here.
        self.crashes = 0
        self._crash_in: int | None = None  # Acts until it dies.
        self._pace = 1 + world.chance.uniform(-1e-3, 1e-3)
        self._wall_offset_s = world.chance.uniform(-5, 5)

    # ---- Life -------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.life += 1
        self._crash_in = None
        self.core = self.make()
        life = self.life
        self.began()
        if self.alive(life):
            self.world.after(self.world.chance.uniform(0, TICK_S), lambda: self._tick(life))

    def alive(self, life: int) -> bool:
        return self.core is not None and self.life == life

    def crash_soon(self) -> None:
        """Die at one of the next acts: before or after a write, or between two effects."""
        if self.core is not None:
            self.die_in(self.world.chance.randrange(1, 12))

    def die_in(self, acts: int) -> None:
        """Die at the act of this number from now on."""
        self._crash_in = acts

    def spare(self) -> None:
        """Not die after all."""
        self._crash_in = None

    def crash(self) -> None:
        """Die now; come back in a while."""
        if self.core is None:
            return
        self.core = None
        self.crashes += 1
        self.died()
        self.world.after(self.outage_s(), self.start)

    def outage_s(self) -> float:
        """How long it is dead."""
        return self.world.chance.uniform(0.1, 4.0)

    def _tick(self, life: int) -> None:
        if self.alive(life):
            self.give(Tick())
            self.world.after(TICK_S, lambda: self._tick(life))

    # ---- Turns ------------------------------------------------------------------------------------------

    def now(self) -> Now:
        return Now(100.0 + self.world.now_s * self._pace, WALL_S + self.world.now_s + self._wall_offset_s)

    def give(self, message: Any) -> Any:
        """Hand in an input. Returns the core's Reply, or the KernelError it refused with, or None when it died over it."""
        if self.core is None:
            return None
        self.turns += 1
        try:
            return self._turn(message)
        except Crashed:
            self.crash()
            return None

    def _turn(self, message: Any) -> Any:
        try:
            effects = list(self.core.receive(message, self.now()))
        except KernelError as error:
            return error
        effects += self.core.settle(self.now(), 1e9)
        while self.core.unsettled:
            effects += self.core.settle(self.now(), 1e9)
        reply = None
        writes = [effect for effect in effects if type(effect) is Persist]
        if writes:
            self._act()
            self._write(writes)
            self._act()
        for effect in effects:
            if type(effect) is Reply:
                reply = effect.body
            elif type(effect) is not Persist:
                self.perform(effect)
                self._act()
        self.flush()
        return reply

    def _write(self, writes: Sequence[Persist]) -> None:
        for write in writes:
            if write.value is None:
                self.kept.pop(write.key, None)
            else:
                self.kept[write.key] = write.value

    def _act(self) -> None:
        if self._crash_in is not None:
            self._crash_in -= 1
            if self._crash_in <= 0:
                raise Crashed

    # ---- What each kind of process says for itself --------------------------------------------------------

    def make(self) -> Any:
        raise NotImplementedError

    def began(self) -> None:
        """Just started."""

    def died(self) -> None:
        """Just crashed: its connections break."""

    def perform(self, effect: Any) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """After the effects of a turn."""
