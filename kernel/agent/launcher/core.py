"""What the launcher decides: commands and process events in, effects out.

The launcher owns the processes of tasks and outlives the agent. This module knows neither sockets nor processes
nor files, so that a simulator can run it. Standard library only, like everything the launcher imports.

A container's life is INTENT -> RUNNING -> ENDED -> forgotten, or INTENT -> FAILED -> forgotten. Every step is a
record of the journal; `restore` takes the records back, and the edge then says of each `unresolved` container what
has become of its process (`Spawned`, `Ended`). The order of effects is the promise:

- the record of an intent stands before its `Spawn`, so that a launcher killed in between knows what to look for and
  nothing is started twice;
- the record of an exit stands before its `Reap`, which makes the kernel forget the status, and before its `Send`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]

VERSION = 1
"""Version of the protocol on the socket. `hello`, its answer and `replace` stay as they are in every version."""

STATE_CHUNK = 1000
"""Containers in one line of the state told on hello: keeps it far below the limit of 1 MiB."""

SIGKILL = 9

INTENT, RUNNING, ENDED, FAILED = "intent", "running", "ended", "failed"


class BadCommand(Exception):
    """The agent sent what this protocol does not have. The connection is closed."""


# Inputs: commands of the agent.


class Hello(NamedTuple):
    """The agent is there; tell it everything."""


class Launch(NamedTuple):
    """Start a process. Idempotent by container: a repeat is answered with what is known.

    executable: what to run where it is not argv[0]; without a slash it is looked for in env's PATH. env: the whole environment.
    user: a name, or None for the launcher's own; groups: supplementary group ids instead of the user's. rlimits: by name
    (`RLIMIT_CORE`) soft and hard limit, None for unlimited. cgroups: files of control groups (`tasks`, `cgroup.procs`) that take
    the process in from its first instruction. pidfile: what is executed only starts the container's process (a container runtime does)
    and ends; the process is then the one whose pid stands in this file. It must have `processes.CONTAINER_VARIABLE` in its environment.
    terminal: rows and columns of one that the process gets instead of its standard files; what is shown there goes to stdout. Not with a
    pidfile.
    """

    container: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    stdout: str
    stderr: str
    executable: str | None = None
    user: str | None = None
    groups: tuple[int, ...] | None = None
    rlimits: dict[str, tuple[int | None, int | None]] | None = None
    cgroups: tuple[str, ...] = ()
    pidfile: str | None = None
    terminal: tuple[int, int] | None = None


class Signal(NamedTuple):
    """Send a signal to the leader or to its process group. Nothing happens when the container has ended."""

    container: str
    signal: int
    whole_group: bool = True


class Forget(NamedTuple):
    """The end of this container is recorded elsewhere. Ignored while it has not ended."""

    container: str


class Exit(NamedTuple):
    """Stop: at once when nothing is known, else only with kill_all, after everything was killed. Otherwise the answer is `busy`."""

    kill_all: bool = False


class Replace(NamedTuple):
    """Become another program in place (an upgrade): same pid, so the tasks stay our children."""

    argv: tuple[str, ...]


Command = Hello | Launch | Signal | Forget | Exit | Replace


# Inputs: what became of processes.


class Spawned(NamedTuple):
    """A process runs. start: its start time in clock ticks since boot, which with the pid names it for good."""

    container: str
    pid: int
    start: int


class SpawnFailed(NamedTuple):
    """A process could not be started. reason: a few fixed words (see `spawn.SpawnError`); message: for people."""

    container: str
    reason: str
    message: str


class Ended(NamedTuple):
    """A process ended. status: the raw wait status, None when nobody can tell any more."""

    container: str
    status: int | None


Event = Spawned | SpawnFailed | Ended


# Effects, performed in order.


class Record(NamedTuple):
    """Append to the journal."""

    entry: Json


class Spawn(NamedTuple):
    """Start a process; answer with Spawned or SpawnFailed, now or later. Records before it must be written by then."""

    launch: Launch


class Kill(NamedTuple):
    """Send a signal to a process or its group."""

    pid: int
    start: int
    signal: int
    whole_group: bool


class Reap(NamedTuple):
    """The exit of this container's process is recorded: the kernel may forget it."""

    container: str
    pid: int


class Send(NamedTuple):
    """Tell the agent, if one is connected; otherwise the next hello tells it."""

    message: Json


class Execute(NamedTuple):
    """Become another program."""

    argv: tuple[str, ...]


class Stop(NamedTuple):
    """End the launcher."""


Effect = Record | Spawn | Kill | Reap | Send | Execute | Stop


class Container:
    """What is known of one container. wall-clock seconds; pid and start are 0 until it runs."""

    __slots__ = ("ended_s", "message", "name", "phase", "pid", "reason", "signals", "start", "started_s", "status")

    def __init__(self, name: str, started_s: float) -> None:
        self.name = name
        self.phase = INTENT
        self.pid = 0
        self.start = 0
        self.started_s = started_s
        self.status: int | None = None
        self.ended_s = 0.0
        self.reason = self.message = ""
        self.signals: list[Signal] = []  # Came before its process did.

    def report(self) -> Json:
        """Return this container as the state message shows it."""
        report: Json = {"container": self.name, "pid": self.pid or None, "started_at": self.started_s, "exit": None, "failed": None}
        if self.phase == ENDED:
            report["exit"] = {"status": self.status, "ended_s": self.ended_s}
        elif self.phase == FAILED:
            report["failed"] = {"reason": self.reason, "message": self.message}
        return report

    def outcome(self) -> Json | None:
        """Return the message that tells how far it got, None while its process is being started."""
        match self.phase:
            case "running":
                return {"type": "started", "container": self.name, "pid": self.pid}
            case "ended":
                return {"type": "exited", "container": self.name, "status": self.status, "ended_s": self.ended_s}
            case "failed":
                return {"type": "failed", "container": self.name, "reason": self.reason, "message": self.message}
        return None

    def records(self) -> list[Json]:
        """Return the shortest journal that leads here."""
        records: list[Json] = [{"r": "intent", "c": self.name, "at": self.started_s}]
        if self.pid:
            records.append({"r": "running", "c": self.name, "pid": self.pid, "start": self.start})
        if self.phase == ENDED:
            records.append({"r": "exit", "c": self.name, "status": self.status, "at": self.ended_s})
        elif self.phase == FAILED:
            records.append({"r": "failed", "c": self.name, "reason": self.reason, "message": self.message})
        return records


class Core:
    """Every decision of the launcher. Equal inputs in equal order give equal effects."""

    def __init__(self, build: str = "") -> None:
        """build: names the code that runs, told on hello so that a newer agent can replace it."""
        self.build = build
        self.containers: dict[str, Container] = {}
        self.by_pid: dict[int, Container] = {}  # The running ones.
        self.pending = 0  # Containers in INTENT.
        self.stopping = False

    def restore(self, records: list[Json]) -> None:
        """Take back what the journal holds, in order. Kinds and containers it does not know are passed over."""
        for record in records:
            name = record.get("c", "")
            if record.get("r") == "intent":
                if name not in self.containers:
                    self.containers[name] = Container(name, record["at"])
                    self.pending += 1
                continue
            container = self.containers.get(name)
            if container is None:
                continue
            match record.get("r"):
                case "running":
                    self._run(container, record["pid"], record["start"])
                case "exit":
                    self._end(container, record["status"], record["at"])
                case "failed":
                    self._fail(container, record["reason"], record["message"])
                case "forget":
                    self._drop(container)

    def snapshot(self) -> list[Json]:
        """Return the records that `restore` would need, for compaction."""
        return [record for container in self.containers.values() for record in container.records()]

    def unresolved(self) -> list[Container]:
        """Return the containers whose process must be looked for after `restore`."""
        return [c for c in self.containers.values() if c.phase in (INTENT, RUNNING)]

    def lives(self, name: str) -> bool:
        """Whether a container's process runs or is being started."""
        container = self.containers.get(name)
        return container is not None and container.phase in (INTENT, RUNNING)

    @property
    def idle(self) -> bool:
        """Whether no process runs or is being started."""
        return not self.by_pid and not self.pending

    def receive(self, message: Command | Event, wall_s: float) -> list[Effect]:
        """Take one input; return what to do, in order. wall_s: seconds since the epoch. Raises nothing."""
        match message:
            case Launch():
                return self._launch(message, wall_s)
            case Spawned():
                return self._spawned(message)
            case Ended(name, status):
                return self._ended(name, status, wall_s)
            case Forget(name):
                return self._forget(name)
            case Signal():
                return self._signal(message)
            case SpawnFailed():
                return self._spawn_failed(message)
            case Hello():
                return self._state()
            case Exit(kill_all):
                return self._exit(kill_all)
            case Replace(argv):
                return [Execute(argv)] if not self.stopping else []

    def _launch(self, launch: Launch, wall_s: float) -> list[Effect]:
        known = self.containers.get(launch.container)
        if known is not None:
            outcome = known.outcome()
            return [Send(outcome)] if outcome is not None else []
        if self.stopping:  # Not recorded: an agent may try it again with the next launcher.
            text = "the launcher is being stopped"
            return [Send({"type": "failed", "container": launch.container, "reason": "stopping", "message": text})]
        container = self.containers[launch.container] = Container(launch.container, wall_s)
        self.pending += 1
        return [Record({"r": "intent", "c": container.name, "at": wall_s}), Spawn(launch)]

    def _spawned(self, event: Spawned) -> list[Effect]:
        container = self.containers.get(event.container)
        if container is None or container.phase != INTENT:
            return []
        self._run(container, event.pid, event.start)
        effects: list[Effect] = [Record({"r": "running", "c": container.name, "pid": event.pid, "start": event.start})]
        effects += [Kill(event.pid, event.start, s.signal, s.whole_group) for s in container.signals]
        container.signals = []
        return [*effects, Send({"type": "started", "container": container.name, "pid": event.pid})]

    def _spawn_failed(self, event: SpawnFailed) -> list[Effect]:
        container = self.containers.get(event.container)
        if container is None or container.phase != INTENT:
            return []
        self._fail(container, event.reason, event.message)
        record = {"r": "failed", "c": container.name, "reason": event.reason, "message": event.message}
        told = {"type": "failed", "container": container.name, "reason": event.reason, "message": event.message}
        return [Record(record), Send(told), *self._stop_if_done()]

    def _ended(self, name: str, status: int | None, wall_s: float) -> list[Effect]:
        container = self.containers.get(name)
        if container is None or container.phase not in (INTENT, RUNNING):
            return []
        self._end(container, status, wall_s)
        effects: list[Effect] = [Record({"r": "exit", "c": name, "status": status, "at": wall_s})]
        if container.pid:
            effects.append(Reap(name, container.pid))
        return [*effects, Send({"type": "exited", "container": name, "status": status, "ended_s": wall_s}), *self._stop_if_done()]

    def _forget(self, name: str) -> list[Effect]:
        container = self.containers.get(name)
        if container is None or container.phase in (INTENT, RUNNING):
            return []
        self._drop(container)
        return [Record({"r": "forget", "c": name})]

    def _signal(self, message: Signal) -> list[Effect]:
        container = self.containers.get(message.container)
        if container is None:
            return []
        if container.phase == INTENT:
            container.signals.append(message)
        elif container.phase == RUNNING:
            return [Kill(container.pid, container.start, message.signal, message.whole_group)]
        return []

    def _state(self) -> list[Effect]:
        reports = [container.report() for container in self.containers.values()]
        effects: list[Effect] = []
        for first in range(0, len(reports) or 1, STATE_CHUNK):
            chunk = reports[first : first + STATE_CHUNK]
            more = first + STATE_CHUNK < len(reports)
            effects.append(Send({"type": "state", "version": VERSION, "build": self.build, "containers": chunk, "more": more}))
        return effects

    def _exit(self, kill_all: bool) -> list[Effect]:
        if not kill_all:
            return [Send({"type": "busy", "containers": len(self.containers)})] if self.containers else [Stop()]
        self.stopping = True
        effects: list[Effect] = []
        for container in self.unresolved():
            effects += self._signal(Signal(container.name, SIGKILL))
        return effects + self._stop_if_done()

    def _stop_if_done(self) -> list[Effect]:
        return [Stop()] if self.stopping and self.idle else []

    def _run(self, container: Container, pid: int, start: int) -> None:
        if container.phase == INTENT:
            self.pending -= 1
            container.phase, container.pid, container.start = RUNNING, pid, start
            self.by_pid[pid] = container

    def _leave(self, container: Container) -> None:
        if container.phase == INTENT:
            self.pending -= 1
        elif container.phase == RUNNING and self.by_pid.get(container.pid) is container:
            del self.by_pid[container.pid]

    def _end(self, container: Container, status: int | None, ended_s: float) -> None:
        self._leave(container)
        container.phase, container.status, container.ended_s = ENDED, status, ended_s

    def _fail(self, container: Container, reason: str, message: str) -> None:
        self._leave(container)
        container.phase, container.reason, container.message = FAILED, reason, message

    def _drop(self, container: Container) -> None:
        self._leave(container)
        del self.containers[container.name]
