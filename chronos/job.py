"""A job as Chronos has it (spec: chronos-v1, 3), read leniently and written with all its fields, in Chronos' order, on one line.

What Chronos did not have is in the object `meseta` (`chronos/extension.py`). Whether a job makes sense: `chronos/validation.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from chronos.extension import NONE, PRIORITY_MAX, Extension, nearest, read_extension, unknown_fields
from kernel.errors import CallError
from kernel.wire.codec import JSON


class _Part(Struct, frozen=True, gc=False, rename="camel"):
    """Base of the parts of a job."""


class Fetch(Struct, frozen=True, gc=False):
    """A file that a run brings with it."""

    uri: str = ""
    executable: bool = False
    cache: bool = False
    extract: bool = True
    output_file: str | UnsetType = UNSET


class EnvironmentVariable(_Part, frozen=True):
    name: str
    value: str


class KeyValue(_Part, frozen=True):
    key: str
    value: str


class PortMapping(_Part, frozen=True):
    """Ports are text, as Chronos wrote them."""

    host_port: str
    container_port: str
    protocol: str | UnsetType = UNSET


class NetworkInfo(_Part, frozen=True):
    name: str
    protocol: str | UnsetType = UNSET
    labels: tuple[KeyValue, ...] = ()
    port_mappings: tuple[PortMapping, ...] = ()


class ExternalVolume(_Part, frozen=True):
    name: str
    provider: str
    options: tuple[KeyValue, ...] = ()


class Volume(_Part, frozen=True):
    container_path: str
    host_path: str | UnsetType = UNSET
    mode: str | UnsetType = UNSET
    external: ExternalVolume | UnsetType = UNSET


class Container(_Part, frozen=True):
    image: str
    type: str = "DOCKER"
    network: str = "HOST"
    network_name: str | UnsetType = UNSET
    network_infos: tuple[NetworkInfo, ...] = ()
    volumes: tuple[Volume, ...] = ()
    force_pull_image: bool = False
    parameters: tuple[KeyValue, ...] = ()


class Job(Struct, frozen=True, gc=False, rename="camel"):
    """One job. cpus, mem, disk of 0 and a user of "" stand for the scheduler's own (`Defaults`).

    A job with `parents` depends on them, one with `schedule` is scheduled, one with neither is to run once, now.
    """

    name: str
    command: str = ""
    shell: bool = True
    executor: str = ""
    executor_flags: str = ""
    task_info_data: str = ""
    retries: int = 2
    owner: str = ""
    owner_name: str = ""
    description: str = ""
    success_count: int = 0
    error_count: int = 0
    last_success: str = ""
    last_error: str = ""
    cpus: float = 0.0
    disk: float = 0.0
    mem: float = 0.0
    disabled: bool = False
    soft_error: bool = False
    data_processing_job_type: bool = False
    errors_since_last_success: int = 0
    fetch: tuple[Fetch, ...] = ()
    uris: tuple[str, ...] = ()
    environment_variables: tuple[EnvironmentVariable, ...] = ()
    arguments: tuple[str, ...] = ()
    high_priority: bool = False
    run_as_user: str = ""
    concurrent: bool = False
    max_completion_time: int = 0
    container: Container | UnsetType = UNSET
    constraints: tuple[tuple[str, str, str], ...] = ()
    parents: tuple[str, ...] | UnsetType = UNSET
    schedule: str | UnsetType = UNSET
    schedule_time_zone: str | UnsetType = UNSET
    epsilon: str | UnsetType = UNSET
    """Of Chronos 2.x, as is `async`: kept, and written only where given."""
    asynchronous: bool | UnsetType = field(default=UNSET, name="async")
    meseta: Extension | UnsetType = UNSET

    @property
    def dependent(self) -> bool:
        return self.parents is not UNSET

    @property
    def parent_names(self) -> tuple[str, ...]:
        return () if self.parents is UNSET else self.parents

    @property
    def more(self) -> Extension:
        """What is said in `meseta`, or what holds where nothing is."""
        return NONE if self.meseta is UNSET else self.meseta

    @property
    def priority(self) -> int:
        """The higher goes first."""
        return PRIORITY_MAX if self.high_priority else self.more.priority


class Defaults(Struct, frozen=True):
    """What a job gets that does not say: flags of the scheduler."""

    cpus: float = 0.1
    mem: float = 128.0
    disk: float = 256.0
    user: str = "root"


class _Kept(Job, frozen=True, gc=False, omit_defaults=True):
    """A job in a store: what it has of its own."""


DEFAULTS = Defaults()
MISSPELT = 0.8  # How alike a name is to the one that was meant.
UNKNOWN_MAX = 50  # Fields of a job that are looked at for that.
_WHEN = ("schedule", "parents")
_WITH_PARTS = ("container", "fetch", "environmentVariables")
_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(Job))
_stored = msgspec.json.Decoder(Job)


def read_job(body: bytes, defaults: Defaults = DEFAULTS) -> Job:
    """Read what a client sent. CallError, naming the field, when it is no job. Unknown fields are ignored, but those in `meseta`
    and misspelt ones."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise CallError(f"the body is not valid JSON: {error}") from None
    return job_of(value, defaults)


def job_of(value: Any, defaults: Defaults = DEFAULTS) -> Job:
    """The same of an object that was read already, from JSON, YAML or TOML."""
    try:
        value = msgspec.json.decode(msgspec.json.encode(value))  # Dates become text.
    except (TypeError, ValueError, RecursionError) as error:
        raise CallError(f"the job cannot be written as JSON: {error}") from None
    if not isinstance(value, dict):
        raise CallError("a job is an object with a name")
    _check_misspelt(value)
    extension = value.pop("meseta", None)
    container = value.get("container")
    if isinstance(container, dict) and container.get("image") is None:
        del value["container"]  # As in Chronos: without an image there is no container.
    if isinstance(value.get("constraints"), list):
        value["constraints"] = [_texts(item) for item in value["constraints"] if item is not None]
    if isinstance(value.get("environmentVariables"), dict):
        raise CallError('environmentVariables: a list of {"name": ..., "value": ...} is due, not an object')
    job = JSON.decode(msgspec.json.encode(value), Job)
    return msgspec.structs.replace(
        job,
        cpus=job.cpus or defaults.cpus,
        mem=job.mem or defaults.mem,
        disk=job.disk or defaults.disk,
        run_as_user=job.run_as_user or defaults.user,
        schedule=UNSET if job.dependent else job.schedule,
        schedule_time_zone=UNSET if job.dependent or job.schedule is UNSET else job.schedule_time_zone or "",
        meseta=UNSET if extension is None else read_extension(extension),
    )


def _check_misspelt(value: dict[str, Any]) -> None:
    """Raises CallError for a field that is a known one spelt wrong. Most of all where it says when the job runs: as a job that says
    nothing of it, it would run once, now. In parts too: a container with
    an `imag` would be none, and the command run on the machine itself."""
    timeless = all(value.get(name) is None for name in _WHEN)
    for name in islice((name for name in value if name not in _FIELDS), UNKNOWN_MAX):
        if hint := nearest(name, _FIELDS, MISSPELT) or (nearest(name, _WHEN) if timeless else ""):
            raise CallError(f"{name[:100]}: unknown field{hint}")
    parts = {name: value[name] for name in _WITH_PARTS if name in value}
    for path, hint in islice(unknown_fields(parts, Job, alike=MISSPELT), UNKNOWN_MAX):
        if hint:
            raise CallError(f"{path}: unknown field{hint}")


def _texts(constraint: Any) -> Any:
    """A constraint with numbers in it as text, and without what follows its value."""
    if not isinstance(constraint, list):
        return constraint
    return [part if isinstance(part, str) else JSON.encode(part).decode() for part in constraint[:3]]


def unknown(value: Any) -> Iterator[tuple[str, str]]:
    """Fields of an object that no job has: path, and a hint at the nearest that one has. For people who write jobs by hand."""
    return unknown_fields(value, Job)


def write_job(job: Job) -> bytes:
    """JSON on one line, in ASCII."""
    return JSON.encode(job)


def kept_job(job: Job) -> bytes:
    """The same for a store: a fifth of it, as what is as usual is left out."""
    return JSON.encode(_Kept(*(getattr(job, name) for name in Job.__struct_fields__)))


def stored_job(body: bytes) -> Job:
    """Read what `kept_job`, or `write_job`, wrote: strictly, hence fast. Raises msgspec.DecodeError."""
    return _stored.decode(body)


def cross_filled(job: Job) -> Job:
    """The job as the list of all jobs shows it: whichever of `fetch` and `uris` is empty is filled from the other."""
    if job.fetch:
        return msgspec.structs.replace(job, uris=tuple(item.uri for item in job.fetch))
    return msgspec.structs.replace(job, fetch=tuple(Fetch(uri) for uri in job.uris)) if job.uris else job
