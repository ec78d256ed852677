"""The agent: runs the tasks that the master sends to this machine.

Puts settings, store, launcher, core, main loop, link and server together, and takes them apart again.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import secrets
import signal
import socket
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from kernel.agent import checkpoint, detect, layout, nvidia, sandbox, views
from kernel.agent.config import AgentConfig
from kernel.agent.containerizer.containerizer import Containerizers
from kernel.agent.containerizer.docker_containers import DOCKER, DockerContainerizer
from kernel.agent.containerizer.kinds import LAUNCHED
from kernel.agent.containerizer.oci import Bundles
from kernel.agent.containerizer.process import ProcessContainerizer
from kernel.agent.containerizer.seccomp_profiles import Profiles
from kernel.agent.core import AgentCore
from kernel.agent.effects import (
    AgentNamed,
    CloseExecutorStream,
    CloseMasterLink,
    ContainerBegan,
    ContainerEnded,
    DropProbe,
    ForgetContainer,
    LaunchContainer,
    LaunchProbe,
    Leave,
    LimitContainer,
    LinkVolumes,
    MakeVolume,
    Probe,
    RemoveVolume,
    SignalContainer,
    Stop,
    ToExecutor,
    ToMaster,
    View,
    VolumesNotLinked,
)
from kernel.agent.fetcher.fetcher import fetcher_for
from kernel.agent.images.collector import ImageCollector
from kernel.agent.images.store import Store
from kernel.agent.isolators.disk import DiskWatch
from kernel.agent.isolators.isolation import isolation
from kernel.agent.launch import containers
from kernel.agent.links import MasterLink
from kernel.agent.nested import operator_containers
from kernel.agent.networks.networks import Networks
from kernel.agent.oversubscription.config import fixed_slack
from kernel.agent.oversubscription.measuring import Measuring
from kernel.agent.probes import Prober
from kernel.agent.sandboxes.collection import InUse
from kernel.agent.sandboxes.collector import Collector
from kernel.agent.sandboxes.rotator import Rotator
from kernel.agent.server import READ, WRITE, AgentServer
from kernel.agent.state import Identity, Node
from kernel.agent.volumes.disk import Volumes, show
from kernel.agent.volumes.places import bases
from kernel.clock import SystemClock
from kernel.election.detection import find_master
from kernel.errors import CallError, ConfigError, StoreError, Unavailable
from kernel.flags import AGENT_FLAGS, daemon_command
from kernel.mainloop import MainLoop
from kernel.net import auth
from kernel.net import loop as event_loop
from kernel.net.auth import Authenticator, load_credential
from kernel.store.split import SplitStore
from kernel.store.sqlite import SqliteStore, StoreInUse
from kernel.wire.attributes import parse_attributes
from kernel.wire.task import DomainInfo

log = logging.getLogger(__name__)

CONTAINERIZERS = frozenset({"docker", "mesos"})
GOODBYE_S = 1.0  # How long the last messages to the master may take.


def run(config: AgentConfig) -> None:
    """Run an agent until told to stop. Raises KernelError: ConfigError for wrong settings, others when it failed."""
    os.umask(0o022)  # Tasks of other users must get to their sandboxes; what is private has its own mode.
    event_loop.run(serve(complete(config)))


command = daemon_command("agent", AgentConfig, run, help="Run an agent until told to stop.", mesos_flags=AGENT_FLAGS)


def complete(config: AgentConfig) -> AgentConfig:
    """Settle what depends on this machine. Raises ConfigError."""
    try:
        address = ipaddress.ip_address(config.ip)
    except ValueError:
        raise ConfigError(f"--ip: {config.ip!r} is no IP address") from None
    if not address.is_loopback and not config.http_credentials and not config.insecure:
        raise ConfigError(f"--ip: {config.ip} can be reached by others: give --http-credentials, or --insecure to let everyone in")
    unknown = sorted({*(config.containerizers or ())} - CONTAINERIZERS)
    if unknown:
        raise ConfigError(f"--containerizers: {unknown[0]!r} is unknown; allowed are {', '.join(sorted(CONTAINERIZERS))}")
    fixed_slack(config.resource_estimator, config.resource_estimator_parameters)
    advertise_ip = config.advertise_ip or (_own_address() if address.is_unspecified else "")
    switch_user = config.switch_user and os.geteuid() == 0
    try:
        os.makedirs(config.work_dir, exist_ok=True)
        mode = os.stat(config.work_dir).st_mode
    except OSError as error:
        raise ConfigError(f"--work-dir: cannot make {config.work_dir}: {error.strerror}") from error
    if mode & stat.S_IWOTH:  # Sandboxes could be put elsewhere by a link.
        raise ConfigError(f"--work-dir: every user of this machine can write in {config.work_dir}; take another, or `chmod o-w` it")
    return msgspec.structs.replace(config, work_dir=os.path.realpath(config.work_dir), advertise_ip=advertise_ip, switch_user=switch_user)


def authenticator(config: AgentConfig) -> Authenticator | None:
    """Who must prove who he is, see `kernel.net.auth`. Raises ConfigError."""
    asked = {
        READ: ("--authenticate-http-readonly", config.authenticate_http_readonly),
        WRITE: ("--authenticate-http-readwrite", config.authenticate_http_readwrite),
    }
    exposed = not ipaddress.ip_address(config.ip).is_loopback
    return auth.authenticator(config.http_credentials, "--http-credentials", asked, exposed=exposed, insecure=config.insecure)


def executor_key(config: AgentConfig) -> bytes:
    """What signs the tokens of executors, empty for no tokens. One that we make is kept: executors outlive us. Raises ConfigError."""
    if config.jwt_secret_key:
        key = auth.read_secret(config.jwt_secret_key).strip()
        if not key:
            raise ConfigError(f"--jwt-secret-key: {config.jwt_secret_key} is empty")
        return key
    if not config.authenticate_http_executors:
        return b""
    path = Path(config.work_dir) / "meta" / "executor_key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f"{path.name}.new")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
            fresh.rename(path)  # Whole or not at all.
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--work-dir: cannot keep the key of executors in {path}: {error.strerror}") from error


def node(config: AgentConfig) -> Node:
    """What to announce. Raises ConfigError."""
    try:
        attributes = parse_attributes(config.attributes, "--attributes")
    except CallError as error:
        raise ConfigError(str(error)) from error
    try:
        domain = None if config.domain is None else msgspec.convert(config.domain, DomainInfo)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--domain: {error}") from error
    found = nvidia.find(config.nvidia_device_dir)
    devices = _numbers(config.nvidia_gpu_devices)
    offered = detect.resources(config.resources, config.default_role, Path(config.work_dir), found, devices)
    if found.trouble:
        log.warning("no GPUs are offered: %s", found.trouble)
    return Node(offered.resources, attributes, domain, hostname=config.hostname, detected=offered.detected, gpus=offered.gpus)


def _numbers(given: tuple[str, ...] | None) -> tuple[int, ...] | None:
    if given is None:
        return None
    wrong = next((text for text in given if not (text.isascii() and text.isdigit())), None)
    if wrong is not None:
        raise ConfigError(f"--nvidia-gpu-devices: {wrong!r} is no number of a GPU; allowed are numbers like 0,1")
    return tuple(map(int, given))


async def open_store(work_dir: Path, boot_id: str, *, strict: bool = True) -> tuple[SplitStore, dict[str, bytes]]:
    """Open what was kept and read it. Raises StoreError.

    Most of it is written without disk syncs, so a power loss may leave it unreadable; all it could say by then is void anyway. Not strict:
    it is given up also when the machine runs since. Not so reservations and volumes, which have a file of their own.
    """
    synced = SqliteStore(work_dir / "resources.db")
    try:
        other, entries = await _open_unsynced(work_dir, boot_id, strict)
        entries.update(await synced.load())
    except BaseException:
        await synced.close()
        raise
    return SplitStore(synced, other, checkpoint.outlives_power_loss), entries


async def _open_unsynced(work_dir: Path, boot_id: str, strict: bool) -> tuple[SqliteStore, dict[str, bytes]]:
    path = work_dir / "agent.db"
    try:
        store, entries = await _load(path)
    except StoreInUse:
        raise
    except StoreError as error:
        if strict and not _is_void(path, boot_id):
            raise
        _set_aside(path)
        log.error("%s; starting as a new agent", error)
        store = SqliteStore(path, durable=False)
        entries = {}
    _mark_boot(work_dir, boot_id)
    return store, entries


async def _load(path: Path) -> tuple[SqliteStore, dict[str, bytes]]:
    store = SqliteStore(path, durable=False)
    try:
        return store, await store.load()
    except BaseException:
        await store.close()
        raise


def _marker(work_dir: Path) -> Path:
    return work_dir / "meta" / "boot_id"


def _mark_boot(work_dir: Path, boot_id: str) -> None:
    marker = _marker(work_dir)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(boot_id)


def _is_void(path: Path, boot_id: str) -> bool:
    """Whether a database was written before the machine restarted."""
    marker = _marker(path.parent)
    return marker.exists() and marker.read_text() != boot_id


def _set_aside(path: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}*"):
        leftover.rename(leftover.with_name(f"unreadable-{leftover.name}"))


def image_collector(config: AgentConfig, images: Store, bundles: Bundles) -> ImageCollector:
    """Who removes images when their disk is full. Raises ConfigError."""
    try:
        return ImageCollector(config.image_gc_config, images, bundles.held)
    except CallError as error:
        raise ConfigError(f"--image_gc_config: excluded_images: {error}") from error


class Agent:
    """One agent at work: the performing of effects, and the way out."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.left: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self.executor_key = executor_key(config)
        asked = self.executor_key if config.authenticate_http_executors else b""
        self.server = AgentServer(config, authenticator(config), asked)
        self.loop: MainLoop
        self.link: MasterLink
        self.containerizer: Containerizers
        self.prober: Prober
        self.collector: Collector
        self.images: ImageCollector
        self.rotator = Rotator(config)
        self.disk: DiskWatch
        self.volumes: Volumes
        self.measuring: Measuring

    def perform(self, effect: Any) -> None:
        """Carry out one effect of the core, without waiting."""
        match effect:
            case ToMaster(message):
                self.link.send(message)
            case LaunchContainer():
                self.watch(effect)
                self.containerizer.launch(effect)
            case LaunchProbe():
                self.containerizer.probe(effect)
            case ForgetContainer(container_id):
                self.containerizer.forget(container_id)
            case SignalContainer(container_id, number):
                self.containerizer.signal(container_id, number)
            case LimitContainer(container_id, limits):
                self.disk.limit(container_id, limits)
                self.containerizer.limit(effect)
            case MakeVolume() | RemoveVolume():
                self.volumes.order(effect)
            case LinkVolumes():
                self.link_volumes(effect)
            case Probe():
                self.prober.probe(effect)
            case DropProbe(probe_id):
                self.prober.drop(probe_id)
            case ContainerBegan():
                self.server.starting.tell(effect.name, effect)
            case ContainerEnded():
                self.rotator.forget(effect.container_id)
                self.disk.forget(effect.container_id)
                self.server.waiters.tell(effect.name, effect)
                self.server.sessions.container_ended(effect.container_id)
            case ToExecutor(stream, event):
                self.server.streams.send(stream, event)
            case CloseExecutorStream(stream):
                self.server.streams.close(stream)
            case CloseMasterLink(reason):
                self.link.drop(reason)
            case AgentNamed(agent_id):
                self.name(agent_id)
            case Leave():
                if not self.left.done():
                    self.left.set_result(effect)
            case _:
                raise AssertionError(f"the agent's edge cannot perform {type(effect).__name__}")

    def link_volumes(self, effect: LinkVolumes) -> None:
        """Show volumes to an executor, at once: what tells it of its tasks comes next."""
        try:
            show(effect.directory, effect.user, effect.volumes, links=True)
        except sandbox.SandboxError as error:
            self.loop.post(VolumesNotLinked(effect.framework_id, effect.task_ids, str(error)))

    def flush(self) -> None:
        """Begin what `perform` gathered."""
        self.link.flush()
        self.containerizer.flush()

    def name(self, agent_id: str) -> None:
        """The agent has an id: its sandboxes can be shown under it."""
        log.info("registered as %s", agent_id)
        self.server.files.agent_id = agent_id
        folder = Path(layout.agent_dir(self.config.work_dir, agent_id))
        folder.mkdir(parents=True, exist_ok=True)
        sandbox.link(str(folder.with_name(layout.LATEST)), agent_id)

    def watch(self, launched: LaunchContainer) -> None:
        """Look after the sandbox of a container as long as that runs."""
        self.rotator.watch(launched.container_id, launched.directory, launched.env)
        if launched.beside is None:  # Else it is counted with that.
            self.disk.watch(launched.container_id, launched.directory, launched.limits)

    async def processes(self) -> Mapping[str, int]:
        """The first process of each container."""
        found: Mapping[str, int] = await self.loop.submit(View("processes"))
        return found

    async def in_use(self) -> InUse:
        """Which sandboxes must stay."""
        found: InUse = await self.loop.submit(View("sandboxes"))
        return found

    async def serve(self) -> Leave:
        """Work until it is time to leave."""
        config, clock = self.config, SystemClock()
        work_dir = Path(config.work_dir)
        boot_id = detect.boot_id()
        announced = node(config)
        apart = isolation(config.isolation, config.cgroups_root, config.work_dir, gpus=bool(announced.gpus))
        fetcher = fetcher_for(config)
        profiles = Profiles(config.seccomp_config_dir, config.seccomp_profile_name)
        credential = load_credential(config.credential) if config.credential else None
        detector = find_master(config.master, config.zk_session_timeout_s)
        store, entries = await open_store(work_dir, boot_id, strict=config.strict)
        try:
            port = await self.server.start(config.ip, config.port)
            config = self.config = msgspec.structs.replace(config, port=port)
            log.info("agent listens on %s port %d", config.ip, port)
            identity = Identity(uuid.uuid4().hex, os.urandom(8), boot_id, self.executor_key)
            core = AgentCore(config, identity, msgspec.structs.replace(announced, limits=apart.limits), entries, clock.now())
            if core.state.agent_id:
                self.name(core.state.agent_id)
            self.loop = MainLoop(core, store, self.perform, self.flush, clock)
            self.containerizer = Containerizers(self.loop.post)
            images = Store(config.docker_store_dir or f"{config.work_dir}/images", config.docker_registry)
            networks = Networks(config.network_cni_config_dir, config.network_cni_plugins_dir)
            bundles = Bundles(
                f"{config.work_dir}/oci",
                images,
                networks,
                profiles,
                config.sandbox_directory,
                apart.place,
                config.nvidia_device_dir,
            )
            self.containerizer.add(
                LAUNCHED, lambda post: ProcessContainerizer(work_dir / "launcher", apart, images, bundles, fetcher, post)
            )
            self.images = image_collector(config, images, bundles)
            self.prober = Prober(self.loop.post)
            self.containerizer.add(DOCKER, lambda post: DockerContainerizer(config, fetcher, post))
            self.collector = Collector(config, self.in_use, views.render(core.state, "sandboxes"))
            self.disk = DiskWatch(config, self.loop.post)
            for launched in (*containers(core.state), *operator_containers(core.state)):
                self.watch(launched)
            self.measuring = Measuring(config, self.processes, self.containerizer.usage, self.loop.post)
            self.volumes = Volumes(bases(config.work_dir, core.state.total), self.loop.post)
            self.link = MasterLink(detector, credential, self.loop.post, self.loop.room)
            gc.collect()
            gc.freeze()  # What was loaded stays: full collections need not look at it.
            doors = self.containerizer, self.disk.added, self.collector.numbers, self.collector.discard
            self.server.begin(self.loop, lambda: core.state.recovered, *doors)
            return await self._work()
        finally:
            await self.server.stop()
            await detector.close()
            await store.close()

    async def _work(self) -> Leave:
        deciding = asyncio.create_task(self.loop.run())
        collecting = self.collector.run(), self.images.run(), self.volumes.run()
        working = (self.containerizer.run(), self.link.run(), *collecting, self.rotator.run(), self.disk.run(), self.measuring.run())
        helpers = [asyncio.create_task(work) for work in working]
        asked = {signal.SIGTERM: Stop(False), signal.SIGINT: Stop(False), signal.SIGUSR1: Stop(True), signal.SIGUSR2: Stop(False, True)}
        for number, stop in asked.items():
            asyncio.get_running_loop().add_signal_handler(number, self.loop.post, stop)
        try:
            awaited: list[asyncio.Future[Any]] = [deciding, self.left, *helpers]
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            for task in (deciding, *helpers):
                if task.done():
                    task.result()
            leave = await self.left
            log.info("leaving: %s", leave.reason)
            await self.link.sent(GOODBYE_S)
            await self.containerizer.stop(leave.kill_all)
            return leave
        finally:
            self.loop.stop()
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(deciding, *helpers, self.prober.close(), return_exceptions=True)
            self.containerizer.close()


async def serve(config: AgentConfig) -> None:
    """Run an agent. Raises Unavailable when the master sent it away."""
    leave = await Agent(config).serve()
    if leave.status != 0:
        raise Unavailable(f"the master does not take this agent: {leave.reason}")


def _own_address() -> str:
    """The address packets to elsewhere leave from; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address
