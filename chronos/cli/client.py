"""The scheduler of jobs as its client commands see it: where it is, what it is asked, errors that say what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import click
import msgspec

from kernel import endpoints
from kernel.commands.api import Master
from kernel.commands.context import CommandError, credential, master_options, masters
from kernel.net.client import Client, Refused, Unreachable

FRAMEWORK = "chronos"
CHRONOS, OURS = "/v1/scheduler", "/v1/meseta"
PAGE = 1000
TIMEOUT_S = 60.0
EXPLAINED_S = 3.0  # How long the master may take to say why a run waits: there is an answer without it.

F = TypeVar("F", bound=Callable[..., Any])


def scheduler_options(command: F) -> F:
    """--url, --master, --credential and --json: handed to the command as `scheduler` and `as_json`."""

    def wrapped(url: str | None, master: str | None, credential_file: str | None, **rest: Any) -> Any:
        return command(scheduler=Scheduler(url, master, credential_file), **rest)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    option = click.option(
        "--url",
        metavar="URL",
        envvar="MESETA_CHRONOS",
        help=f"The scheduler of jobs; default: that of the last `meseta up`, or the framework {FRAMEWORK} of the master.",
    )
    return option(master_options(wrapped))  # type: ignore[return-value]


def job_argument(command: F) -> F:
    """The argument JOB, which shells complete."""
    return click.argument("job", shell_complete=complete)(command)


def jobs_argument(command: F) -> F:
    """The argument JOBS, one or more, which shells complete."""
    return click.argument("jobs", nargs=-1, required=True, shell_complete=complete)(command)


def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The names of jobs that begin so, for shells: none where the scheduler cannot be asked."""
    from kernel.errors import KernelError

    given = ctx.params
    try:
        scheduler = Scheduler(given.get("url"), given.get("master"), given.get("credential_file"), timeout_s=2.0)
        page = scheduler.get(f"{OURS}/jobs", limit=100, name=incomplete)
        return [name for shown in page["jobs"] if (name := shown["job"]["name"]).startswith(incomplete)]
    except (KernelError, KeyError, TypeError):
        return []


class Away(CommandError):
    """The scheduler does not answer, or does not lead yet: it may soon."""


class NoJob(CommandError):
    """There is no job of this name."""


class Scheduler:
    """Its API, looked for at first use. Methods raise CommandError."""

    def __init__(self, url: str | None, master: str | None, credential_file: str | None, timeout_s: float = TIMEOUT_S) -> None:
        self._given, self._master = url, master
        self._credential = credential(credential_file)
        self._timeout_s = timeout_s
        self._client: Client | None = None
        self.url = ""

    # ---- Where it is ------------------------------------------------------------------------------------

    def _found(self) -> Client:
        if self._client is None:
            self.url = self._find().rstrip("/")
            self._client = Client([self.url], self._credential, self._timeout_s)
        return self._client

    def _find(self) -> str:
        if self._given:
            return self._given if "//" in self._given else f"http://{self._given}"
        if not self._master and (url := endpoints.endpoints().get(FRAMEWORK)) is not None:
            return str(url)
        frameworks = Master(masters(self._master), self._credential).call("GET_FRAMEWORKS").get("frameworks", [])
        named = [one for one in frameworks if one["framework_info"]["name"] == FRAMEWORK]
        for one in sorted(named, key=lambda one: not one.get("active")):
            if url := one["framework_info"].get("webui_url"):
                return str(url)
        raise CommandError(
            f"the master knows no framework {FRAMEWORK!r}",
            field="--url",
            hint="start one with `meseta serve chronos`, or give --url or MESETA_CHRONOS",
        )

    # ---- What it is asked -------------------------------------------------------------------------------

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path. query: what is None is left out."""
        given = {name.rstrip("_"): str(value) for name, value in query.items() if value is not None}
        return self.ask("GET", path + (f"?{urlencode(given)}" if given else ""))

    def text(self, path: str) -> str:
        body: bytes = self._tried(lambda client: client.get_bytes(path))
        return body.decode(errors="replace")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the JSON of the answer, None for an empty one."""
        return self._tried(lambda client: client.request(method, path, body))

    def _tried(self, asked: Callable[[Client], Any]) -> Any:
        client = self._found()
        try:
            return asked(client)
        except Unreachable as error:
            hint = "is it running? `meseta status` shows what does"
            raise Away(f"cannot reach the scheduler of jobs at {self.url}: {error.reason}", field="--url", hint=hint) from error
        except Refused as error:
            raise _explained(error, known=self._credential is not None) from error

    def pages(self, path: str, items: str, after: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All of a list that is told in pages. after: the name of the parameter that goes on where a page ended."""
        following = None
        while True:
            page = self.get(path, **{"limit": PAGE, **query, after: following})
            yield from page[items]
            following = page.get("next") or None
            if following is None:
                return

    def jobs(self, **query: Any) -> list[dict[str, Any]]:
        """Jobs as they stand, by name."""
        return list(self.pages(f"{OURS}/jobs", "jobs", "after", **query))

    def job(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"{OURS}/jobs/{segment(name)}")
        return found

    def known(self, names: Iterable[str]) -> list[str]:
        """The names, each once, where there are such jobs, if only quarantined ones: what is done to several is done to none otherwise."""
        names = list(dict.fromkeys(names))
        for name in names if len(names) > 1 else ():
            try:
                self.job(name)
            except NoJob:
                raise
            except CommandError:
                pass
        return names

    def explained(self, demand: Mapping[str, str]) -> dict[str, Any] | None:
        """What the master says of a demand that waits there (`/explain`); None where it knows none, or does not answer."""
        query = urlencode({"framework_id": demand["frameworkId"], "name": demand["name"], "limit": 1})
        try:
            asked = Master(masters(self._master), self._credential, EXPLAINED_S)
            found: list[dict[str, Any]] = asked.get(f"/explain?{query}")["demands"]
        except CommandError:
            return None
        return found[0] if found else None

    def put(self, fields: Mapping[str, Any]) -> None:
        """Create a job, or put it in the place of the one of its name."""
        self.ask("POST", f"{CHRONOS}/{'dependency' if fields.get('parents') else 'iso8601'}", fields)


def segment(text: str) -> str:
    """A name as a part of a path."""
    return quote(text, safe="@~:,=+")


def _explained(error: Refused, known: bool) -> CommandError:
    """known: whether it was told who asks."""
    text = error.text
    try:
        said = msgspec.json.decode(text)
        text = str(said["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        pass
    if error.status == 401:
        problem = "does not know this principal and secret" if known else "asks who you are"
        hint = "give --credential FILE (or MESETA_CREDENTIAL)"
        return CommandError(f"the scheduler of jobs {problem}: {text}", field="--credential", hint=hint)
    if error.status == 503:
        return Away(text or str(error))
    field, colon, _ = text.partition(": ")
    if text.startswith("job: there is no job"):
        return NoJob(text, field="job", hint="`meseta cron list` shows what there is")
    return CommandError(text or str(error), field=field if colon and " " not in field else None)
