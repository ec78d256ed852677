"""Operations on resources: reservations and volumes, from frameworks and operators (spec: mesos-v1, sections 2.8, 2.16 and 4.1).

The master does at once what an operation says, and tells the agent. The link keeps the order: an agent that has not heard of an
operation has heard of nothing that came after it, and what it tells when it registers again is how things are.
"""

from __future__ import annotations

import hashlib

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import CallError, Conflict, PeerError
from kernel.master.effects import OperateByOperator
from kernel.master.model import Agent, Framework, Operation
from kernel.master.operation_validation import Actor, OperationFault, Place, check, check_there
from kernel.master.state import MasterState
from kernel.wire import scheduler
from kernel.wire.agent import AcknowledgeOperation, ApplyOperation, OperationReport, OperationUpdate
from kernel.wire.conversion import Conversion, apply, unshared
from kernel.wire.ids import AgentID, OperationID
from kernel.wire.legacy import reserved_by_role
from kernel.wire.offer import Operation as OperationInfo
from kernel.wire.offer import OperationState, OperationStatus, OperationType
from kernel.wire.resources import Form, Resource, Resources

REFUSE_S = 5.0  # Offers that an operator's operation takes back are not made to the same again for so long.
OPERATIONS_MAX = 1000  # Of one framework, with ids and not acknowledged.
TERMINAL = frozenset({
    OperationState.OPERATION_FINISHED, OperationState.OPERATION_FAILED, OperationState.OPERATION_ERROR, OperationState.OPERATION_DROPPED,
    OperationState.OPERATION_GONE_BY_OPERATOR,
})  # fmt: skip
# What these make is not for what follows in the same ACCEPT (in Mesos an agent may refuse them).
NOT_SPECULATIVE = frozenset({OperationType.GROW_VOLUME, OperationType.SHRINK_VOLUME})


# ---- Of frameworks --------------------------------------------------------------------------------------


def check_offered(framework: Framework, agent: Agent, role: str, offered: Resources, info: OperationInfo) -> Conversion:
    """Check an operation of an ACCEPT; offered: what is left of the offers. Raises OperationFault."""
    if info.id is not None:
        if info.id.value in framework.operations:
            raise OperationFault(f"id: '{info.id.value}' is that of an operation whose end is not acknowledged")
        if len(framework.operations) >= OPERATIONS_MAX:
            raise OperationFault(f"id: {OPERATIONS_MAX} operations of this framework wait to be acknowledged already")
    actor = Actor(framework.info.principal, role, framework.roles, framework.shared)
    change = check(info, actor, _place(agent))
    check_there(info, change.consumed, offered, "left of the offers")
    return change


def order(s: MasterState, agent: Agent, framework: Framework | None, info: OperationInfo, change: Conversion) -> None:
    """Do what was checked: the agent has other resources from now on. The allocator's part is the caller's."""
    s.before(agent)
    agent.total = apply(agent.total, change)
    framework_id = framework.framework_id if framework is not None else ""
    pending = OperationStatus(OperationState.OPERATION_PENDING, info.id, agent_id=AgentID(agent.agent_id))
    operation = Operation(_new_uuid(s), framework_id, agent.agent_id, info, pending)
    _add(s, agent, operation)
    s.tell_agent(agent, ApplyOperation(framework_id, operation.uuid, info), framework)


def tell_error(s: MasterState, framework: Framework, info: OperationInfo, message: str) -> None:
    """An operation is not done; its framework hears of it if it has an id."""
    s.counts["master/operations/error"] += 1
    if info.id is not None:
        _tell(s, framework, OperationStatus(OperationState.OPERATION_ERROR, info.id, message))


def acknowledge(s: MasterState, framework: Framework, call: scheduler.AcknowledgeOperationStatus, now: Now) -> None:
    """ACKNOWLEDGE_OPERATION_STATUS: the operation is forgotten here, then at its agent."""
    operation = framework.operations.get(call.operation_id.value)
    agent = s.agents.get(call.agent_id.value) if call.agent_id is not None else None
    known = operation is not None and operation.latest.uuid is not None and operation.latest.uuid.value == call.uuid
    if operation is None or agent is None or agent.link is None or not known or operation.agent_id != agent.agent_id:
        s.counts["master/invalid_operation_status_update_acknowledgements"] += 1
        return
    s.counts["master/valid_operation_status_update_acknowledgements"] += 1
    s.tell_agent(agent, AcknowledgeOperation(operation.uuid, call.uuid))
    if operation.latest.state in TERMINAL:
        _remove(s, agent, operation)


def reconcile(s: MasterState, framework: Framework, call: scheduler.ReconcileOperations, now: Now) -> None:
    """RECONCILE_OPERATIONS: the latest status of those named, of all when none is; of an unknown one what is known of its agent."""
    if not call.operations:
        for operation in framework.operations.values():
            _tell(s, framework, _unacknowledged(operation.latest))
    for wanted in call.operations:
        known = framework.operations.get(wanted.operation_id.value)
        if known is not None:
            _tell(s, framework, _unacknowledged(known.latest))
            continue
        agent_id = wanted.agent_id.value if wanted.agent_id is not None else ""
        if agent_id in s.recovered:
            state = OperationState.OPERATION_RECOVERING
        elif agent_id in s.unreachable:
            state = OperationState.OPERATION_UNREACHABLE
        elif agent_id in s.gone:
            state = OperationState.OPERATION_GONE_BY_OPERATOR
        else:
            state = OperationState.OPERATION_UNKNOWN
        _tell(s, framework, OperationStatus(state, OperationID(wanted.operation_id.value), agent_id=wanted.agent_id))


def _unacknowledged(status: OperationStatus) -> OperationStatus:
    """As it is told in an answer: that needs no acknowledgement."""
    return OperationStatus(status.state, status.operation_id, status.message, status.converted_resources, agent_id=status.agent_id)


def _tell(s: MasterState, framework: Framework, status: OperationStatus) -> None:
    if status.converted_resources and not framework.refinement:
        status = replace(status, converted_resources=_old_form(status.converted_resources))
    s.tell(framework, scheduler.Event("UPDATE_OPERATION_STATUS", update_operation_status=scheduler.UpdateOperationStatus(status)))


def _old_form(messages: tuple[Resource, ...]) -> tuple[Resource, ...]:
    """For a framework that knows of no refinement. What is refined (it knew of that once), or makes no sense, stays as it is."""
    try:
        return Resources.of(messages).messages(form=Form.PRE)
    except (CallError, ValueError):
        return messages


def _place(agent: Agent) -> Place:
    return Place(agent.total, agent.used, agent.capabilities)


def _new_uuid(s: MasterState) -> bytes:
    s.operation_number += 1
    return hashlib.blake2b(f"{s.master.id}-{s.operation_number}".encode(), digest_size=16).digest()


def _add(s: MasterState, agent: Agent, operation: Operation) -> None:
    agent.operations[operation.uuid] = operation
    s.counts["master/operations/total"] += 1
    framework = s.frameworks.get(operation.framework_id)
    if framework is not None and operation.operation_id:
        framework.operations[operation.operation_id] = operation


def _remove(s: MasterState, agent: Agent, operation: Operation) -> None:
    del agent.operations[operation.uuid]
    if not agent.operations:
        s.emptied[agent.agent_id] = None
    framework = s.frameworks.get(operation.framework_id)
    if framework is not None and framework.operations.get(operation.operation_id) is operation:
        del framework.operations[operation.operation_id]


# ---- Of agents ------------------------------------------------------------------------------------------


def update(s: MasterState, agent: Agent, message: OperationUpdate) -> None:
    """A status from an agent: for the framework, if that wants to hear of it and still can; else done with. Raises PeerError."""
    status = message.status
    if status.uuid is None:
        raise PeerError("a status of an operation that cannot be acknowledged")
    operation = agent.operations.get(message.uuid)
    framework = s.frameworks.get(message.framework_id)
    if operation is None:
        s.counts["master/invalid_operation_status_updates"] += 1
    else:
        s.counts["master/valid_operation_status_updates"] += 1
        if operation.latest.uuid != status.uuid:
            s.counts[f"master/operations/{status.state.value.removeprefix('OPERATION_').lower()}"] += 1
            operation.statuses = (*operation.statuses, status)
        operation.latest = status
    if framework is not None and operation is not None and operation.operation_id:
        _tell(s, framework, status)
        return
    s.tell_agent(agent, AcknowledgeOperation(message.uuid, status.uuid.value))
    if operation is not None and status.state in TERMINAL:
        _remove(s, agent, operation)


def meet(s: MasterState, agent: Agent, reports: tuple[OperationReport, ...]) -> None:
    """An agent has registered: what it does not report it never heard of, what is reported and unknown is learnt."""
    reported = {report.uuid for report in reports}
    for operation in list(agent.operations.values()):
        if operation.uuid not in reported:
            _drop(s, agent, operation, OperationState.OPERATION_DROPPED, "The agent never heard of it")
    for report in reports:
        if report.uuid not in agent.operations:
            _add(s, agent, Operation(report.uuid, report.framework_id, agent.agent_id, report.operation, report.status))


def lose(s: MasterState, agent: Agent, state: OperationState, message: str) -> None:
    """An agent is taken out: what is under way there is told to be so."""
    for operation in list(agent.operations.values()):
        _drop(s, agent, operation, state, message)


def send_owed(s: MasterState, framework: Framework) -> None:
    """A scheduler is back: what it has not acknowledged is sent at once, not when the agent tries again."""
    for operation in framework.operations.values():
        if operation.latest.uuid is not None:
            _tell(s, framework, operation.latest)


def _drop(s: MasterState, agent: Agent, operation: Operation, state: OperationState, message: str) -> None:
    _remove(s, agent, operation)
    s.counts[f"master/operations/{state.value.removeprefix('OPERATION_').lower()}"] += 1
    framework = s.frameworks.get(operation.framework_id)
    if framework is not None and operation.operation_id:
        _tell(s, framework, OperationStatus(state, operation.info.id, message, agent_id=AgentID(agent.agent_id)))


# ---- Of operators ---------------------------------------------------------------------------------------


def _check_quota(s: MasterState, change: Conversion) -> None:
    """What is reserved counts as consumed by the role it is for, used or not. Raises Conflict."""
    before, after = reserved_by_role(change.consumed), reserved_by_role(change.converted)
    for role, reserved in after.items():
        held = before[role].scalars() if role in before else {}
        grown = {name: amount - held.get(name, 0) for name, amount in reserved.scalars().items() if amount > held.get(name, 0)}
        passed = s.allocator.limit_passed(role, grown) if grown else None
        if passed is not None:
            limit, consumed = passed.limit / 1000, passed.consumed / 1000
            raise Conflict(f"{passed.name}: role '{passed.role}' is limited to {limit:g} and consumes {consumed:g}: not so much more")


def operate(s: MasterState, call: OperateByOperator, now: Now) -> None:
    """An operator's operation. Offers are taken back as far as it needs what they hold. Raises CallError, Conflict."""
    agent = s.agents.get(call.agent_id)
    if agent is None:
        raise CallError(f"agent_id: no agent '{call.agent_id}' is known")
    if agent.link is None:
        raise Conflict(f"agent_id: agent '{call.agent_id}' is not connected")
    change = check(call.operation, Actor(call.principal), _place(agent))
    unused = agent.total.without(unshared(agent.used))
    try:
        check_there(call.operation, change.consumed, unused, f"unused on agent '{agent.agent_id}'")
    except OperationFault as error:
        raise Conflict(str(error)) from error
    _check_quota(s, change)
    for offer in list(agent.offers.values()):
        free = unused.without(agent.offered)
        if free.contains(change.consumed):
            break
        missing = change.consumed.without(free)
        if missing.without(offer.resources) != missing:
            s.rescind(offer, now, tell=True, refuse_s=REFUSE_S)
    order(s, agent, None, call.operation, change)
    s.allocator.convert(agent.agent_id, change, now)
