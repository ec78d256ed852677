"""Sessions with a ZooKeeper ensemble for asyncio: what the election and the store on ZooKeeper share.

kazoo works in threads of its own: a request is put into its queue, its answer is brought back to the event loop. This
module knows no master and no record. Only those who were given a `zk://` address import it, as kazoo takes its time.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionClosedError, ConnectionLoss, RolledBackError, RuntimeInconsistency, SessionExpiredError
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.states import KazooState, KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, READ_ACL_UNSAFE
from msgspec import Struct

from kernel.errors import ConfigError

log = logging.getLogger(__name__)

SCHEME = "zk://"
PORT = 2181
AGAIN = (ConnectionLoss, SessionExpiredError, ConnectionClosedError)  # Whether it was done is not known; ask again.
AGAIN_S = 0.05
RECONNECT_S_MAX = 1.0
IN_FLIGHT_MAX = 128  # kazoo's wake-up pipe blocks at about twice as many requests that are not on their way.
CLOSE_S = 2.0
UNREACHED_S = 5.0  # Without a first connection, until that is told.
ANSWER = 1 / 4  # Of the session's time: when a transaction has no answer by then, another server is tried.

Begin = Callable[[KazooClient], Any]
"""Puts one request into kazoo's queue (a method named `..._async`); returns its IAsyncResult."""


def get(path: str) -> Begin:
    """The request for a node's data and stat."""
    return lambda client: client.get_async(path)


def get_children(path: str) -> Begin:
    """The request for the names below a node."""
    return lambda client: client.get_children_async(path)


def ensure_path(path: str) -> Begin:
    """The request to make a node and those above it, where they are not there."""
    return lambda client: client.ensure_path_async(path)


class Ensemble(Struct, frozen=True):
    """What a `zk://` address says. hosts: `h1:2181,h2:2181`; path: absolute, without a trailing slash except `/` itself;
    credential: `user:password` of digest authentication, if any."""

    hosts: str
    path: str
    credential: str | None = None

    def below(self, name: str) -> str:
        """The path of something under ours."""
        return f"{self.path.rstrip('/')}/{name}"

    def at(self, name: str) -> Ensemble:
        """The same ensemble with a path under ours."""
        return Ensemble(self.hosts, self.below(name), self.credential)

    def __str__(self) -> str:
        return f"{SCHEME}{self.hosts}{self.path}"  # The password is for nobody's log.

    __repr__ = __str__


def parse_url(text: str) -> Ensemble:
    """Read `zk://[user:password@]host[:port][,host...][/path]` (spec: mesos-v1, section 9). Raises ConfigError."""
    authority, _, path = text.removeprefix(SCHEME).partition("/")
    credential, at, hosts = authority.rpartition("@")
    path = "/" + path.rstrip("/")
    if not text.startswith(SCHEME) or (at and ":" not in credential) or re.search(r"//|/\.{1,2}(/|$)|[\x00-\x1f\x7f]", path):
        raise ConfigError(
            f"{shown(text)!r} is no address of a ZooKeeper ensemble; write zk://[USER:PASSWORD@]HOST:PORT[,HOST:PORT...]/PATH"
        )
    return Ensemble(",".join(_host(host, text) for host in hosts.split(",")), path, credential if at else None)


def _host(text: str, url: str) -> str:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::([0-9]{1,5}))?", text.strip())
    if found is None or not 0 < int(found[2] or PORT) < 65536:
        raise ConfigError(f"{shown(url)!r}: {text!r} is no HOST:PORT of a ZooKeeper server")
    return f"{found[1]}:{found[2] or PORT}"


def shown(url: str) -> str:
    """The address without its password."""
    return re.sub(r"^zk://[^/]*@", SCHEME, url)


class _Handler(SequentialThreadingHandler):  # type: ignore[misc]
    """Gives each server no more than its part of the session's time to accept a connection: else one that does not
    answer at all would cost the session."""

    def __init__(self, connect_s_max: float) -> None:
        super().__init__()
        self._connect_s_max = connect_s_max

    def create_connection(self, *args: Any, **options: Any) -> Any:
        return super().create_connection(*args, **{**options, "timeout": self._connect_s_max})


def new_client(ensemble: Ensemble, timeout_s: float, *, private: bool = False) -> KazooClient:
    """A client that is not started yet and reconnects for ever. private: see Session."""
    hosts = ensemble.hosts.count(",") + 1
    handler = _Handler(timeout_s / hosts)
    quiet = logging.getLogger(f"{__name__}.kazoo")
    quiet.setLevel(logging.ERROR)  # What matters of its talk is told by `Session`.
    acl = (CREATOR_ALL_ACL if private else READ_ACL_UNSAFE + CREATOR_ALL_ACL) if ensemble.credential else None
    return KazooClient(
        hosts=ensemble.hosts,
        timeout=timeout_s,
        handler=handler,
        default_acl=acl,
        auth_data=[("digest", ensemble.credential)] if ensemble.credential else None,
        connection_retry=KazooRetry(max_tries=-1, delay=0.1, max_delay=RECONNECT_S_MAX, sleep_func=handler.sleep_func),
        logger=quiet,
    )


class Session:
    """A connection that is opened again whenever it ends, and, when the ensemble has given the session up, a new session.

    Belongs to the running event loop. `timeout_s` is what was agreed with the ensemble, until then what was asked for.
    """

    def __init__(self, ensemble: Ensemble, timeout_s: float, *, private: bool = False) -> None:
        """Begin to connect. private: with a credential, nobody else may read the nodes that are made here."""
        self.ensemble, self.timeout_s = ensemble, timeout_s
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._client = new_client(ensemble, timeout_s, private=private)
        self._client.add_listener(self._changed)
        self._learn_timeout()
        self._unreached = self._loop.call_later(UNREACHED_S, lambda: log.warning("%s is not reached yet; still trying", ensemble))
        self._client.start_async()

    async def ask(self, begin: Begin) -> Any:
        """Send one request, return what it gives. Raises as kazoo does, `AGAIN` when the connection broke meanwhile.

        While there is no connection the request waits for one.
        """
        (answer,) = await self._send([begin])
        return answer.get_nowait()

    async def read(self, begin: Begin) -> Any:
        """As `ask`, until there is an answer or the session is closed: for what may be done twice."""
        (answer,) = await self.read_all([begin])
        return answer

    async def read_all(self, begins: Sequence[Begin]) -> list[Any]:
        """As `read`, for many requests at once; their answers in the same order."""
        found: list[Any] = []
        while len(found) < len(begins):
            for answer in await self._send(begins[len(found) : len(found) + IN_FLIGHT_MAX]):
                try:
                    found.append(answer.get_nowait())
                except AGAIN:
                    if self._closed:
                        raise
                    await asyncio.sleep(AGAIN_S)
                    break
        return found

    async def commit(self, build: Callable[[Any], None]) -> list[Any]:
        """Do all operations that `build` adds to a transaction, or none. Raises TransactionFailed, and as `ask` does.

        Leaves a server that does not answer: kazoo would notice too late for the session to be saved elsewhere.
        """

        def begin(client: KazooClient) -> Any:
            transaction = client.transaction()
            build(transaction)
            return transaction.commit_async()

        asking = asyncio.ensure_future(self.ask(begin))
        try:
            while not asking.done():
                await asyncio.wait((asking,), timeout=self.timeout_s * ANSWER)
                if not asking.done():
                    self._leave()
        finally:
            asking.cancel()
        results: list[Any] = asking.result()
        for index, result in enumerate(results):
            if isinstance(result, Exception) and not isinstance(result, (RolledBackError, RuntimeInconsistency)):
                raise TransactionFailed(index, result)
        return results

    async def children(self, path: str) -> tuple[list[str], asyncio.Event]:
        """The names below a path, and what is set once that may have changed. Raises NoNodeError."""
        changed = asyncio.Event()
        names = await self.read(lambda client: client.get_children_async(path, watch=lambda _: self._post(changed.set)))
        return names, changed

    async def close(self) -> None:
        """End the session: what is ephemeral in it is gone on return, if the ensemble could be reached."""
        self._closed = True
        self._unreached.cancel()
        ended = asyncio.Event()

        def end() -> None:
            try:
                self._client.stop()
                self._client.close()
            finally:
                self._post(ended.set)

        self._client.handler.spawn(end)  # It waits for kazoo's threads, one of which may be connecting.
        try:
            async with asyncio.timeout(CLOSE_S):
                await ended.wait()
        except TimeoutError:
            pass

    async def _send(self, begins: Sequence[Begin]) -> Sequence[Any]:
        """Wait until all of the requests have their answer or exception; return kazoo's results."""
        answered = asyncio.Event()
        answers = [begin(self._client) for begin in begins]
        left = len(answers)

        def count(_: Any) -> None:  # In kazoo's only thread for completions.
            nonlocal left
            left -= 1
            if left == 0:
                self._post(answered.set)

        for answer in answers:
            answer.rawlink(count)
        await answered.wait()
        return answers

    def _leave(self) -> None:
        """Break the connection, if there is one: kazoo opens another, and tells those who wait for an answer."""
        held = self._client._connection._socket
        if self._client.connected and held is not None:
            log.warning("%s does not answer", self.ensemble)
            try:
                held.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # It has just broken.

    def _post(self, call: Callable[[], object]) -> None:
        """Have something done by the event loop; from kazoo's threads."""
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            pass  # It has ended; nobody waits any more.

    def _changed(self, state: str) -> None:
        """kazoo's listener, in its connection thread."""
        closed = self._client.client_state == KeeperState.CLOSED
        self._post(lambda: self._tell(state, closed))

    def _tell(self, state: str, closed: bool) -> None:
        if self._closed:
            return
        if state == KazooState.CONNECTED:
            self._unreached.cancel()
            log.info("connected to %s", self.ensemble)
        elif state == KazooState.SUSPENDED:
            log.warning("lost the connection to %s", self.ensemble)
        else:
            log.warning("the session with %s has ended", self.ensemble)
            if closed:  # An error of kazoo's own ended its thread.
                self._client.start_async()

    def _learn_timeout(self) -> None:
        """Have `timeout_s` set at each connection. kazoo keeps the time that the server grants to itself: it returns two
        thirds of it from here, in milliseconds."""
        connection = self._client._connection
        connect = connection._connect

        def connecting(*address: Any) -> tuple[float, float]:
            read_ms, connect_ms = connect(*address)
            self.timeout_s = read_ms * 1.5 / 1000.0
            return read_ms, connect_ms

        connection._connect = connecting


class TransactionFailed(Exception):
    """Nothing of it was done. index: of the operation that could not be; reason: kazoo's exception for it."""

    def __init__(self, index: int, reason: Exception) -> None:
        super().__init__(f"operation {index}: {type(reason).__name__}")
        self.index, self.reason = index, reason
