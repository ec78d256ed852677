"""Mesos's older endpoints: `/state` and its kin (spec: mesos-v1, section 5.2), as JSON in fragments.

arguments: the query of the request. A selecting parameter that matches nothing gives empty arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import chain

from msgspec import Struct

from kernel.master import render
from kernel.master.inverse_offers import cluster_status
from kernel.master.model import Agent, Executor, Framework, Offer, Task
from kernel.master.pictures import AgentLook, Picture
from kernel.master.roles import role_sums
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.master.views.fragments import array, array_of_documents, batches, document, extended, members
from kernel.master.views.operator import quota_status, weight_infos
from kernel.master.views.shapes import (
    agent_body,
    executor_object,
    framework_detail,
    framework_summary,
    offer_object,
    recovered_agent_object,
    task_bodies,
)
from kernel.net.common import flags, version_info
from kernel.wire.codec import encode
from kernel.wire.common import DomainInfo
from kernel.wire.legacy import reserved_by_role, unreserved
from kernel.wire.resources import Form, Resource

Fragments = Iterable[bytes]
Query = Mapping[str, str]

TASKS_MAX_DEFAULT = 100
NO_LIMIT = "-1"  # As `mesos task` asks; Mesos takes it for a number without a sign.

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
    picture = s.pictures.take()
    known, recovered = _agents(s, query)
    return document(
        members(_master_object(s)),
        [
            ("slaves", array(agent_body(picture, agent) for agent in known)),
            ("recovered_slaves", _recovered(picture, recovered)),
            *_frameworks(s, picture, query),
            ("orphan_tasks", (b"[]",)),
        ],
    )


def _master_object(s: MasterState) -> MasterObject:
    master, version, started_s = s.master, version_info(), render.started_s(s)
    registered, active = len(s.agents) - len(s.recovered), sum(agent.active for agent in s.links.values())
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
        activated_slaves=active,
        deactivated_slaves=registered - active,
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


def _recovered(picture: Picture, agents: Iterable[Agent]) -> Fragments:
    return array(encode(recovered_agent_object(picture.look(agent))) for agent in agents)


# ---- /frameworks ----------------------------------------------------------------------------------------


def frameworks(s: MasterState, query: Query) -> Fragments:
    return document(b"", _frameworks(s, s.pictures.take(), query))


def _frameworks(s: MasterState, picture: Picture, query: Query) -> list[tuple[str, Fragments]]:
    wanted = query.get("framework_id")
    return [
        ("frameworks", array_of_documents([_framework(picture, framework) for framework in _select(s.frameworks, wanted)])),
        ("completed_frameworks", array_of_documents([_framework(picture, framework) for framework in _select(s.completed, wanted)])),
        ("unregistered_frameworks", (b"[]",)),
    ]


def _select(frameworks: Mapping[str, Framework], wanted: str | None) -> Iterable[Framework]:
    return frameworks.values() if wanted is None else filter(None, (frameworks.get(wanted),))


def _framework(picture: Picture, framework: Framework) -> Fragments:
    return _framework_document(
        picture,
        render.FrameworkLook.of(framework),
        list(framework.tasks.values()),
        list(framework.unreachable.values()),
        list(framework.completed),
        list(framework.offers.values()),
        list(framework.executors.values()),
    )


def _framework_document(
    picture: Picture,
    seen: render.FrameworkLook,
    tasks: list[Task],
    unreachable: list[Task],
    completed: list[Task],
    offers: list[Offer],
    executors: list[Executor],
) -> Iterator[bytes]:
    yield from document(
        members(framework_summary(seen), framework_detail(seen)),
        [
            ("tasks", array(task_bodies(picture, tasks))),
            ("unreachable_tasks", array(task_bodies(picture, unreachable))),
            ("completed_tasks", array(task_bodies(picture, completed))),
            ("offers", array(encode(offer_object(offer)) for offer in offers)),
            ("executors", array(encode(executor_object(executor)) for executor in executors)),
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
    picture = s.pictures.take()
    known, recovered = _agents(s, query)
    return document(
        b"",
        [
            ("slaves", array(extended(agent_body(picture, agent), _full_resources(picture.look(agent))) for agent in known)),
            ("recovered_slaves", _recovered(picture, recovered)),
        ],
    )


def _full_resources(seen: Agent | AgentLook) -> FullResources:
    return FullResources(
        {role: part.messages(form=Form.ENDPOINT) for role, part in reserved_by_role(seen.total).items()},
        unreserved(seen.total).messages(form=Form.ENDPOINT),
        seen.used.messages(form=Form.ENDPOINT),
        seen.offered.messages(form=Form.ENDPOINT),
    )


# ---- /state-summary -------------------------------------------------------------------------------------


def state_summary(s: MasterState, query: Query) -> Fragments:
    head: dict[str, str] = {"hostname": s.master.hostname or ""}
    if s.config.cluster is not None:
        head["cluster"] = s.config.cluster
    frameworks = [(render.FrameworkLook.of(framework), list(_tasks_of(framework))) for framework in s.frameworks.values()]
    return _summary(members(head), s.pictures.take(), _agents(s, query)[0], frameworks)


def _summary(
    head: bytes, picture: Picture, agents: list[Agent], frameworks: list[tuple[render.FrameworkLook, list[Task]]]
) -> Iterator[bytes]:
    by_agent: dict[str, dict[str, int]] = {}
    frameworks_of: dict[str, list[str]] = {}
    shown = []
    for seen, tasks in frameworks:
        both: Counter[tuple[str, str]] = Counter()
        for batch in batches(tasks):
            # `_value_` is what `value` gives, without the two calls that it takes: there may be many tasks.
            both.update([(task.agent_id, picture.look(task).state._value_) for task in batch])
            yield b""
        counts: dict[str, int] = {}
        agent_ids: dict[str, None] = {}
        for portion in batches(list(both.items())):
            for (agent_id, task_state), count in portion:
                counts[task_state] = counts.get(task_state, 0) + count
                agent_ids[agent_id] = None
                of_agent = by_agent.get(agent_id)
                if of_agent is None:
                    of_agent, frameworks_of[agent_id] = {}, []
                    by_agent[agent_id] = of_agent
                of_agent[task_state] = of_agent.get(task_state, 0) + count
            yield b""
        for agent_id in agent_ids:
            frameworks_of[agent_id].append(seen.framework_id)
        shown.append(extended(encode(framework_summary(seen)), _counted(counts), {"slave_ids": list(agent_ids)}))
        yield b""

    def body(agent: Agent) -> bytes:
        counts = _counted(by_agent.get(agent.agent_id, {}))
        return extended(agent_body(picture, agent), counts, {"framework_ids": frameworks_of.get(agent.agent_id, [])})

    yield from document(head, [("slaves", array(map(body, agents))), ("frameworks", array(shown))])


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {task_state: counts.get(task_state, 0) for task_state in _COUNTED}


def _tasks_of(framework: Framework) -> Iterator[Task]:
    """All of a framework's tasks, ended ones too."""
    return chain(framework.tasks.values(), framework.unreachable.values(), framework.completed)


# ---- /tasks ---------------------------------------------------------------------------------------------


def tasks(s: MasterState, query: Query) -> Fragments:
    wanted, task_id = query.get("framework_id"), query.get("task_id")
    of = chain(_select(s.frameworks, wanted), _select(s.completed, wanted))
    found = list(chain.from_iterable(map(_tasks_of, of)))
    limit, offset = _number(query.get("limit"), TASKS_MAX_DEFAULT), _number(query.get("offset"), 0)
    if query.get("limit") == NO_LIMIT:
        limit = len(found)
    first = nsmallest if query.get("order") == "asc" else nlargest
    return _page(s.pictures.take(), found, task_id, lambda tasks, began_s: first(offset + limit, tasks, key=began_s), offset)


Pick = Callable[[list[Task], Callable[[Task], float]], list[Task]]


def _page(picture: Picture, tasks: list[Task], task_id: str | None, pick: Pick, offset: int) -> Iterator[bytes]:
    """pick: the first of these tasks, all pages up to the wanted one, by when their first status was."""

    def began_s(task: Task) -> float:
        """Before all others if it has no status yet."""
        statuses = picture.look(task).statuses
        return (statuses[0].timestamp or 0.0) if statuses else -1.0

    page: list[Task] = []
    for batch in batches(tasks):
        page = pick([*page, *(task for task in batch if task_id is None or task.task_id == task_id)], began_s)
        yield b""
    yield from document(b"", [("tasks", array(task_bodies(picture, page[offset:])))])


def _number(text: str | None, default: int) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else default


# ---- /roles and the rest ---------------------------------------------------------------------------------


def roles(s: MasterState, query: Query) -> Fragments:
    shown = [
        {
            "name": sums.name,
            "weight": sums.weight,
            "share": sums.share,
            "quota": {
                "role": sums.name,
                "guarantee": _units(sums.quota.guarantees),
                "limit": _units(sums.quota.limits),
                "consumed": _amounts(sums.consumed),
            },
            "resources": _amounts(sums.allocated + sums.offered),
            "allocated": _amounts(sums.allocated),
            "offered": _amounts(sums.offered),
            "reserved": _amounts(sums.reserved),
            "frameworks": list(sums.frameworks),
            "suppressed": sums.suppressed,
        }
        for sums in role_sums(s)
    ]
    return (encode({"roles": shown}),)


def _units(thousandths: Mapping[str, int]) -> dict[str, float]:
    """What was set, be it 0."""
    return {name: milli / 1000 for name, milli in thousandths.items()}


def _amounts(thousandths: Counter[str]) -> dict[str, float]:
    return {name: milli / 1000 for name, milli in thousandths.items() if milli}


VIEWS: dict[str, Callable[[MasterState, Query], Fragments]] = {
    "state": state,
    "state-summary": state_summary,
    "slaves": slaves,
    "frameworks": frameworks,
    "tasks": tasks,
    "roles": roles,
    "weights": lambda s, query: (encode(weight_infos(s)),),
    "quota": lambda s, query: (encode(quota_status(s)),),
    "maintenance/schedule": lambda s, query: (encode(s.machines.schedule),),
    "maintenance/status": lambda s, query: (encode(cluster_status(s)),),
}
