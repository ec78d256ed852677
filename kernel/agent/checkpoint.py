"""What of the agent's state outlives its process, under which keys, and how it is read back.

All tasks are kept, whatever FrameworkInfo.checkpoint says: a restart or crash of the agent is nothing a task should
notice. (Mesos keeps only tasks of checkpointing frameworks; `docs/compatibility.md` says so.) The store is written
without a disk sync, because after a power loss all of it is void: the boot id tells.

Ids become paths: what is read back is checked as if it came from outside.

Keys: `agent`; `drain`; `frameworks/ID`; `executors/FID/EID`; `tasks/FID/TID`, what a task is; `updates/FID/TID`, where it stands;
`containers/NAME`, those of operators. Also `resources` and `operations/UUID`, which are synced (see `outlives_power_loss`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from kernel.agent.state import (
    AgentState,
    Cause,
    Drain,
    Ending,
    Executor,
    Framework,
    Kind,
    Node,
    Operation,
    OperatorContainer,
    Task,
    UpdateQueue,
)
from kernel.agent.transitions import ExecutorState
from kernel.agent.volumes.places import VolumePlace
from kernel.errors import CallError, ConfigError, StoreError
from kernel.executor.command import CommandRun, Kill, Phase
from kernel.mainloop import Persist
from kernel.wire.agent_operator import LaunchContainer
from kernel.wire.command import CheckStatusInfo
from kernel.wire.conversion import checkpointed, stripped
from kernel.wire.ids import validate_id
from kernel.wire.offer import Operation as OperationInfo
from kernel.wire.offer import OperationStatus
from kernel.wire.resources import Resource, Resources
from kernel.wire.task import TERMINAL, ExecutorInfo, FrameworkInfo, KillPolicy, TaskInfo, TaskState, TaskStatus

log = logging.getLogger(__name__)


class AgentRecord(Struct, frozen=True, omit_defaults=True):
    """departed: the agent left for good; the next start is that of a new agent. node: what it announced, None when not known."""

    agent_id: str
    boot_id: str
    departed: bool = False
    node: Node | None = None


class ResourcesRecord(Struct, frozen=True, omit_defaults=True):
    """What operations have made of the agent's resources. volumes: those that there are; doomed: still to be removed from the disk."""

    resources: tuple[Resource, ...] = ()
    volumes: tuple[VolumePlace, ...] = ()
    doomed: tuple[VolumePlace, ...] = ()


class OperationRecord(Struct, frozen=True, omit_defaults=True):
    framework_id: str
    info: OperationInfo
    status: OperationStatus


class FrameworkRecord(Struct, frozen=True, omit_defaults=True):
    info: FrameworkInfo
    terminating: bool = False


class ExecutorRecord(Struct, frozen=True, omit_defaults=True):
    info: ExecutorInfo
    kind: Kind
    container_id: str
    launched_wall_s: float
    state: ExecutorState
    cause: Cause | None = None
    unhealthy: bool = False
    gpus: tuple[int, ...] = ()


class TaskRecord(Struct, frozen=True, omit_defaults=True):
    """kill: its since_s is wall time. kill_wanted: the custom executor is still to be told."""

    info: TaskInfo
    kind: Kind
    executor_id: str
    container_id: str
    launched_wall_s: float
    group: int = 0
    kill: Kill | None = None
    kill_wanted: KillPolicy | None = None
    gpus: tuple[int, ...] = ()
    preempted: str = ""


class UpdatesRecord(Struct, frozen=True, omit_defaults=True):
    """watched_wall_s: since when checks watch it. check, healthy, failures: what they found. All of it changes with an update only."""

    state: TaskState
    pending: tuple[TaskStatus, ...] = ()
    acknowledged: TaskStatus | None = None
    seen: tuple[bytes, ...] = ()
    watched_wall_s: float | None = None
    check: CheckStatusInfo | None = None
    healthy: bool | None = None
    failures: int = 0


class ContainerRecord(Struct, frozen=True, omit_defaults=True):
    asked: LaunchContainer
    launched_wall_s: float
    runs: bool = False
    ending: Ending | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode_agent = msgspec.msgpack.Decoder(AgentRecord).decode
_decode_drain = msgspec.msgpack.Decoder(Drain).decode
_decode_resources = msgspec.msgpack.Decoder(ResourcesRecord).decode
_decode_operation = msgspec.msgpack.Decoder(OperationRecord).decode
_decode_framework = msgspec.msgpack.Decoder(FrameworkRecord).decode
_decode_executor = msgspec.msgpack.Decoder(ExecutorRecord).decode
_decode_task = msgspec.msgpack.Decoder(TaskRecord).decode
_decode_updates = msgspec.msgpack.Decoder(UpdatesRecord).decode
_decode_container = msgspec.msgpack.Decoder(ContainerRecord).decode


def keep_agent(state: AgentState) -> Persist:
    return Persist("agent", _encode(AgentRecord(state.agent_id, state.identity.boot_id, state.leaves_for_good, state.node)))


def keep_drain(drain: Drain) -> Persist:
    return Persist("drain", _encode(drain))


def forget_drain() -> Persist:
    return Persist("drain", None)


def keep_resources(state: AgentState) -> Persist:
    kept = ResourcesRecord(checkpointed(state.total).messages(), tuple(state.volumes.values()), tuple(state.doomed.values()))
    return Persist("resources", _encode(kept))


def keep_operation(operation: Operation) -> Persist:
    record = OperationRecord(operation.framework_id, operation.info, operation.status)
    return Persist(f"operations/{operation.uuid.hex()}", _encode(record))


def forget_operation(operation: Operation) -> Persist:
    return Persist(f"operations/{operation.uuid.hex()}", None)


def keep_framework(framework: Framework) -> Persist:
    return Persist(f"frameworks/{framework.framework_id}", _encode(FrameworkRecord(framework.info, framework.terminating)))


def forget_framework(framework: Framework) -> Persist:
    return Persist(f"frameworks/{framework.framework_id}", None)


def keep_executor(executor: Executor) -> Persist:
    record = ExecutorRecord(
        executor.info,
        executor.kind,
        executor.container_id,
        executor.launched_wall_s,
        executor.state,
        executor.cause,
        executor.unhealthy,
        executor.gpus,
    )
    return Persist(f"executors/{executor.framework.framework_id}/{executor.executor_id}", _encode(record))


def forget_executor(executor: Executor) -> Persist:
    return Persist(f"executors/{executor.framework.framework_id}/{executor.executor_id}", None)


def keep_task(task: Task, state: AgentState) -> Persist:
    kill = task.run.kill if task.run is not None else None
    if kill is not None:
        kill = Kill(kill.cause, state.now.wall_s - (state.now.mono_s - kill.since_s), kill.grace_s)
    record = TaskRecord(
        task.info,
        task.kind,
        task.executor_id,
        task.container_id,
        task.launched_wall_s,
        task.group,
        kill,
        task.kill_wanted,
        task.gpus,
        task.preempted,
    )
    return Persist(f"tasks/{task.framework.framework_id}/{task.task_id}", _encode(record))


def keep_updates(task: Task, state: AgentState) -> Persist:
    queue, check, health = task.updates, task.check, task.health
    since_s = next((watch.since_s for watch in task.watches), None)
    record = UpdatesRecord(
        task.state,
        tuple(queue.pending),
        queue.acknowledged,
        tuple(queue.seen),
        None if since_s is None else state.now.wall_s - (state.now.mono_s - since_s),
        None if check is None else check.found,
        None if health is None else health.healthy,
        0 if health is None else health.failures,
    )
    return Persist(f"updates/{task.framework.framework_id}/{task.task_id}", _encode(record))


def forget_task(task: Task) -> tuple[Persist, Persist]:
    name = f"{task.framework.framework_id}/{task.task_id}"
    return Persist(f"tasks/{name}", None), Persist(f"updates/{name}", None)


def keep_container(found: OperatorContainer) -> Persist:
    record = ContainerRecord(found.asked, found.launched_wall_s, found.runs, found.ending)
    return Persist(f"containers/{found.name}", _encode(record))


def forget_container(found: OperatorContainer) -> Persist:
    return Persist(f"containers/{found.name}", None)


def agent_record(entries: Mapping[str, bytes]) -> AgentRecord | None:
    """Who the agent was, None at its very first start. Raises StoreError."""
    try:
        if "agent" not in entries:
            return None
        record = _decode_agent(entries["agent"])
        if record.agent_id:
            validate_id(record.agent_id, "agent_id")
        return record
    except (msgspec.DecodeError, ValueError, CallError) as error:
        raise StoreError(f"the agent's record cannot be read: {error}; without --strict the next start is that of a new agent") from error


def outlives_power_loss(key: str) -> bool:
    """Whether an entry must be on the disk when it is written: reservations and volumes are not void when the machine restarts."""
    return key == "resources" or key.startswith("operations/")


def load_resources(state: AgentState, entries: Mapping[str, bytes]) -> None:
    """Take up what operations have made, whoever the agent was then. Raises StoreError; ConfigError when it is not there any more."""
    if "resources" not in entries:
        return
    try:
        kept = _decode_resources(entries["resources"])
        held = Resources.of(kept.resources)
    except (msgspec.DecodeError, ValueError, CallError) as error:
        raise StoreError(f"the entry resources cannot be read: {error}") from error
    needed = stripped(held)
    if not state.total.contains(needed):
        raise ConfigError(f"--resources: {{{needed}}} is reserved or made volumes of by operations, of {{{state.total}}} that there is now")
    state.total = state.total - needed + held
    state.volumes = {place.path: place for place in kept.volumes}
    state.doomed = {place.path: place for place in kept.doomed}


def load_operations(state: AgentState, entries: Mapping[str, bytes]) -> None:
    """Take up what is not acknowledged yet. Raises StoreError."""
    for key in sorted(name for name in entries if name.startswith("operations/")):
        try:
            kept = _decode_operation(entries[key])
            uuid = bytes.fromhex(key.partition("/")[2])
        except (msgspec.DecodeError, ValueError) as error:
            raise StoreError(f"the entry {key} cannot be read: {error}") from error
        state.operations[uuid] = Operation(uuid, kept.framework_id, kept.info, kept.status)


def load(state: AgentState, entries: Mapping[str, bytes]) -> None:
    """Fill an empty state with what was kept; `state.now` must be set. Raises StoreError naming the key, if the operator is strict;
    else what cannot be read is forgotten and counted."""
    groups: dict[str, list[str]] = {"drain": [], "frameworks": [], "executors": [], "tasks": [], "containers": []}
    for name in entries:
        groups.setdefault(name.partition("/")[0], []).append(name)
    for kind, load_entry in _LOADERS.items():
        for key in sorted(groups[kind]):
            try:
                load_entry(state, key, entries)
            except (msgspec.DecodeError, ValueError, KeyError, IndexError, CallError) as error:
                if state.config.strict:
                    raise StoreError(f"the entry {key} cannot be read: {error}; --no-strict goes on without it") from error
                log.error("the entry %s cannot be read and is forgotten: %s", key, error)
                state.counts["slave/recovery_errors"] += 1
                state.emit(Persist(key, None))
                if kind == "tasks":
                    state.emit(Persist(_updates_key(key), None))


def _updates_key(key: str) -> str:
    return "updates" + key[len("tasks") :]


def _load_drain(state: AgentState, key: str, entries: Mapping[str, bytes]) -> None:
    state.drain = _decode_drain(entries[key])


def _load_framework(state: AgentState, key: str, entries: Mapping[str, bytes]) -> None:
    kept = _decode_framework(entries[key])
    framework = Framework(key.split("/", 1)[1], kept.info, state.config.max_completed_executors_per_framework)
    validate_id(framework.framework_id, "framework_id")
    framework.terminating = kept.terminating
    state.frameworks[framework.framework_id] = framework


def _load_executor(state: AgentState, key: str, entries: Mapping[str, bytes]) -> None:
    kept = _decode_executor(entries[key])
    framework = state.frameworks[key.split("/", 2)[1]]
    executor = Executor(framework, kept.info, kept.kind, kept.container_id, kept.launched_wall_s, kept.state)
    executor.cause, executor.unhealthy, executor.gpus = kept.cause, kept.unhealthy, kept.gpus
    validate_id(executor.executor_id, "executor_id")
    validate_id(executor.container_id, "container_id")
    if executor.kind is Kind.CUSTOM and executor.state is ExecutorState.RUNNING:
        executor.state = ExecutorState.REREGISTERING
    framework.executors[executor.executor_id] = executor
    if executor.kind is Kind.CUSTOM:
        executor.given = executor.state is not ExecutorState.REGISTERING
        state.containers[executor.container_id] = executor


def _load_task(state: AgentState, key: str, entries: Mapping[str, bytes]) -> None:
    kept, updates = _decode_task(entries[key]), entries.get(_updates_key(key))
    framework = state.frameworks[key.split("/", 2)[1]]
    task = Task(framework, kept.info, kept.kind, kept.executor_id, kept.container_id, kept.launched_wall_s, kept.group)
    task.kill_wanted, task.gpus, task.preempted = kept.kill_wanted, kept.gpus, kept.preempted
    validate_id(task.task_id, "task_id")
    validate_id(task.executor_id, "executor_id")
    if task.container_id:
        validate_id(task.container_id, "container_id")
    if updates is not None:
        stands = _decode_updates(updates)
        task.state = stands.state
        task.updates = UpdateQueue(stands.pending, stands.acknowledged, stands.seen)
        for status in stands.pending if stands.acknowledged is None else (stands.acknowledged, *stands.pending):
            task.note(status)
        _load_watches(state, task, stands)
    if task.kind is not Kind.COMMAND and not task.terminal and task.executor_id not in framework.executors:
        raise ValueError(f"its executor {task.executor_id} is not there")
    if task.run is not None:
        kill = kept.kill
        if kill is not None:
            kill = Kill(kill.cause, state.now.mono_s - max(0.0, state.now.wall_s - kill.since_s), kill.grace_s)
        if task.state in TERMINAL:
            phase = Phase.ENDED
        elif task.state in (TaskState.TASK_RUNNING, TaskState.TASK_KILLING):
            phase = Phase.RUNNING
        else:
            phase = Phase.LAUNCHING
        task.run = CommandRun(phase, kill)
        if phase is not Phase.ENDED:
            state.containers[task.container_id] = task
    framework.add(task)


def _load_container(state: AgentState, key: str, entries: Mapping[str, bytes]) -> None:
    name, kept = key.partition("/")[2], _decode_container(entries[key])
    for container_id in name.split("."):
        validate_id(container_id, "container_id")
    found = state.operator_containers[name] = OperatorContainer(kept.asked, name, kept.launched_wall_s)
    found.runs, found.ending = kept.runs, kept.ending


def _load_watches(state: AgentState, task: Task, stands: UpdatesRecord) -> None:
    if stands.watched_wall_s is not None:
        for watch in task.watches:
            watch.since_s = state.now.mono_s - max(0.0, state.now.wall_s - stands.watched_wall_s)
    if task.check is not None and stands.check is not None:
        task.check.found = stands.check
    if task.health is not None:
        task.health.healthy, task.health.failures = stands.healthy, stands.failures


_LOADERS: Mapping[str, Callable[[AgentState, str, Mapping[str, bytes]], None]] = {
    "drain": _load_drain,
    "frameworks": _load_framework,
    "executors": _load_executor,
    "tasks": _load_task,
    "containers": _load_container,
}
