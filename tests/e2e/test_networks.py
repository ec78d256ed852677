"""Containers on networks of their own, by the real plugins of CNI on a real cluster; nothing is left of them."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import MESETA, Cluster, eventually
from tests.e2e import in_images
from tests.e2e.in_images import PLUGINS, left
from tests.e2e.processes import LAUNCHER, naming, settled, unsupervised
from tests.e2e.scheduler import Scheduler
from tests.e2e.test_checks import PACE, SLEEP, text

pytestmark = [
    *in_images.NEEDS,
    pytest.mark.skipif(shutil.which("bridge", path=PLUGINS) is None, reason="containernetworking-plugins is not installed"),
    pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed"),
]
SERVE = "mkdir www; echo here > www/index.html; exec httpd -f -p 80 -h www"
SLOW = f"""#!{sys.executable}
import json, os, sys, time
told, folder = json.load(sys.stdin), os.environ["CNI_PATH"].split(":")[0]
if os.environ["CNI_COMMAND"] == "ADD":
    open(f"{{folder}}/begun", "w").close()
    while not os.path.exists(f"{{folder}}/open"):
        time.sleep(0.05)
    print(json.dumps(told["prevResult"]))
"""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an agent is told: images, and networks beside its own."""
    plugins, networks = tmp_path_factory.mktemp("plugins"), tmp_path_factory.mktemp("networks")
    (plugins / "slow").write_text(SLOW)
    (plugins / "slow").chmod(0o755)
    bridge = {"type": "bridge", "bridge": "mesetatest0", "isGateway": True}
    bridge["ipam"] = {"type": "host-local", "subnet": "10.202.0.0/24", "dataDir": str(tmp_path_factory.mktemp("addresses"))}
    for name, chain in {"second": [bridge], "slow": [bridge, {"type": "slow"}], "absent": [bridge, {"type": "not-there"}]}.items():
        (networks / f"{name}.conflist").write_text(json.dumps({"cniVersion": "1.0.0", "name": name, "plugins": chain}))
    return {
        "MESETA_DOCKER_REGISTRY": str(in_images.registry(tmp_path_factory.mktemp("registry"))),
        "MESETA_NETWORK_CNI_CONFIG_DIR": str(networks),
        "MESETA_NETWORK_CNI_PLUGINS_DIR": f"{plugins}:{PLUGINS}",
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), agents=1, only="master,agent", environ=environ)
    try:
        made.up()
        yield made
    finally:
        made.down()
        subprocess.run(["ip", "link", "delete", "mesetatest0"], capture_output=True, check=False)


@pytest.fixture
def scheduler(machine: Cluster) -> Iterator[Scheduler]:
    made = Scheduler(machine, "networks")
    yield made
    made.close()
    nothing_is_left(machine)


def nothing_is_left(machine: Cluster) -> None:
    """Of bundles, mounts, network namespaces, rules, addresses and devices."""
    eventually(lambda: not left(machine), what="nothing is left")
    assert rules_of_containers() == []


def rules_of_containers() -> list[str]:
    """What is in the chains that plugins share, but for what is there once for all containers."""
    saved = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [rule for rule in saved if "10.201.0." in rule or "CNI-DN-" in rule or "CNI-SN-" in rule]


def on(*names: str, ports: dict[int, int] | None = None) -> dict[str, Any]:
    """The ContainerInfo of an image on networks; ports of the first."""
    infos: list[dict[str, Any]] = [{"name": name} for name in names]
    if ports:
        infos[0]["port_mappings"] = [{"host_port": host, "container_port": inside} for host, inside in ports.items()]
    image = {"image": {"type": "DOCKER", "docker": {"name": in_images.IMAGE}}}
    return {"type": "MESOS", "mesos": image, "network_infos": infos}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def fetched(address: str, port: int) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=10) as answer:
        body: bytes = answer.read()
        return body.decode()


def taken(port: int) -> bool:
    try:
        socket.create_server(("", port)).close()
    except OSError:
        return True
    return False


def http_health(port: int = 80, **fields: Any) -> dict[str, Any]:
    return {"type": "HTTP", "http": {"port": port, "path": "/index.html"}, "grace_period_seconds": 30, **PACE, **fields}


def sandbox(machine: Cluster, task_id: str) -> Path:
    (found,) = machine.work_dir.glob(f"agent-1/slaves/latest/frameworks/*/executors/{task_id}/runs/latest")
    return found


def test_a_server_on_the_bridge_is_reached_by_a_port_of_the_machine(machine: Cluster, scheduler: Scheduler) -> None:
    """And checked from inside its network; its address is told; a second one cannot have the port."""
    port = free_port()
    scheduler.launch("web", SERVE, container=on("bridge", ports={port: 80}), health_check=http_health())
    told = scheduler.status("web", healthy=True)["container_status"]["network_infos"]
    assert [info["name"] for info in told] == ["bridge"]
    address = told[0]["ip_addresses"][0]["ip_address"]
    assert address.startswith("10.201.")
    assert fetched("127.0.0.1", port) == fetched(address, 80) == "here\n"
    assert taken(port)
    scheduler.launch("second", SERVE, container=on("bridge", ports={port: 80}))
    failed = scheduler.status("second", "TASK_FAILED")
    assert failed["message"] == f"Failed to launch container: the host port {port}/tcp is taken on this agent"
    assert failed["reason"] == "REASON_CONTAINER_LAUNCH_FAILED"
    assert fetched("127.0.0.1", port) == "here\n"
    scheduler.call("KILL", {"task_id": {"value": "web"}, "kill_policy": {"grace_period": {"nanoseconds": 0}}})
    scheduler.status("web", "TASK_KILLED")
    assert not taken(port)


def test_meseta_run_maps_ports(machine: Cluster) -> None:
    port = free_port()
    serve = ["run", "--image", in_images.IMAGE, "--mem", "64", "--port", f"{port}:80", "--name", "published", "--detach"]
    (task_id,) = machine.meseta(*serve, "--", "sh", "-c", SERVE).stdout.split()
    assert eventually(lambda: fetched("127.0.0.1", port) == "here\n")
    machine.meseta("task", "kill", task_id)
    nothing_is_left(machine)


def test_without_a_network_there_is_a_loopback(machine: Cluster, scheduler: Scheduler) -> None:
    """Two containers have the same port; both are checked at their own."""
    inside = f"ip addr > addresses; cat /etc/hosts /etc/hostname > names; ls /sys/class/net >> names; {SERVE}"
    for name in ("one", "other"):
        health = {"type": "TCP", "tcp": {"port": 80}, "grace_period_seconds": 30, **PACE}
        scheduler.launch(name, inside, container={**on("none"), "hostname": "alone"}, health_check=health)
    for name in ("one", "other"):
        told = scheduler.status(name, healthy=True)
        assert told["container_status"]["network_infos"] == [{"name": "none"}]
    here = sandbox(machine, "one")
    assert text(here / "addresses").count("inet ") == 1
    assert text(here / "names").splitlines()[-3:] == ["127.0.0.1 alone", "alone", "lo"]


def test_a_check_sees_only_its_own_network(scheduler: Scheduler) -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        health = {"type": "TCP", "tcp": {"port": outside.getsockname()[1]}, "grace_period_seconds": 0, "consecutive_failures": 1, **PACE}
        scheduler.launch("blind", SLEEP, container=on("none"), health_check=health)
        assert scheduler.status("blind", "TASK_KILLED")["healthy"] is False


def test_several_networks_are_joined(machine: Cluster, scheduler: Scheduler) -> None:
    scheduler.launch("both", f"ip addr > addresses; {SLEEP}", container=on("second", "bridge"))
    told = scheduler.status("both")["container_status"]["network_infos"]
    assert [info["name"] for info in told] == ["second", "bridge"]
    addresses = [info["ip_addresses"][0]["ip_address"] for info in told]
    assert [address[:7] for address in addresses] == ["10.202.", "10.201."]
    here = sandbox(machine, "both")
    assert eventually(lambda: all(address in text(here / "addresses") for address in addresses))


@pytest.mark.parametrize(
    ("container", "says"),
    [
        (
            on("nowhere"),
            "network 'nowhere': nothing in .* defines it (--network_cni_config_dir); there are: none, bridge, absent, second, slow",
        ),
        (on("absent"), "network 'absent': the plugin 'not-there' is in none of the folders .* (--network_cni_plugins_dir)"),
        (on("second", ports={8080: 80}), "network 'second': none of its plugins maps ports"),
        (on("none", ports={8080: 80}), "'container.network_infos': ports are mapped to a network of the container's own"),
        (on("bridge", "none"), "'container.network_infos': the network 'none' goes with no other"),
        (on("bridge", ports={70000: 80}), "70000:80 must be ports from 1 to 65535"),
    ],
)
def test_what_cannot_be_had_is_refused_with_the_reason(scheduler: Scheduler, container: dict[str, Any], says: str) -> None:
    scheduler.launch("wrong", SLEEP, container=container)
    message = scheduler.status("wrong", "TASK_FAILED")["message"]
    assert all(part in message for part in says.split(".*")), message


def test_networks_outlive_agent_and_launcher(start_cluster: Callable[..., Cluster], environ: dict[str, str]) -> None:
    """The container stays on its network and keeps its port; at its end nothing is left."""
    machine = start_cluster(agents=1, only="master,agent", environ=environ)
    scheduler, port = Scheduler(machine, "networks"), free_port()
    scheduler.launch("lasting", SERVE, container=on("bridge", ports={port: 80}), health_check=http_health())
    before = scheduler.status("lasting", healthy=True)["container_status"]["network_infos"]
    with unsupervised(machine) as kill_agent:
        kill_agent()
        (pid,) = naming(machine.work_dir, LAUNCHER)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: set(naming(machine.work_dir, LAUNCHER)) - {pid})
        kill_agent()
    eventually(lambda: taken(port))
    assert fetched("127.0.0.1", port) == "here\n"
    (sandbox(machine, "lasting") / "www" / "index.html").unlink()
    ill = scheduler.status("lasting", healthy=False)
    assert ill["container_status"]["network_infos"] == before
    scheduler.close()
    nothing_is_left(machine)
    assert not taken(port)


def test_an_agent_that_dies_while_a_network_is_joined_leaves_nothing(
    start_cluster: Callable[..., Cluster], environ: dict[str, str]
) -> None:
    """The plugin runs on without it; the next agent waits for it, undoes all, and begins anew."""
    plugins = Path(environ["MESETA_NETWORK_CNI_PLUGINS_DIR"].split(":")[0])
    machine = start_cluster(agents=1, only="master,agent", environ=environ)
    scheduler = Scheduler(machine, "networks")
    scheduler.launch("slow", f"ip addr > addresses; {SLEEP}", container=on("slow"))
    eventually(lambda: (plugins / "begun").exists())
    machine.kill("agent-1")
    (plugins / "open").touch()
    told = scheduler.status("slow")["container_status"]["network_infos"]
    assert len(told[0]["ip_addresses"]) == 1
    scheduler.close()
    nothing_is_left(machine)


@pytest.mark.parametrize(("count", "kills"), [(6, 3), pytest.param(40, 15, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_agents_killed_while_containers_come_and_go_leave_nothing(
    start_cluster: Callable[..., Cluster], environ: dict[str, str], count: int, kills: int
) -> None:
    """At random moments, also while real plugins add and delete: each task runs once to its end, and no network is lost."""
    machine = start_cluster(agents=1, only="master,agent", environ={**environ, "MESETA_RESOURCES": "cpus:64;mem:16000"})
    chance = random.Random(count)
    command = [
        "run",
        "--json",
        "--cpus",
        "0.01",
        "--mem",
        "32",
        "--image",
        in_images.IMAGE,
        "--network",
        "bridge",
        "--instances",
        str(count),
    ]
    process = machine.spawn([*MESETA, *command, "--", "sh", "-c", "echo ran >> log; sleep 1; exit 7"], stderr=subprocess.PIPE)
    try:
        with unsupervised(machine) as kill_agent:
            for _ in range(kills):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.uniform(0.2, 2.0))
                kill_agent()
                settled(machine, 120)
        output, errors = process.communicate(timeout=600)
    finally:
        process.kill()
        process.communicate()
    ended = [line for line in map(json.loads, output.splitlines()) if line["type"] == "ended"]
    assert {(line["state"], line["message"]) for line in ended} == {("TASK_FAILED", "Command exited with status 7")}, errors
    assert len(ended) == count
    logs = list(machine.work_dir.glob("agent-1/slaves/latest/frameworks/*/executors/*/runs/latest/log"))
    assert [text(log) for log in logs] == ["ran\n"] * count
    nothing_is_left(machine)
