"""Draining and deactivating agents (spec: mesos-v1, sections 4.1 and 7.7).

A deactivated agent is offered to nobody. One that drains is told to end its tasks, too: it is DRAINED, or marked gone, when
the master holds no task of it any more, so when all their ends are acknowledged by those who will do so. What was decided is in the
registry before anything comes of it, and is told to the agent each time it registers.
"""

from __future__ import annotations

from msgspec.structs import replace

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master import agents, inverse_offers
from kernel.master.effects import DeactivateAgent, DrainAgent, MarkAgentGone, ReactivateAgent
from kernel.master.model import Agent, Task
from kernel.master.registry import Deactivation
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.wire import agent as link
from kernel.wire.common import DurationInfo
from kernel.wire.durations import NANOSECONDS_MAX
from kernel.wire.nodes import AgentCapability, DrainConfig


def drain(s: MasterState, call: DrainAgent, now: Now) -> None:
    """DRAIN_AGENT; again with other terms, too. Raises CallError."""
    if call.grace_ns is not None and not 0 <= call.grace_ns <= NANOSECONDS_MAX:
        raise CallError(f"max_grace_period: {call.grace_ns / 1e9:g} s is not allowed; from 0 s to {NANOSECONDS_MAX // 10**9} s are")
    agent = _known(s, call.agent_id)
    if agent is not None and agent.state is not AgentState.RECOVERED and not _can_drain(agent):
        raise CallError(f"agent_id: agent '{call.agent_id}' is of a release that cannot drain; deactivate it and kill its tasks")
    config = DrainConfig(DurationInfo(call.grace_ns) if call.grace_ns is not None else None, call.mark_gone)
    s.deactivate(call.agent_id, Deactivation(now.wall_s, config))
    if agent is not None:
        s.rescind_all(agent, now)
        inverse_offers.withdraw_all(s, agent)
        if agent.tasks and _can_drain(agent):
            s.tell_agent(agent, link.DrainAgent(config))
        s.emptied[agent.agent_id] = None


def deactivate(s: MasterState, call: DeactivateAgent, now: Now) -> None:
    """DEACTIVATE_AGENT. Raises CallError."""
    agent = _known(s, call.agent_id)
    if call.agent_id in s.deactivated:
        return
    s.deactivate(call.agent_id, Deactivation(now.wall_s))
    if agent is not None:
        s.rescind_all(agent, now)


def reactivate(s: MasterState, call: ReactivateAgent) -> bool:
    """REACTIVATE_AGENT; say whether the agent is registered, so offered, right now. Raises CallError."""
    agent = _known(s, call.agent_id)
    deactivation = s.deactivated.get(call.agent_id)
    if deactivation is None:
        raise CallError(f"agent_id: agent '{call.agent_id}' is not deactivated")
    if deactivation.draining:
        raise CallError(f"agent_id: agent '{call.agent_id}' is still draining; it can be reactivated once it is DRAINED")
    s.deactivate(call.agent_id, None)
    return agent is not None and agent.state is not AgentState.RECOVERED


def order(agent: Agent) -> DrainConfig | None:
    """What an agent that registers is to do."""
    deactivation = agent.deactivation
    return deactivation.drain if deactivation is not None and deactivation.draining and _can_drain(agent) else None


def settle(s: MasterState, now: Now) -> None:
    """Agents that may have lost their last task: those that drain and have nothing left are done. Of one that is not back after
    a start of the master nobody knows."""
    emptied, s.emptied = s.emptied, {}
    for agent_id in emptied:
        agent = s.agents.get(agent_id)
        deactivation = agent.deactivation if agent is not None else None
        if agent is None or deactivation is None or not deactivation.draining:
            continue
        if agent.operations or agent.state is AgentState.RECOVERED or any(_counts(s, task) for task in agent.tasks.values()):
            continue
        if deactivation.drain is not None and deactivation.drain.mark_gone:
            agents.mark_gone(s, MarkAgentGone(agent_id), now)
        else:
            s.deactivate(agent_id, replace(deactivation, drained=True))
            if _can_drain(agent):
                s.tell_agent(agent, link.DrainAgent())


def _counts(s: MasterState, task: Task) -> bool:
    """Whether the agent has it still: what has ended and has nobody left to acknowledge that, as its framework is away and ends with its
    tasks, would hold up the drain as long as others of its tasks run elsewhere."""
    framework = s.frameworks.get(task.framework_id)
    return not task.terminal or framework is None or framework.connected or not framework.ends_with_tasks


def _known(s: MasterState, agent_id: str) -> Agent | None:
    """The agent, None while it is unreachable. Raises CallError."""
    agent = s.agents.get(agent_id)
    if agent is None and agent_id not in s.unreachable:
        raise CallError(f"agent_id: no agent '{agent_id}' is known{' any more' if agent_id in s.gone else ''}")
    return agent


def _can_drain(agent: Agent) -> bool:
    return AgentCapability.AGENT_DRAINING in agent.capabilities
