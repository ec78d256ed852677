"""How client commands print: tables that fit a terminal, aligned text elsewhere, JSON when asked for."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from unicodedata import combining, east_asian_width

import click

GAP, INDENT = "  ", "    "
GOOD = frozenset({"active", "running", "finished"})
SIZES = frozenset({"mem", "disk"})
BAD = frozenset({"unreachable", "failed", "lost", "error", "gone", "gone_by_operator", "dropped", "unknown", "waiting"})


def emit_json(value: Any) -> None:
    """One value, on one line."""
    click.echo(json.dumps(value, separators=(",", ":")))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows under headings; `empty` when there are none, on stderr, so that pipes get nothing. On a terminal as `fitted` has it; elsewhere
    a line for each row, with all columns, however long."""
    rows = [tuple(map(_printable, row)) for row in rows]
    if not rows:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        import shutil  # 3 ms that a pipe does not need.

        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
        click.echo("\n".join(fitted(headings, rows, shutil.get_terminal_size().columns, _unstyled if plain else _styled)))
    else:
        click.echo("\n".join(aligned([headings, *rows])))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns two spaces apart."""
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [GAP.join(map(_padded, row, widths)).rstrip() for row in rows]


def fitted(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int, style: Callable[[str, bool], str]) -> list[str]:
    """The lines of a table on a terminal: without the columns in which there is nothing. Those for which a line has no room go on below,
    indented; no cell is cut, so ids can be copied, and one that is wider than the terminal is left to it to wrap.

    width: of the terminal, in cells. style: makes of a text, and of whether it is a heading, what is printed.
    """
    shown = [column for column in range(len(headings)) if any(row[column] for row in rows)]
    widths = {column: max(_width(row[column]) for row in (headings, *rows)) for column in shown}
    groups: list[list[int]] = []
    used = 0
    for column in shown:
        if groups and used + len(GAP) + widths[column] <= width:
            groups[-1].append(column)
            used += len(GAP) + widths[column]
        else:
            used = widths[column] + (len(INDENT) if groups else 0)
            groups.append([column])
    lines = []
    for number, row in enumerate((headings, *rows)):
        for group in groups:
            if any(row[column] for column in group) or group is groups[0]:
                cells = (_padded(row[column], widths[column], style(row[column], number == 0)) for column in group)
                lines.append(("" if group is groups[0] else INDENT) + GAP.join(cells).rstrip())
    return lines


def _padded(text: str, width: int, shown: str | None = None) -> str:
    """As wide as a column. shown: what is printed for the text, as wide as it is."""
    return (text if shown is None else shown) + " " * (width - _width(text))


def _width(text: str) -> int:
    """How many cells of a terminal it takes."""
    if text.isascii():
        return len(text)
    return sum((east_asian_width(character) in "WF") + (not combining(character)) for character in text)


def _printable(text: str) -> str:
    """Without ends of lines, which would break the table, and what would steer the terminal."""
    return text if text.isprintable() else "".join(character if character.isprintable() else " " for character in text)


def _styled(text: str, heading: bool) -> str:
    if heading:
        return click.style(text, bold=True)
    return click.style(text, fg="green" if text in GOOD else "red") if text in GOOD or text in BAD else text


def _unstyled(text: str, heading: bool) -> str:
    return text


def details(fields: Mapping[str, str]) -> None:
    """One thing, a line for each of its fields that is not empty."""
    shown = [(name + ":", text) for name, text in fields.items() if text]
    for line in aligned(shown):
        click.echo(line)


def number(value: float) -> str:
    """At most two decimals, none that say nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def amount(name: str, value: float) -> str:
    """Of a resource: sizes with their unit, others to the thousandth."""
    return mebibytes(value) if name in SIZES else f"{value:.3f}".rstrip("0").rstrip(".")


def mebibytes(value: float) -> str:
    """MiB, or GiB from 10 of them on."""
    return f"{number(value / 1024)}G" if value >= 10 * 1024 else f"{number(value)}M"


def age(since_s: float | None, now_s: float | None = None) -> str:
    """How long ago, in the two largest units."""
    if not since_s:
        return ""
    seconds = max(0, int((time.time() if now_s is None else now_s) - since_s))
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        if seconds >= size or (name == "s" and not parts):
            parts.append(f"{seconds // size}{name}")
            seconds %= size
    return "".join(parts[:2])
