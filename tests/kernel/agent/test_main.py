"""Settings that depend on the machine, what is announced, and what is kept over a power loss."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.agent import detect
from kernel.agent.config import AgentConfig
from kernel.agent.main import authenticator, complete, executor_key, node, open_store
from kernel.errors import ConfigError, StoreError
from kernel.wire.resources import Resources


def tear(work_dir: Path) -> None:
    """What a power loss may do to a file that was not synced."""
    for leftover in work_dir.glob("agent.db*"):
        leftover.write_bytes(b"torn" * 4096)


def config(tmp_path: Path, **settings: object) -> AgentConfig:
    return AgentConfig(work_dir=str(tmp_path), **settings)  # type: ignore[arg-type]


def test_beyond_loopback_nobody_is_let_in_unasked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--http-credentials"):
        complete(config(tmp_path, ip="0.0.0.0"))
    assert complete(config(tmp_path, ip="0.0.0.0", insecure=True)).public_ip not in ("", "0.0.0.0")
    (tmp_path / "c").write_text('{"credentials":[{"principal":"p","secret":"s"}]}')
    asked = config(tmp_path, ip="0.0.0.0", http_credentials=str(tmp_path / "c"))
    assert complete(asked).ip == "0.0.0.0"
    assert authenticator(asked) is not None
    assert authenticator(config(tmp_path)) is None
    with pytest.raises(ConfigError, match="--http-credentials"):
        authenticator(config(tmp_path, authenticate_http_readonly=True))


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--ip"):
        complete(config(tmp_path, ip="nonsense"))
    with pytest.raises(ConfigError, match="--resources"):
        node(config(tmp_path, resources="cpus:x"))
    with pytest.raises(ConfigError, match="--attributes"):
        node(config(tmp_path, attributes="nonsense"))
    with pytest.raises(ConfigError, match="--domain"):
        node(config(tmp_path, domain={"fault_domain": 1}))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--work-dir"):
        complete(replace(config(tmp_path), work_dir=str(tmp_path / "file" / "below")))


def test_only_root_switches_users(tmp_path: Path) -> None:
    assert complete(config(tmp_path)).switch_user is (os.geteuid() == 0)
    assert complete(config(tmp_path, switch_user=False)).switch_user is False


def test_what_is_not_given_is_detected(tmp_path: Path) -> None:
    found = Resources.of(detect.resources("", "*", tmp_path).resources)
    assert found.cpus == len(os.sched_getaffinity(0)) * 1000
    assert found.mem > 0
    assert found.disk > 0
    assert "ports:[31000-32000]" in str(found)


def test_what_is_given_counts(tmp_path: Path) -> None:
    found = Resources.of(detect.resources("cpus:8;ports:[1-2];widgets:{a}", "*", tmp_path).resources)
    assert found.cpus == 8000
    assert found.mem > 0
    assert "ports:[1-2]" in str(found)
    assert "widgets:{a}" in str(found)
    assert "31000" not in str(found)


def test_resources_get_the_default_role(tmp_path: Path) -> None:
    (cpus, *_) = detect.resources("cpus:8;mem(dev):1;disk:1;ports:[1-1]", "prod", tmp_path).resources
    assert Resources.of((cpus,)) == Resources.parse("cpus(prod):8") or cpus.name != "cpus"


def test_an_unreadable_store_counts_only_while_the_machine_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        store, entries = await open_store(tmp_path, "boot-1")
        assert entries == {}
        await store.write([("agent", b"x")])
        await store.close()
        store, entries = await open_store(tmp_path, "boot-1")
        assert entries == {"agent": b"x"}
        with pytest.raises(StoreError, match="in use"):
            await open_store(tmp_path, "boot-2")
        await store.close()
        tear(tmp_path)
        with pytest.raises(StoreError):
            await open_store(tmp_path, "boot-1")
        store, entries = await open_store(tmp_path, "boot-2")
        assert entries == {}
        await store.close()

    asyncio.run(scene())


def test_the_key_of_executors_is_made_once_for_the_agent_alone(tmp_path: Path) -> None:
    assert executor_key(config(tmp_path)) == b""
    asking = config(tmp_path, authenticate_http_executors=True)
    key = executor_key(asking)
    assert len(key) == 64
    assert executor_key(asking) == key
    assert (tmp_path / "meta" / "executor_key").stat().st_mode & 0o777 == 0o600
    assert executor_key(config(tmp_path / "other", authenticate_http_executors=True)) != key


def test_a_key_that_was_not_written_whole_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "executor_key.new").write_text("half")
    assert len(executor_key(config(tmp_path, authenticate_http_executors=True))) == 64


def test_the_key_of_executors_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    assert executor_key(config(tmp_path, jwt_secret_key=str(tmp_path / "key"))) == b"secret"
    (tmp_path / "key").write_text("\n")
    for path in ("key", "none"):
        with pytest.raises(ConfigError):
            executor_key(config(tmp_path, jwt_secret_key=str(tmp_path / path)))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"reservations": [{"type": "DYNAMIC", "role": "eng"}]}, "made by operations"),
        ({"disk": {"persistence": {"id": "v"}}, "role": "eng"}, "made by operations"),
        ({"disk": {"source": {"type": "RAW"}}}, "allowed are PATH and MOUNT"),
        ({"disk": {"source": {"type": "MOUNT", "mount": {}}}}, "needs a root"),
        ({"disk": {"source": {"type": "PATH", "path": {"root": "../up"}}}}, "needs a root without"),
        ({"disk": {"source": {"type": "PATH", "path": {"root": "/no/such/folder"}}}}, "/no/such/folder is no folder"),
    ],
)
def test_resources_that_no_agent_begins_with(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    given = json.dumps([{"name": "disk", "type": "SCALAR", "scalar": {"value": 10}, **fields}])
    with pytest.raises(ConfigError, match=f"--resources.*{told}"):
        detect.resources(given, "*", tmp_path)


def test_disks_and_roles_in_json(tmp_path: Path) -> None:
    (tmp_path / "fast").mkdir()
    disk = {"name": "disk", "type": "SCALAR", "scalar": {"value": 10}, "disk": {"source": {"type": "PATH", "path": {"root": "fast"}}}}
    found = Resources.of(detect.resources(json.dumps([disk, {**disk, "role": "eng"}]), "prod", tmp_path).resources)
    assert sorted(key.role for key in found.other or () if key.disk is not None) == ["eng", "prod"]
