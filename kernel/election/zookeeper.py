"""Election by ZooKeeper, in Mesos's own format (spec: mesos-v1, section 9; clients 14): whose candidate has the lowest
sequence number below the path leads.

A leader may act only as long as nobody else can lead. So it holds a lease: it has a write of its session that changes
nothing go through the ensemble again and again, and each one that was done lets it act for a part of the session's
time. A read would not do: a server that has lost the others answers reads for a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import time
from collections.abc import Iterable

from kazoo.exceptions import KazooException, NoAuthError, NoNodeError, SessionExpiredError
from kazoo.handlers.threading import KazooTimeoutError

from kernel.election.election import Leader
from kernel.errors import CallError, PeerError, Unavailable
from kernel.wire import codec
from kernel.wire.nodes import MasterInfo
from kernel.zookeeper import AGAIN, AGAIN_S, Ensemble, Session, TransactionFailed, ensure_path, get, get_children, new_client

log = logging.getLogger(__name__)

LABEL = "json.info"
RENEW = 1 / 10  # Of the session's time, between two writes.
LEASE = 2 / 3  # Of it; less than the whole, as the ensemble counts from when its leader last heard of us, not from our last write.
LOOK_AGAIN_S = 1.0


class ZookeeperContender:
    """Strives to lead as `info`; made in the running event loop.

    patience_s: how long a leader waits for an ensemble that does not answer, acting no more, before it gives up.
    """

    def __init__(self, ensemble: Ensemble, info: MasterInfo, timeout_s: float, patience_s: float) -> None:
        self.candidate = ""  # The path of our node, once we lead: nobody else leads while it is there.
        self._data = codec.encode(info)
        self._patience_s = patience_s
        self._session = Session(ensemble, timeout_s)
        self._path = ensemble.path
        self._lease_end_s = 0.0
        self._renewed = asyncio.Event()
        self._lost = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None

    async def contend(self) -> None:
        try:
            while not await self._turn(await self._enter()):
                log.warning("our candidate is gone from %s; entering anew", self._session.ensemble)
        except NoAuthError as error:
            raise Unavailable(f"{self._session.ensemble} does not let us create a candidate there: wrong credentials?") from error
        self._renewing = asyncio.create_task(self._renew())
        await self.confirm()

    async def confirm(self) -> None:
        """Return while this process leads for certain, as soon as that is known. Raises Unavailable when it does not,
        or when nobody could tell for too long."""
        while self._lost.is_set() or _elapsed_s() >= self._lease_end_s:
            if self._lost.is_set():
                raise Unavailable("the leadership is lost")
            if self._lease_end_s:
                log.warning("the ensemble does not confirm that we lead: waiting")
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._renewed.wait()
            except TimeoutError:
                raise Unavailable(f"{self._session.ensemble} has not confirmed that we lead for {self._patience_s:g} s") from None

    async def lost(self) -> None:
        await self._lost.wait()

    async def withdraw(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
        self._lose()
        await self._session.close()  # It takes the candidate with it.

    async def _enter(self) -> str:
        """Make our candidate. If the answer was lost there may be two: both are ours, see `_turn`."""
        while True:
            await self._session.read(ensure_path(self._path))
            try:
                path: str = await self._session.ask(
                    lambda client: client.create_async(self._prefix, self._data, ephemeral=True, sequence=True)
                )
                return path
            except (*AGAIN, NoNodeError):
                await asyncio.sleep(AGAIN_S)

    @property
    def _prefix(self) -> str:
        return self._session.ensemble.below(f"{LABEL}_")

    async def _turn(self, candidate: str) -> bool:
        """Wait until a candidate of ours is the first: True. False: ours is gone."""
        own = candidate.rpartition("/")[2]
        while True:
            names, changed = await self._session.children(self._path)
            first = leading(names)
            if first is None or own not in names:
                return False
            path = self._session.ensemble.below(first)
            try:
                data, _ = await self._session.read(get(path))
            except NoNodeError:
                continue
            if data == self._data:
                self.candidate = path
                return True
            await changed.wait()

    async def _renew(self) -> None:
        """Prolong the lease until the candidate is gone."""
        session = self._session
        while not self._lost.is_set():
            asked_s = _elapsed_s()
            try:
                await session.commit(lambda transaction: transaction.check(self.candidate, -1))
            except SessionExpiredError:
                self._lose()
            except AGAIN:
                await asyncio.sleep(AGAIN_S)
            except (TransactionFailed, KazooException) as error:
                log.error("our candidate %s is gone: %s", self.candidate, error)
                self._lose()
            else:
                self._lease_end_s = asked_s + session.timeout_s * LEASE
                self._wake()
                if _elapsed_s() < self._lease_end_s:  # If not, the request was under way for long: ask again at once.
                    await asyncio.sleep(session.timeout_s * RENEW)

    def _lose(self) -> None:
        self._lost.set()
        self._wake()

    def _wake(self) -> None:
        """Whoever waits for the lease looks again."""
        self._renewed.set()
        self._renewed = asyncio.Event()


class ZookeeperDetector:
    """Watches who leads; made in the running event loop. While the ensemble cannot be reached, the last leader stays."""

    def __init__(self, ensemble: Ensemble, timeout_s: float) -> None:
        self._session = Session(ensemble, timeout_s)
        self._path = ensemble.path
        self._leader: Leader | None = None
        self._looked = False
        self._changed = asyncio.Event()
        self._watching = asyncio.create_task(self._watch())

    async def detect(self, known: Leader | None) -> Leader | None:
        while not self._looked or self._leader == known:
            await self._changed.wait()
        return self._leader

    async def close(self) -> None:
        self._watching.cancel()
        await self._session.close()

    async def candidates(self) -> list[Leader]:
        """All who contend now, the leader too. Raises PeerError: the ensemble does not let us look."""
        below = self._session.ensemble.below
        found: list[Leader] = []
        try:
            names = await self._session.read(get_children(self._path))
            for name in names:
                try:
                    data, _ = await self._session.read(get(below(name)))
                    found.append(leader_of(name, data))
                except (NoNodeError, PeerError):
                    continue  # It has just gone, or is something else.
        except NoNodeError:
            pass
        except KazooException as error:
            raise PeerError(f"{self._session.ensemble} does not say who contends: {type(error).__name__}") from error
        return found

    async def _watch(self) -> None:
        while True:
            try:
                names, changed = await self._session.children(self._path)
                self._tell(await self._read(names))
                await changed.wait()
            except _Gone:
                pass  # The next in line leads.
            except (KazooException, PeerError) as error:
                if not isinstance(error, NoNodeError):  # No candidate was ever here.
                    log.error("cannot see who leads at %s: %s", self._session.ensemble, str(error) or type(error).__name__)
                self._tell(None)
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _read(self, names: Iterable[str]) -> Leader | None:
        name = leading(names)
        if name is None:
            return None
        try:
            data, _ = await self._session.read(get(self._session.ensemble.below(name)))
        except NoNodeError:
            raise _Gone from None
        return leader_of(name, data)

    def _tell(self, leader: Leader | None) -> None:
        if not self._looked or leader != self._leader:
            log.info("%s leads", leader.address if leader is not None else "nobody")
            self._looked, self._leader = True, leader
            self._changed.set()
            self._changed = asyncio.Event()


class _Gone(Exception):
    """The first candidate went while it was looked at."""


def look_up(ensemble: Ensemble, within_s: float) -> Leader | None:
    """Ask once who leads, without an event loop. Raises Unavailable when no server answers, PeerError when what is
    there cannot be understood."""
    client = new_client(ensemble, within_s)
    try:
        client.start(timeout=within_s)
        name = leading(client.get_children(ensemble.path))
        return leader_of(name, client.get(ensemble.below(name))[0]) if name is not None else None
    except NoNodeError:
        return None
    except KazooTimeoutError:
        raise Unavailable(f"no ZooKeeper server of {ensemble} answers") from None
    except KazooException as error:
        raise Unavailable(f"{ensemble} does not say who leads: {type(error).__name__}") from error
    finally:
        client.stop()
        client.close()


def leading(names: Iterable[str]) -> str | None:
    """The first candidate among the nodes below the path; those whose last part is no number are none."""
    numbered = [(int(number), name) for name in names if re.fullmatch(r"[0-9]+", number := name.rpartition("_")[2])]
    return min(numbered)[1] if numbered else None


def leader_of(name: str, data: bytes) -> Leader:
    """Read a candidate. Raises PeerError: its label is another (Mesos before 0.24 used such) or its data no MasterInfo."""
    if not name.startswith(f"{LABEL}_"):
        raise PeerError(f"the leader's node {name} is of a master that is too old, or of something else")
    try:
        info = codec.decode(data, MasterInfo)
    except CallError as error:
        raise PeerError(f"the leader's node {name} cannot be read: {error}") from error
    address = info.address
    ip = (address.ip if address is not None else None) or _ip(info.ip)
    hostname = (address.hostname if address is not None else None) or info.hostname or ip
    return Leader(info.id, hostname, ip, address.port if address is not None else info.port)


def _ip(number: int) -> str:
    """The address that MasterInfo.ip stands for."""
    return str(ipaddress.IPv4Address(number.to_bytes(4, "little"))) if 0 < number < 1 << 32 else ""


def _elapsed_s() -> float:
    """A clock that goes on while the machine sleeps: the ensemble's does."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
