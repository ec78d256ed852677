"""Equal values made one. Of a million jobs most have a few users, schedules, environments: each is to be held once."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from chronos.job import Job

VALUES_MAX = 1 << 16  # Then it begins anew: what few share is not worth remembering.
# Of a job: what is a text or a number, and what has parts. Name, command and times are its own.
_PLAIN = ("executor", "owner", "owner_name", "description", "cpus", "disk", "mem", "run_as_user", "schedule", "schedule_time_zone")
_PARTS = ("fetch", "uris", "environment_variables", "arguments", "container", "constraints", "meseta")

T = TypeVar("T")
_encode = msgspec.msgpack.Encoder().encode


class Shared:
    """Values that were seen."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def job(self, job: Job) -> Job:
        """The same job, its values those seen first."""
        for field in _PLAIN:
            value = getattr(job, field)
            if value.__class__ is str or value.__class__ is float:
                msgspec.structs.force_setattr(job, field, self._one(value, value))
        for field in _PARTS:
            value = getattr(job, field)
            if value is not UNSET and value != ():
                msgspec.structs.force_setattr(job, field, self._one((field, _encode(value)), value))
        return job

    def _one(self, key: Any, value: T) -> T:
        known: T | None = self._values.get(key)
        if known is not None:
            return known
        if len(self._values) >= VALUES_MAX:
            self._values.clear()
        self._values[key] = value
        return value
