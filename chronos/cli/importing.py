"""What other schedulers have written down.

`meseta cron import`: Show what crontabs and files of other schedulers become here, and create it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chronos.cli.client import Scheduler, scheduler_options
from chronos.cli.shown import short, what, when
from kernel.commands import output
from kernel.commands.context import CommandError

if TYPE_CHECKING:
    from chronos.importers import Imported

HEADINGS = ("FROM", "JOB", "WHEN", "DOES")
KINDS = ("jobs", "system-crontab", "crontab", "anacrontab", "kubernetes", "celery")
_NOT_READ_BY_CRON = (".dpkg-old", ".dpkg-dist", ".dpkg-new", ".dpkg-tmp", "~")


@click.command("import")
@click.argument("paths", nargs=-1, required=True)
@click.option("--kind", type=click.Choice(KINDS), help="What the files are; default: what they look like.")
@click.option("--user", metavar="USER", help="Whose a crontab is that names nobody, nor lies in cron's spool; default: you.")
@click.option("--zone", metavar="ZONE", help="The time zone of crontabs; default: that of this machine.")
@click.option("--host", metavar="HOST", default="", help="The agent that jobs of crontabs are to run on; default: any.")
@click.option("--apply", "create", is_flag=True, help="Create the jobs.")
@click.option("--replace", is_flag=True, help="With --apply: also those there are already.")
@scheduler_options
def cron_import(
    scheduler: Scheduler,
    paths: tuple[str, ...],
    kind: str | None,
    user: str | None,
    zone: str | None,
    host: str,
    create: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Show what each line of crontabs (/etc/crontab, those of users, /etc/anacrontab), of Chronos' job files, of manifests of Kubernetes
    CronJobs and of Celery's beat_schedule becomes here, what cannot be carried over, and why; with --apply create it."""
    from chronos.cli.sources import read_files, tell
    from chronos.importers.sources import Kind, read_sources

    texts = read_files(paths, lambda name: not name.endswith(_NOT_READ_BY_CRON))
    said = Kind(kind) if kind is not None else None
    read = read_sources(texts, said, user=user or _user(), zone=local_zone() if zone is None else zone, host=host)
    if not create:
        if as_json:
            output.emit_json(_for_json(read))
        else:
            rows = [_row(one.source, one.line, one.job) for one in read.found]
            output.table(HEADINGS, rows, empty="There is no job in it.")
            tell(read.notes)
            lost = _counted(sum(note.lost for note in read.notes), "line")
            more = "; --apply creates what is shown" if read.found else ""
            click.echo(f"{_counted(len(read.found), 'job')}, {lost} not carried over{more}.", err=True)
        return
    tell(read.notes)
    _create(scheduler, read, replace, as_json)


def _create(scheduler: Scheduler, read: Imported, replace: bool, as_json: bool) -> None:
    from chronos.cli.plan import plan
    from chronos.cli.posting import post

    known = [shown["job"] for shown in scheduler.jobs()]
    names = {job["name"] for job in known}
    taken = [job.name for job in read.jobs if job.name in names]
    if taken and not replace:
        shown = ", ".join(taken[:5]) + (" ..." if len(taken) > 5 else "")
        raise CommandError(f"there are jobs of these names already: {shown}", field="paths", hint="`--replace` puts the new in their place")
    steps = plan(read.jobs, known, prune=False).steps
    for done, step in enumerate(steps):
        assert step.job is not None, "nothing is removed"
        try:
            post(scheduler, step.job)
        except CommandError as error:
            hint = f"{done} of {_counted(len(steps), 'job')} were created"
            raise CommandError(f"{step.name}: {error.problem}", field=error.field, hint=hint) from error
    if as_json:
        output.emit_json(_for_json(read))
    else:
        same = len(read.jobs) - len(steps)
        verb = "is" if len(steps) == 1 else "are"
        click.echo(f"{_counted(len(steps), 'job')} {verb} created{f'; {same} already there' if same else ''}.")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _fields(job: Any) -> dict[str, Any]:
    import msgspec

    from chronos.job import write_job

    fields: dict[str, Any] = msgspec.json.decode(write_job(job))
    return fields


def _row(source: str, line: int, job: Any) -> tuple[str, ...]:
    fields = _fields(job)
    return f"{source}:{line}", fields["name"], when(fields), short(what(fields))


def _for_json(read: Imported) -> dict[str, Any]:
    return {
        "jobs": [{"source": one.source, "line": one.line, "job": _fields(one.job)} for one in read.found],
        "notes": [{"source": note.source, "line": note.line, "job": note.job, "text": note.text, "lost": note.lost} for note in read.notes],
    }


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def local_zone() -> str:
    """What the clock of this machine shows, "" for UTC or when nobody says."""
    if "TZ" in os.environ:
        return os.environ["TZ"].lstrip(":")
    try:
        return Path("/etc/timezone").read_text().strip()
    except OSError:
        pass
    target = os.path.realpath("/etc/localtime")
    _, found, name = target.partition("/zoneinfo/")
    return name if found else ""
