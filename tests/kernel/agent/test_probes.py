"""Probes over the network against real servers on this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec.structs import replace

from kernel.agent.containerizer import netns
from kernel.agent.effects import Probe, Probed
from kernel.agent.probes import BODY_BYTES_MAX, Prober
from kernel.executor.checks import HttpTarget, TcpTarget, answered, connected, nothing
from kernel.wire.command import CheckStatusInfo, CheckType
from tests.kernel.agent.containerizer.test_netns import network

V4, V6 = "127.0.0.1", "::1"


class Pages:
    """A web server. asked: the paths asked for; slow, hung_up: a client of `/slow` is there, has left."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.slow = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        match request.path.split("/")[1:]:
            case ["status", code]:
                return web.Response(status=int(code), text="x")
            case ["to", code]:
                raise web.HTTPFound(f"/status/{code}")
            case ["round"]:
                raise web.HTTPFound("/round")
            case ["away"]:
                raise web.HTTPFound(f"http://127.0.0.1:{closed_port()}/")
            case ["endless"]:
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(bytes(BODY_BYTES_MAX))
            case ["slow"]:
                self.slow.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    self.hung_up.set()
        return web.Response(text="here")


@asynccontextmanager
async def pages(host: str = V4, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None) -> AsyncIterator[Pages]:
    served = Pages()
    runner = web.ServerRunner(web.Server(served.answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await (web.TCPSite(runner, host, 0, ssl_context=tls) if listener is None else web.SockSite(runner, listener)).start()
    served.port = runner.addresses[0][1]
    try:
        yield served
    finally:
        await runner.cleanup()


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((V4, 0))
        port: int = probe.getsockname()[1]
        return port


def play(scene: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(scene())  # type: ignore[arg-type]


async def found(target: HttpTarget | TcpTarget, **fields: Any) -> CheckStatusInfo:
    """What a probe of it finds."""
    told: asyncio.Queue[Probed] = asyncio.Queue()
    prober = Prober(told.put_nowait)
    prober.probe(Probe("p", target, **fields))
    message = await told.get()
    await prober.close()
    assert message.probe_id == "p"
    return message.found


def http(path: str, host: str = V4, tls: ssl.SSLContext | None = None) -> CheckStatusInfo:
    async def scene() -> CheckStatusInfo:
        async with pages(host, tls) as served:
            return await found(HttpTarget("https" if tls else "http", host, served.port, path))

    result: CheckStatusInfo = play(scene)
    return result


NOTHING = nothing(CheckType.HTTP)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", answered(200)),
        ("/status/204", answered(204)),
        ("/status/304", answered(304)),
        ("/status/404", answered(404)),
        ("/status/500", answered(500)),
        ("/to/200", answered(200)),
        ("/to/503", answered(503)),
        ("/round", NOTHING),
        ("/away", NOTHING),
        ("/endless", answered(200)),
    ],
)
def test_a_web_server_is_judged_by_its_last_answer(path: str, expected: CheckStatusInfo) -> None:
    assert http(path) == expected


@pytest.mark.parametrize("path", ["/a%20b?c=d%2Fe", "/a b", "/x HTTP/1.1\r\nHost: y"])
def test_a_path_is_asked_for_as_it_is_and_nothing_more(path: str) -> None:
    async def scene() -> Pages:
        async with pages() as served:
            await found(HttpTarget("http", V4, served.port, path))
            return served

    served = play(scene)
    assert len(served.asked) <= 1
    if "\n" not in path:
        assert served.asked == [path.replace(" ", "%20")]


@pytest.mark.parametrize("port", [None, 0, 65536, 2**32 - 1])
def test_where_nobody_listens_nothing_is_found(port: int | None) -> None:
    port = closed_port() if port is None else port
    assert play(lambda: found(HttpTarget("http", V4, port, "/"))) == NOTHING
    assert play(lambda: found(TcpTarget(V4, port))) == connected(False)


def test_a_server_that_speaks_something_else_is_none() -> None:
    async def scene() -> tuple[CheckStatusInfo, CheckStatusInfo]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail\r\n")
            writer.close()

        async with await asyncio.start_server(talk, V4, 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await found(HttpTarget("http", V4, port, "/")), await found(TcpTarget(V4, port))

    assert play(scene) == (NOTHING, connected(True))


def test_a_probe_that_is_dropped_hangs_up_and_tells_nothing() -> None:
    async def scene() -> None:
        told: list[Probed] = []
        prober = Prober(told.append)
        async with pages() as served:
            prober.probe(Probe("slow", HttpTarget("http", V4, served.port, "/slow")))
            await served.slow.wait()
            prober.drop("slow")
            await served.hung_up.wait()
            prober.drop("slow")  # Again, and one that never was.
            prober.drop("other")
            await prober.close()
        assert told == []

    play(scene)


def test_many_probes_are_under_way_at_once() -> None:
    """One server that never answers holds up nobody else's."""

    async def scene() -> None:
        told: asyncio.Queue[Probed] = asyncio.Queue()
        prober = Prober(told.put_nowait)
        async with pages() as served:
            for number in range(150):
                prober.probe(Probe(f"slow{number}", HttpTarget("http", V4, served.port, "/slow")))
            prober.probe(Probe("quick", HttpTarget("http", V4, served.port, "/")))
            assert (await told.get()).probe_id == "quick"
            await prober.close()

    play(scene)


# ---- From inside a network -------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may enter network namespaces")
def test_a_probe_leaves_from_inside_the_network_of_a_process(tmp_path: Path) -> None:
    """Also where a redirect leads; what is outside is not seen."""

    async def scene(pid: int, listener: socket.socket) -> list[CheckStatusInfo]:
        listener.bind((V4, 0))
        async with pages(listener=listener) as inside, pages() as outside:
            ports = inside.port, outside.port
            probes = [found(HttpTarget("http", V4, port, "/to/202"), pid=pid) for port in ports]
            probes += [found(TcpTarget(V4, port), pid=pid) for port in ports]
            return [*await asyncio.gather(*probes), await found(TcpTarget(V4, inside.port))]

    with network(tmp_path / "net") as pid:
        listener = netns.open_socket(pid, socket.AF_INET, socket.SOCK_STREAM)
        result = asyncio.run(scene(pid, listener))
    assert result == [answered(202), NOTHING, connected(True), connected(False), connected(False)]


def test_a_process_in_our_network_is_probed_from_here() -> None:
    async def scene() -> CheckStatusInfo:
        async with pages() as served:
            return await found(HttpTarget("http", V4, served.port, "/"), pid=os.getpid())

    assert play(scene) == answered(200)


def test_where_a_network_cannot_be_entered_its_address_is_probed() -> None:
    """An engine's process may be unknown here, or not be ours to look into. Without an address nothing is found: not what we have there."""
    gone = subprocess.Popen(["true"])
    gone.wait()

    async def scene() -> tuple[CheckStatusInfo, ...]:
        async with pages() as served:
            target = HttpTarget("http", "127.1.2.3", served.port, "/")
            return await found(target, pid=gone.pid, ip=V4), await found(replace(target, host=V4), pid=gone.pid)

    assert play(scene) == (answered(200), NOTHING)


def has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind((V6, 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_v6(), reason="this machine has no IPv6")
def test_ipv6() -> None:
    async def scene() -> CheckStatusInfo:
        async with pages(V6) as served:
            return await found(TcpTarget(V6, served.port))

    assert http("/status/201", V6) == answered(201)
    assert play(scene) == connected(True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="nothing here makes certificates")
def test_a_certificate_is_not_looked_at(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subprocess.run([*made, "-subj", "/CN=elsewhere", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    assert http("/to/202", tls=tls) == answered(202)
