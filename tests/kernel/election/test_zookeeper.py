"""The election on real servers: Mesos's format, who leads when, and that a leader stops acting before another can begin."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from kernel.election.election import Leader
from kernel.election.zookeeper import LABEL, ZookeeperContender, ZookeeperDetector, leader_of, leading, look_up
from kernel.errors import PeerError, Unavailable
from kernel.master.main import master_info
from kernel.zookeeper import Ensemble, parse_url
from tests.zookeeper import Link, Zookeeper, free_ports, started

M1, M2 = (Leader(name, "127.0.0.1", "127.0.0.1", port) for name, port in (("m1", 5050), ("m2", 5051)))
SESSION_S = 2.0
PATIENCE_S = 30.0
LIMIT_S = 30.0

# What a master of Mesos 1.11 writes (spec: mesos-v1, section 9).
SAMPLE = b"""{"address":{"hostname":"m1","ip":"10.0.0.5","port":5050},"capabilities":[{"type":"AGENT_UPDATE"},{"type":"AGENT_DRAINING"},
{"type":"QUOTA_V2"}],"hostname":"m1","id":"7c","ip":83886090,"pid":"master@10.0.0.5:5050","port":5050,"version":"1.11.0"}"""


def contender(ensemble: Ensemble, me: Leader) -> ZookeeperContender:
    return ZookeeperContender(ensemble, master_info(me), SESSION_S, PATIENCE_S)


async def soon(awaitable: Any) -> Any:
    return await asyncio.wait_for(awaitable, LIMIT_S)


async def until(client: KazooClient, path: str, count: int) -> list[str]:
    """The nodes below a path, in order, once there are so many."""
    for _ in range(int(LIMIT_S * 50)):
        if len(names := client.get_children(path)) == count:
            break
        await asyncio.sleep(0.02)
    assert len(names) == count
    return sorted(names)


@pytest.fixture
def here(zookeeper: Zookeeper, request: pytest.FixtureRequest) -> Ensemble:
    """A path of the test's own."""
    return zookeeper.at(f"election/{request.node.name}")


@pytest.fixture
def client(zookeeper: Zookeeper) -> Iterator[KazooClient]:
    """Somebody else's eyes."""
    made = KazooClient(zookeeper.hosts)
    made.start()
    yield made
    made.stop()
    made.close()


@pytest.fixture
def link(zookeeper: Zookeeper) -> Iterator[Link]:
    made = Link(zookeeper.servers[0].port)
    yield made
    made.close()


# ---- The format -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "first"),
    [
        ([], None),
        (["log_replicas", "zookeeper"], None),
        (["json.info_0000000010", "log_replicas", "json.info_0000000009"], "json.info_0000000009"),
        (["json.info_0000000003", "info_0000000002", "0000000004"], "info_0000000002"),
        (["json.info_0000000003", "json.info_", "json.info_x1"], "json.info_0000000003"),
    ],
)
def test_the_lowest_number_leads_whatever_its_label(names: list[str], first: str | None) -> None:
    assert leading(names) == first


def test_what_mesos_writes_is_understood() -> None:
    assert leader_of("json.info_0000000000", SAMPLE) == Leader("7c", "m1", "10.0.0.5", 5050)


def test_a_master_without_an_address_is_where_its_number_says() -> None:
    assert leader_of("json.info_0000000000", b'{"id":"7c","ip":83886090,"port":5050}') == Leader("7c", "10.0.0.5", "10.0.0.5", 5050)


@pytest.mark.parametrize(
    ("name", "data"),
    [("json.info_0000000000", b"{}"), ("json.info_0000000000", b"\x00"), ("info_0000000000", SAMPLE), ("0000000000", SAMPLE)],
)
def test_what_is_not_understood_is_told(name: str, data: bytes) -> None:
    with pytest.raises(PeerError, match="the leader's node"):
        leader_of(name, data)


def test_a_candidate_is_what_existing_detectors_look_for(here: Ensemble, client: KazooClient) -> None:
    async def run() -> tuple[list[str], bytes, Any]:
        first = contender(here, M1)
        await soon(first.contend())
        names = client.get_children(here.path)
        found = client.get(here.below(names[0]))
        await first.withdraw()
        return (names, *found)

    names, data, stat = asyncio.run(run())
    assert len(names) == 1
    assert re.fullmatch(r"json\.info_[0-9]{10}", names[0])
    assert stat.ephemeralOwner
    told = json.loads(data)
    assert told["address"] == {"hostname": "127.0.0.1", "ip": "127.0.0.1", "port": 5050}
    assert (told["id"], told["pid"], told["ip"], told["port"]) == ("m1", "master@127.0.0.1:5050", 16777343, 5050)
    assert client.get_children(here.path) == []


def test_with_a_credential_everyone_reads_and_only_its_owner_writes(zookeeper: Zookeeper, client: KazooClient) -> None:
    ensemble = parse_url(f"zk://me:secret@{zookeeper.hosts}/secured")

    async def run() -> None:
        first = contender(ensemble, M1)
        await soon(first.contend())
        assert look_up(zookeeper.at("secured"), LIMIT_S) == M1
        with pytest.raises(NoAuthError):
            client.set(first.candidate, b"")
        with pytest.raises(NoAuthError):
            client.create("/secured/json.info_", b"", ephemeral=True, sequence=True)
        stranger = contender(parse_url(f"zk://me:wrong@{zookeeper.hosts}/secured"), M2)
        with pytest.raises(Unavailable, match="credentials"):
            await soon(stranger.contend())
        await stranger.withdraw()
        await first.withdraw()

    asyncio.run(run())


# ---- Who leads ------------------------------------------------------------------------------------------


def test_the_next_leads_as_soon_as_the_first_withdraws(here: Ensemble) -> None:
    async def run() -> list[Leader | None]:
        first, second, detector = contender(here, M1), contender(here, M2), ZookeeperDetector(here, SESSION_S)
        await soon(first.contend())
        leaders = [await soon(detector.detect(None))]
        waiting = asyncio.create_task(second.contend())
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        await first.withdraw()
        await soon(waiting)
        leaders.append(await soon(detector.detect(leaders[0])))
        await second.withdraw()
        leaders.append(await soon(detector.detect(leaders[1])))
        await detector.close()
        return leaders

    assert asyncio.run(run()) == [M1, M2, None]


def test_a_leader_that_is_cut_off_stops_acting_before_another_leads(here: Ensemble, link: Link) -> None:
    async def run() -> None:
        first, second = contender(parse_url(f"zk://127.0.0.1:{link.port}{here.path}"), M1), contender(here, M2)
        await soon(first.contend())
        waiting = asyncio.create_task(second.contend())
        acted_s = 0.0

        async def act() -> None:
            nonlocal acted_s
            while True:
                await first.confirm()
                acted_s = time.monotonic()
                await asyncio.sleep(0.01)

        acting = asyncio.create_task(act())
        await asyncio.sleep(SESSION_S / 4)
        link.cut()
        await soon(waiting)
        leads_s = time.monotonic()
        assert not acting.done(), "it waits: it cannot know"
        assert acted_s < leads_s
        link.mend()
        await soon(first.lost())
        with pytest.raises(Unavailable, match="the leadership is lost"):
            await soon(acting)
        assert acted_s < leads_s
        await first.withdraw()
        await second.withdraw()

    asyncio.run(run())


def test_a_leader_goes_on_after_its_connection_broke(here: Ensemble, link: Link) -> None:
    async def run() -> None:
        first = contender(parse_url(f"zk://127.0.0.1:{link.port}{here.path}"), M1)
        await soon(first.contend())
        lost = asyncio.ensure_future(first.lost())
        for _ in range(2):
            link.drop()
            await asyncio.sleep(SESSION_S)  # Its lease would have run out.
            await soon(first.confirm())
        assert not lost.done()
        await first.withdraw()

    asyncio.run(run())


def test_a_leader_leaves_a_server_that_does_not_answer(here: Ensemble, zookeeper: Zookeeper) -> None:
    """It can reach the ensemble by two ways, and each is cut for longer than a session lasts."""
    ways = [Link(zookeeper.servers[0].port) for _ in range(2)]

    async def run() -> None:
        first = contender(parse_url(f"zk://127.0.0.1:{ways[0].port},127.0.0.1:{ways[1].port}{here.path}"), M1)
        await soon(first.contend())
        lost = asyncio.ensure_future(first.lost())
        for way in ways:
            way.cut()
            await asyncio.sleep(SESSION_S * 1.5)  # On that way the session would be over.
            await soon(first.confirm())
            way.mend()
        assert not lost.done()
        await first.withdraw()

    try:
        asyncio.run(run())
    finally:
        for way in ways:
            way.close()


def test_a_leader_whose_candidate_is_removed_leads_no_more(here: Ensemble, client: KazooClient) -> None:
    async def run() -> None:
        first = contender(here, M1)
        await soon(first.contend())
        client.delete(first.candidate)
        await soon(first.lost())
        with pytest.raises(Unavailable):
            await first.confirm()
        await first.withdraw()

    asyncio.run(run())


def test_a_candidate_that_is_removed_before_it_leads_enters_anew(here: Ensemble, client: KazooClient) -> None:
    async def run() -> None:
        first, second = contender(here, M1), contender(here, M2)
        await soon(first.contend())
        waiting = asyncio.create_task(second.contend())
        names = await until(client, here.path, 2)
        client.delete(here.below(names[1]))
        assert await until(client, here.path, 2) != names
        await first.withdraw()
        await soon(waiting)
        await second.withdraw()

    asyncio.run(run())


def test_a_second_candidate_of_ours_does_not_keep_us_from_leading(here: Ensemble) -> None:
    """The answer to the request that made the first was lost."""

    async def run() -> str:
        first = contender(here, M1)
        lost = await soon(first._enter())
        await soon(first.contend())
        assert first.candidate == lost
        await first.withdraw()
        return lost

    assert LABEL in asyncio.run(run())


def test_an_ensemble_that_goes_and_comes_back_changes_nothing(tmp_path: Path) -> None:
    """Sessions are in its log: it takes the time that passed for none. The leader does not act meanwhile."""

    async def run(zookeeper: Zookeeper) -> None:
        here = zookeeper.at("m")
        first, detector = contender(here, M1), ZookeeperDetector(here, SESSION_S)
        await soon(first.contend())
        leader = await soon(detector.detect(None))
        changed = asyncio.ensure_future(detector.detect(leader))
        lost = asyncio.ensure_future(first.lost())
        zookeeper.kill()
        await asyncio.sleep(SESSION_S * 2)
        confirming = asyncio.ensure_future(first.confirm())
        done, _ = await asyncio.wait([confirming], timeout=0.2)
        assert not done
        await asyncio.to_thread(zookeeper.start)
        await soon(confirming)
        assert not lost.done()
        assert not changed.done()
        changed.cancel()
        await detector.close()
        await first.withdraw()

    with started(tmp_path / "own", 1) as zookeeper:
        asyncio.run(run(zookeeper))


def test_a_leader_gives_up_when_nobody_answers_for_too_long(here: Ensemble, link: Link) -> None:
    async def run() -> None:
        first = ZookeeperContender(parse_url(f"zk://127.0.0.1:{link.port}{here.path}"), master_info(M1), SESSION_S, 1.0)
        await soon(first.contend())
        link.cut()
        await asyncio.sleep(SESSION_S)
        with pytest.raises(Unavailable, match="has not confirmed that we lead for 1 s"):
            await soon(first.confirm())
        await first.withdraw()

    asyncio.run(run())


# ---- Detecting ------------------------------------------------------------------------------------------


def test_a_leader_that_cannot_be_understood_is_none(here: Ensemble, client: KazooClient) -> None:
    async def run() -> None:
        first, detector = contender(here, M1), ZookeeperDetector(here, SESSION_S)
        await soon(first.contend())
        leader = await soon(detector.detect(None))
        client.create(here.below("info_0000000000"), b"\x0a\x02m0")  # A lower number than any: of an old Mesos.
        assert await soon(detector.detect(leader)) is None
        client.delete(here.below("info_0000000000"))
        assert await soon(detector.detect(None)) == M1
        await detector.close()
        await first.withdraw()

    client.ensure_path(here.path)
    client.create(here.below("json.info_"), b"", ephemeral=True, sequence=True)  # So that M1 is not number 0.
    client.delete(here.below("json.info_0000000000"))
    asyncio.run(run())


def test_the_last_leader_stays_while_the_ensemble_is_away(here: Ensemble, link: Link) -> None:
    async def run() -> None:
        first, detector = contender(here, M1), ZookeeperDetector(parse_url(f"zk://127.0.0.1:{link.port}{here.path}"), SESSION_S)
        await soon(first.contend())
        leader = await soon(detector.detect(None))
        link.cut()
        await first.withdraw()
        change = asyncio.ensure_future(detector.detect(leader))
        done, _ = await asyncio.wait([change], timeout=SESSION_S * 1.5)
        assert not done
        link.mend()
        assert await soon(change) is None
        await detector.close()

    asyncio.run(run())


def test_all_who_contend_are_found_and_nothing_else(here: Ensemble, client: KazooClient) -> None:
    async def run() -> None:
        first, second, detector = contender(here, M1), contender(here, M2), ZookeeperDetector(here, SESSION_S)
        assert await soon(detector.candidates()) == []
        await soon(first.contend())
        waiting = asyncio.create_task(second.contend())
        client.create(here.below("info_0000000007"), b"\x0a\x02m0")
        client.create(here.below("log"), b"")
        while len(found := await soon(detector.candidates())) < 2:
            assert not waiting.done()
        assert sorted(found, key=lambda one: one.id) == [M1, M2]
        waiting.cancel()
        await second.withdraw()
        assert await soon(detector.candidates()) == [M1]
        await first.withdraw()
        await detector.close()

    asyncio.run(run())


@pytest.mark.parametrize("path", ["nothing/here", ""])
def test_where_nobody_ever_led_nobody_does(zookeeper: Zookeeper, path: str) -> None:
    assert look_up(zookeeper.at(path), LIMIT_S) is None


def test_servers_that_do_not_answer_are_told() -> None:
    with pytest.raises(Unavailable, match="no ZooKeeper server of zk://127"):
        look_up(parse_url(f"zk://127.0.0.1:{free_ports(1)[0]}/m"), 1.0)
