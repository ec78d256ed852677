"""Small messages that resources, tasks and offers share: labels, times, addresses, secrets, images, volumes."""

from __future__ import annotations

from enum import Enum

from msgspec import field

from kernel.wire.base import Int32, Int64, ProtoMessage, declared


class Label(ProtoMessage, frozen=True):
    key: str
    value: str | None = None


class Labels(ProtoMessage, frozen=True):
    labels: tuple[Label, ...] = ()


class Parameter(ProtoMessage, frozen=True):
    key: str
    value: str


class Parameters(ProtoMessage, frozen=True):
    parameter: tuple[Parameter, ...] = ()


class DurationInfo(ProtoMessage, frozen=True):
    nanoseconds: Int64


class TimeInfo(ProtoMessage, frozen=True):
    """nanoseconds: since the epoch."""

    nanoseconds: Int64


class Address(ProtoMessage, frozen=True):
    port: Int32
    hostname: str | None = None
    ip: str | None = None


class URL(ProtoMessage, frozen=True):
    scheme: str
    address: Address
    path: str | None = None
    query: tuple[Parameter, ...] = ()
    fragment: str | None = None


class RegionInfo(ProtoMessage, frozen=True):
    name: str


class ZoneInfo(ProtoMessage, frozen=True):
    name: str


class FaultDomain(ProtoMessage, frozen=True):
    region: RegionInfo
    zone: ZoneInfo


class DomainInfo(ProtoMessage, frozen=True):
    fault_domain: FaultDomain | None = None


class Credential(ProtoMessage, frozen=True):
    principal: str
    secret: str | None = None


class Credentials(ProtoMessage, frozen=True):
    credentials: tuple[Credential, ...] = ()


class SecretType(Enum):
    UNKNOWN = "UNKNOWN"
    REFERENCE = "REFERENCE"
    VALUE = "VALUE"


class SecretReference(ProtoMessage, frozen=True):
    name: str
    key: str | None = None


class SecretValue(ProtoMessage, frozen=True):
    data: bytes


class Secret(ProtoMessage, frozen=True):
    """A secret, by name or by value. Resolved on the agent, never shown."""

    type: SecretType | None = None
    reference: SecretReference | None = None
    value: SecretValue | None = None


class ImageType(Enum):
    APPC = "APPC"
    DOCKER = "DOCKER"


class ImageAppc(ProtoMessage, frozen=True):
    name: str
    id: str | None = None
    labels: Labels | None = None


class ImageDocker(ProtoMessage, frozen=True):
    name: str
    credential: Credential | None = None
    config: Secret | None = None


class Image(ProtoMessage, frozen=True):
    type: ImageType
    appc: ImageAppc | None = None
    docker: ImageDocker | None = None
    cached: bool = field(default_factory=declared(True))


class MountPropagationMode(Enum):
    UNKNOWN = "UNKNOWN"
    HOST_TO_CONTAINER = "HOST_TO_CONTAINER"
    BIDIRECTIONAL = "BIDIRECTIONAL"


class MountPropagation(ProtoMessage, frozen=True):
    mode: MountPropagationMode | None = None


class VolumeMode(Enum):
    RW = "RW"
    RO = "RO"


class VolumeSourceType(Enum):
    UNKNOWN = "UNKNOWN"
    DOCKER_VOLUME = "DOCKER_VOLUME"
    HOST_PATH = "HOST_PATH"
    SANDBOX_PATH = "SANDBOX_PATH"
    SECRET = "SECRET"
    CSI_VOLUME = "CSI_VOLUME"


class DockerVolume(ProtoMessage, frozen=True):
    name: str
    driver: str | None = None
    driver_options: Parameters | None = None


class HostPath(ProtoMessage, frozen=True):
    path: str
    mount_propagation: MountPropagation | None = None


class SandboxPathType(Enum):
    UNKNOWN = "UNKNOWN"
    SELF = "SELF"
    PARENT = "PARENT"


class SandboxPath(ProtoMessage, frozen=True):
    path: str
    type: SandboxPathType | None = None


class AccessModeMode(Enum):
    UNKNOWN = "UNKNOWN"
    SINGLE_NODE_WRITER = "SINGLE_NODE_WRITER"
    SINGLE_NODE_READER_ONLY = "SINGLE_NODE_READER_ONLY"
    MULTI_NODE_READER_ONLY = "MULTI_NODE_READER_ONLY"
    MULTI_NODE_SINGLE_WRITER = "MULTI_NODE_SINGLE_WRITER"
    MULTI_NODE_MULTI_WRITER = "MULTI_NODE_MULTI_WRITER"


class AccessMode(ProtoMessage, frozen=True):
    mode: AccessModeMode


class BlockVolume(ProtoMessage, frozen=True):
    pass


class MountVolume(ProtoMessage, frozen=True):
    fs_type: str | None = None
    mount_flags: tuple[str, ...] = ()


class VolumeCapability(ProtoMessage, frozen=True):
    """Exactly one of block and mount is set."""

    access_mode: AccessMode
    block: BlockVolume | None = None
    mount: MountVolume | None = None


class StaticProvisioning(ProtoMessage, frozen=True):
    volume_id: str
    volume_capability: VolumeCapability
    node_stage_secrets: dict[str, Secret] = field(default_factory=dict)
    node_publish_secrets: dict[str, Secret] = field(default_factory=dict)
    volume_context: dict[str, str] = field(default_factory=dict)


class CSIVolume(ProtoMessage, frozen=True):
    plugin_name: str
    static_provisioning: StaticProvisioning | None = None


class VolumeSource(ProtoMessage, frozen=True):
    type: VolumeSourceType | None = None
    docker_volume: DockerVolume | None = None
    host_path: HostPath | None = None
    sandbox_path: SandboxPath | None = None
    secret: Secret | None = None
    csi_volume: CSIVolume | None = None


class Volume(ProtoMessage, frozen=True):
    """What is mounted at container_path (relative: under the sandbox): one of host_path, image and source."""

    mode: VolumeMode
    container_path: str
    host_path: str | None = None
    image: Image | None = None
    source: VolumeSource | None = None
