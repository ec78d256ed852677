"""A store in ZooKeeper, for daemons of which another takes the place on another machine.

    PATH/owner                  who may write; each write sets it, so its version counts the writes
    PATH/records/BUCKET/KEY     one record: a change of one agent writes one node (and `owner`)
    PATH/records/BUCKET/KEY/N   the rest of a record that is too large for a node
    PATH/journal/N              a batch that is too large for a transaction, until it is in the records

Fencing: every transaction sets `owner` at the version that this process expects. Whoever opens the store writes its own
name there, so the one before it can write nothing from then on. The same version says, when a connection broke, whether
the write under way was done.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
import zlib
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import msgspec
from kazoo.exceptions import BadVersionError, KazooException, NoNodeError

from kernel.errors import StoreError
from kernel.zookeeper import AGAIN, AGAIN_S, Ensemble, Session, TransactionFailed, ensure_path, get, get_children

log = logging.getLogger(__name__)

BUCKETS = tuple(
    f"{number:02x}" for number in range(64)
)  # Many, so that a list of names stays far below what ZooKeeper sends in one answer.
NODE_BYTES_MAX = 512 * 1024
REQUEST_BYTES_MAX = 900 * 1024  # ZooKeeper refuses 1 MiB (jute.maxbuffer).
OPERATION_BYTES = 192  # What one costs beside path and data, with its access rights.

_batch = msgspec.msgpack.Decoder(tuple[tuple[str, bytes | None], ...])


T = TypeVar("T")


class Fenced(StoreError):
    """Another process has taken the store over, or this one may not lead any more."""


class _Operation(NamedTuple):
    """One node's change. kind: create, set_data or delete."""

    kind: str
    path: str
    data: bytes = b""

    @property
    def size(self) -> int:
        return len(self.path) + len(self.data) + OPERATION_BYTES


class ZookeeperStore:
    """Keeps entries below `ensemble.path`; made in the running event loop.

    guard: a node that must be there for every write, the leader's candidate. patience_s: how long a write waits for
    an ensemble that does not answer. The first `load` or `write` takes the store over.
    """

    def __init__(self, ensemble: Ensemble, timeout_s: float, *, guard: str | None = None, patience_s: float) -> None:
        self._session = Session(ensemble, timeout_s, private=True)
        self._guard, self._patience_s = guard, patience_s
        self._owner, self._journal, self._records = (ensemble.below(name) for name in ("owner", "journal", "records"))
        self._name = uuid.uuid4().hex
        self._version = -1
        self._parts: dict[str, int] | None = None  # By key, of all records: how many nodes each has beside the first.
        self._broken: StoreError | None = None

    async def load(self) -> dict[str, bytes]:
        return await self._guarded(self._load())

    async def write(self, changes: Sequence[tuple[str, bytes | None]]) -> None:
        """After a failure every later write fails too: what the ensemble holds is known again only after a restart."""
        await self._guarded(self._write(dict(changes)))  # They are applied at once, so only the last change of a key matters.

    async def close(self) -> None:
        await self._session.close()

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        if self._broken is not None:
            work.close()
            raise self._broken
        try:
            async with asyncio.timeout(self._patience_s):
                return await work
        except TimeoutError:
            self._broken = StoreError(f"{self._session.ensemble} has not answered for {self._patience_s:g} s")
        except StoreError as error:
            self._broken = error
        except (TransactionFailed, KazooException, msgspec.MsgspecError, ValueError) as error:
            self._broken = StoreError(f"cannot keep state in {self._session.ensemble}: {type(error).__name__} {error}")
        raise self._broken

    # ---- Taking over ------------------------------------------------------------------------------------

    async def _load(self) -> dict[str, bytes]:
        if self._parts is None:
            return await self._open()
        return await self._read()

    async def _open(self) -> dict[str, bytes]:
        """Become the owner, end what the one before left half done, return everything."""
        session = self._session
        for path in (self._owner, self._journal, self._records):
            await session.read(ensure_path(path))
        there = await session.read(get_children(self._records))
        await session.read_all([ensure_path(f"{self._records}/{name}") for name in BUCKETS if name not in there])
        pieces = await self._take_over()
        kept = await self._read()
        names = sorted(await session.read(get_children(self._journal)))
        leftover = [_Operation("delete", f"{self._journal}/{name}") for name in names]
        if pieces:
            log.info("ending a batch that the owner before us had begun")
            batch = _batch.decode(b"".join(await self._get([operation.path for operation in leftover[:pieces]])))
            await self._apply(dict(batch), pieces, leftover)
            kept = await self._read()
        elif leftover:
            await self._commit(leftover, 0)
        return kept

    async def _take_over(self) -> int:
        """Write our name over the owner's; return of how many pieces the batch is that it had begun (0: none)."""
        session = self._session
        while True:
            data, stat = await session.read(get(self._owner))
            name, pieces = _read_owner(data)
            if name == self._name:  # The answer to our transaction was lost.
                self._version = stat.version
                return pieces
            self._version = stat.version
            try:
                await self._transact([], pieces)
            except AGAIN:
                await asyncio.sleep(AGAIN_S)
            except TransactionFailed as error:
                if not isinstance(error.reason, BadVersionError):
                    raise self._explained(error) from error
            else:
                self._version += 1
                return pieces

    async def _read(self) -> dict[str, bytes]:
        """Read all records; know their parts."""
        session = self._session
        lists = await session.read_all([get_children(f"{self._records}/{name}") for name in BUCKETS])
        paths = [f"{self._records}/{bucket}/{name}" for bucket, names in zip(BUCKETS, lists, strict=True) for name in names]
        found = await session.read_all([get(path) for path in paths])
        kept: dict[str, bytes] = {}
        self._parts = {}
        for path, (data, stat) in zip(paths, found, strict=True):
            key = unquote(path.rpartition("/")[2])[1:]
            self._parts[key] = stat.numChildren
            if stat.numChildren:
                data += b"".join(await self._get([f"{path}/{number}" for number in range(1, stat.numChildren + 1)]))
            kept[key] = data
        return kept

    async def _get(self, paths: Sequence[str]) -> list[bytes]:
        found = await self._session.read_all([get(path) for path in paths])
        return [data for data, _ in found]

    # ---- Writing ----------------------------------------------------------------------------------------

    async def _write(self, changes: dict[str, bytes | None]) -> None:
        if self._parts is None:
            await self._open()
        operations = self._operations(changes)
        if sum(operation.size for operation in operations) <= REQUEST_BYTES_MAX:
            if operations:
                await self._commit(operations, 0)
                self._note(changes)
            return
        whole = msgspec.msgpack.encode(tuple(changes.items()))
        pieces = [
            _Operation("create", f"{self._journal}/{number:06d}", whole[start : start + NODE_BYTES_MAX])
            for number, start in enumerate(range(0, len(whole), NODE_BYTES_MAX))
        ]
        for piece in pieces:
            await self._commit([piece], 0)
        await self._commit([], len(pieces))  # From here on the batch is kept, whoever brings it into the records.
        await self._apply(changes, len(pieces), [_Operation("delete", piece.path) for piece in pieces])

    async def _apply(self, changes: dict[str, bytes | None], pieces: int, leftover: Sequence[_Operation]) -> None:
        """Bring a batch from the journal into the records, as often as it takes, then clear the journal."""
        group: list[_Operation] = []
        size = 0
        for operation in self._operations(changes):
            if group and size + operation.size > REQUEST_BYTES_MAX:
                await self._commit(group, pieces)
                group, size = [], 0
            group.append(operation)
            size += operation.size
        await self._commit(group, pieces)
        self._note(changes)
        await self._commit(leftover, 0)

    def _operations(self, changes: dict[str, bytes | None]) -> list[_Operation]:
        """What makes the nodes of all these records be as wanted. Parts appear and vanish at the end, so that what is
        half done has no gaps."""
        assert self._parts is not None
        operations = []
        for key, value in changes.items():
            path, before = self._path(key), self._parts.get(key, -1)
            if value is None:
                data = []
            else:
                data = [value[start : start + NODE_BYTES_MAX] for start in range(0, max(len(value), 1), NODE_BYTES_MAX)]
            for number, part in enumerate(data):
                kind = "set_data" if number <= before else "create"
                operations.append(_Operation(kind, f"{path}/{number}" if number else path, part))
            for number in range(before, len(data) - 1, -1):
                operations.append(_Operation("delete", f"{path}/{number}" if number else path))
        return operations

    def _note(self, changes: dict[str, bytes | None]) -> None:
        """Know the parts of what was written."""
        assert self._parts is not None
        for key, value in changes.items():
            if value is None:
                self._parts.pop(key, None)
            else:
                self._parts[key] = max(len(value) - 1, 0) // NODE_BYTES_MAX

    def _path(self, key: str) -> str:
        bucket = BUCKETS[zlib.crc32(key.encode()) % len(BUCKETS)]
        return f"{self._records}/{bucket}/+{quote(key, safe='')}"  # The + makes a name of `` and of `..`, too.

    async def _commit(self, operations: Sequence[_Operation], pieces: int) -> None:
        """Do all of the operations once, however often the connection breaks. Raises StoreError."""
        asked = False
        while True:
            try:
                await self._transact(operations, pieces)
            except AGAIN:
                asked = True
                await asyncio.sleep(AGAIN_S)
                continue
            except TransactionFailed as error:
                if not (asked and isinstance(error.reason, BadVersionError) and await self._was_done(pieces)):
                    raise self._explained(error) from error
            self._version += 1
            return

    async def _was_done(self, pieces: int) -> bool:
        """Whether the version moved on by our own write, the answer to which was lost."""
        data, stat = await self._session.read(get(self._owner))
        return _read_owner(data) == (self._name, pieces) and bool(stat.version == self._version + 1)

    async def _transact(self, operations: Sequence[_Operation], pieces: int) -> None:
        def build(transaction: Any) -> None:
            transaction.set_data(self._owner, f"{self._name} {pieces}".encode(), self._version)
            if self._guard is not None:
                transaction.check(self._guard, -1)
            for operation in operations:
                if operation.kind == "delete":
                    transaction.delete(operation.path)
                else:
                    getattr(transaction, operation.kind)(operation.path, operation.data)

        await self._session.commit(build)

    def _explained(self, error: TransactionFailed) -> StoreError:
        if error.index == 0 and isinstance(error.reason, BadVersionError):
            return Fenced(f"another process has taken over the state in {self._session.ensemble}")
        if error.index == 1 and isinstance(error.reason, NoNodeError) and self._guard is not None:
            return Fenced(f"{self._guard} is gone: another process may lead")
        return StoreError(f"cannot keep state in {self._session.ensemble}: {error}")


def _read_owner(data: bytes) -> tuple[str, int]:
    """Name and pieces; a new node has neither."""
    name, _, pieces = data.decode().partition(" ")
    return name, int(pieces or 0)
