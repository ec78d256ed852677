"""The agent's end of the link: frames in order, whatever comes in, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.agent.effects import FromMaster, MasterConnected, MasterLost
from kernel.agent.links import MasterLink
from kernel.election.election import Leader
from kernel.election.standalone import FixedDetector
from kernel.net import loop
from kernel.wire.agent import AgentFrame, AgentHeartbeat, MasterFrame, MasterHeartbeat
from tests.kernel.agent.fake_master import FakeMaster


class End:
    """One link and the inputs it made."""

    def __init__(self, port: int) -> None:
        self.inputs: list[Any] = []
        self._changed = asyncio.Event()
        self.link = MasterLink(FixedDetector(Leader("", "127.0.0.1", "", port)), None, self._post, self._room)
        self.running = asyncio.create_task(self.link.run())

    def _post(self, message: Any) -> None:
        self.inputs.append(message)
        self._changed.set()

    async def _room(self) -> None:
        pass

    async def until(self, condition: Callable[[list[Any]], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition(self.inputs):
                self._changed.clear()
                await self._changed.wait()

    async def connected(self, times: int = 1) -> None:
        await self.until(lambda inputs: inputs.count(MasterConnected()) >= times)


def play(scene: Callable[[FakeMaster, End], Awaitable[None]]) -> None:
    async def stage() -> None:
        async with FakeMaster() as master:
            end = End(master.port)
            try:
                await scene(master, end)
            finally:
                end.running.cancel()
                await asyncio.gather(end.running, return_exceptions=True)

    loop.run(stage())


def test_messages_flow_both_ways() -> None:
    async def scene(master: FakeMaster, end: End) -> None:
        await end.connected()
        for _ in range(3):
            end.link.send(AgentHeartbeat())
        end.link.flush()
        await end.until(lambda inputs: inputs.count(FromMaster(MasterHeartbeat())) == 3)

    play(scene)


def test_a_link_that_ends_is_opened_again_and_starts_anew() -> None:
    async def scene(master: FakeMaster, end: End) -> None:
        await end.connected()
        end.link.send(AgentHeartbeat())
        end.link.flush()
        await end.until(lambda inputs: FromMaster(MasterHeartbeat()) in inputs)
        end.link.drop("for a test")
        await end.connected(2)
        assert [type(message) for message in end.inputs] == [MasterConnected, FromMaster, MasterLost, MasterConnected]
        end.link.send(AgentHeartbeat())
        end.link.flush()
        await end.until(lambda inputs: inputs.count(FromMaster(MasterHeartbeat())) == 2)

    play(scene)


@pytest.mark.parametrize(("number", "taken"), [(1, True), (2, False), (0, False)])
def test_frames_are_taken_in_order_only(number: int, taken: bool) -> None:
    async def scene(master: FakeMaster, end: End) -> None:
        await end.connected()
        assert master.socket is not None
        await master.socket.send_bytes(msgspec.msgpack.encode(MasterFrame(number, (MasterHeartbeat(),))))
        if number == 0:  # A repeat of what was before the first: dropped quietly.
            await master.socket.send_bytes(msgspec.msgpack.encode(MasterFrame(1, (MasterHeartbeat(),))))
            await end.until(lambda inputs: FromMaster(MasterHeartbeat()) in inputs)
            assert len(end.inputs) == 2
        elif taken:
            await end.until(lambda inputs: FromMaster(MasterHeartbeat()) in inputs)
        else:
            await end.connected(2)
            assert FromMaster(MasterHeartbeat()) not in end.inputs

    play(scene)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_garbage_ends_the_link_and_nothing_else(garbage: list[bytes]) -> None:
    async def scene(master: FakeMaster, end: End) -> None:
        await end.connected()
        for piece in garbage:
            if master.socket is not None:
                await master.socket.send_bytes(piece)
        await end.connected(2)
        assert all(isinstance(message, MasterConnected | MasterLost) for message in end.inputs)

    play(scene)


def test_much_at_once_goes_out_in_several_frames() -> None:
    async def scene(master: FakeMaster, end: End) -> None:
        frames: list[AgentFrame] = []
        await end.connected()
        socket = end.link._socket
        assert socket is not None
        original = socket.send_bytes

        async def send(payload: bytes) -> None:
            frames.append(msgspec.msgpack.decode(payload, type=AgentFrame))
            await original(payload)

        socket.send_bytes = send  # type: ignore[method-assign, assignment]
        from kernel.wire.agent import ExecutorMessage

        for index in range(5):
            end.link.send(ExecutorMessage("f", str(index), b"x" * 400_000))
        end.link.flush()
        await master.until(lambda: len(master.received) == 5)
        assert [message.executor_id for message in master.received] == list("01234")
        assert [frame.number for frame in frames] == list(range(1, len(frames) + 1))
        assert len(frames) > 1

    play(scene)
