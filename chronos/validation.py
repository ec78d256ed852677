"""Whether a job makes sense, and when it is due. Pure; what it needs to know of others (calendars, the time) is handed in."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from msgspec import UNSET, Struct

from chronos.extension import ENTRIES_MAX, nearest, one_of
from chronos.job import Container, Job
from chronos.schedule import (
    ALWAYS,
    INTERVAL_MS_MIN,
    Calendar,
    Gap,
    Schedule,
    Window,
    compile_calendar,
    parse,
    read_duration,
    read_instant,
    show_time,
    zone,
)
from chronos.schedule.iso8601 import read_time, split
from chronos.schedule.zones import UTC_ZONE
from kernel.errors import CallError
from kernel.wire.constraints import compiled
from kernel.wire.values import to_milli

NAME = re.compile(r"[\w.-]+", re.ASCII)
NAME_CHARS_MAX = 200  # A task's id has the name in it, and is the name of a folder.
# Linux takes 131,072 bytes as one argument of a program; arguments of a run are appended to its command.
COMMAND_BYTES_MAX = 120_000
RETRIES_MAX = 1000
SECONDS_MAX = 10**9
COUNT_MAX = 2**53  # What every reader of JSON takes for a whole number.
OPERATORS = ("EQUALS", "LIKE", "UNLIKE")
PATTERN_CHARS_MAX = 1000
FIRST_START_MS = 1000  # 1970-01-01T00:00:01Z


class Limits(Struct, frozen=True):
    """What an operator sets. interval_ms_min: how near two runs of one job may lie."""

    interval_ms_min: int = INTERVAL_MS_MIN
    command_bytes_max: int = COMMAND_BYTES_MAX


LIMITS = Limits()


def check_job(job: Job, limits: Limits = LIMITS) -> None:
    """Raises CallError naming the field, its value and what is allowed. The schedule is for `schedule_of`, parents are for the graph."""
    if not NAME.fullmatch(job.name) or len(job.name) > NAME_CHARS_MAX or job.name in (".", ".."):
        allowed = f"it must match ([\\w\\.-]+) in at most {NAME_CHARS_MAX} characters, and not be . or .."
        raise CallError(f"name: the name {job.name[:100]!r} is invalid: {allowed}")
    _check_command(job, limits)
    for field, amount in (("cpus", job.cpus), ("mem", job.mem), ("disk", job.disk)):
        to_milli(amount, field)
    if not 0 <= job.retries <= RETRIES_MAX:
        raise CallError(f"retries: {job.retries} is not allowed: 0 to {RETRIES_MAX} are")
    if not 0 <= job.max_completion_time <= SECONDS_MAX:
        allowed = f"0 to {SECONDS_MAX} seconds are, 0 for as long as it takes"
        raise CallError(f"maxCompletionTime: {job.max_completion_time} is not allowed: {allowed}")
    for field, count in (
        ("successCount", job.success_count),
        ("errorCount", job.error_count),
        ("errorsSinceLastSuccess", job.errors_since_last_success),
    ):
        if not 0 <= count <= COUNT_MAX:
            raise CallError(f"{field}: {count} is not allowed: 0 to {COUNT_MAX} are")
    if job.epsilon is not UNSET:
        read_duration(job.epsilon, "epsilon")
    for index, (_, operator, value) in enumerate(job.constraints):
        one_of(operator, OPERATORS, f"constraints[{index}]")
        if operator != "EQUALS":
            _check_pattern(value, f"constraints[{index}]")
    if job.container is not UNSET:
        _check_container(job.container)
    if job.dependent:
        _check_parents(job)


def check_new_job(job: Job) -> None:
    """What Chronos asked of new jobs only. The list of jobs fills `uris` and `fetch` from each other: such a job may come back."""
    if job.uris and job.fetch and job.uris != tuple(item.uri for item in job.fetch):
        raise CallError("fetch: only one of uris and fetch is allowed")
    if job.schedule is not UNSET and job.schedule.startswith("R"):
        start = split(job.schedule.strip()).start
        if start and _instant(start, job.schedule_time_zone or "") < FIRST_START_MS:
            raise CallError(f"schedule: the start {start[:100]!r} is before 1970-01-01T00:00:01Z")


def _instant(start: str, zone_name: str) -> int:
    local_ms, stated = read_time(start, "schedule")
    known = zone(zone_name) if zone_name else stated or UTC_ZONE
    return local_ms - known.offset(local_ms // 1000) * 1000


def _check_command(job: Job, limits: Limits) -> None:
    length = len(job.command.encode()) + sum(len(argument.encode()) + 1 for argument in job.arguments)
    if length > limits.command_bytes_max:
        raise CallError(f"command: with its arguments it has {length} bytes: at most {limits.command_bytes_max} are allowed")
    if "\0" in job.command or any("\0" in argument for argument in job.arguments):
        raise CallError("command: a byte of zero is not allowed, nor in arguments")
    for index, variable in enumerate(job.environment_variables):
        if not variable.name or "=" in variable.name or "\0" in variable.name + variable.value:
            raise CallError(f"environmentVariables[{index}]: {variable.name[:100]!r} is no name of a variable")
    more = job.more
    called = more.celery is not UNSET or more.http is not UNSET
    if not (job.command or job.shell or job.executor or called) and job.container is UNSET:
        raise CallError("command: without a shell (shell: false) the name of a program is due, or a container with an image that has one")
    if called and (job.command or job.container is not UNSET):
        raise CallError("command: a job with meseta.celery or meseta.http has neither command nor container")


def _check_pattern(pattern: str, field: str) -> None:
    """By what will match it: masters refuse all that waits when they cannot read one pattern of it."""
    shown = f"{field}: {pattern[:100]!r} is no regular expression"
    if len(pattern) > PATTERN_CHARS_MAX:
        raise CallError(f"{shown} of at most {PATTERN_CHARS_MAX} characters")
    try:
        compiled(pattern)
    except CallError as error:
        raise CallError(f"{shown} of RE2, within the bounds of masters: {error}") from None


def _check_container(container: Container) -> None:
    if not container.image:
        raise CallError("container.image: the name of an image is due")
    one_of(container.type.upper(), ("DOCKER", "MESOS"), "container.type")
    one_of(container.network, ("HOST", "BRIDGE", "USER"), "container.network")
    for index, volume in enumerate(container.volumes):
        if volume.mode is not UNSET:
            one_of(volume.mode.upper(), ("RO", "RW"), f"container.volumes[{index}].mode")
    for index, info in enumerate(container.network_infos):
        if info.protocol is not UNSET:
            one_of(info.protocol, ("IPv4", "IPv6"), f"container.networkInfos[{index}].protocol")
        for place, mapping in enumerate(info.port_mappings):
            for port in (mapping.host_port, mapping.container_port):
                if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
                    raise CallError(f"container.networkInfos[{index}].portMappings[{place}]: {port[:100]!r} is no port: 0 to 65535 are")


def _check_parents(job: Job) -> None:
    parents = job.parent_names
    if not parents:
        raise CallError("parents: a dependent job has at least one parent")
    if len(parents) > ENTRIES_MAX * 10:
        raise CallError(f"parents: at most {ENTRIES_MAX * 10} are allowed")
    if len(set(parents)) != len(parents):
        raise CallError("parents: one is named twice")


# ---- When it is due -------------------------------------------------------------------------------------


def schedule_of(job: Job, posted_ms: int, calendars: Mapping[str, Calendar] | None = None, limits: Limits = LIMITS) -> Schedule:
    """The compiled schedule of a scheduled job. posted_ms: when it was posted (`chronos.schedule.parse`). calendars: by name.

    Raises CallError naming the field. Equal schedules of cron without start, end and calendar are one object.
    """
    assert job.schedule is not UNSET, "a dependent job has no schedule"
    more = job.more
    known = zone(job.schedule_time_zone or "")
    days = None
    if isinstance(more.calendar, Calendar):
        days = compile_calendar(more.calendar)
    elif more.calendar:
        named = (calendars or {}).get(more.calendar)
        if named is None:
            raise CallError(f"meseta.calendar: there is no calendar {more.calendar[:100]!r}{nearest(more.calendar, calendars or ())}")
        days = compile_calendar(named, f"calendar {more.calendar}")
    window = ALWAYS
    if more.start or more.end or days is not None:
        window = Window(
            read_instant(more.start, known, "meseta.start") if more.start else None,
            read_instant(more.end, known, "meseta.end", end=True) if more.end else None,
            days,
        )
    return parse(
        job.schedule,
        job.schedule_time_zone or "",
        now_ms=posted_ms,
        gap=Gap(more.dst),
        window=window,
        interval_ms_min=limits.interval_ms_min,
    )


def run_once(job: Job, now_ms: int) -> Job:
    """A job with neither schedule nor parents, as Chronos took it: to run once, now."""
    return msgspec.structs.replace(job, schedule=f"R1/{show_time(now_ms, UTC_ZONE)}/PT24H", schedule_time_zone="")
