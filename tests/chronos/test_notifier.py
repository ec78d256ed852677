"""Messages on their way, to a real server for mail and a real webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from chronos import notifier
from chronos.notifier import Mail, Notifier
from chronos.notify import Message
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


def delivered(
    messages: list[Message], smtp: Smtp | None = None, authorization: str = "", statuses: tuple[int, ...] = ()
) -> list[tuple[str, bytes]]:
    """Send them; return what came by HTTP: the header Authorization and the body. statuses: of the first answers."""
    came: list[tuple[str, bytes]] = []
    answers = list(statuses)

    async def hook(request: Request) -> web.StreamResponse:
        body = await read_body(request)
        status = answers.pop(0) if answers else 200
        if status == 200:
            came.append((request.headers.get("Authorization", ""), body))
        return web.Response(status=status)

    async def run() -> None:
        routes = Routes()
        routes.add("/hook", hook, realm=None, methods=("POST",))
        http = HttpServer(routes)
        port = await http.start("127.0.0.1", 0)
        mailing = await asyncio.start_server((smtp or Smtp()).serve, "127.0.0.1", 0)
        server = f"127.0.0.1:{mailing.sockets[0].getsockname()[1]}"
        sender = Notifier(Mail(server, "chronos@x.org"), authorization, first_s=0.01)
        working = asyncio.create_task(sender.run())
        sender.put([_at(message, port) for message in messages])
        await _until(lambda: sender.sent + sender.failed == len(messages))
        working.cancel()
        await asyncio.wait((working,))
        mailing.close()
        await http.stop()

    asyncio.run(run())
    return came


def _at(message: Message, port: int) -> Message:
    target = message.target.replace("HOOK", f"http://127.0.0.1:{port}/hook")
    return Message(message.kind, target, message.subject, message.text, message.body, message.own)


async def _until(done: Callable[[], bool], look: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not done():
            await look(0.01)


def test_mail_has_its_subject_and_text_and_no_header_of_others() -> None:
    smtp = Smtp()
    delivered([Message("mail", "a@x.org", " [Chronos] job 'x'\r\nBcc: all@x.org", "it broke: ü")], smtp)
    (letter,) = smtp.letters
    headers = letter.partition("\r\n\r\n")[0]
    assert "Subject: [Chronos] job 'x' Bcc: all@x.org" in headers
    assert "\r\nBcc:" not in headers
    assert "To: a@x.org" in headers


def test_what_does_not_arrive_is_sent_again() -> None:
    smtp = Smtp(refusals=2)
    came = delivered([Message("mail", "a@x.org", "s", "t"), Message("chat", "HOOK", "s", "t", b"{}")], smtp, statuses=(500, 503))
    assert (len(smtp.letters), came) == (1, [("", b"{}")])


def test_the_scheduler_s_own_credentials_go_to_its_own_channel_only() -> None:
    messages = [Message("url", "HOOK", "s", "t", b"{}", own=True), Message("url", "HOOK", "s", "t", b"text")]
    assert sorted(delivered(messages, authorization="Basic x")) == [("", b"text"), ("Basic x", b"{}")]


def test_what_never_arrives_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    assert delivered([Message("chat", "HOOK?token=secret", "s", "t", b"{}")], statuses=(500,) * 9) == []
    assert "could not send 's' by chat to 127.0.0.1: the answer was 500" in caplog.text
    assert "secret" not in caplog.text


def test_too_many_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "WAITING_MAX", 2)

    async def run() -> tuple[int, int]:
        sender = Notifier(Mail())
        sender.put([Message("chat", "http://x.test", "s", "t")] * 5)
        return sender.waiting, sender.failed

    assert asyncio.run(run()) == (2, 3)


def test_a_password_is_in_no_text() -> None:
    assert "secret" not in repr(Mail("h:25", "f", "u", "secret"))
