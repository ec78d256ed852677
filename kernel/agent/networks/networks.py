"""Containers join networks and leave them, by CNI plugins. All of this waits for programs: it is for a thread.

What is done for a container is in its folder before it is done: `network` (a network namespace) and `networks.json` (what it was to join,
and how). So whoever finds the folder later can undo it, by the configuration that did it, as often as it takes. A plugin holds a lock on
that file while it runs, also when the agent that started it is gone: it is waited for.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from itertools import chain

import msgspec

from kernel.agent.containerizer import netns
from kernel.agent.networks import cni, config, wishes
from kernel.agent.networks.cni import ADD, DEL, Attachment, Result
from kernel.agent.networks.config import NetworkError
from kernel.agent.networks.ports import Ports
from kernel.wire.container import NetworkInfo

log = logging.getLogger(__name__)

PLUGIN_S = 60.0
LOCK_LOOK_S = 0.05
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RECORD, NAMESPACE = "networks.json", "network"


class Networks:
    """The networks of one agent's containers."""

    def __init__(self, config_dir: str, plugins_dir: str) -> None:
        """config_dir: see `config`. plugins_dir: folders of plugins, a colon between two."""
        self._config_dir, self._plugins_dir = config_dir, plugins_dir
        self._ports = Ports()

    def join(self, container_id: str, folder: str, infos: Sequence[NetworkInfo]) -> None:
        """Make a network for a container that has this folder, and join it to what it asks for. A repeat does what is missing. Raises
        NetworkError; then `leave` has to be called all the same."""
        found = self.joined(folder)
        if found is None:
            found = [self._attachment(f"eth{index}", info) for index, info in enumerate(wishes.named(infos))]
        self._hold(container_id, found)
        if not os.path.ismount(f"{folder}/{NAMESPACE}"):
            _keep(folder, found)
            try:
                netns.make(f"{folder}/{NAMESPACE}")
            except OSError as error:
                raise NetworkError(f"cannot make a network: {error.strerror}") from error
        for attachment in found:
            if not attachment.whole:
                self._add(container_id, folder, attachment, found)

    def _attachment(self, interface: str, info: NetworkInfo) -> Attachment:
        """Raises NetworkError, before anything is done."""
        attachment = Attachment(config.find(info.name or "", self._config_dir), interface, info)
        if info.port_mappings and not attachment.network.maps_ports:
            raise NetworkError(f"network '{info.name}': none of its plugins maps ports (capability portMappings)")
        for plugin in attachment.network.plugins:
            self._program(attachment, plugin["type"])
        return attachment

    def joined(self, folder: str) -> list[Attachment] | None:
        """What the container of this folder has joined, or was to; None where it has the machine's network."""
        try:
            with open(f"{folder}/{RECORD}", "rb") as file:
                return msgspec.json.decode(file.read(), type=list[Attachment])
        except FileNotFoundError:
            return None

    def again(self, container_id: str, folder: str) -> None:
        """A container was there before this agent was: its ports are held."""
        try:
            self._hold(container_id, self.joined(folder) or [])
        except NetworkError as error:
            log.warning("container %s: %s", container_id, error)

    def leave(self, container_id: str, folder: str) -> bool:
        """Undo all that was done. Whether that was possible; what was not can be tried again."""
        try:
            attachments = self.joined(folder) or []
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("container %s: its networks are not known any more: %s", container_id, error)
            attachments = []
        if not all([self._delete(container_id, folder, one) for one in reversed(attachments)]):  # noqa: C419 (after a failure, too)
            return False
        netns.remove(f"{folder}/{NAMESPACE}")
        self._ports.release(container_id)
        return True

    def _hold(self, container_id: str, attachments: Sequence[Attachment]) -> None:
        self._ports.hold(container_id, list(chain.from_iterable(one.info.port_mappings for one in attachments)))

    # ---- Plugins ----------------------------------------------------------------------------------------

    def _add(self, container_id: str, folder: str, attachment: Attachment, all_of_it: Sequence[Attachment]) -> None:
        """What a plugin answers is kept before the next one runs: without the addresses in it some could not undo what they have done."""
        result: Result | None = None
        for plugin in attachment.network.plugins:
            done = self._run(ADD, container_id, folder, attachment, plugin["type"], cni.told(attachment, plugin, result))
            try:
                if done.returncode:
                    raise NetworkError(cni.failure(done.stdout, done.stderr))
                attachment.result = result = cni.result(done.stdout)
            except NetworkError as error:
                raise NetworkError(f"network '{attachment.network.name}': the plugin '{plugin['type']}': {error}") from None
            attachment.whole = plugin is attachment.network.plugins[-1]
            _keep(folder, all_of_it)

    def _delete(self, container_id: str, folder: str, attachment: Attachment) -> bool:
        whole, before = True, cni.before_delete(attachment)
        for plugin in reversed(attachment.network.plugins):
            try:
                done = self._run(DEL, container_id, folder, attachment, plugin["type"], cni.told(attachment, plugin, before))
            except NetworkError as error:
                log.warning("container %s: %s", container_id, error)
                whole = False
                continue
            if done.returncode:
                why = cni.failure(done.stdout, done.stderr)
                log.warning("container %s: network %s: %s: %s", container_id, attachment.network.name, plugin["type"], why)
                whole = False
        return whole

    def _run(
        self, command: str, container_id: str, folder: str, attachment: Attachment, kind: str, told: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        """Raises NetworkError."""
        space = f"{folder}/{NAMESPACE}"
        present = space if os.path.ismount(space) else ""  # A machine that has started anew has none.
        env = cni.environment(command, container_id, present, attachment.interface, PATH, self._plugins_dir)
        program = self._program(attachment, kind)
        with open(f"{folder}/{RECORD}", "rb") as lock:
            _wait_for(lock.fileno())
            try:
                return subprocess.run(
                    [program], input=told, env=env, cwd="/", capture_output=True, timeout=PLUGIN_S, pass_fds=(lock.fileno(),), check=False
                )
            except subprocess.TimeoutExpired:
                raise NetworkError(f"network '{attachment.network.name}': the plugin '{kind}' took more than {PLUGIN_S:g} s") from None
            except OSError as error:
                raise NetworkError(f"network '{attachment.network.name}': cannot run {program}: {error.strerror}") from error

    def _program(self, attachment: Attachment, kind: str) -> str:
        found = shutil.which(kind, path=self._plugins_dir)
        if found is None:
            where = f"in none of the folders {self._plugins_dir} (--network_cni_plugins_dir)"
            raise NetworkError(
                f"network '{attachment.network.name}': the plugin '{kind}' is {where}; Debian has it in containernetworking-plugins"
            )
        return found


def _keep(folder: str, attachments: Sequence[Attachment]) -> None:
    """In place: what holds a lock on it has this file."""
    with open(os.open(f"{folder}/{RECORD}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b") as file:
        file.write(msgspec.json.encode(attachments))
        file.truncate()


def _wait_for(lock: int) -> None:
    """Until no plugin that an agent before us started runs. Raises NetworkError."""
    deadline = time.monotonic() + PLUGIN_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise NetworkError(f"a plugin of this container's still runs after {PLUGIN_S:g} s") from None
            time.sleep(LOCK_LOOK_S)
