"""Connections between simulated processes: ordered like TCP, but faulty when asked to be.

A connection carries items both ways. Faults: an item is lost, doubled or held back (so that later ones overtake it);
a partition swallows everything between two processes, in silence. Closing is told to the other side, unless that is
cut off: then only its own timeouts tell it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tests.sim.world import Process, World


class Faults(Struct):
    """Chances for each item; delay_s: the most one takes (more when it is held back)."""

    drop: float = 0.0
    double: float = 0.0
    hold: float = 0.0
    delay_s: float = 0.02


class Network:
    """Who can reach whom, and how badly."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = Faults()
        self._apart: list[set[str]] = []  # Each set can only reach itself.

    def partition(self, names: set[str]) -> None:
        self._apart.append(names)

    def heal(self) -> None:
        self._apart.clear()

    def reaches(self, one: Process, other: Process) -> bool:
        return all((one.name in names) == (other.name in names) for names in self._apart)


class End:
    """One process's end of a connection. Set `on_item` and `on_close` before anything arrives."""

    def __init__(self, network: Network, owner: Process, strict: bool) -> None:
        self.network, self.owner, self.strict = network, owner, strict
        self.life = owner.life
        self.open = True
        self.broken = False
        self.peer: End
        self.on_item: Callable[[Any], None] = lambda item: None
        self.on_close: Callable[[], None] = lambda: None
        self._arrival_s = 0.0

    def send(self, item: Any) -> None:
        if not self.open:
            return
        world, faults = self.network.world, self.network.faults
        if world.chance.random() < faults.drop:
            if self.strict:
                self._break()
            return
        self._deliver(item)
        if world.chance.random() < faults.double and not self.strict:
            self._deliver(item)

    def _break(self, within_s: float = 2.0) -> None:
        """The connection fails, each side noticing in its own time; until then nothing more gets through."""
        self.broken = self.peer.broken = True
        for end in (self, self.peer):
            self.network.world.after(self.network.world.chance.uniform(0, within_s), end.fail)

    def fail(self) -> None:
        if self.open:
            self.open = False
            if self.owner.alive(self.life):
                self.on_close()

    def _deliver(self, item: Any) -> None:
        world, faults = self.network.world, self.network.faults
        delay_s = world.chance.uniform(0, faults.delay_s)
        if world.chance.random() < faults.hold and not self.strict:
            delay_s += world.chance.uniform(0, 5)  # Later ones overtake it.
        else:
            self._arrival_s = max(self._arrival_s, world.now_s + delay_s)
            delay_s = self._arrival_s - world.now_s
        peer = self.peer
        world.after(delay_s, lambda: peer._take(item))

    def _take(self, item: Any) -> None:
        if not self.open or self.broken or not self.owner.alive(self.life):
            return
        if self.network.reaches(self.owner, self.peer.owner):
            self.on_item(item)
        elif self.strict:
            self._break(40.0)

    def close(self) -> None:
        """Close from this side; the other is told after what was sent before."""
        if not self.open:
            return
        self.open = False
        peer, network = self.peer, self.network
        delay_s = max(0.0, self._arrival_s - network.world.now_s) + network.world.chance.uniform(0, network.faults.delay_s)
        network.world.after(delay_s, lambda: peer._told_closed())

    def _told_closed(self) -> None:
        if not self.open:
            return
        if self.network.reaches(self.owner, self.peer.owner):
            self.open = False
            if self.owner.alive(self.life):
                self.on_close()
        else:
            self.network.world.after(1.0, self._told_closed)  # TCP goes on trying.


def connect(network: Network, caller: Process, listener: Process, strict: bool = False) -> tuple[End, End] | None:
    """A new connection, or None when nobody answers. strict: as TCP is, a lost item breaks it and nothing is doubled or
    overtaken; otherwise what is carried numbers itself (`kernel.wire.link`) and must bear everything."""
    if listener.core is None or not network.reaches(caller, listener):
        return None
    near, far = End(network, caller, strict), End(network, listener, strict)
    near.peer, far.peer = far, near
    return near, far
