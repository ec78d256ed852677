"""What all client commands share: which master to ask, who asks, and errors that say what to do next. Imports little."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from kernel import endpoints
from kernel.errors import KernelError
from kernel.net.auth import Credential, load_credential

MASTER_PORT = 5050
ZK = "zk://"
ZK_ANSWER_S = 5.0

F = TypeVar("F", bound=Callable[..., Any])
_FIELD = re.compile(r"((?:--)?[A-Za-z_][\w.\[\]-]*)(?: of '[^']*')?: ")


class CommandError(KernelError):
    """A client command cannot do what it was asked. field: the option or argument to blame; hint: what to do next."""

    def __init__(self, problem: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem, self.field, self.hint = problem, field, hint


class WrongUsage(click.UsageError):
    """An option or argument is no good: exit status 2. The text begins with its name and a colon."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.field = field_of(text)


def field_of(text: str) -> str | None:
    """The field that an error begins with, as in `limits.cpus of 'eng': 5 is ...`."""
    found = _FIELD.match(text)
    return found[1] if found is not None else None


def master_options(command: F) -> F:
    """The options that every client command takes: --master, --credential and --json."""
    json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    credential = click.option(
        "--credential",
        "credential_file",
        metavar="FILE",
        envvar="MESETA_CREDENTIAL",
        help='Who you are, where masters ask for it: a file with {"principal": ..., "secret": ...}.',
    )
    master = click.option(
        "--master",
        metavar="URL",
        envvar="MESETA_MASTER",
        help="The master, several with commas, or zk://HOST:PORT/PATH; default: that of the last `meseta up`.",
    )
    return master(credential(json(command)))


def masters(given: str | None, *, follows: bool = False) -> list[str]:
    """URLs of masters: those given (option or MESETA_MASTER), else that of the last `up`.

    Of `zk://...` it is that of the leader now; follows: the address itself, for a framework, which follows the leader.
    Raises CommandError.
    """
    if given:
        if given.startswith(ZK):
            return [given] if follows else [_look_up(given)]
        return [_url(part.strip()) for part in given.split(",") if part.strip()]
    url = endpoints.endpoints().get("master")
    if url is None:
        raise CommandError("no master is known", field="--master", hint="start one with `meseta up`, or give --master or MESETA_MASTER")
    return [url]


def _look_up(url: str) -> str:
    """Ask an ensemble for the leading master."""
    from kernel.election.zookeeper import look_up  # kazoo costs a tenth of a second.
    from kernel.zookeeper import parse_url

    try:
        ensemble = parse_url(url)
        leader = look_up(ensemble, ZK_ANSWER_S)
    except KernelError as error:
        raise CommandError(str(error), field="--master") from error
    if leader is None:
        raise CommandError(f"no master leads at {ensemble}", field="--master", hint="is one running with the same --zk?")
    return f"http://{leader.address}"


def _url(text: str) -> str:
    """`http://host:port` of what people write for it."""
    parts = urlsplit(text if "//" in text else f"http://{text}")
    try:
        host, port = parts.hostname, parts.port or MASTER_PORT
    except ValueError:
        host, port = None, MASTER_PORT
    if parts.scheme not in ("http", "https") or not host:
        raise CommandError(f"{text!r} is not the URL of a master", field="--master", hint="write http://HOST:PORT")
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class LastUp:
    """What the last `up` on this machine left written about its daemons."""

    def __init__(self, work_dir: Path, state: dict[str, Any]) -> None:
        self.work_dir = work_dir
        self.supervised = _alive(state.get("supervisor", {}))
        self.daemons: list[dict[str, Any]] = state.get("daemons", [])
        if not self.supervised:  # Nobody has written down what happened since.
            gone = {"state": "stopped", "pid": None}
            self.daemons = [daemon if _alive(daemon) else {**daemon, **gone} for daemon in self.daemons]
        self.way_back = f"`meseta up --work-dir {work_dir}`, with the options of the last time, starts what is missing"

    @classmethod
    def asked_by(cls, urls: list[str]) -> LastUp | None:
        """The cluster of the last `up`, when the master asked is its own."""
        work_dir = endpoints.last_work_dir()
        state = endpoints.read_json(work_dir / "up.json")
        return cls(work_dir, state) if any(daemon.get("url") in urls for daemon in state.get("daemons", ())) else None


def _alive(process: dict[str, Any]) -> bool:
    """Whether a recorded process (pid, started, boot_id) is still that process, as `kernel.supervisor` has it, a program of its own."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        _, _, after_name = Path(f"/proc/{process.get('pid')}/stat").read_text().rpartition(") ")
    except OSError:
        return False
    fields = after_name.split()
    return process.get("boot_id") == boot_id and fields[0] not in "ZX" and int(fields[19]) == process.get("started")


def unreachable(urls: list[str], reason: str) -> CommandError:
    """The error for a master that does not answer."""
    cluster = LastUp.asked_by(urls)
    if cluster is None:
        hint = "is it running? `meseta up` starts one on this machine"
    elif cluster.supervised:
        hint = f"its log is {cluster.work_dir}/log/master.log"
    else:
        hint = cluster.way_back
    return CommandError(f"cannot reach the master at {', '.join(urls)}: {reason}", field="--master", hint=hint)


def credential(path: str | None) -> Credential | None:
    """The principal and secret in a file, if any. Raises ConfigError."""
    return load_credential(path) if path else None
