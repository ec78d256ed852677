"""The parameters of DockerInfo: options of `docker run`, each by its meaning in the engine's API. Pure.

One without a row is refused, and so is one that another field of the task decides: better than a container that is not what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from kernel.errors import KernelError

Body = dict[str, Any]


class DockerOptionError(KernelError):
    """A container cannot be had as it is asked for; the text says what to change."""


def apply(body: Body, key: str, value: str) -> None:
    """Add one parameter to what the engine is asked for. Raises DockerOptionError."""
    name = key.lstrip("-")
    name = _SHORT.get(name, name)
    if name in _DECIDED:
        raise DockerOptionError(f"the docker parameter '{key}' is not for tasks to give: {_DECIDED[name]}")
    if name not in _MEANING:
        raise DockerOptionError(f"the docker parameter '{key}' is not supported; supported are {', '.join(sorted(_MEANING))}")
    try:
        _MEANING[name](body, value)
    except ValueError as error:
        raise DockerOptionError(f"the docker parameter '{key}' cannot be '{value}': {error}") from None


# ---- Kinds of values ------------------------------------------------------------------------------------

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _text(value: str) -> str:
    return value


def _bool(value: str) -> bool:
    known = {"": True, "true": True, "1": True, "false": False, "0": False}
    if value.lower() not in known:
        raise ValueError("true or false is allowed")
    return known[value.lower()]


def _bytes(value: str) -> int:
    if value == "-1":
        return -1
    found = re.fullmatch(r"(\d+)([bkmg]?)b?", value.lower())
    if found is None:
        raise ValueError("a number of bytes is needed, for example 67108864, 65536k, 64m or 1g")
    return int(found[1]) * _UNITS[found[2]]


def _number(value: str) -> int:
    if re.fullmatch(r"-?\d+", value) is None:
        raise ValueError("a whole number is needed")
    return int(value)


def _pair(value: str, separator: str = "=") -> tuple[str, str]:
    name, found, text = value.partition(separator)
    if not name or not found:
        raise ValueError(f"NAME{separator}VALUE is needed")
    return name, text


# ---- Where they go --------------------------------------------------------------------------------------

Setter = Callable[[Body, str], None]


def _own(key: str, read: Callable[[str], Any] = _text) -> Setter:
    """The container's own field."""

    def put(body: Body, value: str) -> None:
        body[key] = read(value)

    return put


def _host(key: str, read: Callable[[str], Any] = _text) -> Setter:
    def put(body: Body, value: str) -> None:
        body["HostConfig"][key] = read(value)

    return put


def _hosts(key: str, read: Callable[[str], Any] = _text) -> Setter:
    """One more of a list."""

    def add(body: Body, value: str) -> None:
        body["HostConfig"].setdefault(key, []).append(read(value))

    return add


def _host_pairs(key: str) -> Setter:
    def add(body: Body, value: str) -> None:
        name, text = _pair(value)
        body["HostConfig"].setdefault(key, {})[name] = text

    return add


def _label(body: Body, value: str) -> None:
    name, _, text = value.partition("=")
    if not name or name.startswith("meseta."):
        raise ValueError("NAME=VALUE is needed, with a name that does not begin with 'meseta.'")
    body.setdefault("Labels", {})[name] = text


def _env(body: Body, value: str) -> None:
    name, text = _pair(value)
    body.setdefault("Env", []).append(f"{name}={text}")


def _volume(body: Body, value: str) -> None:
    parts = value.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError("SOURCE:TARGET[:OPTIONS] or TARGET is needed")
    if len(parts) == 1:
        body["HostConfig"]["Mounts"].append({"Type": "volume", "Target": parts[0]})
    else:
        body["HostConfig"]["Binds"].append(value)


def _ulimit(value: str) -> Body:
    name, text = _pair(value)
    soft, _, hard = text.partition(":")
    return {"Name": name, "Soft": _number(soft), "Hard": _number(hard or soft)}


def _device(value: str) -> Body:
    parts = value.split(":")
    if len(parts) > 3 or not all(parts):
        raise ValueError("PATH[:PATH_IN_CONTAINER[:rwm]] is needed")
    inside = parts[1] if len(parts) > 1 else parts[0]
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": parts[2] if len(parts) > 2 else "rwm"}


def _tmpfs(body: Body, value: str) -> None:
    path, _, options = value.partition(":")
    body["HostConfig"].setdefault("Tmpfs", {})[path] = options


def _log_driver(body: Body, value: str) -> None:
    body["HostConfig"].setdefault("LogConfig", {})["Type"] = value


def _log_opt(body: Body, value: str) -> None:
    name, text = _pair(value)
    body["HostConfig"].setdefault("LogConfig", {}).setdefault("Config", {})[name] = text


def _endpoint(body: Body) -> Body:
    """How it is attached to its network, which has a name of its own."""
    network = body["HostConfig"]["NetworkMode"]
    if network in ("host", "none", "bridge"):
        raise ValueError(f"that needs the network USER, not {network.upper()}")
    endpoint: Body = body.setdefault("NetworkingConfig", {}).setdefault("EndpointsConfig", {}).setdefault(network, {})
    return endpoint


def _alias(body: Body, value: str) -> None:
    _endpoint(body).setdefault("Aliases", []).append(value)


def _address(body: Body, value: str) -> None:
    _endpoint(body)["IPAMConfig"] = {"IPv4Address": value}


def _entrypoint(body: Body, value: str) -> None:
    body["Entrypoint"] = [value] if value else [""]


def _expose(body: Body, value: str) -> None:
    port, _, protocol = value.partition("/")
    body.setdefault("ExposedPorts", {})[f"{_number(port)}/{protocol or 'tcp'}"] = {}


_MEANING: Mapping[str, Setter] = {
    "add-host": _hosts("ExtraHosts"),
    "blkio-weight": _host("BlkioWeight", _number),
    "cap-add": _hosts("CapAdd"),
    "cap-drop": _hosts("CapDrop"),
    "cpuset-cpus": _host("CpusetCpus"),
    "cpuset-mems": _host("CpusetMems"),
    "device": _hosts("Devices", _device),
    "dns": _hosts("Dns"),
    "dns-option": _hosts("DnsOptions"),
    "dns-search": _hosts("DnsSearch"),
    "domainname": _own("Domainname"),
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "group-add": _hosts("GroupAdd"),
    "hostname": _own("Hostname"),
    "init": _host("Init", _bool),
    "ip": _address,
    "ipc": _host("IpcMode"),
    "label": _label,
    "link": _hosts("Links"),
    "log-driver": _log_driver,
    "log-opt": _log_opt,
    "mac-address": _own("MacAddress"),
    "memory-swap": _host("MemorySwap", _bytes),
    "memory-swappiness": _host("MemorySwappiness", _number),
    "network-alias": _alias,
    "oom-score-adj": _host("OomScoreAdj", _number),
    "pid": _host("PidMode"),
    "read-only": _host("ReadonlyRootfs", _bool),
    "runtime": _host("Runtime"),
    "security-opt": _hosts("SecurityOpt"),
    "shm-size": _host("ShmSize", _bytes),
    "stop-signal": _own("StopSignal"),
    "sysctl": _host_pairs("Sysctls"),
    "tmpfs": _tmpfs,
    "ulimit": _hosts("Ulimits", _ulimit),
    "user": _own("User"),
    "userns": _host("UsernsMode"),
    "uts": _host("UTSMode"),
    "volume": _volume,
    "volume-driver": _host("VolumeDriver"),
    "workdir": _own("WorkingDir"),
}
_SHORT = {
    "e": "env", "h": "hostname", "l": "label", "m": "memory", "u": "user", "v": "volume", "w": "workdir", "p": "publish", "c": "cpu-shares",
    "t": "tty", "i": "interactive", "d": "detach", "dns-opt": "dns-option", "net": "network", "net-alias": "network-alias",
}  # fmt: skip
_RESOURCES = "what a container is held to comes from the task's resources and limits"
_NETWORK = "see 'docker.network' and 'network_infos'"
_LIFE = "the agent starts, watches and removes the container"
_DECIDED: Mapping[str, str] = {
    **dict.fromkeys(("cpu-period", "cpu-quota", "cpu-shares", "cpus", "memory", "memory-reservation", "pids-limit"), _RESOURCES),
    **dict.fromkeys(("detach", "interactive", "tty", "rm", "restart", "name", "cidfile", "sig-proxy", "attach"), _LIFE),
    "cgroup-parent": _RESOURCES,
    "network": _NETWORK,
    "privileged": "see 'docker.privileged'",
    "publish": "see 'docker.port_mappings'",
    "publish-all": "see 'docker.port_mappings'",
}
