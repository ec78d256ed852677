"""Replay a workload on a cluster that is only imagined, with the master's own allocator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kernel.commands import output, policy
from kernel.commands.context import CommandError, WrongUsage
from kernel.errors import CallError

KINDS = ("KIND", "JOBS", "TASKS", "COMPLETION", "WAIT", "ALONE", "SPEEDUP")
ROLES = ("ROLE", "SHARE", "TASKS", "WAIT MEAN", "P50", "P95", "MAX")


@click.command("simulate")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--cluster", multiple=True, required=True, metavar="N*AMOUNTS", help="Agents, as in `96*cpus=4,mem=15g`; may be repeated.")
@click.option("--weight", "weights", multiple=True, metavar="ROLE=NUMBER", help="Of a role; 1 when not given.")
@click.option("--guarantee", "guarantees", multiple=True, metavar=policy.OF_ROLE, help="Kept for a role, as in eng/batch:cpus=8,mem=16g.")
@click.option("--limit", "limits", multiple=True, metavar=policy.OF_ROLE, help="What a role may have at most, as in eng/batch:cpus=32.")
@click.option("--alone", is_flag=True, help="Compare with each framework alone on an equal part of the agents.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw shares, use and waits into this file (.png, .svg, .pdf)."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(
    trace: Path,
    cluster: tuple[str, ...],
    weights: tuple[str, ...],
    guarantees: tuple[str, ...],
    limits: tuple[str, ...],
    alone: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Replay a workload on a cluster that is only imagined, with the master's own allocator.

    TRACE is a CSV file with the columns arrival (seconds), role, framework, shape (as in "cpus=1,mem=2g"), duration (seconds) and
    tasks; and, if you like, kind (what to report it under), job (a name), after (the name of the job after whose end it arrives),
    gang (yes: its tasks start together) and spread (0.3: tasks take up to 30 % longer or shorter). What follows another of its kind at
    once is reported as one job with it.
    """
    from kernel.planning.chart import draw
    from kernel.planning.replay import Policy, Replay
    from kernel.planning.report import apart, by_kind, completion_s, figures
    from kernel.planning.trace import parse_cluster, read_trace

    try:
        decided = Policy(policy.weights(weights), policy.quotas(guarantees, limits))
        agents = parse_cluster(cluster)
    except CallError as error:
        raise WrongUsage(str(error)) from error
    try:
        with trace.open(newline="", encoding="utf-8") as lines:
            jobs = read_trace(lines)
    except CallError as error:
        raise CommandError(str(error), hint="see `meseta simulate --help`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"cannot read {trace}: {error}", field="trace") from error
    outcome = Replay(agents, jobs, decided).run()
    found = figures(outcome)
    if alone:
        alone_s = apart(agents, jobs)
        for kind, courses in by_kind(outcome.courses).items():
            shared_s = completion_s(courses)
            if kind in alone_s and shared_s:
                found["kinds"][kind] |= {"alone_s": round(alone_s[kind], 3), "speedup": round(alone_s[kind] / shared_s, 3)}
    if plot is not None:
        draw(outcome, plot)
    if as_json:
        output.emit_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    output.table(KINDS, [_kind_row(kind, row) for kind, row in found["kinds"].items()], empty="The trace has no job.")
    click.echo()
    output.table(ROLES, [_role_row(role, row) for role, row in found["roles"].items()], empty="Nothing was shared.")
    click.echo()
    used = ", ".join(f"{name} {part:.0%}" for name, part in found["utilisation"].items())
    click.echo(f"over after {output.number(found['end_s'])} s; used on average: {used}")
    for stuck in found["stuck"]:
        tasks = "1 task" if stuck["tasks"] == 1 else f"{stuck['tasks']} tasks"
        click.echo(f"line {stuck['line']}: {tasks} of {stuck['shape']} would never start: {stuck['why']}", err=True)


def _kind_row(kind: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        kind,
        str(row["jobs"]),
        str(row["tasks"]),
        *(_seconds(row.get(name)) for name in ("completion_s", "wait_mean_s", "alone_s")),
        (f"{row['speedup']:.2f}x" if "speedup" in row else ""),
    )


def _role_row(role: str, row: dict[str, Any]) -> tuple[str, ...]:
    waits = (_seconds(row.get(name)) for name in ("wait_mean_s", "wait_p50_s", "wait_p95_s", "wait_max_s"))
    return (role, f"{row['mean_share']:.1%}", str(row["tasks"]), *waits)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{output.number(value)} s"
