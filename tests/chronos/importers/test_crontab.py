"""Crontabs become jobs: what Debian installs, and what cron reads in its own way."""

from __future__ import annotations

import subprocess

import pytest
from msgspec import UNSET

from chronos.importers import Imported
from chronos.importers.crontab import read_crontab
from chronos.job import Job

# What Debian's packages install, in /etc/crontab and /etc/cron.d.
DEBIAN = {
    "/etc/crontab": """\
# m h dom mon dow user command
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
47 6\t* * 7\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
52 6\t1 * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
#
""",
    "/etc/cron.d/e2scrub_all": """\
30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/x86_64-linux-gnu/e2fsprogs/e2scrub_all_cron
10 3 * * * root test -e /run/systemd/system || SERVICE_MODE=1 /sbin/e2scrub_all -A -r
""",
    "/etc/cron.d/php": """\
09,39 *     * * *     root   [ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi
""",
    "/etc/cron.d/sysstat": """\
PATH=/usr/lib/sysstat:/usr/sbin:/usr/sbin:/usr/bin:/sbin:/bin
5-55/10 * * * * root command -v debian-sa1 > /dev/null && debian-sa1 1 1
59 23 * * * root command -v debian-sa1 > /dev/null && debian-sa1 60 2
""",
    "/etc/cron.d/mdadm": """\
57 0 * * 0 root if [ -x /usr/share/mdadm/checkarray ] && [ $(date +\\%d) -le 7 ]; then /usr/share/mdadm/checkarray --cron --all; fi
""",
    "/etc/cron.d/anacron": """\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
30 7-23/1   * * *   root\t[ -x /etc/init.d/anacron ] && if [ ! -d /run/systemd/system ]; then invoke-rc.d anacron start >/dev/null; fi
""",
    "/etc/cron.d/certbot": """\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
0 */12 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && perl -e 'sleep int(rand(43200))' && certbot -q renew
""",
    "/etc/cron.d/popularity-contest": """\
SHELL=/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
20 13 * * *   root    test -x /etc/cron.daily/popularity-contest && /etc/cron.daily/popularity-contest --crond
""",
    "/etc/cron.d/munin-node": """\
MAILTO=root
*/5 * * * *     root    if [ -x /etc/munin/plugins/apt_all ]; then /etc/munin/plugins/apt_all update 7200 12 >/dev/null; fi
""",
    "/etc/cron.d/awstats": """\
MAILTO=root
*/10 * * * * www-data [ -x /usr/share/awstats/tools/update.sh ] && /usr/share/awstats/tools/update.sh
10 03 * * * www-data [ -x /usr/share/awstats/tools/buildstatic.sh ] && /usr/share/awstats/tools/buildstatic.sh
""",
}


def lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line[:1].isdigit() or line[:1] == "*")


@pytest.mark.parametrize("path", DEBIAN)
def test_the_crontabs_of_debian_are_carried_over_without_loss(path: str) -> None:
    read = read_crontab(DEBIAN[path], path, system=True)
    assert len(read.jobs) == lines(DEBIAN[path])
    assert not [note for note in read.notes if note.lost]


def test_a_line_becomes_a_job_that_does_what_cron_did() -> None:
    (found, *_) = read_crontab(DEBIAN["/etc/crontab"], "/etc/crontab", system=True, zone="Europe/Berlin", host="web1").found
    job = found.job
    assert (found.line, job.name, job.schedule, job.schedule_time_zone) == (5, "web1-crontab-run-parts", "17 * * * *", "Europe/Berlin")
    assert job.command == "cd / && run-parts --report /etc/cron.hourly"
    assert (job.run_as_user, job.retries, job.concurrent, job.more.overlap, job.more.catch_up) == ("root", 0, True, "allow", "none")
    assert job.constraints == (("hostname", "EQUALS", "web1"),)
    assert {variable.name for variable in job.environment_variables} == {"SHELL", "PATH"}


def user(text: str, **options: str) -> Imported:
    return read_crontab(text, "crontab", system=False, user="ann", **options)


def only(text: str) -> Job:
    (job,) = user(text).jobs
    return job


def test_a_users_crontab_has_no_user_in_its_lines() -> None:
    job = only("*/15 * * * * $HOME/bin/poll --fast\n")
    assert (job.run_as_user, job.command, job.name) == ("ann", "$HOME/bin/poll --fast", "crontab-poll")


def test_names_are_of_the_file_and_the_program_and_each_is_one() -> None:
    jobs = user("0 1 * * * FOO=1 /opt/a.sh\n0 2 * * * /opt/a.sh\n0 3 * * * [ -x /x ] && cd /tmp && b\n0 4 * * * :\n").jobs
    assert [job.name for job in jobs] == ["crontab-a.sh", "crontab-a.sh-2", "crontab-b", "crontab"]


def test_variables_hold_for_the_lines_after_them() -> None:
    first, second = user('A=1\n0 1 * * * x\nA = \'two words\'\nMAILTO=a@b,c@d\n"B"=""\n0 2 * * * y\n').jobs
    assert [(variable.name, variable.value) for variable in first.environment_variables] == [("A", "1")]
    assert [(variable.name, variable.value) for variable in second.environment_variables] == [("A", "two words"), ("B", "")]
    assert (first.owner, second.owner) == ("", "a@b,c@d")


def test_cron_tz_is_the_zone_and_random_delay_is_jitter() -> None:
    job = only("CRON_TZ=Asia/Tokyo\nRANDOM_DELAY=10\n@daily x\n")
    assert (job.schedule, job.schedule_time_zone, job.more.jitter) == ("@daily", "Asia/Tokyo", "10m")
    assert job.environment_variables == ()


def run(job: Job) -> str:
    return subprocess.run(["/bin/sh", "-c", job.command], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("echo 100\\%", "100%\n"),
        ("cat%first%second line%", "first\nsecond line\n\n"),
        ("cat # a comment%it's $HOME and \\% too", "it's $HOME and % too\n"),
        ("cat; echo done%END", "END\ndone\n"),
    ],
)
def test_percent_signs_mean_what_cron_makes_of_them(line: str, printed: str) -> None:
    assert run(only(f"* * * * * {line}\n")) == printed


def test_other_backslashes_are_the_shells() -> None:
    assert only("* * * * * echo 'a\\b' \\$x\n").command == "echo 'a\\b' \\$x"


def test_another_shell_is_started() -> None:
    job = only("SHELL=/bin/bash\n* * * * * [[ a == a* ]] && echo 'it is' \"$0\"\n")
    assert run(job) == "it is /bin/bash\n"


def test_day_of_month_and_weekday_both_where_cron_wants_both() -> None:
    read = user("0 5 */2 * mon,wed x\n0 5 13 * */2 x\n0 5 13 * fri x\n")
    starred, other, either = read.jobs
    assert (starred.schedule, starred.more.calendar.include) == ("0 5 */2 * *", ("mon", "wed"))  # type: ignore[union-attr]
    assert (other.schedule, other.more.calendar.include) == ("0 5 13 * *", ("sun", "tue", "thu", "sat"))  # type: ignore[union-attr]
    assert (either.schedule, either.more.calendar) == ("0 5 13 * fri", "")
    assert [note.line for note in read.notes if "calendar" in note.text] == [1, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@reboot x", "a cluster does not start as a machine does"),
        ("0~59 * * * * x", "a time by chance (~) is not carried over"),
        ("61 * * * * x", "the minute '61' is not allowed"),
        ("0 0 31 2 * x", "never runs"),
        ("* * * * *", "five fields and a command are due"),
        ("@daily", "a name and a command are due"),
        ("hello", "is no line of a crontab"),
        ("@fortnightly x", "@every 90s are"),
    ],
)
def test_what_cannot_be_carried_over_is_noted_with_its_line(line: str, said: str) -> None:
    read = user(f"# a comment\n{line}\n@hourly y\n")
    assert len(read.jobs) == 1
    (note,) = [note for note in read.notes if note.lost]
    assert (note.line, note.source, note.job) == (2, "crontab", "")
    assert said in note.text


def test_a_line_without_its_user_is_noted() -> None:
    (note,) = [note for note in read_crontab("* * * * * x\n", "/etc/crontab", system=True).notes if note.lost]
    assert "five fields, a user and a command are due" in note.text


def test_a_zone_that_does_not_exist_is_noted() -> None:
    (note,) = [note for note in user("CRON_TZ=Europe/Berlim\n@daily x\n").notes if note.lost]
    assert "did you mean Europe/Berlin?" in note.text


def test_jobs_of_cron_have_no_container() -> None:
    assert only("@daily x").container is UNSET
