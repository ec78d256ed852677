"""The runs of jobs.

`meseta cron run`: Run a job now.
`meseta cron rerun`: Run a run that is over again, and what depends on it.
`meseta cron backfill`: Run the slots of a job between two times, and what depends on them.
`meseta cron history`: Show what became of each slot of a job.
`meseta cron logs`: Print the end of what a run printed.
`meseta cron kill`: Kill the runs of a job, or one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import tzinfo
from itertools import islice
from typing import Any

import click

from chronos.cli.client import CHRONOS, OURS, Scheduler, complete, job_argument, scheduler_options, segment
from chronos.cli.shown import at, exit_of, lasted, short, zone_of
from chronos.cli.waiting import begun
from kernel.commands import output
from kernel.commands.context import CommandError
from kernel.commands.times import instant

HEADINGS = (
    "RUN",
    "SLOT",
    "STATE",
    "LATE",
    "TOOK",
    "EXIT",
    "TRIES",
    "WHERE",
    "REASON",
)  # The first is never cut: ids are for other commands.
LOOKED_AT = 100  # Of the newest runs, for one that began.
ON_TIME_MS = 1000
LISTED_MAX = 20
ROOTS_MAX = 5


_wait = click.option("--wait", is_flag=True, help="Return when it is over, with status 0 if it succeeded, else 1.")


@click.command("run")
@job_argument
@click.option(
    "--arg",
    "arguments",
    metavar="TEXT",
    multiple=True,
    help="Appended to its command (without a shell: its words), in the place of its own arguments.",
)
@_wait
@scheduler_options
def cron_run(scheduler: Scheduler, job: str, arguments: tuple[str, ...], wait: bool, as_json: bool) -> int:
    """Run a job now, and then what depends on it. Its schedule stays as it is."""
    said = {"arguments": " ".join(arguments)} if arguments else {}
    run = scheduler.ask("POST", f"{OURS}/jobs/{segment(job)}/run", said)["run"]
    return begun(scheduler, run, wait=wait, as_json=as_json)


@click.command("rerun")
@job_argument
@click.argument("run", required=False)
@_wait
@scheduler_options
def cron_rerun(scheduler: Scheduler, job: str, run: str | None, wait: bool, as_json: bool) -> int:
    """Run a run that is over again, and then what depends on it: the last of a job, or RUN (an id, as `cron history` shows it).

    In a graph it takes the place of the one that failed: what is below it runs with what its other parents came to.
    """
    past = _past(scheduler, job, run)
    again = scheduler.ask("POST", f"{OURS}/runs/{segment(past['id'])}/again", {})["run"]
    return begun(scheduler, again, wait=wait, as_json=as_json)


def _past(scheduler: Scheduler, job: str, run: str | None, began: bool = False) -> dict[str, Any]:
    """A run of a job by its id, else the last in history. began: that was attempted."""
    if run is None:
        scheduler.job(job)  # Where there is none, that is what is wrong.
        runs = scheduler.get(f"{OURS}/runs", job=job, limit=LOOKED_AT)["runs"]
        found: dict[str, Any] | None = next((one for one in runs if one["attempts"] or not began), None)
        if found is None:
            raise CommandError(f"job: no run of {job} is over yet", field="job", hint=f"`meseta cron history {job}` shows what there is")
        return found
    found = scheduler.get(f"{OURS}/runs/{segment(run)}")
    assert found is not None, "it answers with an object"
    if found["job"] != job:
        raise CommandError(f"run: {run} is a run of {found['job']}, not of {job}", field="run")
    return found


@click.command("backfill")
@job_argument
@click.option("--from", "from_ns", type=instant, required=True, metavar="TIME", help="The first slot is not before it: 2026-12-01T02:00.")
@click.option("--to", "to_ns", type=instant, default="now", show_default=True, metavar="TIME", help="The last slot is before it.")
@click.option("--dry-run", is_flag=True, help="Only list the slots.")
@scheduler_options
def cron_backfill(scheduler: Scheduler, job: str, from_ns: int, to_ns: int, dry_run: bool, as_json: bool) -> None:
    """Run the slots of a job between two times, whether they have run or not, in order, and what depends on them."""
    asked = {"from": from_ns // 1_000_000, "to": to_ns // 1_000_000, "dryRun": dry_run}
    answer = scheduler.ask("POST", f"{OURS}/jobs/{segment(job)}/backfill", asked)
    if dry_run:
        zone = zone_of(scheduler.job(job)["job"])
        slots = [{"slot": slot, "time": at(slot, zone)} for slot in answer["slots"]]
        _list(slots, [slot["time"] for slot in slots], ("1 slot would be run:", f"{len(slots)} slots would be run:"), as_json)
    else:
        runs = answer["runs"]
        _list(runs, runs, ("1 run is begun:", f"{len(runs)} runs are begun:"), as_json)


def _list(found: Sequence[Any], lines: Sequence[str], headings: tuple[str, str], as_json: bool) -> None:
    """headings: of one, and of several."""
    if as_json:
        output.emit_json(found)
    elif lines:
        more = [f"... and {len(lines) - LISTED_MAX} more; --json prints all"] if len(lines) > LISTED_MAX else []
        click.echo("\n".join([headings[len(lines) > 1], *lines[:LISTED_MAX], *more]))
    else:
        click.echo("There is no slot between these times.", err=True)


@click.command("history")
@click.argument("job", required=False, shell_complete=complete)
@click.option("-n", "count", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many, the newest first.")
@click.option("--state", metavar="STATES", help="Only succeeded, failed, killed or skipped; several with commas.")
@click.option("--from", "from_ns", type=instant, metavar="TIME", help="Only slots not before it: 2026-12-01T02:00, local time.")
@click.option("--to", "to_ns", type=instant, metavar="TIME", help="Only slots before it.")
@scheduler_options
def cron_history(
    scheduler: Scheduler, job: str | None, count: int, state: str | None, from_ns: int | None, to_ns: int | None, as_json: bool
) -> None:
    """Show what became of each slot of a job, or of all: how it ran, or why it did not. Runs that go on come first.

    What a run printed: `meseta cron logs`.
    """
    said = scheduler.job(job)["job"] if job is not None else None
    live = [] if state or from_ns or to_ns else scheduler.get(f"{OURS}/live", job=job, limit=min(count, 1000))["runs"]
    bounds = {name: None if at_ns is None else at_ns // 1_000_000 for name, at_ns in (("from_", from_ns), ("to", to_ns))}
    runs = [run for run in live if not run["ended"]]
    pages = scheduler.pages(f"{OURS}/runs", "runs", "before", job=job, state=state, limit=min(count, 1000), **bounds)
    for run in pages:
        if len(runs) >= count:
            break
        runs.append(run)
    if as_json:
        logs = [f"{scheduler.url}{OURS}/runs/{segment(run['id'])}/output" if run["attempts"] and run["ended"] else "" for run in runs]
        output.emit_json([{**run, "log": log} for run, log in zip(runs, logs, strict=True)])
        return
    nothing = "There is no such run." if state or from_ns or to_ns else _none_of(said)
    zone = None if said is None else _zone_above(scheduler, runs) if said.get("parents") else zone_of(said)
    output.table(HEADINGS, [_row(run, zone) for run in runs], empty=nothing)


def _none_of(job: dict[str, Any] | None) -> str:
    """Why nothing is listed. Schedulers that take turns have the jobs, and their counters, in common, but not the history."""
    if job is None:
        return "Nothing has run yet."
    if job["successCount"] or job["errorCount"]:
        return "It has run, but not in this scheduler's history: that was too long ago, or is not told here yet by another."
    return "It has not run yet."


def _zone_above(scheduler: Scheduler, runs: Sequence[dict[str, Any]]) -> tzinfo | None:
    """The zone of a job above one that has no schedule: slots are those of its runs. None, for the local one, where nobody knows it."""
    roots = dict.fromkeys(root for run in runs if (root := run["identity"].partition("@")[0]) not in ("", run["job"]))
    for root in islice(roots, ROOTS_MAX):
        with suppress(CommandError):  # It is gone, or quarantined.
            said = scheduler.job(root)["job"]
            if not said.get("parents"):
                return zone_of(said)
    return None


def _row(run: dict[str, Any], zone: Any) -> tuple[str, ...]:
    attempts = run["attempts"]
    slot = at(run["slot"], zone) + (f" to {at(run['lastSlot'], zone)} ({run['slots']} slots)" if run["slots"] > 1 else "")
    if run["cause"] not in ("schedule", "parent"):
        slot += f" ({run['cause']})"
    return (
        run["id"],
        slot,
        run["state"],
        lasted(run["lateMs"]) if run["lateMs"] >= ON_TIME_MS else "",
        lasted(run["durationMs"]) if attempts and run["ended"] else "",
        exit_of(run),
        str(len(attempts) or ""),
        attempts[-1]["hostname"] if attempts else "",
        short(run["reason"], 80),
    )


@click.command("logs")
@job_argument
@click.argument("run", required=False)
@scheduler_options
def cron_logs(scheduler: Scheduler, job: str, run: str | None, as_json: bool) -> None:
    """Print the end of what a run of a job printed in its last attempt: of the last run, or of RUN (an id, as `cron history` shows it)."""
    found = _past(scheduler, job, run, began=True)
    printed = scheduler.get(f"{OURS}/runs/{segment(found['id'])}/output")
    if as_json:
        output.emit_json({"run": found["id"], **printed})
        return
    if not printed["kept"]:
        last = found["attempts"][-1] if found["attempts"] else {"agentId": ""}
        hint = f"`meseta task logs {last['taskId']}` reads it from its agent" if last["agentId"] else found["reason"]
        raise CommandError(f"run: no output of {found['id']} is kept", field="run", hint=hint or None)
    click.echo(printed["stdout"], nl=False)
    click.echo(printed["stderr"], nl=False, err=True)


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
