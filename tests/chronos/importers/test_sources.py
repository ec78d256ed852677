"""Files of different kinds, told apart and read together."""

from __future__ import annotations

import pytest

from chronos.importers.sources import Kind, kind_of, read_sources
from tests.chronos.importers.test_celery_beat import APPLICATION
from tests.chronos.importers.test_crontab import DEBIAN
from tests.chronos.importers.test_folder import SYNC
from tests.chronos.importers.test_kubernetes import BACKUP


@pytest.mark.parametrize(
    ("path", "text", "kind"),
    [
        ("/etc/crontab", "", Kind.SYSTEM_CRONTAB),
        ("backup/etc/cron.d/php", "", Kind.SYSTEM_CRONTAB),
        ("/var/spool/cron/crontabs/ann", "", Kind.CRONTAB),
        ("my.crontab", "", Kind.CRONTAB),
        ("web1/cron.d/php", "", Kind.SYSTEM_CRONTAB),
        ("web1-crontab", DEBIAN["/etc/crontab"], Kind.SYSTEM_CRONTAB),
        ("-", "@daily root true\n", Kind.SYSTEM_CRONTAB),
        ("-", "0 1 * * * root -b analysis.C\n", Kind.CRONTAB),  # A program of that name.
        ("-", "0 1 * * * root true\n0 2 * * * backup\n", Kind.CRONTAB),
        ("/var/spool/cron/ann", "0 1 * * * root true\n", Kind.CRONTAB),
        ("/etc/anacrontab", "", Kind.ANACRONTAB),
        ("/etc/cron.d/anacron", "", Kind.SYSTEM_CRONTAB),
        ("shop/celery.py", APPLICATION, Kind.CELERY),
        ("backup.yaml", BACKUP, Kind.KUBERNETES),
        ("list.json", '{"apiVersion": "v1", "kind": "List", "items": []}', Kind.KUBERNETES),
        ("broken.yaml", "[", Kind.JOBS),
        ("scheduled/report.yaml", SYNC["scheduled/report.yaml"], Kind.JOBS),
        ("jobs.toml", "", Kind.JOBS),
        ("-", '[{"name": "a", "schedule": "@daily"}]', Kind.JOBS),
        ("-", "# Ours.\n- name: a\n  schedule: '@daily'\n", Kind.JOBS),
        ("-", BACKUP, Kind.KUBERNETES),
        ("-", "# Ours.\nSHELL=/bin/sh\n@daily true\n", Kind.CRONTAB),
    ],
)
def test_kinds(path: str, text: str, kind: Kind) -> None:
    assert kind_of(path, text) is kind


def test_all_together_with_names_that_are_one_each() -> None:
    files = {**DEBIAN, **SYNC, "backup.yaml": BACKUP, "again/backup.yaml": BACKUP, "shop.py": APPLICATION}
    files["jobs.yaml"] = "name: backup\ncommand: x\nschedule: '@daily'\n"
    del files["README.md"]
    names = [job.name for job in read_sources(files, zone="Europe/Berlin", host="web1").jobs]
    assert len(names) == len(set(names))
    assert {"backup", "backup-2", "backup-3", "report", "publish", "add", "web1-crontab-run-parts", "web1-e2scrub_all-e2scrub_all"} <= set(
        names
    )


def test_a_copy_of_a_system_crontab_is_told_by_its_lines_and_that_is_said() -> None:
    copied = read_sources({"web1-crontab": DEBIAN["/etc/crontab"]}, user="ann")
    assert {(job.run_as_user, job.command.split()[0]) for job in copied.jobs} == {("root", "cd"), ("root", "test")}
    assert [note.text for note in copied.notes if "--kind crontab" in note.text]
    assert not [note.text for note in read_sources({"etc/crontab": DEBIAN["/etc/crontab"]}).notes if "--kind" in note.text]
    (said, *_) = read_sources({"web1-crontab": DEBIAN["/etc/crontab"]}, Kind.CRONTAB, user="ann").jobs
    assert (said.run_as_user, said.command.split()[0]) == ("ann", "root")


@pytest.mark.parametrize("path", ["/var/spool/cron/crontabs/eve", "web1/var/spool/cron/eve", "/var/spool/cron/tabs/eve"])
def test_what_lies_in_crons_spool_is_of_the_user_it_is_named_for(path: str) -> None:
    jobs = read_sources({path: "@daily true\n", "mine": "@daily true\n"}, user="root").jobs
    assert {job.name: job.run_as_user for job in jobs} == {"eve": "eve", "mine": "root"}


def test_crontabs_of_several_machines_make_jobs_of_different_names() -> None:
    machines = [read_sources({"/etc/crontab": DEBIAN["/etc/crontab"]}, host=host).jobs for host in ("web1", "web2")]
    assert len({job.name for jobs in machines for job in jobs}) == 8


def test_a_script_is_no_crontab() -> None:
    read = read_sources({"/etc/cron.daily/dpkg": "#!/bin/sh\nset -e\n1 2 3 4 5 six\n"})
    assert read.jobs == ()
    ((line, text),) = [(note.line, note.text) for note in read.notes if note.lost]
    assert (line, "script" in text) == (1, True)


def test_a_kind_may_be_said() -> None:
    (job,) = read_sources({"x": "* * * * * root true\n"}, Kind.SYSTEM_CRONTAB).jobs
    assert (job.run_as_user, job.command) == ("root", "true")
