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
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import urljoin

from frameworks.sdk.driver import CallRefused, Connect, Disconnect, Heard, Lost, Send, Stop
from frameworks.sdk.masters import PORT, Masters
from frameworks.sdk.scheduler import Scheduler
from kernel.clock import Clock, SystemClock
from kernel.errors import CallError, KernelError, PeerError
from kernel.mainloop import MainLoop, Tick
from kernel.net.auth import Credential
from kernel.net.session import Session, base_url, listen, open_session, pieces, post, whole
from kernel.store.store import Store
from kernel.wire import codec, recordio
from kernel.wire.scheduler import Call, Event

log = logging.getLogger(__name__)

PATH = "/api/v1/scheduler"
EVENT_BYTES_MAX = 64 * 1024 * 1024
BATCH_CALLS_MAX = 1_000
BATCH_BYTES_MAX = 1024 * 1024
REDIRECTS_MAX = 5
LAST_CALLS_S = 5.0  # How long a framework that ends tries to get its last calls out.
JSON = {"Content-Type": "application/json", "Accept": "application/json"}
RECORDIO = {"Content-Type": "application/recordio", "Accept": "application/json"}
REFUSED = frozenset({400, 401, 403, 406, 409, 413, 415})  # Asking again would not help.
WRONG_CALL = frozenset({400, 409, 413, 501})  # The call is to blame, unless the text says that the subscription is:
_OF_SESSION = re.compile(r"stream[ -]?id|framework (cannot be found|is not subscribed)", re.IGNORECASE)

Make = Callable[[dict[str, bytes], str, float], Scheduler]
"""Makes the core from what the store kept, which is its to use up, a fresh framework id and a random number of [0, 1)."""


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
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """masters: URLs, tried in turn, or one `zk://...`. perform: carries out the scheduler's own effects, without waiting.
        confirm: see `MainLoop`; for one of several instances, of which one may act.

        Raises ValueError when a master is no URL, ConfigError for a wrong `zk://...`.
        """
        self.loop = MainLoop(scheduler, store, self._perform, self._flush, clock or SystemClock(), confirm)
        self._own = perform
        self._masters = Masters(masters)
        self._answered = False
        self._leader: str | None = None
        self._headers = {"Authorization": credential.header()} if credential is not None else {}
        self._live = 0  # The session whose calls are sent; 0 when there is none.
        self._listener: asyncio.Task[None] | None = None
        self._one_by_one = False
        self._calls: list[Call] = []
        self._waiting = asyncio.Event()  # Calls wait to be sent.
        self._sent = asyncio.Event()  # None do, and none is on its way.
        self._sent.set()
        self._stop: Stop | None = None

    @property
    def leader(self) -> str | None:
        """The URL of the master that it is subscribed at; None when there is none."""
        return self._leader

    async def run(self) -> None:
        """Serve until the scheduler stops. Raises FrameworkStopped when it does so for an error, StoreError."""
        self.loop.post(Tick())  # Not a quarter of a second later.
        try:
            await self.loop.run()
            if self._stop is not None:
                await self._finish()
        finally:
            listener = self._listener
            self._hang_up()
            if listener is not None:
                await asyncio.wait((listener,))
            await self._masters.close()
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
            if effect.session == self._live:
                self._calls.append(effect.call)
        elif kind is Connect:
            self._hang_up()
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
            self._listener = None
        self._drop_calls(self._live)

    def _drop_calls(self, session: int) -> None:
        """There is nobody any more to send those of this session to."""
        if session == self._live:
            self._live, self._calls = 0, []
            self._sent.set()

    async def _finish(self) -> None:
        """Let the last calls out."""
        try:
            async with asyncio.timeout(LAST_CALLS_S):
                await self._sent.wait()
        except TimeoutError:
            log.warning("the last calls did not reach the master")

    # ---- The event stream -------------------------------------------------------------------------------

    async def _listen(self, session: int, subscribe: Call) -> None:
        refused = self._answered = False
        try:
            server = await self._masters.find(self._leader)
            async with open_session(self._headers) as http:
                reason, refused = await self._while_it_leads(self._follow(http, session, subscribe, server))
        except KernelError as error:
            reason = str(error)
        self._leader = None
        self._masters.ended(self._answered)
        log.info("the stream of session %d ended: %s", session, reason)
        self.loop.post(Lost(session, reason, refused))

    async def _while_it_leads(self, following: Coroutine[Any, Any, tuple[str, bool]]) -> tuple[str, bool]:
        """As `_follow`, cut short when another master leads."""
        tasks = asyncio.ensure_future(following), asyncio.ensure_future(self._masters.moved())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else ("the master leads no more", False)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self, http: Session, session: int, subscribe: Call, server: str) -> tuple[str, bool]:
        """Read the stream of one subscription to its end; return why it ended and whether the master refused it."""
        body = codec.encode(subscribe)
        for _ in range(REDIRECTS_MAX):
            async with listen(http, server + PATH, body, JSON) as stream:
                self._answered = True
                if stream.status == 307:  # Not left to aiohttp: our credentials go with it, and the calls follow.
                    server = _redirected(server, stream.headers.get("Location", ""))
                    continue
                if stream.status != 200:
                    return _refusal(server, stream.status, (await whole(stream)).text), stream.status in REFUSED
                self._leader, self._live = server, session
                sender = asyncio.create_task(self._send_calls(http, session, server, stream.headers.get("Mesos-Stream-Id", "")))
                try:
                    decoder = recordio.Decoder(EVENT_BYTES_MAX)
                    async for piece in pieces(stream):
                        for record in decoder.feed(piece):
                            self.loop.post(Heard(session, _event(record)))
                        await self.loop.room()
                finally:
                    sender.cancel()
                    await asyncio.wait((sender,))
                    self._drop_calls(session)
                return f"{server} closed the stream", False
        return f"{server} and others keep sending us to each other", False

    # ---- Calls ------------------------------------------------------------------------------------------

    async def _send_calls(self, http: Session, session: int, server: str, stream_id: str) -> None:
        """Send what gathers, until it fails or the stream ends."""
        try:
            while True:
                await self._waiting.wait()
                while self._calls:
                    calls, self._calls = self._calls, []
                    await self._send(http, server, stream_id, calls)
                self._waiting.clear()
                self._sent.set()
        except PeerError as error:
            self._drop_calls(session)
            self.loop.post(Lost(session, str(error)))  # Nobody knows which of them the master took: subscribe again and ask.

    async def _send(self, http: Session, server: str, stream_id: str, calls: list[Call]) -> None:
        position = 0
        while position < len(calls):
            if self._one_by_one:
                records, body = [calls[position]], codec.encode(calls[position])
            else:
                records, body = _batch(calls, position)
            headers = {**(JSON if self._one_by_one else RECORDIO), "Mesos-Stream-Id": stream_id}
            answer = await post(http, server + PATH, body, headers)
            if answer.status in (200, 202):
                position += len(records)
            elif answer.status == 415 and not self._one_by_one:
                self._one_by_one = True
            else:
                if answer.status not in WRONG_CALL or _OF_SESSION.search(answer.text):
                    raise PeerError(_refusal(server, answer.status, answer.text))
                index = answer.headers.get("Meseta-Call", "0")
                wrong = min(int(index) if index.isdigit() else 0, len(records) - 1)
                self.loop.post(CallRefused(records[wrong], answer.text))
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


def _redirected(server: str, location: str) -> str:
    try:
        return base_url(urljoin(server, location), PORT)
    except ValueError as error:
        raise PeerError(f"{server} sent us to {location!r}") from error


def _refusal(server: str, status: int, text: str) -> str:
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
    confirm: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Load, make and run a framework until it stops; then close its store.

    name: with a random part it makes the id of a new framework. ready: called once it can take inputs (`Framework.submit`).
    Raises FrameworkStopped, StoreError.
    """
    try:
        scheduler = make(await store.load(), f"{name}-{uuid.uuid4()}", random.random())
        framework = Framework(scheduler, store, masters, credential=credential, perform=perform, confirm=confirm)
        if ready is not None:
            ready(framework)
        await framework.run()
    finally:
        await store.close()
