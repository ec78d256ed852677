"""What the master knows of: agents, frameworks, offers, tasks, executors. How they change together: `kernel.master.state`."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Any

from msgspec.structs import replace

from kernel.master.allocator import Allocation
from kernel.master.pictures import AgentLook, TaskLook
from kernel.master.quantities import Holdings
from kernel.master.registry import Deactivation
from kernel.master.transitions import AgentState, FrameworkState
from kernel.master.waits import FrameworkWaits
from kernel.wire.framework import ENDS_WITH_TASKS
from kernel.wire.nodes import AgentCapability, Unavailability
from kernel.wire.offer import Operation as OperationInfo
from kernel.wire.offer import OperationStatus
from kernel.wire.operator import InverseOfferAnswer
from kernel.wire.resources import EMPTY, Resources
from kernel.wire.task import (
    TERMINAL,
    AgentInfo,
    ExecutorInfo,
    FrameworkCapability,
    FrameworkInfo,
    KillPolicy,
    TaskInfo,
    TaskState,
    TaskStatus,
)

Address = tuple[str, int]  # Ip and port of an agent.
TaskKey = tuple[str, str]  # Framework id, task id (or executor id, for executors).
STATUSES_MAX = 100  # Kept of one task, the newest; a task whose agent comes and goes for years has more.


class Task:
    """One task. resources: what it holds on its agent while not freed; state: the newest known; preempted: for whom it is being
    killed, if nobody asked for that;
    sent: the last status a scheduler was sent by way of an agent's update (None: none yet); owed: the newest of its
    agent's updates that no scheduler has acknowledged; rendered: as /state shows it, kept there by `kernel.master.views`
    until it changes."""

    __slots__ = (
        "agent_id", "executor_id", "framework_id", "freed", "info", "kill", "killing", "owed", "preempted", "rendered",
        "resources", "role", "sent", "state", "statuses", "task_id", "unreachable_wall_s",
    )  # fmt: skip

    def __init__(self, framework_id: str, info: TaskInfo, role: str, resources: Resources, executor_id: str) -> None:
        self.framework_id = framework_id
        self.task_id = info.task_id.value
        self.agent_id = info.agent_id.value
        self.executor_id = executor_id
        self.info = info
        self.role = role
        self.resources = resources
        self.freed = False
        self.state = TaskState.TASK_STAGING
        self.statuses: tuple[TaskStatus, ...] = ()
        self.sent: TaskStatus | None = None
        self.owed: TaskStatus | None = None
        self.kill: KillPolicy | None = None
        self.killing = False  # Somebody asked for its end: told again to an agent that comes back.
        self.preempted = ""
        self.unreachable_wall_s: float | None = None
        self.rendered: bytes | None = None

    def note(self, status: TaskStatus) -> None:
        """Add to the history, which keeps the last status of each run of equal states, without data: that is the scheduler's
        alone and may be large."""
        if status.data is not None:
            status = replace(status, data=None)
        kept = self.statuses
        if kept and kept[-1].state is status.state:
            kept = kept[:-1]
        self.statuses = (*kept[1 - STATUSES_MAX :], status)

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    def look(self) -> TaskLook:
        return TaskLook(self.state, self.statuses, self.sent)


class Executor:
    """A custom or default executor that lives on an agent. shares_cgroups: whether the tasks of its groups are held to its
    limits, not to their own (None: not known)."""

    __slots__ = ("agent_id", "executor_id", "framework_id", "info", "resources", "role", "shares_cgroups")

    def __init__(self, framework_id: str, agent_id: str, info: ExecutorInfo, role: str, resources: Resources) -> None:
        self.framework_id, self.agent_id, self.info = framework_id, agent_id, info
        self.executor_id = info.executor_id.value
        self.role, self.resources = role, resources
        self.shares_cgroups: bool | None = None


class Operation:
    """A change of an agent's resources, until whom it concerns knows what became of it. framework_id: empty for an operator's.
    uuid: 16 bytes. latest: the newest status; statuses: what its agent told."""

    __slots__ = ("agent_id", "framework_id", "info", "latest", "statuses", "uuid")

    def __init__(self, uuid: bytes, framework_id: str, agent_id: str, info: OperationInfo, latest: OperationStatus) -> None:
        self.uuid, self.framework_id, self.agent_id, self.info = uuid, framework_id, agent_id, info
        self.latest = latest
        self.statuses: tuple[OperationStatus, ...] = ()

    @property
    def operation_id(self) -> str:
        """As its framework calls it; empty when that wants to hear nothing of it."""
        return self.info.id.value if self.info.id is not None and self.framework_id else ""


class Offer:
    """One agent's resources, offered to one framework in one role."""

    __slots__ = ("agent", "allocation", "framework", "made_s", "offer_id", "resources", "role")

    def __init__(self, offer_id: str, framework: Framework, agent: Agent, allocation: Allocation, made_s: float) -> None:
        self.offer_id, self.framework, self.agent = offer_id, framework, agent
        self.allocation, self.made_s = allocation, made_s
        self.role, self.resources = allocation.role, allocation.resources


class InverseOffer:
    """A framework is asked to leave an agent before that is unavailable, or to give back some of its resources. unavailability: from when
    on; resources: all, when empty."""

    __slots__ = ("agent", "framework", "inquiry", "made_s", "offer_id", "resources", "unavailability")

    def __init__(
        self,
        offer_id: str,
        framework: Framework,
        agent: Agent,
        inquiry: Inquiry,
        unavailability: Unavailability,
        resources: Resources,
        made_s: float,
    ) -> None:
        self.offer_id, self.framework, self.agent, self.inquiry, self.made_s = offer_id, framework, agent, inquiry, made_s
        self.unavailability, self.resources = unavailability, resources


class Inquiry:
    """What a framework was asked of an agent, and said. offer: the one that is out; answer: the last, and wall_s when it came (or
    when it was first asked); quiet_until_s: when it may be asked again."""

    __slots__ = ("answer", "offer", "quiet_until_s", "wall_s")

    def __init__(self, wall_s: float) -> None:
        self.offer: InverseOffer | None = None
        self.answer = InverseOfferAnswer.UNKNOWN
        self.wall_s = wall_s
        self.quiet_until_s = 0.0


class Agent:
    """A machine that runs tasks. deactivation: why nothing is offered there, None when it is. frameworks_known: those its link was
    told of, so far as they are not removed. leaving: it has said goodbye on its link. unavailability: when it is to be under maintenance,
    if it is; inquiries: what those who use it said to that, by framework id. rendered: as that of a task."""

    __slots__ = (
        "agent_id", "capabilities", "contact_due_s", "deactivation", "executors", "frameworks_known", "info", "inquiries", "ip", "leaving",
        "link", "offered", "offers", "operations", "registered_wall_s", "rendered", "reregistered_wall_s", "run", "software", "state",
        "tasks", "total", "unavailability", "used",
    )  # fmt: skip

    def __init__(self, agent_id: str, info: AgentInfo, ip: str, total: Resources) -> None:
        self.agent_id = agent_id
        self.info = info
        self.ip = ip
        self.total = total
        self.used = EMPTY
        self.offered = EMPTY
        self.state = AgentState.RECOVERED
        self.link: int | None = None
        self.run = ""
        self.software = ""
        self.capabilities: tuple[AgentCapability, ...] = ()
        self.contact_due_s = 0.0
        self.deactivation: Deactivation | None = None
        self.registered_wall_s = 0.0
        self.reregistered_wall_s: float | None = None
        self.tasks: dict[TaskKey, Task] = {}
        self.executors: dict[TaskKey, Executor] = {}
        self.offers: dict[str, Offer] = {}
        self.operations: dict[bytes, Operation] = {}
        self.frameworks_known: set[str] = set()
        self.unavailability: Unavailability | None = None
        self.inquiries: dict[str, Inquiry] = {}
        self.leaving = False
        self.rendered: bytes | None = None

    @property
    def address(self) -> Address:
        return (self.ip, self.info.port)

    @property
    def pid(self) -> str:
        return f"slave(1)@{self.ip}:{self.info.port}"

    @property
    def active(self) -> bool:
        """Whether what is free there is offered."""
        return self.state is AgentState.REGISTERED and self.deactivation is None and not self.leaving

    def look(self) -> AgentLook:
        return AgentLook(
            self.agent_id,
            self.info,
            self.pid,
            self.registered_wall_s,
            self.reregistered_wall_s,
            self.total,
            self.used,
            self.offered,
            self.active,
            self.deactivation,
            self.software,
            self.capabilities,
        )


class Unreachable:
    """An agent that was waited for in vain. tasks: those lost with it (framework id, task id), live or not yet
    acknowledged; they stand in their frameworks' `unreachable`, unless forgotten since."""

    __slots__ = ("info", "ip", "tasks", "wall_s")

    def __init__(self, info: AgentInfo, ip: str, wall_s: float, tasks: tuple[TaskKey, ...] = ()) -> None:
        self.info, self.ip, self.wall_s, self.tasks = info, ip, wall_s, tasks

    @property
    def address(self) -> Address:
        return (self.ip, self.info.port)


class Framework:
    """A scheduler's session and everything it runs. linked: the agents whose links were told of it, by id. live: how many of
    `tasks` are in each state, by name. operations: those with ids, by these."""

    __slots__ = (
        "completed", "counts", "ends_with_tasks", "executors", "failover_due_s", "framework_id", "info", "inverse_offers", "linked",
        "live", "multi_role", "offer_constraints", "offered", "offers", "operations", "partition_aware", "refinement",
        "registered_wall_s", "reregistered_wall_s", "revocable", "roles", "shared", "state", "stream", "suppressed", "task_killing",
        "tasks", "unreachable", "unregistered_wall_s", "used", "waits",
    )  # fmt: skip

    def __init__(self, framework_id: str, info: FrameworkInfo, completed_max: int) -> None:
        self.framework_id = framework_id
        self.state = FrameworkState.RECOVERED
        self.stream: str | None = None
        self.suppressed: frozenset[str] = frozenset()
        self.offer_constraints: Any = None
        self.failover_due_s: float | None = None
        self.registered_wall_s = 0.0
        self.reregistered_wall_s: float | None = None
        self.unregistered_wall_s: float | None = None
        self.tasks: dict[str, Task] = {}
        self.unreachable: OrderedDict[str, Task] = OrderedDict()
        self.completed: deque[Task] = deque(maxlen=completed_max)
        self.executors: dict[tuple[str, str], Executor] = {}  # By agent id, executor id.
        self.offers: dict[str, Offer] = {}
        self.inverse_offers: dict[str, InverseOffer] = {}
        self.operations: dict[str, Operation] = {}
        self.linked: dict[str, Agent] = {}
        self.live: Counter[str] = Counter()
        self.used = Holdings()
        self.offered = Holdings()
        self.counts: Counter[str] = Counter()
        self.waits = FrameworkWaits()
        self.update_info(info)

    def update_info(self, info: FrameworkInfo) -> None:
        capabilities = {capability.type for capability in info.capabilities}
        self.info = info
        self.partition_aware = FrameworkCapability.PARTITION_AWARE in capabilities
        self.multi_role = FrameworkCapability.MULTI_ROLE in capabilities
        self.revocable = FrameworkCapability.REVOCABLE_RESOURCES in capabilities
        self.shared = FrameworkCapability.SHARED_RESOURCES in capabilities
        self.refinement = FrameworkCapability.RESERVATION_REFINEMENT in capabilities
        self.task_killing = FrameworkCapability.TASK_KILLING_STATE in capabilities
        self.ends_with_tasks = info.labels is not None and any(label.key == ENDS_WITH_TASKS for label in info.labels.labels)
        self.roles = roles_of(info)

    @property
    def connected(self) -> bool:
        return self.stream is not None


def roles_of(info: FrameworkInfo) -> tuple[str, ...]:
    """The roles a framework subscribes to: `roles` with MULTI_ROLE, else its one `role` (default `*`)."""
    if any(capability.type is FrameworkCapability.MULTI_ROLE for capability in info.capabilities):
        return info.roles
    return (info.role or "*",)
