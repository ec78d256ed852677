"""Sends messages: mail, webhooks. A few at a time, again for a day when it fails; nobody waits for it.

Those for one place (the server for mail, a URL) go one after the other, so that one which does not answer holds up only its own. A
message leaves the outbox when it has arrived: one that arrives while this process dies comes twice.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import urlsplit

from msgspec import Struct

from chronos.history import UNSENT_MAX
from chronos.notify import Message, Unsent
from chronos.workers import Workers
from kernel.clock import Clock
from kernel.errors import PeerError
from kernel.net.backoff import delay_s
from kernel.net.session import Session, fetch

log = logging.getLogger(__name__)

AT_ONCE = 4
KEEP_MS = 24 * 3600 * 1000  # Then a message is given up.
AGAIN_MOST_S = 300.0  # Between two attempts at one place.
SEND_S = 15.0
SMTP_PORT, SMTPS_PORT = 25, 465
JSON = "application/json"
REFUSED = frozenset({400, 410, 413, 414, 415, 422, 431})  # Answers that blame the message: it would be refused again.


class Mail(Struct, frozen=True):
    """A server for mail. server: `host:port`. password: shown to nobody."""

    server: str = ""
    sender: str = ""
    user: str = ""
    password: str = ""
    ssl: bool = False

    def __repr__(self) -> str:
        return f"Mail(server={self.server!r}, sender={self.sender!r})"


class Fault(Struct, frozen=True):
    """Why a message did not arrive. final: it never will."""

    reason: str
    final: bool = False


class Notifier:
    """forget: takes messages out of the outbox. authorization: of the scheduler's own HTTP channel. first_s: before the second attempt."""

    def __init__(
        self,
        mail: Mail,
        forget: Callable[[Sequence[Unsent]], Awaitable[None]],
        clock: Clock,
        authorization: str = "",
        first_s: float = 1.0,
    ) -> None:
        self._mail, self._forget, self._clock, self._authorization, self._first_s = mail, forget, clock, authorization, first_s
        self._lanes: dict[str, deque[Unsent]] = {}  # By place: what is to be sent there.
        self._failures: dict[str, int] = {}  # By place: how many attempts in a row failed.
        self._queue: Workers[str] = Workers(self._serve, at_once=AT_ONCE, waiting_max=UNSENT_MAX)
        self.sent = self.failed = 0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._lanes.values()))

    def put(self, unsent: Sequence[Unsent]) -> None:
        """Take messages in."""
        for one in unsent:
            place = one.message.place
            if place in self._lanes:
                self._lanes[place].append(one)
            else:
                self._lanes[place] = deque((one,))
                self._queue.put(place)

    async def run(self) -> None:
        """Send for ever. Raises StoreError."""
        await self._queue.run()

    async def _serve(self, http: Session, place: str) -> None:
        """Send the first of what is for one place; see when it is that place's turn again."""
        lane = self._lanes[place]
        await self._give_up_old(lane)
        if lane and await self._arrived(http, lane, place):
            self._failures.pop(place, None)
        if not lane:
            del self._lanes[place]
            self._failures.pop(place, None)
        elif failures := self._failures.get(place, 0):
            wait_s = delay_s(failures, 0.0, first_s=self._first_s, most_s=AGAIN_MOST_S)
            asyncio.get_running_loop().call_later(wait_s, self._queue.put, place)
        else:
            self._queue.put(place)

    async def _arrived(self, http: Session, lane: deque[Unsent], place: str) -> bool:
        """Whether the first of them is dealt with; if not, it is the last now."""
        one = lane[0]
        fault = await self._try(http, one.message)
        if fault is not None and not fault.final:
            lane.rotate(-1)
            failures = self._failures[place] = self._failures.get(place, 0) + 1
            if failures == 1:
                log.warning("%s, and is sent again for a day", _told(one.message, fault.reason))
            return False
        if fault is None:
            self.sent += 1
        else:
            self.failed += 1
            log.error("%s", _told(one.message, fault.reason))
        lane.popleft()
        await self._forget((one,))
        return True

    async def _give_up_old(self, lane: deque[Unsent]) -> None:
        """Of what failed for so long, and of what waited so long for this scheduler to lead again."""
        oldest_ms = int(self._clock.now().wall_s * 1000) - KEEP_MS
        old = [one for one in lane if one.since_ms < oldest_ms]
        if old:
            kept = [one for one in lane if one.since_ms >= oldest_ms]
            lane.clear()
            lane.extend(kept)
            self.failed += len(old)
            for one in old:
                log.error("%s", _told(one.message, "a day has passed"))
            await self._forget(old)

    async def _try(self, http: Session, message: Message) -> Fault | None:
        """Send it once; say why it did not arrive."""
        try:
            if message.kind == "mail":
                if not self._mail.server:
                    return Fault("there is no --mail_server", final=True)
                await asyncio.wait_for(asyncio.to_thread(send_mail, self._mail, message), SEND_S * 2)
                return None
            headers = {"Content-Type": JSON if message.body[:1] == b"{" else "text/plain; charset=utf-8", **dict(message.headers)}
            if message.own and self._authorization:
                headers["Authorization"] = self._authorization
            answer = await fetch(http, "POST", message.target, body=message.body, headers=headers, timeout_s=SEND_S)
            return None if 200 <= answer.status < 300 else Fault(f"the answer was {answer.status}", answer.status in REFUSED)
        except ValueError as error:
            return Fault(type(error).__name__, final=True)  # Its text may show what is secret in a URL.
        except (PeerError, OSError, smtplib.SMTPException) as error:
            return Fault(str(error) or type(error).__name__, _refused(error))


def _refused(error: Exception) -> bool:
    """Whether a server for mail will not have this letter, also later (RFC 5321, 4.2.1: 5yz)."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError) and error.smtp_code >= 500


def _told(message: Message, reason: str) -> str:
    return f"could not send {message.subject!r} by {message.kind} to {_shown(message)}: {reason}"


def _shown(message: Message) -> str:
    """Of a URL the host only: a webhook's path is its password."""
    if message.kind == "mail":
        return message.target
    try:
        return urlsplit(message.target).hostname or "?"
    except ValueError:
        return "?"


def mail_server(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of `host`, `host:port` or `[::1]:port`. Raises ValueError."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.netloc != text or parts.username is not None or any(map(str.isspace, text)):
        raise ValueError(f"{text!r} is no HOST:PORT")
    try:
        return parts.hostname, parts.port or default_port
    except ValueError:
        raise ValueError(f"{text!r} has no port from 1 to 65535") from None


def send_mail(mail: Mail, message: Message) -> None:
    """Blocks. Raises OSError, SMTPException."""
    host, port = mail_server(mail.server, SMTPS_PORT if mail.ssl else SMTP_PORT)
    letter = EmailMessage()
    letter["Subject"] = " ".join(message.subject.split())
    letter["From"], letter["To"] = mail.sender or f"chronos@{host}", message.target
    letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain="meseta")
    letter.set_content(message.text)
    context = ssl.create_default_context()
    opened = smtplib.SMTP_SSL(host, port, timeout=SEND_S, context=context) if mail.ssl else smtplib.SMTP(host, port, timeout=SEND_S)
    with opened as server:
        if mail.user:
            if not mail.ssl:
                server.starttls(context=context)  # A password goes over no open line.
            server.login(mail.user, mail.password)
        server.send_message(letter)
