"""What CNI plugins are told and what they answer. Pure. Source: CNI specification 1.0.0, sections 2, 4 and 5."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from kernel.agent.networks.config import PORTS, Network, NetworkError
from kernel.agent.networks.wishes import protocol
from kernel.wire.container import IPAddress, NetworkInfo, Protocol

ADD, DEL = "ADD", "DEL"

Result = dict[str, Any]


class Dns(Struct, frozen=True):
    """How names are looked up in a network."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    domain: str = ""


class Attachment(Struct):
    """A container and one of its networks. interface: its name inside. result: what the last plugin that has ended answered; whole:
    whether that is the network's last."""

    network: Network
    interface: str
    info: NetworkInfo
    result: Result | None = None
    whole: bool = False


def environment(command: str, container_id: str, netns: str, interface: str, path: str, plugins: str) -> dict[str, str]:
    """Variables of a plugin. netns: empty where it is gone. path: for its own programs; plugins: where others are."""
    return {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": container_id,
        "CNI_NETNS": netns,
        "CNI_IFNAME": interface,
        "CNI_ARGS": "IgnoreUnknown=1",
        "CNI_PATH": plugins,
        "PATH": path,
    }


def told(attachment: Attachment, plugin: Mapping[str, Any], before: Result | None) -> bytes:
    """A plugin's input. before: what the plugin before it answered; at the end what the last one did."""
    network = attachment.network
    document = {key: value for key, value in plugin.items() if key not in ("capabilities", "plugins")}
    document |= {"cniVersion": network.cni_version, "name": network.name}
    info = msgspec.to_builtins(attachment.info)
    document["args"] = {**_mapping(plugin.get("args")), "org.apache.mesos": {"network_info": info}}  # As Mesos tells its own plugins.
    if attachment.info.port_mappings and _mapping(plugin.get("capabilities")).get(PORTS) is True:
        mappings = [
            {"hostPort": mapping.host_port, "containerPort": mapping.container_port, "protocol": protocol(mapping)}
            for mapping in attachment.info.port_mappings
        ]
        document["runtimeConfig"] = {PORTS: mappings}
    if before is not None:
        document["prevResult"] = before
    return msgspec.json.encode(document)


def before_delete(attachment: Attachment) -> Result | None:
    """What DEL is told of what ADD has done; nothing before version 0.4.0."""
    numbers = attachment.network.cni_version.split(".")
    return attachment.result if [int(number) if number.isdigit() else 0 for number in numbers] >= [0, 4] else None


def result(output: bytes) -> Result:
    """What a plugin has answered to ADD. Raises NetworkError."""
    try:
        return msgspec.json.decode(output, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise NetworkError(f"it answered what is no result: {output[:200].decode(errors='replace')}") from None


def failure(output: bytes, errors: bytes) -> str:
    """What a plugin says of its failure."""
    try:
        answer = msgspec.json.decode(output, type=dict[str, Any])
        text = ": ".join(str(answer[key]) for key in ("msg", "details") if answer.get(key))
    except msgspec.MsgspecError:
        text = ""
    return (text or (errors or output).decode(errors="replace").strip() or "it gave no reason")[-1000:]


def addresses(found: Result) -> list[str]:
    """The addresses that a container has, without the lengths of their networks. What is none is left out."""
    entries = [entry.get("address") for entry in _list(found.get("ips"))]
    entries += [_mapping(found.get(key)).get("ip") for key in ("ip4", "ip6")]  # Before 0.3.0.
    texts = (str(entry).partition("/")[0] for entry in entries if entry)
    return [text for text in texts if _version(text)]


def dns(found: Result) -> Dns:
    try:
        return msgspec.convert(found.get("dns") or {}, Dns)
    except msgspec.ValidationError:
        return Dns()


def status(attachment: Attachment) -> NetworkInfo:
    """What is told of a network that was joined: what was asked for, with the addresses."""
    found = addresses(attachment.result or {})
    kinds = {4: Protocol.IPv4, 6: Protocol.IPv6}
    return msgspec.structs.replace(attachment.info, ip_addresses=tuple(IPAddress(kinds[_version(text)], text) for text in found))


def hosts(names: Sequence[str], own: Sequence[str]) -> str:
    """The `/etc/hosts` of a container. own: its addresses."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    return "".join(f"{line}\n" for line in [*lines, *(f"{address} {' '.join(names)}" for address in own or ("127.0.0.1",))])


def resolv_conf(asked: Dns, machine: str) -> str:
    """The `/etc/resolv.conf` of a container: what its network says, else what the machine's says, but for nobody who listens on the
    machine's loopback, which is not the container's."""
    if asked.nameservers:
        lines = [f"domain {asked.domain}"] if asked.domain else []
        lines += [f"search {' '.join(asked.search)}"] if asked.search else []
        lines += [f"nameserver {server}" for server in asked.nameservers]
        lines += [f"options {' '.join(asked.options)}"] if asked.options else []
    else:
        lines = [line for line in machine.splitlines() if not _is_local(line)]
    return "".join(f"{line}\n" for line in lines)


def _is_local(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _version(text: str) -> int:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
