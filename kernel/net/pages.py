"""What a daemon tells a person with a browser: which endpoints there are. Static text; the dashboard is another daemon."""

from __future__ import annotations

from html import escape

import msgspec
from aiohttp import web

from kernel import __version__
from kernel.net import response
from kernel.net.request import Request
from kernel.net.server import Route, Routes

_STYLE = "body{font:15px/1.5 sans-serif;margin:2em;max-width:60em}td{padding:.1em 1.5em .1em 0;vertical-align:top}code{white-space:nowrap}"


class Pages:
    """The pages of one daemon, made from its table of routes."""

    def __init__(self, routes: Routes, title: str, process: str) -> None:
        """title: `Meseta master`. process: as old tools name it, `master`."""
        self._routes, self._title, self._process = routes, title, process

    async def index(self, request: Request) -> web.StreamResponse:
        """Answer `/`: links to all that can be read without more."""
        shown = {path: route for path, route in self._routes.listed() if "GET" in route.methods and route.plain}
        return self._page(shown, '<p>All endpoints: <a href="help">/help</a>.</p>')

    async def help(self, request: Request) -> web.StreamResponse:
        """Answer `/help`: every endpoint; as JSON with `?format=json`."""
        shown = dict(self._routes.listed())
        if request.query.get("format") == "json":
            endpoints = [{"name": path, "text": _text(route)} for path, route in shown.items()]
            body = {"processes": [{"id": self._process, "endpoints": endpoints}]}
            return await response.json(request, msgspec.json.encode(body))
        return self._page(shown, "<p>Each also answers with a trailing slash and below the name of the process.</p>")

    def _page(self, shown: dict[str, Route], rest: str) -> web.Response:
        title = escape(f"{self._title} {__version__}")
        rows = "".join(_row(path, route) for path, route in shown.items())
        text = (
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>\n'
            f"<body><h1>{title}</h1>\n<table>\n{rows}</table>\n{rest}</body></html>\n"
        )
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return web.Response(text=text, content_type="text/html", headers=headers)


def _row(path: str, route: Route) -> str:
    name = f"<code>{escape(path)}</code>"
    if route.plain and "GET" in route.methods:
        name = f'<a href="{escape(path.removeprefix("/"))}">{name}</a>'
    return f"<tr><td>{name}</td><td>{escape(_text(route))}</td></tr>\n"


def _text(route: Route) -> str:
    methods = [method for method in route.methods if method != "HEAD"]
    return f"{', '.join(methods)}: {route.about}" if methods != ["GET"] else route.about
