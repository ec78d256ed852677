"""Addresses of ZooKeeper ensembles, and what a session does with requests when connections break."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kazoo.exceptions import NoNodeError

from kernel.errors import ConfigError
from kernel.master.config import MasterConfig
from kernel.net.common import flags
from kernel.zookeeper import Ensemble, Session, TransactionFailed, get, parse_url
from tests.zookeeper import Link, Zookeeper, free_ports


@pytest.mark.parametrize(
    ("text", "ensemble"),
    [
        ("zk://h1", Ensemble("h1:2181", "/")),
        ("zk://h1:2181,h2:2182/", Ensemble("h1:2181,h2:2182", "/")),
        ("zk://10.0.0.1:2181,[::1]:2181,h3/mesos/a/", Ensemble("10.0.0.1:2181,[::1]:2181,h3:2181", "/mesos/a")),
        ("zk://user:pass@word@h1/m", Ensemble("h1:2181", "/m", "user:pass@word")),
        ("zk://user:@h1/m@n", Ensemble("h1:2181", "/m@n", "user:")),
    ],
)
def test_an_address_is_read(text: str, ensemble: Ensemble) -> None:
    assert parse_url(text) == ensemble


@pytest.mark.parametrize(
    "text", ["h1:2181/m", "zk://", "zk:///m", "zk://h1,/m", "zk://h1:0/m", "zk://h1:x/m", "zk://user@h1/m", "zk://h1//m", "zk://h1/a/../b"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="zk://"):
        parse_url(text)


def test_no_message_shows_the_password() -> None:
    assert flags(MasterConfig(zk="zk://me:secret@h1/m"))["zk"] == "zk://h1/m"
    assert "secret" not in f"{parse_url('zk://me:secret@h1/m')} {parse_url('zk://me:secret@h1/m')!r}"
    with pytest.raises(ConfigError) as told:
        parse_url("zk://me:secret@h1:x/m")
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("module", ["kernel.master.main", "kernel.agent.main", "frameworks.sdk.framework", "kernel.commands.context"])
def test_those_without_an_ensemble_do_not_load_kazoo(module: str) -> None:
    code = f"import sys, {module}; sys.exit('kazoo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- Sessions -------------------------------------------------------------------------------------------


@pytest.fixture
def link(zookeeper: Zookeeper) -> Iterator[Link]:
    made = Link(zookeeper.servers[0].port)
    yield made
    made.close()


def test_a_read_outlives_broken_connections(link: Link) -> None:
    async def run() -> list[bool]:
        session = Session(parse_url(f"zk://127.0.0.1:{link.port}/"), 10.0)
        answered = []
        for _ in range(5):
            reading = asyncio.create_task(session.read_all([get("/")] * 300))
            await asyncio.sleep(0)
            link.drop()
            answered.append(len(await asyncio.wait_for(reading, 30)) == 300)
        await session.close()
        return answered

    assert asyncio.run(run()) == [True] * 5


def test_an_ensemble_that_is_not_reached_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("kernel.zookeeper.UNREACHED_S", 0.01)
    (port,) = free_ports(1)

    async def run() -> None:
        session = Session(parse_url(f"zk://me:secret@127.0.0.1:{port}/m"), 10.0)
        async with asyncio.timeout(30):
            while not caplog.messages:  # noqa: ASYNC110 - What is logged wakes nobody up.
                await asyncio.sleep(0.01)
        await session.close()

    asyncio.run(run())
    assert caplog.messages == [f"zk://127.0.0.1:{port}/m is not reached yet; still trying"]


def test_a_request_waits_for_a_connection(link: Link) -> None:
    async def run() -> bool:
        link.cut()
        session = Session(parse_url(f"zk://127.0.0.1:{link.port}/"), 10.0)
        reading = asyncio.create_task(session.read(get("/")))
        done, _ = await asyncio.wait([reading], timeout=0.5)
        link.mend()
        await asyncio.wait_for(reading, 30)
        await session.close()
        return not done

    assert asyncio.run(run())


def test_a_transaction_says_which_operation_failed(zookeeper: Zookeeper) -> None:
    async def run() -> TransactionFailed:
        session = Session(zookeeper.at(""), 10.0)
        await session.read(get("/"))
        with pytest.raises(TransactionFailed) as failed:
            await session.commit(lambda transaction: (transaction.create("/made"), transaction.delete("/missing")))  # type: ignore[arg-type, return-value]
        with pytest.raises(NoNodeError):
            await session.ask(get("/made"))
        await session.close()
        return failed.value

    failed = asyncio.run(run())
    assert failed.index == 1
    assert isinstance(failed.reason, NoNodeError)


def test_the_time_that_the_server_grants_is_known(zookeeper: Zookeeper) -> None:
    """It bounds a leader's lease."""

    async def run() -> float:
        session = Session(zookeeper.at(""), 3600.0)
        await session.read(get("/"))
        await session.close()
        return session.timeout_s

    assert asyncio.run(run()) == pytest.approx(20 * 0.5)  # Twenty ticks at most.
