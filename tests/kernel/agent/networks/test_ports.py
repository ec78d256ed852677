"""Ports of this machine, held for containers."""

from __future__ import annotations

import socket

import pytest

from kernel.agent.networks.config import NetworkError
from kernel.agent.networks.ports import Ports
from kernel.wire.container import PortMapping


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_port_is_had_once() -> None:
    ports, others, port = Ports(), Ports(), free_port()
    ports.hold("a", [PortMapping(port, 80)])
    ports.hold("a", [PortMapping(port, 80)])  # A repeat.
    for one in (ports, others):  # Another agent's of this machine.
        with pytest.raises(NetworkError, match=f"the host port {port}/tcp is taken on this agent"):
            one.hold("b", [PortMapping(port, 80)])
    ports.hold("c", [PortMapping(port, 80, "udp")])
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("", port))
    ports.release("a")
    others.hold("b", [PortMapping(port, 80)])
    for container in ("a", "b", "c"):
        ports.release(container)
        others.release(container)


def test_all_or_none() -> None:
    ports, port = Ports(), free_port()
    with socket.create_server(("", 0)) as server, pytest.raises(NetworkError):
        ports.hold("a", [PortMapping(port, 80), PortMapping(server.getsockname()[1], 80)])
    ports.hold("b", [PortMapping(port, 80)])
    ports.release("b")


def test_a_port_that_only_old_connections_have_is_free() -> None:
    ports = Ports()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            accepted, _ = server.accept()
            accepted.close()  # The first to close waits (TIME_WAIT).
            assert client.recv(1) == b""
    ports.hold("a", [PortMapping(port, 80)])
    ports.release("a")
