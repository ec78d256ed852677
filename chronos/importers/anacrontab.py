"""Anacrontabs: /etc/anacrontab of Debian's anacron and of cronie. Each line is a period in days, a delay in minutes, a name and a command.

Anacron makes up for what a machine that was off has missed, once; so do these jobs (`catchUp: latest`). When in its period a job runs is
left to when the machine is on; here that needs a time: the first hour of START_HOURS_RANGE, and as many minutes after it as the delay says.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from chronos.importers import Collector, Imported
from chronos.importers.crontab import SHELL, entries, on_shell
from kernel.errors import CallError

_LINE = re.compile(r"(?P<period>@?\w+)\s+(?P<delay>\d{1,5})\s+(?P<name>\S+)\s+(?P<command>.*\S)", re.ASCII)
_HOURS = re.compile(r"(?P<first>\d{1,2})(?:-\d{1,2})?")
_OF_ANACRON = ("MAILTO", "START_HOURS_RANGE", "RANDOM_DELAY", "NO_MAIL_OUTPUT")
_NAMED = {"@daily": "1", "@weekly": "7", "@monthly": "@monthly", "@yearly": "@yearly", "@annually": "@yearly"}
_DAYS = {"1": "* * *", "7": "* * 0", "@monthly": "1 * *", "@yearly": "1 1 *"}  # Day of month, month, day of week.
_DAYS_MAX = 3650


class _Entry(Struct, frozen=True):
    """One line. period: days, or a name that is no number of days. delay: minutes."""

    period: str
    delay: int
    name: str
    command: str


def read_anacrontab(text: str, source: str, *, user: str = "root", zone: str = "", host: str = "", taken: Iterable[str] = ()) -> Imported:
    """Read an anacrontab. user: whose it is, as it names none; the others: as with crontabs (`read_crontab`)."""
    collector = Collector(source, taken)
    for number, line, variables in entries(text):
        try:
            entry = _entry(line)
            _take(collector, number, entry, _schedule(entry, variables), variables, user, zone, host)
        except CallError as error:
            collector.lost(number, str(error))
    collector.differs(
        0, "anacron ran these while the machine was on, once in their period; here they have a time, and run later if it was missed"
    )
    if not host:
        collector.differs(0, "anacron ran these on its own machine; here they run on any agent, unless you bind them to a host")
    return collector.imported()


def _entry(line: str) -> _Entry:
    found = _LINE.fullmatch(line)
    if found is None:
        raise CallError(f"{line[:100]!r} is no line of an anacrontab: a period in days, a delay in minutes, a name and a command are due")
    period = _NAMED.get(found["period"].lower(), found["period"])
    if period not in _DAYS and not (period.isdigit() and 0 < int(period) <= _DAYS_MAX):
        raise CallError(f"the period {found['period'][:100]!r} is not allowed: 1 to {_DAYS_MAX} days, {', '.join(_NAMED)} are")
    return _Entry(period.lstrip("0") if period.isdigit() else period, int(found["delay"]), found["name"], found["command"])


def _schedule(entry: _Entry, variables: dict[str, str]) -> str:
    """At the delay after the first hour that anacron may start at, on days of the period."""
    hours = variables.get("START_HOURS_RANGE", "0")
    found = _HOURS.fullmatch(hours)
    minutes = int(found["first"]) * 60 + entry.delay if found is not None else -1
    if not 0 <= minutes < 24 * 60:
        raise CallError(f"START_HOURS_RANGE {hours[:100]!r} and a delay of {entry.delay} minutes make no time of a day")
    if entry.period in _DAYS:
        return f"{minutes % 60} {minutes // 60} {_DAYS[entry.period]}"
    return f"R/1970-01-02T{minutes // 60:02}:{minutes % 60:02}:00/P{entry.period}D"


def _take(
    collector: Collector, number: int, entry: _Entry, schedule: str, variables: dict[str, str], user: str, zone: str, host: str
) -> None:
    name = collector.name(host, posixpath.basename(collector.source), entry.name)
    more: dict[str, Any] = {"overlap": "skip", "catchUp": "latest"}
    if variables.get("RANDOM_DELAY", "0").isdigit() and int(variables.get("RANDOM_DELAY", "0")):
        more["jitter"] = f"{variables['RANDOM_DELAY']}m"
    job: dict[str, Any] = {
        "name": name,
        "command": on_shell(entry.command, variables.get("SHELL", SHELL)),
        "schedule": schedule,
        "scheduleTimeZone": zone,
        "owner": variables.get("MAILTO", ""),
        "retries": 0,
        "environmentVariables": [{"name": key, "value": value} for key, value in variables.items() if key not in _OF_ANACRON],
        "description": f"{collector.source}, line {number}",
        "meseta": more,
    }
    if user:
        job["runAsUser"] = user
    if host:
        job["constraints"] = [["hostname", "EQUALS", host]]
    collector.add(job, number)
