"""Anacrontabs become jobs that make up for what was missed."""

from __future__ import annotations

import pytest

from chronos.importers import Imported
from chronos.importers.anacrontab import read_anacrontab

DEBIAN = """\
# /etc/anacrontab: configuration file for anacron

SHELL=/bin/sh
HOME=/root
LOGNAME=root

# These replace cron's entries
1\t5\tcron.daily\trun-parts --report /etc/cron.daily
7\t10\tcron.weekly\trun-parts --report /etc/cron.weekly
@monthly\t15\tcron.monthly\trun-parts --report /etc/cron.monthly
"""
CRONIE = """\
SHELL=/bin/bash
MAILTO=root
RANDOM_DELAY=45
START_HOURS_RANGE=3-22
1       5       cron.daily              nice run-parts /etc/cron.daily
10      65      every.ten.days          date +%d
"""


def read(text: str, **options: str) -> Imported:
    return read_anacrontab(text, "/etc/anacrontab", **options)


def test_the_anacrontab_of_debian_is_carried_over_without_loss() -> None:
    found = read(DEBIAN, zone="Europe/Berlin", host="web1")
    assert [(job.name, job.schedule) for job in found.jobs] == [
        ("web1-anacrontab-cron.daily", "5 0 * * *"),
        ("web1-anacrontab-cron.weekly", "10 0 * * 0"),
        ("web1-anacrontab-cron.monthly", "15 0 1 * *"),
    ]
    assert not [note for note in found.notes if note.lost]
    job = found.jobs[0]
    assert (job.command, job.run_as_user, job.schedule_time_zone) == ("run-parts --report /etc/cron.daily", "root", "Europe/Berlin")
    assert (job.more.catch_up, job.more.overlap, job.retries) == ("latest", "skip", 0)
    assert job.constraints == (("hostname", "EQUALS", "web1"),)
    assert [variable.name for variable in job.environment_variables] == ["SHELL", "HOME", "LOGNAME"]


def test_hours_delays_and_other_periods() -> None:
    daily, other = read(CRONIE).jobs
    assert (daily.schedule, daily.more.jitter, daily.owner) == ("5 3 * * *", "45m", "root")
    assert daily.command == "exec /bin/bash -c 'nice run-parts /etc/cron.daily'"
    assert (other.schedule, other.command) == ("R/1970-01-02T04:05:00/P10D", "exec /bin/bash -c 'date +%d'")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1 5 cron.daily", "a period in days, a delay in minutes, a name and a command are due"),
        ("17 * * * * root true", "is no line of an anacrontab"),
        ("0 5 x true", "the period '0' is not allowed: 1 to 3650 days, @daily, "),
        ("@hourly 5 x true", "the period '@hourly' is not allowed"),
        ("1 1440 x true", "a delay of 1440 minutes make no time of a day"),
    ],
)
def test_what_cannot_be_carried_over_is_noted_with_its_line(line: str, said: str) -> None:
    found = read(f"{line}\n1 5 fine true\n")
    assert [job.name for job in found.jobs] == ["anacrontab-fine"]
    (note,) = [note for note in found.notes if note.lost]
    assert note.line == 1
    assert said in note.text
