"""What is known of the parents of each child in each run of a graph, until the child is decided and all have reported (`chronos/joins.py`).

edges/CHILD@IDENTITY  Edges, in msgpack
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from chronos.joins import NOTHING, Edges
from kernel.mainloop import Persist

log = logging.getLogger(__name__)

EDGES = "edges/"


class EdgeBook:
    """All of it. emit: takes what is to be persisted."""

    def __init__(self, emit: Callable[[Persist], None]) -> None:
        self._emit = emit
        self._known: dict[str, dict[str, Edges]] = {}  # By child, then identity.

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def load(self, kept: Mapping[str, bytes]) -> None:
        """Take in what a store held."""
        for key, value in kept.items():
            if key.startswith(EDGES):
                child, _, identity = key.removeprefix(EDGES).partition("@")
                try:
                    self._known.setdefault(child, {})[identity] = _decoder.decode(value)
                except msgspec.MsgspecError as error:
                    log.error("%s forgets its parents of %s: what is stored of them cannot be read: %s", child, identity, error)

    def of(self, child: str, identity: str) -> Edges:
        return self._known.get(child, {}).get(identity, NOTHING)

    def keep(self, child: str, identity: str, edges: Edges | None) -> None:
        """This holds from now on; None: nothing more is to be kept."""
        mine = self._known.setdefault(child, {})
        if edges is not None:
            mine[identity] = edges
        else:
            mine.pop(identity, None)
        if not mine:
            del self._known[child]
        self._emit(Persist(f"{EDGES}{child}@{identity}", None if edges is None else _encoder.encode(edges)))

    def forget(self, child: str) -> None:
        """What its parents came to counts no more."""
        for identity in self._known.pop(child, {}):
            self._emit(Persist(f"{EDGES}{child}@{identity}", None))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Edges)
