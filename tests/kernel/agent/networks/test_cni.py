"""What plugins are told, and what is made of their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernel.agent.networks import cni
from kernel.agent.networks.cni import Attachment, Dns
from kernel.agent.networks.config import Network, NetworkError
from kernel.wire.container import IPAddress, NetworkInfo, PortMapping, Protocol

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.5/16"}, {"address": "fd00::5/64"}]}


def attachment(version: str = "1.0.0", *ports: PortMapping) -> Attachment:
    return Attachment(Network("net", version, (PORTMAP,)), "eth0", NetworkInfo(name="net", port_mappings=ports), RESULT)


def told(given: Attachment, plugin: dict[str, Any], before: Any = None) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(cni.told(given, plugin, before))
    return document


def test_a_plugin_is_told_its_configuration_and_what_came_before() -> None:
    document = told(attachment(), {**PORTMAP, "args": {"x": 1}}, RESULT)
    assert (document["name"], document["cniVersion"], document["type"], document["snat"]) == ("net", "1.0.0", "portmap", True)
    assert document["prevResult"] == RESULT
    assert document["args"] == {"x": 1, "org.apache.mesos": {"network_info": {"name": "net"}}}
    assert "capabilities" not in document
    assert "runtimeConfig" not in document


def test_ports_are_told_to_who_maps_them_and_by_mesos_to_all() -> None:
    given = attachment("1.0.0", PortMapping(8080, 80), PortMapping(53, 53, "UDP"))
    mapped = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 53, "containerPort": 53, "protocol": "udp"}]
    assert told(given, PORTMAP)["runtimeConfig"] == {"portMappings": mapped}
    other = told(given, {"type": "bridge"})
    assert "runtimeConfig" not in other
    assert other["args"]["org.apache.mesos"]["network_info"]["port_mappings"][0] == {"host_port": 8080, "container_port": 80}


@pytest.mark.parametrize(("version", "is_told"), [("1.0.0", True), ("0.4.0", True), ("0.3.1", False), ("odd", False)])
def test_what_add_answered_is_told_to_del_since_version_0_4(version: str, is_told: bool) -> None:
    assert (cni.before_delete(attachment(version)) is not None) is is_told


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (RESULT, ["10.0.0.5", "fd00::5"]),
        ({"ip4": {"ip": "10.0.0.6/24"}, "ip6": {"ip": "fd00::6/64"}}, ["10.0.0.6", "fd00::6"]),
        ({"ips": [{"address": "what"}, "x", {}]}, []),
        ({"ips": 3}, []),
        ({}, []),
    ],
)
def test_addresses_are_read_as_any_version_gives_them(result: dict[str, Any], expected: list[str]) -> None:
    assert cni.addresses(result) == expected


def test_the_status_is_what_was_asked_for_with_the_addresses() -> None:
    found = cni.status(attachment("1.0.0", PortMapping(1, 2)))
    assert found.ip_addresses == (IPAddress(Protocol.IPv4, "10.0.0.5"), IPAddress(Protocol.IPv6, "fd00::5"))
    assert (found.name, found.port_mappings) == ("net", (PortMapping(1, 2),))


@pytest.mark.parametrize(
    ("output", "errors", "says"),
    [
        (b'{"code": 7, "msg": "no address left", "details": "10.0.0.0/30"}', b"x", "no address left: 10.0.0.0/30"),
        (b"", b"panic: x\n", "panic: x"),
        (b"text", b"", "text"),
        (b"", b"", "it gave no reason"),
    ],
)
def test_the_reason_of_a_failure_is_found(output: bytes, errors: bytes, says: str) -> None:
    assert cni.failure(output, errors) == says


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(NetworkError, match="no result: bad"):
        cni.result(b"bad")


def test_names_are_looked_up_as_the_network_says_or_as_the_machine_does() -> None:
    machine = "search example.org\nnameserver 127.0.0.53\nnameserver 10.1.1.1\noptions edns0\n"
    assert cni.resolv_conf(Dns(), machine) == "search example.org\nnameserver 10.1.1.1\noptions edns0\n"
    dns = cni.dns({"dns": {"nameservers": ["10.9.9.9"], "search": ["a", "b"]}})
    assert cni.resolv_conf(dns, machine) == "search a b\nnameserver 10.9.9.9\n"
    assert cni.dns({"dns": {"nameservers": 3}}) == Dns()


def test_a_container_knows_its_own_name() -> None:
    assert cni.hosts(["me"], ["10.0.0.5"]).splitlines()[-1] == "10.0.0.5 me"
    assert cni.hosts(["me"], []).splitlines()[-1] == "127.0.0.1 me"
