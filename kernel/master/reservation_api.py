"""Operators' reservations and volumes: calls of the operator API and older forms, made into operations (spec: mesos-v1, 4.1, 5.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernel.errors import CallError
from kernel.master.effects import OperateByOperator
from kernel.wire import codec, operator
from kernel.wire.ids import AgentID
from kernel.wire.offer import Create, Destroy, GrowVolume, Operation, OperationType, Reserve, ShrinkVolume, Unreserve
from kernel.wire.resources import Resource

# By the part of the call, which is named as the call in lower case.
_MADE_OF: dict[str, Callable[[Any], Operation]] = {
    "reserve_resources": lambda body: Operation(OperationType.RESERVE, reserve=Reserve(body.source, body.resources)),
    "unreserve_resources": lambda body: Operation(OperationType.UNRESERVE, unreserve=Unreserve(body.resources)),
    "create_volumes": lambda body: Operation(OperationType.CREATE, create=Create(body.volumes)),
    "destroy_volumes": lambda body: Operation(OperationType.DESTROY, destroy=Destroy(body.volumes)),
    "grow_volume": lambda body: Operation(OperationType.GROW_VOLUME, grow_volume=GrowVolume(body.volume, body.addition)),
    "shrink_volume": lambda body: Operation(OperationType.SHRINK_VOLUME, shrink_volume=ShrinkVolume(body.volume, body.subtract)),
}
CALLS = frozenset(part.upper() for part in _MADE_OF)

# By path: the call it means, its class, the field that is a list.
_FORMS: dict[str, tuple[str, type, str]] = {
    "reserve": ("reserve_resources", operator.ReserveResources, "resources"),
    "unreserve": ("unreserve_resources", operator.UnreserveResources, "resources"),
    "create-volumes": ("create_volumes", operator.CreateVolumes, "volumes"),
    "destroy-volumes": ("destroy_volumes", operator.DestroyVolumes, "volumes"),
}
FORMS = {
    "reserve": "reserves; form slaveId=&resources=[...]",
    "unreserve": "ends reservations; form slaveId=&resources=[...]",
    "create-volumes": "makes persistent volumes; form slaveId=&volumes=[...]",
    "destroy-volumes": "destroys persistent volumes with what is in them; form slaveId=&volumes=[...]",
}


def of_call(kind: str, body: Any, principal: str | None) -> OperateByOperator:
    """What a call of this type asks for. Raises CallError when it names no agent."""
    if body.agent_id is None:
        raise CallError(f"{kind.lower()}.agent_id: must be set")
    return OperateByOperator(body.agent_id.value, _MADE_OF[kind.lower()](body), principal)


def of_form(name: str, fields: Mapping[str, str], principal: str | None) -> OperateByOperator:
    """What a form of an older endpoint asks for. Raises CallError."""
    call, kind, part = _FORMS[name]
    for needed in ("slaveId", part):
        if not fields.get(needed):
            raise CallError(f"Missing '{needed}' query parameter")
    given = {part: _resources(fields[part], part)}
    if name == "reserve" and fields.get("source"):
        given["source"] = _resources(fields["source"], "source")
    return of_call(call, kind(AgentID(fields["slaveId"]), **given), principal)


def _resources(text: str, field: str) -> tuple[Resource, ...]:
    try:
        return codec.decode(text.encode(), tuple[Resource, ...])
    except CallError as error:
        raise CallError(f"{field}: {error}") from error
