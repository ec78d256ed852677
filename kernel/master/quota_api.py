"""The older endpoints of quotas and weights: `/quota`, `/weights` (spec: mesos-v1, section 5.2)."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from kernel.errors import CallError
from kernel.mainloop import MainLoop
from kernel.master.effects import View
from kernel.net import response
from kernel.net.errors import HttpError
from kernel.net.request import Request, read_body
from kernel.wire import codec, operator


class QuotaApi:
    """The handlers. loop: gives the main loop of the master that leads."""

    def __init__(self, loop: Callable[[], MainLoop]) -> None:
        self._loop = loop

    async def weights(self, request: Request) -> web.StreamResponse:
        """GET: those that were set; PUT: set some."""
        if request.method in ("GET", "HEAD"):
            return await response.json(request, await self._loop().submit(View("weights")))
        infos = codec.decode(await read_body(request), tuple[operator.WeightInfo, ...])
        await self._loop().submit(operator.UpdateWeights(infos))
        return response.text(200)

    async def quota(self, request: Request) -> web.StreamResponse:
        """GET: all; POST: the quota of a role that has none; DELETE /quota/ROLE."""
        role = request.rest.strip("/")
        if request.method == "DELETE":
            if not role:
                raise CallError("role: must be set, as in DELETE /quota/ROLE")
            await self._loop().submit(operator.RemoveQuota(role))
            return response.text(200)
        if role:
            raise HttpError(404, f"{request.path} is no endpoint; only DELETE names a role")
        if request.method in ("GET", "HEAD"):
            return await response.json(request, await self._loop().submit(View("quota")))
        wanted = codec.decode(await read_body(request), operator.QuotaRequest)
        await self._loop().submit(operator.SetQuota(wanted))
        return response.text(200)
