"""Workloads to replay: one job a line of a CSV file, and clusters to replay them on."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite

from msgspec import Struct

from kernel.errors import CallError
from kernel.planning.amounts import parse_resources
from kernel.wire.resources import Resources
from kernel.wire.roles import validate_role

NEEDED = ("arrival", "role", "framework", "shape", "duration", "tasks")
ALLOWED = (*NEEDED, "kind", "job", "after", "gang", "spread")
TASKS_MAX = 1_000_000
AGENTS_MAX = 100_000
SECONDS_MAX = 1e9
SPREAD_MAX = 0.9
# What is left of multiples of these, modulo 1, is spread evenly.
_GOLDEN, _PLASTIC = 0.6180339887498949, 0.7548776662466927
_NODES = re.compile(r"\s*(?:(\d+)\s*[x*]\s*)?(.+)")


class Job(Struct, frozen=True):
    """Tasks of one shape that arrive together. kind: what it is reported under. after: the number of the job after whose end it
    arrives, in arrival_s; None: that long after the begin. gang: its tasks start together. spread: by what part at most a task takes
    longer or shorter."""

    number: int
    arrival_s: float
    role: str
    framework: str
    shape: Resources
    duration_s: float
    tasks: int
    kind: str
    after: int | None = None
    gang: bool = False
    spread: float = 0.0

    def lasting_s(self, task: int) -> float:
        """How long a task takes, by its number in the job: all lengths within the spread are as likely; the same each time."""
        place = (self.number * _PLASTIC + task * _GOLDEN) % 1.0
        return self.duration_s * (1 + self.spread * (2 * place - 1))


def read_trace(lines: Iterable[str]) -> list[Job]:
    """The jobs, line by line. Raises CallError naming line and column."""
    rows = csv.DictReader(lines, skipinitialspace=True)
    names = [name.strip() for name in rows.fieldnames or ()]
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in ALLOWED]
    if missing or unknown:
        problem = f"has no column {', '.join(missing)}" if missing else f"has unknown columns: {', '.join(unknown)}"
        raise CallError(f"the trace {problem}; columns: {', '.join(NEEDED)}, and if you like kind, job, after, gang, spread")
    rows.fieldnames = names
    jobs: list[Job] = []
    named: dict[str, int] = {}
    for number, row in enumerate(rows):
        where = f"line {rows.line_num}"
        jobs.append(_job(number, where, row, named))
        if name := (row.get("job") or "").strip():
            if name in named:
                raise CallError(f"{where}: job: '{name}' is there already")
            named[name] = number
    return jobs


def _job(number: int, where: str, row: dict[str, str | None], named: Mapping[str, int]) -> Job:
    cells = {name: (row.get(name) or "").strip() for name in ALLOWED}
    if None in row or any(row.get(name) is None for name in NEEDED):
        raise CallError(f"{where}: has another number of columns than the first line")
    validate_role(cells["role"], f"{where}: role")
    if not cells["framework"]:
        raise CallError(f"{where}: framework: must not be empty")
    if cells["after"] and cells["after"] not in named:
        raise CallError(f"{where}: after: no job before this line is called '{cells['after']}'")
    tasks = _number(cells["tasks"], f"{where}: tasks", 1, TASKS_MAX)
    if tasks != int(tasks):
        raise CallError(f"{where}: tasks: '{cells['tasks']}' is no whole number")
    if cells["gang"] not in ("", "yes", "no"):
        raise CallError(f"{where}: gang: '{cells['gang']}' is not allowed; yes or no")
    shape = parse_resources(cells["shape"], f"{where}: shape")
    if not shape:
        raise CallError(f"{where}: shape: a task needs something")
    return Job(
        number=number,
        arrival_s=_number(cells["arrival"], f"{where}: arrival", 0, SECONDS_MAX),
        role=cells["role"],
        framework=cells["framework"],
        shape=shape,
        duration_s=_number(cells["duration"], f"{where}: duration", 0.001, SECONDS_MAX),
        tasks=int(tasks),
        kind=cells["kind"] or cells["framework"],
        after=named[cells["after"]] if cells["after"] else None,
        gang=cells["gang"] == "yes",
        spread=_number(cells["spread"] or "0", f"{where}: spread", 0, SPREAD_MAX),
    )


def _number(text: str, field: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number) or not least <= number <= most:
        raise CallError(f"{field}: '{text}' is not allowed; a number from {least:g} to {most:g}")
    return number


def parse_cluster(parts: Iterable[str]) -> list[Resources]:
    """What each agent has, from parts such as `96*cpus=4,mem=15g`. Raises CallError."""
    agents: list[Resources] = []
    for part in parts:
        agents += _agents(part)
        if len(agents) > AGENTS_MAX:
            raise CallError(f"--cluster: has {len(agents)} agents; at most {AGENTS_MAX} are simulated")
    if not agents:
        raise CallError("--cluster: has no agent")
    return agents


def _agents(part: str) -> Iterator[Resources]:
    found = _NODES.fullmatch(part)
    assert found is not None, "the pattern takes everything"
    count = int(found[1] or 1)
    if not 1 <= count <= AGENTS_MAX:
        raise CallError(f"--cluster: {count} agents are not allowed; 1 to {AGENTS_MAX}")
    total = parse_resources(found[2], "--cluster")
    if not total:
        raise CallError(f"--cluster: an agent of '{part}' has nothing; some amount must be above 0")
    yield from [total] * count
