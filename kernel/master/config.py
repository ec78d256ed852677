"""The settings of a master (spec: mesos-v1, sections 11.1 and 11.2)."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from kernel.config import Setting, duration
from kernel.errors import CallError, ConfigError
from kernel.master.allocator.state import AllocatorConfig
from kernel.master.rate_limits import RateLimits
from kernel.wire.common import DomainInfo
from kernel.wire.constraints import Site
from kernel.wire.resources import Resources
from kernel.wire.roles import validate_role

Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class MasterConfig(Struct, frozen=True, kw_only=True):
    """One master's settings; times are seconds."""

    ip: Annotated[str, Setting("Address to listen on; others than loopback need --credentials or --insecure.")] = "127.0.0.1"
    port: Annotated[int, Setting("Port to listen on."), Meta(ge=0, le=65535)] = 5050
    hostname: Annotated[str | None, Setting("Name that clients and agents reach this machine by (default: its address).")] = None
    advertise_ip: Annotated[str | None, Setting("Address told to others, where it is not the one listened on.")] = None
    advertise_port: Annotated[
        Annotated[int, Meta(ge=1, le=65535)] | None, Setting("Port told to others, where it is not the one listened on.", kind="int")
    ] = None
    work_dir: Annotated[str | None, Setting("Folder that holds the registry; not needed with --zk.", kind="path")] = None
    registry: Annotated[
        Literal["replicated_log", "sqlite", "in_memory"],
        Setting("Where agents and frameworks are remembered; replicated_log: in ZooKeeper with --zk, else in SQLite."),
    ] = "replicated_log"
    registry_store_timeout_s: Annotated[
        float,
        Setting("How long a ZooKeeper that does not answer is waited for.", kind="duration", flag="registry_store_timeout"),
        Meta(gt=0),
    ] = 120.0
    zk: Annotated[str | None, Setting("With several masters, their ZooKeeper: zk://[USER:PASSWORD@]HOST:PORT[,...]/PATH.")] = None
    zk_session_timeout_s: Annotated[
        float,
        Setting("How soon a leading master that is silent loses the lead.", kind="duration", flag="zk_session_timeout"),
        Meta(ge=1),
    ] = 10.0
    cluster: Annotated[str | None, Setting("Name of the cluster, shown to people.")] = None
    domain: Annotated[
        DomainInfo | None, Setting('Where this is: {"fault_domain":{"region":{"name":...},"zone":{"name":...}}}.', kind="json")
    ] = None
    require_agent_domain: Annotated[bool, Setting("Refuse agents that do not say where they are.")] = False
    logging_level: Annotated[Literal["INFO", "WARNING", "ERROR"], Setting("Least level that is logged.")] = "INFO"

    credentials: Annotated[
        str | None, Setting("File of principals and secrets that may call; with it, whoever calls is asked.", kind="path")
    ] = None
    insecure: Annotated[bool, Setting("Listen on any address, asking only those whom a flag says to ask.")] = False
    authenticate_http_readonly: Annotated[bool | None, Setting("Ask who reads (default: with --credentials).")] = None
    authenticate_http_readwrite: Annotated[bool | None, Setting("Ask who operates (default: with --credentials).")] = None
    authenticate_http_frameworks: Annotated[bool | None, Setting("Ask which framework calls (default: with --credentials).")] = None
    authenticate_agents: Annotated[bool | None, Setting("Ask which agent connects (default: with --credentials).")] = None

    agent_ping_timeout_s: Annotated[
        float, Setting("How often an agent is to be heard.", kind="duration", flag="agent_ping_timeout"), Meta(gt=0)
    ] = 3.0
    max_agent_ping_timeouts: Annotated[int, Setting("After how many of these in silence an agent is unreachable."), Meta(ge=2)] = 3
    agent_reregister_timeout_s: Annotated[
        float,
        Setting(
            "How long a restarting agent, or all after the master's start, are waited for.",
            kind="duration",
            flag="agent_reregister_timeout",
        ),
        Meta(ge=0),
    ] = 600.0
    framework_recovery_s: Annotated[
        float,
        Setting(
            "How long frameworks are waited for after the master's start, at least.", kind="duration", flag="framework_recovery_timeout"
        ),
        Meta(ge=0),
    ] = 60.0

    rate_limits: Annotated[
        RateLimits | None,
        Setting('How often frameworks may call: {"limits":[{"principal","qps","capacity"}],"aggregate_default_qps",...}.', kind="json"),
    ] = None
    offer_timeout_s: Annotated[
        float, Setting("After how long an offer not answered is rescinded.", kind="duration", flag="offer_timeout"), Meta(gt=0)
    ] = 300.0
    offer_hold_s: Annotated[
        float,
        Setting("How long an offer of a whole agent may keep waiting tasks of others out.", kind="duration", flag="offer_hold"),
        Meta(ge=0),
    ] = 5.0
    starvation_s: Annotated[
        float,
        Setting(
            "How long waiting tasks that fit nowhere wait before an agent is kept for them.", kind="duration", flag="starvation_timeout"
        ),
        Meta(ge=0),
    ] = 60.0
    starvation_timeouts: Annotated[
        dict[str, str] | None,
        Setting('Other times for some roles and those below them: {"eng/batch":"5mins"}.', kind="json"),
    ] = None
    locality_delay_s: Annotated[
        float,
        Setting("How long waiting tasks wait for agents they prefer before others will do.", kind="duration", flag="locality_delay"),
        Meta(ge=0),
    ] = 3.0
    allocation_interval_s: Annotated[
        float, Setting("How long a refused offer stays away, at least.", kind="duration", flag="allocation_interval"), Meta(ge=0)
    ] = 1.0
    min_allocatable_resources: Annotated[
        str, Setting("What an agent must have free to be offered: alternatives like cpus:0.01|mem:32.")
    ] = "cpus:0.01|mem:32"
    fair_sharing_excluded_resource_names: Annotated[tuple[str, ...], Setting("Resources that do not count into shares.")] = ()
    role_sorter: Annotated[
        Literal["drf", "random"], Setting("Which role is next: that of the lowest share, or any, more often those of more weight.")
    ] = "drf"
    framework_sorter: Annotated[Literal["drf", "random"], Setting("Which framework of a role is next.")] = "drf"
    filter_gpu_resources: Annotated[bool, Setting("Offer agents with GPUs only to frameworks that say they use them.")] = True
    preempt_for_guarantees: Annotated[
        bool,
        Setting("When what a role is guaranteed cannot be had, end tasks on revocable resources and of roles above their limit for it."),
    ] = False
    preemption_notice_s: Annotated[
        float,
        Setting("How long before that their frameworks are asked to give way.", kind="duration", flag="preemption_notice"),
        Meta(ge=0),
    ] = 30.0
    allocator_agent_recovery_factor: Annotated[
        float,
        Setting("With quotas, which part of the agents must be back after the master's start before anything is offered."),
        Meta(ge=0, le=1),
    ] = 0.8
    allocator_recovery_timeout_s: Annotated[
        float,
        Setting("How long they are waited for, at most.", kind="duration", flag="allocator_recovery_timeout"),
        Meta(ge=0),
    ] = 600.0
    roles_allowed: Annotated[
        tuple[str, ...] | None, Setting("The only roles frameworks may have (default: any).", kind="list", flag="roles")
    ] = None
    root_submissions: Annotated[bool, Setting("Allow frameworks of the user root.")] = True

    max_completed_frameworks: Annotated[Count, Setting("How many ended frameworks are remembered.")] = 50
    max_completed_tasks_per_framework: Annotated[Count, Setting("How many ended tasks of each.")] = 1000
    max_unreachable_tasks_per_framework: Annotated[Count, Setting("How many unreachable tasks of each.")] = 1000
    max_operator_event_stream_subscribers: Annotated[
        int, Setting("How many operators may follow events; the oldest is closed first."), Meta(ge=1)
    ] = 1000

    @property
    def agent_heartbeat_s(self) -> float:
        """How often agents are to send a heartbeat."""
        return self.agent_ping_timeout_s

    @property
    def agent_silence_s(self) -> float:
        """After how long a silence an agent's link is dead and the agent unreachable."""
        return self.agent_ping_timeout_s * self.max_agent_ping_timeouts

    @property
    def allocator(self) -> AllocatorConfig:
        """What of this the allocator needs. Raises ConfigError where a text cannot be read."""
        minimum = []
        for alternative in filter(None, self.min_allocatable_resources.split("|")):
            try:
                minimum.append(Resources.parse(alternative).scalars())
            except CallError as error:
                raise ConfigError(f"--min-allocatable-resources: {error}") from error
        return AllocatorConfig(
            offer_hold_s=self.offer_hold_s,
            starvation_s=self.starvation_s,
            starvation_by_role={role: _starvation_s(role, time) for role, time in (self.starvation_timeouts or {}).items()},
            locality_s=self.locality_delay_s,
            interval_s=self.allocation_interval_s,
            min_allocatable=tuple(minimum),
            excluded_names=frozenset(self.fair_sharing_excluded_resource_names),
            drawn_roles=self.role_sorter == "random",
            drawn_frameworks=self.framework_sorter == "random",
            filter_gpu_resources=self.filter_gpu_resources,
            region=Site("", domain=self.domain).region,
            preempts=self.preempt_for_guarantees,
        )


def _starvation_s(role: str, time: str) -> float:
    """What --starvation_timeouts says of a role. Raises ConfigError."""
    try:
        validate_role(role, "role")
        found = duration(time)
        if found < 0:
            raise ValueError
    except (CallError, ValueError) as error:
        raise ConfigError(
            f"--starvation-timeouts: {role!r}: {time!r} is not allowed; a role and a duration like 15secs or 2mins"
        ) from error
    return found
