"""The tasks of a framework: how to describe one, and the book of those that wait or live.

Pure. A task waits until an offer fits, lives from its launch to a terminal state, and is in the book for just so long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from kernel.wire import task as wire
from kernel.wire.command import URI
from kernel.wire.common import DurationInfo, Image, ImageDocker, ImageType, Label, Labels
from kernel.wire.container import DockerPortMapping, Network, NetworkInfo, PortMapping
from kernel.wire.ids import AgentID, TaskID, validate_id
from kernel.wire.offer import RoleConstraints
from kernel.wire.resources import Key, Resource, Resources
from kernel.wire.scheduler import ResourceRequest
from kernel.wire.task import (
    CommandInfo,
    ContainerInfo,
    ContainerType,
    DockerInfo,
    Environment,
    KillPolicy,
    MesosInfo,
    Reason,
    TaskInfo,
    TaskState,
    TaskStatus,
    Variable,
)

HOST = "host"
NAME_MAX = 255  # Of a demand's name.
NOWHERE = AgentID("")  # The agent of a task that has none yet.

TERMINAL = wire.TERMINAL | {TaskState.TASK_UNKNOWN}  # Unknown: nobody has it. Should it come back all the same, it is killed.
"""States that end a task for its framework. TASK_UNREACHABLE is none: it may come back or not."""

LOST = frozenset(
    {TaskState.TASK_LOST, TaskState.TASK_DROPPED, TaskState.TASK_GONE, TaskState.TASK_GONE_BY_OPERATOR, TaskState.TASK_UNKNOWN}
)
"""Of these, the ones that are no fault of the task: it is worth running again."""

_ID_IN_USE = re.compile(r"duplicate ID|reuses the ID")  # How masters word it.
_ORDER = {TaskState.TASK_STAGING: 0, TaskState.TASK_STARTING: 1, TaskState.TASK_RUNNING: 2, TaskState.TASK_KILLING: 3}


def follows(current: TaskState, reported: TaskState) -> bool:
    """Whether a report is news or a repeat, and not an older one that comes late (reconciliation may overlap).

    A terminal state ends everything; an unreachable task may be back in any state; else only forward.
    """
    if current in TERMINAL:
        return False
    if reported in _ORDER and current in _ORDER:
        return _ORDER[reported] >= _ORDER[current]
    return True


class Shape(Struct, frozen=True, cache_hash=True):
    """What a task needs of an agent. Tasks of one shape are interchangeable for the allocator and for matching.

    role: one of the framework's. agent_id: the only agent it may run on. priority: higher first within the framework. gang: those of
    equal gang that wait start together; min: at least so many of them, 0: all. prefer: agents it would rather run on, best first; the
    master waits a while for them.
    """

    wants: Resources
    role: str
    constraints: RoleConstraints | None = None
    agent_id: str | None = None
    priority: int = 0
    name: str = ""
    gang: str = ""
    min: int = 0
    prefer: tuple[str, ...] = ()

    def quorum(self, count: int) -> int:
        """How many of so many tasks that wait are to start together, at least."""
        return 1 if not self.gang else count if not self.min else min(self.min, count)

    def request(self, count: int) -> ResourceRequest:
        """Return the demand for `count` tasks of this shape."""
        quorum = self.quorum(count)
        return ResourceRequest(
            agent_id=None if self.agent_id is None else AgentID(self.agent_id),
            resources=self.wants.messages(),
            name=f"{self.name}/{self.gang}"[:NAME_MAX] if self.gang else self.name,
            role=self.role,
            count=count,
            min=quorum if quorum > 1 else None,
            constraints=self.constraints,
            priority=self.priority,
            prefer=tuple(map(AgentID, self.prefer)),
        )


class TaskRecord(Struct):
    """One task, as its framework knows it.

    info: without agent and allocation until it is launched. state: None while it waits. agent_id, hostname, agent_url
    (`http://host:port`): where it was launched. uuid: of the last update taken. killing: the framework wants it dead.
    drops: how often the launch came to nothing before it began. note: whatever the framework keeps with it.
    """

    info: TaskInfo
    shape: Shape
    state: TaskState | None = None
    agent_id: str = ""
    hostname: str = ""
    agent_url: str = ""
    uuid: bytes = b""
    killing: bool = False
    drops: int = 0
    note: bytes = b""

    @property
    def task_id(self) -> str:
        return self.info.task_id.value

    @property
    def pending(self) -> bool:
        return self.state is None


def never_ran(record: TaskRecord, status: TaskStatus) -> bool:
    """Whether a status says that a launch was lost on its way: dropped; or gone, when its agent is there without it, of a
    task never heard of. (An agent that is gone for good may have run it.)"""
    if status.state is TaskState.TASK_GONE:
        return record.state is TaskState.TASK_STAGING and status.reason in (
            Reason.REASON_RECONCILIATION,
            Reason.REASON_AGENT_REREGISTERED,
        )
    return status.state is TaskState.TASK_DROPPED


def id_in_use(record: TaskRecord, status: TaskStatus) -> bool:
    """Whether the master refused a launch only because it holds the id for an earlier task."""
    refused = status.state is TaskState.TASK_ERROR and not status.uuid and record.state is TaskState.TASK_STAGING
    return refused and _ID_IN_USE.search(status.message or "") is not None


class TaskBook:
    """All tasks that wait or live. Keeps those that wait by shape, in the order they came; those that rest wait too, but
    not for an offer yet."""

    def __init__(self) -> None:
        self._records: dict[str, TaskRecord] = {}
        self._waiting: dict[Shape, dict[str, TaskRecord]] = {}
        self._resting: dict[str, float] = {}  # Until when, on the monotonic clock.

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[TaskRecord]:
        return iter(self._records.values())

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._records

    def get(self, task_id: str) -> TaskRecord | None:
        return self._records.get(task_id)

    def add(self, record: TaskRecord) -> None:
        """Take a task in. Its id is new to the book."""
        assert record.task_id not in self._records, f"task {record.task_id} is already in the book"
        self._records[record.task_id] = record
        if record.pending:
            self._waiting.setdefault(record.shape, {})[record.task_id] = record

    def remove(self, task_id: str) -> TaskRecord | None:
        """Forget a task; return what was known of it."""
        record = self._records.pop(task_id, None)
        if record is not None and record.pending:
            self._no_longer_waits(record)
        return record

    def launched(self, record: TaskRecord, info: TaskInfo, hostname: str, agent_url: str) -> None:
        """A waiting task goes to the agent named in `info`."""
        self._no_longer_waits(record)
        record.info, record.state = info, TaskState.TASK_STAGING
        record.agent_id, record.hostname, record.agent_url = info.agent_id.value, hostname, agent_url

    def found(self, record: TaskRecord, status: TaskStatus) -> None:
        """Take over the state a status reports; a task thought to wait turns out to live."""
        if record.pending:
            self._no_longer_waits(record)
            record.agent_id = status.agent_id.value if status.agent_id is not None else ""
        record.state = status.state

    def waits_again(self, record: TaskRecord, rests_until_s: float | None = None) -> None:
        """A launch came to nothing: the task goes back to the end of its queue, at once or when it has rested."""
        record.state, record.agent_id, record.hostname, record.agent_url, record.uuid = None, "", "", "", b""
        record.info = msgspec.structs.replace(record.info, agent_id=NOWHERE, resources=record.shape.wants.messages())
        record.drops += 1
        if rests_until_s is None:
            self._waiting.setdefault(record.shape, {})[record.task_id] = record
        else:
            self._resting[record.task_id] = rests_until_s

    def wake(self, now_s: float) -> None:
        """Let those that have rested wait for an offer. now_s: on the monotonic clock."""
        for task_id in [task_id for task_id, until_s in self._resting.items() if now_s >= until_s]:
            del self._resting[task_id]
            record = self._records[task_id]
            self._waiting.setdefault(record.shape, {})[task_id] = record

    def waiting(self) -> Sequence[tuple[Shape, Mapping[str, TaskRecord]]]:
        """The tasks that wait, by shape; higher priority first, then in the order the shapes came."""
        return sorted(self._waiting.items(), key=lambda item: -item[0].priority)

    def demand(self) -> dict[Shape, int]:
        """How many tasks of each shape wait, the most important first."""
        return {shape: len(records) for shape, records in self.waiting()}

    def _no_longer_waits(self, record: TaskRecord) -> None:
        if self._resting.pop(record.task_id, None) is not None:
            return
        records = self._waiting[record.shape]
        del records[record.task_id]
        if not records:
            del self._waiting[record.shape]


def resources(cpus: float = 0.0, mem: float = 0.0, disk: float = 0.0, gpus: float = 0.0, *, revocable: Collection[str] = ()) -> Resources:
    """Amounts as people say them: cores, MiB, MiB, devices. revocable: names of those of which slack will do, which may be taken back
    at any time (`framework_info(revocable=True)`)."""
    amounts = {"cpus": cpus, "mem": mem, "disk": disk, "gpus": gpus}
    return Resources.made_of((Key(name, revocable=name in revocable), round(amount * 1000)) for name, amount in amounts.items())


def command(
    argv: Sequence[str] | str,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    uris: Sequence[str] = (),
) -> CommandInfo:
    """A command: text goes to `sh -c`, a list is run as it is. uris: fetched, and extracted where they are archives."""
    environment = Environment(tuple(Variable(name=name, value=value) for name, value in env.items())) if env else None
    fetched = tuple(URI(uri) for uri in uris)
    if isinstance(argv, str):
        return CommandInfo(fetched, environment, shell=True, value=argv, user=user)
    return CommandInfo(fetched, environment, shell=False, value=argv[0], arguments=tuple(argv), user=user)


def docker_command(argv: Sequence[str], env: Mapping[str, str] | None = None, user: str | None = None) -> CommandInfo:
    """A command for a container of the Docker engine: it follows the image's entry point, and argv[0] is not said twice."""
    return msgspec.structs.replace(command(argv, env, user), arguments=tuple(argv[1:]))


class Port(Struct, frozen=True):
    """A port of the machine that leads to one of a container. protocol: tcp or udp."""

    host: int
    container: int
    protocol: str = "tcp"


def docker_image(name: str, network: str = HOST, ports: Sequence[Port] = ()) -> ContainerInfo:
    """A container of the Docker engine. network: HOST (the machine's), `bridge`, `none`, or one that the engine knows; ports: the task
    must have among its resources."""
    mappings = tuple(DockerPortMapping(port.host, port.container, port.protocol) for port in ports)
    known = {kind.value.lower(): kind for kind in Network if kind is not Network.USER}
    infos = () if network in known else (NetworkInfo(name=network),)
    docker = DockerInfo(image=name, network=known.get(network, Network.USER), port_mappings=mappings)
    return ContainerInfo(type=ContainerType.DOCKER, docker=docker, network_infos=infos)


def image(name: str, network: str = HOST, ports: Sequence[Port] = ()) -> ContainerInfo:
    """A container made from a Docker image, without an engine. network: HOST (the machine's), `none`, or a CNI network, as `bridge`."""
    mappings = tuple(PortMapping(port.host, port.container, port.protocol) for port in ports)
    infos = () if network == HOST else (NetworkInfo(name=network, port_mappings=mappings),)
    found = Image(type=ImageType.DOCKER, docker=ImageDocker(name=name))
    return ContainerInfo(type=ContainerType.MESOS, mesos=MesosInfo(image=found), network_infos=infos)


def task(
    task_id: str,
    run: CommandInfo | Sequence[str] | str,
    *,
    name: str | None = None,
    container: ContainerInfo | None = None,
    labels: Mapping[str, str] | None = None,
    kill_grace_s: float | None = None,
    max_s: float | None = None,
) -> TaskInfo:
    """A command task that knows neither its agent nor its resources yet.

    kill_grace_s: between SIGTERM and SIGKILL. max_s: it fails when it takes longer. Raises CallError when task_id cannot be an id.
    """
    validate_id(task_id, "task_id")
    return TaskInfo(
        name=name or task_id,
        task_id=TaskID(task_id),
        agent_id=NOWHERE,
        command=run if isinstance(run, CommandInfo) else command(run),
        container=container,
        labels=Labels(tuple(Label(key, value) for key, value in labels.items())) if labels else None,
        kill_policy=None if kill_grace_s is None else KillPolicy(_duration(kill_grace_s)),
        max_completion_time=None if max_s is None else _duration(max_s),
    )


def placed(info: TaskInfo, agent_id: AgentID, allocated: tuple[Resource, ...]) -> TaskInfo:
    """A task with the place it is launched at."""
    return msgspec.structs.replace(info, agent_id=agent_id, resources=allocated)


def _duration(seconds: float) -> DurationInfo:
    return DurationInfo(nanoseconds=round(seconds * 1e9))
