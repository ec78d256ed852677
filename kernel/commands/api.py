"""What client commands ask of masters and agents, with errors that say what to do next."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from kernel.commands.context import CommandError, field_of, unreachable
from kernel.net.auth import Credential
from kernel.net.client import Client, Refused, Unreachable

PIECE_BYTES = 64 * 1024
TIMEOUT_S = 30.0


class Peer:
    """A daemon with an operator API. Its methods raise Refused and Unreachable."""

    def __init__(self, urls: list[str], credential: Credential | None, timeout_s: float = TIMEOUT_S) -> None:
        self.urls = urls
        self._client = Client(urls, credential, timeout_s)

    def call(self, type_: str, **body: Any) -> dict[str, Any]:
        """One call of the operator API; return the part of the answer that is named as the call."""
        part = type_.lower()
        answer = self._client.call({"type": type_, **({part: body} if body else {})})
        return answer.get(part, {}) if isinstance(answer, dict) else {}

    def get(self, path: str) -> Any:
        """The JSON of a legacy endpoint."""
        return self._client.get(path)


class Master:
    """The leading master, behind any of several URLs. Its methods raise CommandError."""

    def __init__(self, urls: list[str], credential: Credential | None, timeout_s: float = TIMEOUT_S) -> None:
        self.urls = urls
        self._credential = credential
        self._peer = Peer(urls, credential, timeout_s)

    def call(self, type_: str, **body: Any) -> dict[str, Any]:
        """As Peer.call."""
        try:
            return self._peer.call(type_, **body)
        except Unreachable as error:
            raise unreachable(self.urls, error.reason) from error
        except Refused as error:
            raise self._explained(error) from error

    def get(self, path: str) -> Any:
        """As Peer.get."""
        try:
            return self._peer.get(path)
        except Unreachable as error:
            raise unreachable(self.urls, error.reason) from error
        except Refused as error:
            raise self._explained(error) from error

    def agent(self, agent: dict[str, Any]) -> Peer:
        """The agent that an entry of GET_AGENTS describes; its pid says where it listens."""
        info = agent["agent_info"]
        _, _, address = str(agent.get("pid", "")).rpartition("@")
        return Peer([f"http://{address or '{}:{}'.format(info['hostname'], info.get('port', 5051))}"], self._credential)

    def _explained(self, error: Refused) -> CommandError:
        if error.status == 401:
            problem = f"the master does not know this principal and secret: {error}" if self._credential else f"who are you? {error}"
            return CommandError(problem, field="--credential", hint="give --credential FILE (or MESETA_CREDENTIAL)")
        if error.status == 503:
            return CommandError(f"the master is not ready: {error}", hint="try again in a moment")
        return CommandError(str(error), field=field_of(str(error)))


def read_output(agent: Peer, path: str, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """What a task has printed from `offset` to the present end, each piece with the offset of its end: of all it ever printed, so a
    rotation meanwhile changes nothing. Raises Refused (404: no such file), Unreachable."""
    while True:
        answer = agent.call("READ_FILE", path=path, offset=offset, length=PIECE_BYTES, follow=True)
        data = base64.b64decode(answer.get("data", ""))
        offset = int(answer.get("offset", offset)) + len(data)
        yield offset, data
        if not data or offset >= int(answer.get("size", 0)):
            return
