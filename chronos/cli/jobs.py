"""The jobs a scheduler has.

`meseta cron list`: List jobs, when each is due next and how it stands.
`meseta cron show`: Show one job with its last runs.
`meseta cron next`: Show when a job runs next, with what clocks do to it.
`meseta cron rm`: Delete jobs.
`meseta cron enable`: Let jobs run again that are disabled.
`meseta cron disable`: Keep jobs, and do not run them.
`meseta cron pause`: Skip the slots of a job, of those with a label, or of all.
`meseta cron resume`: End a pause.
`meseta cron graph`: Show which job runs after which.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from chronos.cli.client import CHRONOS, OURS, Scheduler, complete, job_argument, jobs_argument, scheduler_options, segment
from chronos.cli.shown import at, exit_of, joined, lasted, short, standing, until, what, when, zone_of
from kernel.commands import output

HEADINGS = ("NAME", "WHEN", "NEXT", "STATE", "LAST", "OK", "FAILED", "OWNER")
RUNS = ("RUN", "STATE", "STARTED", "TOOK", "EXIT", "HOST", "REASON")
LAST_RUNS = 5
STANDS_STILL = ("disabled", "paused", "quarantined")
WAITING = ("waiting", "queued", "launching")


@click.command("list")
@click.option("--name", metavar="PART", help="Only those with this in their name.")
@click.option("--owner", metavar="OWNER", help="Only those of an owner.")
@click.option("--label", metavar="KEY=VALUE", help="Only those with a label.")
@click.option(
    "--state", type=click.Choice(["idle", "queued", "running", "disabled", "paused", "quarantined"]), help="Only those that stand so."
)
@click.option("--kind", type=click.Choice(["scheduled", "dependent"]), help="Only those with a schedule, or with parents.")
@scheduler_options
def cron_list(
    scheduler: Scheduler, name: str | None, owner: str | None, label: str | None, state: str | None, kind: str | None, as_json: bool
) -> None:
    """List jobs, when each is due next and how it stands."""
    found = scheduler.jobs(name=name, owner=owner, label=label, state=state, kind=kind)
    if as_json:
        output.emit_json(found)
        return
    output.table(HEADINGS, [_row(one) for one in found], empty="There is no such job." if any((name, owner, label)) else "No job.")
    if not any((name, owner, label, kind)) and state in (None, "quarantined"):
        listed = {one["job"]["name"] for one in found}
        for other in scheduler.get(f"{OURS}/quarantined")["jobs"]:
            if other["name"] not in listed:  # There is no more to show of it.
                click.echo(f"{other['name']} is quarantined: {other['fault']}", err=True)


def _row(shown: dict[str, Any]) -> tuple[str, ...]:
    job = shown["job"]
    return (
        job["name"],
        short(when(job), 40),
        until(shown["next"]),
        standing(shown),
        shown["last"],
        str(job["successCount"]),
        str(job["errorCount"]),
        job["owner"],
    )


@click.command("show")
@job_argument
@scheduler_options
def cron_show(scheduler: Scheduler, job: str, as_json: bool) -> None:
    """Show one job with its last runs, and why a run of it waits."""
    shown = scheduler.job(job)
    live = scheduler.get(f"{OURS}/jobs/{segment(job)}/live")["runs"]
    past = scheduler.get(f"{OURS}/runs", job=job, limit=LAST_RUNS)["runs"]
    why = _why(scheduler, live)
    if as_json:
        output.emit_json({**shown, **why, "runs": [*live, *past]})
        return
    said = shown["job"]
    more = said.get("meseta") or {}
    output.details(
        {
            "name": said["name"],
            "state": standing(shown),
            "fault": shown["fault"],
            "paused": shown["paused"],
            **why,
            "when": when(said),
            "next": joined((at(shown["next"], zone_of(said)), until(shown["next"]))),
            "runs left": "" if shown["runsLeft"] is None else str(shown["runsLeft"]),
            "does": what(said),
            "in": (said.get("container") or {}).get("image", ""),
            "as": said["runAsUser"],
            "needs": f"cpus {output.number(said['cpus'])}, mem {output.mebibytes(said['mem'])}, disk {output.mebibytes(said['disk'])}",
            "owner": said["owner"],
            "description": said["description"],
            "labels": ", ".join(f"{key}={value}" for key, value in (more.get("labels") or {}).items()),
            "overlap": more.get("overlap", ""),
            "catch up": more.get("catchUp", ""),
            "retries": str(said["retries"]),
            "succeeded": f"{said['successCount']}" + (f", the last time {said['lastSuccess']}" if said["lastSuccess"] else ""),
            "failed": f"{said['errorCount']}" + (f", the last time {said['lastError']}" if said["lastError"] else ""),
        }
    )
    if live or past:
        click.echo()
        output.table(RUNS, [_run_row(run) for run in (*live, *past)], empty="")


def _why(scheduler: Scheduler, live: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Why the first run that waits does, and what would unblock it: as the master says where it waits for resources, else as the scheduler
    does. Both are empty where none waits."""
    waits = next((run for run in live if run["state"] in WAITING), None)
    if waits is None:
        return {"why": "", "unblocks": ""}
    told = scheduler.get(f"{OURS}/runs/{segment(waits['id'])}/why")
    explained = scheduler.explained(told["demand"]) if told["demand"] is not None else None
    if explained is not None:
        return {"why": explained["reason"], "unblocks": explained["unblocks"]}
    return {"why": "; ".join(told["reasons"]), "unblocks": ""}


def _run_row(run: dict[str, Any]) -> tuple[str, ...]:
    took = lasted(run["durationMs"]) if run["ended"] and run["attempts"] else ""
    host = run["attempts"][-1]["hostname"] if run["attempts"] else ""
    return run["id"], run["state"], at(run["started"]), took, exit_of(run), host, short(run["reason"])


@click.command("next")
@job_argument
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many.")
@scheduler_options
def cron_next(scheduler: Scheduler, job: str, count: int, as_json: bool) -> None:
    """Show when a job runs next, in the zone of its schedule, with what clocks do to it where they change."""
    shown = scheduler.job(job)
    said = shown["job"]
    runs = scheduler.get(f"{OURS}/jobs/{segment(job)}/next", n=count)["runs"]
    zone = zone_of(said)
    if as_json:
        output.emit_json([{**run, "time": at(run["slot"], zone)} for run in runs])
        return
    why = "It runs after its parents." if said.get("parents") else "It never runs again."
    output.table(("WHEN", "IN", "NOTE"), [(at(run["slot"], zone), until(run["slot"]), run["note"]) for run in runs], empty=why)
    if runs and (stands := standing(shown)) in STANDS_STILL:
        click.echo(f"The job is {stands}: as long as it is, it does not run.", err=True)


# ---- Changing -------------------------------------------------------------------------------------------


@click.command("rm")
@jobs_argument
@scheduler_options
def cron_rm(scheduler: Scheduler, jobs: tuple[str, ...], as_json: bool) -> None:
    """Delete jobs. What runs of them is killed; those that depend on them keep their other parents, or take over the schedule."""
    _each(scheduler.known(jobs), lambda name: scheduler.ask("DELETE", f"{CHRONOS}/job/{segment(name)}"), "is deleted", as_json)


@click.command("enable")
@jobs_argument
@scheduler_options
def cron_enable(scheduler: Scheduler, jobs: tuple[str, ...], as_json: bool) -> None:
    """Let jobs run again that are disabled."""
    _each(scheduler.known(jobs), lambda name: scheduler.ask("POST", f"{OURS}/jobs/{segment(name)}/enable", {}), "is enabled", as_json)


@click.command("disable")
@jobs_argument
@scheduler_options
def cron_disable(scheduler: Scheduler, jobs: tuple[str, ...], as_json: bool) -> None:
    """Keep jobs, and do not run them. What was due meanwhile is no slot."""
    _each(scheduler.known(jobs), lambda name: scheduler.ask("POST", f"{OURS}/jobs/{segment(name)}/disable", {}), "is disabled", as_json)


def _each(jobs: Sequence[str], act: Callable[[str], Any], done: str, as_json: bool) -> None:
    """What was done is told also where the rest fails."""
    told: list[dict[str, str]] = []
    try:
        for name in jobs:
            act(name)
            told.append({"name": name})
            if not as_json:
                click.echo(f"Job {name} {done}.")
    finally:
        if as_json and told:
            output.emit_json(told)


_WHOSE = (
    click.argument("jobs", nargs=-1, shell_complete=complete),
    click.option("--label", metavar="KEY=VALUE", help="Those with a label."),
    click.option("--all", "everything", is_flag=True, help="All jobs."),
)


def _whose(command: Any) -> Any:
    for option in reversed(_WHOSE):
        command = option(command)
    return command


@click.command("pause")
@_whose
@scheduler_options
def cron_pause(scheduler: Scheduler, jobs: tuple[str, ...], label: str | None, everything: bool, as_json: bool) -> None:
    """Skip the slots of jobs, of those with a label, or of all; what runs goes on. History tells of each that was skipped."""
    _pause(scheduler, "pause", jobs, label, everything, as_json)


@click.command("resume")
@_whose
@scheduler_options
def cron_resume(scheduler: Scheduler, jobs: tuple[str, ...], label: str | None, everything: bool, as_json: bool) -> None:
    """End a pause, of the same kind as it was begun with."""
    _pause(scheduler, "resume", jobs, label, everything, as_json)


def _pause(scheduler: Scheduler, verb: str, jobs: tuple[str, ...], label: str | None, everything: bool, as_json: bool) -> None:
    if bool(jobs) + (label is not None) + everything != 1:
        raise click.UsageError("give one of JOBS, --label and --all")
    for name in scheduler.known(jobs):
        scheduler.ask("POST", f"{OURS}/jobs/{segment(name)}/{verb}", {})
    if not jobs:
        scheduler.ask("POST", f"{OURS}/{verb}", {"label": label} if label is not None else {})
    if as_json:
        output.emit_json(scheduler.get(f"{OURS}/pauses"))
        return
    whose = f"Jobs with {label}" if label is not None else "All jobs" if everything else f"Job {', '.join(jobs)}"
    click.echo(f"{whose}: {'paused' if verb == 'pause' else 'resumed'}.")


# ---- Graph ----------------------------------------------------------------------------------------------


@click.command("graph")
@click.option("--format", "form", type=click.Choice(["tree", "dot", "csv"]), default="tree", show_default=True, help="How to write it.")
@scheduler_options
def cron_graph(scheduler: Scheduler, form: str, as_json: bool) -> None:
    """Show which job runs after which: as a tree, for Graphviz, or as lines."""
    if form != "tree" and not as_json:
        click.echo(scheduler.text(f"{CHRONOS}/graph/{form}"), nl=False)
        return
    shown = {one["job"]["name"]: one for one in scheduler.jobs()}
    if as_json:
        output.emit_json([{"name": name, "parents": one["job"].get("parents") or []} for name, one in shown.items()])
        return
    lines = tree({name: one["job"].get("parents") or [] for name, one in shown.items()}, {name: _leaf(one) for name, one in shown.items()})
    click.echo("\n".join(lines) if lines else "No job depends on another.", err=not lines)


def _leaf(shown: dict[str, Any]) -> str:
    said = "" if shown["job"].get("parents") else when(shown["job"])
    return joined((said, standing(shown), shown["last"]))


def tree(parents: Mapping[str, Sequence[str]], about: Mapping[str, str]) -> list[str]:
    """Lines of a tree: each job with something above or below it, under each of its parents; what is below it is shown once. Pure."""
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(name)
    lines: list[str] = []
    seen: set[str] = set()
    waiting = [(name, "", "") for name in reversed(list(parents)) if not parents[name] and children[name]]
    while waiting:
        name, lead, below = waiting.pop()
        again = name in seen and children[name]
        lines.append(f"{lead}{name}  {'(see above)' if again else '(' + about[name] + ')'}")
        if name not in seen:
            last = len(children[name]) - 1
            for index, child in reversed(list(enumerate(children[name]))):
                bend, rest = ("`- ", "   ") if index == last else ("|- ", "|  ")
                waiting.append((child, below + bend, below + rest))
        seen.add(name)
    return lines
