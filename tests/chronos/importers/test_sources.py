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
        ("/etc/anacrontab", "", Kind.ANACRONTAB),
        ("/etc/cron.d/anacron", "", Kind.SYSTEM_CRONTAB),
        ("shop/celery.py", APPLICATION, Kind.CELERY),
        ("backup.yaml", BACKUP, Kind.KUBERNETES),
        ("list.json", '{"apiVersion": "v1", "kind": "List", "items": []}', Kind.KUBERNETES),
        ("broken.yaml", "[", Kind.JOBS),
        ("scheduled/report.yaml", SYNC["scheduled/report.yaml"], Kind.JOBS),
        ("jobs.toml", "", Kind.JOBS),
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
    assert {"backup", "backup-2", "backup-3", "report", "publish", "add", "crontab-run-parts", "e2scrub_all-e2scrub_all"} <= set(names)


def test_a_kind_may_be_said() -> None:
    (job,) = read_sources({"x": "* * * * * root true\n"}, Kind.SYSTEM_CRONTAB).jobs
    assert (job.run_as_user, job.command) == ("root", "true")
