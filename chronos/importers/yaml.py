"""YAML with the line of each thing. Only plain values are made of it (`yaml.safe_load`), never objects of a program."""

from __future__ import annotations

import re
from typing import Any

import yaml
from msgspec import Struct

from kernel.errors import CallError

DEPTH_MAX = 50
NODES_MAX = 1_000_000  # Aliases multiply.
_UNQUOTED = re.compile(r"[^#'\"]*[:,-]\s+[*@]")  # As schedules do.


class Document(Struct, frozen=True):
    """One document: its value, and where its parts begin."""

    value: Any
    line: int
    lines: dict[tuple[str | int, ...], int]

    def line_of(self, *path: str | int) -> int:
        """The line of a part, or of the nearest that is there of what it is in."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, self.line)


def read_yaml(text: str) -> list[Document]:
    """The documents of a text; JSON is YAML, too. Raises CallError with the line of what cannot be read."""
    try:
        return [_document(node) for node in yaml.compose_all(text, Loader=_Loader)]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        hint = "; put what begins with * or @ in quotes" if _UNQUOTED.match("".join(text.splitlines()[line - 1 : line])) else ""
        raise CallError(f"line {line}: not YAML: {error.problem or error.context}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise CallError(f"not YAML: {str(error)[:200]}") from None


class _Loader(yaml.SafeLoader):
    """Of YAML's own names for true and false, only these: `on` and `no` are words, as in YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _document(node: yaml.Node) -> Document:
    lines: dict[tuple[str | int, ...], int] = {}
    waiting: list[tuple[tuple[str | int, ...], yaml.Node]] = [((), node)]
    seen = 0
    while waiting:
        path, at = waiting.pop()
        seen += 1
        if len(path) > DEPTH_MAX or seen > NODES_MAX:
            raise CallError(f"line {at.start_mark.line + 1}: too deep or too large: {DEPTH_MAX} levels and {NODES_MAX} values are allowed")
        if isinstance(at, yaml.MappingNode):
            for key, value in at.value:
                inner = (*path, str(key.value))
                lines[inner] = key.start_mark.line + 1
                waiting.append((inner, value))
        elif isinstance(at, yaml.SequenceNode):
            for index, item in enumerate(at.value):
                lines[*path, index] = item.start_mark.line + 1
                waiting.append(((*path, index), item))
    loader = _Loader("")
    return Document(loader.construct_document(node), node.start_mark.line + 1, lines)
