"""What goes into the agent's core and what comes out of it (besides `kernel.mainloop`'s own)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from kernel.agent.containerizer.kinds import LAUNCHED, Containerizer
from kernel.agent.gpus import Gpu
from kernel.agent.isolators.limits import Limits, Usage
from kernel.agent.oversubscription.controller import Machine
from kernel.agent.token import Claims
from kernel.agent.volumes.places import Mount, VolumePlace
from kernel.executor.checks import HttpTarget, TcpTarget
from kernel.executor.command import Limitation
from kernel.wire import agent_operator, executor
from kernel.wire.agent import AgentMessage, MasterMessage
from kernel.wire.command import URI, CheckStatusInfo
from kernel.wire.container import ContainerInfo, NetworkInfo, WindowSize

# ---- Inputs ---------------------------------------------------------------------------------------------


class MasterConnected(Struct, frozen=True):
    """A link to the leading master is open; nothing was said on it yet."""


class MasterLost(Struct, frozen=True):
    """The link ended. What was sent on it may or may not have arrived."""


class Measured(Struct, frozen=True):
    """What containers use, by id, and the machine as a whole, at an instant of the edge's monotonic clock."""

    at_s: float
    usages: Mapping[str, Usage]
    machine: Machine


class FromMaster(Struct, frozen=True, gc=False):
    """A message of the master on the present link."""

    message: MasterMessage


class SubscribeExecutor(Struct, frozen=True):
    """A custom executor asks for its event stream, which the edge has ready under this name.

    claims, here and below: who the caller has proved to be, None where nobody is asked.
    """

    stream: str
    framework_id: str
    executor_id: str
    body: executor.Subscribe
    claims: Claims | None = None


class ExecutorUpdate(Struct, frozen=True):
    """A custom executor reports a task."""

    framework_id: str
    executor_id: str
    body: executor.Update
    claims: Claims | None = None


class ExecutorData(Struct, frozen=True):
    """A custom executor sends bytes to its scheduler."""

    framework_id: str
    executor_id: str
    data: bytes
    claims: Claims | None = None


class ExecutorUnknown(Struct, frozen=True):
    """A custom executor makes a call of the type UNKNOWN. Raises NotSupported, if it may call at all."""

    framework_id: str
    executor_id: str
    claims: Claims | None = None


class ExecutorStreamClosed(Struct, frozen=True):
    """An executor's stream ended, at either side."""

    stream: str


class Exit(Struct, frozen=True, gc=False):
    """How a container ended. status: raw wait status, None when nobody saw it; ended_s: wall clock."""

    status: int | None
    ended_s: float


class KnownContainer(Struct, frozen=True, gc=False):
    """A container as the launcher knows it. Neither exit nor failure: it runs, or is just being started (no pid). networks: see
    ContainerStarted."""

    container_id: str
    pid: int | None
    exit: Exit | None = None
    failure: str | None = None
    limitation: Limitation | None = None
    networks: tuple[NetworkInfo, ...] = ()


class LauncherState(Struct, frozen=True):
    """Everything that whoever runs containers has: the first input after each connection to it. told_of: whose containers these are; of
    others nothing is said. Nothing is decided before the launcher has told."""

    containers: tuple[KnownContainer, ...]
    told_of: frozenset[Containerizer] = LAUNCHED


class ContainerStarted(Struct, frozen=True, gc=False):
    """pid: 0 when its first process is gone already. networks: those of its own, with its addresses; empty where it has the agent's."""

    container_id: str
    pid: int
    networks: tuple[NetworkInfo, ...] = ()


class ContainerFailed(Struct, frozen=True, gc=False):
    """A container could not be started; message says why, for the user."""

    container_id: str
    message: str


class ContainerExited(Struct, frozen=True, gc=False):
    container_id: str
    exit: Exit
    limitation: Limitation | None = None


class ContainerLimited(Struct, frozen=True, gc=False):
    """A container was found to use more than it may, and is to be ended for that."""

    container_id: str
    limitation: Limitation


class Probed(Struct, frozen=True, gc=False):
    """What a `Probe` found."""

    probe_id: str
    found: CheckStatusInfo


class VolumesNotLinked(Struct, frozen=True):
    """A `LinkVolumes` failed; message says why, for the user."""

    framework_id: str
    task_ids: tuple[str, ...]
    message: str


class VolumeRemoved(Struct, frozen=True):
    """What a `RemoveVolume` says is done."""

    path: str
    token: str


class Stop(Struct, frozen=True):
    """Leave. final: end everything and never come back under this id. end_tasks: end them and come back as the same agent, which
    owes their updates. Else tasks go on without us."""

    final: bool
    end_tasks: bool = False


class KillContainer(Struct, frozen=True):
    """An operator sends a signal to a container (PARENT.ID for one inside another). Raises NotFound."""

    container_id: str
    signal: int


class LaunchOperated(Struct, frozen=True):
    """An operator launches a container. name: PARENT.ID for one inside another. The reply is whether it is new: one that is there already
    changes nothing. Raises CallError, Conflict for one that has ended and was not removed, Unavailable."""

    name: str
    asked: agent_operator.LaunchContainer


class RemoveOperated(Struct, frozen=True):
    """An operator has no more use for a container that has ended, and its sandbox is gone. Raises NotFound, Conflict while it runs."""

    name: str


class View(Struct, frozen=True):
    """A read: `kernel.agent.views` renders what `name` asks for from the state, seen at one instant."""

    name: str
    arguments: Any = None


# ---- Effects --------------------------------------------------------------------------------------------


class ToMaster(Struct, frozen=True, gc=False):
    """Send on the present link."""

    message: AgentMessage


class CloseMasterLink(Struct, frozen=True):
    """Give the link up and connect anew; reason for the log."""

    reason: str


class ToExecutor(Struct, frozen=True):
    """Send one event on an executor's stream."""

    stream: str
    event: executor.Event


class CloseExecutorStream(Struct, frozen=True):
    """End a stream after what was sent on it."""

    stream: str


class Beside(Struct, frozen=True):
    """The container whose control groups, and files where it has an image, another one shares: never one that does so itself. directory:
    its sandbox, inside of which is that of the other."""

    container_id: str
    directory: str


class LaunchContainer(Struct, frozen=True):
    """Make the sandbox and start the process. Idempotent by container_id.

    executable: what is executed: a path, or a name looked up in the PATH of env; argv[0] may differ from it.
    directory: the sandbox, made with its parents, owned by user (None: the agent's own). links: symlinks to make
    (path; target relative to the path's folder), replaced when they exist. limits: what it is held to where that is possible.
    containerizer: who runs it; info: what was asked of him, as it was asked. shell: whether argv is a shell with a command; in an image
    that overrides its entry point, and without argv the image says what is run.
    uris: fetched into the sandbox before the process starts. beside: of one inside another; variables: its own, where env has those of
    the other, too. gpus: those it has; limits say of which it is kept away. terminal: what it is to have instead of its standard files;
    what is shown there goes to stdout. volumes: persistent ones, to be seen in it.
    """

    container_id: str
    executable: str
    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    user: str | None
    links: tuple[tuple[str, str], ...]
    limits: Limits
    containerizer: Containerizer = Containerizer.PROCESS
    info: ContainerInfo | None = None
    shell: bool = True
    uris: tuple[URI, ...] = ()
    beside: Beside | None = None
    variables: dict[str, str] = {}
    gpus: tuple[Gpu, ...] = ()
    terminal: WindowSize | None = None
    volumes: tuple[Mount, ...] = ()


class LaunchProbe(Struct, frozen=True):
    """Run the command of a check: a short container of its own, known to the launcher by container_id as any other, but in the
    sandbox (directory) and the control groups of its task's container, which it may not outlive. Answered as LaunchContainer.

    env: the task's variables and its own; variables: its own. output: the file in the sandbox that takes what it says; what the last one
    said is removed.
    """

    container_id: str
    task_container_id: str
    executable: str
    argv: tuple[str, ...]
    env: dict[str, str]
    directory: str
    user: str | None
    output: str
    variables: dict[str, str] = {}


class Probe(Struct, frozen=True, gc=False):
    """Look once whether something answers; Probed follows. Nobody limits the time but DropProbe.

    pid: of a process whose network the target is in, 0 for ours. ip: the address of the target where that network may not be entered.
    """

    probe_id: str
    target: HttpTarget | TcpTarget
    pid: int = 0
    ip: str = ""


class DropProbe(Struct, frozen=True, gc=False):
    """Nobody waits for this probe any more."""

    probe_id: str


class LimitContainer(Struct, frozen=True, gc=False):
    """Hold a container to other limits: an executor's tasks have become more or fewer."""

    container_id: str
    limits: Limits


class MakeVolume(Struct, frozen=True, gc=False):
    """Have a persistent volume on the disk. A repeat leaves what is in it."""

    place: VolumePlace


class RemoveVolume(Struct, frozen=True, gc=False):
    """Take a persistent volume off the disk; VolumeRemoved follows."""

    place: VolumePlace


class LinkVolumes(Struct, frozen=True, gc=False):
    """Show volumes of tasks in the sandbox of their executor, which runs already, before it is given them; user: theirs (None: the
    agent's own). VolumesNotLinked follows when that fails."""

    framework_id: str
    task_ids: tuple[str, ...]
    directory: str
    user: str | None
    volumes: tuple[Mount, ...]


class SignalContainer(Struct, frozen=True, gc=False):
    """Send a signal to all processes of a container."""

    container_id: str
    signal: int


class ForgetContainer(Struct, frozen=True, gc=False):
    """The exit of this container is recorded; the launcher need not tell it again."""

    container_id: str


class ContainerEnded(Struct, frozen=True, gc=False):
    """A container is gone; exit is None when it never started. For those who wait for it. name: PARENT.ID for one inside another."""

    container_id: str
    name: str
    exit: Exit | None
    limitation: Limitation | None = None


class ContainerBegan(Struct, frozen=True, gc=False):
    """A container of an operator has a process; problem: or why it cannot have one, in words. For the one who launched it."""

    name: str
    problem: str = ""


class AgentNamed(Struct, frozen=True):
    """The master admitted us under this id."""

    agent_id: str


class Leave(Struct, frozen=True):
    """Nothing is left to do: end the process. status: 0 asked for, 1 the master sent us away. kill_all: whatever still runs is
    to be killed."""

    status: int
    reason: str
    kill_all: bool = False
