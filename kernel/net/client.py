"""A small blocking HTTP client for the command line: quick to import, JSON in and out, follows the leading master."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import msgspec

from kernel.errors import KernelError
from kernel.net.auth import Credential
from kernel.wire.recordio import BadRecord, Decoder

REDIRECTS_MAX = 5
RECORD_BYTES_MAX = 1024 * 1024 * 1024  # A SUBSCRIBED event holds the whole state.
PIECE_BYTES = 256 * 1024


class Unreachable(KernelError):
    """No server answered. urls: those tried; reason: what the last one's connection ended with."""

    def __init__(self, urls: Sequence[str], reason: str) -> None:
        super().__init__(f"cannot reach {', '.join(urls)}: {reason}")
        self.urls, self.reason = tuple(urls), reason


class Refused(KernelError):
    """The server answered with an error. status: of HTTP; text: the server's words."""

    def __init__(self, url: str, status: int, text: str) -> None:
        super().__init__(text or f"{url} answered {status} {http.client.responses.get(status, '')}".rstrip())
        self.url, self.status, self.text = url, status, text


class Client:
    """Calls one service. urls: where it may be (`http://host:port`); the first that answers is used from then on.

    A redirect (307) is followed. Methods raise Unreachable and Refused.
    """

    def __init__(self, urls: Sequence[str], credential: Credential | None = None, timeout_s: float = 10.0) -> None:
        """timeout_s: for connecting, and for each wait for more of an answer."""
        assert urls, "a client needs somewhere to go"
        self._urls = list(urls)
        self._headers = {"Accept": "application/json"}
        if credential is not None:
            self._headers["Authorization"] = credential.header()
        self._timeout_s = timeout_s

    def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return the JSON at a path (None for an empty answer)."""
        return self._json("GET", path + ("?" + urlencode(query) if query else ""), None)

    def get_bytes(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """Return what is at a path as it is."""
        return self._whole("GET", path + ("?" + urlencode(query) if query else ""), None)

    def call(self, body: Any, path: str = "/api/v1") -> Any:
        """POST a JSON call, return the JSON answer (None for an empty one)."""
        return self._json("POST", path, msgspec.json.encode(body))

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """Any other request, with JSON or nothing in it; return the JSON answer (None for an empty one)."""
        return self._json(method, path, None if body is None else msgspec.json.encode(body))

    def records(self, body: Any, path: str = "/api/v1", *, silence_s: float | None = None) -> Iterator[Any]:
        """POST a call that is answered by a stream; yield its records until it ends.

        silence_s: how long nothing may come (default: for ever); heartbeats are records too.
        """
        connection, answer, url = self._open("POST", path, msgspec.json.encode(body))
        with closing(connection):
            if connection.sock is not None:
                connection.sock.settimeout(silence_s)
            decoder = Decoder(RECORD_BYTES_MAX)
            try:
                while piece := answer.read1(PIECE_BYTES):
                    for record in decoder.feed(piece):
                        yield msgspec.json.decode(record)
            except (OSError, http.client.HTTPException, BadRecord, msgspec.DecodeError, ValueError) as error:
                raise Unreachable([url], f"the stream broke: {_reason(error)}") from error

    def _json(self, method: str, path: str, body: bytes | None) -> Any:
        answer = self._whole(method, path, body)
        try:
            return msgspec.json.decode(answer) if answer else None
        except (msgspec.DecodeError, ValueError) as error:
            raise Unreachable(self._urls[:1], f"the answer to {method} {path} is not JSON") from error

    def _whole(self, method: str, path: str, body: bytes | None) -> bytes:
        connection, answer, url = self._open(method, path, body)
        with closing(connection):
            try:
                return answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable([url], _reason(error)) from error

    def _open(self, method: str, path: str, body: bytes | None) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, str]:
        """Send a request to whoever answers it with 200 or 202; return the connection, the answer and its URL."""
        tried: list[str] = []
        failure: Unreachable | Refused | None = None
        for url in self._urls:
            tried.append(url)
            try:
                connection, answer, asked = self._follow(method, url, path, body)
            except (OSError, http.client.HTTPException) as error:
                failure = Unreachable(tried, _reason(error))
                continue
            except Refused as error:
                if error.status != 503:
                    raise
                failure = error  # It knows no leader; another may.
                continue
            self._urls.remove(url)
            self._urls.insert(0, url)
            return connection, answer, asked
        assert failure is not None
        raise failure

    def _follow(
        self, method: str, url: str, path: str, body: bytes | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, str]:
        target = url.rstrip("/") + path
        for _ in range(REDIRECTS_MAX):
            parts = urlsplit(target)
            kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(parts.hostname or "", parts.port, timeout=self._timeout_s)
            try:
                headers = self._headers | ({"Content-Type": "application/json"} if body is not None else {})
                connection.request(method, parts.path + ("?" + parts.query if parts.query else ""), body, headers)
                answer = connection.getresponse()
                if answer.status < 300:
                    return connection, answer, target
                told = answer.read(64 * 1024).decode(errors="replace").strip()
                location = answer.getheader("Location")
            except BaseException:
                connection.close()
                raise
            connection.close()
            if answer.status not in (307, 308) or location is None:
                raise Refused(target, answer.status, told)
            target = urljoin(target, location)
        raise Refused(target, 307, f"redirected {REDIRECTS_MAX} times, the last time to {target}")


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "no such host"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead | ConnectionResetError):
        return "the server hung up"
    return str(error) or type(error).__name__
