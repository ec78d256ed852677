"""Ports of this machine that are mapped to containers.

The rules that map a port do not ask whether somebody has it, and take it from whoever does. So it is taken here, by a socket that hears
nothing, for as long as it is mapped: nobody else on this machine can then.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

from kernel.agent.networks.config import NetworkError
from kernel.agent.networks.wishes import protocol
from kernel.wire.container import PortMapping

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Ports:
    """The ports that are held, by container. For any thread."""

    def __init__(self) -> None:
        self._held: dict[str, list[socket.socket]] = {}

    def hold(self, container_id: str, mappings: Sequence[PortMapping]) -> None:
        """Take ports for a container, all of them or none; a repeat changes nothing. Raises NetworkError for one that somebody has."""
        if container_id in self._held:
            return
        held: list[socket.socket] = []
        for mapping in mappings:
            try:
                held.append(_take(_KINDS[protocol(mapping)], mapping.host_port))
            except OSError as error:
                for taken in held:
                    taken.close()
                why = "is taken on this agent" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
                raise NetworkError(f"the host port {mapping.host_port}/{protocol(mapping)} {why}") from error
        if held:
            self._held[container_id] = held

    def release(self, container_id: str) -> None:
        for taken in self._held.pop(container_id, ()):
            taken.close()


def _take(kind: socket.SocketKind, port: int) -> socket.socket:
    """Raises OSError."""
    try:
        return _bound(kind, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or kind is not socket.SOCK_STREAM:
            raise
    return _bound(kind, port, socket.SO_REUSEADDR)  # Nobody has it if only old connections are in the way.


def _bound(kind: socket.SocketKind, port: int, *options: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, kind)
    try:
        for option in options:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
        made.bind(("", port))
    except BaseException:
        made.close()
        raise
    return made
