"""Sends messages: mail, webhooks. A few at a time, again when it fails, from a queue with a bound; nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import ClassVar
from urllib.parse import urlsplit

from msgspec import Struct

from chronos.notify import Message
from chronos.workers import Workers
from kernel.errors import PeerError
from kernel.net.backoff import delay_s
from kernel.net.session import Session, fetch

log = logging.getLogger(__name__)

WAITING_MAX = 10_000
AT_ONCE = 4
TRIES = 5
SEND_S = 15.0
JSON = "application/json"


class Mail(Struct, frozen=True):
    """A server for mail. server: `host:port`. password: shown to nobody."""

    server: str = ""
    sender: str = ""
    user: str = ""
    password: str = ""
    ssl: bool = False

    def __repr__(self) -> str:
        return f"Mail(server={self.server!r}, sender={self.sender!r})"


class Notifier:
    """The queue. authorization: of the scheduler's own HTTP channel."""

    _CHANNELS: ClassVar[frozenset[str]] = frozenset({"chat", "url", "sentry"})

    def __init__(self, mail: Mail, authorization: str = "", first_s: float = 1.0) -> None:
        self._mail, self._authorization, self._first_s = mail, authorization, first_s
        self._queue: Workers[Message] = Workers(self._deliver, at_once=AT_ONCE, waiting_max=WAITING_MAX)
        self.sent = self.failed = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def put(self, messages: Sequence[Message]) -> None:
        """Take messages in. Where there are too many, these are given up."""
        for message in messages:
            if not self._queue.put(message):
                self.failed += 1
                log.error("%d messages wait already: %r is not sent", WAITING_MAX, message.subject)

    async def run(self) -> None:
        """Send for ever."""
        await self._queue.run()

    async def _deliver(self, http: Session, message: Message) -> None:
        for number in range(1, TRIES + 1):
            reason = await self._try(http, message)
            if reason is None:
                self.sent += 1
                return
            if number < TRIES:
                await asyncio.sleep(delay_s(number, 0.0, first_s=self._first_s))
        self.failed += 1
        log.error("could not send %r by %s to %s: %s", message.subject, message.kind, _shown(message), reason)

    async def _try(self, http: Session, message: Message) -> str | None:
        """Send it once; say why it did not arrive."""
        try:
            if message.kind == "mail":
                await asyncio.wait_for(asyncio.to_thread(send_mail, self._mail, message), SEND_S * 2)
                return None
            headers = {"Content-Type": JSON if message.body[:1] == b"{" else "text/plain; charset=utf-8", **dict(message.headers)}
            if message.own and self._authorization:
                headers["Authorization"] = self._authorization
            answer = await fetch(http, "POST", message.target, body=message.body, headers=headers, timeout_s=SEND_S)
            return None if 200 <= answer.status < 300 else f"the answer was {answer.status}"
        except (PeerError, OSError, smtplib.SMTPException, ValueError) as error:
            return type(error).__name__ if isinstance(error, ValueError) else str(error) or type(error).__name__


def _shown(message: Message) -> str:
    """Of a URL the host only: a webhook's path is its password."""
    return message.target if message.kind == "mail" else urlsplit(message.target).hostname or "?"


def send_mail(mail: Mail, message: Message) -> None:
    """Blocks. Raises OSError, SMTPException."""
    if not mail.server:
        raise OSError("there is no --mail_server")
    host, _, port = mail.server.partition(":")
    letter = EmailMessage()
    letter["Subject"] = " ".join(message.subject.split())
    letter["From"], letter["To"] = mail.sender or f"chronos@{host}", message.target
    letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain="meseta")
    letter.set_content(message.text)
    context = ssl.create_default_context()
    opened = (
        smtplib.SMTP_SSL(host, int(port or 465), timeout=SEND_S, context=context)
        if mail.ssl
        else smtplib.SMTP(host, int(port or 25), timeout=SEND_S)
    )
    with opened as server:
        if mail.user:
            if not mail.ssl:
                server.starttls(context=context)  # A password goes over no open line.
            server.login(mail.user, mail.password)
        server.send_message(letter)
