"""Plain HTTP to a daemon, as any client may speak it."""

from __future__ import annotations

import gzip
import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

LIMIT_S = 20.0
JSON = "application/json"


class Answer(Struct):
    """headers: names in lower case. body: unpacked."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def media(self) -> str:
        """Its content type without parameters; empty without a body."""
        return self.headers.get("content-type", "").partition(";")[0] if self.body else ""

    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    """One request on a connection of its own; redirects are not followed. headers: `_` for `-`; Content-Type is JSON for a
    body unless given."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent.setdefault("Content-Type", JSON)
    try:
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        data = response.read()
    finally:
        connection.close()
    return Answer(response.status, received, gzip.decompress(data) if received.get("content-encoding") == "gzip" else data)


def call(url: str, kind: str, **parts: Any) -> Answer:
    """One call of the operator API."""
    return ask(url, "/api/v1", "POST", json.dumps({"type": kind, **parts}).encode())


def events(url: str, count: int, path: str = "/api/v1", body: bytes = b'{"type":"SUBSCRIBE"}') -> list[Any]:
    """The first events of a stream, each of which must be one HTTP chunk; then it is left."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=LIMIT_S)
    try:
        connection.request("POST", path, body, {"Content-Type": JSON, "Accept": JSON})
        response = connection.getresponse()
        assert (response.status, response.getheader("Content-Type")) == (200, JSON)
        assert response.getheader("Transfer-Encoding") == "chunked"
        found = []
        for _ in range(count):
            chunk = response.fp.read(int(response.fp.readline(), 16))
            assert response.fp.read(2) == b"\r\n"
            length, _, record = chunk.partition(b"\n")
            assert int(length) == len(record)
            found.append(json.loads(record))
        return found
    finally:
        connection.close()
