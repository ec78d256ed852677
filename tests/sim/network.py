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

    def __init__(self, network: Network, owner: Process) -> None:
        self.network, self.owner = network, owner
        self.life = owner.life
        self.open = True
        self.peer: End
        self.on_item: Callable[[Any], None] = lambda item: None
        self.on_close: Callable[[], None] = lambda: None
        self._arrival_s = 0.0

    def send(self, item: Any) -> None:
        if not self.open:
            return
        world, faults = self.network.world, self.network.faults
        if world.chance.random() < faults.drop:
            return
        self._deliver(item)
        if world.chance.random() < faults.double:
            self._deliver(item)

    def _deliver(self, item: Any) -> None:
        world, faults = self.network.world, self.network.faults
        delay_s = world.chance.uniform(0, faults.delay_s)
        if world.chance.random() < faults.hold:
            delay_s += world.chance.uniform(0, 5)  # Later ones overtake it.
        else:
            self._arrival_s = max(self._arrival_s, world.now_s + delay_s)
            delay_s = self._arrival_s - world.now_s
        peer = self.peer
        world.after(delay_s, lambda: peer._take(item))

    def _take(self, item: Any) -> None:
        if self.open and self.owner.alive(self.life) and self.network.reaches(self.owner, self.peer.owner):
            self.on_item(item)

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


def connect(network: Network, caller: Process, listener: Process) -> tuple[End, End] | None:
    """A new connection, or None when nobody answers."""
    if listener.core is None or not network.reaches(caller, listener):
        return None
    near, far = End(network, caller), End(network, listener)
    near.peer, far.peer = far, near
    return near, far
