"""What an agent knows. Only the handlers beside this module write here, one input at a time.

Nothing in it knows sockets or disks: whatever must happen is appended to `AgentState.out` as an effect.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, TypeVar

from msgspec import Struct

from kernel.agent.config import AgentConfig
from kernel.agent.containerizer.kinds import containerizer_of
from kernel.agent.gpus import Gpu, assign, count
from kernel.agent.transitions import EXECUTOR_NEXT, ExecutorState
from kernel.agent.volumes.places import VolumePlace
from kernel.clock import Now
from kernel.errors import NotFound
from kernel.executor.checks import CheckWatch, HealthWatch, Watch
from kernel.executor.command import CommandRun, Limitation
from kernel.wire.agent_operator import LaunchContainer
from kernel.wire.container import NetworkInfo
from kernel.wire.nodes import AGENT_CAPABILITIES, AgentCapability, DrainConfig
from kernel.wire.offer import Operation as OperationInfo
from kernel.wire.offer import OperationStatus
from kernel.wire.resources import EMPTY, Resource, Resources
from kernel.wire.task import (
    TERMINAL,
    Attribute,
    DomainInfo,
    ExecutorInfo,
    FrameworkCapability,
    FrameworkInfo,
    KillPolicy,
    Reason,
    TaskInfo,
    TaskResourceLimitation,
    TaskState,
    TaskStatus,
)

COMPLETED_TASKS_MAX = 200  # Per framework, as the other two: what the pages show of the past.
COMPLETED_FRAMEWORKS_MAX = 50
SEEN_UUIDS_MAX = 100

T = TypeVar("T")


class Kind(Enum):
    """What runs a task."""

    COMMAND = "command"  # A container of its own; its executor is only a name, equal to the task's.
    DEFAULT = "default"  # A container inside a default executor's sandbox.
    CUSTOM = "custom"  # A process of the framework, which speaks the executor API.


class Identity(Struct, frozen=True):
    """What is new at each start of the process, or given by the machine.

    run: random text; incarnation: 8 random bytes, the first half of all uuids made; boot_id: the kernel's. executor_key: signs the
    tokens of custom executors, which get none without it.
    """

    run: str
    incarnation: bytes
    boot_id: str
    executor_key: bytes = b""


class Node(Struct, frozen=True):
    """What the agent announces. limits: whether it can hold a task to more than it was given. hostname: as an operator gave it.
    detected: names of the resources that no operator gave. gpus: which the resource of this name stands for."""

    resources: tuple[Resource, ...]
    attributes: tuple[Attribute, ...] = ()
    domain: DomainInfo | None = None
    limits: bool = False
    hostname: str = ""
    detected: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()


class UpdateQueue:
    """The updates of one task that its scheduler has not acknowledged; the first is under way.

    acknowledged: the last one that was. retry_due_s: when the first is sent again. seen: uuids of updates from a
    custom executor, which sends them again until acknowledged.
    """

    __slots__ = ("acknowledged", "pending", "retry_due_s", "retry_s", "seen")

    def __init__(self, pending: tuple[TaskStatus, ...] = (), acknowledged: TaskStatus | None = None, seen: tuple[bytes, ...] = ()) -> None:
        self.pending = deque(pending)
        self.acknowledged = acknowledged
        self.seen = deque(seen, SEEN_UUIDS_MAX)
        self.retry_s = 0.0
        self.retry_due_s = 0.0


class Task:
    """A task. run: its process, and check, health: how it is watched, unless a custom executor runs it. delivered: it was given to
    its executor.

    container_id: empty for one in a custom executor. group: its number among the agent's groups, 0 none.
    kill_wanted: the executor is still to be told (None: no kill, or told). completion_due_s: by max_completion_time.
    networks: its container's own, empty where it has the agent's. gpus: numbers of those it has. preempted: for whom it is being
    killed, empty if it is not, or for another cause.
    """

    __slots__ = (
        "check", "completion_due_s", "container_id", "containerizer", "delivered", "executor_id", "framework", "gpus", "group", "health",
        "info", "kill_wanted", "kind", "launched_wall_s", "networks", "preempted", "run", "state", "statuses", "task_id", "updates",
    )  # fmt: skip

    def __init__(
        self, framework: Framework, info: TaskInfo, kind: Kind, executor_id: str, container_id: str, launched_wall_s: float, group: int = 0
    ) -> None:
        self.framework = framework
        self.info = info
        self.task_id = info.task_id.value
        self.kind = kind
        self.executor_id = executor_id
        self.container_id = container_id
        self.containerizer = containerizer_of(info.container)
        self.launched_wall_s = launched_wall_s
        self.group = group
        self.state = TaskState.TASK_STAGING
        self.statuses: tuple[TaskStatus, ...] = ()
        self.run: CommandRun | None = CommandRun() if container_id else None
        self.check = CheckWatch(info.check) if container_id and info.check is not None else None
        self.health = HealthWatch(info.health_check) if container_id and info.health_check is not None else None
        self.updates = UpdateQueue()
        self.delivered = False
        self.kill_wanted: KillPolicy | None = None
        self.preempted = ""
        self.completion_due_s: float | None = None
        self.networks: tuple[NetworkInfo, ...] = ()
        self.gpus: tuple[int, ...] = ()

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def ending(self) -> bool:
        """Whether its end was asked for."""
        return self.kill_wanted is not None or (self.run is not None and self.run.kill is not None)

    @property
    def watches(self) -> list[Watch]:
        return [watch for watch in (self.check, self.health) if watch is not None]

    def note(self, status: TaskStatus) -> None:
        """Add to the history, which keeps the last status of each run of equal states."""
        kept = self.statuses
        self.statuses = (*kept[:-1], status) if kept and kept[-1].state is status.state else (*kept, status)


class Cause(Struct, frozen=True):
    """Why the agent ends an executor: what becomes of its tasks. state and partition_aware_state: for frameworks
    without and with PARTITION_AWARE."""

    state: TaskState
    partition_aware_state: TaskState
    reason: Reason
    message: str
    limitation: TaskResourceLimitation | None = None


class Executor:
    """A custom or default executor. stream: where its events go, None while it has none.

    queued: tasks it was not given yet, one tuple for each LAUNCH or group. due_s: the next thing to happen to it
    by itself: the end of its registration time or of its grace. idle_since_s: since when it has no live task. unhealthy: a task of
    this default executor was killed by its health check, which the ends of all that follow tell, too. gpus: numbers of those it has
    itself, those of its tasks apart.
    """

    __slots__ = (
        "cause", "container_id", "containerizer", "due_s", "executor_id", "framework", "given", "gpus", "idle_since_s", "info", "kind",
        "launched_wall_s", "networks", "pid", "queued", "state", "stream", "unhealthy",
    )  # fmt: skip

    def __init__(
        self, framework: Framework, info: ExecutorInfo, kind: Kind, container_id: str, launched_wall_s: float, state: ExecutorState
    ) -> None:
        self.framework = framework
        self.info = info
        self.executor_id = info.executor_id.value
        self.kind = kind
        self.container_id = container_id
        self.containerizer = containerizer_of(info.container)
        self.launched_wall_s = launched_wall_s
        self.state = state
        self.stream: str | None = None
        self.pid: int | None = None
        self.queued: list[tuple[Task, ...]] = []
        self.given = False
        self.cause: Cause | None = None
        self.due_s: float | None = None
        self.idle_since_s: float | None = None
        self.unhealthy = False
        self.networks: tuple[NetworkInfo, ...] = ()
        self.gpus: tuple[int, ...] = ()

    def enter(self, state: ExecutorState) -> None:
        """Change state, as the table allows."""
        assert state in EXECUTOR_NEXT[self.state], f"an executor that is {self.state.value} cannot become {state.value}"
        self.state = state

    def tasks(self) -> list[Task]:
        """Its tasks, those with unacknowledged last updates included."""
        return list(self.framework.members.get(self.executor_id, {}).values())

    @property
    def grace_s(self) -> float | None:
        """Its own shutdown grace, if it has one."""
        period = self.info.shutdown_grace_period
        return None if period is None else period.nanoseconds / 1e9


class Framework:
    """A framework with something on this agent, or told of by the master in case it will. members: the tasks by executor,
    command tasks left out."""

    __slots__ = (
        "completed_executors", "completed_tasks", "executors", "framework_id", "info", "kills_are_announced", "members", "partition_aware",
        "tasks", "terminating",
    )  # fmt: skip

    def __init__(self, framework_id: str, info: FrameworkInfo, completed_executors_max: int) -> None:
        self.framework_id = framework_id
        self.tasks: dict[str, Task] = {}
        self.members: dict[str, dict[str, Task]] = {}
        self.executors: dict[str, Executor] = {}
        self.completed_tasks: deque[Task] = deque(maxlen=COMPLETED_TASKS_MAX)
        self.completed_executors: deque[Executor] = deque(maxlen=completed_executors_max)
        self.terminating = False
        self.inform(info)

    def inform(self, info: FrameworkInfo) -> None:
        """Take a new description."""
        self.info = info
        able = {capability.type for capability in info.capabilities}
        self.partition_aware = FrameworkCapability.PARTITION_AWARE in able
        self.kills_are_announced = FrameworkCapability.TASK_KILLING_STATE in able

    def add(self, task: Task) -> None:
        self.tasks[task.task_id] = task
        if task.kind is not Kind.COMMAND:
            self.members.setdefault(task.executor_id, {})[task.task_id] = task

    def remove(self, task: Task) -> None:
        del self.tasks[task.task_id]
        if task.kind is not Kind.COMMAND:
            del self.members[task.executor_id][task.task_id]
            if not self.members[task.executor_id]:
                del self.members[task.executor_id]

    def lost(self, state: TaskState) -> TaskState:
        """The state for a framework that knows it, TASK_LOST for one that is not PARTITION_AWARE."""
        return state if self.partition_aware else TaskState.TASK_LOST


class Ending(Struct, frozen=True):
    """How a container ended. status: raw wait status, None when nobody saw it; message: in words; limitation: what it ran into."""

    status: int | None
    message: str
    limitation: Limitation | None = None


class OperatorContainer:
    """A container that an operator launched, beside another one or standing alone. name: PARENT.ID for one inside another. ending: once
    it has ended; it is kept until it is removed or the other has ended."""

    __slots__ = ("asked", "container_id", "ending", "launched_wall_s", "name", "parent", "pid", "runs")

    def __init__(self, asked: LaunchContainer, name: str, launched_wall_s: float) -> None:
        self.asked, self.name, self.launched_wall_s = asked, name, launched_wall_s
        self.parent, _, self.container_id = name.rpartition(".")
        self.runs = False  # It was seen to.
        self.pid: int | None = None
        self.ending: Ending | None = None


class Probing(Struct):
    """A probe under way. late: its command has taken too long and was killed."""

    task: Task
    watch: Watch
    late: bool = False


class Drain(Struct, frozen=True):
    """The agent is being emptied, since when."""

    config: DrainConfig
    since_wall_s: float


class Operation:
    """An operation that was carried out and whose status is not acknowledged. framework_id: empty for an operator's."""

    __slots__ = ("framework_id", "info", "retry_due_s", "retry_s", "status", "uuid")

    def __init__(self, uuid: bytes, framework_id: str, info: OperationInfo, status: OperationStatus) -> None:
        self.uuid, self.framework_id, self.info, self.status = uuid, framework_id, info, status
        self.retry_s = self.retry_due_s = 0.0


class Departure(Enum):
    """How the agent leaves."""

    EMPTY = "empty"  # Asked for on this machine: the tasks end, the agent comes back.
    FINAL = "final"  # Asked for on this machine; the master is told.
    EXPELLED = "expelled"  # The master does not want us.


class AgentState:
    """Everything, with the index of deadlines. now: the present input's time."""

    def __init__(self, config: AgentConfig, identity: Identity, node: Node) -> None:
        self.config, self.identity, self.node = config, identity, node
        self.now = Now(0.0, 0.0)
        self.out: list[Any] = []
        self.agent_id = ""
        self.total = Resources.of(node.resources)  # As operations have left it.
        self.slack = self.slack_told = EMPTY  # What is lent as revocable, and what of that the master was told on this link.
        self.volumes: dict[str, VolumePlace] = {}  # Persistent ones, by path.
        self.doomed: dict[str, VolumePlace] = {}  # Those that are still to be removed from the disk.
        self.operations: dict[bytes, Operation] = {}
        self.frameworks: dict[str, Framework] = {}
        self.completed_frameworks: deque[Framework] = deque(maxlen=COMPLETED_FRAMEWORKS_MAX)
        self.containers: dict[str, Task | Executor] = {}  # All that have, or are about to have, a process.
        self.operator_containers: dict[str, OperatorContainer] = {}  # By name, which the launcher knows them by.
        self.limitations: dict[str, Limitation] = {}  # Of containers that are being ended for them.
        self.probes: dict[str, Probing] = {}  # By name; those that run a command are containers of the launcher's, but never in the above.
        self.streams: dict[str, Executor] = {}
        self.orphans: dict[tuple[str, str], UpdateQueue] = {}  # Updates for tasks we do not know; kept for one link only.
        self.recovered = False  # The launcher has told what it has.
        self.connected = self.registered = False
        self.master_id = ""
        self.heartbeat_s = self.silence_s = 0.0
        self.heartbeat_due_s = self.silence_due_s = float("inf")
        self.drain: Drain | None = None
        self.departure: Departure | None = None
        self.departure_reason = ""
        self.departure_due_s = float("inf")
        self.started_wall_s = 0.0
        self.recovery_s: float | None = None  # How long it took to know what runs here; None: not known yet.
        self.counts: Counter[str] = Counter()  # Metrics, by name.
        self._counter = 0
        self._deadlines: list[tuple[float, int, Callable[[Any], None], Any]] = []

    def emit(self, effect: Any) -> None:
        self.out.append(effect)

    def new_uuid(self) -> bytes:
        """16 bytes that no other uuid of ours equals."""
        self._counter += 1
        return self.identity.incarnation + self._counter.to_bytes(8, "big")

    def new_container_id(self) -> str:
        """The text of a new uuid."""
        text = self.new_uuid().hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def new_group(self) -> int:
        """A number for a task group, never used before, also before a restart."""
        self._counter += 1
        return int.from_bytes(self.identity.incarnation[:3], "big") << 24 | self._counter

    def taken_gpus(self) -> set[int]:
        """The numbers of the GPUs that somebody has."""
        taken: set[int] = set()
        for owner in self.containers.values():
            taken.update(owner.gpus)
            if isinstance(owner, Executor):
                taken.update(index for task in owner.tasks() if not task.terminal for index in task.gpus)
        return taken

    def assign_gpus(self, *wanted: Sequence[Resource]) -> list[tuple[int, ...]] | None:
        """GPUs for each of these, none for who wants none; None when there are not enough."""
        counts = [count(resources) for resources in wanted]
        return assign(self.node.gpus, self.taken_gpus() if any(counts) else (), counts)

    def gpus_of(self, owner: Task | Executor) -> tuple[Gpu, ...]:
        """The GPUs of a container, in the order of their numbers."""
        held = set(owner.gpus)
        if isinstance(owner, Executor):
            held.update(index for task in owner.tasks() if not task.terminal for index in task.gpus)
        return tuple(gpu for gpu in self.node.gpus if gpu.index in held)

    @property
    def capabilities(self) -> tuple[AgentCapability, ...]:
        return (*AGENT_CAPABILITIES, AgentCapability.TASK_RESOURCE_LIMITS) if self.node.limits else AGENT_CAPABILITIES

    @property
    def leaves_for_good(self) -> bool:
        """Whether the next start is that of a new agent."""
        return self.departure in (Departure.FINAL, Departure.EXPELLED)

    def find_container(self, name: str) -> Task | Executor:
        """Whose container this is; a default executor has one without a process. name: its id, PARENT.ID for one inside
        another. Raises NotFound."""
        inner = name.rpartition(".")[2]
        executors = (executor for framework in self.frameworks.values() for executor in framework.executors.values())
        owner = self.containers.get(inner) or next((executor for executor in executors if executor.container_id == inner), None)
        if owner is None or name != self.container_name(owner):
            raise NotFound(f"Container {name} cannot be found")
        return owner

    def container_name(self, owner: Task | Executor) -> str:
        """What its container goes by: PARENT.ID for a task in a default executor's."""
        if isinstance(owner, Task) and owner.kind is Kind.DEFAULT:
            return f"{owner.framework.executors[owner.executor_id].container_id}.{owner.container_id}"
        return owner.container_id

    def look_at(self, due_s: float, check: Callable[[T], None], owner: T) -> None:
        """Have `check(owner)` called once, at the first Tick from due_s on. The check compares the owner's own
        deadline field: an entry that was overtaken finds nothing to do."""
        self._counter += 1
        heapq.heappush(self._deadlines, (due_s, self._counter, check, owner))

    def check_deadlines(self) -> None:
        """Look at all that may have passed."""
        deadlines, now_s = self._deadlines, self.now.mono_s
        while deadlines and deadlines[0][0] <= now_s:
            _, _, check, owner = heapq.heappop(deadlines)
            check(owner)

    @property
    def next_due_s(self) -> float:
        """The earliest deadline, infinity when there is none; for whoever steers the clock."""
        first = self._deadlines[0][0] if self._deadlines else float("inf")
        return min(first, self.heartbeat_due_s, self.silence_due_s, self.departure_due_s)
