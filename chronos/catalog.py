"""All jobs by name, in blocks: a page is cut out of it, and a text is found, without looking at every job. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter

from chronos.entry import Entry

BLOCK = 512  # Jobs of a block, at first; it is split when it has twice as many.
_BETWEEN = "\0"  # No name and no command has it.
_name = attrgetter("name")


class Wanted:
    """What is looked for, in any case: name and command must both be found; either, in one of the two, is an alternative to them, and a
    filter where it is alone (in Chronos it then filtered nothing). None: it does not matter."""

    def __init__(self, name: str | None = None, command: str | None = None, either: str | None = None) -> None:
        self._name, self._command, self._either = (None if text is None else text.lower() for text in (name, command, either))
        self._both = name is not None or command is not None
        self.anything = not self._both and either is None
        self.nothing = any(text is not None and _BETWEEN in text for text in (name, command, either))

    def found(self, names: str, commands: str) -> bool:
        """Whether it is in a job's name and command, or may be in one of many. Both are in lower case."""
        if self._both and (self._name is None or self._name in names) and (self._command is None or self._command in commands):
            return True
        return self._either is not None and (self._either in names or self._either in commands)


class _Block:
    """Some jobs in order, and, once they were searched, all their names and commands in lower case."""

    __slots__ = ("entries", "texts")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.texts: tuple[str, str] | None = None

    def may_have(self, wanted: Wanted) -> bool:
        if self.texts is None:
            jobs = [entry.job for entry in self.entries]
            names, commands = _BETWEEN.join(job.name for job in jobs), _BETWEEN.join(job.command for job in jobs)
            self.texts = names.lower(), commands.lower()
        return wanted.found(*self.texts)


class Catalog:
    """The order of the names, and who has them."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        ordered = sorted(entries, key=_name)
        self._blocks = [_Block(ordered[start : start + BLOCK]) for start in range(0, len(ordered), BLOCK)] or [_Block([])]
        self._firsts = [block.entries[0].name if block.entries else "" for block in self._blocks]

    def put(self, entry: Entry) -> None:
        """Add one, or put it in the place of the one of its name."""
        index = self._index(entry.name)
        block = self._blocks[index]
        place = bisect_left(block.entries, entry.name, key=_name)
        block.texts = None
        if place < len(block.entries) and block.entries[place].name == entry.name:
            block.entries[place] = entry
            return
        block.entries.insert(place, entry)
        self._firsts[index] = block.entries[0].name
        if len(block.entries) >= 2 * BLOCK:
            rest = _Block(block.entries[BLOCK:])
            del block.entries[BLOCK:]
            self._blocks.insert(index + 1, rest)
            self._firsts.insert(index + 1, rest.entries[0].name)

    def remove(self, name: str) -> None:
        """Take out one that is there."""
        index = self._index(name)
        block = self._blocks[index]
        place = bisect_left(block.entries, name, key=_name)
        assert block.entries[place].name == name, f"{name} is not there"
        del block.entries[place]
        block.texts = None
        if block.entries:
            self._firsts[index] = block.entries[0].name
        elif len(self._blocks) > 1:
            del self._blocks[index], self._firsts[index]

    def walk(self, after: str | None = None, wanted: Wanted | None = None) -> Iterator[Entry]:
        """Those that are wanted, by name, from the first that comes after one. Nothing may change meanwhile."""
        if wanted is None or wanted.anything:
            wanted = None
        elif wanted.nothing:
            return
        index, place = 0, 0
        if after is not None:
            index = self._index(after)
            place = bisect_right(self._blocks[index].entries, after, key=_name)
        for block in islice(self._blocks, index, None):
            if wanted is None:
                yield from islice(block.entries, place, None)
            elif block.may_have(wanted):
                for entry in islice(block.entries, place, None):
                    if wanted.found(entry.name.lower(), entry.job.command.lower()):
                        yield entry
            place = 0

    def _index(self, name: str) -> int:
        """Of the block where a name is, or would be."""
        return max(0, bisect_right(self._firsts, name) - 1)
