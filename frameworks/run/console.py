"""What `meseta run` shows: output as it comes, progress on a terminal, a summary, or JSON, one object a line."""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any, Protocol

from frameworks.run.core import Job, Outcome

FAILURES_SHOWN = 10


class Console(Protocol):
    """Where the edge of a run tells what happens."""

    def output(self, stream: str, data: bytes) -> None:
        """Bytes the only task printed."""

    def running(self, task_id: str) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...

    def notice(self, text: str) -> None: ...

    def close(self) -> None:
        """Nothing comes any more but `result`."""

    def result(self, framework_id: str, task_ids: list[str], outcomes: dict[str, Outcome], exit_status: int) -> None: ...


class Plain:
    """For people."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._started_s = time.monotonic()
        self._bar = _Bar(job.instances) if job.instances > 1 and sys.stderr.isatty() else None

    def output(self, stream: str, data: bytes) -> None:
        target = sys.stdout if stream == "stdout" else sys.stderr
        target.buffer.write(data)
        target.buffer.flush()

    def running(self, task_id: str) -> None:
        if self._bar is not None:
            self._bar.began()

    def ended(self, outcome: Outcome) -> None:
        if self._bar is not None:
            self._bar.ended(failed=outcome.exit_status != 0)

    def notice(self, text: str) -> None:
        if self._bar is not None:
            self._bar.pause()
        print(f"meseta run: {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def result(self, framework_id: str, task_ids: list[str], outcomes: dict[str, Outcome], exit_status: int) -> None:
        failed = [outcome for outcome in outcomes.values() if outcome.exit_status]
        if self._job.detach and len(outcomes) < len(task_ids):
            print("\n".join(task_ids))
        elif self._job.instances > 1:
            elapsed_s = time.monotonic() - self._started_s
            rate = len(outcomes) / elapsed_s if elapsed_s else 0.0
            done = len(outcomes) - len(failed)
            print(f"{self._job.instances} tasks: {done} succeeded, {len(failed)} failed in {elapsed_s:.1f} s ({rate:.0f}/s)")
        for outcome in failed[:FAILURES_SHOWN] if self._job.instances > 1 else failed:
            if self._job.instances > 1 or not _plain_exit(outcome):
                print(f"meseta run: {outcome.task_id} {_words(outcome)}", file=sys.stderr)
        if len(failed) > FAILURES_SHOWN and self._job.instances > 1:
            print(f"meseta run: and {len(failed) - FAILURES_SHOWN} more", file=sys.stderr)
        if failed and self._job.instances > 1:
            print("meseta run: see what they printed by `meseta task logs ID`", file=sys.stderr)


class Json:
    """For programs: what happens and, at last, the result with `exit_status`, one object a line."""

    def __init__(self) -> None:
        self._decoders: dict[str, bytes] = {}

    def output(self, stream: str, data: bytes) -> None:
        try:
            self._print({"type": "output", "stream": stream, "data": data.decode()})
        except UnicodeDecodeError:
            self._print({"type": "output", "stream": stream, "base64": base64.b64encode(data).decode()})

    def running(self, task_id: str) -> None:
        pass

    def ended(self, outcome: Outcome) -> None:
        self._print({"type": "ended", **_fields(outcome)})

    def notice(self, text: str) -> None:
        self._print({"type": "notice", "message": text})

    def close(self) -> None:
        pass

    def result(self, framework_id: str, task_ids: list[str], outcomes: dict[str, Outcome], exit_status: int) -> None:
        self._print({"type": "result", "framework_id": framework_id, "task_ids": task_ids, "exit_status": exit_status})

    def _print(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)


class _Bar:
    """A progress bar on stderr, made at the first sign of life: rich takes 40 ms to come up."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._begun = self._done = self._failed = 0
        self._progress: Any = None
        self._task: Any = None

    def began(self) -> None:
        self._begun += 1
        self._show()

    def ended(self, *, failed: bool) -> None:
        self._done += 1
        self._failed += failed
        self._show()

    def pause(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        self._show()
        self.pause()

    def _show(self) -> None:
        if self._progress is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            self._progress = Progress(*columns, console=Console(stderr=True))  # Draws in a thread: time passes without events, too.
            self._task = self._progress.add_task("", total=self._total)
            self._progress.start()
        words = f"{max(self._begun - self._done, 0)} running, {self._failed} failed"
        self._progress.update(self._task, completed=self._done, description=words)


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {
        "task_id": outcome.task_id,
        "state": outcome.state,
        "exit_status": outcome.exit_status,
        "hostname": outcome.hostname,
        "message": outcome.message,
    }


def _plain_exit(outcome: Outcome) -> bool:
    """Whether the exit status alone says it all."""
    return outcome.message.startswith("Command exited with status")


def _words(outcome: Outcome) -> str:
    where = f" on {outcome.hostname}" if outcome.hostname else ""
    return f"{outcome.state.removeprefix('TASK_').lower()}{where}: {outcome.message or 'no reason given'}"
