"""Finding jobs by parts of their names and commands."""

from __future__ import annotations

from itertools import islice

from chronos.book import Book, Entry
from chronos.job import Job


class SearchIndex:
    """Names and commands in lower case. A job that was replaced is another object, which is how this notices."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[Job, str, str]] = {}

    def find(self, book: Book, name: str | None, command: str | None, either: str | None, offset: int, limit: int) -> list[Entry]:
        """Jobs in the book's order. name and command must both be found; either, in one of the two, is an alternative to them, and a filter
        where it is alone (in Chronos it then filtered nothing)."""
        entries = book.entries
        if len(self._texts) > 2 * len(entries) + 1000:
            self._texts = {known: texts for known, texts in self._texts.items() if known in entries}
        if name is None and command is None and either is None:
            return list(islice(entries.values(), offset, offset + limit))
        name, command, either = (None if text is None else text.lower() for text in (name, command, either))
        both = name is not None or command is not None
        texts, found = self._texts, []
        for entry in entries.values():
            known = texts.get(entry.job.name)
            if known is None or known[0] is not entry.job:
                known = texts[entry.job.name] = (entry.job, entry.job.name.lower(), entry.job.command.lower())
            _, named, said = known
            if (both and (name is None or name in named) and (command is None or command in said)) or (
                either is not None and (either in named or either in said)
            ):
                found.append(entry)
                if len(found) >= offset + limit:
                    break
        return found[offset:]
