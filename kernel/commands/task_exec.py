"""`meseta task exec` and `meseta task attach`: this terminal in a task's container (v1 LAUNCH_NESTED_CONTAINER_SESSION, ATTACH_*)."""

from __future__ import annotations

import sys
import threading
import uuid
from contextlib import closing
from typing import Any

from kernel.commands.api import Peer
from kernel.commands.context import CommandError
from kernel.commands.lookup import value
from kernel.commands.task_io import Doors, Input, container_of, raw, status_of, window
from kernel.net.auth import Credential
from kernel.net.client import Refused


def run(
    agent: Peer, credential: Credential | None, task: dict[str, Any], command: tuple[str, ...], *, interactive: bool, terminal: bool
) -> int:
    """Run a command in a task's container; return its exit status (128+n for signal n). Raises CommandError, Refused, Unreachable."""
    if terminal and not sys.stdin.isatty():
        raise CommandError("stdin is no terminal", field="--tty", hint="leave -t out, or call it from a terminal")
    container_id = {"value": str(uuid.uuid4()), "parent": container_of(task)}
    doors = Doors(agent.urls[0], credential)
    body: dict[str, Any] = {"container_id": container_id, "command": {"shell": False, "value": command[0], "arguments": list(command)}}
    if terminal:
        body["container"] = {"type": "MESOS", "tty_info": {"window_size": window()}}
    call = {"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session": body}
    with closing(doors.output(call)) as output, raw(terminal and interactive):
        Input(doors, container_id, terminal=terminal, ends=not interactive).start()
        output.print()
    return status_of(agent.call("WAIT_NESTED_CONTAINER", container_id=container_id))


def attach(agent: Peer, credential: Credential | None, task: dict[str, Any], *, stdin: bool) -> int:
    """Print what a task prints from now on, and with stdin be its terminal, until it ends or the keys that detach are pressed; return
    its exit status, 0 if it goes on. Raises CommandError, Refused."""
    container_id = container_of(task)
    has_terminal = (task.get("container") or {}).get("tty_info") is not None
    if stdin and not has_terminal:
        raise CommandError(
            f"task {value(task, 'task_id')} has no terminal, so its input cannot be ours",
            field="task",
            hint="--no-stdin shows what it prints; `meseta task exec` runs a command beside it",
        )
    doors = Doors(agent.urls[0], credential)
    waiting = _Wait(doors, container_id)
    waiting.start()
    terminal = stdin and sys.stdin.isatty()
    call = {"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": container_id}}
    with closing(doors.output(call)) as output, raw(terminal):
        if stdin:
            Input(doors, container_id, terminal=terminal, leaves=output if terminal else None, redraw=terminal).start()
        output.print()
    if output.left:
        return 0
    waiting.join()
    return waiting.status


class _Wait(threading.Thread):
    """Waits for a task's end, of which its agent knows no more afterwards. status: 0 when it ended before anybody could ask."""

    def __init__(self, doors: Doors, container_id: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._doors, self._call = doors, {"type": "WAIT_CONTAINER", "wait_container": {"container_id": container_id}}
        self.status = 0

    def run(self) -> None:
        try:
            self.status = status_of(self._doors.wait(self._call).get("wait_container", {}))
        except (Refused, OSError):
            return
