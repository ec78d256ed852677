"""What the operator APIs of master and agent have in common. Three names are a call's and a response's in v1: the calls are
`GetMetricsCall`, `ListFilesCall` and `ReadFileCall` here.

Arrays that are printed even when empty (spec: mesos-v1, section 4) have a default factory, as declared defaults have.
"""

from __future__ import annotations

from msgspec import field

from kernel.wire.base import Int32, ProtoMessage, UInt32, UInt64, declared
from kernel.wire.common import DurationInfo, TimeInfo
from kernel.wire.ids import ResourceProviderID
from kernel.wire.nodes import Attribute
from kernel.wire.resources import ReservationInfo, Resource

# ---- Calls ----------------------------------------------------------------------------------------------


class GetMetricsCall(ProtoMessage, frozen=True):
    timeout: DurationInfo | None = None


class SetLoggingLevel(ProtoMessage, frozen=True):
    """duration: after it the level goes back to what it was."""

    level: UInt32
    duration: DurationInfo


class ListFilesCall(ProtoMessage, frozen=True):
    path: str


class ReadFileCall(ProtoMessage, frozen=True):
    """follow: an extension, for what tasks print: offsets are counted from the first byte ever written, rotated away or not."""

    path: str
    offset: UInt64
    length: UInt64 | None = None
    follow: bool = False


# ---- Responses ------------------------------------------------------------------------------------------


class GetHealth(ProtoMessage, frozen=True):
    healthy: bool


class Flag(ProtoMessage, frozen=True):
    name: str
    value: str | None = None


class GetFlags(ProtoMessage, frozen=True):
    flags: tuple[Flag, ...] = ()


class VersionInfo(ProtoMessage, frozen=True):
    """version: digits and dots only, clients make integers of it. build_time: seconds since the epoch."""

    version: str
    build_date: str | None = None
    build_time: float | None = None
    build_user: str | None = None
    git_sha: str | None = None
    git_branch: str | None = None
    git_tag: str | None = None


class GetVersion(ProtoMessage, frozen=True):
    version_info: VersionInfo


class Metric(ProtoMessage, frozen=True):
    name: str
    value: float | None = None


class GetMetrics(ProtoMessage, frozen=True):
    metrics: tuple[Metric, ...] = field(default_factory=declared(()))


class GetLoggingLevel(ProtoMessage, frozen=True):
    level: UInt32


class FileInfo(ProtoMessage, frozen=True):
    path: str
    nlink: Int32 | None = None
    size: UInt64 | None = None
    mtime: TimeInfo | None = None
    mode: UInt32 | None = None
    uid: str | None = None
    gid: str | None = None


class ListFiles(ProtoMessage, frozen=True):
    file_infos: tuple[FileInfo, ...] = ()


class ReadFile(ProtoMessage, frozen=True):
    """size: of the file, not of data. offset: where data begins, told to one who follows: what was asked for may not be kept."""

    size: UInt64
    data: bytes
    offset: UInt64 | None = None


# ---- Resource providers ---------------------------------------------------------------------------------


class ResourceProviderInfo(ProtoMessage, frozen=True):
    """Who manages resources on an agent's behalf. We run none ourselves; `storage` (CSI) is left out."""

    type: str
    name: str
    id: ResourceProviderID | None = None
    attributes: tuple[Attribute, ...] = ()
    default_reservations: tuple[ReservationInfo, ...] = ()


class ResourceProvider(ProtoMessage, frozen=True):
    resource_provider_info: ResourceProviderInfo
    total_resources: tuple[Resource, ...] = ()
