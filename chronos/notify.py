"""Whom to tell of what: occasions become messages. Pure; `chronos/notifier.py` sends them.

The scheduler's own channels hear what Chronos told (spec: chronos-v1, 8): jobs that were removed, disabled, or failed for good, once for
each owner. What a job says in `meseta.notify` is beside that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from chronos.extension import Notification
from chronos.job import Job
from chronos.run import Run
from chronos.schedule import show_time
from chronos.schedule.zones import UTC_ZONE

CHRONOS_TOLD = ("failure", "disabled", "removed")
LIMITED_MAX = 50_000
_PLACE = re.compile(r"\{(\w+)\}")
_SAID = {
    "failure": "failed",
    "recovery": "has recovered",
    "success": "succeeded",
    "deadline": "missed its deadline",
    "disabled": "was disabled",
    "removed": "was deleted",
}


class Channels(Struct, frozen=True):
    """Where the scheduler itself tells: flags, "" for nowhere. interval_ms: one job tells one channel of one occasion no more often."""

    cluster: str = ""
    mail: bool = False
    slack: str = ""
    mattermost: str = ""
    url: str = ""
    sentry: str = ""
    interval_ms: int = 60_000


class Event(Struct, frozen=True):
    """Something happened to a job. run: None when it was removed."""

    occasion: str
    job: Job
    run: Run | None = None


class Message(Struct, frozen=True):
    """One message. kind: mail, chat, url or sentry; target: an address or a URL. body: what is posted there, JSON or a template's
    text. own: with the scheduler's own credentials for that channel."""

    kind: str
    target: str
    subject: str
    text: str
    body: bytes = b""
    own: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        """What it goes through: all mail has one server."""
        return self.kind if self.kind == "mail" else self.target


class Unsent(Struct, frozen=True):
    """A message that is durable and has not arrived yet. number: its place in the outbox. since_ms: when it came there."""

    number: int
    since_ms: int
    message: Message


class Notices:
    """Decides, and remembers what was told lately."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        self._told: dict[tuple[str, str, str, str], tuple[int, int]] = {}  # -> when, and how many were kept back since.

    def messages(self, event: Event, now_ms: int) -> list[Message]:
        """What to send, at once. Of what is told of one event a channel gets all that differs: for each owner, by each template."""
        found: list[Message] = []
        of_channel: dict[tuple[str, str], int | None] = {}
        for message in dict.fromkeys((*self._global(event), *self._own(event))):
            channel = (message.kind, message.target)
            if channel not in of_channel:
                of_channel[channel] = self._held(event, message, now_ms)
            held = of_channel[channel]
            if held is None:
                continue
            more = f" ({held} more like this were not sent)" if held else ""
            found.append(msgspec.structs.replace(message, text=message.text + more) if more and message.kind == "mail" else message)
        return found

    def _held(self, event: Event, message: Message, now_ms: int) -> int | None:
        """How many of the kind were kept back before this one; None when it is to be, too."""
        key = (event.job.name, message.kind, message.target, event.occasion)
        at_ms, held = self._told.get(key, (None, 0))
        if at_ms is not None and now_ms - at_ms < self._channels.interval_ms:
            self._told[key] = (at_ms, held + 1)
            return None
        if len(self._told) >= LIMITED_MAX:
            old_ms = now_ms - self._channels.interval_ms
            self._told = {key: told for key, told in self._told.items() if told[0] > old_ms}
        self._told[key] = (now_ms, 0)
        return held

    # ---- The scheduler's own channels -------------------------------------------------------------------

    def _global(self, event: Event) -> Iterator[Message]:
        if event.occasion not in CHRONOS_TOLD:
            return
        channels = self._channels
        subject, text = subject_of(event, channels.cluster), text_of(event)
        chat = msgspec.json.encode({"text": f"{subject}: {text}"})
        for owner in [part.strip() for part in event.job.owner.split(",")]:
            if channels.mail and "@" in owner:
                yield Message("mail", owner, subject, text, own=True)
            if channels.url:
                yield Message("url", channels.url, subject, text, msgspec.json.encode(payload(event, owner, subject, text)), own=True)
        for url in (channels.slack, channels.mattermost):
            if url:
                yield Message("chat", url, subject, text, chat)
        if channels.sentry:
            yield _sentry(channels.sentry, event, subject, text)

    # ---- What a job says --------------------------------------------------------------------------------

    def _own(self, event: Event) -> Iterator[Message]:
        for wanted in event.job.more.notify:
            if _wanted(event, wanted):
                yield from self._of(event, wanted)

    def _of(self, event: Event, wanted: Notification) -> Iterator[Message]:
        subject = subject_of(event, self._channels.cluster)
        said = values(event, self._channels.cluster)
        text = filled(wanted.template, said) if wanted.template else text_of(event)
        for address in wanted.mail:
            yield Message("mail", address, subject, text)
        if wanted.chat:
            yield Message(
                "chat", wanted.chat, subject, text, msgspec.json.encode({"text": text if wanted.template else f"{subject}: {text}"})
            )
        if wanted.url:
            yield Message("url", wanted.url, subject, text, text.encode() if wanted.template else msgspec.json.encode(said))


def _wanted(event: Event, wanted: Notification) -> bool:
    """A failure that disables the job is a failure, too."""
    failed = event.occasion == "disabled" and event.run is not None and event.run.state.value == "failed"
    return event.occasion in wanted.when or (failed and "failure" in wanted.when)


# ---- Texts ----------------------------------------------------------------------------------------------


def subject_of(event: Event, cluster: str) -> str:
    """As Chronos began its own; without a cluster it began with a blank."""
    return f"{f'[{cluster}]' if cluster else ''} [Chronos] job '{event.job.name}' {_SAID[event.occasion]}"


def text_of(event: Event) -> str:
    job, run = event.job, event.run
    if run is None:
        return f"The job {job.name} was deleted."
    slot = show_time(run.slot_ms, UTC_ZONE)
    told = f"Run {run.run_id} of {slot} is {run.state.value}"
    if event.occasion == "deadline":
        return f"{told}: it has not finished by its deadline, {job.more.deadline} after its slot."
    reason = f": {run.reason}" if run.reason else ""
    attempt = run.attempt
    status = f", exit status {attempt.exit_status}" if attempt is not None and attempt.exit_status is not None else ""
    task = f" (task {attempt.task_id}{f' on {attempt.hostname}' if attempt.hostname else ''})" if attempt is not None else ""
    return f"{told} after {len(run.attempts)} of {job.retries + 1} attempts{status}{reason}{task}."


def values(event: Event, cluster: str) -> dict[str, str | int | None]:
    """What templates may name, and what is posted to a job's own URL. exitStatus: None when nobody knows."""
    job, run = event.job, event.run
    attempt = run.attempt if run is not None else None
    return {
        "occasion": event.occasion,
        "cluster": cluster,
        "job": job.name,
        "owner": job.owner,
        "command": job.command,
        "run": run.run_id if run is not None else "",
        "identity": run.identity if run is not None else "",
        "state": run.state.value if run is not None else "",
        "slot": show_time(run.slot_ms, UTC_ZONE) if run is not None else "",
        "reason": run.reason if run is not None else "",
        "attempts": len(run.attempts) if run is not None else 0,
        "exitStatus": attempt.exit_status if attempt is not None else None,
        "task": attempt.task_id if attempt is not None else "",
        "hostname": attempt.hostname if attempt is not None else "",
    }


def filled(template: str, said: Mapping[str, str | int | None]) -> str:
    """The template with `{name}` of what is known replaced; everything else stays, braces too."""

    def word(found: re.Match[str]) -> str:
        value = said.get(found[1], found[0])
        return "" if value is None else str(value)

    return _PLACE.sub(word, template)


def payload(event: Event, owner: str, subject: str, text: str) -> dict[str, str]:
    """What Chronos posted: all values are text; the first three are left out where empty."""
    job = event.job
    first = {"subject": subject, "message": text, "to": owner}
    return {name: value for name, value in first.items() if value} | {
        "job": job.name,
        "command": job.command,
        "cpus": str(job.cpus),
        "softError": str(job.soft_error).lower(),
        "errorCount": str(job.error_count),
        "errorsSinceLastSuccess": str(job.errors_since_last_success),
        "executor": job.executor,
        "executorFlags": job.executor_flags,
        "lastError": job.last_error,
        "lastSuccess": job.last_success,
        "mem": str(job.mem),
        "retries": str(job.retries),
        "successCount": str(job.success_count),
        "uris": ",".join((*(item.uri for item in job.fetch), *job.uris)),
    }


# ---- Sentry ---------------------------------------------------------------------------------------------


def sentry_target(dsn: str) -> tuple[str, str]:
    """URL and public key of `https://KEY[:SECRET]@HOST/PATH/PROJECT`. Raises ValueError."""
    parts = urlsplit(dsn)
    path, _, project = parts.path.rpartition("/")
    if parts.scheme not in ("http", "https") or not parts.username or not parts.hostname or not project:
        raise ValueError("a DSN is due: https://KEY@HOST/PROJECT")
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{path}/api/{project}/store/", parts.username


def _sentry(dsn: str, event: Event, subject: str, text: str) -> Message:
    url, key = sentry_target(dsn)
    job = event.job
    body: dict[str, Any] = {
        "message": f"{subject}: {text}",
        "level": "error",
        "platform": "other",
        "logger": "chronos",
        "tags": {"owner": job.owner, "job": job.name, "command": job.command[:200]},
        "extra": {
            "errorCount": job.error_count,
            "successCount": job.success_count,
            "errorsSinceLastSuccess": job.errors_since_last_success,
        },
    }
    headers = (("X-Sentry-Auth", f"Sentry sentry_version=7, sentry_client=meseta/1, sentry_key={key}"),)
    return Message("sentry", url, subject, text, msgspec.json.encode(body), headers=headers)


def events_of(job: Job | None, run: Run) -> list[Event]:
    """What happened, by what the scheduler says of the end of a run."""
    return [Event(occasion, job, run) for occasion in run.occasions] if job is not None else []
