"""What may be asked for of networks."""

from __future__ import annotations

import pytest

from kernel.agent.networks.wishes import apart, named, problem
from kernel.wire.container import NetworkInfo, PortMapping


def info(name: str | None, *ports: tuple[int, int] | tuple[int, int, str]) -> NetworkInfo:
    return NetworkInfo(name=name, port_mappings=tuple(PortMapping(*port) for port in ports))


def test_a_named_network_is_joined_one_without_a_name_is_the_machines() -> None:
    assert apart([info("a")])
    assert apart([info("none")])
    assert not apart([info(None)])
    assert not apart([])
    assert [one.name for one in named([info(None), info("a"), info("b")])] == ["a", "b"]
    assert named([info("none")]) == []


@pytest.mark.parametrize("infos", [[], [info(None)], [info("none")], [info("a", (80, 80), (80, 80, "udp"), (81, 80, "TCP")), info("b")]])
def test_what_can_be_had(infos: list[NetworkInfo]) -> None:
    assert problem(infos) is None


@pytest.mark.parametrize(
    ("infos", "says"),
    [
        ([info("none"), info("a")], "goes with no other"),
        ([info("a"), info("a")], "'a' is named more than once"),
        ([info(None, (80, 80))], "named by 'name'"),
        ([info("none", (80, 80))], "named by 'name'"),
        ([info("a", (80, 80, "sctp"))], "'sctp' is none of tcp, udp"),
        ([info("a", (0, 80))], "ports from 1 to 65535"),
        ([info("a", (80, 65536))], "ports from 1 to 65535"),
        ([info("a", (80, 80)), info("b", (80, 81))], "host port 80/tcp is mapped more than once"),
    ],
)
def test_what_cannot_be_had_is_said(infos: list[NetworkInfo], says: str) -> None:
    assert says in (problem(infos) or "")
