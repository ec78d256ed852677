"""An agent as a process: real launcher, real sandboxes, a master that only listens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest

from kernel.wire.agent import Goodbye, KillTask
from kernel.wire.command import URI
from kernel.wire.common import DurationInfo
from kernel.wire.task import CommandInfo, KillPolicy, Reason, TaskInfo, TaskState
from tests.builders import executor
from tests.kernel.agent.desk import command, framework
from tests.kernel.agent.fake_master import DEADLINE_S, FakeMaster
from tests.kernel.agent.fetcher.web_server import WebServer

FRAMEWORK = framework("f", user="root" if os.geteuid() == 0 else "me")


class AgentProcess:
    """`meseta serve agent` on a work dir; started, killed and started again."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir = work_dir
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self, master_port: int) -> None:
        arguments = ["--master", f"127.0.0.1:{master_port}", "--port", str(self.port), "--work-dir", str(self.work_dir)]
        with (self.work_dir / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kernel.cli", "serve", "agent", *arguments], stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)

    def launcher_pid(self) -> int | None:
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"{self.work_dir}/launcher" in (entry / "cmdline").read_text():
                    return int(entry.name)
            except OSError:
                continue
        return None

    def clean(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        pid = self.launcher_pid()
        if pid is not None:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def agent() -> Iterator[AgentProcess]:
    with tempfile.TemporaryDirectory(prefix="meseta-agent-", ignore_cleanup_errors=True) as work_dir:
        os.chmod(work_dir, 0o755)  # Other users must get to their sandboxes.
        process = AgentProcess(Path(work_dir))
        yield process
        process.clean()


def shell(task_id: str, script: str, **fields: object) -> TaskInfo:
    return command(task_id, command=CommandInfo(value=script), **fields)


def play(scene: Callable[[FakeMaster], Awaitable[None]]) -> None:
    async def stage() -> None:
        async with FakeMaster() as master:
            await scene(master)

    asyncio.run(stage())


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up, "it took too long"
        time.sleep(0.02)


def lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def sandbox(agent: AgentProcess, task_id: str) -> Path:
    return agent.work_dir / f"slaves/m-S1/frameworks/f/executors/{task_id}/runs/latest"


async def registered(agent: AgentProcess, master: FakeMaster) -> int:
    """Start the agent and wait until it has registered; returns its HTTP port."""
    agent.start(master.port)
    count = len(master.registrations)
    await master.until(lambda: len(master.registrations) > count)
    return master.registrations[-1].port


def test_a_command_task_runs_and_its_output_and_status_are_kept(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("t", "echo hello; echo $MESOS_SANDBOX; pwd; exit 3"), FRAMEWORK)
        assert await master.ended("t") is TaskState.TASK_FAILED
        assert master.states("t") == [TaskState.TASK_STARTING, TaskState.TASK_RUNNING, TaskState.TASK_FAILED]
        assert master.last("t").message == "Command exited with status 3"
        hello, told, own = (sandbox(agent, "t") / "stdout").read_text().splitlines()
        assert (hello, told) == ("hello", own)
        assert Path(own) == sandbox(agent, "t").resolve()
        assert (sandbox(agent, "t").stat().st_mode & 0o777) == 0o750

    play(scene)


def test_what_a_task_or_an_executor_names_is_fetched_before_it_starts(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        program = agent.work_dir / "program"
        program.write_text("#!/bin/sh\necho of $MESOS_EXECUTOR_ID\n")
        program.chmod(0o644)
        uris = (URI(str(program), executable=True),)
        await master.run(command("t", command=CommandInfo(value="./program", uris=uris)), FRAMEWORK)
        assert await master.ended("t") is TaskState.TASK_FINISHED
        assert (sandbox(agent, "t") / "stdout").read_text() == "of t\n"
        await master.run(command("u", executor=executor("e", command=CommandInfo(value="./program", uris=uris))), FRAMEWORK)
        assert await master.ended("u") is TaskState.TASK_FAILED  # It has never subscribed.
        assert (sandbox(agent, "e") / "stdout").read_text() == "of e\n"

    play(scene)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_fetch_is_begun_anew_by_the_next_agent(agent: AgentProcess, number: int) -> None:
    """Whether the one before was killed or has left while it fetched."""

    async def scene(master: FakeMaster) -> None:
        async with WebServer({}) as server:
            await registered(agent, master)
            uris = (URI(f"{server.url}/held"),)
            await master.run(command("t", command=CommandInfo(value="cat held", uris=uris)), FRAMEWORK)
            await server.asked.wait()
            await asyncio.to_thread(agent.kill, number)
            assert not list(sandbox(agent, "t").iterdir())
            server.release.set()
            await registered(agent, master)
            assert await master.ended("t") is TaskState.TASK_FINISHED
            assert (sandbox(agent, "t") / "stdout").read_text() == "begun done"
            assert server.counts["GET /held"] == 2

    play(scene)


def test_a_program_is_executed_as_execvp_does(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(
            command("t", command=CommandInfo(shell=False, value="sh", arguments=("me", "-c", "echo $0 $1", "zero", "one"))), FRAMEWORK
        )
        await master.run(command("missing", command=CommandInfo(shell=False, value="no-such-program")), FRAMEWORK)
        assert await master.ended("t") is TaskState.TASK_FINISHED
        assert (sandbox(agent, "t") / "stdout").read_text() == "zero one\n"
        assert await master.ended("missing") is TaskState.TASK_FAILED
        assert master.last("missing").reason is Reason.REASON_CONTAINER_LAUNCH_FAILED
        assert "no-such-program" in master.last("missing").message

    play(scene)


def test_a_killed_task_gets_sigterm_and_after_the_grace_sigkill(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("soft", "sleep 1000"), FRAMEWORK)
        await master.run(shell("hard", "trap '' TERM; echo ready; while :; do sleep 0.1; done"), FRAMEWORK)
        await master.until(lambda: all(master.states(task)[-1:] == [TaskState.TASK_RUNNING] for task in ("soft", "hard")))
        wait_for(lambda: (sandbox(agent, "hard") / "stdout").read_text() == "ready\n")
        await master.send(KillTask("f", "soft"), KillTask("f", "hard", KillPolicy(DurationInfo(200_000_000))))
        assert await master.ended("soft") is TaskState.TASK_KILLED
        assert master.last("soft").message == "Command terminated with signal Terminated"
        assert await master.ended("hard") is TaskState.TASK_KILLED
        assert master.last("hard").message == "Command terminated with signal Killed"

    play(scene)


def test_a_killed_agent_loses_neither_tasks_nor_exits_nor_updates(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("long", "while [ ! -e go ]; do sleep 0.05; done; exit 5"), FRAMEWORK)
        await master.run(shell("short", "while [ ! -e go ]; do sleep 0.05; done; exit 6"), FRAMEWORK)
        await master.until(lambda: all(TaskState.TASK_RUNNING in master.states(task) for task in ("long", "short")))
        agent.kill()
        (sandbox(agent, "short") / "go").touch()
        await registered(agent, master)
        assert {report.task.task_id.value for report in master.registrations[-1].tasks} == {"long", "short"}
        assert await master.ended("short") is TaskState.TASK_FAILED
        assert master.last("short").message == "Command exited with status 6"
        agent.kill()
        await registered(agent, master)
        (sandbox(agent, "long") / "go").touch()
        assert await master.ended("long") is TaskState.TASK_FAILED
        assert master.last("long").message == "Command exited with status 5"

    play(scene)


def test_a_killed_launcher_loses_no_task(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("t", "while [ ! -e go ]; do sleep 0.05; done"), FRAMEWORK)
        await master.until(lambda: TaskState.TASK_RUNNING in master.states("t"))
        killed = agent.launcher_pid()
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(wait_for, lambda: agent.launcher_pid() not in (None, killed))
        await master.run(shell("after", "exit 0"), FRAMEWORK)
        assert await master.ended("after") is TaskState.TASK_FINISHED
        assert master.states("t")[-1] is TaskState.TASK_RUNNING
        (sandbox(agent, "t") / "go").touch()
        assert await master.ended("t") in (TaskState.TASK_FINISHED, TaskState.TASK_FAILED)  # Its status may be lost, its end not.
        assert master.last("t").message in ("Command exited with status 0", "exit status unknown")

    play(scene)


def test_updates_nobody_acknowledged_are_sent_again_after_a_restart(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        master.acknowledges = False
        await registered(agent, master)
        await master.run(shell("t", "exit 0"), FRAMEWORK)
        await master.until(lambda: bool(master.updates))
        first = master.updates[0].status.uuid
        agent.kill()
        master.acknowledges = True
        await registered(agent, master)
        assert await master.ended("t") is TaskState.TASK_FINISHED
        assert [update.status.uuid for update in master.updates].count(first) == 2

    play(scene)


def test_sigterm_says_goodbye_and_leaves_tasks_running(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("t", "while [ ! -e go ]; do sleep 0.05; done"), FRAMEWORK)
        await master.until(lambda: TaskState.TASK_RUNNING in master.states("t"))
        assert await asyncio.to_thread(agent.kill, signal.SIGTERM) == 0
        await master.until(lambda: Goodbye(False) in master.received)
        await registered(agent, master)
        assert master.registrations[-1].agent_id == "m-S1"
        (sandbox(agent, "t") / "go").touch()
        assert await master.ended("t") is TaskState.TASK_FINISHED

    play(scene)


def test_sigusr1_ends_everything_and_the_next_start_is_a_new_agent(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        await master.run(shell("t", "echo $$; sleep 1000"), FRAMEWORK)
        await master.until(lambda: TaskState.TASK_RUNNING in master.states("t"))
        wait_for(lambda: (sandbox(agent, "t") / "stdout").read_text() != "")
        pid = int((sandbox(agent, "t") / "stdout").read_text())
        assert await asyncio.to_thread(agent.kill, signal.SIGUSR1) == 0
        await master.until(lambda: Goodbye(True) in master.received)
        assert not lives(pid)
        wait_for(lambda: agent.launcher_pid() is None)
        master.agent_id = "m-S2"
        await registered(agent, master)
        assert master.registrations[-1].agent_id == ""

    play(scene)


def test_sandboxes_are_shown_and_nothing_else(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        port = await registered(agent, master)
        await master.run(shell("t", "echo hello; ln -s /etc/passwd out; mkdir d; echo deep > d/file"), FRAMEWORK)
        await master.ended("t")
        real = str(sandbox(agent, "t").resolve())
        virtual = "/frameworks/f/executors/t/runs/latest"
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:

            async def get(kind: str, **query: str) -> tuple[int, object]:
                async with client.get(f"/slave(1)/files/{kind}", params=query) as response:
                    return response.status, await (response.json() if response.status == 200 else response.text())

            for root in (real, virtual, str(sandbox(agent, "t"))):
                status, listing = await get("browse", path=root)
                assert status == 200, listing
                assert [os.path.basename(entry["path"]) for entry in listing] == ["d", "out", "stderr", "stdout"]  # type: ignore[union-attr]
                assert await get("read", path=f"{root}/stdout", offset="1") == (200, {"data": "ello\n", "offset": 1})
            assert (await get("read", path=f"{virtual}/d/file", offset="0"))[0] == 200
            for bad in (
                f"{virtual}/out",
                f"{virtual}/../../../../../../../agent.log",
                "/frameworks/../frameworks/f/executors/t/runs/latest/stdout",
            ):
                assert (await get("read", path=bad, offset="0"))[0] in (400, 404), bad
            assert (await get("browse", path=str(agent.work_dir)))[0] == 404

    play(scene)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_as_root_tasks_run_as_their_user(agent: AgentProcess) -> None:
    async def scene(master: FakeMaster) -> None:
        await registered(agent, master)
        of_nobody = framework("f", user="nobody")
        await master.run(shell("t", "id -un; touch mine; stat -c %U . mine stdout"), of_nobody)
        await master.run(command("own", command=CommandInfo(value="id -un", user="root")), of_nobody)
        await master.run(command("bad", command=CommandInfo(value="id -un", user="no-such-user")), of_nobody)
        assert await master.ended("t") is TaskState.TASK_FINISHED, (sandbox(agent, "t") / "stderr").read_text()
        assert (sandbox(agent, "t") / "stdout").read_text().split() == ["nobody"] * 4
        assert await master.ended("own") is TaskState.TASK_FINISHED
        assert (sandbox(agent, "own") / "stdout").read_text() == "root\n"
        assert await master.ended("bad") is TaskState.TASK_FAILED
        assert "no-such-user" in master.last("bad").message

    play(scene)
