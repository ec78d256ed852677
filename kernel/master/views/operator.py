"""Reads of the operator API (spec: mesos-v1, section 4.1), as JSON in fragments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec.structs import replace

from kernel.master import render
from kernel.master.frameworks import HEARTBEAT_S
from kernel.master.inverse_offers import cluster_status
from kernel.master.model import Executor, Framework, InverseOffer, Offer, Task
from kernel.master.pictures import Picture
from kernel.master.roles import RoleSums, role_sums
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.master.views.fragments import array, array_of_documents, document, members
from kernel.wire import operator
from kernel.wire.codec import encode
from kernel.wire.ids import AgentID, FrameworkID
from kernel.wire.legacy import without_secrets
from kernel.wire.resources import Form, Resource, Resources
from kernel.wire.values import Scalar, ValueType

Fragments = Iterable[bytes]


# ---- Tasks, executors, frameworks, agents ---------------------------------------------------------------


def get_tasks(state: MasterState, picture: Picture) -> Fragments:
    live = state.frameworks.values()
    known = (*live, *state.completed.values())

    def shown(*parts: Iterable[Task]) -> Fragments:
        tasks = list(chain.from_iterable(parts))
        return array(encode(render.task_message_of(task, picture.look(task))) for task in tasks)

    return document(
        b"",
        [
            ("tasks", shown(*(framework.tasks.values() for framework in live))),
            ("unreachable_tasks", shown(*(framework.unreachable.values() for framework in live))),
            ("completed_tasks", shown(*(framework.completed for framework in known))),
        ],
    )


def get_executors(state: MasterState, picture: Picture) -> Fragments:
    executors = list(chain.from_iterable(framework.executors.values() for framework in state.frameworks.values()))
    return document(b"", [("executors", array(map(_executor, executors)))])


def _executor(executor: Executor) -> bytes:
    resources = executor.resources.messages(executor.role, Form.ENDPOINT)
    return encode(operator.Executor(replace(without_secrets(executor.info), resources=resources), AgentID(executor.agent_id)))


def get_frameworks(state: MasterState, picture: Picture) -> Fragments:
    def shown(frameworks: Iterable[Framework]) -> Fragments:
        return array_of_documents([_framework(each) for each in frameworks])

    return document(
        b"",
        [("frameworks", shown(state.frameworks.values())), ("completed_frameworks", shown(state.completed.values()))],
    )


def _framework(framework: Framework) -> Fragments:
    seen = render.FrameworkLook.of(framework)
    return _framework_document(seen, list(framework.offers.values()), list(framework.inverse_offers.values()))


def _framework_document(seen: render.FrameworkLook, offers: list[Offer], inverse_offers: list[InverseOffer]) -> Iterator[bytes]:
    body = encode(render.framework_message(seen, inverse_offers=inverse_offers))
    if not offers:
        yield body
        return
    yield body[:-1] + b',"offers":'
    yield from array(encode(render.operator_offer(offer)) for offer in offers)
    yield b"}"


def get_agents(state: MasterState, picture: Picture) -> Fragments:
    known = [agent for agent in state.agents.values() if agent.state is not AgentState.RECOVERED]
    recovered = [agent for agent in state.agents.values() if agent.state is AgentState.RECOVERED]
    return document(
        b"",
        [
            ("agents", array(encode(render.agent_message(picture.look(agent))) for agent in known)),
            ("recovered_agents", array(encode(render.agent_info(picture.look(agent))) for agent in recovered)),
        ],
    )


def get_state(state: MasterState, picture: Picture) -> Fragments:
    return document(
        b"",
        [
            ("get_tasks", get_tasks(state, picture)),
            ("get_executors", get_executors(state, picture)),
            ("get_frameworks", get_frameworks(state, picture)),
            ("get_agents", get_agents(state, picture)),
        ],
    )


def subscribed(state: MasterState, arguments: Any = None) -> Fragments:
    """The first event of an operator's stream."""
    parts = [("get_state", get_state(state, state.pictures.take())), ("heartbeat_interval_seconds", (encode(HEARTBEAT_S),))]
    return document(members({"type": "SUBSCRIBED"}), [("subscribed", document(b"", parts))])


# ---- The rest -------------------------------------------------------------------------------------------


def _get_roles(state: MasterState) -> operator.GetRoles:
    return operator.GetRoles(tuple(map(_role, role_sums(state))))


def _role(sums: RoleSums) -> operator.Role:
    held = sums.allocated + sums.offered
    resources = Resources(held["cpus"], held["mem"], held["disk"], held["gpus"])
    return operator.Role(sums.name, sums.weight, tuple(map(FrameworkID, sums.frameworks)), resources.messages(form=Form.ENDPOINT))


def weight_infos(state: MasterState) -> tuple[operator.WeightInfo, ...]:
    return tuple(operator.WeightInfo(weight, role) for role, weight in sorted(state.weights.items()))


def quota_status(state: MasterState) -> operator.QuotaStatus:
    """All quotas by role, in both forms."""
    quotas = sorted(state.quotas.items())
    infos = tuple(operator.QuotaInfo(role, guarantee=_guarantee(quota.guarantees)) for role, quota in quotas)
    configs = tuple(operator.QuotaConfig(role, _scalars(quota.guarantees), _scalars(quota.limits)) for role, quota in quotas)
    return operator.QuotaStatus(infos, configs)


def _scalars(thousandths: Mapping[str, int]) -> dict[str, Scalar]:
    return {name: Scalar(milli / 1000) for name, milli in thousandths.items()}


def _guarantee(thousandths: Mapping[str, int]) -> tuple[Resource, ...]:
    return tuple(Resource(name, ValueType.SCALAR, scalar, role="*") for name, scalar in _scalars(thousandths).items())


def _get_master(state: MasterState) -> operator.GetMaster:
    return operator.GetMaster(state.master, start_time=render.started_s(state), elected_time=render.started_s(state))


def _get_operations(state: MasterState) -> operator.GetOperations:
    return operator.GetOperations(
        tuple(render.operation_message(each) for agent in state.agents.values() for each in agent.operations.values())
    )


def _message(make: Callable[[MasterState], Any]) -> Callable[[MasterState, Picture], Fragments]:
    return lambda state, picture: (encode(make(state)),)


def _response(part: str, make: Callable[[MasterState, Picture], Fragments]) -> Callable[[MasterState, Any], Fragments]:
    head = members({"type": part.upper()})
    return lambda state, arguments: document(head, [(part, make(state, state.pictures.take()))])


# Reservations cannot be set yet: nothing is what there is to tell.
VIEWS: dict[str, Callable[[MasterState, Any], Fragments]] = {
    part: _response(part, make)
    for part, make in {
        "get_state": get_state,
        "get_tasks": get_tasks,
        "get_executors": get_executors,
        "get_frameworks": get_frameworks,
        "get_agents": get_agents,
        "get_operations": _message(_get_operations),
        "get_roles": _message(_get_roles),
        "get_weights": _message(lambda state: operator.GetWeights(weight_infos(state))),
        "get_master": _message(_get_master),
        "get_maintenance_status": _message(lambda state: operator.GetMaintenanceStatus(cluster_status(state))),
        "get_maintenance_schedule": _message(lambda state: operator.GetMaintenanceSchedule(state.machines.schedule)),
        "get_quota": _message(lambda state: operator.GetQuota(quota_status(state))),
    }.items()
}
