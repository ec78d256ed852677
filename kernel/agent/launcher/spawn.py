"""How a task's process is started: posix_spawn, in a directory, with files for output, as a user.

Neither fork (slow in a large or a virtual machine's process) nor preexec_fn. posix_spawn can neither change directory nor
user, so the calling thread does, by raw system calls that concern this thread alone, and changes back. The
launcher does all of its work in one thread that is not the main thread: who may send a signal to a process is
judged by its main thread, so a task that ends `kill -9 -1` does not hit a launcher that is just starting another task of its user.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import resource
import signal
import stat
from typing import Any, NamedTuple

from kernel.agent.launcher.cgroups import Groups
from kernel.agent.launcher.core import Launch
from kernel.agent.launcher.paths import open_without_links
from kernel.agent.launcher.processes import CONTAINER_VARIABLE, STARTER_VARIABLE
from kernel.agent.launcher.spared import spare_no_longer, spare_ourselves
from kernel.agent.launcher.terminals import Terminals

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TASK_UMASK = 0o022

_SYSTEM_CALLS = {"x86_64": (116, 119, 117), "aarch64": (159, 149, 147)}  # setgroups, setresgid, setresuid.

_libc = ctypes.CDLL(None, use_errno=True)


class SpawnError(Exception):
    """A process could not be started.

    reason: `no such user`, `not permitted` (to change user), `no such directory` (cwd), `output` (stdout or stderr), `not found`,
    `not executable`, `too long` (arguments and environment), `no resources` (processes, memory), `control groups`, `invalid` (e.g. a
    zero byte).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


class _Identity(NamedTuple):
    uid: int
    gid: int
    groups: tuple[int, ...]


class Spawner:
    """Starts processes for one thread, in which all of its methods are called."""

    def __init__(self, task_nofile: tuple[int, int], terminals: Terminals) -> None:
        """task_nofile: soft and hard limit of open files for tasks; our own soft limit is higher. terminals: takes those of tasks."""
        self._terminals = terminals
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._task_nofile = task_nofile
        self._own_nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._self = _Identity(os.geteuid(), os.getegid(), tuple(os.getgroups()))
        self._groups = Groups()
        self._score = spare_ourselves()
        self._default_signals = [s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN]
        os.umask(TASK_UMASK)

    def spawn(self, launch: Launch) -> int:
        """Start a process and return its pid; it runs the asked program already. Raises SpawnError. After the last of several: `rest`."""
        identity = self._identity(launch)
        try:
            limits = _limits(launch)
            self._enter(launch)
            if identity is not None:
                self._become(identity)
            try:
                pid = self._start(launch)
            finally:
                if identity is not None:
                    self._come_back()
                os.fchdir(self._home)  # Not before: it is closed to others. And no sandbox is kept busy.
            if self._score is not None:
                spare_no_longer(pid, self._score)
        except ValueError as error:
            raise SpawnError("invalid", f"the command cannot be passed to the system: {error}") from error
        for name, pair in limits:  # Not before: we would limit ourselves. The program is in its first instructions.
            try:
                resource.prlimit(pid, name, pair)
            except (OSError, ValueError) as error:
                os.killpg(pid, signal.SIGKILL)
                raise SpawnError("not permitted", f"cannot set the resource limits: {error}") from error
        return pid

    def rest(self) -> None:
        """Nothing more is to be started for now: leave the control groups of what was started last. Before anybody is told of an end: until
        then the groups cannot be removed. Raises OSError, which ends the launcher."""
        self._groups.leave()

    def _enter(self, launch: Launch) -> None:
        try:
            self._groups.enter(launch.cgroups)
        except OSError as error:
            raise SpawnError("control groups", f"cannot enter {error.filename or launch.cgroups}: {error.strerror or error}") from error

    def _identity(self, launch: Launch) -> _Identity | None:
        """Return whom to become, None to stay."""
        if launch.user is None:
            uid, gid, groups = self._self
        else:
            try:
                entry = pwd.getpwnam(launch.user)
            except (KeyError, ValueError):
                raise SpawnError("no such user", f"user {launch.user!r} does not exist on this machine") from None
            uid, gid = entry.pw_uid, entry.pw_gid
            groups = self._self.groups if uid == self._self.uid else tuple(os.getgrouplist(launch.user, gid))
        if launch.groups is not None:
            groups = launch.groups
        wanted = _Identity(uid, gid, groups)
        if wanted == self._self or (uid == self._self.uid and launch.groups is None):
            return None
        if self._self.uid != 0:
            raise SpawnError("not permitted", f"only root can start a process as user {launch.user!r}")
        if os.uname().machine not in _SYSTEM_CALLS:
            raise SpawnError("not permitted", f"changing the user is not built for {os.uname().machine}")
        return wanted

    def _become(self, who: _Identity) -> None:
        set_groups, set_gid, set_uid = _SYSTEM_CALLS[os.uname().machine]
        try:
            _call(set_groups, len(who.groups), (ctypes.c_uint * len(who.groups))(*who.groups))
            _call(set_gid, who.gid, who.gid, 0)
            _call(set_uid, who.uid, who.uid, 0)  # The saved id is the way back; exec replaces it in the task.
        except OSError as error:
            self._come_back()
            raise SpawnError("not permitted", f"cannot become user {who.uid}: {error.strerror}") from error

    def _come_back(self) -> None:
        """Be root again. Raises OSError, which ends the launcher: it must never go on as somebody else."""
        set_groups, set_gid, set_uid = _SYSTEM_CALLS[os.uname().machine]
        _call(set_uid, 0, 0, 0)
        _call(set_gid, self._self.gid, self._self.gid, self._self.gid)
        _call(set_groups, len(self._self.groups), (ctypes.c_uint * len(self._self.groups))(*self._self.groups))

    def _start(self, launch: Launch) -> int:
        try:
            os.chdir(launch.cwd)
        except OSError as error:
            raise SpawnError("no such directory", f"cannot enter {launch.cwd}: {error.strerror}") from error
        opened: list[int] = []
        try:
            out = _open_output(launch.stdout)
            opened.append(out)
            err = out if launch.stderr == launch.stdout else _open_output(launch.stderr)
            opened.append(err)
            program = _find_program(launch.executable or launch.argv[0], launch.env.get("PATH", DEFAULT_PATH))
            if launch.terminal is not None:
                return self._start_on_terminal(program, launch, launch.terminal, out)
            files = ((os.POSIX_SPAWN_DUP2, self._null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2))
            return self._posix_spawn(program, launch, files)
        finally:
            for fd in set(opened):
                os.close(fd)

    def _start_on_terminal(self, program: str, launch: Launch, size: tuple[int, int], out: int) -> int:
        """The first terminal that the leader of a session opens is its controlling one."""
        try:
            path = self._terminals.make(launch.container, *size, out)
        except OSError as error:
            raise SpawnError("no resources", f"cannot make a terminal: {error.strerror}") from error
        try:
            files = ((os.POSIX_SPAWN_OPEN, 0, path, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2))
            return self._posix_spawn(program, launch, files)
        except BaseException:
            self._terminals.close(launch.container)
            raise

    def _posix_spawn(self, program: str, launch: Launch, files: tuple[tuple[Any, ...], ...]) -> int:
        variable = CONTAINER_VARIABLE if launch.pidfile is None else STARTER_VARIABLE
        environment = {**launch.env, variable: launch.container}
        resource.setrlimit(resource.RLIMIT_NOFILE, self._task_nofile)  # Inherited; nothing is opened meanwhile.
        try:
            argv: tuple[str, ...] = launch.argv
            for _ in range(2):
                try:
                    return os.posix_spawn(
                        program, argv, environment, file_actions=files, setsid=True, setsigmask=[], setsigdef=self._default_signals
                    )
                except OSError as error:
                    if error.errno != errno.ENOEXEC or program == "/bin/sh":
                        raise
                    program, argv = "/bin/sh", ("/bin/sh", program, *argv[1:])  # A script without its first line, as execvp does.
            raise AssertionError("unreachable")
        except OSError as error:
            reason = {
                errno.ENOENT: "not found",
                errno.ENOTDIR: "not found",
                errno.ENAMETOOLONG: "not found",
                errno.E2BIG: "too long",
                errno.EAGAIN: "no resources",
                errno.ENOMEM: "no resources",
            }.get(error.errno or 0, "not executable")
            raise SpawnError(reason, f"cannot run {program}: {error.strerror}") from error
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._own_nofile)


def _call(number: int, *arguments: object) -> None:
    if _libc.syscall(number, *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _open_output(path: str) -> int:
    """Open a file to append to, as the user of the task. A pipe without a reader must not make us wait, and no symlink is followed: others
    may have put one into a sandbox inside theirs."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = open_without_links(path, flags, 0o640)
    except OSError as error:
        raise SpawnError("output", f"cannot open {path}: {error.strerror}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
        os.close(fd)
        raise SpawnError("output", f"{path} is not a file")
    os.set_blocking(fd, True)
    return fd


def _find_program(name: str, path: str) -> str:
    """Return where the program is. Raises SpawnError."""
    if "/" in name:
        return name
    seen = False
    for directory in path.split(":"):
        candidate = os.path.join(directory or ".", name)
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK):
                return candidate
            seen = True
    if seen:
        raise SpawnError("not executable", f"{name} is in {path} but may not be executed")
    raise SpawnError("not found", f"{name} is not in {path}")


def _limits(launch: Launch) -> list[tuple[int, tuple[int, int]]]:
    limits = []
    for name, pair in (launch.rlimits or {}).items():
        number = getattr(resource, name, None)
        if not name.startswith("RLIMIT_") or number is None:
            raise SpawnError("invalid", f"{name} is not a resource limit of this system")
        soft, hard = (resource.RLIM_INFINITY if value is None else value for value in pair)
        limits.append((number, (soft, hard)))
    return limits
