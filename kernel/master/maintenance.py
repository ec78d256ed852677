"""Maintenance of machines: the schedule, and taking machines down and up (spec: mesos-v1, sections 5.2 and 7.6).

Agents on a scheduled machine say in their offers when they will be unavailable, and who uses them is asked to leave
(`kernel.master.inverse_offers`). On a machine that is down no agent may be.
"""

from __future__ import annotations

from kernel.clock import Now
from kernel.errors import CallError
from kernel.master import agents, events, inverse_offers, registry
from kernel.master.effects import StartMaintenance, StopMaintenance, UpdateSchedule
from kernel.master.machines import Machines, checked_machines, checked_schedule, describe
from kernel.master.state import MasterState
from kernel.master.transitions import AgentState
from kernel.wire.agent import ShutdownAgent
from kernel.wire.task import Reason, TaskState

DOWN = "Machine is DOWN"


def update_schedule(s: MasterState, call: UpdateSchedule, now: Now) -> None:
    """UPDATE_MAINTENANCE_SCHEDULE: this in place of the former one. Raises CallError."""
    machines = Machines(checked_schedule(call.schedule), s.machines.down)
    for machine in sorted(machines.down - machines.windows.keys(), key=describe):
        raise CallError(f"schedule: machine '{describe(machine)}' is down; it leaves the schedule when it is brought up")
    _change(s, machines, now)


def start(s: MasterState, call: StartMaintenance, now: Now) -> None:
    """START_MAINTENANCE: agents there are told to shut down and are no more; what ran there is lost. Raises CallError."""
    machines = checked_machines(call.machines)
    for number, machine in enumerate(machines):
        if machine not in s.machines.windows:
            raise CallError(f"machines[{number}]: machine '{describe(machine)}' is not in the maintenance schedule under that name")
        if machine in s.machines.down:
            raise CallError(f"machines[{number}]: machine '{describe(machine)}' is down already")
    _change(s, Machines(s.machines.schedule, s.machines.down | set(machines)), now)
    for agent_id, agent in list(s.agents.items()):
        if s.machines.is_down(agent.info.hostname, agent.ip):
            s.tell_agent(agent, ShutdownAgent(DOWN))
            agents.remove_agent(s, agent, now, AgentState.GONE, TaskState.TASK_LOST, DOWN)
            events.agent_removed(s, agent_id)
    for agent_id, lost in list(s.unreachable.items()):
        if s.machines.is_down(lost.info.hostname, lost.ip):
            agents.give_up_agent(s, agent_id, TaskState.TASK_GONE, Reason.REASON_AGENT_REMOVED, DOWN, now)


def stop(s: MasterState, call: StopMaintenance, now: Now) -> None:
    """STOP_MAINTENANCE: the machines are up and leave the schedule. Raises CallError."""
    machines = checked_machines(call.machines)
    for number, machine in enumerate(machines):
        if machine not in s.machines.down:
            raise CallError(f"machines[{number}]: machine '{describe(machine)}' is not down")
    _change(s, s.machines.without(frozenset(machines)), now)


def recover(s: MasterState, record: registry.MaintenanceRecord, now: Now) -> None:
    """Put the schedule of the registry back; agents are looked for in it as they come."""
    s.machines = Machines(record.schedule, record.down)
    inverse_offers.begin(s, now)


def _change(s: MasterState, machines: Machines, now: Now) -> None:
    """Where something else is planned now, what was offered before is void, and so is what was answered."""
    s.machines = machines
    s.out.append(registry.keep_maintenance(registry.MaintenanceRecord(machines.schedule, tuple(sorted(machines.down, key=describe)))))
    for agent in s.agents.values():
        planned = machines.unavailability(agent.info.hostname, agent.ip)
        if planned != agent.unavailability:
            agent.unavailability = planned
            inverse_offers.forget_agent(s, agent)
            s.rescind_all(agent, now)
    inverse_offers.begin(s, now)
