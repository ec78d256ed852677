"""The master: offers the agents' resources to frameworks.

Puts settings, store, election, core, main loop and server together, and takes them apart again.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from kernel.clock import SystemClock
from kernel.config import shown
from kernel.election.candidacy import lead
from kernel.election.election import Contender, Detector, Leader
from kernel.election.standalone import FixedDetector, StandaloneContender
from kernel.errors import ConfigError
from kernel.flags import MASTER_FLAGS, daemon_command
from kernel.mainloop import MainLoop
from kernel.master import registry, views
from kernel.master.config import MasterConfig
from kernel.master.core import MasterCore
from kernel.master.leadership import Leadership
from kernel.master.rate_limits import RateLimiter, RateLimits
from kernel.master.server import AGENT, READ, SCHEDULER, WRITE, MasterServer
from kernel.net import auth
from kernel.net import loop as event_loop
from kernel.net.auth import Authenticator
from kernel.net.common import MESOS_VERSION
from kernel.store.measured import MeasuredStore
from kernel.store.memory import MemoryStore
from kernel.store.sqlite import SqliteStore
from kernel.store.store import Store
from kernel.wire.common import Address, DomainInfo
from kernel.wire.nodes import MasterCapability, MasterInfo, MasterInfoCapability

log = logging.getLogger(__name__)

STOP_S = 5.0  # How long the turn under way may take when this master stops.
REGISTRY = "log_replicas/registry"  # Below the path of --zk: clients of Mesos know that log_replicas is no candidate.


def run(config: MasterConfig) -> None:
    """Run a master until told to stop. Raises KernelError: ConfigError for wrong settings, others when it failed."""
    check(config)
    logging.getLogger().setLevel(config.logging_level)
    event_loop.run(serve(config))


command = daemon_command("master", MasterConfig, run, help="Run a master until told to stop.", mesos_flags=MASTER_FLAGS)


def check(config: MasterConfig) -> None:
    """Raises ConfigError where settings do not go together."""
    if config.zk is not None:
        from kernel.zookeeper import parse_url

        parse_url(config.zk)
        if config.registry == "sqlite":
            raise ConfigError("--registry: sqlite is for a single master; leave it out with --zk")
    elif config.work_dir is None and config.registry != "in_memory":
        raise ConfigError("--work-dir: required (or --registry=in_memory, which forgets agents and frameworks at exit)")
    if not ip_of(config).is_loopback and config.credentials is None and not config.insecure:
        raise ConfigError(f"--ip: {config.ip} can be reached by others: give --credentials, or --insecure to let everyone in")
    _ = config.allocator, RateLimiter(config.rate_limits or RateLimits())  # So that what is wrong is told before anything is started.


def ip_of(config: MasterConfig) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address to listen on. Raises ConfigError."""
    try:
        return ipaddress.ip_address(config.ip)
    except ValueError:
        raise ConfigError(f"--ip: {config.ip!r} is no IP address") from None


def authenticator(config: MasterConfig) -> Authenticator | None:
    """Who must prove who he is, see `kernel.net.auth`. Raises ConfigError."""
    asked = {realm: (shown(flag), getattr(config, flag)) for flag, realm in _REALM_OF.items()}
    return auth.authenticator(config.credentials, "--credentials", asked, exposed=not ip_of(config).is_loopback, insecure=config.insecure)


_REALM_OF = {
    "authenticate_http_readonly": READ,
    "authenticate_http_readwrite": WRITE,
    "authenticate_http_frameworks": SCHEDULER,
    "authenticate_agents": AGENT,
}


async def serve(config: MasterConfig) -> None:
    """Contend, recover and lead, until SIGTERM or SIGINT. Raises KernelError, also when the leadership is lost."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    leadership = Leadership(Leader(str(uuid.uuid4()), "", "", 0))
    server = MasterServer(config, leadership, authenticator(config))
    port = await server.start(config.ip, config.port)
    me = leadership.me = public_address(config, leadership.me.id, port)
    log.info("master %s listens on %s port %d", me.id, config.ip, port)
    contender, detector, open_registry = election(config, me)
    try:
        await lead(leadership, contender, detector, lambda: _work(config, server, leadership, contender, open_registry), stop)
    finally:
        await server.stop()
    log.info("stopped")


def election(config: MasterConfig, me: Leader) -> tuple[Contender, Detector, Callable[[], Store]]:
    """How it is decided who leads, and what opens the registry once this master does. Raises StoreError when that is called."""
    if config.zk is None:
        return StandaloneContender(), FixedDetector(me), lambda: open_store(config)
    from kernel.election.zookeeper import ZookeeperContender, ZookeeperDetector  # kazoo is only for those who have an ensemble.
    from kernel.store.zookeeper import ZookeeperStore
    from kernel.zookeeper import parse_url

    ensemble, session_s, patience_s = parse_url(config.zk), config.zk_session_timeout_s, config.registry_store_timeout_s
    contender = ZookeeperContender(ensemble, master_info(me, config.domain), session_s, patience_s)

    def open_registry() -> Store:
        if config.registry == "in_memory":
            return MemoryStore()
        return ZookeeperStore(ensemble.at(REGISTRY), session_s, guard=contender.candidate, patience_s=patience_s)

    return contender, ZookeeperDetector(ensemble, session_s), open_registry


async def _work(
    config: MasterConfig, server: MasterServer, leadership: Leadership, contender: Contender, open_registry: Callable[[], Store]
) -> None:
    """Recover, and decide until cancelled. Raises KernelError: StoreError, Unavailable."""
    store = MeasuredStore(open_registry())
    try:
        clock = SystemClock()
        recorded = registry.load((await store.load()).items())
        core = MasterCore(config, master_info(leadership.me, config.domain), recorded, clock.now(), views.render, time.perf_counter)
        loop = MainLoop(core, store, server.perform, server.flush, clock, contender.confirm)
        gc.collect()
        gc.freeze()  # What was loaded stays: full collections need not look at it.
        running = asyncio.create_task(loop.run())
        leadership.begin(loop, store.numbers)
        log.info("leading with %d agents and %d frameworks on record", len(recorded.agents), len(recorded.frameworks))
        try:
            await asyncio.shield(running)
        finally:
            loop.stop()
            try:
                async with asyncio.timeout(STOP_S):
                    await running
            except TimeoutError:
                log.warning("the registry does not answer: what came last may be lost")
    finally:
        await store.close()


def open_store(config: MasterConfig) -> Store:
    """Open the registry. Raises StoreError."""
    if config.registry == "in_memory":
        return MemoryStore()
    assert config.work_dir is not None
    return SqliteStore(Path(config.work_dir) / "registry.db")


def public_address(config: MasterConfig, master_id: str, port: int) -> Leader:
    """Where others reach this master: as told, else where it listens, else the machine's own address."""
    ip = config.advertise_ip or config.ip
    if ipaddress.ip_address(ip).is_unspecified:
        ip = _own_address()
    return Leader(master_id, config.hostname or ip, ip, config.advertise_port or port)


def _own_address() -> str:
    """The address packets to elsewhere leave from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def master_info(me: Leader, domain: DomainInfo | None = None) -> MasterInfo:
    """This master as frameworks and operators are told of it."""
    address = ipaddress.ip_address(me.ip)
    number = int.from_bytes(address.packed, "little") if address.version == 4 else 0
    return MasterInfo(
        id=me.id,
        ip=number,
        port=me.port,
        pid=f"master@{me.ip}:{me.port}",
        hostname=me.hostname,
        version=MESOS_VERSION,
        address=Address(port=me.port, hostname=me.hostname, ip=me.ip),
        domain=domain,
        capabilities=tuple(map(MasterInfoCapability, (MasterCapability.AGENT_UPDATE, MasterCapability.AGENT_DRAINING))),
    )
