"""Where decisions meet the world: inbox -> core -> store -> effects.

A daemon gives its core, its store and a `perform` that carries out one effect without waiting. This loop
keeps the order that safety needs: everything a batch of inputs decided is durable before any of it is
visible. It knows neither masters nor agents.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from kernel.clock import Clock, Now
from kernel.errors import KernelError, Unavailable
from kernel.store.store import Store

log = logging.getLogger(__name__)

BATCH_MAX = 1000
BATCH_PERSIST_BYTES_MAX = 512 * 1024
INBOX_MAX = 20_000
TURN_S = 0.02  # Of deciding: then the sockets are served.
STRIDE = 16  # Inputs between two looks at the clock.
SETTLE_BUDGET_S = 0.005
TICK_S = 0.25
HELD_S = 1.0  # A wait for the store, or for the leadership, that is longer counts as no time for the core.


class Persist(Struct, frozen=True, gc=False):
    """Effect: keep value under key, durably; None forgets the key."""

    key: str
    value: bytes | None


class Reply(Struct, frozen=True):
    """Effect: the answer to the input that caused it, given to whoever awaits `MainLoop.submit`."""

    body: Any


class Tick(Struct, frozen=True):
    """Input: time has passed; look at the deadlines."""


class Batch(Struct, frozen=True):
    """Input: messages of one sender, decided in order up to the first that is refused (`BatchRefused`), the
    answer being the last one's. A long one takes several turns, others come in between."""

    messages: tuple[Any, ...]


class BatchRefused(KernelError):
    """A message of a batch was refused; those before it stand, those after it were not looked at."""

    def __init__(self, index: int, error: KernelError) -> None:
        super().__init__(f"call {index}: {error}")
        self.index, self.error = index, error


class Core(Protocol):
    """What every daemon's core offers. Equal inputs in equal order give equal effects."""

    def receive(self, message: Any, now: Now) -> Sequence[Any]:
        """Take one input, return what to do, in order. Raises KernelError before the first change."""

    def settle(self, now: Now, budget_s: float) -> Sequence[Any]:
        """Do the work a batch left over, within a budget of real seconds."""

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has more to do."""


class _Entry:
    """An input that waits. taken: how many messages of a batch are decided."""

    __slots__ = ("body", "error", "future", "message", "taken")

    def __init__(self, message: Any, future: asyncio.Future[Any] | None) -> None:
        self.message = message
        self.future = future
        self.error: KernelError | None = None
        self.body: Any = None
        self.taken = 0


class _Turn:
    """What one turn has decided."""

    __slots__ = ("decided", "effects", "persist_bytes", "writes")

    def __init__(self) -> None:
        self.decided: list[_Entry] = []
        self.effects: list[Any] = []
        self.writes: list[Persist] = []
        self.persist_bytes = 0

    def take(self, entry: _Entry | None, effects: Iterable[Any]) -> None:
        """Sort what an input, or the settling, gave."""
        for effect in effects:
            kind = type(effect)
            if kind is Persist:
                self.writes.append(effect)
                self.persist_bytes += len(effect.value or b"")
            elif kind is Reply:
                assert entry is not None, "only an input has a reply"
                entry.body = effect.body
            else:
                self.effects.append(effect)


class MainLoop:
    """Feeds one core. `submit` awaits the answer, `post` does not; both are for the loop's own thread."""

    def __init__(
        self,
        core: Core,
        store: Store,
        perform: Callable[[Any], None],
        flush: Callable[[], None],
        clock: Clock,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """perform: carries out one effect, never waiting. flush: called after the effects of each batch, for
        edges that gather what they send. confirm: awaited before them: returns while this process may act, raises
        KernelError when it may no more. longest_turn_s: how long deciding, or sending, has held up everything else at most."""
        self.core, self.store, self.clock = core, store, clock
        self.longest_turn_s = 0.0
        self.turns = 0
        self._confirm = confirm
        self._held_s = 0.0
        self._perform, self._flush = perform, flush
        self._inbox: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = False

    async def submit(self, message: Any) -> Any:
        """Hand in an input and wait until its effects are performed; return the body of its Reply, if any.

        Raises KernelError as the core did; Unavailable when the inbox is full or the daemon stops.
        """
        if self._stopping or len(self._inbox) >= INBOX_MAX:
            raise Unavailable("too many calls are waiting; try again")
        future = asyncio.get_running_loop().create_future()
        self._inbox.append(_Entry(message, future))
        self._wake.set()
        return await future

    def post(self, message: Any) -> None:
        """Hand in an input that nobody awaits; a refusal is logged. Never dropped: links call `room` first."""
        self._inbox.append(_Entry(message, None))
        if len(self._inbox) >= INBOX_MAX:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        """Wait until the inbox has room: a link that is not read is slowed down, nothing is lost."""
        await self._room.wait()

    def waiting(self) -> Counter[type]:
        """How many inputs wait, by class."""
        return Counter(type(entry.message) for entry in self._inbox)

    def numbers(self) -> dict[str, float]:
        """What is measured of this loop, as metrics."""
        return {"main_loop/turns": float(self.turns), "main_loop/longest_turn_s": self.longest_turn_s}

    def stop(self) -> None:
        """End `run` after the turn under way."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Serve until stopped. Raises StoreError when something could not be written, and what `confirm` does."""
        ticker = asyncio.create_task(self._tick())
        try:
            while not self._stopping:
                if not self._inbox and not self.core.unsettled:
                    self._wake.clear()
                    await self._wake.wait()
                await self._turn()
                await asyncio.sleep(0)  # Lets the sockets be read between two turns.
        finally:
            ticker.cancel()
            self._stopping = True
            for entry in self._inbox:
                if entry.future is not None and not entry.future.done():
                    entry.future.set_exception(Unavailable("the daemon stops; try again"))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.post(Tick())

    async def _turn(self) -> None:
        began_s = self.clock.now().mono_s
        turn = _Turn()
        self._decide(turn)
        self._ran(began_s)
        if turn.writes or self._confirm is not None:
            try:
                await self._allowed(turn.writes)
            except BaseException:  # We stop; whether these inputs count is known to nobody.
                self._inbox.extendleft(reversed(turn.decided))
                raise
        began_s = self.clock.now().mono_s
        for effect in turn.effects:
            self._perform(effect)
        self._flush()
        for entry in turn.decided:
            _answer(entry)
        self._ran(began_s)
        self.turns += 1
        if len(self._inbox) < INBOX_MAX // 2:
            self._room.set()

    def _decide(self, turn: _Turn) -> None:
        """Hand inputs to the core until there is enough for one turn. What is left of a batch waits behind the others."""
        inbox, receive = self._inbox, self.core.receive
        now = self._now()
        end_s = now.mono_s + TURN_S
        received, look = 0, STRIDE
        while inbox and received < BATCH_MAX and turn.persist_bytes < BATCH_PERSIST_BYTES_MAX:
            entry = inbox[0]
            message = entry.message
            together = type(message) is Batch
            for one in message.messages[entry.taken : entry.taken + STRIDE] if together else (message,):
                received += 1
                try:
                    turn.take(entry, receive(one, now))
                except KernelError as error:  # The sender's mistake: it is told, we go on.
                    entry.error = BatchRefused(entry.taken, error) if together else error
                    break
                entry.taken += 1
            if not together or entry.error is not None or entry.taken >= len(message.messages):
                turn.decided.append(inbox.popleft())
            if received >= look:
                now, look = self._now(), received + STRIDE
                if now.mono_s >= end_s:
                    break
        if inbox and inbox[0].taken:
            inbox.rotate(-1)
        turn.take(None, self.core.settle(self._now(), SETTLE_BUDGET_S))

    async def _allowed(self, writes: Sequence[Persist]) -> None:
        """Wait until what was decided may be seen: it is durable, and it is still ours to decide."""
        began_s = self.clock.now().mono_s
        if writes:
            await self.store.write([(write.key, write.value) for write in writes])
        if self._confirm is not None:
            await self._confirm()
        held_s = self.clock.now().mono_s - began_s
        if held_s > HELD_S:
            log.warning("nothing could be decided for %.1f s", held_s)
            self._held_s += held_s

    def _now(self) -> Now:
        """The time as the core is told it. While we could not listen, nobody's silence counts."""
        now = self.clock.now()
        return Now(now.mono_s - self._held_s, now.wall_s)

    def _ran(self, since_s: float) -> None:
        """Note for how long nobody else was served."""
        self.longest_turn_s = max(self.longest_turn_s, self.clock.now().mono_s - since_s)


def _answer(entry: _Entry) -> None:
    if entry.future is None:
        if entry.error is not None:
            log.warning("refused %s: %s", type(entry.message).__name__, entry.error)
    elif not entry.future.done():  # The caller may have gone away meanwhile.
        if entry.error is not None:
            entry.future.set_exception(entry.error)
        else:
            entry.future.set_result(entry.body)
