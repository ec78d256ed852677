"""Custom executors: what must not be lost, and the edge against an agent of a few lines."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from frameworks.sdk.executor import Executor, ExecutorCore, Settings, run
from frameworks.sdk.tasks import task
from kernel.errors import ConfigError
from kernel.wire import codec, recordio
from kernel.wire import executor as x
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, TaskID
from kernel.wire.nodes import AgentInfo
from kernel.wire.task import ExecutorInfo, FrameworkInfo, TaskInfo, TaskState

RUNNING, FINISHED, KILLED = TaskState.TASK_RUNNING, TaskState.TASK_FINISHED, TaskState.TASK_KILLED
ONE, TWO = b"1" * 16, b"2" * 16

# ---- The core -------------------------------------------------------------------------------------------


def told(core: ExecutorCore) -> tuple[list[str], list[bytes | None]]:
    """Tasks and updates of the next SUBSCRIBE."""
    subscribe = core.subscribe().subscribe
    assert subscribe is not None
    return (
        [info.task_id.value for info in subscribe.unacknowledged_tasks],
        [update.status.uuid for update in subscribe.unacknowledged_updates],
    )


def test_what_is_not_acknowledged_is_told_again() -> None:
    core = ExecutorCore("f", "e")
    core.launched(task("t", "true"))
    core.update("t", RUNNING, ONE, 1.0)
    core.update("t", FINISHED, TWO, 2.0)
    assert told(core) == (["t"], [ONE, TWO])
    core.acknowledged(x.Acknowledged(TaskID("t"), ONE))
    assert told(core) == ([], [TWO])
    core.acknowledged(x.Acknowledged(TaskID("t"), TWO))
    assert told(core) == ([], [])


def test_nothing_follows_a_terminal_update() -> None:
    core = ExecutorCore("f", "e")
    assert core.update("t", FINISHED, ONE, 1.0) is not None
    assert core.update("t", RUNNING, TWO, 2.0) is None


def test_updates_made_while_subscribing_are_sent_after_it() -> None:
    core = ExecutorCore("f", "e")
    core.update("t", RUNNING, ONE, 1.0)
    core.subscribe()
    core.update("t", FINISHED, TWO, 2.0)
    assert [call.update.status.uuid for call in core.subscribed() if call.update] == [TWO]


# ---- The environment ------------------------------------------------------------------------------------

ENVIRON = {"MESOS_AGENT_ENDPOINT": "127.0.0.1:5051", "MESOS_FRAMEWORK_ID": "f", "MESOS_EXECUTOR_ID": "e"}


def test_settings_come_from_the_agents_environment() -> None:
    environ = ENVIRON | {"MESOS_CHECKPOINT": "1", "MESOS_RECOVERY_TIMEOUT": "15mins", "MESOS_SUBSCRIPTION_BACKOFF_MAX": "500ms"}
    assert Settings.load(environ) == Settings("http://127.0.0.1:5051", "f", "e", ".", True, 900.0, 0.5)
    assert not Settings.load(ENVIRON).checkpoint


@pytest.mark.parametrize("environ", [{}, ENVIRON | {"MESOS_RECOVERY_TIMEOUT": "soon"}])
def test_a_process_no_agent_started_is_told_so(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="MESOS_"):
        run(Executor(), environ)


# ---- The edge -------------------------------------------------------------------------------------------


class Agent:
    """Takes executor calls on a socket; its streams are written by the test."""

    def __init__(self) -> None:
        self.calls: list[x.Call] = []
        self.port = 0
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Event()

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def calls_are(self, count: int) -> None:
        while len(self.calls) < count:
            self._changed.clear()
            await self._changed.wait()

    def send(self, event: x.Event) -> None:
        assert self._writer is not None
        record = recordio.frame(codec.encode(event))
        self._writer.write(b"%x\r\n%b\r\n" % (len(record), record))

    def hang_up(self) -> None:
        assert self._writer is not None
        self._writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                call = codec.decode(await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0])), x.Call)
                if call.subscribe is not None:
                    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    self._writer = writer
                    subscribed = x.Subscribed(ExecutorInfo(ExecutorID("e")), FrameworkInfo("u", "n"), AgentInfo("h", id=AgentID("a")))
                    self.send(x.Event("SUBSCRIBED", subscribed=subscribed))
                else:
                    writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
                self.calls.append(call)
                self._changed.set()
                if call.subscribe is not None:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Plain(Executor):
    """Runs a task the moment it comes; ends it when told anything."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def launch(self, task: TaskInfo) -> None:
        self.tasks.append(task.task_id.value)
        threading.Thread(target=self.update, args=(task.task_id.value, RUNNING)).start()

    def message(self, data: bytes) -> None:
        self.update(self.tasks[0], FINISHED, "told to", data=data)
        self.send(data[::-1])

    def shutdown(self) -> None:
        for task_id in self.tasks:
            self.update(task_id, KILLED)


def serve(executor: Executor, script: Any, **environ: str) -> tuple[int, Agent]:
    """Run an executor in a thread, as its own process would, beside an agent that follows a script."""
    agent = Agent()
    result: list[int] = []

    async def main() -> None:
        server = await agent.start()
        more = ENVIRON | {"MESOS_AGENT_ENDPOINT": f"127.0.0.1:{agent.port}"} | environ
        thread = threading.Thread(target=lambda: result.append(run(executor, more)))
        thread.start()
        async with asyncio.timeout(20):
            await script(agent)
            await asyncio.to_thread(thread.join)
        server.close()

    asyncio.run(main())
    return result[0], agent


def states(agent: Agent) -> list[TaskState]:
    return [call.update.status.state for call in agent.calls if call.update is not None]


def test_an_executor_runs_tasks_and_talks() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.send(x.Event("LAUNCH", launch=x.Launch(task("t", "true"))))
        await agent.calls_are(2)
        agent.send(x.Event("MESSAGE", message=x.EventMessage(b"ab")))
        await agent.calls_are(4)
        agent.send(x.Event("SHUTDOWN"))

    status, agent = serve(Plain(), script)
    assert status == 0
    assert states(agent) == [RUNNING, FINISHED]  # Nothing is killed after its end.
    assert [call.message.data for call in agent.calls if call.message] == [b"ba"]
    last = agent.calls[2].update
    assert last is not None
    assert (last.status.message, last.status.data, last.status.uuid and len(last.status.uuid)) == ("told to", b"ab", 16)


def test_shutdown_lets_the_last_updates_out() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.send(x.Event("LAUNCH", launch=x.Launch(task("t", "true"))))
        await agent.calls_are(2)
        agent.send(x.Event("SHUTDOWN"))

    status, agent = serve(Plain(), script)
    assert (status, states(agent)) == (0, [RUNNING, KILLED])


def test_a_kill_is_obeyed_by_default() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.send(x.Event("LAUNCH", launch=x.Launch(task("t", "true"))))
        await agent.calls_are(2)
        agent.send(x.Event("KILL", kill=x.Kill(TaskID("t"))))
        await agent.calls_are(3)
        agent.send(x.Event("SHUTDOWN"))

    assert states(serve(Plain(), script)[1]) == [RUNNING, KILLED]


def test_without_checkpointing_a_lost_agent_is_the_end() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.hang_up()

    status, agent = serve(Plain(), script)
    assert status == 1
    assert len([call for call in agent.calls if call.subscribe]) == 1


def test_with_checkpointing_it_comes_back_with_what_is_unacknowledged() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.send(x.Event("LAUNCH", launch=x.Launch(task("t", "true"))))
        await agent.calls_are(2)
        agent.hang_up()
        await agent.calls_are(3)
        agent.send(x.Event("SHUTDOWN"))

    status, agent = serve(Plain(), script, MESOS_CHECKPOINT="1", MESOS_RECOVERY_TIMEOUT="15mins")
    again = agent.calls[2].subscribe
    assert status == 0
    assert again is not None
    assert [info.task_id.value for info in again.unacknowledged_tasks] == ["t"]
    assert [update.status.state for update in again.unacknowledged_updates] == [RUNNING]


def test_ids_of_calls_are_those_of_the_environment() -> None:
    async def script(agent: Agent) -> None:
        await agent.calls_are(1)
        agent.send(x.Event("SHUTDOWN"))

    _, agent = serve(Plain(), script)
    assert (agent.calls[0].framework_id, agent.calls[0].executor_id) == (FrameworkID("f"), ExecutorID("e"))
