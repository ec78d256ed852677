"""Mesos's older endpoints: `/state` and its kin (spec: mesos-v1, section 5.2), as JSON in fragments.

arguments: the query of the request. A selecting parameter that matches nothing gives empty arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import chain
from typing import Any

from msgspec import Struct

from kernel.master import render
from kernel.master.state import Agent, Framework, MasterState, Task
from kernel.master.transitions import AgentState
from kernel.master.views.fragments import array, array_of_documents, document, extended, members
from kernel.master.views.roles import role_sums
from kernel.master.views.shapes import (
    RenderedAgent,
    agents_rendered,
    executor_object,
    framework_detail,
    framework_summary,
    offer_object,
    recovered_agent_object,
    reserved_by_role,
    task_bodies,
    unreserved,
)
from kernel.net.common import flags, version_info
from kernel.wire.codec import encode
from kernel.wire.common import DomainInfo
from kernel.wire.operator import ClusterStatus, QuotaStatus, Schedule
from kernel.wire.resources import Form, Resource

Fragments = Iterable[bytes]
Query = Mapping[str, str]

TASKS_MAX_DEFAULT = 100

# The states that /state-summary counts.
_COUNTED = (
    "TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_FINISHED", "TASK_KILLED", "TASK_FAILED", "TASK_LOST",
    "TASK_ERROR", "TASK_UNREACHABLE",
)  # fmt: skip


# ---- /state ---------------------------------------------------------------------------------------------


class LeaderObject(Struct, omit_defaults=True):
    id: str
    pid: str
    port: int
    hostname: str
    domain: DomainInfo | None = None


class MasterObject(Struct, omit_defaults=True):
    version: str
    build_date: str | None
    build_time: float | None
    build_user: str | None
    start_time: float | None
    elected_time: float | None
    id: str
    pid: str
    hostname: str
    capabilities: tuple[str, ...]
    activated_slaves: int
    deactivated_slaves: int
    unreachable_slaves: int
    leader: str
    leader_info: LeaderObject
    flags: dict[str, str]
    domain: DomainInfo | None = None
    cluster: str | None = None


def state(s: MasterState, query: Query) -> Fragments:
    known, recovered = _agents(s, query)
    return document(
        members(_master_object(s)),
        [
            ("slaves", array(agent.bytes() for agent in agents_rendered(known))),
            ("recovered_slaves", array([encode(recovered_agent_object(agent)) for agent in recovered])),
            *_frameworks(s, query),
            ("orphan_tasks", (b"[]",)),
        ],
    )


def _master_object(s: MasterState) -> MasterObject:
    master, version, started_s = s.master, version_info(), render.started_s(s)
    states = Counter([agent.state.name for agent in s.agents.values()])
    pid, hostname = master.pid or "", master.hostname or ""
    return MasterObject(
        version=version.version,
        build_date=version.build_date,
        build_time=version.build_time,
        build_user=version.build_user,
        start_time=started_s,
        elected_time=started_s,
        id=master.id,
        pid=pid,
        hostname=hostname,
        capabilities=tuple(capability.type.value for capability in master.capabilities if capability.type is not None),
        activated_slaves=states["REGISTERED"],
        deactivated_slaves=states["DISCONNECTED"],
        unreachable_slaves=len(s.unreachable),
        leader=pid,
        leader_info=LeaderObject(master.id, pid, master.port, hostname, master.domain),
        flags=flags(s.config),
        domain=master.domain,
        cluster=s.config.cluster,
    )


def _agents(s: MasterState, query: Query) -> tuple[list[Agent], list[Agent]]:
    """The agents asked for: those that registered, those that did not come back yet."""
    wanted = query.get("slave_id")
    agents = s.agents.values() if wanted is None else filter(None, (s.agents.get(wanted),))
    known: list[Agent] = []
    recovered: list[Agent] = []
    for agent in agents:
        (recovered if agent.state is AgentState.RECOVERED else known).append(agent)
    return known, recovered


# ---- /frameworks ----------------------------------------------------------------------------------------


def frameworks(s: MasterState, query: Query) -> Fragments:
    return document(b"", _frameworks(s, query))


def _frameworks(s: MasterState, query: Query) -> list[tuple[str, Fragments]]:
    wanted = query.get("framework_id")
    return [
        ("frameworks", array_of_documents([_framework(framework) for framework in _select(s.frameworks, wanted)])),
        ("completed_frameworks", array_of_documents([_framework(framework) for framework in _select(s.completed, wanted)])),
        ("unregistered_frameworks", (b"[]",)),
    ]


def _select(frameworks: Mapping[str, Framework], wanted: str | None) -> Iterable[Framework]:
    return frameworks.values() if wanted is None else filter(None, (frameworks.get(wanted),))


def _framework(framework: Framework) -> Fragments:
    used, offered = render.used_resources(framework), render.offered_resources(framework)
    return document(
        members(framework_summary(framework, used, offered), framework_detail(framework, used, offered)),
        [
            ("tasks", array(task_bodies(framework.tasks.values()))),
            ("unreachable_tasks", array(task_bodies(framework.unreachable.values()))),
            ("completed_tasks", array(task_bodies(framework.completed))),
            ("offers", array(encode(offer_object(offer)) for offer in list(framework.offers.values()))),
            ("executors", array(encode(executor_object(executor)) for executor in list(framework.executors.values()))),
        ],
    )


# ---- /slaves --------------------------------------------------------------------------------------------


class FullResources(Struct):
    """What /slaves adds to an agent, as messages."""

    reserved_resources_full: dict[str, tuple[Resource, ...]]
    unreserved_resources_full: tuple[Resource, ...]
    used_resources_full: tuple[Resource, ...]
    offered_resources_full: tuple[Resource, ...]


def slaves(s: MasterState, query: Query) -> Fragments:
    known, recovered = _agents(s, query)
    rendered = agents_rendered(known)
    return document(
        b"",
        [
            ("slaves", array(extended(agent.bytes(), _full_resources(agent.picture)) for agent in rendered)),
            ("recovered_slaves", array([encode(recovered_agent_object(agent)) for agent in recovered])),
        ],
    )


def _full_resources(seen: render.AgentPicture) -> FullResources:
    return FullResources(
        {role: part.messages(form=Form.ENDPOINT) for role, part in reserved_by_role(seen.total).items()},
        unreserved(seen.total).messages(form=Form.ENDPOINT),
        seen.used.messages(form=Form.ENDPOINT),
        seen.offered.messages(form=Form.ENDPOINT),
    )


# ---- /state-summary -------------------------------------------------------------------------------------


def state_summary(s: MasterState, query: Query) -> Fragments:
    by_agent: dict[str, Counter[str]] = {}
    frameworks_of: dict[str, list[str]] = {}
    shown = []
    for framework in s.frameworks.values():
        counts: Counter[str] = Counter()
        agent_ids: dict[str, None] = {}
        for (agent_id, task_state), count in _count(framework).items():
            counts[task_state] += count
            agent_ids[agent_id] = None
            by_agent.setdefault(agent_id, Counter())[task_state] += count
        for agent_id in agent_ids:
            frameworks_of.setdefault(agent_id, []).append(framework.framework_id)
        summary = framework_summary(framework, render.used_resources(framework), render.offered_resources(framework))
        shown.append(extended(encode(summary), _counted(counts), {"slave_ids": list(agent_ids)}))
    rendered = agents_rendered(_agents(s, query)[0])

    def agent_body(agent: RenderedAgent) -> bytes:
        agent_id = agent.picture.agent_id
        counts = _counted(by_agent.get(agent_id, Counter()))
        return extended(agent.bytes(), counts, {"framework_ids": frameworks_of.get(agent_id, [])})

    head: dict[str, str] = {"hostname": s.master.hostname or ""}
    if s.config.cluster is not None:
        head["cluster"] = s.config.cluster
    return document(members(head), [("slaves", array(map(agent_body, rendered))), ("frameworks", array(shown))])


def _count(framework: Framework) -> Counter[tuple[str, str]]:
    """How many tasks, ended ones too, are in each state on each agent."""
    # `_value_` is what `value` gives, without the two calls that it takes: there may be many tasks.
    return Counter((task.agent_id, task.state._value_) for task in _tasks_of(framework))


def _counted(counts: Counter[str]) -> dict[str, int]:
    return {task_state: counts[task_state] for task_state in _COUNTED}


def _tasks_of(framework: Framework) -> Iterator[Task]:
    return chain(framework.tasks.values(), framework.unreachable.values(), framework.completed)


# ---- /tasks ---------------------------------------------------------------------------------------------


def tasks(s: MasterState, query: Query) -> Fragments:
    wanted, task_id = query.get("framework_id"), query.get("task_id")
    of = chain(_select(s.frameworks, wanted), _select(s.completed, wanted))
    found = (task for framework in of for task in _tasks_of(framework) if task_id is None or task.task_id == task_id)
    limit, offset = _number(query.get("limit"), TASKS_MAX_DEFAULT), _number(query.get("offset"), 0)
    first = nsmallest if query.get("order") == "asc" else nlargest
    return document(b"", [("tasks", array(task_bodies(first(offset + limit, found, key=_began_s)[offset:])))])


def _began_s(task: Task) -> float:
    """When its first status was, before all others if it has none."""
    return (task.statuses[0].timestamp or 0.0) if task.statuses else -1.0


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else default


# ---- /roles and what cannot be set yet ------------------------------------------------------------------


def roles(s: MasterState, query: Query) -> Fragments:
    shown = [
        {
            "name": sums.name,
            "weight": sums.weight,
            "quota": {"role": sums.name, "guarantee": {}, "limit": {}, "consumed": _amounts(sums.consumed)},
            "resources": _amounts(sums.allocated + sums.offered),
            "allocated": _amounts(sums.allocated),
            "offered": _amounts(sums.offered),
            "reserved": _amounts(sums.reserved),
            "frameworks": list(sums.frameworks),
        }
        for sums in role_sums(s)
    ]
    return (encode({"roles": shown}),)


def _amounts(thousandths: Counter[str]) -> dict[str, float]:
    return {name: milli / 1000 for name, milli in thousandths.items() if milli}


def _always(message: Any) -> Callable[[MasterState, Query], Fragments]:
    body = encode(message)
    return lambda s, query: (body,)


# Quota, weights and maintenance cannot be set yet: nothing is what there is to tell.
VIEWS: dict[str, Callable[[MasterState, Query], Fragments]] = {
    "state": state,
    "state-summary": state_summary,
    "slaves": slaves,
    "frameworks": frameworks,
    "tasks": tasks,
    "roles": roles,
    "weights": _always([]),
    "quota": _always(QuotaStatus()),
    "maintenance/schedule": _always(Schedule()),
    "maintenance/status": _always(ClusterStatus()),
}
