"""Keeps the daemons of the embedded cluster running; a process of its own, standard library only, so that it stays small.

`kernel.up` writes the plan (which daemons, with which command lines) and starts this file by its path. It says what it
knows in `WORK_DIR/up.json`, replaced whole at every change; whoever holds the lock `WORK_DIR/up.lock` is the supervisor.
Daemons run in sessions of their own and write their own logs, so a supervisor that is killed leaves them working, and
the next one adopts them: by pid, start time and boot id, and only if their command line is the one planned.

SIGTERM and SIGINT: end the tasks, stop everything (a second SIGINT: at once, and leave the tasks). SIGUSR1: stop
everything, tasks go on. Only an agent can end its tasks: one that is dead when all is to end is started for that.

A full disk stops daemons, not the supervisor: it writes what it has to say when there is room again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

BACKOFF_FIRST_S, BACKOFF_MAX_S = 0.1, 30.0
STEADY_S = 30.0  # A daemon that ran this long is restarted at once again.
GIVE_UP_AFTER = 4  # Failures before the cluster was ever ready.
READY_WITHIN_S = 60.0
HEALTH_EVERY_S = 0.05  # While the cluster starts; later a restarted daemon is looked at less often.
HEALTH_LATER_S = 0.5
STOP_WITHIN_S = 30.0  # Tasks have their own, shorter grace periods.
REVIVE_WITHIN_S, END_TRIES = 10.0, 2
WELL = ("exit status 0", "ended")  # How a daemon ends that was asked to; of an adopted one nobody knows more.
PUBLISH_AGAIN_S = 1.0
LOG_BYTES_MAX, LOGS_KEPT, LOG_LOOK_S = 16 << 20, 3, 60.0
ERROR_TAIL_BYTES = 4096
PLAN = ("name", "argv", "url", "health", "end_signal", "stop_phase")


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return stream.read().strip()


def start_time(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when there is none, or only what its parent has not reaped.

    Pid, start time and boot id together name one process for ever.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            after_name = stream.read().rpartition(b") ")[2].split()
    except OSError:
        return None
    return None if after_name[0] in (b"Z", b"X") else int(after_name[19])


def alive(process: dict[str, Any]) -> bool:
    """Whether a recorded process (pid, started, boot_id) is still that process."""
    return bool(process.get("pid")) and process.get("boot_id") == boot_id() and start_time(process["pid"]) == process.get("started")


def running(plans: list[dict[str, Any]], earlier: dict[str, Any]) -> list[dict[str, Any]]:
    """Records of the daemons that run already: those that an earlier supervisor wrote down, and those of the plans that it
    had started and not yet written down when it was killed, found by their command line."""
    records = [record for record in earlier.get("daemons", ()) if alive(record)]
    known = {record["pid"] for record in records}
    lines = {"\0".join(plan["argv"]).encode() + b"\0": plan for plan in plans}
    for pid in [int(name) for name in os.listdir("/proc") if name.isdigit()]:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                plan = lines.get(stream.read())
        except OSError:
            continue
        if plan is not None and pid not in known:
            record = {**plan, "pid": pid, "started": start_time(pid), "boot_id": boot_id()}
            if alive(record):
                records.append(record)
    return records


def healthy(port: int, path: str) -> bool:
    """Whether a server on loopback answers GET path with 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def take_lock(work_dir: str) -> int | None:
    """A descriptor that holds the work dir; None when another process does."""
    lock = os.open(os.path.join(work_dir, "up.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # Who can read it can hold it.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def write_json(path: str, value: Any) -> None:
    """Replace a file whole: readers see the old or the new one."""
    with open(path + ".new", "w") as stream:
        json.dump(value, stream, indent=1)
    os.replace(path + ".new", path)


def table(state: dict[str, Any]) -> str:
    """What `up` prints for people."""
    rows = [(daemon["name"], daemon["url"] or "-", daemon["state"], str(daemon["pid"] or "-")) for daemon in state["daemons"]]
    rows.insert(0, ("NAME", "URL", "STATE", "PID"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", f"State and logs: {state['work_dir']}"])


class Child:
    """One daemon. `plan` is its entry in the plan, see PLAN; health is [port, path] or null."""

    def __init__(self, plan: dict[str, Any], log: str) -> None:
        self.plan, self.log = plan, log
        self.name: str = plan["name"]
        self.state = "stopped"  # starting, running, waiting (to be restarted), stopped
        self.process: dict[str, Any] = {}  # pid, started, boot_id
        self.pidfd = -1
        self.ours = False
        self.failures = self.restarts = 0
        self.last_error: str | None = None
        self.started_at = self.due = 0.0  # Monotonic.
        self.holds_tasks = False  # Tasks of it may run, whether it does or not.

    @property
    def may_hold_tasks(self) -> bool:
        return bool(self.plan["end_signal"] != signal.SIGTERM)

    def start(self, now: float) -> None:
        self.started_at = now
        output = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            argv = self.plan["argv"]
            actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            actions += [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]  # type: ignore[list-item]
            defaults = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGPIPE]
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True, setsigmask=[], setsigdef=defaults)
        finally:
            os.close(output)
        self.process = {"pid": pid, "started": start_time(pid), "boot_id": boot_id()}
        self.pidfd = os.pidfd_open(pid)
        self.ours, self.state, self.holds_tasks = True, "starting", self.may_hold_tasks

    def adopt(self, process: dict[str, Any], now: float) -> None:
        """Take over a daemon that an earlier supervisor started."""
        self.pidfd = os.pidfd_open(process["pid"])
        self.process = {key: process[key] for key in ("pid", "started", "boot_id")}
        self.ours, self.state, self.started_at, self.holds_tasks = False, "starting", now, self.may_hold_tasks

    def signal(self, number: int) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def ended(self) -> str:
        """The process is gone: reap it and say how it ended."""
        status = None
        if self.ours:
            with contextlib.suppress(ChildProcessError):
                status = os.waitpid(self.process["pid"], 0)[1]
        os.close(self.pidfd)
        self.pidfd, self.process, self.ours = -1, {}, False
        if status is None:
            return "ended"
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return f"{how}: {self._last_words()}" if code > 0 else how

    def _last_words(self) -> str:
        with open(self.log, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - ERROR_TAIL_BYTES))
            lines = stream.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")

    def shown(self) -> dict[str, Any]:
        return {
            **self.plan,
            "pid": None,
            "started": None,
            "boot_id": None,
            **self.process,
            "state": self.state,
            "holds_tasks": self.holds_tasks,
            "restarts": self.restarts,
            "last_error": self.last_error,
        }


class Supervisor:
    """Runs a plan until told to stop. The caller holds the lock of the work dir."""

    def __init__(self, work_dir: str, plan: list[dict[str, Any]], *, foreground: bool = False, as_json: bool = False) -> None:
        """foreground: say on stdout when all work (as_json: how), and on stderr what happens."""
        self.work_dir, self.foreground, self.as_json = work_dir, foreground, as_json
        self.ready = False
        self.failed: str | None = None
        self.stopping: str | None = None  # "end" or "keep" the tasks.
        self._impatient = False
        self._state_file = os.path.join(work_dir, "up.json")
        self._published = True  # Whether the file says how things are.
        self._log_look_due = 0.0
        self._log_dir = os.path.join(work_dir, "log")
        os.makedirs(self._log_dir, exist_ok=True)
        self.children = [Child(entry, os.path.join(self._log_dir, entry["name"] + ".log")) for entry in plan]
        self._poll = select.poll()

    def adopt(self, earlier: dict[str, Any]) -> None:
        """Take over what still runs of an earlier supervisor's daemons; stop those that the plan does not have, with their tasks."""
        now = time.monotonic()
        planned = {child.name: child for child in self.children}
        replaced: list[Child] = []
        unwanted: list[Child] = []
        for record in running([child.plan for child in self.children], earlier):
            child = planned.get(record["name"])
            if child is not None and child.pidfd < 0 and child.plan["argv"] == record["argv"]:
                child.restarts, child.last_error = record.get("restarts", 0), record.get("last_error")
                child.adopt(record, now)
                self._poll.register(child.pidfd, select.POLLIN)
                self._say(f"{child.name}: adopted, pid {record['pid']}")
            else:
                stray = Child({key: record[key] for key in PLAN}, os.devnull)
                stray.adopt(record, now)
                (unwanted if child is None else replaced).append(stray)
        found = {stray.name for stray in unwanted}
        for record in earlier.get("daemons", ()):
            if record.get("holds_tasks") and record["name"] in planned:
                planned[record["name"]].holds_tasks = True
            elif record.get("holds_tasks") and record["name"] not in found:
                unwanted.append(Child({key: record[key] for key in PLAN}, os.devnull))
                unwanted[-1].holds_tasks = True
        for phase in _phases(replaced):
            self._stop(phase, end_tasks=False)
        for phase in _phases(unwanted):
            self._stop(phase, end_tasks=True)

    def run(self) -> int:
        """Start what does not run and keep it running. Returns the exit status: 0 stopped as asked, 1 it never worked."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._asked)
        self._poll.register(wake_read, select.POLLIN)
        give_up_at = time.monotonic() + READY_WITHIN_S
        self._publish()
        while self.stopping is None:
            now = time.monotonic()
            changed = self._advance(now)
            if not self.ready and all(child.state == "running" for child in self.children):
                self._announce()
                changed = True
            if not self.ready and now > give_up_at:
                late = ", ".join(child.name for child in self.children if child.state != "running")
                self.failed = f"not healthy within {READY_WITHIN_S:g} s: {late}"
            if self.failed is not None:
                break
            if changed or not self._published:
                self._publish()
            for descriptor, _ in self._poll.poll(1000 * self._pause_s(now)):
                if descriptor == wake_read:
                    os.read(wake_read, 1024)
                else:
                    self._reap(next(child for child in self.children if child.pidfd == descriptor))
        self.stop(end_tasks=self.stopping == "end")
        if self.failed is not None and self.foreground:
            print(f"Error: {self.failed}", file=sys.stderr)
        return 0 if self.failed is None else 1

    def stop(self, end_tasks: bool) -> None:
        """Stop all daemons, frameworks first and masters last."""
        self.ready = False
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.work_dir, "endpoints.json"))
        self._publish()
        for phase in _phases(self.children):
            self._stop(phase, end_tasks)
        self._publish()

    def _asked(self, number: int, _frame: object) -> None:
        if self.stopping is None:
            self.stopping = "keep" if number == signal.SIGUSR1 else "end"
        elif number == signal.SIGINT:  # A second Ctrl-C.
            self._impatient = True
            for child in self.children:
                child.signal(signal.SIGKILL)

    def _stop(self, children: list[Child], end_tasks: bool) -> None:
        for _ in range(END_TRIES if end_tasks else 0):
            holding = [child for child in children if child.holds_tasks]
            if not holding or self._impatient:
                break
            self._revive(holding)
            self._end(holding, end_tasks=True)
        self._end(children, end_tasks)
        for child in children:
            child.state = "stopped"

    def _revive(self, children: list[Child]) -> None:
        """Have all of them work: only they can end their tasks, and a signal before they listen to it would just kill them."""
        deadline = time.monotonic() + REVIVE_WITHIN_S
        poll = select.poll()
        tried: set[Child] = set()
        while not self._impatient and (now := time.monotonic()) < deadline:
            for child in children:
                if child.pidfd < 0 and child not in tried:
                    tried.add(child)
                    try:
                        child.start(now)
                    except OSError as error:
                        self._say(f"{child.name}: cannot be started to end its tasks: {error}")
                if child.state == "starting" and (child.plan["health"] is None or healthy(*child.plan["health"])):
                    child.state = "running"
                if child.pidfd >= 0:
                    poll.register(child.pidfd, select.POLLIN)
            if all(child.state == "running" or child.pidfd < 0 for child in children):
                return
            for descriptor, _ in poll.poll(1000 * HEALTH_EVERY_S):
                child = next(child for child in children if child.pidfd == descriptor)
                poll.unregister(descriptor)
                self._forget(child)
                child.state = "waiting"
                self._say(f"{child.name}: {child.ended()}; it was to end its tasks")

    def _end(self, children: list[Child], end_tasks: bool) -> None:
        """Signal those that run and wait until they are gone."""
        deadline = time.monotonic() + STOP_WITHIN_S
        left = [child for child in children if child.pidfd >= 0]
        killed: set[Child] = set()
        for child in left:
            child.signal(child.plan["end_signal"] if end_tasks else signal.SIGTERM)
        poll = select.poll()
        for child in left:
            poll.register(child.pidfd, select.POLLIN)
        while left:
            for descriptor, _ in poll.poll(max(0.0, 1000 * (deadline - time.monotonic()))):
                child = next(child for child in left if child.pidfd == descriptor)
                poll.unregister(descriptor)
                self._forget(child)
                if child.ended() in WELL and child not in killed and end_tasks:
                    child.holds_tasks = False
                left.remove(child)
            if left and time.monotonic() >= deadline:
                for child in left:
                    self._say(f"{child.name}: did not stop within {STOP_WITHIN_S:g} s, killed")
                    child.signal(signal.SIGKILL)
                    killed.add(child)
                deadline += STOP_WITHIN_S

    def _forget(self, child: Child) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(child.pidfd)

    def _advance(self, now: float) -> bool:
        """Do what is due; return whether a daemon changed its state."""
        before = [child.state for child in self.children]
        for child in self.children:
            if child.state == "stopped" or (child.state == "waiting" and child.due <= now):
                try:
                    child.start(now)
                except OSError as error:  # No room for its log, no memory.
                    self._failed(child, f"cannot be started: {error}")
                else:
                    self._poll.register(child.pidfd, select.POLLIN)
            elif child.state == "starting" and (child.plan["health"] is None or healthy(*child.plan["health"])):
                child.state = "running"
        if now >= self._log_look_due:
            self._log_look_due = now + LOG_LOOK_S
            for name in os.listdir(self._log_dir):
                if name.endswith(".log"):
                    with contextlib.suppress(OSError):
                        _rotate(os.path.join(self._log_dir, name))
        return before != [child.state for child in self.children]

    def _reap(self, child: Child) -> None:
        self._forget(child)
        self._failed(child, child.ended())

    def _failed(self, child: Child, how: str) -> None:
        """A daemon is not there: say why and start it later, or give up if it never worked."""
        now = time.monotonic()
        child.failures = 1 if now - child.started_at > STEADY_S else child.failures + 1
        child.restarts += 1
        child.last_error = how
        pause_s = min(BACKOFF_FIRST_S * 2 ** (child.failures - 1), BACKOFF_MAX_S)
        child.state, child.due = "waiting", now + pause_s
        self._say(f"{child.name}: {how}; restart in {pause_s:g} s")
        if not self.ready and (how.startswith("exit status 2") or child.failures >= GIVE_UP_AFTER):
            self.failed = f"{child.name} does not start: {how} (see {child.log})"

    def _pause_s(self, now: float) -> float:
        """Seconds until something is due."""
        due = min([self._log_look_due, *(child.due for child in self.children if child.state == "waiting")])
        if not self._published:
            due = min(due, now + PUBLISH_AGAIN_S)
        if any(child.state == "starting" for child in self.children):
            due = min(due, now + (HEALTH_LATER_S if self.ready else HEALTH_EVERY_S))
        return max(0.0, due - now)

    def _announce(self) -> None:
        self.ready = True
        urls = {child.name: child.plan["url"] for child in self.children if child.plan["url"]}
        try:
            write_json(os.path.join(self.work_dir, "endpoints.json"), urls)
        except OSError as error:
            self.failed = f"cannot write the endpoints: {error.strerror}"
            return
        if self.foreground:
            print(json.dumps(self._state()) if self.as_json else table(self._state()), flush=True)

    def _state(self) -> dict[str, Any]:
        supervisor = {"pid": os.getpid(), "started": start_time(os.getpid()), "boot_id": boot_id()}
        daemons = [child.shown() for child in self.children]
        return {"work_dir": self.work_dir, "ready": self.ready, "failed": self.failed, "supervisor": supervisor, "daemons": daemons}

    def _publish(self) -> None:
        try:
            write_json(self._state_file, self._state())
            self._published = True
        except OSError as error:
            if self._published:
                self._say(f"cannot write {self._state_file}: {error.strerror}; trying again")
            self._published = False

    def _say(self, text: str) -> None:
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n"
        with contextlib.suppress(OSError), open(os.path.join(self._log_dir, "up.log"), "a") as stream:
            stream.write(line)
        if self.foreground:
            sys.stderr.write(line)


def _phases(children: list[Child]) -> list[list[Child]]:
    """Children in the order in which they are stopped, those of one phase together."""
    numbers = sorted({child.plan["stop_phase"] for child in children})
    return [[child for child in children if child.plan["stop_phase"] == number] for number in numbers]


def _rotate(path: str) -> None:
    """Keep a large log as `.1`. It is copied and cut, as its writer holds it open; writers append, so they go on at 0."""
    if os.stat(path).st_size < LOG_BYTES_MAX:
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")
    with open(path, "rb") as source, open(path + ".1", "wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
    os.truncate(path, 0)


def main(arguments: list[str]) -> int:
    """`supervisor.py LOCK_FD detached|table|json meseta up --work-dir DIR`: run the plan in DIR/up.plan.json."""
    lock, mode, work_dir = int(arguments[0]), arguments[1], arguments[-1]
    os.set_inheritable(lock, False)
    with open(os.path.join(work_dir, "up.plan.json")) as stream:
        plan = json.load(stream)
    supervisor = Supervisor(work_dir, plan, foreground=mode != "detached", as_json=mode == "json")
    try:
        with open(os.path.join(work_dir, "up.json")) as stream:
            supervisor.adopt(json.load(stream))
    except FileNotFoundError:
        supervisor.adopt({})
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
