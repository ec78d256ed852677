"""What all client commands share: which master to ask, who asks, and errors that say what to do next. Imports little."""

from __future__ import annotations

from collections.abc import Callable
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


class CommandError(KernelError):
    """A client command cannot do what it was asked. field: the option or argument to blame; hint: what to do next."""

    def __init__(self, problem: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
        self.problem, self.field, self.hint = problem, field, hint


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


def unreachable(urls: list[str], reason: str) -> CommandError:
    """The error for a master that does not answer."""
    work_dir = endpoints.last_work_dir()
    daemons = endpoints.read_json(work_dir / "up.json").get("daemons", ())
    ours = any(daemon.get("url") in urls for daemon in daemons)
    hint = f"its log is {work_dir}/log/master.log" if ours else "is it running? `meseta up` starts one on this machine"
    return CommandError(f"cannot reach the master at {', '.join(urls)}: {reason}", field="--master", hint=hint)


def credential(path: str | None) -> Credential | None:
    """The principal and secret in a file, if any. Raises ConfigError."""
    return load_credential(path) if path else None
