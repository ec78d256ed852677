"""What a framework must not forget, and the form it has in the store.

    framework      its own id, as text, written before it is used
    tasks/ID       one task that waits or lives, in msgpack

All other keys are the framework's own; they come back to it untouched.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from frameworks.sdk.tasks import Shape, TaskRecord
from kernel.errors import StoreError
from kernel.mainloop import Persist
from kernel.wire.offer import RoleConstraints
from kernel.wire.resources import Resource, Resources
from kernel.wire.task import TaskInfo, TaskState

ID_KEY = "framework"
TASKS = "tasks/"


class KeptTask(Struct, frozen=True):
    """A TaskRecord in the store. wants: what it wants, where it got something of that which is reserved; else that is read from
    info.resources. Fields are only added, with defaults."""

    info: TaskInfo
    role: str
    state: TaskState | None = None
    agent_id: str = ""
    hostname: str = ""
    agent_url: str = ""
    uuid: bytes = b""
    killing: bool = False
    drops: int = 0
    note: bytes = b""
    constraints: RoleConstraints | None = None
    only_agent: str | None = None
    priority: int = 0
    name: str = ""
    gang: str = ""
    min: int = 0
    prefer: tuple[str, ...] = ()
    wants: tuple[Resource, ...] = ()


class Kept(Struct, frozen=True):
    """What a store held. framework_id: None when the framework is new. own: the keys that are not the SDK's."""

    framework_id: str | None
    tasks: tuple[TaskRecord, ...]
    own: Mapping[str, bytes]


def restore(kept: Mapping[str, bytes]) -> Kept:
    """Read everything a store held. Raises StoreError when a task in it cannot be read: a task forgotten may run twice."""
    framework_id = kept.get(ID_KEY)
    tasks = []
    for key, value in kept.items():
        if key.startswith(TASKS):
            try:
                tasks.append(decode_task(value))
            except (msgspec.MsgspecError, ValueError) as error:
                raise StoreError(f"{key} in the framework's store cannot be read: {error}") from error
    own = {key: value for key, value in kept.items() if not is_ours(key)}
    return Kept(framework_id.decode() if framework_id is not None else None, tuple(tasks), own)


def is_ours(key: str) -> bool:
    """Whether a key is the SDK's and not the framework's own."""
    return key == ID_KEY or key.startswith(TASKS)


def keep_id(framework_id: str) -> Persist:
    return Persist(ID_KEY, framework_id.encode())


def keep_task(record: TaskRecord) -> Persist:
    return Persist(TASKS + record.task_id, encode_task(record))


def forget_task(task_id: str) -> Persist:
    return Persist(TASKS + task_id, None)


def encode_task(record: TaskRecord) -> bytes:
    shape = record.shape
    return _encoder.encode(
        KeptTask(
            record.info,
            shape.role,
            record.state,
            record.agent_id,
            record.hostname,
            record.agent_url,
            record.uuid,
            record.killing,
            record.drops,
            record.note,
            shape.constraints,
            shape.agent_id,
            shape.priority,
            shape.name,
            shape.gang,
            shape.min,
            shape.prefer,
            shape.wants.messages() if any(resource.reservations for resource in record.info.resources) else (),
        )
    )


def decode_task(data: bytes) -> TaskRecord:
    kept = _decoder.decode(data)
    wants = Resources.of(kept.wants or kept.info.resources)
    shape = Shape(wants, kept.role, kept.constraints, kept.only_agent, kept.priority, kept.name, kept.gang, kept.min, kept.prefer)
    return TaskRecord(
        kept.info, shape, kept.state, kept.agent_id, kept.hostname, kept.agent_url, kept.uuid, kept.killing, kept.drops, kept.note
    )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KeptTask)
