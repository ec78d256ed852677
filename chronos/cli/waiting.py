"""Waiting for a run to be over, and how it ended in a line."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from chronos.cli.client import OURS, Away, Scheduler, segment
from chronos.cli.shown import exit_of, lasted
from kernel.commands import output

POLL_S = 0.5
AWAY_S = 60.0  # How long a scheduler may be away (a restart, another that takes over) while it is waited for.
_ENDS = {"succeeded": "succeeded", "failed": "failed", "killed": "was killed", "skipped": "was skipped"}


def begun(scheduler: Scheduler, run: str, *, wait: bool, as_json: bool) -> int:
    """Tell of a run that was called for; wait: and of its end. Returns the exit status: 1 where it was waited for and did not succeed."""
    if not wait:
        if as_json:
            output.emit_json({"run": run})
        else:
            click.echo(f"Run {run} is begun.")
        return 0
    found = _end_of(scheduler, run)
    if as_json:
        output.emit_json({"run": run, **found})
    else:
        click.echo(ending(found))
    return 0 if found["state"] == "succeeded" else 1


def ending(run: dict[str, Any]) -> str:
    """`Run a@1 failed (exit status 3) after 4.2s: Command exited with status 3`."""
    status = exit_of(run)
    how = f" (exit status {status})" if status not in ("", "0") else ""
    took = f" after {lasted(run['durationMs'])}" if run["attempts"] else ""
    why = run["reason"] if run["state"] != "succeeded" else ""
    return f"Run {run['id']} {_ENDS[run['state']]}{how}{took}{f': {why}' if why else ''}"


def _end_of(scheduler: Scheduler, run_id: str) -> dict[str, Any]:
    """The run once it is over, telling a terminal meanwhile how it stands. Raises CommandError."""
    shown, away_s = sys.stderr.isatty(), 0.0
    try:
        while True:
            try:
                run: dict[str, Any] = scheduler.get(f"{OURS}/runs/{segment(run_id)}")
                stands, away_s = run["state"], 0.0
                if stands in _ENDS:
                    return run
                if len(run["attempts"]) > 1:
                    stands += f", attempt {len(run['attempts'])}"
            except Away:
                stands, away_s = "the scheduler does not answer", away_s + POLL_S
                if away_s >= AWAY_S:
                    raise
            if shown:
                click.echo(f"\rRun {run_id}: {stands}\x1b[K", err=True, nl=False)
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        click.echo(f"\nRun {run_id} goes on; `meseta cron kill {run_id.partition('@')[0]} {run_id}` ends it.", err=True)
        raise
    finally:
        if shown:
            click.echo("\r\x1b[K", err=True, nl=False)
