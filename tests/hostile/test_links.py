"""Garbage on the agent link: against a real master from what is no agent, against a real agent from what is no master."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from kernel.wire.agent import (
    AgentFrame,
    AgentHeartbeat,
    FrameworkUpdated,
    Goodbye,
    KillTask,
    MasterFrame,
    MasterHeartbeat,
    Registered,
    RunTask,
    TaskReport,
)
from kernel.wire.framework import FrameworkInfo
from kernel.wire.ids import FrameworkID
from kernel.wire.task import CommandInfo, TaskState
from tests.builders import framework_info, register, task
from tests.cluster import eventually
from tests.hostile.anything import mutated
from tests.hostile.daemons import LIMIT_S, Daemon, Pair, daemons, rest
from tests.kernel.agent.fake_master import FakeMaster

pytestmark = pytest.mark.e2e

encode = msgspec.msgpack.Encoder().encode
UPGRADE = (
    b"GET /agent-link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


# ---- Against the master ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with daemons(tmp_path_factory.mktemp("daemons")) as started:
        yield started


def frames(*batches: Sequence[Any]) -> list[bytes]:
    """What an agent would send, each batch as a frame."""
    return [encode(AgentFrame(number, tuple(batch))) for number, batch in enumerate(batches, 1)]


async def played(port: int, payloads: Sequence[bytes], awaited: int = 0) -> list[Any]:
    """Send frames on a link of their own; return the messages that came: so many, or all until the master ended it."""
    told: list[Any] = []
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{port}/agent-link") as link:
        for payload in payloads:
            await link.send_bytes(payload)
        while (not awaited or len(told) < awaited) and (message := await link.receive()).type is aiohttp.WSMsgType.BINARY:
            told += msgspec.msgpack.decode(message.data, type=MasterFrame).messages
    return told


def play(pair: Pair, payloads: Sequence[bytes], awaited: int = 0) -> list[Any]:
    try:
        return asyncio.run(asyncio.wait_for(played(pair.master.port, payloads, awaited), LIMIT_S))
    except ConnectionError:
        return []  # It ended the link before all was sent.


GARBAGE = {
    "nothing": [b""],
    "not msgpack": [b"\xc1" * 100],
    "a heartbeat before the registration": frames([AgentHeartbeat()]),
    "a farewell before the registration": frames([Goodbye(True)]),
    "the second frame first": frames([], [AgentHeartbeat()])[1:],
    "a frame left out": [frames([register("x", version=99)])[0], *frames([], [], [AgentHeartbeat()])[2:]],
    "a number below": [encode([0, []]), encode([-1, []]), encode([2, []])],
    "a huge number": [encode([2**63, []])],
    "no list": [encode({"number": 1, "messages": []})],
    "an unknown message": [encode([1, [["Rm", "-rf"]]])],
    "another version": frames([register("x", version=2)]),
    "an id that is a path": frames([register("x", agent_id="../../etc")]),
    "less than nothing": [
        encode([1, [["Register", 1, "", "r", "h", "i", 1, [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}]]]])
    ],
    "invalid UTF-8": [encode([1, [["ExecutorExited", "f", "e", 1]]]).replace(b"\xa1f", b"\xa1\xff")],
    "a task of no framework": frames([register("x", tasks=(TaskReport("nobody", task("t", ""), TaskState.TASK_RUNNING),))]),
    "a framework whose id is a path": frames([register("x", frameworks=(FrameworkInfo("u", "n", id=FrameworkID("../x")),))]),
    "deep": [b"\x91" * 1_000_000],
    "long": [b"\xdd\xff\xff\xff\xff" + bytes(1000)],
    "large": [bytes(17 * 1024 * 1024)],
}  # fmt: skip


@pytest.mark.parametrize("payloads", GARBAGE.values(), ids=GARBAGE)
def test_a_link_that_breaks_the_rules_ends_and_that_is_all(pair: Pair, payloads: list[bytes]) -> None:
    assert play(pair, payloads) == []
    pair.check()


RAW = {
    "not masked": b"\x82\x03abc",
    "an opcode that is none": b"\x83\x80\0\0\0\0",
    "a reserved bit": b"\xf2\x80\0\0\0\0",
    "a length beyond all": b"\x82\xff" + b"\xff" * 8 + bytes(4),
    "a length of 2^62": b"\x82\xff\x40" + bytes(11),
    "a long ping": b"\x89\xfe\x10\x00" + bytes(4100),
    "pings without end": b"\x89\x80\0\0\0\0" * 20_000,
    "a message without end": b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 20_000,
    "another message inside of one": b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0",
    "a text": b"\x81\x81\0\0\0\0x",
    "a farewell that is too short": b"\x88\x81\0\0\0\0x",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "random": random.Random(1).randbytes(10_000),
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW)
def test_what_is_no_websocket_ends_and_that_is_all(pair: Pair, sent: bytes) -> None:
    connection = pair.master.send(UPGRADE)
    assert connection.recv(12) == b"HTTP/1.1 101"
    try:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # It has hung up already.
    rest(connection)
    connection.close()
    pair.check()


def leave(pair: Pair, hostname: str) -> None:
    """Have the master forget agents of a test's own, so that it knows what it knew before."""
    for agent in pair.master.client.call({"type": "GET_AGENTS"})["get_agents"].get("agents", ()):
        info = agent["agent_info"]
        if info["hostname"] == hostname:
            pair.master.client.call({"type": "MARK_AGENT_GONE", "mark_agent_gone": {"agent_id": info["id"]}})


def test_a_frame_that_comes_again_is_taken_once(pair: Pair) -> None:
    """Of three registrations and two heartbeats, shuffled, one of each counts."""
    registration, heartbeat = frames([register("again")], [AgentHeartbeat()])
    told = play(pair, [registration, registration, heartbeat, registration, heartbeat], awaited=2)
    assert [type(message) for message in told] == [Registered, MasterHeartbeat]
    leave(pair, "host-again")
    pair.check()


def test_what_another_agent_said_can_be_said_again_and_does_no_harm(pair: Pair) -> None:
    """The registration of the real agent, replayed by somebody: it takes the link over, the real one takes it back."""
    (agent,) = pair.master.client.call({"type": "GET_AGENTS"})["get_agents"]["agents"]
    agent_id = agent["agent_info"]["id"]["value"]
    found = agent["agent_info"]
    again = register("other-run", agent_id=agent_id, hostname=found["hostname"], ip="127.0.0.1", port=found["port"])
    for _ in range(3):
        play(pair, frames([again]), awaited=1)
    eventually(lambda: pair.agent.log.count("link to the master") > 0, LIMIT_S, "the agent notices")
    pair.check()


def test_frames_that_were_changed_on_the_way(pair: Pair) -> None:
    """Registrations with a few bytes changed: most are refused, some make an agent of another name, none harms another."""
    chance = random.Random(7)
    honest = frames([register("changed", tasks=(), frameworks=(framework_info("f", id=FrameworkID("changed-f")),))], [AgentHeartbeat()])

    async def storm() -> None:
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                try:
                    async with session.ws_connect(f"http://127.0.0.1:{pair.master.port}/agent-link") as link:
                        await link.send_bytes(mutated(honest[0], chance))
                        await link.send_bytes(honest[1] if chance.random() < 0.5 else mutated(honest[1], chance))
                        await link.receive()
                except (aiohttp.ClientError, ConnectionError):
                    pass

    asyncio.run(asyncio.wait_for(storm(), LIMIT_S))
    assert "Traceback" not in pair.master.log, pair.master.log[-3000:]
    agents = pair.master.client.call({"type": "GET_AGENTS"})["get_agents"]["agents"]
    real = [agent for agent in agents if agent["agent_info"]["port"] == pair.agent.port]
    assert [agent["active"] for agent in real] == [True]


# ---- Against the agent ----------------------------------------------------------------------------------


class Impostor(FakeMaster):
    """A master that at each new link sends what it was given, before anything else or after the registration."""

    def __init__(self) -> None:
        super().__init__()
        self.garbage: list[bytes] = []
        self.after_registration = False
        self.links = 0

    async def _take(self, message: Any) -> None:
        if self.garbage and not self.after_registration and self.socket is not None:
            await self._spit()
            return
        await super()._take(message)
        if self.garbage and self.after_registration and not isinstance(message, AgentHeartbeat):
            await self._spit()

    async def _spit(self) -> None:
        garbage, self.garbage = self.garbage, []
        for payload in garbage:
            if self.socket is not None and not self.socket.closed:
                await self.socket.send_bytes(payload)


def orders(*messages: Any, number: int = 1) -> list[bytes]:
    return [encode(MasterFrame(number, messages))]


BAD_BEFORE = {
    "nothing": [b""],
    "not msgpack": [b"\xc1"],
    "an order before the registration": orders(RunTask("f", task("t", "m-S1"), True)),
    "a name that is a path": orders(Registered("../../../tmp/x", "m", 1.0, 5.0)),
    "another name": orders(Registered("m-S2", "m", 1.0, 5.0)),
    "heartbeats that make no sense": orders(Registered("m-S1", "m", float("nan"), -1.0)),
    "the second frame first": orders(MasterHeartbeat(), number=2),
    "a huge number": [encode([2**63, []])],
    "an unknown message": [encode([1, [["Rm", "-rf"]]])],
    "deep": [b"\x91" * 1_000_000],
    "large": [bytes(17 * 1024 * 1024)],
}
BAD_AFTER = {
    "invalid UTF-8": [orders(KillTask("f", "t"), number=2)[0].replace(b"\xa1f", b"\xa1\xff")],
    "a task whose id is a path": orders(RunTask("f", task("../../t", "m-S1"), True), number=2),
    "a framework whose id is a path": orders(FrameworkUpdated(framework_info("x", id=FrameworkID("../x"))), number=2),
    "a framework without id": orders(FrameworkUpdated(framework_info("x")), number=2),
    "a task without command": orders(RunTask("f", task("t", "m-S1", command=None), True), number=2),
    "a frame left out": orders(MasterHeartbeat(), number=9),
    "not msgpack": [b"\xff" * 1000],
    "another name": orders(Registered("m-S2", "m", 1.0, 5.0), number=2),
}


def test_an_agent_outlives_any_master(tmp_path: Path) -> None:
    """Whatever the other side says, the task runs on, and its end reaches the next master that makes sense."""

    async def test() -> None:
        async with Impostor() as master:
            agent = Daemon(
                "agent", tmp_path / "agent", "--master", f"127.0.0.1:{master.port}", "--resources", "cpus:1;mem:512", "--no-switch-user"
            )
            try:
                await master.until(lambda: len(master.registrations) == 1)
                script = f"while [ ! -e {tmp_path}/end ]; do sleep 0.05; done; exit 3"
                info = framework_info("f", id=FrameworkID("f"), failover_timeout=1000.0)
                await master.run(task("t", "m-S1", command=CommandInfo(value=script)), info)
                await master.until(lambda: TaskState.TASK_RUNNING in master.states("t"))
                for garbage, after in [*((b, False) for b in BAD_BEFORE.values()), *((b, True) for b in BAD_AFTER.values())]:
                    await attack(master, agent, garbage, after)
                master.received.clear()
                (tmp_path / "end").touch()
                assert await master.ended("t") is TaskState.TASK_FAILED
                assert master.last("t").message == "Command exited with status 3"
            finally:
                await asyncio.to_thread(agent.end, signal.SIGUSR1)
            assert "Traceback" not in agent.log, agent.log
            assert not (tmp_path.parent / "x").exists()

    asyncio.run(asyncio.wait_for(test(), 110))


async def attack(master: Impostor, agent: Daemon, garbage: list[bytes], after: bool) -> None:
    """Have the link end; on the next one but one the agent registers, with its task."""
    before = len(master.registrations)
    if master.socket is not None:
        await master.socket.close()
    master.garbage, master.after_registration = garbage, after
    await master.until(lambda: not master.garbage and len(master.registrations) >= before + (2 if after else 1))
    assert agent.process.poll() is None, agent.log
    told = master.registrations[-1]
    assert told.agent_id == "m-S1"
    assert [(report.task.task_id.value, report.state) for report in told.tasks] == [("t", TaskState.TASK_RUNNING)]
    assert agent.memory_mb() < 400
