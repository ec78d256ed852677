"""Folders of job files: YAML, JSON or TOML, one job or many to a file, in Chronos' own fields.

This is what `chronos-sync.rb` keeps (`scheduled/`, `dependent/`), what `GET /scheduler/jobs` answers, and what `meseta cron apply` reads.
"""

from __future__ import annotations

import posixpath
import tomllib
from collections.abc import Mapping
from typing import Any

from chronos.importers import Collector, Found, Imported, Note
from chronos.importers.yaml import Document, read_yaml
from chronos.job import unknown
from kernel.errors import CallError

SUFFIXES = (".yaml", ".yml", ".json", ".toml")
STDIN = "-"  # Has no suffix: read as YAML, which JSON is, too.
_KINDS = {"scheduled": "schedule", "dependent": "parents"}


def is_job_file(path: str) -> bool:
    return path == STDIN or path.endswith(SUFFIXES)


def read_folder(files: Mapping[str, str], *, strict: bool = False) -> Imported:
    """Read job files. files: text by path; what is none by its name (`is_job_file`) is passed over. A file that cannot be read
    stops no other.

    Names are what people wrote: the second job of a name is refused. strict: so is a job with a field that no job has; otherwise, as
    with Chronos, the field is passed over, with a note.
    """
    found: list[Found] = []
    notes: list[Note] = []
    where: dict[str, str] = {}
    for path in sorted(files):
        if not is_job_file(path) or posixpath.basename(path).startswith("."):
            continue
        read = _read_file(path, files[path], strict)
        notes += read.notes
        for job in read.found:
            other = where.setdefault(job.job.name, f"{path}, line {job.line}")
            if other != f"{path}, line {job.line}":
                notes.append(Note(path, job.line, job.job.name, f"name: {job.job.name} is in {other}, too", lost=True))
            else:
                found.append(job)
    return Imported(tuple(found), tuple(notes))


def _read_file(path: str, text: str, strict: bool) -> Imported:
    collector = Collector(path)
    try:
        documents = [Document(tomllib.loads(text), 1, {})] if path.endswith(".toml") else read_yaml(text)
    except (CallError, tomllib.TOMLDecodeError) as error:
        collector.lost(0, str(error))
        return collector.imported()
    needed = _KINDS.get(posixpath.basename(posixpath.dirname(path)))
    for document in documents:
        for value, line in _jobs_of(document):
            _take(collector, value, line, needed, strict)
    return collector.imported()


def _jobs_of(document: Document) -> list[tuple[Any, int]]:
    """A document is a job, a list of jobs, or an object with `jobs`."""
    value = document.value
    under: tuple[str, ...] = ()
    if isinstance(value, dict) and "name" not in value and isinstance(value.get("jobs"), list):
        value, under = value["jobs"], ("jobs",)
    if isinstance(value, list):
        return [(item, document.line_of(*under, index)) for index, item in enumerate(value)]
    return [(value, document.line)] if value is not None else []


def is_manifest(value: Any) -> bool:
    """Whether something is an object of Kubernetes."""
    return isinstance(value, dict) and "apiVersion" in value and "kind" in value


def _take(collector: Collector, value: Any, line: int, needed: str | None, strict: bool) -> None:
    if not isinstance(value, dict):
        collector.lost(line, "a job is an object with a name")
        return
    if is_manifest(value):
        collector.lost(line, "a manifest of Kubernetes is no job as it stands: `meseta cron import` makes one of a CronJob")
        return
    name = str(value.get("name", ""))
    if needed is not None and value.get(needed) is None:
        collector.lost(line, f"{name}: {needed}: required of what lies in this folder, but missing")
        return
    odd = list(unknown(value))
    if isinstance(value.get("environmentVariables"), dict):  # Refused as a whole: a list is due.
        odd = [(field, hint) for field, hint in odd if not field.startswith("environmentVariables.")]
    if odd and strict:
        for field, hint in odd:
            collector.lost(line, f"{name}: {field}: unknown field{hint}".removeprefix(": "))
    elif collector.add(value, line) is not None:
        for field, hint in odd:
            collector.differs(line, f"{field}: unknown field, ignored{hint}", name)
