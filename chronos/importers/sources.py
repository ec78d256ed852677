"""What kind of file somebody hands over, and reading several of different kinds together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from chronos.importers import Found, Imported, Note
from chronos.importers.anacrontab import read_anacrontab
from chronos.importers.celery_beat import read_beat
from chronos.importers.crontab import names_users, read_crontab
from chronos.importers.folder import STDIN, is_job_file, is_manifest, read_folder
from chronos.importers.kubernetes import read_cronjobs
from chronos.importers.yaml import read_yaml
from kernel.errors import CallError

_SYSTEM = re.compile(r"(?:.*/)?(?:etc/crontab|cron\.d/[^/]*)")
_SPOOL = re.compile(r"(?:.*/)?spool/cron/(?:crontabs/|tabs/)?([^/]+)")  # Of Debian, of SUSE, of Red Hat.
_SCRIPT = "#!"
_ANACRON = re.compile(r"(?:.*/)?anacrontab[^/]*")
_OF_FIELDS = re.compile(r"(?:\s*#.*\n)*\s*(?:[\[{]|---|(?:- )?[A-Za-z]\w*:\s)")  # How JSON and YAML begin, and no crontab.


class Kind(Enum):
    JOBS = "jobs"
    SYSTEM_CRONTAB = "system-crontab"
    CRONTAB = "crontab"
    ANACRONTAB = "anacrontab"
    KUBERNETES = "kubernetes"
    CELERY = "celery"


def kind_of(path: str, text: str) -> Kind:
    """What a file is, by its name, and for YAML and JSON, and the standard input, by what is in it.

    Whatever else it is is taken for a user's crontab, or for one that names users in its lines where they read so.
    """
    if path.endswith(".py"):
        return Kind.CELERY
    if is_job_file(path) and (path != STDIN or _OF_FIELDS.match(text)):
        return Kind.KUBERNETES if not path.endswith(".toml") and _has_manifest(text) else Kind.JOBS
    if _ANACRON.fullmatch(path):
        return Kind.ANACRONTAB
    if _SPOOL.fullmatch(path):
        return Kind.CRONTAB
    return Kind.SYSTEM_CRONTAB if _SYSTEM.fullmatch(path) or names_users(text) else Kind.CRONTAB


def _has_manifest(text: str) -> bool:
    try:
        values = [document.value for document in read_yaml(text)]
    except CallError:
        return False
    return any(is_manifest(value) for value in values)


def read_sources(files: Mapping[str, str], kind: Kind | None = None, *, user: str = "", zone: str = "", host: str = "") -> Imported:
    """Read files: text by path. kind: of all of them, None to look. user, zone, host: of crontabs (`read_crontab`); one that lies where
    cron keeps those of users is of the user it is named for.

    Files of jobs come first, as their names are what people wrote; names that are made up give way.
    """
    kinds = {path: kind or kind_of(path, files[path]) for path in sorted(files)}
    jobs = read_folder({path: files[path] for path, of in kinds.items() if of is Kind.JOBS})
    found: list[Found] = list(jobs.found)
    notes: list[Note] = list(jobs.notes)
    for path, of in kinds.items():
        if kind is None and of in (Kind.CRONTAB, Kind.SYSTEM_CRONTAB) and files[path].startswith(_SCRIPT):
            notes.append(Note(path, 1, "", "a script says nothing of when it runs: import the crontab that starts it", lost=True))
            continue
        taken = [one.job.name for one in found]
        match of:
            case Kind.JOBS:
                continue
            case Kind.KUBERNETES:
                read = read_cronjobs(files[path], path, taken)
            case Kind.CELERY:
                read = read_beat(files[path], path, taken)
            case Kind.ANACRONTAB:
                read = read_anacrontab(files[path], path, zone=zone, host=host, taken=taken)
            case Kind.CRONTAB | Kind.SYSTEM_CRONTAB:
                system, named = of is Kind.SYSTEM_CRONTAB, _SPOOL.fullmatch(path)
                if system and kind is None and not _SYSTEM.fullmatch(path):
                    notes.append(
                        Note(path, 0, "", "its lines seem to name a user, as those of /etc/crontab; else say --kind crontab", lost=False)
                    )
                whose = named[1] if named is not None else user
                read = read_crontab(files[path], path, system=system, user=whose, zone=zone, host=host, taken=taken)
        found += read.found
        notes += read.notes
    return Imported(tuple(found), tuple(notes))
