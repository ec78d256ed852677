"""What containers use, as Mesos shows it (spec: mesos-v1, sections 4.2 and 5.3). It was measured just before, by the edge."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kernel.agent.isolators.limits import Usage
from kernel.agent.state import AgentState, Executor, OperatorContainer, Task
from kernel.agent.views.parts import Running
from kernel.wire.agent_operator import ResourceStatistics
from kernel.wire.resources import Resources

Usages = Mapping[str, Usage]  # By container.
MIB = 1 << 20


def processes(state: AgentState, _: Any) -> dict[str, int]:
    """The first process of each container that has one: what there is to measure."""
    found = {}
    for container_id, owner in state.containers.items():
        pid = owner.pid if isinstance(owner, Executor) else owner.run.pid if owner.run is not None else None
        if pid is not None:
            found[container_id] = pid
    for container in state.operator_containers.values():  # Those inside others count as these.
        if container.pid is not None and not container.parent:
            found[container.name] = container.pid
    return found


def of_executor(state: AgentState, running: Running, usages: Usages) -> ResourceStatistics | None:
    """An executor's, None where nothing is known. A default executor has no process of its own: it is what its tasks are."""
    containers = {running.container_id, *(task.container_id for task in running.tasks)}
    return _statistics(state, [usages[name] for name in containers if name in usages], running.resources)


def of_task(state: AgentState, task: Task, usages: Usages) -> ResourceStatistics | None:
    """The same for a task inside a default executor."""
    parts = [usages[task.container_id]] if task.container_id in usages else []
    return _statistics(state, parts, Resources.of(task.info.resources))


def of_standalone(state: AgentState, found: OperatorContainer, usages: Usages) -> ResourceStatistics | None:
    """The same for a container of an operator that stands alone."""
    parts = [usages[found.name]] if found.name in usages else []
    return _statistics(state, parts, Resources.of(found.asked.resources))


def _statistics(state: AgentState, parts: list[Usage], held: Resources) -> ResourceStatistics | None:
    if not parts:
        return None
    return ResourceStatistics(
        timestamp=state.now.wall_s,
        processes=_sum(part.processes for part in parts),
        threads=_sum(part.threads for part in parts),
        cpus_user_time_secs=_sum(part.user_s for part in parts),
        cpus_system_time_secs=_sum(part.system_s for part in parts),
        cpus_limit=held.cpus / 1000,
        cpus_nr_periods=_sum(part.periods for part in parts),
        cpus_nr_throttled=_sum(part.throttled for part in parts),
        cpus_throttled_time_secs=_sum(part.throttled_s for part in parts),
        mem_total_bytes=_sum(part.mem_bytes for part in parts),
        mem_limit_bytes=_sum(part.mem_limit_bytes for part in parts) or held.mem // 1000 * MIB,
        mem_soft_limit_bytes=held.mem // 1000 * MIB,
        mem_file_bytes=_sum(part.cache_bytes for part in parts),
        mem_anon_bytes=_sum(part.rss_bytes for part in parts),
        mem_cache_bytes=_sum(part.cache_bytes for part in parts),
        mem_rss_bytes=_sum(part.rss_bytes for part in parts),
        mem_mapped_file_bytes=_sum(part.mapped_bytes for part in parts),
        disk_limit_bytes=held.scalars().get("disk", 0) // 1000 * MIB or None,
        disk_used_bytes=_sum(part.disk_bytes for part in parts),
    )


def _sum(numbers: Iterable[Any]) -> Any:
    """The sum of those that are known, None when none is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
