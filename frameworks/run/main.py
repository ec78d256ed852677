"""The edge of a run: the framework, the output of its task, signals."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from frameworks.run.console import Console, Json, Plain
from frameworks.run.core import CONNECT_S, Drained, Ended, Interrupt, Job, Launched, Notice, Running, RunScheduler, Waits
from frameworks.run.output import Follower
from frameworks.run.why import why
from frameworks.sdk.framework import Framework, FrameworkStopped, run_framework
from frameworks.sdk.scheduler import Scheduler
from kernel.commands.context import ZK, unreachable
from kernel.net import loop
from kernel.net.auth import Credential
from kernel.store.memory import MemoryStore

ELECTION_S = 30.0  # How long it may take until there is a master at a `zk://...` again.


def run_job(job: Job, masters: Sequence[str], credential: Credential | None, *, as_json: bool) -> int:
    """Run a job to its end; return the exit status of `meseta run`. Raises KernelError when it could not be run."""
    run = Run(job, credential, Json() if as_json else Plain(job))
    return loop.run(run.run(masters))


class Run:
    """One job and who watches it."""

    def __init__(self, job: Job, credential: Credential | None, console: Console) -> None:
        self._job, self._credential, self._console = job, credential, console
        self._follows = job.instances == 1 and not job.detach
        self._connect_s = CONNECT_S
        self._scheduler: RunScheduler | None = None
        self._framework: Framework | None = None
        self._launched: Launched | None = None
        self._follower: Follower | None = None
        self._following: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._waits = ""  # What was told last of why tasks wait.
        self._deaf: OSError | None = None  # Why our output cannot be written any more.

    async def run(self, masters: Sequence[str]) -> int:
        """Run to the end. Raises CommandError without a master, FrameworkStopped when it will have none of us, OSError when what the
        task prints cannot be written."""
        if masters[0].startswith(ZK):
            self._connect_s = ELECTION_S
        try:
            await run_framework(
                self._make, MemoryStore(), masters, name="run", credential=self._credential, perform=self._perform, ready=self._ready
            )
        except FrameworkStopped as stopped:
            if self._scheduler is not None and self._scheduler.unreached:
                raise unreachable(list(masters), str(stopped).removeprefix(f"{masters[0]}: ")) from stopped
            raise
        finally:
            for task in (self._following, self._asking):
                if task is not None:
                    task.cancel()
            self._console.close()
        assert self._scheduler is not None, "the framework made its core"
        status = self._scheduler.exit_status()
        if self._deaf is None:
            self._console.result(self._scheduler.framework_id, self._scheduler.task_ids, self._scheduler.outcomes, status)
        elif not isinstance(self._deaf, BrokenPipeError):
            raise self._deaf
        return status

    def _make(self, kept: Mapping[str, bytes], fresh_id: str, spread: float) -> Scheduler:
        self._scheduler = RunScheduler(self._job, fresh_id, spread, drains=self._follows, connect_s=self._connect_s)
        return self._scheduler

    def _ready(self, framework: Framework) -> None:
        self._framework = framework
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt)

    def _interrupt(self) -> None:
        assert self._framework is not None, "signals come after the framework"
        self._framework.loop.post(Interrupt())

    def _perform(self, effect: Any) -> None:
        if isinstance(effect, Launched):
            self._launched = effect
        elif isinstance(effect, Running):
            self._console.running(effect.task_id)
            self._follow()
        elif isinstance(effect, Ended):
            self._console.ended(effect.outcome)
            self._follow()
            if self._follower is not None:
                self._follower.end()
        elif isinstance(effect, Notice):
            self._console.notice(effect.text)
        elif isinstance(effect, Waits) and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._tell_why(effect))

    async def _tell_why(self, waits: Waits) -> None:
        """Say why tasks wait, if it has not been said."""
        framework, scheduler = self._framework, self._scheduler
        told = None
        if framework is not None and framework.leader is not None and scheduler is not None:
            told = await why(framework.leader, scheduler.framework_id, self._credential)
        if self._launched is None and (told or waits.hint) != self._waits:
            self._waits = told or waits.hint
            self._console.notice(f"waiting for {waits.wants}: {self._waits}")

    def _follow(self) -> None:
        """Begin to copy the output of the only task, when there is one on an agent."""
        if self._follows and self._follower is None and self._launched is not None:
            place = self._launched
            self._follower = Follower(place.agent_url, place.framework_id, place.task_id, self._credential, self._write)
            self._following = asyncio.create_task(self._copy(self._follower))

    async def _copy(self, follower: Follower) -> None:
        assert self._framework is not None, "only a running framework launches"
        missing = await follower.run()
        if missing is not None:
            self._console.notice(f"the output may not be complete: {missing}")
        self._framework.loop.post(Drained())

    def _write(self, stream: str, data: bytes) -> None:
        if self._deaf is not None:
            return
        try:
            self._console.output(stream, data)
        except OSError as error:  # `meseta run -- yes | head`: as a shell's SIGPIPE would, this ends the task. So does a full disk.
            self._deaf = error
            sys.stderr.flush()
            self._interrupt()
