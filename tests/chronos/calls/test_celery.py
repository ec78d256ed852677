"""Jobs that send a Celery task, with a real broker (Redis) and a real worker."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chronos import inputs
from chronos.calls import celery
from chronos.calls.celery import CeleryCaller
from chronos.joins import Outcome
from tests import redis
from tests.chronos.calls.given import World, inside, start, within, working


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis.started(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="module")
def worker(broker: str) -> Iterator[str]:
    with working(broker):
        yield broker


def sent(folder: Path, broker: str, call: dict[str, Any], number: int) -> tuple[list[Any], bytes]:
    async def work(world: World) -> tuple[list[Any], bytes]:
        world.calls.start(start({"celery": call}, number))
        await world.ended()
        output = await world.output()
        return world.told, output.stdout if output is not None else b""

    return within(folder, lambda: {"celery": CeleryCaller(broker, "")}, work)


def test_a_task_is_sent_under_our_id_and_followed_to_its_result(tmp_path: Path, worker: str) -> None:
    told, output = sent(tmp_path, worker, {"task": "tests.add", "args": [1], "kwargs": {"b": 2}}, 1)
    assert told == [
        inputs.CallBegan("j@1", "ct:1:1:j:"),
        inputs.CallEnded("j@1", "ct:1:1:j:", Outcome.SUCCESS, "the task succeeded", 0),
    ]
    assert output == b"3"


def test_an_exception_is_a_failure_that_says_what(tmp_path: Path, worker: str) -> None:
    told, output = sent(tmp_path, worker, {"task": "tests.fail"}, 2)
    assert (told[-1].outcome, told[-1].exit_status) == (Outcome.FAILURE, 1)
    assert "it broke" in told[-1].message
    assert b"RuntimeError" in output


@pytest.fixture
def revoked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the tasks that workers are told to end."""
    ids: list[str] = []
    monkeypatch.setattr(celery, "_revoke", lambda app, task_id: ids.append(task_id))
    return ids


def test_a_scheduler_that_stops_leaves_it_alone_whatever_it_waits_for(tmp_path: Path, broker: str, revoked: list[str]) -> None:
    async def stopped(number: int, looks: int) -> None:
        caller = CeleryCaller(broker, "")

        async def work(world: World) -> None:
            world.calls.start(start({"celery": {"task": "tests.add", "queue": "nobody"}}, number))
            await world.until(inputs.CallBegan)
            for _ in range(looks):
                await asyncio.sleep(0)

        await inside(tmp_path, {"celery": caller}, work)
        caller._threads.shutdown(wait=True)

    for looks in range(20):
        asyncio.run(stopped(100 + looks, looks))
    assert revoked == []


def test_one_that_is_ended_or_takes_too_long_is_revoked(tmp_path: Path, broker: str, revoked: list[str]) -> None:
    caller = CeleryCaller(broker, "")

    async def work(world: World) -> None:
        world.calls.start(start({"celery": {"task": "tests.add", "queue": "nobody"}, "timeout": "1s"}, 7))
        assert (await world.ended()).message == "it took longer than 1 s"

    within(tmp_path, lambda: {"celery": caller}, work)
    caller._threads.shutdown(wait=True)
    assert revoked == ["ct:1:7:j:"]


def test_one_that_is_revoked_as_the_scheduler_stops_is_revoked_all_the_same(tmp_path: Path, broker: str, revoked: list[str]) -> None:
    caller, gate = CeleryCaller(broker, ""), threading.Event()

    async def work(world: World) -> None:
        world.calls.start(start({"celery": {"task": "tests.add", "queue": "nobody"}, "timeout": "1s"}, 8))
        await world.until(inputs.CallBegan)
        for _ in range(celery.THREADS):
            caller._threads.submit(gate.wait)
        await world.ended()
        asyncio.get_running_loop().call_soon(gate.set)

    within(tmp_path, lambda: {"celery": caller}, work)
    assert revoked == ["ct:1:8:j:"]


def test_after_a_restart_it_is_followed_again_and_not_sent_again(tmp_path: Path, worker: str) -> None:
    gate = tmp_path / "gate"
    call = {"task": "tests.wait", "args": [str(gate)]}

    async def begin(world: World) -> None:
        world.calls.start(start({"celery": call}, 3))
        await world.until(inputs.CallBegan)

    async def follow(world: World) -> inputs.CallEnded:
        world.calls.start(start({"celery": call}, 3, again=True, begun=True))
        await asyncio.sleep(0)
        gate.touch()
        return await world.ended()

    within(tmp_path, lambda: {"celery": CeleryCaller(worker, "")}, begin)
    ended = within(tmp_path, lambda: {"celery": CeleryCaller(worker, "")}, follow)
    assert (ended.outcome, ended.lost) == (Outcome.SUCCESS, False)


def test_one_that_may_never_have_been_sent_is_lost_after_a_while(tmp_path: Path, broker: str) -> None:
    async def work(world: World) -> inputs.CallEnded:
        world.calls.start(start({"celery": {"task": "tests.add"}}, 4, again=True))
        return await world.ended()

    ended = within(tmp_path, lambda: {"celery": CeleryCaller(broker, "", unknown_s=0.2)}, work)
    assert (ended.outcome, ended.lost) == (Outcome.FAILURE, True)


def test_cancelling_revokes_it(tmp_path: Path, broker: str) -> None:
    async def work(world: World) -> inputs.CallEnded:
        world.calls.start(start({"celery": {"task": "tests.add", "queue": "nobody"}}, 5))
        await world.until(inputs.CallBegan)
        world.calls.cancel(inputs.CancelCall("j@1", "ct:1:5:j:"))
        return await world.ended()

    assert within(tmp_path, lambda: {"celery": CeleryCaller(broker, "")}, work).outcome is Outcome.KILLED


@pytest.mark.parametrize("broker", ["redis://:secret@127.0.0.1:1/0", "nonsense://x", ""])
def test_a_broker_that_is_not_there_is_a_failure_without_its_password(tmp_path: Path, broker: str) -> None:
    told, _ = sent(tmp_path, broker, {"task": "tests.add"}, 6)
    assert told[-1].outcome is Outcome.FAILURE
    assert "secret" not in told[-1].message
