"""The agent's HTTP rules: which status answers what, in which order (spec: mesos-v1, sections 1.2, 3.1 and 4.2)."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from kernel.agent import stream_api
from kernel.agent.core import AgentCore
from kernel.agent.effects import (
    CloseExecutorStream,
    ContainerEnded,
    ContainerExited,
    ContainerStarted,
    Exit,
    FromMaster,
    LaunchContainer,
    LauncherState,
    MasterConnected,
    ToExecutor,
)
from kernel.agent.isolators.limits import Usage
from kernel.agent.server import AgentServer
from kernel.agent.state import Identity, Node
from kernel.agent.token import Claims, sign
from kernel.clock import SystemClock
from kernel.mainloop import MainLoop
from kernel.net.auth import Authenticator, Credential
from kernel.store.memory import MemoryStore
from kernel.wire.agent import FrameworkUpdated, Registered, RunTask, RunTaskGroup, ShutdownFramework
from kernel.wire.task import ExecutorType, TaskState
from tests.builders import executor, resources
from tests.kernel.agent.desk import AGENT_ID, CONFIG, command, framework

EXECUTOR, OPERATOR = "/api/v1/executor", "/api/v1"
IDS = {"framework_id": {"value": "f"}, "executor_id": {"value": "e"}}
SUBSCRIBE = {**IDS, "type": "SUBSCRIBE", "subscribe": {}}
STATUS = {"task_id": {"value": "t"}, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": "MDEyMzQ1Njc4OWFiY2RlZg=="}
JSON = {"Content-Type": "application/json"}


class FakeContainers:
    """In the place of those who run containers."""

    async def usage(self, pids: Mapping[str, int]) -> dict[str, Usage]:
        return dict.fromkeys(pids, Usage(user_s=1.5, mem_bytes=1000))

    async def prune(self, keep: Collection[str]) -> None:
        assert list(keep) == ["web:1"]


async def discard(path: str) -> None:
    """In the place of the collector."""
    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


class Stage:
    """An agent's core, main loop and server, without launcher and master."""

    def __init__(self, work_dir: Path, client: aiohttp.ClientSession, server: AgentServer, loop: MainLoop, launches: list[str]) -> None:
        self.work_dir, self.client, self.server, self.loop, self.launches = work_dir, client, server, loop, launches

    async def recover(self) -> None:
        await self.loop.submit(LauncherState(()))
        await self.loop.submit(MasterConnected())
        for message in (Registered(AGENT_ID, "m", 3.0, 9.0), FrameworkUpdated(framework("f"))):
            await self.loop.submit(FromMaster(message))

    async def run(self, task: Any) -> str:
        await self.loop.submit(FromMaster(RunTask("f", task, True)))
        return self.launches[-1]

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.client.post(path, data=data, headers=JSON if headers is None else headers) as response:
            return response.status, await response.text()

    async def subscribe(self) -> aiohttp.ClientResponse:
        return await self.client.post(EXECUTOR, data=json.dumps(SUBSCRIBE), headers=JSON)

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(path) as response:
            return response.status, await response.text()


def play(
    work_dir: Path,
    scene: Callable[[Stage], Awaitable[None]],
    authenticator: Authenticator | None = None,
    recovered: bool = True,
    executor_key: bytes = b"",
) -> None:
    async def stage() -> None:
        config = replace(CONFIG, work_dir=str(work_dir))
        server = AgentServer(config, authenticator, executor_key)
        clock = SystemClock()
        core = AgentCore(config, Identity("run", b"12345678", "boot"), Node(resources("cpus:1")), {}, clock.now())
        launches: list[str] = []

        def perform(effect: Any) -> None:
            match effect:
                case ToExecutor(stream, event):
                    server.streams.send(stream, event)
                case CloseExecutorStream(stream):
                    server.streams.close(stream)
                case ContainerEnded():
                    server.waiters.tell(effect.name, effect)
                case LaunchContainer(container_id):
                    launches.append(container_id)
                case _:
                    pass  # What goes to master and launcher is not looked at here.

        loop = MainLoop(core, MemoryStore(), perform, lambda: None, clock)
        port = await server.start("127.0.0.1", 0)
        server.begin(loop, lambda: core.state.recovered, FakeContainers(), dict, dict, discard)
        running = asyncio.create_task(loop.run())
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            found = Stage(work_dir, client, server, loop, launches)
            if recovered:
                await found.recover()
            async with asyncio.timeout(30):
                await scene(found)
        loop.stop()
        await running
        await server.stop()

    asyncio.run(stage())


def test_until_it_has_recovered_an_agent_answers_503(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert (await stage.post(EXECUTOR, SUBSCRIBE))[0] == 503
        assert (await stage.post(EXECUTOR, {**IDS, "type": "HEARTBEAT"}))[0] == 202
        assert (await stage.post(EXECUTOR, b"{"))[0] == 400
        assert (await stage.post(OPERATOR, {"type": "GET_HEALTH"}))[0] == 503
        assert [(await stage.get(path))[0] for path in ("/state", "/health", "/version")] == [503, 503, 200]
        await stage.recover()
        assert [(await stage.get(path))[0] for path in ("/state", "/slave(1)/state.json", "/health")] == [200, 200, 200]

    play(tmp_path, scene, recovered=False)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[]", JSON, 400),
        (b"", JSON, 400),
        ({**IDS}, JSON, 400),
        ({**IDS, "type": "NONSENSE"}, JSON, 400),
        ({**IDS, "type": "UNKNOWN"}, JSON, 403),
        ({**IDS, "type": "UNKNOWN", "executor_id": {"value": "unknown"}}, JSON, 400),
        ({"type": "SUBSCRIBE", "subscribe": {}}, JSON, 400),
        ({**IDS, "type": "SUBSCRIBE"}, JSON, 400),
        (SUBSCRIBE, {"Content-Type": "text/plain"}, 415),
        (SUBSCRIBE, {**JSON, "Accept": "text/html"}, 406),
        ({**SUBSCRIBE, "framework_id": {"value": "unknown"}}, JSON, 400),
        ({**SUBSCRIBE, "executor_id": {"value": "unknown"}}, JSON, 400),
        ({**IDS, "type": "MESSAGE", "message": {"data": "eA=="}}, JSON, 403),
        ({**IDS, "type": "UPDATE", "update": {"status": STATUS}}, JSON, 403),
        ({**IDS, "type": "UPDATE", "update": {"status": {**STATUS, "uuid": "c2hvcnQ="}}}, JSON, 400),
        ({**IDS, "type": "UPDATE", "update": {"status": {**STATUS, "source": "SOURCE_MASTER"}}}, JSON, 400),
        ({**IDS, "type": "UPDATE", "update": {"status": {"task_id": {"value": "t"}, "state": "NONSENSE"}}}, JSON, 400),
        ({**IDS, "type": "HEARTBEAT"}, JSON, 202),
        (b" " * (8 * 1024 * 1024 + 1), JSON, 413),
    ],
)
def test_statuses_of_the_executor_api(tmp_path: Path, body: Any, headers: dict[str, str], status: int) -> None:
    async def scene(stage: Stage) -> None:
        await stage.run(command("t", executor=executor("e")))
        found, text = await stage.post(EXECUTOR, body, headers)
        assert found == status, text

    play(tmp_path, scene)


def test_a_get_of_the_executor_api_is_not_allowed(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        async with stage.client.get(EXECUTOR) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")

    play(tmp_path, scene)


def test_an_executor_subscribes_gets_its_task_and_reports(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t", executor=executor("e")))
        response = await stage.subscribe()
        assert (response.status, response.headers["Content-Type"]) == (200, "application/json")

        async def event() -> Any:
            length = int(await response.content.readuntil(b"\n"))
            return json.loads(await response.content.readexactly(length))

        subscribed = await event()
        assert subscribed["type"] == "SUBSCRIBED"
        assert subscribed["subscribed"]["framework_info"]["id"] == {"value": "f"}
        assert subscribed["subscribed"]["container_id"] == {"value": container}
        assert (await event())["launch"]["task"]["task_id"] == {"value": "t"}
        status = {"task_id": {"value": "t"}, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "uuid": "MDEyMzQ1Njc4OWFiY2RlZg=="}
        assert (await stage.post(EXECUTOR, {**IDS, "type": "UPDATE", "update": {"status": status}}))[0] == 202
        assert (await stage.post(EXECUTOR, {**IDS, "type": "UNKNOWN"}))[0] == 501
        acknowledged = await event()
        assert acknowledged["acknowledged"] == {"task_id": {"value": "t"}, "uuid": status["uuid"]}
        assert stage.loop.core.state.frameworks["f"].tasks["t"].state is TaskState.TASK_RUNNING  # type: ignore[attr-defined]
        response.close()

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ({"type": "GET_HEALTH"}, 200),
        ({"type": "GET_VERSION"}, 200),
        ({"type": "GET_FLAGS"}, 200),
        ({"type": "GET_METRICS", "get_metrics": {}}, 200),
        ({"type": "GET_METRICS"}, 400),
        ({"type": "GET_STATE"}, 200),
        ({"type": "GET_TASKS"}, 200),
        ({"type": "GET_CONTAINERS"}, 200),
        ({"type": "GET_AGENT"}, 200),
        ({"type": "GET_LOGGING_LEVEL"}, 200),
        ({"type": "SET_LOGGING_LEVEL", "set_logging_level": {"level": 9, "duration": {"nanoseconds": 1}}}, 400),
        ({"type": "LIST_FILES", "list_files": {"path": "/nowhere"}}, 404),
        ({"type": "LAUNCH_NESTED_CONTAINER"}, 400),
        ({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id": {"value": "c"}}}, 400),
        ({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": {"container_id": {"value": "c", "parent": {"value": "p"}}}}, 400),
        ({"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": ".."}}}, 400),
        ({"type": "LAUNCH_CONTAINER", "launch_container": {"container_id": {"value": "c"}, "command": {"value": "true"}}}, 400),
        ({"type": "REMOVE_CONTAINER", "remove_container": {"container_id": {"value": "unknown"}}}, 404),
        ({"type": "REMOVE_NESTED_CONTAINER", "remove_nested_container": {"container_id": {"value": "c"}}}, 400),
        ({"type": "ADD_RESOURCE_PROVIDER_CONFIG"}, 501),
        ({"type": "PRUNE_IMAGES", "prune_images": {"excluded_images": [{"type": "DOCKER", "docker": {"name": "web:1"}}]}}, 200),
        ({"type": "PRUNE_IMAGES"}, 400),
        ({"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "unknown"}}}, 404),
        ({"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "unknown"}}}, 404),
        ({"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "un.known"}}}, 400),
        ({"type": "KILL_CONTAINER", "kill_container": {"container_id": {"value": "c" * 243}}}, 400),
        ({"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": "c", "parent": {"value": "a b"}}}}, 400),
        ({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"container_id": {"value": "top"}}}, 400),
        ({"type": "KILL_NESTED_CONTAINER", "kill_nested_container": {"container_id": {"value": "c", "parent": {"value": "p"}}}}, 404),
        ({"type": "NONSENSE"}, 400),
        ({}, 400),
    ],
)
def test_statuses_of_the_operator_api(tmp_path: Path, call: dict[str, Any], status: int) -> None:
    async def scene(stage: Stage) -> None:
        found, text = await stage.post(OPERATOR, call)
        assert found == status, text

    play(tmp_path, scene)


def test_the_operator_api_looks_at_headers_before_the_body(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        assert (await stage.post(OPERATOR, b"{", {**JSON, "Accept": "text/html"}))[0] == 406
        records, of_text = {"Content-Type": "application/recordio"}, {"Message-Content-Type": "text/plain"}
        assert (await stage.post(OPERATOR, b"{", records))[0] == 400
        assert (await stage.post(OPERATOR, b"{", {**records, **of_text}))[0] == 415
        assert (await stage.post(OPERATOR, b"{", {**records, "Message-Content-Type": "application/json"}))[0] == 400
        assert (await stage.post(OPERATOR, b"{", {**JSON, "Message-Content-Type": "application/json"}))[0] == 415
        of_records = {**JSON, "Accept": "application/recordio"}
        assert (await stage.post(OPERATOR, {"type": "GET_VERSION"}, of_records))[0] == 406
        assert (await stage.post(OPERATOR, b"{", {**of_records, "Message-Accept": "text/plain"}))[0] == 406
        assert (await stage.post(OPERATOR, b"{", {**JSON, "Message-Accept": "application/json"}))[0] == 406

    play(tmp_path, scene)


def test_wait_container_answers_when_it_has_ended(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t"))
        await stage.loop.submit(ContainerStarted(container, 7))
        call = {"type": "WAIT_CONTAINER", "wait_container": {"container_id": {"value": container}}}
        waiting = asyncio.create_task(stage.post(OPERATOR, call))
        for _ in range(1000):  # Until the call has come so far.
            if stage.server.waiters._waiting:
                break
            await asyncio.sleep(0.01)
        await stage.loop.submit(ContainerExited(container, Exit(3 << 8, 0.0)))
        status, text = await waiting
        assert status == 200
        assert json.loads(text)["wait_container"] == {"exit_status": 768, "message": "Command exited with status 3"}
        assert (await stage.post(OPERATOR, call))[0] == 404

    play(tmp_path, scene)


def test_containers_of_a_group_are_named_with_their_parent(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        group = executor("e", type=ExecutorType.DEFAULT, command=None)
        await stage.loop.submit(FromMaster(RunTaskGroup("f", group, (command("t"),), True)))
        found = json.loads((await stage.post(OPERATOR, {"type": "GET_CONTAINERS", "get_containers": {"show_nested": True}}))[1])
        outer, inner = [shown["container_status"]["container_id"] for shown in found["get_containers"]["containers"]]
        assert inner["parent"] == outer

        async def kill(container_id: Any) -> int:
            return (await stage.post(OPERATOR, {"type": "KILL_CONTAINER", "kill_container": {"container_id": container_id}}))[0]

        assert await kill(inner) == await kill(outer) == 200
        for stranger in ({"value": inner["value"]}, {"value": inner["value"], "parent": {"value": "another"}}, {**outer, "parent": outer}):
            assert await kill(stranger) == 404
        call = {"type": "WAIT_CONTAINER", "wait_container": {"container_id": outer}}
        waiting = asyncio.create_task(stage.post(OPERATOR, call))
        for _ in range(1000):
            if stage.server.waiters._waiting:
                break
            await asyncio.sleep(0.01)
        await stage.loop.submit(FromMaster(ShutdownFramework("f")))
        await stage.loop.submit(ContainerExited(inner["value"], Exit(9, 0.0)))
        assert (await waiting)[0] == 200
        assert await kill(outer) == 404

    play(tmp_path, scene)


def test_the_older_endpoints_answer(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.run(command("t"))
        for path in ("/state", "/containers", "/monitor/statistics", "/containerizer/debug", "/flags", "/metrics/snapshot", "/files/debug"):
            for prefix in ("", "/slave(1)"):
                status, text = await stage.get(prefix + path)
                assert status == 200, (path, text)
                json.loads(text)
        assert (await stage.get("/containers?executor_id=t"))[0] == 400
        assert (await stage.get("/metrics"))[0] == 200
        assert (await stage.get("/logging/toggle"))[0] == 200
        assert (await stage.get("/nonsense"))[0] == 404

    play(tmp_path, scene)


def test_where_callers_must_prove_who_they_are(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        for path in ("/state", "/files/browse?path=/x", "/metrics/snapshot"):
            assert (await stage.get(path))[0] == 401, path
        assert (await stage.post(OPERATOR, {"type": "GET_HEALTH"}))[0] == 401
        assert (await stage.get("/health"))[0] == 200
        assert (await stage.post(OPERATOR, {"type": "GET_HEALTH"}, {**JSON, "Authorization": OPS.header()}))[0] == 200

    OPS = Credential("ops", "s")
    play(tmp_path, scene, Authenticator([OPS], ["mesos-agent-readonly", "mesos-agent-readwrite"]))


def test_where_executors_must_prove_who_they_are(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t", executor=executor("e")))
        claims = Claims(container, "e", "f")

        def showing(token: str, scheme: str = "Bearer") -> dict[str, str]:
            return {**JSON, "Authorization": f"{scheme} {token}"}

        update = {**IDS, "type": "MESSAGE", "message": {"data": "eA=="}}
        for headers in (JSON, showing("x"), showing(sign(claims, b"other")), showing(sign(claims, b"key"), "Basic"), showing("", "Bearer")):
            for body in (SUBSCRIBE, update, {**IDS, "type": "HEARTBEAT"}, b"{"):
                async with stage.client.post(EXECUTOR, data=json.dumps(body) if body != b"{" else body, headers=headers) as refused:
                    assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="mesos-agent-executor"')
        for other in (Claims("another", "e", "f"), Claims(container, "another", "f"), Claims(container, "e", "another")):
            for body in (SUBSCRIBE, update):
                status, text = await stage.post(EXECUTOR, body, showing(sign(other, b"key")))
                assert (status, text) == (403, "the token is not that of this executor")
        right = showing(sign(claims, b"key"))
        for ids in ({"framework_id": {"value": "no"}}, {"executor_id": {"value": "no"}}):
            assert (await stage.post(EXECUTOR, {**SUBSCRIBE, **ids}, right))[0] == 400
        assert (await stage.post(EXECUTOR, update, right))[0] == 403  # Not subscribed yet.
        async with stage.client.post(EXECUTOR, data=json.dumps(SUBSCRIBE), headers=right) as stream:
            assert stream.status == 200
            assert (await stage.post(EXECUTOR, update, right))[0] == 202

    play(tmp_path, scene, executor_key=b"key")


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([EXECUTOR, OPERATOR]),
    st.lists(st.binary(max_size=300) | st.text(max_size=100).map(json.dumps).map(str.encode), max_size=5),
)
def test_no_body_breaks_an_agent(path: str, bodies: list[bytes]) -> None:
    async def scene(stage: Stage) -> None:
        for body in bodies:
            assert 400 <= (await stage.post(path, body))[0] < 500
        assert (await stage.get("/health"))[0] == 200

    play(Path("/nonexistent"), scene)


def attach_output(container_id: Any) -> dict[str, Any]:
    return {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": container_id}}


OF_RECORDS = {**JSON, "Accept": "application/recordio", "Message-Accept": "application/json"}


def append(file: Path, text: str) -> None:
    """As tasks write: a file that becomes shorter in between is read anew."""
    with file.open("a") as opened:
        opened.write(text)


async def read_record(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await answer.content.readexactly(int(await answer.content.readline())))
    return found


def test_output_is_followed_from_now_on_until_the_end(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t"))
        await stage.loop.submit(ContainerStarted(container, 7))
        sandbox = tmp_path / f"slaves/{AGENT_ID}/frameworks/f/executors/t/runs/{container}"
        sandbox.mkdir(parents=True)
        (sandbox / "stdout").write_text("before\n")
        async with stage.client.post(OPERATOR, data=json.dumps(attach_output({"value": container})), headers=OF_RECORDS) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/recordio"
            append(sandbox / "stdout", "stdout\n")
            append(sandbox / "stderr", "stderr\n")
            found = [await read_record(answer) for _ in range(2)]
            told = {(record["data"]["type"], record["data"]["data"]) for record in found}
            assert told == {("STDOUT", "c3Rkb3V0Cg=="), ("STDERR", "c3RkZXJyCg==")}
            append(sandbox / "stdout", "last\n")
            await stage.loop.submit(ContainerExited(container, Exit(0, 0.0)))
            assert (await read_record(answer))["data"]["data"] == "bGFzdAo="
            assert await answer.content.read() == b"", "and that was all"
        assert (await stage.post(OPERATOR, attach_output({"value": container}), OF_RECORDS))[0] == 404

    play(tmp_path, scene)


def test_only_what_has_a_terminal_takes_input(tmp_path: Path) -> None:
    of_records = {"Content-Type": "application/recordio", "Message-Content-Type": "application/json"}

    def attach(container_id: Any) -> bytes:
        body = {"type": "CONTAINER_ID", "container_id": container_id}
        record = json.dumps({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}).encode()
        return b"%d\n%b" % (len(record), record)

    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t"))
        await stage.loop.submit(ContainerStarted(container, 7))
        status, text = await stage.post(OPERATOR, attach({"value": container}), of_records)
        assert status == 409
        assert "without a terminal (tty_info)" in text
        assert (await stage.post(OPERATOR, attach({"value": container}), of_records))[0] == 409, "and nothing keeps it busy"
        assert (await stage.post(OPERATOR, attach({"value": "unknown"}), of_records))[0] == 404
        assert (await stage.post(OPERATOR, b"5\nhello", of_records))[0] == 400

    play(tmp_path, scene)


def test_a_silent_container_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_api, "HEARTBEAT_S", 0.01)

    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t"))
        await stage.loop.submit(ContainerStarted(container, 7))
        async with stage.client.post(OPERATOR, data=json.dumps(attach_output({"value": container})), headers=OF_RECORDS) as answer:
            beat = {"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {"interval": {"nanoseconds": 10_000_000}}}}
            assert await read_record(answer) == beat

    play(tmp_path, scene)


def test_too_many_who_follow_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_api, "FOLLOWERS_MAX", 1)

    async def scene(stage: Stage) -> None:
        container = await stage.run(command("t"))
        await stage.loop.submit(ContainerStarted(container, 7))
        call = attach_output({"value": container})
        async with stage.client.post(OPERATOR, data=json.dumps(call), headers=OF_RECORDS) as answer:
            assert answer.status == 200
            assert (await stage.post(OPERATOR, call, OF_RECORDS))[0] == 503

    play(tmp_path, scene)
