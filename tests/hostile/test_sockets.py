"""Real daemons, called by what is no client: they live on, keep their memory, know what they knew, and answer everybody else."""

from __future__ import annotations

import gzip
import random
import socket
import struct
from collections.abc import Iterator
from functools import cache

import pytest

from tests.hostile.daemons import Daemon, Pair, daemons, post, rest, status

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
APIS = {"master": ["/api/v1/scheduler", "/api/v1"], "agent": ["/api/v1/executor", "/api/v1"]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with daemons(tmp_path_factory.mktemp("daemons")) as started:
        yield started


@pytest.fixture(params=["master", "agent"])
def victim(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Daemon]:
    """One of the two; afterwards both must be well."""
    yield pair.master if request.param == "master" else pair.agent
    pair.check()


def healthy(victim: Daemon) -> bool:
    return status(victim.ask(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")) == 200


# ---- Slow and half-open ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"P",
        b"POST /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ",
        b"POST /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{",
        b"POST /api/v1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n{",
        b"GET /state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50,
        b"GET /agent-link HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
    ],
    ids=["nothing", "a byte", "headers", "body", "chunk", "answers not read", "link"],
)
def test_who_does_not_go_on_holds_up_nobody(victim: Daemon, begun: bytes) -> None:
    """Three hundred of them, that stay; then half of them hang up and half vanish."""
    connections = [victim.send(begun) for _ in range(300)]
    assert healthy(victim)
    for number, connection in enumerate(connections):
        if number % 3 == 0:
            connection.shutdown(socket.SHUT_WR)
        elif number % 3 == 1:  # A reset instead of a farewell.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert healthy(victim)


# ---- Not HTTP -------------------------------------------------------------------------------------------

NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # TLS.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\0" * 10_000,
    b"\n" * 100_000,
    b"GET\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n: no name\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"b" * 10 * MIB,
    b"GET http://other/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /\xff\xfe%ff%00%zz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    b"GET /state?%ff=%fe&limit=\xff HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1e9\r\n\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\nx",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    b"POST /api/v1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
]


@pytest.mark.parametrize("sent", NOT_HTTP, ids=range(len(NOT_HTTP)))
def test_what_is_not_http_gets_an_error_or_nothing(victim: Daemon, sent: bytes) -> None:
    connection = victim.send(sent)
    connection.shutdown(socket.SHUT_WR)
    with connection:
        assert status(rest(connection)) in (0, 400, 403, 404, 405)


def test_random_bytes_get_an_error_or_nothing(victim: Daemon) -> None:
    chance = random.Random(1)
    for _ in range(100):
        connection = victim.send(chance.choice([b"", b"GET ", b"POST /api/v1 HTTP/1.1\r\n"]) + chance.randbytes(chance.randrange(2000)))
        connection.shutdown(socket.SHUT_WR)
        with connection:
            assert status(rest(connection)) in (0, 400, 403, 404, 405)


# ---- Bodies ---------------------------------------------------------------------------------------------

DEEP = 3 * MIB
BODIES = {
    "nothing": b"",
    "invalid UTF-8": b'{"type":"\xff\xfe"}',
    "half a surrogate": b'{"type":"\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"type":"GET_STATE"}'.encode("utf-16"),
    "NULs": bytes(1000),
    "deep lists": b"[" * DEEP,
    "deep lists, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * (DEEP // 5) + b"1" + b"}" * (DEEP // 5),
    "deep where it is read": b'{"type":"SUBSCRIBE","subscribe":{"framework_info":' + b'{"labels":' * 100_000,
    "deep containers": b'{"kill_container":{"container_id":' + b'{"value":"a","parent":' * 10_000 + b"1" + b"}" * 10_002,
    "a long number": b'{"type":' + b"9" * MIB + b"}",
    "a long fraction": b'{"type":0.' + b"9" * MIB + b"}",
    "a large exponent": b'{"type":1e' + b"9" * 1000 + b"}",
    "NaN": b'{"type":NaN}',
    "Infinity": b'{"type":-Infinity}',
    "a long text": b'{"type":"' + b"x" * (4 * MIB) + b'"}',
    "many names": b"{" + b",".join(b'"%d":%d' % (n, n) for n in range(300_000)) + b"}",
    "the same name often": b"{" + b",".join([b'"type":"x"'] * 300_000) + b"}",
    "many empty lists": b'{"type":[' + b",".join([b"[]"] * 1_000_000) + b"]}",
    "many nulls": b'{"type":"NONE","accept":' + b"[" + b",".join([b"null"] * 1_000_000) + b"]}",
    "another type": b'"GET_STATE"',
    "unclosed": b'{"type":"GET_STATE"',
    "two of them": b'{"type":"NONE"}{"type":"NONE"}',
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_that_say_nothing_are_refused(victim: Daemon, body: bytes) -> None:
    for path in APIS[victim.kind]:
        assert status(victim.ask(post(path, body))) == 400
    assert healthy(victim)


@pytest.mark.parametrize("extra", [1, 10**6, 10**12, 2**63])
def test_a_body_said_to_be_too_large_is_not_waited_for(victim: Daemon, extra: int) -> None:
    for path in APIS[victim.kind]:
        head = post(path, b"{}").replace(b"Content-Length: 2", b"Content-Length: %d" % (8 * MIB + extra))
        answer = victim.ask(head)
        assert status(answer) == 413
        assert b"8388608" in answer


def test_a_body_that_becomes_too_large_is_not_read_on(victim: Daemon) -> None:
    chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
    for path in APIS[victim.kind]:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert status(victim.ask(head.encode() + chunk * 9)) in (413, 0)  # 0: it hung up before we had written all.


@cache
def bomb() -> bytes:
    """Many times what may come, in a small part of it."""
    packed = gzip.compress(bytes(200 * MIB), 1)
    return packed if len(packed) < MIB else gzip.compress(bytes(200 * MIB), 6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense", "gzip, gzip"])
def test_a_small_body_that_unpacks_to_a_large_one_is_refused(victim: Daemon, encoding: str) -> None:
    packed = bomb()
    for path in APIS[victim.kind]:
        assert status(victim.ask(post(path, packed, Content_Encoding=encoding))) in (400, 413, 415, 0)
    assert victim.memory_mb() < 400


RECORDS = {
    "no length": b"abc\n{}",
    "a negative length": b"-5\n{}",
    "no record": b"0\n",
    "a length without end": b"9" * MIB,
    "a length that is not reached": b"100\n{}",
    "a length beyond the limit": b"9999999999999999999\n{}",
    "a sign": b"+2\n{}",
    "a space": b" 2\n{}",
    "other digits": "٢\n{}".encode(),
    "nothing in between": b"2{}",
    "very many": b"1\n1" * (8 * MIB // 3),
    "very many calls": b"2\n{}" * MIB,
    "empty": b"",
}


@pytest.mark.parametrize("body", RECORDS.values(), ids=RECORDS)
def test_records_that_are_none_are_refused(pair: Pair, body: bytes) -> None:
    assert status(pair.master.ask(post("/api/v1/scheduler", body, "application/recordio"))) == 400
    assert status(pair.agent.ask(post("/api/v1", body, "application/recordio", Message_Content_Type="application/json"))) in (400, 501)
    pair.check()


# ---- Paths and queries ----------------------------------------------------------------------------------

PLACES = [
    "/state?jsonp=alert(1)//", "/state?jsonp=%3Cscript%3E", "/tasks?limit=-1&offset=-5", "/tasks?limit=99999999999999999999&offset=x",
    "/files/read?path=/slave/log&offset=-5", "/files/read?path=%00", "/files/browse?path=" + "../" * 500,
    "/files/download?path=/etc/shadow",
    "/logging/toggle?level=1&duration=1e400secs", "/logging/toggle?level=99999999999999999999999&duration=5secs", "/quota/" + "a/" * 3000,
    "/monitor/statistics?" + "a=b&" * 1000, "/containers?container_id=..", "/" + "%2e%2e/" * 100 + "etc/passwd", "/master/../../etc/passwd",
    "/slave(1)/slave(1)/state", "//state", "/state/..", "/api/v1/scheduler/../../flags", "/teardown?frameworkId=x",
]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "HEAD", "BREW"])
def test_no_path_or_query_is_too_odd(victim: Daemon, method: str) -> None:
    for place in PLACES:
        head = f"{method} {place} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        answer = victim.ask(head.encode())
        assert status(answer) in (200, 400, 403, 404, 405, 501), (place, answer[:200])
        assert b"root:" not in answer


# ---- Pages in somebody's browser ------------------------------------------------------------------------

CALL = b'{"type":"GET_HEALTH"}'
WEBSOCKET = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


def page(method: str, path: str, host: str, origin: str, more: str = "", body: bytes = b"") -> bytes:
    """What a browser sends for a script of a page."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Origin: {origin}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + f"\r\n{more or 'Connection: close' + chr(13) + chr(10)}\r\n").encode() + body


def opened(victim: Daemon, sent: bytes) -> int:
    """How a request to open a WebSocket is answered, whose connection may stay."""
    with victim.send(sent) as connection:
        return status(connection.recv(12))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "http://localhost.evil.example", "null", ""]
)
def test_a_page_of_another_site_does_nothing(victim: Daemon, origin: str) -> None:
    for path in (*APIS[victim.kind], "/logging/toggle?level=1&duration=1secs", "/teardown"):
        answer = victim.ask(page("POST", path, f"127.0.0.1:{victim.port}", origin, body=CALL))
        assert status(answer) in (403, 404), path
    if victim.kind == "master":
        assert opened(victim, page("GET", "/agent-link", f"127.0.0.1:{victim.port}", origin, WEBSOCKET)) == 403


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "1.0.0.127.in-addr.arpa"])
def test_a_page_whose_own_name_leads_here_does_and_reads_nothing(victim: Daemon, name: str) -> None:
    host = f"{name}:{victim.port}"
    assert status(victim.ask(page("GET", "/state", host, f"http://{host}"))) == 403
    assert status(victim.ask(page("GET", "/files/debug", host, f"http://{host}"))) == 403
    for path in APIS[victim.kind]:
        assert status(victim.ask(page("POST", path, host, f"http://{host}", body=CALL))) == 403
    if victim.kind == "master":
        assert opened(victim, page("GET", "/agent-link", host, f"http://{host}", WEBSOCKET)) == 403


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", socket.gethostname()])
def test_our_own_pages_work(victim: Daemon, name: str) -> None:
    host = f"{name}:{victim.port}"
    assert status(victim.ask(page("POST", "/api/v1", host, f"http://{host}", body=CALL))) == 200
