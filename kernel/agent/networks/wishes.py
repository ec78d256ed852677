"""What a container asks for of networks. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from kernel.wire.container import NetworkInfo, PortMapping

NONE = "none"
PROTOCOLS = ("tcp", "udp")
PORT_MAX = 65535


def named(infos: Sequence[NetworkInfo]) -> list[NetworkInfo]:
    """The networks that it joins, NONE left out."""
    return [info for info in infos if info.name and info.name != NONE]


def apart(infos: Sequence[NetworkInfo]) -> bool:
    """Whether a container has a network of its own."""
    return any(info.name for info in infos)


def protocol(mapping: PortMapping) -> str:
    return (mapping.protocol or "tcp").lower()


def problem(infos: Sequence[NetworkInfo]) -> str | None:
    """What cannot be, in words for the container's user."""
    names = [info.name for info in infos if info.name]
    if NONE in names and len(infos) > 1:
        return "'container.network_infos': the network 'none' goes with no other"
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        return f"'container.network_infos': the network '{twice}' is named more than once"
    for info in infos:
        if info.port_mappings and info.name in (None, "", NONE):
            return "'container.network_infos': ports are mapped to a network of the container's own, named by 'name', as 'bridge'"
    mappings = list(chain.from_iterable(info.port_mappings for info in infos))
    for mapping in mappings:
        if protocol(mapping) not in PROTOCOLS:
            return f"'container.network_infos.port_mappings': the protocol '{mapping.protocol}' is none of {', '.join(PROTOCOLS)}"
        if not (0 < mapping.host_port <= PORT_MAX and 0 < mapping.container_port <= PORT_MAX):
            return (
                f"'container.network_infos.port_mappings': {mapping.host_port}:{mapping.container_port} must be ports from 1 to {PORT_MAX}"
            )
    ports = [(mapping.host_port, protocol(mapping)) for mapping in mappings]
    same = next((port for port in ports if ports.count(port) > 1), None)
    if same is not None:
        return f"'container.network_infos.port_mappings': the host port {same[0]}/{same[1]} is mapped more than once"
    return None
