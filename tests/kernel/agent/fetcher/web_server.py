"""An HTTP server for fetchers under test: good, slow, broken and hostile answers."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter

from aiohttp import web

BIG_BYTES = 3 << 20
MOVED = {"/loop": "/loop", "/to-file": "file:///etc/passwd", "/moved": "/file"}


class WebServer:
    """files: path -> content. counts: requests by method and path. Whoever asks for `/held` waits for `release` after the first bytes."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.counts: Counter[str] = Counter()
        self.release = asyncio.Event()
        self.asked = asyncio.Event()  # Somebody waits at `/held`.
        self.url = ""

    async def __aenter__(self) -> WebServer:
        app = web.Application()
        app.router.add_get("/held", self._held, allow_head=False)
        for path in MOVED:
            app.router.add_get(path, self._moved)
        app.router.add_get("/endless", self._endless)
        app.router.add_get("/encoded.tar.gz", self._encoded)
        app.router.add_get("/closed", self._closed)
        app.router.add_get("/short", self._short, allow_head=False)
        app.router.add_get("/{path:.*}", self._file)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release.set()
        await self._runner.cleanup()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.counts[f"{request.method} {request.path}"] += 1
        content = self.files.get(request.path)
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content)

    async def _moved(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(MOVED[request.path])

    async def _closed(self, request: web.Request) -> web.StreamResponse:
        expected = base64.b64encode(b"me:secret").decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            raise web.HTTPUnauthorized
        return web.Response(body=b"for me")

    async def _encoded(self, request: web.Request) -> web.StreamResponse:
        """As servers do that take the suffix for an encoding."""
        return web.Response(body=self.files["/a.tar.gz"], headers={"Content-Encoding": "gzip"})

    async def _held(self, request: web.Request) -> web.StreamResponse:
        self.counts[f"{request.method} {request.path}"] += 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"begun ")
        self.asked.set()
        await self.release.wait()
        await response.write(b"done")
        return response

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(BIG_BYTES))

    async def _short(self, request: web.Request) -> web.StreamResponse:
        """Less than was announced."""
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"only this")
        assert request.transport is not None
        request.transport.close()
        return response
