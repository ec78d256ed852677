"""Messages on their way, to a real server for mail and a real webhook."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import pytest
from aiohttp import web
from msgspec import Struct

from chronos.notifier import KEEP_MS, Mail, Notifier, mail_server
from chronos.notify import Message, Unsent
from kernel.clock import Clock, Now, SystemClock
from kernel.net.request import Request, read_body
from kernel.net.server import HttpServer, Routes

LIMIT_S = 30.0


class Smtp:
    """Takes letters; refuses so many first."""

    def __init__(self, refusals: int = 0) -> None:
        self.letters: list[str] = []
        self.refusals = refusals

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            word = line[:4].upper()
            if word == b"DATA":
                writer.write(b"354 go on\r\n")
                self.letters.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                writer.write(b"250 taken\r\n")
            elif word == b"RCPT" and b"unknown" in line:
                writer.write(b"550 no such user\r\n")
            elif word == b"MAIL" and self.refusals:
                self.refusals -= 1
                writer.write(b"451 later\r\n")
            elif word == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
            await writer.drain()
        writer.close()


class Later(SystemClock):
    """From its sixth look on a day has passed."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> Now:
        self._looks += 1
        now = super().now()
        return now._replace(wall_s=now.wall_s + (self._looks > 5) * (KEEP_MS / 1000 + 60))


class Hook:
    """Takes what is posted: came, the header Authorization and the body. statuses: of the first answers, by path."""

    def __init__(self, statuses: dict[str, list[int]] | None = None) -> None:
        self.came: list[tuple[str, bytes]] = []
        self.statuses = statuses or {}

    async def __call__(self, request: Request) -> web.StreamResponse:
        body = await read_body(request)
        left = self.statuses.get(request.path, [])
        status = left.pop(0) if left else 200
        if status == 200:
            self.came.append((request.headers.get("Authorization", ""), body))
        return web.Response(status=status)


class Sending(Struct):
    """What became of messages: counts, and the numbers that left the outbox."""

    sent: int
    failed: int
    forgotten: list[int]


def deliver(
    messages: Sequence[Message], smtp: Smtp | None = None, hook: Hook | None = None, *, authorization: str = "", clock: Clock | None = None
) -> Sending:
    """Send them until all are dealt with."""

    async def run() -> Sending:
        routes = Routes()
        for path in ("/hook", "/other"):
            routes.add(path, hook or Hook(), realm=None, methods=("POST",))
        http = HttpServer(routes)
        port = await http.start("127.0.0.1", 0)
        mailing = await asyncio.start_server((smtp or Smtp()).serve, "127.0.0.1", 0)
        server = f"127.0.0.1:{mailing.sockets[0].getsockname()[1]}"
        forgotten: list[int] = []

        async def forget(done: Sequence[Unsent]) -> None:
            forgotten.extend(one.number for one in done)

        sender = Notifier(Mail(server, "chronos@x.org"), forget, clock or SystemClock(), authorization, first_s=0.01)
        working = asyncio.create_task(sender.run())
        now_ms = int(SystemClock().now().wall_s * 1000)
        sender.put([Unsent(number, now_ms, _at(message, port)) for number, message in enumerate(messages)])
        await until(lambda: len(forgotten) == len(messages))
        assert sender.waiting == 0
        working.cancel()
        await asyncio.wait((working,))
        mailing.close()
        await http.stop()
        return Sending(sender.sent, sender.failed, forgotten)

    return asyncio.run(run())


def _at(message: Message, port: int) -> Message:
    target = re.sub("^HOOK", f"http://127.0.0.1:{port}", message.target)
    return msgspec.structs.replace(message, target=target)


async def until(done: Callable[[], bool], look: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not done():
            await look(0.01)


def test_mail_has_its_subject_and_text_and_no_header_of_others() -> None:
    smtp = Smtp()
    deliver([Message("mail", "a@x.org", " [Chronos] job 'x'\r\nBcc: all@x.org", "it broke: ü")], smtp)
    (letter,) = smtp.letters
    headers = letter.partition("\r\n\r\n")[0]
    assert "Subject: [Chronos] job 'x' Bcc: all@x.org" in headers
    assert "\r\nBcc:" not in headers
    assert "To: a@x.org" in headers


def test_what_does_not_arrive_is_sent_again() -> None:
    smtp, hook = Smtp(refusals=7), Hook({"/hook": [500, 503, 429, 404, 401, 500, 500]})
    done = deliver([Message("mail", "a@x.org", "s", "t"), Message("chat", "HOOK/hook", "s", "t", b"{}")], smtp, hook)
    assert (len(smtp.letters), hook.came, done.sent, done.failed) == (1, [("", b"{}")], 2, 0)


def test_the_scheduler_s_own_credentials_go_to_its_own_channel_only() -> None:
    hook = Hook()
    messages = [Message("url", "HOOK/hook", "s", "t", b"{}", own=True), Message("url", "HOOK/hook", "s", "t", b"text")]
    deliver(messages, hook=hook, authorization="Basic x")
    assert sorted(hook.came) == [("", b"text"), ("Basic x", b"{}")]


def test_what_is_refused_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    messages = [
        Message("chat", "HOOK/hook?token=secret", "s", "t", b"{}"),
        Message("chat", "HOOK/hook?token=secret", "s", "t", b"{}"),
        Message("url", "http://[secret", "s", "t"),
        Message("mail", "unknown@x.org", "s", "t"),
    ]
    done = deliver(messages, hook=Hook({"/hook": [400]}))
    assert (done.sent, done.failed, sorted(done.forgotten)) == (1, 3, [0, 1, 2, 3])
    assert "could not send 's' by chat to 127.0.0.1: the answer was 400" in caplog.text
    assert "could not send 's' by mail to unknown@x.org: " in caplog.text
    assert "secret" not in caplog.text


def test_a_day_later_it_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook({"/hook": [500] * 1000})
    done = deliver([Message("chat", "HOOK/hook", "s", "t", b"{}")] * 3, hook=hook, clock=Later())
    assert (done.failed, hook.came) == (3, [])
    assert "could not send 's' by chat to 127.0.0.1: a day has passed" in caplog.text


def test_one_that_fails_holds_up_neither_other_places_nor_its_own() -> None:
    """The first is refused five times; of its place the others pass it."""
    hook = Hook({"/hook": [500] * 5})
    messages = [Message("url", f"HOOK/{path}", "s", "t", body) for path, body in (("hook", b"1"), ("hook", b"2"), ("other", b"3"))]
    deliver(messages, hook=hook)
    assert hook.came[0] == ("", b"3")
    assert sorted(body for _, body in hook.came) == [b"1", b"2", b"3"]


def test_without_a_server_there_is_no_mail(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> int:
        forgotten = asyncio.Event()

        async def forget(done: Sequence[Unsent]) -> None:
            forgotten.set()

        sender = Notifier(Mail(), forget, SystemClock())
        sender.put([Unsent(1, int(SystemClock().now().wall_s * 1000), Message("mail", "a@x.org", "s", "t"))])
        working = asyncio.create_task(sender.run())
        await asyncio.wait_for(forgotten.wait(), LIMIT_S)
        working.cancel()
        await asyncio.wait((working,))
        return sender.failed

    assert asyncio.run(run()) == 1
    assert "there is no --mail_server" in caplog.text


def test_a_password_is_in_no_text() -> None:
    assert "secret" not in repr(Mail("h:25", "f", "u", "secret"))


@pytest.mark.parametrize(
    ("text", "place"), [("mail", ("mail", 25)), ("mail:587", ("mail", 587)), ("10.0.0.1:25", ("10.0.0.1", 25)), ("[::1]:26", ("::1", 26))]
)
def test_where_a_server_for_mail_is(text: str, place: tuple[str, int]) -> None:
    assert mail_server(text, 25) == place
