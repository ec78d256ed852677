"""Following a task's output, against an agent of a few lines."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable

from frameworks.run.output import Follower

SANDBOX = "/frameworks/f/executors/t/runs/latest"


class Agent:
    """Serves READ_FILE from a dictionary of virtual paths."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken = False
        self.asked = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = int(head.split("content-length: ")[1].split("\r\n")[0])
                call = json.loads(await reader.readexactly(length))["read_file"]
                data = self.files.get(call["path"])
                if self.broken:
                    status, body = 500, b"no"
                elif data is None:
                    status, body = 404, b"no such file"
                else:
                    piece = data[call["offset"] : call["offset"] + min(call["length"], 65536)]
                    answer = {"type": "READ_FILE", "read_file": {"size": len(data), "data": base64.b64encode(piece).decode()}}
                    status, body = 200, json.dumps(answer).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                self.asked.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def follow(script: Callable[[Agent, Follower, dict[str, bytes]], Awaitable[None]]) -> tuple[dict[str, bytes], str | None]:
    """Run a script beside a follower; return what it copied and what it ended with."""
    copied = {"stdout": b"", "stderr": b""}

    def write(stream: str, data: bytes) -> None:
        copied[stream] += data

    async def main() -> str | None:
        agent = Agent()
        server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
        follower = Follower(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "f", "t", None, write)
        running = asyncio.create_task(follower.run())
        async with asyncio.timeout(20):
            await script(agent, follower, copied)
            result = await running
        server.close()
        return result

    return copied, asyncio.run(main())


async def reached(holds: Callable[[], bool]) -> None:
    """Poll until something holds (the caller has a deadline)."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def test_output_is_copied_as_it_comes_and_to_the_end() -> None:
    async def script(agent: Agent, follower: Follower, copied: dict[str, bytes]) -> None:
        agent.files[f"{SANDBOX}/stdout"] = b"one\n"
        await reached(lambda: copied["stdout"] == b"one\n")
        agent.files[f"{SANDBOX}/stdout"] += b"two\n"
        agent.files[f"{SANDBOX}/stderr"] = b"\xff\xfe"
        follower.end()

    assert follow(script) == ({"stdout": b"one\ntwo\n", "stderr": b"\xff\xfe"}, None)


def test_what_is_longer_than_one_answer_comes_whole() -> None:
    data = bytes(range(256)) * 1000

    async def script(agent: Agent, follower: Follower, copied: dict[str, bytes]) -> None:
        agent.files[f"{SANDBOX}/stdout"] = data
        follower.end()

    assert follow(script)[0]["stdout"] == data


def test_a_task_without_a_sandbox_has_no_output() -> None:
    async def script(agent: Agent, follower: Follower, copied: dict[str, bytes]) -> None:
        follower.end()

    assert follow(script) == ({"stdout": b"", "stderr": b""}, None)


def test_an_agent_that_fails_for_a_moment_is_asked_again() -> None:
    async def script(agent: Agent, follower: Follower, copied: dict[str, bytes]) -> None:
        agent.broken = True
        agent.files[f"{SANDBOX}/stdout"] = b"late"
        await agent.asked.wait()
        follower.end()
        agent.asked.clear()
        await agent.asked.wait()
        agent.broken = False

    assert follow(script) == ({"stdout": b"late", "stderr": b""}, None)
