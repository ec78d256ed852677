"""What only a program can get: hdfs and its kin by the `hadoop` client, other schemes by commands of the operator's.

A command runs as the task's user, in a session of its own, and puts one file where it is told. It is watched by what it writes, and
nothing of it is left behind: not by a cancel, and not by an agent that was killed, whose successor finds its note.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kernel.agent.fetcher.budget import Budget
from kernel.agent.fetcher.local import Owner
from kernel.agent.fetcher.plan import PROGRESS_EVERY_S, FetchError, Wanted
from kernel.agent.fetcher.tree import created
from kernel.agent.launcher import processes

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
ERROR_BYTES_MAX = 2000
COMMAND_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("PATH", "LANG", "TZ", "JAVA_HOME", "http_proxy", "https_proxy", "no_proxy")  # Its user can read what he is given.
_PASSED_ON_PREFIXES = ("HADOOP_", "LC_")
_NOTE = ".running"  # Beside its folder: who it is.

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
Watch = Callable[[asyncio.Event], Awaitable[None]]


def command_for(wanted: Wanted, commands: Mapping[str, Sequence[str]], hadoop_home: str) -> tuple[str, ...]:
    """What to run, with {uri} and {path} to be filled in. Raises FetchError."""
    given = commands.get(wanted.scheme)
    if given:
        return tuple(given)
    hadoop = f"{hadoop_home}/bin/hadoop" if hadoop_home else shutil.which("hadoop")
    if hadoop is None or not os.access(hadoop, os.X_OK):
        where = hadoop or "in the agent's PATH"
        raise FetchError(
            f"this agent has nothing for the scheme {wanted.scheme!r}: no --fetcher-commands, and no hadoop client ({where}; --hadoop-home)"
        )
    return (hadoop, "fs", "-copyToLocal", "{uri}", "{path}")


async def run(
    wanted: Wanted, argv: Sequence[str], target: str, owner: Owner | None, budget: Budget, stall_s: float, in_thread: InThread
) -> None:
    """Have a file fetched into target, which becomes the agent's. stall_s: how long it may write nothing. Raises FetchError, OSError."""
    folder, path, output = f"{target}.d", f"{target}.d/file", f"{target}.output"
    os.mkdir(folder, 0o700)  # The command's own.
    try:
        if owner is not None:
            os.chown(folder, owner.uid, owner.gid)
        filled = [part.replace("{uri}", wanted.uri).replace("{path}", path) for part in argv]
        with created(output) as errors:
            watch = functools.partial(_watch, wanted.shown, folder, errors, budget, stall_s)
            status = await _run(filled, folder, errors, owner, watch, in_thread)
        if status != 0:
            raise FetchError(_describe(argv[0], status, output).replace(wanted.uri, wanted.shown))
        _take_over(path, target)
    finally:
        await in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.unlink(output)


def end_orphans(folder: Path) -> None:
    """End what commands an earlier agent, killed meanwhile, has left in a folder."""
    for note in folder.glob(f"*{_NOTE}"):
        pid, _, start = note.read_text().partition(" ")
        found = processes.stat(int(pid)) if pid.isdigit() else None
        if found is not None and str(found.start) == start:
            os.killpg(int(pid), signal.SIGKILL)


async def _run(argv: Sequence[str], folder: str, errors: int, owner: Owner | None, watch: Watch, in_thread: InThread) -> int:
    """Run a command to its end, or until watch raises; return its exit status, negative for a signal."""
    note = folder + _NOTE
    started: list[subprocess.Popen[bytes]] = []  # Also when we are cancelled while the thread starts it.
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        await in_thread(lambda: _start(argv, folder, errors, owner, note, started))
        watched = os.pidfd_open(started[0].pid)
        loop.add_reader(watched, ended.set)
        try:
            await watch(ended)
        finally:
            loop.remove_reader(watched)
            os.close(watched)
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)  # Not reaped yet: the number is still its own. What it left running goes, too.
            await in_thread(process.wait)
            with suppress(FileNotFoundError):
                os.unlink(note)
    status: int = started[0].returncode
    return status


def _start(argv: Sequence[str], folder: str, errors: int, owner: Owner | None, note: str, started: list[subprocess.Popen[bytes]]) -> None:
    """Start a command and note who it is. started: where it is put first of all."""
    as_user: dict[str, Any] = {}
    environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)}
    environment.setdefault("PATH", COMMAND_PATH)
    environment["HOME"] = os.environ.get("HOME", "/")
    if owner is not None:
        as_user = {"user": owner.uid, "group": owner.gid, "extra_groups": owner.groups}
        environment |= {"HOME": owner.home, "USER": owner.name, "LOGNAME": owner.name}
    try:
        started.append(
            subprocess.Popen(
                argv,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
                **as_user,
            )
        )
    except OSError as error:
        raise FetchError(f"cannot run {argv[0]}: {error.strerror}") from error
    found = processes.stat(started[0].pid)
    assert found is not None, "it is not waited for yet"
    Path(note).write_text(f"{started[0].pid} {found.start}")


async def _watch(shown: str, folder: str, errors: int, budget: Budget, stall_s: float, ended: asyncio.Event) -> None:
    """Wait for the end as long as something is being written. Raises FetchError when it writes too much, or nothing any more."""
    loop = asyncio.get_running_loop()
    counted, grown_s = 0, loop.time()
    shown_s = grown_s
    while not ended.is_set():
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await ended.wait()
        except TimeoutError:
            pass
        written = _written(folder) + os.fstat(errors).st_size
        if written > counted:
            budget.take(written - counted)
            counted, grown_s = written, loop.time()
        elif not ended.is_set() and loop.time() - grown_s > stall_s:
            raise FetchError(f"nothing came for {stall_s:g} s, after {written} bytes")
        if loop.time() - shown_s > PROGRESS_EVERY_S:
            shown_s = loop.time()
            log.info("fetching %s: %d bytes", shown, written)


def _written(folder: str) -> int:
    """Bytes of what lies there; a file that is still being written may have any name."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                pass
    return total


def _take_over(path: str, target: str) -> None:
    """Move what was fetched to where nobody but the agent can touch it. Its user may have put anything there."""
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise FetchError("what the command left is not a plain file")
        os.rename(path, target)
    except FileNotFoundError:
        raise FetchError("the command succeeded, but has left no file") from None
    found = os.lstat(target)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:  # Exchanged in between.
        raise FetchError("what the command left is not a plain file")
    if found.st_uid != os.geteuid():
        os.chown(target, os.geteuid(), os.getegid(), follow_symlinks=False)
    os.chmod(target, 0o600)


def _describe(program: str, status: int, output: str) -> str:
    with open(output, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - ERROR_BYTES_MAX))
        text = file.read(ERROR_BYTES_MAX).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ended = f"exited with status {status}" if status >= 0 else f"was ended by signal {-status}"
    return f"{os.path.basename(program)} {ended}" + (f": {lines[-1]}" if lines else "")
