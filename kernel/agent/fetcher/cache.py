"""Which files are kept for the next who wants them, and which go when there is no room. Pure; `kernel.agent.fetcher.kept` has the files."""

from __future__ import annotations

from collections import OrderedDict

from kernel.errors import KernelError

Key = tuple[str, str]  # User and URI: what one may read, another may not.


class NoRoom(KernelError):
    """Everything in the cache is in use, or it is too small."""


class Entry:
    """One file. bytes: reserved for it, or its size once it is whole; holders: who waits for it or uses it."""

    __slots__ = ("bytes", "holders", "key", "number", "whole")

    def __init__(self, key: Key, number: int) -> None:
        self.key, self.number = key, number
        self.bytes = 0
        self.holders = 0
        self.whole = False


class Ledger:
    """The books of the cache: never more than bytes_max, the least recently used goes first, nothing that is in use."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used = 0
        self.entries: OrderedDict[Key, Entry] = OrderedDict()  # The one used last is last.
        self._made = 0

    def find(self, key: Key) -> Entry | None:
        """The entry of a key, which counts as a use."""
        entry = self.entries.get(key)
        if entry is not None:
            self.entries.move_to_end(key)
        return entry

    def begin(self, key: Key) -> Entry:
        """A new entry, without room yet. Its number is never used again."""
        assert key not in self.entries
        self._made += 1
        entry = self.entries[key] = Entry(key, self._made)
        return entry

    def reserve(self, entry: Entry, size: int) -> list[Entry]:
        """Give an entry room for so many bytes in all; return what is to be removed for it. Raises NoRoom, then nothing has changed."""
        missing = self.used - entry.bytes + size - self.bytes_max
        evicted = []
        for other in self.entries.values():
            if missing <= 0:
                break
            if other is not entry and not other.holders:
                evicted.append(other)
                missing -= other.bytes
        if missing > 0:
            raise NoRoom(f"no room for {size} bytes in a cache of {self.bytes_max}")
        for other in evicted:
            self.drop(other)
        self.used += size - entry.bytes
        entry.bytes = size
        return evicted

    def drop(self, entry: Entry) -> None:
        """Forget an entry. A repeat changes nothing."""
        if self.entries.get(entry.key) is entry:
            del self.entries[entry.key]
            self.used -= entry.bytes
