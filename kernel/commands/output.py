"""How client commands print: rich tables on a terminal, aligned text elsewhere, JSON when asked for. Imports rich late."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

GOOD = frozenset({"active", "running", "finished"})
SIZES = frozenset({"mem", "disk"})
BAD = frozenset({"unreachable", "failed", "lost", "error", "gone", "gone_by_operator", "dropped", "unknown", "waiting"})


def emit_json(value: Any) -> None:
    """One value, on one line."""
    click.echo(json.dumps(value, separators=(",", ":")))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Rows under headings; `empty` when there are none, on stderr, so that pipes get nothing."""
    rows = list(rows)
    if not rows:
        click.echo(empty, err=True)
    elif sys.stdout.isatty():
        _rich(headings, rows)
    else:
        click.echo("\n".join(aligned([headings, *rows])))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def details(fields: Mapping[str, str]) -> None:
    """One thing, a line for each of its fields that is not empty."""
    shown = [(name + ":", text) for name, text in fields.items() if text]
    for line in aligned(shown):
        click.echo(line)


def _rich(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        shown.add_column(heading, no_wrap=heading == headings[0])
    for row in rows:
        shown.add_row(*(Text(cell, style="green" if cell in GOOD else "red" if cell in BAD else "") for cell in row))
    Console().print(shown)


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
