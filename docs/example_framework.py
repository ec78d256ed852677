"""A whole framework: keeps N copies of a command running, on whatever machines have room for them.

    .venv/bin/python docs/example_framework.py --copies 3 -- sh -c 'echo hello; sleep 10'

Kill this process and start it again: it finds its copies where they were. Its tasks outlive it for a week (the
failover timeout), its memory is one small file. What the SDK does by itself: subscribe and follow the leader, say what is
wanted, match offers, launch, acknowledge, reconcile, and write all of it down before anybody can see it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from frameworks.sdk.framework import Framework, run_framework
from frameworks.sdk.scheduler import Scheduler, framework_info
from frameworks.sdk.tasks import TERMINAL, TaskRecord, resources, task
from kernel.clock import Now
from kernel.endpoints import endpoints
from kernel.store.sqlite import SqliteStore
from kernel.wire.task import TaskStatus

WAIT_S = 1.0  # Between the end of a copy and the next attempt.


class KeepRunning(Scheduler):
    """Every copy is a slot; the task of a slot is named by slot and attempt, so a restart cannot start it twice."""

    def __init__(self, command: Sequence[str], copies: int, kept: Mapping[str, bytes], fresh_id: str, spread: float) -> None:
        super().__init__(framework_info("keep-running"), kept, fresh_id=fresh_id, spread=spread)
        self.command = command
        self.attempts = [int(self.kept.own.get(f"attempts/{slot}", b"0")) for slot in range(copies)]
        self.due_s = [0.0] * copies  # When a slot without a task may have one again.

    def started(self, now: Now) -> None:
        """End the copies that are too many since --copies was lowered."""
        for record in list(self.tasks):
            if int(record.note) >= len(self.due_s):
                self.kill(record.task_id, now)

    def ticked(self, now: Now) -> None:
        """Give each slot that has no task a new one."""
        busy = {record.note for record in self.tasks}
        for slot, due_s in enumerate(self.due_s):
            if str(slot).encode() not in busy and now.mono_s >= due_s:
                self.attempts[slot] += 1
                self.keep(f"attempts/{slot}", str(self.attempts[slot]).encode())
                info = task(f"copy-{slot}-{self.attempts[slot]}", self.command)
                self.add(info, resources(cpus=0.1, mem=32), note=str(slot).encode())

    def updated(self, task: TaskRecord, status: TaskStatus, now: Now) -> None:
        """Something happened to a copy. When it ended, its slot waits a little."""
        click.echo(f"{task.task_id} {status.state.value} on {task.hostname}: {status.message or ''}")
        slot = int(task.note)
        if status.state in TERMINAL and slot < len(self.due_s):
            self.due_s[slot] = now.mono_s + WAIT_S

    def lost(self, reason: str, now: Now) -> None:
        """The stream of events broke, or never came to be."""
        click.echo(f"no master: {reason}; trying again", err=True)


@click.command()
@click.option("--master", envvar="MESETA_MASTER", help="URL of the master; default: that of the last `meseta up`.")
@click.option("--copies", default=2, help="How many copies to keep running.")
@click.option("--state", default="keep-running.db", help="File that holds what must not be forgotten.")
@click.argument("command", nargs=-1, required=True)
def main(master: str | None, copies: int, state: str, command: tuple[str, ...]) -> None:
    """Keep copies of COMMAND running until interrupted; they go on without this process until it comes back."""
    at = master or endpoints().get("master", "http://127.0.0.1:5050")

    async def serve() -> None:
        def ready(framework: Framework) -> None:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, framework.end)

        def make(kept: Mapping[str, bytes], fresh_id: str, spread: float) -> KeepRunning:
            return KeepRunning(command, copies, kept, fresh_id, spread)

        await run_framework(make, SqliteStore(Path(state)), [at], name="keep-running", ready=ready)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
