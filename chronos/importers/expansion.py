"""`$(NAME)` in commands and values of Kubernetes: put in as its kubelet does, as far as a manifest says what NAME is. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from chronos.validation import COMMAND_BYTES_MAX
from kernel.errors import CallError

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
# What the cluster gives every container of a namespace for each Service in it.
_OF_SERVICE = re.compile(r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_[A-Z]+(?:_[A-Z]+)?)?)")
ADDED_CHARS_MAX = COMMAND_BYTES_MAX  # Variables that are made of others multiply.


class Expanded(NamedTuple):
    """unknown: names whose values only the cluster knows, each once; in the text they stand as they did."""

    text: str
    unknown: tuple[str, ...] = ()


class Variables:
    """The variables of one container. others: whether it has some that the manifest does not name (envFrom)."""

    def __init__(self, others: bool) -> None:
        self._values: dict[str, str | None] = {}
        self._others = others
        self._left = ADDED_CHARS_MAX

    def put(self, name: str, value: str | None) -> None:
        """Define one; in place of an earlier of that name. value: None for what only the cluster knows."""
        self._values[name] = value

    def expand(self, text: str) -> Expanded:
        """Put in the variables that are defined so far.

        `$$` becomes `$`, so that `$$(NAME)` is the text `$(NAME)`. What nobody defines stays as it is, as in Kubernetes. What was put
        in is not looked at again. Raises CallError for what would add more than ADDED_CHARS_MAX to all texts together.
        """
        parts: list[str] = []
        unknown: dict[str, None] = {}
        end = 0
        # No further than the last that closes one: looking for it from each opener after that would take the square of the length.
        for found in _REFERENCE.finditer(text, 0, text.rfind(")") + 1):
            parts.append(text[end : found.start()])
            end = found.end()
            name = found[1]
            value = "$" if name is None else self._values.get(name)
            parts.append(found[0] if value is None else value)
            if value is None and (name in self._values or self._others or _OF_SERVICE.fullmatch(name)):
                unknown[name] = None
        parts.append(text[end:].replace("$$", "$"))
        added = sum(map(len, parts)) - len(text)
        if added > self._left:
            raise CallError(f"with its variables it is too long: they may add {ADDED_CHARS_MAX} characters to all texts of a container")
        self._left -= max(added, 0)
        return Expanded("".join(parts), tuple(unknown))
