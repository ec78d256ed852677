"""The runs of jobs.

`meseta cron run`: Run a job now.
`meseta cron backfill`: Run the slots of a job between two times, and what depends on them.
`meseta cron history`: Show what became of each slot of a job.
`meseta cron kill`: Kill the runs of a job, or one of them.
"""

from __future__ import annotations

from typing import Any

import click

from chronos.cli.client import CHRONOS, OURS, Scheduler, job_argument, scheduler_options, segment
from chronos.cli.shown import at, exit_of, lasted, short, zone_of
from kernel.commands import output
from kernel.commands.times import instant

HEADINGS = ("SLOT", "STATE", "LATE", "TOOK", "EXIT", "TRIES", "WHERE", "REASON", "LOG")
ON_TIME_MS = 1000
LISTED_MAX = 20


@click.command("run")
@job_argument
@click.option(
    "--arg",
    "arguments",
    metavar="TEXT",
    multiple=True,
    help="Appended to its command (without a shell: its words), in the place of its own arguments.",
)
@scheduler_options
def cron_run(scheduler: Scheduler, job: str, arguments: tuple[str, ...], as_json: bool) -> None:
    """Run a job now, and then what depends on it. Its schedule stays as it is."""
    said = {"arguments": " ".join(arguments)} if arguments else {}
    run = scheduler.ask("POST", f"{OURS}/jobs/{segment(job)}/run", said)["run"]
    if as_json:
        output.emit_json({"run": run})
    else:
        click.echo(f"Run {run} is begun.")


@click.command("backfill")
@job_argument
@click.option("--from", "from_ns", type=instant, required=True, metavar="TIME", help="The first slot is not before it: 2026-12-01T02:00.")
@click.option("--to", "to_ns", type=instant, default="now", show_default=True, metavar="TIME", help="The last slot is before it.")
@scheduler_options
def cron_backfill(scheduler: Scheduler, job: str, from_ns: int, to_ns: int, as_json: bool) -> None:
    """Run the slots of a job between two times, whether they have run or not, in order, and what depends on them."""
    asked = {"from": from_ns // 1_000_000, "to": to_ns // 1_000_000}
    runs = scheduler.ask("POST", f"{OURS}/jobs/{segment(job)}/backfill", asked)["runs"]
    if as_json:
        output.emit_json(runs)
    elif runs:
        more = [f"... and {len(runs) - LISTED_MAX} more; --json prints all"] if len(runs) > LISTED_MAX else []
        click.echo("\n".join([f"{len(runs)} runs are begun:", *runs[:LISTED_MAX], *more]))
    else:
        click.echo("There is no slot between these times.", err=True)


@click.command("history")
@job_argument
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, the newest first.")
@click.option("--state", metavar="STATES", help="Only succeeded, failed, killed or skipped; several with commas.")
@click.option("--from", "from_ns", type=instant, metavar="TIME", help="Only slots not before it: 2026-12-01T02:00, local time.")
@click.option("--to", "to_ns", type=instant, metavar="TIME", help="Only slots before it.")
@scheduler_options
def cron_history(
    scheduler: Scheduler, job: str, count: int, state: str | None, from_ns: int | None, to_ns: int | None, as_json: bool
) -> None:
    """Show what became of each slot of a job: how it ran, or why it did not. Runs that go on come first."""
    said = scheduler.job(job)["job"]
    live = [] if state or from_ns or to_ns else scheduler.get(f"{OURS}/jobs/{segment(job)}/live")["runs"]
    bounds = {name: None if at_ns is None else at_ns // 1_000_000 for name, at_ns in (("from_", from_ns), ("to", to_ns))}
    runs = [run for run in live if not run["ended"]]
    pages = scheduler.pages(f"{OURS}/runs", "runs", "before", job=job, state=state, limit=min(count, 1000), **bounds)
    for run in pages:
        if len(runs) >= count:
            break
        runs.append(run)
    logs = [f"{scheduler.url}{OURS}/runs/{segment(run['id'])}/output" if run["attempts"] and run["ended"] else "" for run in runs]
    if as_json:
        output.emit_json([{**run, "log": log} for run, log in zip(runs, logs, strict=True)])
        return
    zone = zone_of(said)
    output.table(HEADINGS, [_row(run, log, zone) for run, log in zip(runs, logs, strict=True)], empty="It has not run yet.")


def _row(run: dict[str, Any], log: str, zone: Any) -> tuple[str, ...]:
    attempts = run["attempts"]
    slot = at(run["slot"], zone) + (f" to {at(run['lastSlot'], zone)} ({run['slots']} slots)" if run["slots"] > 1 else "")
    if run["cause"] not in ("schedule", "parent"):
        slot += f" ({run['cause']})"
    return (
        slot,
        run["state"],
        lasted(run["lateMs"]) if run["lateMs"] >= ON_TIME_MS else "",
        lasted(run["durationMs"]) if attempts and run["ended"] else "",
        exit_of(run),
        str(len(attempts) or ""),
        attempts[-1]["hostname"] if attempts else "",
        short(run["reason"], 80),
        log,
    )


@click.command("kill")
@job_argument
@click.argument("run", required=False)
@scheduler_options
def cron_kill(scheduler: Scheduler, job: str, run: str | None, as_json: bool) -> None:
    """Kill the runs of a job, or one of them by its id."""
    path = f"{CHRONOS}/task/kill/{segment(job)}" if run is None else f"{OURS}/runs/{segment(run)}"
    scheduler.ask("DELETE", path)
    if as_json:
        output.emit_json({"name": job, "run": run})
    else:
        click.echo(f"{f'Run {run}' if run else f'What runs of job {job}'} is being killed.")
