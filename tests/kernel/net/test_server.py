"""The HTTP server on real sockets: routes, refusals, bodies, answers."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import resource
import socket
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import pytest
import uvloop
from aiohttp import web

from kernel.errors import CallError, Conflict, Forbidden, KernelError, NotFound, NotSupported, StoreError, Unavailable
from kernel.net import request as net_request
from kernel.net import response
from kernel.net import server as net_server
from kernel.net.auth import Authenticator, Credential
from kernel.net.errors import Redirect
from kernel.net.request import Request, acceptable, content_type, read_body
from kernel.net.server import HttpServer, Routes, own_names

LIMIT_S = 10.0


@asynccontextmanager
async def serving(
    routes: Routes, authenticator: Authenticator | None = None, connections_max: int = 100, names: Collection[str] | None = None
) -> AsyncIterator[str]:
    server = HttpServer(routes, authenticator, names=names, connections_max=connections_max)
    port = await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop()


def ask(
    routes: Routes,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    data: bytes | None = None,
    authenticator: Authenticator | None = None,
    names: Collection[str] | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """Send one request to a server made for it; return status, headers and body, not decompressed."""

    async def run() -> tuple[int, dict[str, str], bytes]:
        async with (
            serving(routes, authenticator, names=names) as url,
            aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Content-Type", "Accept", "Accept-Encoding"]) as session,
            session.request(method, url + path, headers=headers, data=data, allow_redirects=False) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.read()

    return uvloop.run(asyncio.wait_for(run(), LIMIT_S))


def table(handler: Callable[[Request], Awaitable[web.StreamResponse]], **settings: object) -> Routes:
    routes = Routes(prefix="/master")
    routes.add("/x", handler, realm=None, **settings)  # type: ignore[arg-type]
    return routes


async def echo_path(request: Request) -> web.StreamResponse:
    return response.text(200, f"{request.path} {request.rest}")


# ---- Routes ---------------------------------------------------------------------------------------------


@pytest.fixture
def routes() -> Routes:
    routes = Routes(prefix="/slave(1)")
    routes.add("/", echo_path, realm=None)
    routes.add("/state", echo_path, realm=None)
    routes.add("/api/v1", echo_path, realm=None)
    routes.add("/system/stats.json", echo_path, realm=None)
    routes.add("/quota", echo_path, realm=None, tree=True)
    return routes


@pytest.mark.parametrize(
    "path", ["/state", "/state/", "/state.json", "/slave(1)/state", "/slave%281%29/state/", "/slave(1)/state.json", "/system/stats.json"]
)
def test_a_path_answers_in_all_its_forms(routes: Routes, path: str) -> None:
    assert ask(routes, "GET", path)[0] == 200


@pytest.mark.parametrize(("path", "known"), [("/", True), ("/slave(1)", True), ("/slave(1)/", True), ("/slave(2)/", False)])
def test_the_prefix_alone_is_the_root(routes: Routes, path: str, known: bool) -> None:
    assert (ask(routes, "GET", path)[0] == 200) is known


@pytest.mark.parametrize("path", ["/stat", "/state/x", "/api", "/api/v1/x", "/slave(1)x/state", "//state", "/quotas"])
def test_an_unknown_path_is_404(routes: Routes, path: str) -> None:
    assert ask(routes, "GET", path)[0] == 404


@pytest.mark.parametrize(
    ("path", "rest"), [("/quota", ""), ("/quota/", ""), ("/quota/web", "web"), ("/slave(1)/quota/eng/dev/", "eng/dev")]
)
def test_a_tree_gets_the_rest_of_the_path(routes: Routes, path: str, rest: str) -> None:
    found = routes.find(path)
    assert found is not None
    assert found[1] == rest


# ---- Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CallError("why"), 400),
        (NotFound("why"), 404),
        (Forbidden("why"), 403),
        (Conflict("why"), 409),
        (NotSupported("why"), 501),
        (Unavailable("why"), 503),
        (StoreError("why"), 500),
    ],
)
def test_an_error_is_told_as_its_status_and_text(error: KernelError, status: int) -> None:
    async def fail(request: Request) -> web.StreamResponse:
        raise error

    got, headers, body = ask(table(fail), "GET", "/x")
    assert (got, body) == (status, b"why")
    assert headers["Content-Type"].startswith("text/plain")


def test_a_bug_is_told_without_details() -> None:
    async def fail(request: Request) -> web.StreamResponse:
        raise RuntimeError("secret")

    assert ask(table(fail), "GET", "/x")[::2] == (500, b"internal error")


def test_a_redirect_keeps_path_and_query() -> None:
    def elsewhere() -> None:
        raise Redirect("other:5050")

    status, headers, _ = ask(table(echo_path, gate=elsewhere), "GET", "/master/x?a=b%20c&d")
    assert (status, headers["Location"]) == (307, "//other:5050/master/x?a=b%20c&d")


def test_a_wrong_method_is_405_and_names_the_right_one() -> None:
    status, headers, body = ask(table(echo_path, methods=("POST",)), "PUT", "/x")
    assert (status, headers["Allow"], body) == (405, "POST", b"Expecting one of { 'POST' }, but received 'PUT'.")


def test_checks_come_in_the_order_of_the_protocol() -> None:
    """Authentication, then leadership, then the method (spec: mesos-v1, section 1.2)."""

    def nobody_leads() -> None:
        raise Unavailable("No leader elected")

    routes = Routes()
    routes.add("/x", echo_path, realm="r", methods=("POST",), gate=nobody_leads)
    authenticator = Authenticator([Credential("ops", "s3")], ["r"])
    status, headers, _ = ask(routes, "GET", "/x", authenticator=authenticator)
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="r"')
    assert ask(routes, "GET", "/x", authenticator=authenticator, headers={"Authorization": Credential("ops", "s3").header()})[0] == 503


def test_the_principal_is_handed_on() -> None:
    async def who(request: Request) -> web.StreamResponse:
        return response.text(200, repr(request.principal))

    routes = Routes()
    routes.add("/open", who, realm=None)
    routes.add("/x", who, realm="r")
    authenticator = Authenticator([Credential("ops", "s3")], ["r"])
    header = {"Authorization": Credential("ops", "s3").header()}
    assert ask(routes, "GET", "/x", authenticator=authenticator, headers=header)[2] == b"'ops'"
    assert ask(routes, "GET", "/open", authenticator=authenticator, headers=header)[2] == b"None"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("GET", {"Origin": "http://evil.example"}, 200),
        ("GET", {"Origin": "http://evil.example", "Upgrade": "websocket", "Connection": "Upgrade"}, 403),
        ("POST", {"Origin": "http://meseta:1", "Host": "meseta:1"}, 200),
    ],
)
def test_pages_of_other_sites_change_nothing(method: str, headers: dict[str, str], status: int) -> None:
    assert ask(table(echo_path, methods=("GET", "POST")), method, "/x", headers=headers)[0] == status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:5050", 200),
        ("10.0.0.5", 200),
        ("[::1]:5050", 200),
        ("localhost:5050", 200),
        ("LocalHost.", 200),
        ("a.localhost", 200),
        ("meseta:5050", 200),
        ("Meseta", 200),
        ("", 200),
        ("evil.example:5050", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("evillocalhost", 403),
        ("evil.example:port", 403),
        ("user@evil.example", 403),
        ("[evil", 403),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_name_that_is_not_ours_reaches_nothing(method: str, host: str, status: int) -> None:
    """DNS rebinding: the page's name resolves to our address, so to the browser page and daemon are one site."""
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert ask(table(echo_path, methods=("GET", "POST")), method, "/x", headers=headers, names=["meseta"])[0] == status


def test_only_on_loopback_do_names_matter() -> None:
    assert own_names("0.0.0.0", "meseta") is None
    assert own_names("10.0.0.1") is None
    for ip in ("127.0.0.1", "127.9.9.9", "::1"):
        assert own_names(ip, "Meseta", None, "") == {"meseta", socket.gethostname().lower()}


# ---- Bodies and media types -----------------------------------------------------------------------------


async def sized(request: Request) -> web.StreamResponse:
    return response.text(200, str(len(await read_body(request, limit_bytes=100_000))))


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100_000, 200), (100_001, 413), (3_000_000, 413)])
def test_a_body_may_be_as_large_as_the_limit(size: int, status: int) -> None:
    got, _, body = ask(table(sized, methods=("POST",)), "POST", "/x", data=bytes(size))
    assert got == status
    if status == 200:
        assert body == b"%d" % size


def test_a_body_without_length_is_measured_as_it_comes() -> None:
    async def run() -> int:
        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield bytes(10_000)

        async with (
            serving(table(sized, methods=("POST",))) as url,
            aiohttp.ClientSession() as session,
            session.post(url + "/x", data=endless()) as answer,
        ):
            return answer.status

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == 413


def test_a_small_body_that_unpacks_to_a_large_one_is_refused() -> None:
    packed = gzip.compress(bytes(10_000_000))
    assert len(packed) < 100_000
    assert ask(table(sized, methods=("POST",)), "POST", "/x", data=packed, headers={"Content-Encoding": "gzip"})[0] == 413


PLAIN = bytes(50_000)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (gzip.compress(PLAIN), "gzip", 200),
        (gzip.compress(PLAIN), "GZIP", 200),
        (zlib.compress(PLAIN), "deflate", 200),
        (PLAIN, "identity", 200),
        (gzip.compress(PLAIN)[:-9], "gzip", 400),
        (gzip.compress(PLAIN) + b"x", "gzip", 400),
        (b"", "gzip", 400),
        (PLAIN, "gzip", 400),
        (gzip.compress(bytes(100_001)), "gzip", 413),
        (gzip.compress(gzip.compress(PLAIN)), "gzip, gzip", 415),
        (PLAIN, "br", 415),
        (PLAIN, "nonsense", 415),
    ],
    ids=itertools.count(),  # Packed bytes hold the time: as names they differ between two processes of one run.
)
def test_a_packed_body_is_unpacked_within_the_limit(body: bytes, encoding: str, status: int) -> None:
    got, _, answer = ask(table(sized, methods=("POST",)), "POST", "/x", data=body, headers={"Content-Encoding": encoding})
    assert got == status
    assert status != 200 or answer == b"50000"


def test_what_is_not_http_is_told_to_whoever_sent_it_and_to_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> list[bytes]:
        answers = []
        async with serving(table(sized, methods=("POST",))) as url:
            for sent in (b"\x16\x03\x01", b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"GET / HTTP/1.1\r\nx\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
                writer.write(sent)
                answers.append((await reader.read())[9:12])
                writer.close()
        return answers

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == [b"400"] * 3
    assert caplog.text == ""


@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "in the middle of it"])
def test_a_client_that_leaves_while_it_is_answered_is_nothing_to_log(begun: bool, caplog: pytest.LogCaptureFixture) -> None:
    left: list[BaseException] = []

    async def answer(request: Request) -> web.StreamResponse:
        assert request.transport is not None
        stream = web.StreamResponse()
        if begun:
            await stream.prepare(request)
            await stream.write(b"so far")
        request.transport.abort()
        try:
            await stream.prepare(request)
            await stream.write(b"and further")
        except ConnectionError as error:
            left.append(error)
            raise
        return stream

    async def run() -> bytes:
        async with serving(table(answer)) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            try:
                return await reader.read()
            except ConnectionResetError:
                return b""
            finally:
                writer.close()

    uvloop.run(asyncio.wait_for(run(), LIMIT_S))
    assert left
    assert caplog.text == ""


def test_a_connection_of_our_own_that_breaks_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> web.StreamResponse:
        raise ConnectionResetError("of the engine")

    assert ask(table(fail), "GET", "/x")[::2] == (500, b"internal error")
    assert "of the engine" in caplog.text


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it() -> None:
    async def run() -> list[bytes]:
        async with serving(table(sized, methods=("POST",))) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            first = await reader.readline()
            await reader.readline()
            writer.write(b"12345")
            second = await reader.readline()
            writer.close()
            return [first, second]

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == [b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 200 OK\r\n"]


def test_a_body_that_does_not_come_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_request, "BODY_READ_S", 0.05)

    async def run() -> bytes:
        async with serving(table(sized, methods=("POST",))) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12")
            answer = await reader.read()
            writer.close()
            return answer

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)).startswith(b"HTTP/1.1 408 ")


def test_bodies_that_come_in_at_a_time_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten callers each send what one may, and stop short of the end: the one too many is told to try again, later all is free."""
    monkeypatch.setattr(net_request, "BODIES_BYTES_MAX", 450_000)
    head = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"

    async def run() -> tuple[bytes, int, int]:
        async with serving(table(sized, methods=("POST",))) as url:
            port = int(url.rpartition(":")[2])
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for number, (_, writer) in enumerate(opened, 1):
                writer.write(head + bytes(99_999))
                await writer.drain()
                while number < 5 and net_request._Coming.bytes < number * 99_999:  # noqa: ASYNC110 - nothing tells.
                    await asyncio.sleep(0.01)
            refused = (await opened[4][0].readline())[9:12]
            held = net_request._Coming.bytes
            for _, writer in opened:
                writer.close()
            while net_request._Coming.bytes:  # noqa: ASYNC110 - nothing tells.
                await asyncio.sleep(0.01)
            async with aiohttp.ClientSession() as session, session.post(url + "/x", data=bytes(100_000)) as answer:
                return refused, held, answer.status

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == (b"503", 4 * 99_999, 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/jsonx"}, 415),
    ],
)
def test_the_media_type_of_a_body_is_checked(headers: dict[str, str], status: int) -> None:
    async def typed(request: Request) -> web.StreamResponse:
        return response.text(200, content_type(request))

    assert ask(table(typed, methods=("POST",)), "POST", "/x", data=b"{}", headers=headers)[0] == status


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, b"a/one"),
        ("*/*", b"a/one"),
        ("a/*", b"a/one"),
        ("b/two", b"b/two"),
        ("a/one;q=0, */*", b"b/two"),
        ("b/two, a/one;q=0.1", b"a/one"),
        ("A/One", b"a/one"),
        ("a/one;q=0", None),
        ("c/three", None),
        ("", None),
        ("a/one;q=x", None),
    ],
)
def test_the_answer_is_of_the_first_type_that_is_accepted(accept: str | None, answer: bytes | None) -> None:
    async def typed(request: Request) -> web.StreamResponse:
        return response.text(200, acceptable(request, ("a/one", "b/two")))

    status, _, body = ask(table(typed), "GET", "/x", headers={} if accept is None else {"Accept": accept})
    assert (body if status == 200 else None) == answer
    assert status in (200, 406)


# ---- Answers --------------------------------------------------------------------------------------------

GZIP = {"Accept-Encoding": "deflate, gzip"}


@pytest.mark.parametrize(
    ("size", "headers", "packed"),
    [(1023, GZIP, False), (1024, GZIP, True), (1024, {}, False), (1024, {"Accept-Encoding": "gzip;q=0"}, False)],
)
def test_large_answers_are_compressed_when_accepted(size: int, headers: dict[str, str], packed: bool) -> None:
    async def sized_answer(request: Request) -> web.StreamResponse:
        return await response.json(request, b"x" * size)

    _, got, body = ask(table(sized_answer), "GET", "/x", headers=headers)
    assert (got.get("Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(body) if packed else body) == b"x" * size


@pytest.mark.parametrize("headers", [{}, GZIP])
def test_a_very_large_answer_comes_in_pieces(headers: dict[str, str]) -> None:
    fragments = [b"%06d," % number for number in range(200_000)]

    async def many(request: Request) -> web.StreamResponse:
        return await response.json(request, iter(fragments))

    _, got, body = ask(table(many), "GET", "/x?jsonp=f", headers=headers)
    assert got["Transfer-Encoding"] == "chunked"
    assert (gzip.decompress(body) if headers else body) == b"f(" + b"".join(fragments) + b");"


def test_jsonp_wraps_the_answer() -> None:
    async def answer(request: Request) -> web.StreamResponse:
        return await response.json(request, b"{}")

    _, headers, body = ask(table(answer), "GET", "/x?jsonp=a.b[0]")
    assert (headers["Content-Type"], body) == ("text/javascript", b"a.b[0]({});")
    assert ask(table(answer), "GET", "/x")[1]["Content-Type"] == "application/json"
    assert ask(table(answer), "GET", "/x?jsonp=alert(1)//")[0] == 400


@pytest.mark.parametrize(
    "callback", ["", "a b", "alert(1)", "f;g", "</script>", "f\n", "f//", "a'b", 'a"b', "é", "x" * 129, "a,b", "a=b", "a/*", "%00"]
)
def test_a_callback_is_a_name_and_nothing_else(callback: str) -> None:
    async def answer(request: Request) -> web.StreamResponse:
        return await response.json(request, b"{}")

    status, headers, body = ask(table(answer), "GET", f"/x?{urlencode({'jsonp': callback})}")
    assert (status, body) == (400, b"jsonp: not the name of a function")
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)])
def test_pages_of_other_sites_read_nothing_by_a_script(site: str, status: int) -> None:
    async def answer(request: Request) -> web.StreamResponse:
        return await response.json(request, b'{"secret": 1}')

    got, _, body = ask(table(answer), "GET", "/x?jsonp=f", headers={"Sec-Fetch-Site": site})
    assert got == status
    assert (b"secret" in body) is (status == 200)


# ---- Connections ----------------------------------------------------------------------------------------


def test_connections_beyond_the_limit_are_refused_and_served_again_later() -> None:
    async def run() -> tuple[bytes, bytes]:
        async with serving(table(echo_path), connections_max=1) as url:
            port = int(url.rpartition(":")[2])
            _, first = await asyncio.open_connection("127.0.0.1", port)
            reader, second = await asyncio.open_connection("127.0.0.1", port)
            try:
                refused = await reader.read()
            except ConnectionResetError:
                refused = b""
            second.close()
            first.close()
            while True:
                reader, third = await asyncio.open_connection("127.0.0.1", port)
                third.write(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
                try:
                    served = await reader.readline()
                except ConnectionResetError:
                    served = b""
                third.close()
                if served:
                    return refused, served

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == (b"", b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("files", "connections"), [(1024, 768), (300, 150), (1_000_000, 50_000), (resource.RLIM_INFINITY, 50_000)])
def test_connections_leave_files_for_everything_else(monkeypatch: pytest.MonkeyPatch, files: int, connections: int) -> None:
    monkeypatch.setattr(net_server.resource, "getrlimit", lambda _: (files, files))

    async def run() -> int:
        server = HttpServer(Routes())
        await server.start("127.0.0.1", 0)
        assert server._server is not None
        allowed = server._server._connections_max
        await server.stop()
        return allowed

    assert uvloop.run(run()) == connections


@pytest.mark.parametrize("sent", [b"", b"GET /x HTTP/1.1\r\nHost: h\r\nX-Slow: "])
def test_a_client_that_does_not_finish_its_headers_is_closed(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(net_server, "IDLE_S", 0.05)

    async def run() -> bytes:
        async with serving(table(echo_path)) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(sent)
            answer = await reader.read()
            writer.close()
            return answer

    assert uvloop.run(asyncio.wait_for(run(), LIMIT_S)) == b""


def test_a_port_that_is_taken_is_told() -> None:
    async def run() -> None:
        async with serving(table(echo_path)) as url:
            with pytest.raises(Unavailable, match=r"cannot listen on 127\.0\.0\.1 port \d+: Address already in use"):
                await HttpServer(Routes()).start("127.0.0.1", int(url.rpartition(":")[2]))

    uvloop.run(run())


def test_headers_that_are_too_large_are_refused() -> None:
    assert ask(table(echo_path), "GET", "/x", headers={"X": "y" * 100_000})[0] == 400
