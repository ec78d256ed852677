"""How a command finds the master when it is given an ensemble."""

from __future__ import annotations

import asyncio

import pytest

from kernel.commands import context
from kernel.commands.context import CommandError, masters
from kernel.election.election import Leader
from kernel.election.zookeeper import ZookeeperContender
from kernel.master.main import master_info
from tests.zookeeper import Zookeeper, free_ports


def test_the_leader_now_is_asked(zookeeper: Zookeeper) -> None:
    url = zookeeper.url("commands")

    async def run() -> list[str]:
        contender = ZookeeperContender(zookeeper.at("commands"), master_info(Leader("m", "127.0.0.1", "127.0.0.1", 5150)), 4.0, 10.0)
        await asyncio.wait_for(contender.contend(), 20)
        found = await asyncio.to_thread(masters, url)
        await contender.withdraw()
        return found

    assert asyncio.run(run()) == ["http://127.0.0.1:5150"]
    assert masters(url, follows=True) == [url]
    with pytest.raises(CommandError, match="no master leads at zk://") as told:
        masters(url)
    assert told.value.field == "--master"


def test_a_silent_ensemble_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "ZK_ANSWER_S", 0.5)
    with pytest.raises(CommandError, match="no ZooKeeper server of zk://127") as told:
        masters(f"zk://me:secret@127.0.0.1:{free_ports(1)[0]}/m")
    assert "secret" not in str(told.value)


def test_a_wrong_address_is_told() -> None:
    with pytest.raises(CommandError, match="no HOST:PORT of a ZooKeeper server"):
        masters("zk://h:x/m")
