"""The edge of a framework: the event stream, the calls, the store, the clock around a `Scheduler`.

One connection listens, another posts: the calls that gathered while the last batch was on its way leave as the next, many
in one request (`application/recordio`; masters that do not know it get them one by one). Follows the leader. Decides
nothing: whatever breaks is told to the core, which subscribes again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from frameworks.sdk.driver import CallRefused, Connect, Disconnect, Heard, Lost, Send, Stop
from frameworks.sdk.http import Connection, HttpError, Server
from frameworks.sdk.scheduler import Scheduler
from kernel.clock import Clock, SystemClock
from kernel.errors import CallError, KernelError, PeerError
from kernel.mainloop import MainLoop, Tick
from kernel.net.auth import Credential
from kernel.store.store import Store
from kernel.wire import codec, recordio
from kernel.wire.scheduler import Call, Event

log = logging.getLogger(__name__)

PATH = "/api/v1/scheduler"
EVENT_BYTES_MAX = 64 * 1024 * 1024
BATCH_CALLS_MAX = 1_000
BATCH_BYTES_MAX = 4 * 1024 * 1024
REDIRECTS_MAX = 5
LAST_CALLS_S = 5.0  # How long a framework that ends tries to get its last calls out.
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
RECORDIO = {"Content-Type": "application/recordio", "Accept": "application/json"}
REFUSED = frozenset({400, 401, 403, 406, 409, 413, 415})  # Asking again would not help.
WRONG_CALL = frozenset({400, 409, 413, 501})  # The call is to blame, unless the text says that the subscription is:
_OF_SESSION = re.compile(r"stream[ -]?id|framework (cannot be found|is not subscribed)", re.IGNORECASE)

Make = Callable[[Mapping[str, bytes], str, float], Scheduler]
"""Makes the core from what the store kept, a fresh framework id and a random number of [0, 1)."""


class FrameworkStopped(KernelError):
    """The framework cannot go on: another instance took over, the master refuses it..."""


class Framework:
    """Runs one `Scheduler`. `submit` hands it an input of its own."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: Store,
        masters: Sequence[str],
        *,
        credential: Credential | None = None,
        perform: Callable[[Any], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """masters: URLs, tried in turn. perform: carries out the scheduler's own effects, without waiting.

        Raises ValueError when a master is no URL.
        """
        self.loop = MainLoop(scheduler, store, self._perform, self._flush, clock or SystemClock())
        self._own = perform
        self._masters = [Server.parse(master) for master in masters]
        self._tries = 0
        self._leader: Server | None = None
        self._headers = {"Authorization": credential.header()} if credential is not None else {}
        self._session = 0
        self._stream_id = ""
        self._listener: asyncio.Task[None] | None = None
        self._poster: Connection | None = None
        self._one_by_one = False
        self._calls: list[Call] = []
        self._waiting = asyncio.Event()  # Calls wait to be sent.
        self._sent = asyncio.Event()  # None do, and none is on its way.
        self._sent.set()
        self._stop: Stop | None = None

    async def run(self) -> None:
        """Serve until the scheduler stops. Raises FrameworkStopped when it does so for an error, StoreError."""
        sender = asyncio.create_task(self._send_calls())
        self.loop.post(Tick())  # Not a quarter of a second later.
        try:
            await self.loop.run()
            if self._stop is not None:
                await self._finish()
        finally:
            sender.cancel()
            self._hang_up()
        if self._stop is not None and self._stop.error is not None:
            raise FrameworkStopped(self._stop.error)

    async def submit(self, message: Any) -> Any:
        """Hand in an input and wait for what it replies. Raises KernelError as the core did."""
        return await self.loop.submit(message)

    def end(self) -> None:
        """Stop this process; the framework's tasks live on for its failover timeout."""
        self.loop.stop()

    # ---- Effects ----------------------------------------------------------------------------------------

    def _perform(self, effect: Any) -> None:
        kind = type(effect)
        if kind is Send:
            if effect.session == self._session:
                self._calls.append(effect.call)
        elif kind is Connect:
            self._hang_up()
            self._session = effect.session
            self._listener = asyncio.create_task(self._listen(effect.session, effect.call))
        elif kind is Disconnect:
            self._hang_up()
        elif kind is Stop:
            self._stop = effect
            self.loop.stop()
        elif self._own is not None:
            self._own(effect)
        else:
            raise TypeError(f"nobody performs {kind.__name__}")

    def _flush(self) -> None:
        if self._calls:
            self._sent.clear()
            self._waiting.set()

    def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.cancel()
        if self._poster is not None:
            self._poster.close()
        self._listener = self._poster = None
        self._calls = []
        self._stream_id = ""

    async def _finish(self) -> None:
        """Let the last calls out."""
        try:
            async with asyncio.timeout(LAST_CALLS_S):
                await self._sent.wait()
        except TimeoutError:
            log.warning("the last calls did not reach the master")

    # ---- The event stream -------------------------------------------------------------------------------

    async def _listen(self, session: int, subscribe: Call) -> None:
        refused = False
        try:
            reason, refused = await self._follow(session, subscribe)
        except (HttpError, KernelError) as error:
            reason = str(error)
        self._leader = None
        self._tries += 1
        log.info("the stream of session %d ended: %s", session, reason)
        self.loop.post(Lost(session, reason, refused))

    async def _follow(self, session: int, subscribe: Call) -> tuple[str, bool]:
        """Read the stream of one subscription to its end; return why it ended and whether the master refused it."""
        server = self._leader or self._masters[self._tries % len(self._masters)]
        body = codec.encode(subscribe)
        for _ in range(REDIRECTS_MAX):
            connection = Connection(server, self._headers)
            try:
                head, payload = await connection.listen(PATH, body, JSON)
                if head.status == 307:
                    server = _redirected(server, head.headers.get("location", ""))
                    continue
                if head.status != 200:
                    text = b"".join([piece async for piece in payload]).decode(errors="replace").strip()
                    return _refusal(server, head.status, text), head.status in REFUSED
                self._leader, self._poster = server, Connection(server, self._headers)
                self._stream_id = head.headers.get("mesos-stream-id", "")
                decoder = recordio.Decoder(EVENT_BYTES_MAX)
                async for piece in payload:
                    for record in decoder.feed(piece):
                        self.loop.post(Heard(session, _event(record)))
                    await self.loop.room()
                return f"{server} closed the stream", False
            finally:
                connection.close()
        return f"{server} and others keep sending us to each other", False

    # ---- Calls ------------------------------------------------------------------------------------------

    async def _send_calls(self) -> None:
        while True:
            await self._waiting.wait()
            while self._calls:
                session, calls = self._session, self._calls
                self._calls = []
                try:
                    await self._send(session, calls)
                except (HttpError, PeerError) as error:
                    # Nobody knows which of them the master took: subscribe again and ask.
                    if session == self._session:
                        self.loop.post(Lost(session, str(error)))
            self._waiting.clear()
            self._sent.set()

    async def _send(self, session: int, calls: list[Call]) -> None:
        position = 0
        while position < len(calls) and session == self._session and self._poster is not None:
            if self._one_by_one:
                records, body = [calls[position]], codec.encode(calls[position])
            else:
                records, body = _batch(calls, position)
            headers = {**(JSON if self._one_by_one else RECORDIO), "Mesos-Stream-Id": self._stream_id}
            head, answer = await self._poster.post(PATH, body, headers)
            if head.status in (200, 202):
                position += len(records)
            elif head.status == 415 and not self._one_by_one:
                self._one_by_one = True
            else:
                text = answer.decode(errors="replace").strip()
                if head.status not in WRONG_CALL or _OF_SESSION.search(text):
                    raise PeerError(_refusal(self._poster.server, head.status, text))
                index = head.headers.get("meseta-call", "0")
                wrong = min(int(index) if index.isdigit() else 0, len(records) - 1)
                self.loop.post(CallRefused(records[wrong], text))
                position += wrong + 1


def _batch(calls: list[Call], start: int) -> tuple[list[Call], bytes]:
    """As many calls from `start` on as go into one request."""
    frames: list[bytes] = []
    size = 0
    for call in calls[start : start + BATCH_CALLS_MAX]:
        frame = recordio.frame(codec.encode(call))
        size += len(frame)
        if frames and size > BATCH_BYTES_MAX:
            break
        frames.append(frame)
    return calls[start : start + len(frames)], b"".join(frames)


def _event(record: bytes) -> Event:
    try:
        return codec.decode(record, Event)
    except CallError as error:
        raise PeerError(f"the master sent an event nobody can read: {error}") from error


def _redirected(server: Server, location: str) -> Server:
    try:
        return Server.parse(location)._replace(tls=location.startswith("https:") or (server.tls and location.startswith("//")))
    except ValueError as error:
        raise PeerError(f"{server} sent us to {location!r}") from error


def _refusal(server: Server, status: int, text: str) -> str:
    if status == 401:
        return f"{server} asks for a principal and its secret, or does not know ours"
    return f"{server} answered {status}: {text}" if text else f"{server} answered {status}"


async def run_framework(
    make: Make,
    store: Store,
    masters: Sequence[str],
    *,
    name: str,
    credential: Credential | None = None,
    perform: Callable[[Any], None] | None = None,
    ready: Callable[[Framework], None] | None = None,
) -> None:
    """Load, make and run a framework until it stops; then close its store.

    name: with a random part it makes the id of a new framework. ready: called once it can take inputs (`Framework.submit`).
    Raises FrameworkStopped, StoreError.
    """
    try:
        scheduler = make(await store.load(), f"{name}-{uuid.uuid4()}", random.random())
        framework = Framework(scheduler, store, masters, credential=credential, perform=perform)
        if ready is not None:
            ready(framework)
        await framework.run()
    finally:
        await store.close()
