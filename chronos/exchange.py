"""Schedulers that stand in for each other take over each other's history, so whoever leads knows what ran before."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import msgspec

from chronos.feed import Feed
from chronos.history import History
from kernel.election.election import Leader
from kernel.errors import PeerError
from kernel.net.session import Session, fetch, open_session

log = logging.getLogger(__name__)

PATH = "/v1/meseta/feed"
LOOK_S = 2.0  # Between two looks at what the others have.
ANSWER_S = 10.0

_decoder = msgspec.json.Decoder(Feed)


class Exchange:
    """Follows the histories of all others that can be reached.

    candidates: finds them and this one, raises PeerError; me: the address of this one; authorization: a header's value, "" for none.
    """

    def __init__(self, history: History, candidates: Callable[[], Awaitable[Sequence[Leader]]], me: str, authorization: str) -> None:
        self._history, self._candidates, self._me = history, candidates, me
        self._headers = {"Authorization": authorization} if authorization else {}
        self._known = {me: history.id}  # Ids of histories, by address.
        self._silent: set[str] = set()  # Addresses that do not tell.

    async def run(self) -> None:
        """Until cancelled. Raises StoreError: nothing can be kept any more."""
        asked: dict[str, asyncio.Task[None]] = {}  # Each for itself: one that hangs, or has much to tell, delays no other.
        async with open_session(self._headers) as session:
            try:
                while True:
                    for address in await self.others() - asked.keys():
                        asked[address] = asyncio.create_task(self.take(session, address))
                    await asyncio.sleep(LOOK_S)
                    for address in [address for address, task in asked.items() if task.done()]:
                        asked.pop(address).result()
            finally:
                for task in asked.values():
                    task.cancel()
                await asyncio.gather(*asked.values(), return_exceptions=True)

    async def others(self) -> set[str]:
        """The addresses of all others there are now."""
        try:
            candidates = await self._candidates()
        except PeerError as error:
            log.warning("%s", error)
            return set()
        others = {candidate.address for candidate in candidates} - {self._me}  # Who was killed and is back is there twice for a while.
        self._known = {address: history for address, history in self._known.items() if address in {self._me, *others}}
        self._silent &= others
        return others

    async def take(self, session: Session, address: str) -> None:
        """Take over once what one has."""
        try:
            await self._follow(session, address)
        except PeerError as error:
            if address not in self._silent:
                log.warning("the history of the scheduler at %s is not told here, still trying: %s", address, error)
            self._silent.add(address)
            self._known.pop(address, None)  # It may come back elsewhere.
        else:
            self._silent.discard(address)

    async def _follow(self, session: Session, address: str) -> None:
        """Raises PeerError."""
        more = True
        while more:
            known = self._known.get(address)
            number = await self._history.follows(known) if known else 0
            feed = await self._asked(session, f"http://{address}{PATH}?history={known or ''}&after={number}")
            for other, history in self._known.items():
                if history == feed.history and other != address:
                    raise PeerError(f"it has a copy of that of {other}: if both run, begin one of them anew, without its history.db")
            self._known[address] = feed.history
            more = feed.more and known in (None, feed.history)
            taken_back = feed.history == known and feed.number < number
            if feed.told or taken_back:
                await self._history.take_over(feed)

    @staticmethod
    async def _asked(session: Session, url: str) -> Feed:
        answer = await fetch(session, "GET", url, timeout_s=ANSWER_S)
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise PeerError("it does not take our credential: all schedulers need the same --credentials")
        if answer.status == HTTPStatus.NOT_FOUND:
            raise PeerError("it is of an older release, or no scheduler of jobs")
        if answer.status != HTTPStatus.OK:
            raise PeerError(f"it answered {answer.status}")
        try:
            return _decoder.decode(answer.body)
        except msgspec.MsgspecError as error:
            raise PeerError(f"what it told cannot be read: {error}") from None
