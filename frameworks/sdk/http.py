"""The little HTTP/1.1 a framework speaks: one connection that posts, one that listens.

A framework posts batches of calls and reads one endless answer; with this file that costs a fifth of the CPU of a
general client, and `meseta run` starts 160 ms sooner (measured, see docs/decisions/sdk-http.md). Knows no Mesos.
Not here, as no server of ours needs it: proxies, cookies, compression, trailers that mean something.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
READ_BYTES = 256 * 1024
IDLE_S_MAX = 20.0  # A connection unused for longer is not used again: the server may be closing it just now.


class HttpError(Exception):
    """The server could not be reached, hung up, or did not speak HTTP. Whether it took the request is not known."""


class Server(NamedTuple):
    """Where a server listens."""

    host: str
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, url: str, default_port: int = 5050) -> Server:
        """From `http://host:port`, `host:port` or `//host:port/path`. Raises ValueError."""
        parts = urlsplit(url if "//" in url else f"//{url}")
        if parts.scheme not in ("", "http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL like http://host:5050")
        return cls(parts.hostname, parts.port or default_port, parts.scheme == "https")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class Head(NamedTuple):
    """How an answer begins. headers: names in lower case."""

    status: int
    headers: dict[str, str]


class Chunks:
    """Takes the chunked coding off bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self.done = False
        self._left = 0  # Bytes of the chunk still to come, its CRLF included.
        self._last = False
        self._line = b""  # The beginning of a line whose end has not come.

    def feed(self, data: bytes) -> bytes:
        """Return the payload in `data`. Raises HttpError when it is not chunked coding."""
        payload: list[bytes] = []
        position, size = 0, len(data)
        while position < size and not self.done:
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                payload.append(piece)
                position += len(piece)
                self._left -= len(piece)
            elif self._left:
                taken = min(self._left, size - position)
                position += taken
                self._left -= taken
                self.done = self._last and self._left == 0
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    self._line += data[position:]
                    if len(self._line) > 1024:
                        raise HttpError("a chunk's length takes more than 1 KiB")
                    break
                line, self._line = self._line + data[position:end], b""
                position = end + 1
                try:
                    length = int(line.split(b";", 1)[0].strip(), 16)
                except ValueError as error:
                    raise HttpError(f"{line[:40]!r} is not the length of a chunk") from error
                if length < 0:
                    raise HttpError("the length of a chunk is negative")
                self._last = length == 0
                self._left = length + 2
        return payload[0] if len(payload) == 1 else b"".join(payload)


class Connection:
    """One keep-alive connection to one server, made when first needed and again when it broke.

    One request at a time: `post` waits for its answer; `listen` takes the connection for itself.
    """

    def __init__(self, server: Server, headers: Mapping[str, str], connect_timeout_s: float = 5.0) -> None:
        self.server = server
        self._headers = dict(headers)
        self._connect_timeout_s = connect_timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._used_s = 0.0

    async def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float = 30.0) -> tuple[Head, bytes]:
        """Send one request, return the whole answer. Raises HttpError."""
        try:
            async with asyncio.timeout(timeout_s):
                head, reader = await self._ask(path, body, headers)
                answer = await _body(head, reader)
        except TimeoutError as error:
            self.close()
            raise HttpError(f"{self.server} gave no answer in {timeout_s:g} s") from error
        except HttpError:
            self.close()
            raise
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self.close()
            raise HttpError(f"{self.server}: {_reason(error)}") from error
        except BaseException:
            self.close()  # Cancelled: what comes now would be taken for the next answer.
            raise
        if head.headers.get("connection", "").lower() == "close":
            self.close()
        self._used_s = asyncio.get_running_loop().time()
        return head, answer

    async def listen(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float = 30.0
    ) -> tuple[Head, AsyncIterator[bytes]]:
        """Send one request whose answer has no end; return its head and the payload as it comes. Raises HttpError.

        An answer other than 200 is whole: iterate it for its text.
        """
        try:
            async with asyncio.timeout(timeout_s):
                head, reader = await self._ask(path, body, headers)
        except TimeoutError as error:
            self.close()
            raise HttpError(f"{self.server} gave no answer in {timeout_s:g} s") from error
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            self.close()
            raise HttpError(f"{self.server}: {_reason(error)}") from error
        return head, self._payload(head, reader)

    def close(self) -> None:
        """Hang up. The connection is made anew when used again."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _payload(self, head: Head, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        try:
            if "chunked" not in head.headers.get("transfer-encoding", "").lower():
                yield await _body(head, reader)
                return
            chunks = Chunks()
            while not chunks.done:
                data = await reader.read(READ_BYTES)
                if not data:
                    raise HttpError(f"{self.server} hung up")
                if payload := chunks.feed(data):
                    yield payload
        except (OSError, EOFError) as error:
            raise HttpError(f"{self.server}: {_reason(error)}") from error
        finally:
            self.close()

    async def _ask(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[Head, asyncio.StreamReader]:
        reader, writer = await self._connected()
        host = f"[{self.server.host}]" if ":" in self.server.host else self.server.host
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{self.server.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {**self._headers, **headers}.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        while (head := _parse_head(await reader.readuntil(b"\r\n\r\n"))).status == 100:
            pass
        return head, reader

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        idle_s = asyncio.get_running_loop().time() - self._used_s
        if self._reader is not None and (idle_s > IDLE_S_MAX or self._reader.at_eof()):
            self.close()
        if self._reader is None or self._writer is None:
            tls = ssl.create_default_context() if self.server.tls else None
            async with asyncio.timeout(self._connect_timeout_s):
                self._reader, self._writer = await asyncio.open_connection(
                    self.server.host, self.server.port, ssl=tls, limit=HEAD_BYTES_MAX
                )
        return self._reader, self._writer


def _parse_head(text: bytes) -> Head:
    status_line, *lines = text.decode("latin-1").split("\r\n")
    protocol, _, rest = status_line.partition(" ")
    if not protocol.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise HttpError(f"{status_line[:60]!r} is not how an HTTP answer begins")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Head(int(rest[:3]), headers)


async def _body(head: Head, reader: asyncio.StreamReader) -> bytes:
    if head.status in (204, 304):
        return b""
    if "chunked" in head.headers.get("transfer-encoding", "").lower():
        chunks, parts, total = Chunks(), [], 0
        while not chunks.done:
            if not (data := await reader.read(READ_BYTES)):
                raise HttpError("the server hung up")
            parts.append(chunks.feed(data))
            total += len(parts[-1])
            if total > BODY_BYTES_MAX:
                raise HttpError("an answer is too long")
        return b"".join(parts)
    length = head.headers.get("content-length")
    if length is None:
        return await reader.read(BODY_BYTES_MAX)
    if not length.isdigit() or int(length) > BODY_BYTES_MAX:
        raise HttpError(f"an answer of {length} bytes is too long")
    return await reader.readexactly(int(length))


def _reason(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, EOFError | ConnectionResetError | BrokenPipeError):
        return "the server hung up"
    return str(error) or type(error).__name__
