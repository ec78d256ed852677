"""What agents say of themselves when they register, checked (spec: mesos-v1, section 8.1). Changes nothing.

An agent is trusted no further than this: what no honest one would say is a PeerError, which ends its link.
"""

from __future__ import annotations

from msgspec import Struct

from kernel.errors import CallError, PeerError
from kernel.master import oversubscription
from kernel.master.state import MasterState
from kernel.master.transitions import REPORTABLE
from kernel.master.validation import framework_fault
from kernel.wire.agent import Register
from kernel.wire.conversion import stripped
from kernel.wire.ids import validate_id
from kernel.wire.resources import Resource, Resources, ValueType
from kernel.wire.roles import validate_role
from kernel.wire.task import FrameworkInfo

UUID_BYTES = 16


class Claim(Struct, frozen=True, gc=False):
    """What a task or executor that the master does not know yet holds, and in which role (None: its framework's first)."""

    role: str | None
    resources: Resources


class Report(Struct, frozen=True, gc=False):
    """A registration, checked. infos: of frameworks, by id. tasks, executors: in the order told; None for those known already."""

    total: Resources
    infos: dict[str, FrameworkInfo]
    tasks: list[Claim | None]
    executors: list[Claim | None]


def read(s: MasterState, agent_id: str, message: Register) -> Report:
    """Check a registration and take from it what is to be learnt. Raises PeerError; changes nothing."""
    try:
        if message.agent_id:
            validate_id(message.agent_id, "agent_id")
        total = _read_total(message)
        _check_operations(message)
        for attribute in message.attributes:
            if attribute.type is ValueType.SET or getattr(attribute, attribute.type.value.lower()) is None:
                raise PeerError(f"registration refused: attributes: '{attribute.name}' has no value of its type")
        infos = _read_frameworks(s, message)
        executors = _read_executors(s, agent_id, message, infos)
        tasks = _read_tasks(s, agent_id, message, infos)
    except CallError as error:
        raise PeerError(f"registration refused: {error}") from error
    return Report(total, infos, tasks, executors)


def _read_total(message: Register) -> Resources:
    """All that the agent has, as operations have left it, and what it lends besides."""
    configured, slack = Resources.of(message.resources), oversubscription.read(message.slack)
    if not message.total:
        return configured + slack
    total = Resources.of(message.total, "total")
    if stripped(total) != configured:
        raise PeerError(f"registration refused: {{{total}}} cannot be made of {{{configured}}}")
    return total + slack


def _check_operations(message: Register) -> None:
    seen: set[bytes] = set()
    for report in message.operations:
        if len(report.uuid) != UUID_BYTES or report.uuid in seen or report.status.uuid is None:
            raise PeerError("registration refused: an operation is told twice, or can be neither named nor acknowledged")
        seen.add(report.uuid)


def _read_frameworks(s: MasterState, message: Register) -> dict[str, FrameworkInfo]:
    infos: dict[str, FrameworkInfo] = {}
    for info in message.frameworks:
        framework_id = info.id.value if info.id is not None else ""
        if not framework_id or framework_id in infos:
            raise PeerError(f"registration refused: framework '{framework_id}': its id is missing or told twice")
        fault = None if framework_id in s.frameworks else framework_fault(info, None, root_allowed=True)
        if fault is not None:
            raise PeerError(f"registration refused: framework '{framework_id}': {fault}")
        infos[framework_id] = info
    return infos


def _read_executors(s: MasterState, agent_id: str, message: Register, infos: dict[str, FrameworkInfo]) -> list[Claim | None]:
    claims: list[Claim | None] = []
    seen: set[tuple[str, str]] = set()
    known = s.agents[agent_id].executors if agent_id in s.agents else {}
    for report in message.executors:
        executor = report.executor
        key = (report.framework_id, executor.executor_id.value)
        _check_report(s, key, seen, infos, "executor")
        claims.append(None if key in known else _claim(executor.resources))
    return claims


def _read_tasks(s: MasterState, agent_id: str, message: Register, infos: dict[str, FrameworkInfo]) -> list[Claim | None]:
    claims: list[Claim | None] = []
    seen: set[tuple[str, str]] = set()
    known = s.agents[agent_id].tasks if agent_id in s.agents else {}
    for report in message.tasks:
        key = (report.framework_id, report.task.task_id.value)
        _check_report(s, key, seen, infos, "task")
        if not agent_id or report.task.agent_id.value != agent_id:
            raise PeerError(f"registration refused: task '{key[1]}' is of agent '{report.task.agent_id.value}'")
        status = report.status
        if report.state not in REPORTABLE or (status is not None and (status.state not in REPORTABLE or status.task_id.value != key[1])):
            raise PeerError(f"registration refused: task '{key[1]}' has a state no agent knows of")
        claims.append(None if key in known else _claim(report.task.resources))
    return claims


def _check_report(s: MasterState, key: tuple[str, str], seen: set[tuple[str, str]], infos: dict[str, FrameworkInfo], what: str) -> None:
    framework_id, name = key
    validate_id(name, f"{what} id")
    if key in seen:
        raise PeerError(f"registration refused: {what} '{name}' is told twice")
    seen.add(key)
    if framework_id not in infos and framework_id not in s.frameworks and framework_id not in s.removed_ids:
        raise PeerError(f"registration refused: {what} '{name}' is of framework '{framework_id}', of which nothing is told")


def _claim(messages: tuple[Resource, ...]) -> Claim:
    role = None
    for message in messages:
        if message.allocation_info is not None and message.allocation_info.role:
            role = message.allocation_info.role
            validate_role(role, "resources.allocation_info.role")
            break
    return Claim(role, Resources.of(messages))
