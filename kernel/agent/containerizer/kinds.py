"""Which containerizer runs a container, by what is asked of it. Pure: checked again whenever a task is read back."""

from __future__ import annotations

from enum import Enum

from kernel.wire.container import ContainerInfo, ContainerType


class Containerizer(Enum):
    """How a container is run."""

    PROCESS = "process"  # A process of this machine in a sandbox.
    OCI = "oci"  # The same in an image of its own, without a daemon.
    DOCKER = "docker"  # By the Docker engine.


LAUNCHED = frozenset({Containerizer.PROCESS, Containerizer.OCI})  # Their processes belong to the launcher.


def containerizer_of(container: ContainerInfo | None) -> Containerizer:
    """Who runs a container; without one it is a process."""
    if container is not None and container.type is ContainerType.DOCKER:
        return Containerizer.DOCKER
    if container is not None and container.mesos is not None and container.mesos.image is not None:
        return Containerizer.OCI
    return Containerizer.PROCESS
