"""The master's end of the agent link, against a client of aiohttp's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.master import links
from kernel.master.effects import CloseLink, FromAgent, LinkClosed, ToAgent
from kernel.net.auth import Authenticator, Credential
from kernel.wire.agent import AgentFrame, AgentHeartbeat, ExecutorMessage, Goodbye, KillTask, MasterFrame, MasterHeartbeat
from tests.kernel.master.edge import Edge, edge, run

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(MasterFrame).decode


def quiet(message: Any) -> Sequence[Any]:
    return ()


def heartbeating(message: Any) -> Sequence[Any]:
    """Answers each heartbeat, as the core does."""
    if isinstance(message, FromAgent) and isinstance(message.message, AgentHeartbeat):
        return [ToAgent(message.link, MasterHeartbeat())]
    return ()


def connect(master: Edge, **headers: str) -> Any:
    return master.client.ws_connect(master.url + "/agent-link", headers=headers, max_msg_size=0)


def test_messages_go_both_ways_in_numbered_frames() -> None:
    async def test() -> None:
        async with edge(heartbeating) as master, connect(master) as agent:
            for number in (1, 2, 3):
                await agent.send_bytes(encode(AgentFrame(number, (AgentHeartbeat(), AgentHeartbeat()))))
                frame = decode((await agent.receive()).data)
                assert frame == MasterFrame(number, (MasterHeartbeat(), MasterHeartbeat()))
            assert len(master.told(FromAgent)) == 6

    run(test)


@pytest.mark.parametrize("size", [0, 1, 100, 70_000, 3_000_000])
def test_frames_of_any_size_arrive(size: int) -> None:
    def answer(message: Any) -> Sequence[Any]:
        if isinstance(message, FromAgent):
            return [ToAgent(message.link, KillTask("f", "t" * size))]
        return ()

    async def test() -> None:
        async with edge(answer) as master, connect(master) as agent:
            await agent.send_bytes(encode(AgentFrame(1, (ExecutorMessage("f", "e", bytes(size)),))))
            message = await agent.receive()
            assert msgspec.msgpack.decode(message.data) == [1, [["KillTask", "f", "t" * size, None, ""]]]
            (taken,) = master.told(FromAgent)
            assert taken.message.data == bytes(size)

    run(test)


def test_what_is_too_much_for_one_frame_comes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FRAME_BYTES_MAX", 1000)

    def answer(message: Any) -> Sequence[Any]:
        return [ToAgent(message.link, KillTask("f", f"{n:0100}")) for n in range(20)] if isinstance(message, FromAgent) else ()

    async def test() -> None:
        async with edge(answer) as master, connect(master) as agent:
            await agent.send_bytes(encode(AgentFrame(1, (AgentHeartbeat(),))))
            got: list[Any] = []
            number = 0
            while len(got) < 20:
                frame = decode((await agent.receive()).data)
                number += 1
                assert frame.number == number
                got += frame.messages
            assert [int(message.task_id) for message in got] == list(range(20))
            assert number > 1

    run(test)


def test_a_repeated_frame_is_dropped_and_the_link_goes_on() -> None:
    async def test() -> None:
        async with edge(heartbeating) as master, connect(master) as agent:
            for number in (1, 1, 2):
                await agent.send_bytes(encode(AgentFrame(number, (AgentHeartbeat(),))))
            answers = 0
            while answers < 2:
                answers += len(decode((await agent.receive()).data).messages)
            assert len(master.told(FromAgent)) == 2
            assert not agent.closed

    run(test)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xc1"],
        [encode([1, [["NoSuchMessage"]]])],
        [encode([1, [["Register", "one"]]])],
        [encode({"number": 1})],
        [encode(AgentFrame(2, ()))],
        [encode(AgentFrame(1, ())), encode(AgentFrame(3, (AgentHeartbeat(),)))],
        ["text"],
    ],
)
def test_whatever_breaks_the_protocol_closes_the_link(frames: list[bytes | str]) -> None:
    async def test() -> None:
        async with edge(quiet) as master, connect(master) as agent:
            for frame in frames:
                await (agent.send_str(frame) if isinstance(frame, str) else agent.send_bytes(frame))
            closed = await agent.receive()
            assert closed.type is aiohttp.WSMsgType.CLOSE
            assert closed.data == 1002
            await master.until(lambda: master.told(LinkClosed) != [])
            assert master.told(FromAgent) == []

    run(test)


def test_a_frame_beyond_the_limit_closes_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "FRAME_BYTES_MAX", 10_000)

    async def test() -> None:
        async with edge(quiet) as master, connect(master) as agent:
            await agent.send_bytes(encode(AgentFrame(1, (ExecutorMessage("f", "e", bytes(20_000)),))))
            assert (await agent.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            await master.until(lambda: master.told(LinkClosed) != [])

    run(test)


def test_a_link_on_which_nothing_comes_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "REGISTER_S", 0.05)

    async def test() -> None:
        async with edge(quiet) as master, connect(master) as agent:
            assert (await agent.receive()).type is aiohttp.WSMsgType.CLOSE
            await master.until(lambda: master.told(LinkClosed) != [])

    run(test)


def test_the_core_may_end_a_link_after_what_it_sent() -> None:
    def answer(message: Any) -> Sequence[Any]:
        if isinstance(message, FromAgent):
            return [ToAgent(message.link, MasterHeartbeat()), CloseLink(message.link), ToAgent(message.link, MasterHeartbeat())]
        return ()

    async def test() -> None:
        async with edge(answer) as master, connect(master) as agent:
            await agent.send_bytes(encode(AgentFrame(1, (Goodbye(),))))
            assert decode((await agent.receive()).data) == MasterFrame(1, (MasterHeartbeat(),))
            assert (await agent.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            await master.until(lambda: len(master.told(LinkClosed)) == 1)

    run(test)


def test_each_link_has_a_number_of_its_own_and_its_end_is_told_once() -> None:
    async def test() -> None:
        async with edge(quiet) as master:
            for _ in range(3):
                async with connect(master) as agent:
                    await agent.send_bytes(encode(AgentFrame(1, (AgentHeartbeat(),))))
                    await asyncio.sleep(0)
            await master.until(lambda: len(master.told(LinkClosed)) == 3)
            assert [message.link for message in master.told(FromAgent)] == [1, 2, 3]
            assert [message.link for message in master.told(LinkClosed)] == [1, 2, 3]

    run(test)


def test_an_agent_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "BACKLOG_BYTES_MAX", 100_000)

    async def test() -> None:
        async with edge(quiet) as master:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(master.url.rpartition(":")[2]), limit=1000)
            writer.write(
                b"GET /agent-link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            await reader.readuntil(b"\r\n\r\n")
            while not master.told(LinkClosed):
                master.server.perform(ToAgent(1, KillTask("f", "t" * 200_000)))
                master.server.flush()
                await asyncio.sleep(0)
            writer.close()

    run(test)


def test_an_agent_that_hangs_up_while_something_is_sent_harms_nobody() -> None:
    """uvloop raises on writing to a closed transport; the master must not notice."""

    async def test() -> None:
        async with edge(quiet) as master, connect(master) as agent:
            await agent.send_bytes(encode(AgentFrame(1, (AgentHeartbeat(),))))
            await master.until(lambda: master.told(FromAgent) != [])
            for link in master.server._links._links.values():
                link.transport.abort()
            while not master.told(LinkClosed):
                master.server.perform(ToAgent(1, MasterHeartbeat()))
                master.server.flush()
                await asyncio.sleep(0)
            master.server.perform(ToAgent(1, MasterHeartbeat()))
            master.server.perform(CloseLink(1))
            master.server.flush()

    run(test)


def test_an_agent_must_prove_who_it_is_where_that_is_asked() -> None:
    async def test() -> None:
        authenticator = Authenticator([Credential("agent", "s")], ["mesos-master-agent"])
        async with edge(quiet, authenticator=authenticator) as master:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
                async with connect(master):
                    pass
            async with connect(master, Authorization=Credential("agent", "s").header()) as agent:
                assert not agent.closed

    run(test)


def test_a_plain_request_is_told_what_is_expected() -> None:
    async def test() -> None:
        async with edge(quiet) as master, master.client.get(master.url + "/agent-link") as answer:
            assert (answer.status, await answer.text()) == (400, "the agent link is a WebSocket")

    run(test)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    frames=st.lists(st.binary(max_size=60) | st.builds(encode, st.lists(st.integers(0, 3) | st.text() | st.lists(st.text()))), max_size=4)
)
def test_no_frame_breaks_the_master(frames: list[bytes]) -> None:
    async def test() -> None:
        async with edge(heartbeating) as master:
            async with connect(master) as agent:
                for frame in frames:
                    await agent.send_bytes(frame)
            async with connect(master) as agent:
                await agent.send_bytes(encode(AgentFrame(1, (AgentHeartbeat(),))))
                assert decode((await agent.receive()).data).messages == (MasterHeartbeat(),)

    run(test)
