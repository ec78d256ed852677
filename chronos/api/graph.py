"""Who depends on whom, as text (spec: chronos-v1, 2.10)."""

from __future__ import annotations

from aiohttp import web

from chronos import graph, inputs
from chronos.leadership import Leadership
from chronos.states import current_state, last_state
from kernel.net.request import Request


class GraphApi:
    """The handlers."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    async def dot(self, request: Request) -> web.StreamResponse:
        return web.Response(text=await self._leadership.working().ask(inputs.Look(lambda book, life, now_ms: graph.dot(book.graph))))

    async def csv(self, request: Request) -> web.StreamResponse:
        read = inputs.Look(
            lambda book, life, now_ms: graph.csv(
                book.graph, lambda name: (last_state(book.entries[name].status), current_state(life, name))
            )
        )
        return web.Response(text=await self._leadership.working().ask(read))
