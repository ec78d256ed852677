"""The scheduler of jobs: cron and graphs of jobs over a cluster.

Puts settings, store, history, election, core, calls, notifications and server together, and takes them apart again.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import ipaddress
import logging
import re
import signal
import socket
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from chronos import inputs
from chronos.api.server import REALM, ChronosServer
from chronos.calls import Caller, Calls
from chronos.calls.http import HttpCaller
from chronos.config import WITHOUT_EFFECT, ChronosConfig
from chronos.core import ChronosScheduler, chronos_info
from chronos.edge import Edge
from chronos.exchange import Exchange
from chronos.extension import is_http_url
from chronos.history import History
from chronos.leadership import Leadership, Working
from chronos.leftovers import send_leftovers
from chronos.notifier import Notifier
from chronos.notify import Notices
from chronos.output import Outputs
from chronos.recording import Recorder
from frameworks.sdk.framework import Framework, run_framework
from frameworks.sdk.masters import Masters
from kernel.clock import SystemClock
from kernel.election.candidacy import first, lead
from kernel.election.election import Contender, Detector, Leader
from kernel.election.standalone import FixedDetector, StandaloneContender
from kernel.errors import CallError, ConfigError
from kernel.flags import daemon_command
from kernel.net import loop as event_loop
from kernel.net.auth import Authenticator, Credential, load_credentials
from kernel.store.sqlite import SqliteStore
from kernel.store.store import Store
from kernel.wire.common import Address
from kernel.wire.nodes import MasterInfo
from kernel.wire.roles import validate_role

log = logging.getLogger(__name__)

STOP_S = 5.0  # How long the turn under way may take when this scheduler stops.
CANDIDATES, RECORDS = "candidate", "jobs"  # Below the path of the ensemble.


def run(config: ChronosConfig) -> None:
    """Run a scheduler until told to stop. Raises KernelError: ConfigError for wrong settings, others when it failed."""
    check(config)
    logging.getLogger().setLevel(config.logging_level)
    event_loop.run(serve(config))


command = daemon_command(
    "chronos", ChronosConfig, run, help="Run the scheduler of jobs (cron, graphs) until told to stop.", mesos_flags=WITHOUT_EFFECT
)


def check(config: ChronosConfig) -> None:
    """Raises ConfigError where settings are wrong, or do not go together."""
    if config.ensemble is not None:
        from kernel.zookeeper import parse_url

        parse_url(config.ensemble)
    if config.logging_level not in ("INFO", "WARNING", "ERROR"):
        raise ConfigError(f"--logging_level: {config.logging_level!r} is not allowed: INFO, WARNING, ERROR are")
    try:
        loopback = ipaddress.ip_address(config.http_address).is_loopback
    except ValueError:
        raise ConfigError(f"--http_address: {config.http_address!r} is no address") from None
    if not loopback and not config.insecure and authenticator(config) is None:
        raise ConfigError(f"--http_address: {config.http_address} can be reached by others: give --credentials, or --insecure")
    if not config.masters:
        raise ConfigError("--master: an address is due")
    try:
        Masters(config.masters)
    except ValueError as error:
        raise ConfigError(f"--master: {error}") from None
    for role in config.roles:
        try:
            validate_role(role, "--mesos_role")
        except CallError as error:
            raise ConfigError(str(error)) from None
    if config.hostname is not None and not re.fullmatch(r"[^\s/?#@\[\]]{1,255}", config.hostname):
        raise ConfigError(f"--hostname: {config.hostname[:100]!r} is no name or address")
    if config.webui_url and not is_http_url(config.webui_url):
        raise ConfigError("--webui_url: a URL of http or https is due")
    _ = config.settings, config.channels, config.principal


def authenticator(config: ChronosConfig) -> Authenticator | None:
    """Who may call; None: everyone. Raises ConfigError."""
    known = credentials(config)
    return Authenticator(known, (REALM,)) if known else None


def credentials(config: ChronosConfig) -> list[Credential]:
    """Of all who may call. Raises ConfigError."""
    known = list(load_credentials(config.credentials)) if config.credentials else []
    said = config.http_credentials
    if said and (said.startswith("/") or ":" not in said):
        known += load_credentials(said)
    elif said:
        user, _, password = said.partition(":")
        if not user or not password:
            raise ConfigError("--http_credentials: USER:PASSWORD is due, or a file")
        known.append(Credential(user, password))
    return known


async def serve(config: ChronosConfig) -> None:
    """Contend, recover and lead, until SIGTERM or SIGINT. Raises KernelError, also when the leadership is lost."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    history = History(Path(config.work_dir) / "history.db", config.keep)
    try:
        await _serve(config, history, stop)
    finally:
        await history.close()
    log.info("stopped")


async def _serve(config: ChronosConfig, history: History, stop: asyncio.Event) -> None:
    leadership = Leadership(Leader(str(uuid.uuid4()), "", "", 0))
    edge = Edge(leadership)
    server = ChronosServer(
        leadership,
        history,
        authenticator(config),
        ip=config.http_address,
        hostname=config.hostname,
        defaults=config.defaults,
        history_limit=config.job_history_limit,
        measured=edge.numbers,
        cors=config.cors,
    )
    port = await server.start(config.http_address, config.http_port)
    me = leadership.me = _address(config, leadership.me.id, port)
    log.info("chronos listens on %s port %d", config.http_address, port)
    if config.ensemble is not None and config.hostname is None and ipaddress.ip_address(config.http_address).is_loopback:
        log.warning("schedulers on other machines do not reach this one at %s: they need --http_address", me.address)
    election = elect(config, me)
    leftovers = asyncio.create_task(send_leftovers(history, config.mail, _basic(config.http_notification_credentials)))

    async def work() -> None:
        await _ended(leftovers)
        await _work(config, history, leadership, edge, election)

    leading = lead(leadership, election.contender, election.detector, work, stop)
    parts: list[Awaitable[None]] = [leading, history.prune_always(SystemClock())]
    if election.candidates is not None:
        known = credentials(config)
        parts.append(Exchange(history, election.candidates, me.address, known[0].header() if known else "").run())
    try:
        await first(*parts)
    finally:
        await _ended(leftovers)
        await server.stop()


class Election(NamedTuple):
    """How it is decided who leads. open_store: what opens the store once this one does, raises StoreError; candidates: all who
    contend, raises PeerError; None where nobody else can."""

    contender: Contender
    detector: Detector
    open_store: Callable[[], Store]
    candidates: Callable[[], Awaitable[list[Leader]]] | None


def elect(config: ChronosConfig, me: Leader) -> Election:
    """Made in the running event loop: with an ensemble, a session begins."""
    if config.ensemble is None:
        return Election(StandaloneContender(), FixedDetector(me), lambda: SqliteStore(Path(config.work_dir) / "jobs.db"), None)
    from kernel.election.zookeeper import ZookeeperContender, ZookeeperDetector  # kazoo is only for those who have an ensemble.
    from kernel.store.zookeeper import ZookeeperStore
    from kernel.zookeeper import parse_url

    ensemble, session_s, patience_s = parse_url(config.ensemble), config.zk_session_timeout_s, config.store_timeout_s
    at = ensemble.at(CANDIDATES)
    contender, detector = ZookeeperContender(at, _candidate(me), session_s, patience_s), ZookeeperDetector(at, session_s)

    def open_store() -> Store:
        return ZookeeperStore(ensemble.at(RECORDS), session_s, guard=contender.candidate, patience_s=patience_s)

    return Election(contender, detector, open_store, detector.candidates)


async def _work(config: ChronosConfig, history: History, leadership: Leadership, edge: Edge, election: Election) -> None:
    """Work until cancelled. Raises KernelError: StoreError, FrameworkStopped."""
    credential = config.principal
    store = election.open_store()
    made: list[ChronosScheduler] = []

    def make(kept: dict[str, bytes], fresh_id: str, spread: float) -> ChronosScheduler:
        info = chronos_info(
            config.mesos_framework_name,
            user=config.user,
            roles=config.roles,
            failover_timeout_s=config.failover_timeout_s,
            webui_url=config.webui_url or f"http://{leadership.me.address}",
            principal=credential.principal if credential is not None else None,
        )
        core = ChronosScheduler(info, kept, fresh_id=fresh_id, spread=spread, settings=config.settings, limits=config.limits)
        made.append(core)
        gc.collect()
        gc.freeze()  # What was loaded stays: full collections need not look at it.
        return core

    def ready(framework: Framework) -> None:
        post, clock = framework.loop.post, SystemClock()
        notifier = Notifier(config.mail, history.sent, clock, _basic(config.http_notification_credentials))
        edge.begin(
            history,
            Recorder(history, post, notifier.put, clock),
            Outputs(history, credential),
            Calls({"http": HttpCaller(), "celery": _LateCelery(config)}, history, post),
            notifier,
            Notices(config.channels),
        )
        leadership.work = Working(framework, made[0], history)
        log.info("leading with %d jobs, framework %s", len(made[0].book.entries), made[0].framework_id)

    running = asyncio.create_task(
        run_framework(
            make,
            store,
            config.masters,
            name=config.mesos_framework_name,
            credential=credential,
            perform=edge.perform,
            ready=ready,
            confirm=election.contender.confirm if config.ensemble is not None else None,
        )
    )
    try:
        await edge.run(running)
    finally:
        work, leadership.work = leadership.work, None
        if work is None:
            running.cancel()
        else:
            work.framework.end()
        await asyncio.wait((running,), timeout=STOP_S)  # Then what came last is not waited for: no answer was given to it.
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await edge.close()


class _LateCelery:
    """Imports Celery with the first job that needs it: 200 ms and 30 MB."""

    def __init__(self, config: ChronosConfig) -> None:
        self._config = config
        self._caller: Caller | None = None

    async def call(self, effect: inputs.StartCall, began: Callable[[], None]) -> Any:
        if self._caller is None:
            from chronos.calls.celery import CeleryCaller

            self._caller = CeleryCaller(self._config.celery_broker or "", self._config.celery_backend or "")
        return await self._caller.call(effect, began)

    async def close(self) -> None:
        if self._caller is not None:
            await self._caller.close()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode() if credentials else ""


def _address(config: ChronosConfig, chronos_id: str, port: int) -> Leader:
    """Where others reach this scheduler: as told, else where it listens, else by this machine's name."""
    ip = config.http_address
    return Leader(chronos_id, config.hostname or (socket.gethostname() if ipaddress.ip_address(ip).is_unspecified else ip), ip, port)


def _candidate(me: Leader) -> MasterInfo:
    """This scheduler as the others are told of it, in the form that candidates have."""
    return MasterInfo(
        id=me.id, ip=0, port=me.port, pid="", hostname=me.hostname, address=Address(port=me.port, hostname=me.hostname, ip=me.ip)
    )
