"""What a job may say beyond Chronos' fields: the object `meseta` in it, which old clients neither send nor miss.

It is read strictly: unlike at the top level of a job, where Chronos ignored what it did not know, an unknown field here is refused. A
duration is a number of seconds or text (`90s`, `1h30m`, `PT15M`). Knows nothing of how any of it is carried out.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from chronos.schedule import Calendar, Gap, compile_calendar, read_duration
from kernel.errors import CallError
from kernel.wire.codec import explain

Duration: TypeAlias = float | str

OVERLAPS = ("allow", "skip", "queue", "replace")
CATCH_UPS = ("none", "latest", "all")
JOINS = ("all", "any", "onFailure", "onCompletion")
OCCASIONS = ("failure", "recovery", "success", "deadline")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
PRIORITY_MAX = 1000
BODY_BYTES_MAX = 65_536
LABEL_CHARS_MAX = 256
ENTRIES_MAX = 100
NEAREST_MAX, NEAREST_CHARS = 2000, 4  # Names that are compared with a wrong one: some 20 ms.

_HTTP_URL = re.compile(r"https?://[^\s/?#]+[^\s]*")
_STATUSES = re.compile(r"[1-5][0-9]{2}(?:-[1-5][0-9]{2})?")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class _Part(Struct, frozen=True, gc=False, rename="camel", forbid_unknown_fields=True):
    """Base of the parts: what is given is written out in full, as Chronos did with its own fields."""


class Retry(_Part, frozen=True):
    """When a failed attempt is tried again (how often: `retries`). delay: before the second attempt, UNSET for the scheduler's own; each
    further delay is `factor` times the last, at most delay_max; jitter: the part of each that is left to a hash."""

    delay: Duration | UnsetType = UNSET
    factor: float = 1.0
    delay_max: Duration = "1h"
    jitter: float = 0.0


class CeleryCall(_Part, frozen=True):
    """A named Celery task to send to a broker. broker: "" for the scheduler's own, which alone is not shown
    to whoever may read jobs. options: of `apply_async`, as JSON."""

    task: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    queue: str = ""
    broker: str = ""
    options: dict[str, Any] = {}


class HttpCall(_Part, frozen=True):
    """A URL to call. expect: statuses that are a success, single or ranges."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    expect: tuple[str, ...] = ("200-299",)
    timeout: Duration = 30.0


class Notification(_Part, frozen=True):
    """Whom to tell, and when (not `on`, which YAML reads as true).

    Exactly one of mail (addresses), chat (a webhook as of Slack and Mattermost) and url is given. template: of the text, "" for our own.
    """

    when: tuple[str, ...] = ("failure", "recovery")
    mail: tuple[str, ...] = ()
    chat: str = ""
    url: str = ""
    template: str = ""


class Extension(_Part, frozen=True):
    """All of it.

    overlap: "" is `allow` when the job is `concurrent`, otherwise `queue`, as Chronos did, where a run that a client calls for is skipped
    then. catch_up_deadline: slots missed by more are skipped. timeout: of one attempt. priority: the higher goes first; `highPriority` is
    PRIORITY_MAX. max_running: runs of this job at a time, with overlap `allow`; 0 for any number. start, end: slots lie between them.
    calendar: the name of one, or its days. jitter: by how much a run is delayed at most. dst: see `Gap`. deadline: how long after its
    slot a run is to have finished. unreachable_after: how long a run on an agent that fell silent counts as live.
    """

    overlap: str = ""
    catch_up: str = "latest"
    catch_up_deadline: Duration | UnsetType = UNSET
    retry: Retry | UnsetType = UNSET
    timeout: Duration | UnsetType = UNSET
    priority: int = 0
    max_running: int = 0
    labels: dict[str, str] = {}
    role: str = ""
    gpus: float = 0.0
    start: str = ""
    end: str = ""
    calendar: str | Calendar = ""
    jitter: Duration = 0.0
    dst: str = "next"
    join: str = "all"
    celery: CeleryCall | UnsetType = UNSET
    http: HttpCall | UnsetType = UNSET
    notify: tuple[Notification, ...] = ()
    deadline: Duration | UnsetType = UNSET
    unreachable_after: Duration = "15m"
    retry_unreachable: bool = False


NONE = Extension()


def read_extension(value: Any) -> Extension:
    """Read and check the object `meseta`. Raises CallError naming the field, and for an unknown one the nearest that is known."""
    for path, hint in unknown_fields(value, Extension, "meseta"):
        raise CallError(f"{path}: unknown field{hint}")
    said = _without_null(value)
    try:
        extension = msgspec.convert(said, Extension)
    except msgspec.ValidationError as error:
        raise CallError(f"meseta.{explain(str(error), said)}".replace("meseta.the body", "meseta")) from None
    check_extension(extension)
    return extension


_PASSED_ON = ("args", "kwargs", "options")


def _without_null(value: Any) -> Any:
    """Drop what is null from objects of ours, at any depth but inside what is passed on as it is."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: part if name in _PASSED_ON else _without_null(part) for name, part in value.items() if part is not None}


def unknown_fields(value: Any, kind: type[Struct], path: str = "", alike: float = 0.6) -> Iterator[tuple[str, str]]:
    """The fields of an object read without a type that its class does not have: where, and what `nearest` says."""
    if not isinstance(value, dict):
        return
    known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for name, part in value.items():
        at = f"{path}.{str(name)[:100]}".lstrip(".")
        if name not in known:
            yield at, nearest(str(name), known, alike)
            continue
        for inner in _structs_of(known[name]):
            for index, item in enumerate(part) if isinstance(part, list) else [(-1, part)]:
                yield from unknown_fields(item, inner, at if index < 0 else f"{at}[{index}]", alike)


def _structs_of(kind: Any) -> Iterator[type[Struct]]:
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for part in getattr(kind, "__args__", ()):
        yield from _structs_of(part)


def nearest(name: str, known: Collection[str], alike: float = 0.6) -> str:
    """A hint at the nearest of the known names, or nothing; of many names those that begin alike are looked at, and so many at most.
    alike: from 0, for any, to 1, for itself only."""
    if len(known) > NEAREST_MAX:
        known = list(islice((other for other in known if other[:NEAREST_CHARS] == name[:NEAREST_CHARS]), NEAREST_MAX))
    near = difflib.get_close_matches(name[:100], known, n=1, cutoff=alike)
    return f"; did you mean {near[0]}?" if near else ""


# ---- Checks ---------------------------------------------------------------------------------------------


def one_of(value: str, allowed: Iterable[str], field: str) -> None:
    allowed = tuple(allowed)
    if value not in allowed:
        raise CallError(
            f"{field}: {value[:100]!r} is not allowed: {', '.join(name or '(nothing)' for name in allowed)} are{nearest(value, allowed)}"
        )


def check_extension(extension: Extension) -> None:
    """Raises CallError naming the field and what is allowed."""
    one_of(extension.overlap, ("", *OVERLAPS), "meseta.overlap")
    one_of(extension.catch_up, CATCH_UPS, "meseta.catchUp")
    one_of(extension.dst, (gap.value for gap in Gap), "meseta.dst")
    one_of(extension.join, JOINS, "meseta.join")
    for field, value in (
        ("catchUpDeadline", extension.catch_up_deadline),
        ("timeout", extension.timeout),
        ("jitter", extension.jitter),
        ("deadline", extension.deadline),
        ("unreachableAfter", extension.unreachable_after),
    ):
        if value is not UNSET:
            read_duration(value, f"meseta.{field}")
    _check_range(extension.priority, -PRIORITY_MAX, PRIORITY_MAX, "meseta.priority")
    _check_range(extension.max_running, 0, 1_000_000, "meseta.maxRunning")
    _check_range(extension.gpus, 0, 1_000, "meseta.gpus")
    for key, text in extension.labels.items():
        if not key or len(key) > LABEL_CHARS_MAX or len(text) > LABEL_CHARS_MAX:
            raise CallError(
                f"meseta.labels: {key[:100]!r} and its value must have at most {LABEL_CHARS_MAX} characters, and it at least one"
            )
    if isinstance(extension.calendar, Calendar):
        compile_calendar(extension.calendar)
    if extension.retry is not UNSET:
        _check_retry(extension.retry)
    if extension.celery is not UNSET and extension.http is not UNSET:
        raise CallError("meseta.http: a job is a command, or celery, or http; this one has both of the latter")
    if extension.celery is not UNSET and not extension.celery.task:
        raise CallError("meseta.celery.task: the name of a Celery task is due")
    if extension.http is not UNSET:
        _check_http(extension.http)
    if len(extension.notify) > ENTRIES_MAX:
        raise CallError(f"meseta.notify: at most {ENTRIES_MAX} are allowed")
    for index, notification in enumerate(extension.notify):
        _check_notification(notification, f"meseta.notify[{index}]")


def _check_range(value: float, low: float, high: float, field: str) -> None:
    if not low <= value <= high or not math.isfinite(value):
        raise CallError(f"{field}: {value} is not allowed: {low} to {high} are")


def _check_retry(retry: Retry) -> None:
    if retry.delay is not UNSET:
        read_duration(retry.delay, "meseta.retry.delay")
    read_duration(retry.delay_max, "meseta.retry.delayMax")
    _check_range(retry.factor, 1, 100, "meseta.retry.factor")
    _check_range(retry.jitter, 0, 1, "meseta.retry.jitter")


def is_http_url(text: str) -> bool:
    """Whether it is a URL of http or https that has a host."""
    return len(text) <= 4096 and _HTTP_URL.fullmatch(text) is not None


def _check_url(url: str, field: str) -> None:
    if not is_http_url(url):
        raise CallError(f"{field}: a URL of http or https is due, of at most 4096 characters")


def _check_http(call: HttpCall) -> None:
    _check_url(call.url, "meseta.http.url")
    one_of(call.method, METHODS, "meseta.http.method")
    read_duration(call.timeout, "meseta.http.timeout")
    if len(call.body.encode()) > BODY_BYTES_MAX:
        raise CallError(f"meseta.http.body: at most {BODY_BYTES_MAX} bytes are allowed")
    for name, value in call.headers.items():
        if not _HEADER.fullmatch(name) or "\r" in value or "\n" in value:
            raise CallError(f"meseta.http.headers: {name[:100]!r} is no header of one line")
    for index, statuses in enumerate(call.expect):
        if not _STATUSES.fullmatch(statuses):
            raise CallError(f"meseta.http.expect[{index}]: {statuses[:100]!r} is no status: one is due as in 200, or a range 200-299")


def _check_notification(notification: Notification, field: str) -> None:
    if sum(map(bool, (notification.mail, notification.chat, notification.url))) != 1:
        raise CallError(f"{field}: exactly one of mail, chat and url is allowed")
    for occasion in notification.when:
        one_of(occasion, OCCASIONS, f"{field}.when")
    for name, url in (("chat", notification.chat), ("url", notification.url)):
        if url:
            _check_url(url, f"{field}.{name}")
    for address in notification.mail:
        if "@" not in address or any(character.isspace() for character in address):
            raise CallError(f"{field}.mail: {address[:100]!r} is no address")
