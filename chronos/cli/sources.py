"""Files that people hand over: read as text, with bounds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kernel.commands.context import CommandError

if TYPE_CHECKING:
    from chronos.importers import Note

FILE_BYTES_MAX = 10_000_000
FILES_MAX = 10_000


def read_files(paths: Sequence[str], wanted: Callable[[str], bool]) -> dict[str, str]:
    """Text by path: of files, of those in folders (at any depth) that are wanted by their name, of `-` the standard input.

    Raises CommandError."""
    texts: dict[str, str] = {}
    for given in paths:
        if given == "-":
            texts["-"] = sys.stdin.read(FILE_BYTES_MAX)
            continue
        path = Path(given)
        for file in _below(path, wanted) if path.is_dir() else [path]:
            texts[str(file)] = _read(file)
            if len(texts) > FILES_MAX:
                raise CommandError(f"there are more than {FILES_MAX} files in {', '.join(paths)}", field="paths")
    return texts


def _below(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith(".") and wanted(name))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(FILE_BYTES_MAX + 1)
        if len(body) > FILE_BYTES_MAX:
            raise CommandError(f"{path} has more than {FILE_BYTES_MAX} bytes", field="paths")
        return body.decode()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", field="paths") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text in UTF-8: byte {error.start}", field="paths") from error


def tell(notes: Sequence[Note]) -> None:
    """What people should know of lines they wrote, on stderr; what holds for several files is told once, at the end."""
    files: dict[str, list[str]] = {}
    for note in notes:
        if not note.line and not note.lost:
            files.setdefault(note.text, []).append(note.source)
            continue
        where = f"{note.source}:{note.line}" if note.line else note.source
        click.echo(f"{where}: {'not carried over: ' if note.lost else ''}{f'{note.job}: ' if note.job else ''}{note.text}", err=True)
    for text, sources in files.items():
        click.echo(f"{sources[0] if len(sources) == 1 else f'{len(sources)} files'}: {text}", err=True)
