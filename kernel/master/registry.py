"""What the master must remember beyond its own life: agents and frameworks, one record each, which agents are deactivated, and
which machines are under maintenance.

Tasks are not here: agents report them when they register (spec: mesos-v1, section 9; unlike Mesos we also
keep FrameworkInfo, so that a framework's identity never depends on its agents coming back).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct, field

from kernel.errors import StoreError
from kernel.mainloop import Persist
from kernel.master.allocator import Quota
from kernel.wire.nodes import DrainConfig, DrainInfo, DrainState, MachineID
from kernel.wire.operator import Schedule
from kernel.wire.task import AgentInfo, FrameworkInfo

REMOVED_MAX = 100_000  # Removed ids kept, oldest forgotten first.


class AgentRecord(Struct, frozen=True, omit_defaults=True):
    """An admitted agent. unreachable_wall_s, gone_wall_s: since when, if it is."""

    info: AgentInfo
    ip: str
    registered_wall_s: float
    unreachable_wall_s: float | None = None
    gone_wall_s: float | None = None

    @property
    def lost_wall_s(self) -> float:
        """Since when it is unreachable or gone; 0 when it is neither."""
        return self.gone_wall_s or self.unreachable_wall_s or 0.0


class FrameworkRecord(Struct, frozen=True, omit_defaults=True):
    """A framework that has subscribed. removed_wall_s: since when its id is spent, if it is."""

    info: FrameworkInfo
    registered_wall_s: float
    removed_wall_s: float | None = None


class Deactivation(Struct, frozen=True, omit_defaults=True):
    """Nothing more is offered on an agent. drain: how it is emptied, if it is; drained: whether it has nothing left."""

    since_wall_s: float
    drain: DrainConfig | None = None
    drained: bool = False

    @property
    def draining(self) -> bool:
        return self.drain is not None and not self.drained

    @property
    def drain_info(self) -> DrainInfo | None:
        """As operators are told of it."""
        if self.drain is None:
            return None
        return DrainInfo(DrainState.DRAINED if self.drained else DrainState.DRAINING, self.drain)


class MaintenanceRecord(Struct, frozen=True, omit_defaults=True):
    """down: of the machines in the schedule those that are DOWN."""

    schedule: Schedule = Schedule()
    down: tuple[MachineID, ...] = ()


class Registry(Struct):
    """All records, by id, as loaded."""

    agents: dict[str, AgentRecord]
    frameworks: dict[str, FrameworkRecord]
    deactivated: dict[str, Deactivation] = field(default_factory=dict)
    maintenance: MaintenanceRecord = MaintenanceRecord()
    quotas: dict[str, Quota] = field(default_factory=dict)  # By role, as are the weights.
    weights: dict[str, float] = field(default_factory=dict)


def keep_agent(agent_id: str, record: AgentRecord) -> Persist:
    return Persist(f"agents/{agent_id}", msgspec.json.encode(record))


def forget_agent(agent_id: str) -> Persist:
    return Persist(f"agents/{agent_id}", None)


def keep_framework(framework_id: str, record: FrameworkRecord) -> Persist:
    return Persist(f"frameworks/{framework_id}", msgspec.json.encode(record))


def forget_framework(framework_id: str) -> Persist:
    return Persist(f"frameworks/{framework_id}", None)


def keep_deactivation(agent_id: str, record: Deactivation | None) -> Persist:
    """None: it is active again, or no more."""
    return Persist(f"deactivated/{agent_id}", None if record is None else msgspec.json.encode(record))


def keep_maintenance(record: MaintenanceRecord) -> Persist:
    return Persist("maintenance/schedule", msgspec.json.encode(record) if record.schedule.windows else None)


def keep_quota(role: str, quota: Quota | None) -> Persist:
    """None: it has none."""
    return Persist(f"quotas/{role}", None if quota is None else msgspec.json.encode(quota))


def keep_weight(role: str, weight: float) -> Persist:
    return Persist(f"weights/{role}", msgspec.json.encode(weight))


def load(records: Iterable[tuple[str, bytes]]) -> Registry:
    """Read what `keep_*` wrote. Raises StoreError for a record that cannot be read: starting without it
    would forget what was promised."""
    registry = Registry({}, {})
    for key, value in records:
        kind, _, name = key.partition("/")
        try:
            if kind == "agents":
                registry.agents[name] = msgspec.json.decode(value, type=AgentRecord)
            elif kind == "frameworks":
                registry.frameworks[name] = msgspec.json.decode(value, type=FrameworkRecord)
            elif kind == "deactivated":
                registry.deactivated[name] = msgspec.json.decode(value, type=Deactivation)
            elif kind == "maintenance":
                registry.maintenance = msgspec.json.decode(value, type=MaintenanceRecord)
            elif kind == "quotas":
                registry.quotas[name] = msgspec.json.decode(value, type=Quota)
            elif kind == "weights":
                registry.weights[name] = msgspec.json.decode(value, type=float)
        except (msgspec.MsgspecError, ValueError) as error:
            raise StoreError(f"the registry's record {key} cannot be read: {error}") from error
    return registry
