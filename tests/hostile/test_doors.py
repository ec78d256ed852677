"""Every path that a daemon serves, in every spelling: where credentials are asked for, none is open but those that are meant to be."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from kernel.agent import main as agent_main
from kernel.agent.config import AgentConfig
from kernel.agent.server import AgentServer
from kernel.master import main as master_main
from kernel.master.config import MasterConfig
from kernel.master.leadership import Leadership
from kernel.master.server import MasterServer
from kernel.net.auth import Credential
from kernel.net.server import Routes
from tests.kernel.master.edge import ME

OPS = Credential("ops", "s3cret")
OPEN = {"master": {"/", "/help", "/health", "/version", "/redirect"}, "agent": {"/", "/help", "/health", "/version"}}
PREFIX = {"master": "/master", "agent": "/slave(1)"}
WRONG = [
    None,
    *("", "Basic", "Basic ", "Basic !!!", "Basic Og==", "Basic b3Bz", "Basic \xff", "Basic " + "A" * 5000, "Bearer x", "Negotiate x"),
    *(OPS.header()[:-4], f"x{OPS.header()}"),
    *(Credential("ops", secret).header() for secret in ("s3cre", "s3crett", "", "S3CRET", "s3cret\0")),
    *(Credential(principal, "s3cret").header() for principal in ("OPS", "ops\0", "other", "", "ops:")),
]


@pytest.fixture
def credentials(tmp_path: Path) -> str:
    path = tmp_path / "credentials"
    path.write_text('{"credentials": [{"principal": "ops", "secret": "s3cret"}]}')
    path.chmod(0o600)
    return str(path)


def play(kind: str, credentials: str, scene: Callable[[aiohttp.ClientSession, Routes], Awaitable[None]], work_dir: Path) -> None:
    """Serve as beyond loopback, though on it."""

    async def stage() -> None:
        server: MasterServer | AgentServer
        if kind == "master":
            beyond = MasterConfig(ip="0.0.0.0", credentials=credentials)
            server = MasterServer(beyond, Leadership(ME), master_main.authenticator(beyond))
        else:
            config = AgentConfig(work_dir=str(work_dir), ip="0.0.0.0", http_credentials=credentials, authenticate_http_executors=True)
            config = agent_main.complete(replace(config, port=5051))
            server = AgentServer(config, agent_main.authenticator(config), agent_main.executor_key(config))
        port = await server.start("127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", skip_auto_headers=["Content-Type"]) as client:
                await scene(client, server._http._routes)
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(stage(), 60))


def spellings(kind: str, path: str) -> list[str]:
    prefix = PREFIX[kind]
    return [
        path,
        path + "/",
        path + ".json",
        prefix + path,
        prefix + path + "/",
        path + "?jsonp=f",
        path + "?a=b",
        path.replace("s", "%73", 1),
    ]


@pytest.mark.parametrize("kind", ["master", "agent"])
def test_no_door_is_open_but_those_that_are_meant_to_be(kind: str, credentials: str, tmp_path: Path) -> None:
    async def scene(client: aiohttp.ClientSession, routes: Routes) -> None:
        paths = set(routes._exact)
        assert OPEN[kind] < paths
        assert len(paths) > 15
        for path in sorted(paths):
            for spelt in spellings(kind, path):
                for method in ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"):
                    async with client.request(method, spelt, allow_redirects=False) as answer:
                        if path in OPEN[kind]:
                            assert answer.status != 401, (method, spelt)
                        elif path == "/api/v1/executor" and method != "POST":
                            assert answer.status == 405, (method, spelt)
                        else:
                            assert answer.status == 401, (method, spelt)
                            scheme = "Bearer" if path == "/api/v1/executor" else "Basic"
                            assert answer.headers["WWW-Authenticate"].startswith(f'{scheme} realm="mesos-{kind}-'), spelt

    play(kind, credentials, scene, tmp_path)


@pytest.mark.parametrize("kind", ["master", "agent"])
def test_nothing_but_the_secret_opens_them(kind: str, credentials: str, tmp_path: Path) -> None:
    async def scene(client: aiohttp.ClientSession, routes: Routes) -> None:
        for path in ("/state", "/api/v1", "/flags", "/files/read?path=/x"):
            for shown in WRONG:
                headers = {} if shown is None else {"Authorization": shown}
                async with client.post(path, headers=headers) as answer:
                    assert answer.status == 401, (path, shown)
            async with client.post(path, headers={"Authorization": OPS.header()}) as answer:
                assert answer.status != 401, path

    play(kind, credentials, scene, tmp_path)


@pytest.mark.parametrize("kind", ["master", "agent"])
def test_who_is_not_let_in_is_not_listened_to(kind: str, credentials: str, tmp_path: Path) -> None:
    """The first check is who it is: nothing of a body is read or judged, no state is told (whether it leads, what exists)."""

    async def scene(client: aiohttp.ClientSession, routes: Routes) -> None:
        told = set()
        for path in (
            "/api/v1",
            "/state",
            "/files/read?path=/etc/passwd",
            "/files/read?path=/nothing",
            "/logging/toggle?level=1&duration=1secs",
        ):
            for body in (b"", b"{", b'{"type":"GET_STATE"}', b"x" * 100_000):
                async with client.post(path, data=body) as answer:
                    told.add((answer.status, await answer.text()))
        assert told == {(401, "Authentication required")}

    play(kind, credentials, scene, tmp_path)
