"""Crontabs: /etc/crontab and /etc/cron.d with a user in each line, and those of users. Vixie's cron as Debian has it, and cronie's CRON_TZ.

Cron starts what is due, whether the last run has ended or not, tries nothing again and makes up for nothing; so it is with these jobs.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from chronos.importers import Collector, Imported
from chronos.schedule.calendars import WEEKDAY_NAMES
from chronos.schedule.cron import compile_cron
from kernel.errors import CallError

_VARIABLE = re.compile(r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*|"[^"]+"|'[^']+')\s*=\s*(?P<value>.*)""")
_OF_CRON = ("MAILTO", "MAILFROM", "CRON_TZ", "RANDOM_DELAY", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING")
_PERCENT = re.compile(r"\\%|%")
_BETWEEN_COMMANDS = re.compile(r"&&|\|\||;|\||\b(?:then|do|else)\b")
_SAYS_LITTLE = frozenset(
    (
        "test",
        "[",
        "[[",
        "cd",
        "if",
        "while",
        "export",
        "sleep",
        "exec",
        "nice",
        "ionice",
        "chronic",
        "flock",
        "timeout",
        "env",
        "true",
        "command",
        "umask",
    )
)
SHELL = "/bin/sh"


class _Entry(Struct, frozen=True):
    """One line: when, who, what."""

    fields: str
    user: str
    command: str


def read_crontab(
    text: str, source: str, *, system: bool, user: str = "", zone: str = "", host: str = "", taken: Iterable[str] = ()
) -> Imported:
    """Read a crontab.

    source: its path, of which names are made. system: each line names a user; otherwise all are of `user`. zone: what the machine's
    clock shows, which cron goes by; "" for UTC. host: the machine the jobs belong to, "" to run on any agent. taken: names that
    jobs have already.
    """
    collector = Collector(source, taken)
    for number, line, variables in entries(text):
        try:
            entry = _split(line, system, user)
        except CallError as error:
            collector.lost(number, str(error))
            continue
        _take(collector, number, entry, variables, zone, host)
    if not host:
        collector.differs(0, "cron ran these on its own machine; here they run on any agent, unless you bind them to a host")
    collector.differs(
        0, "cron starts commands in the home of their user; here they start in a sandbox, and what they print is kept there, not mailed"
    )
    return collector.imported()


def entries(text: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The lines that are neither empty, nor remarks, nor set a variable: number, text, and the variables set so far."""
    variables: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        assigned = _assignment(line)
        if assigned is not None:
            variables[assigned[0]] = assigned[1]
        elif line and not line.startswith("#"):
            yield number, line, variables


def names_users(text: str) -> bool:
    """Whether the lines of a crontab read as if each named a user before its command, as in /etc/crontab: no command is `root` and a word
    that is no option, and what stands there in the other lines has a command after it."""
    lines = [line.split() for _, line, _ in entries(text)]
    after = [words[1 if words[0].startswith("@") else 5 :] for words in lines]
    return all(len(words) > 1 for words in after) and any(words[0] == "root" and not words[1].startswith("-") for words in after)


def _assignment(line: str) -> tuple[str, str] | None:
    """Name and value, without quotes, where a line sets a variable."""
    found = _VARIABLE.fullmatch(line)
    return (_unquoted(found["name"]), _unquoted(found["value"].strip())) if found is not None else None


def on_shell(command: str, shell: str) -> str:
    """A command for /bin/sh that has another shell run it, where another is wanted."""
    return command if shell == SHELL else f"exec {shlex.quote(shell)} -c {shlex.quote(command)}"


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _split(line: str, system: bool, user: str) -> _Entry:
    count = 1 if line.startswith("@") else 5
    parts = line.split(None, count + (1 if system else 0))
    if len(parts) < count + (2 if system else 1):
        due = f"{'five fields' if count == 5 else 'a name'}{', a user' if system else ''} and a command"
        raise CallError(f"{line[:100]!r} is no line of a crontab: {due} are due")
    return _Entry(" ".join(parts[:count]), parts[count] if system else user, parts[-1])


def _take(collector: Collector, number: int, entry: _Entry, variables: dict[str, str], zone: str, host: str) -> None:
    if entry.fields.lower() == "@reboot":
        collector.lost(number, "@reboot: a cluster does not start as a machine does; a service that is to run on always is none of cron's")
        return
    if "~" in entry.fields:
        collector.lost(number, f"{entry.fields}: a time by chance (~) is not carried over; give a time, and `jitter` in meseta")
        return
    name = collector.name(host, posixpath.basename(collector.source), _program(entry.command))
    fields, weekdays = _both_days(entry.fields)
    more: dict[str, Any] = {"overlap": "allow", "catchUp": "none"}
    if weekdays:
        more["calendar"] = {"include": weekdays}
        collector.differs(number, "cron wants both the day of month and the weekday here; the weekdays became a calendar", name)
    if variables.get("RANDOM_DELAY", "").isdigit():
        more["jitter"] = f"{variables['RANDOM_DELAY']}m"
    environment = [{"name": key, "value": value} for key, value in variables.items() if key not in _OF_CRON]
    job: dict[str, Any] = {
        "name": name,
        "command": _command(entry.command, variables.get("SHELL", SHELL)),
        "schedule": fields,
        "scheduleTimeZone": variables.get("CRON_TZ", zone),
        "owner": variables.get("MAILTO", ""),
        "retries": 0,
        "concurrent": True,
        "environmentVariables": environment,
        "description": f"{collector.source}, line {number}",
        "meseta": more,
    }
    if entry.user:
        job["runAsUser"] = entry.user
    if host:
        job["constraints"] = [["hostname", "EQUALS", host]]
    collector.add(job, number)


def _both_days(fields: str) -> tuple[str, list[str]]:
    """Vixie's cron wants day of month *and* weekday where either begins with a star, as `*/2`.

    Then: the fields without the weekday, and the weekdays. Otherwise the fields as they are, and none.
    """
    parts = fields.split()
    if len(parts) != 5 or "*" in (parts[2], parts[4]) or not (parts[2][0] == "*" or parts[4][0] == "*"):
        return fields, []
    try:
        mask = compile_cron(f"0 0 * * {parts[4]}").weekdays
    except CallError:
        return fields, []  # It is refused where it is read as a whole.
    return " ".join([*parts[:4], "*"]), [name for index, name in enumerate(WEEKDAY_NAMES) if mask >> index & 1]


def _command(text: str, shell: str) -> str:
    """A command line without cron's percent signs: the first ends the command, all after it is its input, `\\%` is a percent sign."""
    parts: list[str] = [""]
    at = 0
    for found in _PERCENT.finditer(text):
        parts[-1] += text[at : found.start()]
        if found[0] == "%":
            parts.append("")
        else:
            parts[-1] += "%"
        at = found.end()
    parts[-1] += text[at:]
    command = on_shell(parts[0].rstrip() if len(parts) > 1 else parts[0], shell)
    if len(parts) == 1:
        return command
    end = "END"
    while end in parts[1:]:
        end += "_"
    return "\n".join(["{ " + command, f"}} <<'{end}'", *parts[1:], end])


def _program(command: str) -> str:
    """The name of what a command line runs, as far as it can be seen; for a job's name."""
    for part in _BETWEEN_COMMANDS.split(command):
        for word in part.split():
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=.*", word):
                continue
            program = posixpath.basename(word.strip("\"'(){}"))
            if not program or program in _SAYS_LITTLE or not program[0].isalnum():
                break
            return program[:60]
    return ""
