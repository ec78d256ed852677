"""What every election keeps to. A new implementation is added to `ELECTIONS`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from kernel.election.election import Contender, Detector, Leader
from kernel.election.standalone import FixedDetector, StandaloneContender, parse_address
from kernel.election.zookeeper import ZookeeperContender, ZookeeperDetector
from kernel.errors import ConfigError
from kernel.wire.common import Address
from kernel.wire.nodes import MasterInfo

ME = Leader(id="m1", hostname="localhost", ip="127.0.0.1", port=5050)
INFO = MasterInfo(id="m1", ip=16777343, port=5050, address=Address(port=5050, hostname="localhost", ip="127.0.0.1"))
TIMEOUT_S = 4.0


def standalone(request: pytest.FixtureRequest) -> tuple[Contender, Detector]:
    return StandaloneContender(), FixedDetector(ME)


def zookeeper(request: pytest.FixtureRequest) -> tuple[Contender, Detector]:
    ensemble = request.getfixturevalue("zookeeper").at(f"election/{request.node.name}")
    return ZookeeperContender(ensemble, INFO, TIMEOUT_S, 10.0), ZookeeperDetector(ensemble, TIMEOUT_S)


ELECTIONS = [standalone, zookeeper]


@pytest.fixture(params=ELECTIONS, ids=lambda make: make.__name__)
def election(request: pytest.FixtureRequest) -> Callable[[], tuple[Contender, Detector]]:
    """Makes a contender that is ME and a detector, in the running event loop."""
    if request.param is zookeeper:
        request.getfixturevalue("zookeeper")  # Here: it may skip the test.
    return lambda: request.param(request)


def test_the_only_contender_leads_and_is_detected(election: Callable[[], tuple[Contender, Detector]]) -> None:
    async def run() -> Leader | None:
        contender, detector = election()
        await asyncio.wait_for(contender.contend(), 10)
        leader = await asyncio.wait_for(detector.detect(None), 10)
        await contender.withdraw()
        await detector.close()
        return leader

    assert asyncio.run(run()) == ME


def test_a_known_leader_is_told_again_only_when_it_changes(election: Callable[[], tuple[Contender, Detector]]) -> None:
    async def run() -> bool:
        contender, detector = election()
        await asyncio.wait_for(contender.contend(), 10)
        waiting = asyncio.ensure_future(detector.detect(await detector.detect(None)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        told = waiting.done()
        waiting.cancel()
        await contender.withdraw()
        await detector.close()
        return told

    assert not asyncio.run(run())


def test_who_withdraws_has_lost(election: Callable[[], tuple[Contender, Detector]]) -> None:
    async def run() -> None:
        contender, detector = election()
        await asyncio.wait_for(contender.contend(), 10)
        await asyncio.wait_for(contender.confirm(), 10)
        lost = asyncio.ensure_future(contender.lost())
        await asyncio.sleep(0)
        assert not lost.done()
        await contender.withdraw()
        await asyncio.wait_for(lost, 10)
        await detector.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "address"), [("localhost:5050", "localhost:5050"), ("http://m1:80/", "m1:80"), ("[::1]:5050", "[::1]:5050")]
)
def test_an_address_is_read(text: str, address: str) -> None:
    assert parse_address(text).address == address


@pytest.mark.parametrize("text", ["", "localhost", ":5050", "m1:0", "m1:65536", "m1:http", "m1:-1", "m1:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        parse_address(text)
