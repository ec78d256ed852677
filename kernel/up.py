"""The embedded cluster on this machine: what a person types. The process that stays is `kernel.supervisor`.

`meseta up`: Start a whole cluster on this machine.
`meseta down`: Stop the cluster that `meseta up` started; its state stays.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import click

from kernel import endpoints, supervisor
from kernel.cli import daemon, entry_points
from kernel.daemons import LOOPBACK, Daemon, Embedded
from kernel.errors import KernelError
from kernel.supervisor import Supervisor

LOOK_EVERY_S = 0.03
STOPPED_WITHIN_S = 120.0
MASTER = "master"


class UpError(KernelError):
    """The cluster cannot be started or stopped."""


def plan(work_dir: Path, agents: int, port_offset: int, only: list[str]) -> list[dict[str, Any]]:
    """What the supervisor is to run: the installed daemons, masters first. Raises click.BadParameter for an unknown one."""
    known = {name: daemon(target) for name, target in entry_points("meseta.daemons").items()}
    for name in only:
        if name not in known:
            raise click.BadParameter(f"no daemon is called {name!r}; there are: {', '.join(known)}", param_hint="--only")
    chosen = [known[name] for name in (only or known)]
    chosen.sort(key=lambda found: -found.stop_phase)  # Whoever is stopped last is started first.
    master_url = f"http://{LOOPBACK}:{known[MASTER].ports[0] + port_offset}" if MASTER in known else ""
    entries = []
    for found in chosen:
        total = agents if found.many_port is not None else 1
        for number in range(1, total + 1):
            name = found.name if found.many_port is None else f"{found.name}-{number}"
            place = Embedded(str(work_dir / name), _ports(found, number, port_offset), master_url, number, total)
            entries.append(_entry(found, name, place))
    return entries


def _ports(found: Daemon, number: int, offset: int) -> tuple[int, ...]:
    if number > 1 and found.many_port is not None:
        return (found.many_port + number + offset,)
    return tuple(port + offset for port in found.ports)


def _entry(found: Daemon, name: str, place: Embedded) -> dict[str, Any]:
    return {
        "name": name,
        "argv": [*_meseta(), "serve", found.name, *found.arguments(place)],
        "url": f"http://{LOOPBACK}:{place.ports[0]}" if place.ports else None,
        "health": [place.ports[0], found.health] if place.ports and found.health is not None else None,
        "end_signal": found.end_signal,
        "stop_phase": found.stop_phase,
    }


def _meseta() -> list[str]:
    """How this very installation is started; never by a name on PATH."""
    script = Path(sys.executable).with_name("meseta")
    return [sys.executable, str(script)] if script.exists() else [sys.executable, "-m", "kernel.cli"]


def _work_dir(_: click.Context, __: click.Parameter, given: str | None) -> Path | None:
    return Path(given).absolute() if given is not None else None


work_dir_option = click.option(
    "--work-dir",
    metavar="DIR",
    callback=_work_dir,
    envvar="MESETA_WORK_DIR",
    help="Where state and logs are kept; default: the state home.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option(
    "--agents", type=click.IntRange(1, 100), default=1, show_default=True, help="Agents; each announces its part of this machine."
)
@work_dir_option
@click.option("--port-offset", type=click.IntRange(0, 40000), default=0, help="Added to every port.")
@click.option("--only", metavar="A,B", default="", help="Run these daemons only.")
@click.option("--detach", is_flag=True, help="Return when the cluster works.")
@json_option
def up(agents: int, work_dir: Path | None, port_offset: int, only: str, detach: bool, as_json: bool) -> None:
    """Start a whole cluster on this machine and print where its daemons answer.

    It stays until Ctrl-C, which ends the tasks and stops it, as `meseta down` does; with --detach it goes on by itself.
    Where a cluster runs already on the work dir, it is shown and left as it is.
    """
    work_dir = work_dir or endpoints.state_home()
    entries = plan(work_dir, agents, port_offset, [name for name in only.split(",") if name])
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        state = _start_or_find(work_dir, entries, None if detach else "json" if as_json else "table")
    except OSError as error:
        raise _unusable(work_dir, error) from error
    click.echo(json.dumps(state) if as_json else supervisor.table(state))


def _start_or_find(work_dir: Path, entries: list[dict[str, Any]], foreground: str | None) -> dict[str, Any]:
    """What the supervisor of the work dir says once all its daemons work; where there is none, one is started, or this
    process becomes it (foreground: how it then shows the cluster). Raises UpError with the reason when they do not work."""
    started = False
    while True:
        lock = supervisor.take_lock(str(work_dir))
        state = endpoints.read_json(work_dir / "up.json")
        if lock is None:
            if state.get("ready"):
                if not started:
                    _remember(work_dir)
                return state
            time.sleep(LOOK_EVERY_S)  # It starts, or it stops: then it is our turn.
        elif started:
            raise UpError(str(state.get("failed") or f"the supervisor ended; see {work_dir / 'log/up.log'}"))
        else:
            _check_ports(entries, state)
            supervisor.write_json(str(work_dir / "up.plan.json"), entries)
            if state:  # What an earlier supervisor said of itself would be taken for the new one's.
                supervisor.write_json(str(work_dir / "up.json"), {**state, "ready": False, "failed": None, "supervisor": {}})
            _remember(work_dir)
            if foreground is not None:
                _become_supervisor(lock, work_dir, foreground)
            _spawn_supervisor(lock, work_dir)
            started = True


@click.command()
@work_dir_option
@click.option("--keep-tasks", is_flag=True, help="Leave tasks running; the next `up` finds them.")
@json_option
def down(work_dir: Path | None, keep_tasks: bool, as_json: bool) -> None:
    """End the tasks gracefully and stop the embedded cluster; its state stays in the work dir."""
    work_dir = work_dir or endpoints.last_work_dir()
    state = endpoints.read_json(work_dir / "up.json")
    left = [found for found in state.get("daemons", ()) if supervisor.alive(found) or (found.get("holds_tasks") and not keep_tasks)]
    names = [found["name"] for found in left]
    if state:
        try:
            _stop(work_dir, keep_tasks)
        except OSError as error:
            raise _unusable(work_dir, error) from error
    if as_json:
        click.echo(json.dumps({"work_dir": str(work_dir), "stopped": names}))
    else:
        click.echo(f"Stopped: {', '.join(names)}" if names else f"Nothing runs in {work_dir}")


def _stop(work_dir: Path, keep_tasks: bool) -> None:
    deadline = time.monotonic() + STOPPED_WITHIN_S
    asked = None
    while (lock := supervisor.take_lock(str(work_dir))) is None:
        process = endpoints.read_json(work_dir / "up.json").get("supervisor", {})
        if process != asked and supervisor.alive(process):  # Just started ones have not written their pid yet.
            if asked is not None:
                return  # The one that was asked is gone. Whoever has started another since does not mean us.
            os.kill(process["pid"], signal.SIGUSR1 if keep_tasks else signal.SIGTERM)
            asked = process
        if time.monotonic() > deadline:
            raise UpError(f"the cluster in {work_dir} did not stop within {STOPPED_WITHIN_S:g} s")
        time.sleep(LOOK_EVERY_S)
    # Nobody supervises. If the supervisor was killed, its daemons go on: stop them in its place.
    state = endpoints.read_json(work_dir / "up.json")
    left = Supervisor(str(work_dir), [{key: found[key] for key in supervisor.PLAN} for found in state["daemons"]])
    left.adopt(state)
    left.stop(end_tasks=not keep_tasks)
    os.close(lock)


def _check_ports(entries: list[dict[str, Any]], earlier: dict[str, Any]) -> None:
    """Refuse ports that others listen on, before anything is started. Daemons to be adopted have theirs already."""
    import socket

    ours = {found["url"] for found in supervisor.running(entries, earlier)}
    for entry in entries:
        if entry["url"] is not None and entry["url"] not in ours:
            port = int(entry["url"].rpartition(":")[2])
            with socket.socket() as probe:
                if probe.connect_ex((LOOPBACK, port)) == 0:
                    raise UpError(f"port {port}, for {entry['name']}, is in use; --port-offset moves all ports")


def _command(lock: int, work_dir: Path, mode: str) -> list[str]:
    """The supervisor's command line. Without site-packages it is smaller and quicker; the last words are for `ps`."""
    return [sys.executable, "-I", "-S", supervisor.__file__, str(lock), mode, "meseta", "up", "--work-dir", str(work_dir)]


def _become_supervisor(lock: int, work_dir: Path, mode: str) -> NoReturn:
    os.set_inheritable(lock, True)
    sys.stdout.flush()
    os.execv(sys.executable, _command(lock, work_dir, mode))


def _spawn_supervisor(lock: int, work_dir: Path) -> None:
    (work_dir / "log").mkdir(exist_ok=True)
    with open(work_dir / "log/up.log", "ab") as log:
        subprocess.Popen(
            _command(lock, work_dir, "detached"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    os.close(lock)


def _remember(work_dir: Path) -> None:
    """Let client commands find this cluster. It works without: a user may have no home."""
    pointer = endpoints.pointer()
    try:
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.write_text(f"{work_dir}\n")
    except OSError as error:
        needed = "commands need --master or MESETA_MASTER, and `meseta down` needs --work-dir"
        click.echo(f"meseta up: cannot write {pointer} ({error.strerror}): {needed}", err=True)


def _unusable(work_dir: Path, error: OSError) -> UpError:
    return UpError(f"cannot use the work dir {work_dir}: {error}")
