"""Networks that containers can join: configurations as CNI has them, and one of our own. Source: CNI specification 1.0.0, section 1.

Each file of the folder (`--network_cni_config_dir`; `.conf`, `.conflist`, `.json`) defines one network, as a list of plugins or as the only
one. It is looked at for each container, so what an operator adds or changes is there at once.
"""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec
from msgspec import Struct

from kernel.agent.networks.wishes import NONE
from kernel.errors import CallError

BRIDGE = "bridge"
SUFFIXES = (".conf", ".conflist", ".json")
FILE_BYTES_MAX = 1 << 20
PORTS = "portMappings"  # The capability of a plugin that maps ports.
MESOS_PORT_MAPPER = "mesos-cni-port-mapper"  # Takes the ports from what Mesos tells all plugins.

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class NetworkError(CallError):
    """A container cannot join a network; the text says why, for its user."""


class Network(Struct, frozen=True):
    """How a network is joined. plugins: their configurations, in the order in which they add a container."""

    name: str
    cni_version: str
    plugins: tuple[dict[str, Any], ...]

    @property
    def maps_ports(self) -> bool:
        return any(_maps_ports(plugin) for plugin in self.plugins)


def _maps_ports(plugin: dict[str, Any]) -> bool:
    capabilities = plugin.get("capabilities")
    return plugin["type"] == MESOS_PORT_MAPPER or (isinstance(capabilities, dict) and capabilities.get(PORTS) is True)


BUILT_IN = Network(
    BRIDGE,
    "0.4.0",
    (
        {
            "type": "bridge",
            "bridge": "meseta0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.201.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
                "dataDir": "/run/meseta/networks",  # Forgotten when the machine starts anew, as the addresses are.
            },
        },
        {"type": "portmap", "capabilities": {PORTS: True}, "snat": True},
        {"type": "firewall", "backend": "iptables"},
    ),
)
"""What `bridge` is where no file says anything else: containers of this machine on a bridge, others by the machine's address."""


def parse(text: bytes) -> Network:
    """A network's configuration. Raises NetworkError."""
    try:
        document = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise NetworkError(f"it is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise NetworkError("it is no JSON object")
    name, version = document.get("name"), document.get("cniVersion", "0.1.0")
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise NetworkError("its 'name' must be letters, digits, '_', '.' and '-'")
    if not isinstance(version, str):
        raise NetworkError("its 'cniVersion' must be a text, as \"1.0.0\"")
    plugins = document.get("plugins", [document])
    if not isinstance(plugins, list) or not plugins:
        raise NetworkError("its 'plugins' must be a list of at least one")
    for plugin in plugins:
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not _WORD.fullmatch(kind):
            raise NetworkError("each of its plugins needs a 'type', which names a program")
    return Network(name, version, tuple(plugins))


def find(name: str, folder: str) -> Network:
    """The network of a name: what the first file of the folder says of it, else our own. Raises NetworkError."""
    known: dict[str, str] = {}
    for entry in _files(folder):
        try:
            with open(f"{folder}/{entry}", "rb") as file:
                network = parse(file.read(FILE_BYTES_MAX))
        except (NetworkError, OSError) as error:
            known[entry] = f"{entry} cannot be used: {error.strerror if isinstance(error, OSError) else error}"
            continue
        if network.name == name:
            return network
        known[network.name] = network.name
    if name == BRIDGE:
        return BUILT_IN
    where = f"in {folder}" if folder else "(a folder of configurations)"
    there = ", ".join([NONE, BRIDGE, *(text for known_name, text in known.items() if known_name not in (NONE, BRIDGE))])
    raise NetworkError(f"network '{name}': nothing {where} defines it (--network_cni_config_dir); there are: {there}")


def _files(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(SUFFIXES)) if folder else []
    except OSError as error:
        raise NetworkError(f"--network_cni_config_dir: {folder} cannot be read: {error.strerror}") from error
