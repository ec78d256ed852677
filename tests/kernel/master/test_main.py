"""How a master is put together: settings that go together, addresses, who must prove who he is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.election.election import Leader
from kernel.errors import ConfigError
from kernel.master.config import MasterConfig
from kernel.master.main import authenticator, check, master_info, public_address
from kernel.net.auth import Credential
from kernel.net.errors import HttpError
from kernel.wire.nodes import MasterCapability


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "--work-dir: required"),
        ({"registry": "in_memory", "ip": "10.0.0.1"}, "--ip: 10.0.0.1 can be reached by others"),
        ({"registry": "in_memory", "ip": "0.0.0.0"}, "--ip: 0.0.0.0 can be reached by others"),
        ({"registry": "in_memory", "ip": "::"}, "--ip: :: can be reached by others"),
        ({"registry": "in_memory", "ip": "localhost"}, "--ip: 'localhost' is no IP address"),
        ({"zk": "zk://h:2181/m", "registry": "sqlite"}, "--registry: sqlite is for a single master"),
        ({"zk": "zk://secret@h/m"}, "'zk://h/m' is no address of a ZooKeeper ensemble"),
        ({"work_dir": "/x", "min_allocatable_resources": "cpus:lots"}, "--min-allocatable-resources: "),
        ({"work_dir": "/x", "starvation_timeouts": {"a": "-1secs"}}, "--starvation-timeouts: 'a': '-1secs' is not allowed"),
        ({"work_dir": "/x", "starvation_timeouts": {"a b": "1secs"}}, "--starvation-timeouts: 'a b': '1secs' is not allowed"),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as told:
        check(MasterConfig(**settings))  # type: ignore[arg-type]
    assert str(told.value).startswith(problem)


@pytest.mark.parametrize(
    "settings",
    [
        {"work_dir": "/x"},
        {"registry": "in_memory"},
        {"zk": "zk://name:secret@h1,h2:2182/m"},
        {"zk": "zk://h/m", "work_dir": "/x", "registry": "in_memory"},
        {"registry": "in_memory", "ip": "127.5.5.5"},
        {"registry": "in_memory", "ip": "::1"},
        {"registry": "in_memory", "ip": "0.0.0.0", "insecure": True},
        {"registry": "in_memory", "ip": "0.0.0.0", "credentials": "/file"},
    ],
)
def test_settings_that_go_together_pass(settings: dict[str, str]) -> None:
    check(MasterConfig(**settings))  # type: ignore[arg-type]


@pytest.fixture
def credentials(tmp_path: Path) -> str:
    path = tmp_path / "credentials"
    path.write_text('{"credentials": [{"principal": "ops", "secret": "s3"}]}')
    return str(path)


REALMS = ("mesos-master-readonly", "mesos-master-readwrite", "mesos-master-scheduler", "mesos-master-agent")


def guarded(config: MasterConfig) -> list[str]:
    """The realms in which a stranger is refused."""
    asking = authenticator(config)
    found = []
    for realm in REALMS:
        try:
            if asking is not None:
                asking.principal(realm, None)
        except HttpError:
            found.append(realm)
            assert asking is not None
            assert asking.principal(realm, Credential("ops", "s3").header()) == "ops"
    return found


def test_beyond_loopback_everyone_must_be_known(credentials: str) -> None:
    assert guarded(MasterConfig(ip="0.0.0.0", credentials=credentials)) == list(REALMS)


def test_beyond_loopback_no_door_is_left_open_by_a_flag(credentials: str) -> None:
    with pytest.raises(ConfigError, match="--authenticate-agents: cannot be false where others than this machine can call"):
        authenticator(MasterConfig(ip="0.0.0.0", credentials=credentials, authenticate_agents=False))


def test_on_loopback_credentials_ask_everyone_whom_no_flag_lets_in(credentials: str) -> None:
    assert guarded(MasterConfig(credentials=credentials)) == list(REALMS)
    assert guarded(MasterConfig(credentials=credentials, authenticate_http_readonly=False)) == list(REALMS[1:])
    assert guarded(MasterConfig()) == []


def test_the_insecure_ask_whom_a_flag_says_to_ask(credentials: str) -> None:
    assert guarded(MasterConfig(ip="0.0.0.0", insecure=True, credentials=credentials, authenticate_agents=True)) == ["mesos-master-agent"]
    assert guarded(MasterConfig(insecure=True, credentials=credentials)) == []


def test_asking_without_credentials_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="--authenticate-http-readonly: needs --credentials"):
        authenticator(MasterConfig(authenticate_http_readonly=True))


def test_others_are_told_the_advertised_address() -> None:
    assert public_address(MasterConfig(ip="10.0.0.5", port=0), "m", 1234) == Leader("m", "10.0.0.5", "10.0.0.5", 1234)
    config = MasterConfig(ip="0.0.0.0", hostname="m1", advertise_ip="10.0.0.9", advertise_port=80)
    assert public_address(config, "m", 1234) == Leader("m", "m1", "10.0.0.9", 80)
    assert public_address(MasterConfig(ip="0.0.0.0"), "m", 1).ip != "0.0.0.0"


def test_master_info_says_what_this_master_can_do() -> None:
    """QUOTA_V2 would be a promise; it comes with what it names."""
    info = master_info(Leader("m", "m1", "10.0.0.5", 5050))
    assert [capability.type for capability in info.capabilities] == [MasterCapability.AGENT_UPDATE, MasterCapability.AGENT_DRAINING]


def test_master_info_holds_the_address_in_both_forms() -> None:
    info = master_info(Leader("m", "m1", "10.0.0.5", 5050))
    assert (info.ip, info.pid, info.hostname, info.port) == (83886090, "master@10.0.0.5:5050", "m1", 5050)
    assert info.address is not None
    assert (info.address.ip, info.address.hostname, info.address.port) == ("10.0.0.5", "m1", 5050)
