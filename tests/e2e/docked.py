"""What tests of docker containers have in common: a cluster beside the shared engine, its tasks, and what they may not leave behind.

Their files have names that begin with `test_docker`: one worker runs them all, see `tests/conftest.py`.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from frameworks.sdk.tasks import task
from kernel.wire.common import Parameter
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo
from kernel.wire.resources import Resources
from kernel.wire.task import CommandInfo, Reason, TaskState, TaskStatus
from tests.cluster import Cluster, eventually
from tests.docker import IMAGE, DockerEngine
from tests.e2e.given import Given
from tests.e2e.processes import naming

numbers = itertools.count()
LAUNCH_FAILED = (TaskState.TASK_FAILED, Reason.REASON_CONTAINER_LAUNCH_FAILED)


def cluster_beside(engine: DockerEngine, folder: Path, only: str = "master,agent", **settings: str) -> Cluster:
    """Of one agent; containers are removed soon after their end."""
    environ = {"MESETA_DOCKER_SOCKET": str(engine.socket), "MESETA_DOCKER_REMOVE_DELAY": "100ms", **settings}
    return Cluster(folder, agents=1, only=only, environ=environ)


@contextmanager
def nothing_left(cluster: Cluster, engine: DockerEngine) -> Iterator[None]:
    """Whatever is done meanwhile, no container and no note of one is left, nor is a nameless volume, nor a process beside a container."""
    yield
    if engine.process is not None:
        eventually(lambda: not engine.names(), 30, "all containers are removed")
        assert not engine.docker("volume", "ls", "--quiet", "--filter", "dangling=true").stdout.replace("kept\n", "")
    assert not list(notes(cluster).glob("*"))
    eventually(lambda: not naming("docker_exec.py", str(engine.socket)), 30, "nothing waits for processes beside containers")


def notes(cluster: Cluster) -> Path:
    return cluster.work_dir / "agent-1" / "meta" / "docker"


def run(cluster: Cluster, *command: str, image: str = IMAGE) -> Any:
    return cluster.meseta("run", "--image", image, "--containerizer", "docker", "--", *command, check=False)


def given(
    cluster: Cluster,
    command: CommandInfo | str,
    wants: str = "cpus:0.1;mem:32",
    kill_grace_s: float | None = None,
    name: str = "",
    **fields: Any,
) -> Given:
    """Launch a task; fields: of its ContainerInfo, or of the DockerInfo in it."""
    docker = {name: fields.pop(name) for name in DockerInfo.__struct_fields__ if name in fields}
    info = ContainerInfo(ContainerType.DOCKER, docker=DockerInfo(**{"image": IMAGE, **docker}), **fields)
    if isinstance(command, str):
        command = CommandInfo(value=command)
    return Given(
        cluster, [(task(name or f"docked-{next(numbers)}", command, container=info, kill_grace_s=kill_grace_s), Resources.parse(wants))]
    )


def sandbox(cluster: Cluster, task_id: str) -> Path:
    (place,) = cluster.work_dir.glob(f"agent-1/slaves/latest/frameworks/*/executors/{task_id}/runs/latest")
    return place


def output(cluster: Cluster, task_id: str, stream: str = "stdout") -> str:
    return (sandbox(cluster, task_id) / stream).read_text()


def printed(cluster: Cluster, ended: Given) -> str:
    """What the only task, which must succeed, wrote."""
    status = ended.end()
    assert status.state is TaskState.TASK_FINISHED, f"{status} {cluster.logs()}"
    return output(cluster, status.task_id.value)


def parameters(**pairs: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name.replace("_", "-"), value) for name, value in pairs.items())


def told(status: TaskStatus) -> tuple[TaskState, Reason | None]:
    return status.state, status.reason


def free_ports(cluster: Cluster, count: int) -> list[int]:
    """Ports that the agent offers and nobody listens on."""
    found = []
    for port in range(31100, 31900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")
