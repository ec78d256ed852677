"""What runs and how it is watched: commands, checks, health checks, kill policy, discovery."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import Int32, ProtoMessage, UInt32, declared
from kernel.wire.common import DurationInfo, Labels, Secret
from kernel.wire.container import Protocol


class URI(ProtoMessage, frozen=True):
    """A file to fetch into the sandbox."""

    value: str
    executable: bool | None = None
    extract: bool = field(default_factory=declared(True))
    cache: bool | None = None
    output_file: str | None = None


class VariableType(Enum):
    UNKNOWN = "UNKNOWN"
    VALUE = "VALUE"
    SECRET = "SECRET"


class Variable(ProtoMessage, frozen=True):
    """One variable of an environment. By its type, either value or secret is set."""

    name: str
    type: VariableType = field(default_factory=declared(VariableType.VALUE))
    value: str | None = None
    secret: Secret | None = None


class Environment(ProtoMessage, frozen=True):
    variables: tuple[Variable, ...] = ()


class CommandInfo(ProtoMessage, frozen=True):
    """What to run. shell: `value` goes to `sh -c` and arguments are ignored; otherwise `value` is the program."""

    uris: tuple[URI, ...] = ()
    environment: Environment | None = None
    shell: bool = field(default_factory=declared(True))
    value: str | None = None
    arguments: tuple[str, ...] = ()
    user: str | None = None


class KillPolicy(ProtoMessage, frozen=True):
    """grace_period: between SIGTERM and SIGKILL."""

    grace_period: DurationInfo | None = None


class CheckType(Enum):
    """Of a CheckInfo and, named alike in v1, of a HealthCheck."""

    UNKNOWN = "UNKNOWN"
    COMMAND = "COMMAND"
    HTTP = "HTTP"
    TCP = "TCP"


class CheckCommand(ProtoMessage, frozen=True):
    command: CommandInfo


class CheckHttp(ProtoMessage, frozen=True):
    port: UInt32
    path: str | None = None


class CheckTcp(ProtoMessage, frozen=True):
    port: UInt32


class CheckInfo(ProtoMessage, frozen=True):
    """A check whose results are only reported."""

    type: CheckType | None = None
    command: CheckCommand | None = None
    http: CheckHttp | None = None
    tcp: CheckTcp | None = None
    delay_seconds: float = field(default_factory=declared(15.0))
    interval_seconds: float = field(default_factory=declared(10.0))
    timeout_seconds: float = field(default_factory=declared(20.0))


class CheckStatusCommand(ProtoMessage, frozen=True):
    exit_code: Int32 | None = None


class CheckStatusHttp(ProtoMessage, frozen=True):
    status_code: UInt32 | None = None


class CheckStatusTcp(ProtoMessage, frozen=True):
    succeeded: bool | None = None


class CheckStatusInfo(ProtoMessage, frozen=True):
    """The latest result of a check; an empty part: no result yet."""

    type: CheckType | None = None
    command: CheckStatusCommand | None = None
    http: CheckStatusHttp | None = None
    tcp: CheckStatusTcp | None = None


class HTTPCheckInfo(ProtoMessage, frozen=True):
    port: UInt32
    protocol: Protocol = field(default_factory=declared(Protocol.IPv4))
    scheme: str | None = None
    path: str | None = None
    statuses: tuple[UInt32, ...] = ()


class TCPCheckInfo(ProtoMessage, frozen=True):
    port: UInt32
    protocol: Protocol = field(default_factory=declared(Protocol.IPv4))


class HealthCheck(ProtoMessage, frozen=True):
    """A check that kills its task after consecutive_failures, those within grace_period_seconds of the start not counted."""

    delay_seconds: float = field(default_factory=declared(15.0))
    interval_seconds: float = field(default_factory=declared(10.0))
    timeout_seconds: float = field(default_factory=declared(20.0))
    consecutive_failures: UInt32 = field(default_factory=declared(3))
    grace_period_seconds: float = field(default_factory=declared(10.0))
    type: CheckType | None = None
    command: CommandInfo | None = None
    http: HTTPCheckInfo | None = None
    tcp: TCPCheckInfo | None = None


class Visibility(Enum):
    """The DiscoveryInfo.Visibility of v1."""

    FRAMEWORK = "FRAMEWORK"
    CLUSTER = "CLUSTER"
    EXTERNAL = "EXTERNAL"


class Port(ProtoMessage, frozen=True):
    number: UInt32
    name: str | None = None
    protocol: str | None = None
    visibility: Visibility | None = None
    labels: Labels | None = None


class Ports(ProtoMessage, frozen=True):
    ports: tuple[Port, ...] = ()


class DiscoveryInfo(ProtoMessage, frozen=True):
    """How others find a task. Passed through untouched."""

    visibility: Visibility
    name: str | None = None
    environment: str | None = None
    location: str | None = None
    version: str | None = None
    ports: Ports | None = None
    labels: Labels | None = None
