"""Jobs that people write down.

`meseta cron add`: Add a job, as options say.
`meseta cron apply`: Make the scheduler have the jobs that files say, and show what changes.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from chronos.cli.client import Scheduler, complete, scheduler_options
from chronos.cli.shown import at, short, until, zone_of
from kernel.commands import output
from kernel.commands.context import CommandError

if TYPE_CHECKING:
    from chronos.cli.plan import Difference, Plan, Step

CHANGES = 3  # The exit status of a dry run that finds some.
SIGNS = {"create": "+", "change": "~", "remove": "-"}


def _pairs(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", param=parameter)
        pairs[key] = text
    return pairs


@click.command("add")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--schedule", metavar="TEXT", help="When: '*/5 * * * *', @daily, '@every 90s', R/2026-01-01T00:00:00Z/PT1H; else once, now.")
@click.option("--zone", metavar="ZONE", help="The time zone of the schedule, as Europe/Berlin.")
@click.option(
    "--after",
    "parents",
    metavar="JOB",
    multiple=True,
    shell_complete=complete,
    help="In the place of a schedule: a job that must have succeeded.",
)
@click.option("--cpus", type=click.FloatRange(min=0.001), help="Cores.")
@click.option("--mem", type=click.FloatRange(min=1), help="MiB of memory.")
@click.option("--disk", type=click.FloatRange(min=0), help="MiB of disk.")
@click.option("--gpus", type=click.IntRange(min=0), help="GPUs.")
@click.option("--image", metavar="IMAGE", help="Run inside this container image.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, callback=_pairs, help="A variable of its environment.")
@click.option("--user", metavar="USER", help="Whom to run as.")
@click.option("--role", metavar="ROLE", help="The role whose share is used.")
@click.option("--owner", metavar="OWNER", help="Who is told of failures.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@click.option("--label", "labels", metavar="KEY=VALUE", multiple=True, callback=_pairs, help="A label.")
@click.option("--retries", type=click.IntRange(0, 1000), help="How often a run that fails is tried again.")
@click.option("--timeout", metavar="DURATION", help="How long an attempt may take.")
@click.option("--overlap", type=click.Choice(["allow", "skip", "queue", "replace"]), help="When the last run still goes on.")
@click.option("--catch-up", type=click.Choice(["none", "latest", "all"]), help="Which of the slots that were missed run later.")
@click.option("--jitter", metavar="DURATION", help="By how much a run is delayed at most.")
@click.option("--disabled", is_flag=True, help="Do not run it yet.")
@click.option("--replace", is_flag=True, help="Also when there is a job of this name.")
@scheduler_options
def cron_add(scheduler: Scheduler, name: str, command: tuple[str, ...], replace: bool, as_json: bool, **said: Any) -> None:
    """Add a job: meseta cron add NAME --schedule TEXT -- COMMAND. One word is text for the shell, several are run as they are."""
    if not command:
        raise click.UsageError("a COMMAND is due")
    if said["schedule"] is not None and said["parents"]:
        raise click.UsageError("--schedule and --after exclude each other")
    if not replace and any(shown["job"]["name"] == name for shown in scheduler.jobs(name=name)):
        raise CommandError(f"there is a job {name} already", field="name", hint="`--replace` puts this one in its place")
    scheduler.put(_fields(name, command, said))
    shown = scheduler.job(name)
    if as_json:
        output.emit_json(shown)
        return
    due, at_once = shown["next"], not (said["schedule"] or said["parents"] or said["disabled"])
    runs = f"; it runs {until(due)}, at {at(due, zone_of(shown['job']))}" if due else "; it runs now" if at_once else ""
    click.echo(f"Job {name} is there{runs}.")


_PLAIN = {
    "schedule": "schedule",
    "zone": "scheduleTimeZone",
    "cpus": "cpus",
    "mem": "mem",
    "disk": "disk",
    "user": "runAsUser",
    "owner": "owner",
    "description": "description",
    "retries": "retries",
}
_MORE = {"gpus": "gpus", "role": "role", "timeout": "timeout", "overlap": "overlap", "catch_up": "catchUp", "jitter": "jitter"}


def _fields(name: str, command: tuple[str, ...], said: dict[str, Any]) -> dict[str, Any]:
    """The job, with what was said and nothing else."""
    fields: dict[str, Any] = {"name": name, "command": command[0] if len(command) == 1 else shlex.join(command)}
    fields |= {field: said[option] for option, field in _PLAIN.items() if said[option] is not None}
    if said["parents"]:
        fields["parents"] = list(said["parents"])
    if said["disabled"]:
        fields["disabled"] = True
    if said["env"]:
        fields["environmentVariables"] = [{"name": key, "value": value} for key, value in said["env"].items()]
    if said["image"]:
        fields["container"] = {"type": "MESOS", "image": said["image"]}
    more = {field: said[option] for option, field in _MORE.items() if said[option] is not None}
    if said["labels"]:
        more["labels"] = said["labels"]
    return {**fields, "meseta": more} if more else fields


# ---- Files ----------------------------------------------------------------------------------------------


@click.command("apply")
@click.argument("paths", nargs=-1, required=True)
@click.option("--prune", is_flag=True, help="Delete the jobs that the files do not name.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--exit-code", is_flag=True, help=f"With --dry-run: exit with {CHANGES} when there are changes.")
@scheduler_options
def cron_apply(scheduler: Scheduler, paths: tuple[str, ...], prune: bool, dry_run: bool, exit_code: bool, as_json: bool) -> int:
    """Make the scheduler have the jobs that files say (YAML, JSON, TOML; folders of such; - for the standard input), and show what
    changes.

    A file that cannot be read, a job that makes no sense, or a field that no job has changes nothing.
    """
    from chronos.cli.plan import plan
    from chronos.cli.sources import read_files, tell
    from chronos.importers.folder import SUFFIXES, is_job_file, read_folder

    texts = read_files(paths, is_job_file)
    odd = next((path for path in texts if not is_job_file(path)), None)
    if odd is not None:
        raise CommandError(f"{odd} is no file of jobs: one that ends with {', '.join(SUFFIXES)} is", field="paths")
    read = read_folder(texts, strict=True)
    tell(read.notes)
    wrong = [note for note in read.notes if note.lost]
    if wrong:
        raise CommandError(f"{len(wrong)} of what the files say cannot be used; nothing was changed", field="paths")
    if prune and not read.jobs:
        raise CommandError(
            f"there is no job in {', '.join(paths)}: --prune would delete all", field="paths", hint="`meseta cron rm` deletes jobs"
        )
    found = plan(read.jobs, [shown["job"] for shown in scheduler.jobs()], prune)
    if as_json:
        output.emit_json([_for_json(step) for step in found.steps])
    else:
        _show(found)
    if not dry_run:
        _do(scheduler, found, as_json)
    return CHANGES if dry_run and exit_code and found.steps else 0


def _show(found: Plan) -> None:
    for step in found.steps:
        click.echo(f"{SIGNS[step.verb]} {step.verb} {step.name}")
        for part in step.differences:
            click.echo(f"    {part.field}: {_change(part)}")
    counts = {verb: sum(step.verb == verb for step in found.steps) for verb in SIGNS}
    said = [f"{count} to {verb}" for verb, count in counts.items() if count] or ["nothing to do"]
    others = f"; {len(found.others)} that the files do not name stay (--prune deletes them)" if found.others else ""
    click.echo(f"{', '.join(said)}, {found.unchanged} unchanged{others}")


def _change(part: Difference) -> str:
    before, after = ("(nothing)" if value is None else short(_text(value), 100) for value in (part.before, part.after))
    return after if part.before is None else f"{before} -> {after}"


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def _for_json(step: Step) -> dict[str, Any]:
    changes = [{"field": part.field, "before": part.before, "after": part.after} for part in step.differences]
    return {"verb": step.verb, "name": step.name, "changes": changes}


def _do(scheduler: Scheduler, found: Plan, as_json: bool) -> None:
    from chronos.cli.client import CHRONOS, segment
    from chronos.cli.posting import post

    for done, step in enumerate(found.steps):
        try:
            if step.job is None:
                scheduler.ask("DELETE", f"{CHRONOS}/job/{segment(step.name)}")
            else:
                post(scheduler, step.job)
        except CommandError as error:
            hint = f"{done} of {len(found.steps)} changes were made" if done else "nothing was changed"
            raise CommandError(f"{step.name}: {error.problem}", field=error.field, hint=hint) from error
    if found.steps and not as_json:
        click.echo("Done.")
