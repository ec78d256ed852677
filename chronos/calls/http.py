"""Calls of URLs: a status that is expected is a success, the answer's body is the output."""

from __future__ import annotations

from collections.abc import Callable, Collection

from msgspec import UNSET

from chronos import inputs
from chronos.calls import Result
from chronos.joins import Outcome
from chronos.schedule import read_duration
from kernel.errors import PeerError
from kernel.net.session import Session, fetch, open_session

OUTPUT_BYTES = 8 * 1024


class HttpCaller:
    """Calls through one session; made in the running event loop."""

    def __init__(self) -> None:
        self._http: Session = open_session({"User-Agent": "meseta-chronos"})

    async def close(self) -> None:
        await self._http.close()

    async def call(self, effect: inputs.StartCall, began: Callable[[], None]) -> Result:
        """Once: after a restart nobody knows how it went, and only the job's retries call again."""
        said = effect.job.more.http
        assert said is not UNSET, "it is a job that calls a URL"
        if effect.again:
            return Result(Outcome.FAILURE, "the scheduler was restarted while it was under way", lost=True)
        began()
        run, attempt = effect.run, effect.attempt
        headers = {"Meseta-Run": run.run_id, "Meseta-Task": attempt.task_id, "Meseta-Slot": str(run.slot_ms), **said.headers}
        body = said.body.encode() if said.body else None
        timeout_s = read_duration(said.timeout, "meseta.http.timeout") / 1000
        try:
            answer = await fetch(self._http, said.method, said.url, body=body, headers=headers, timeout_s=timeout_s)
        except PeerError as error:
            return Result(Outcome.FAILURE, str(error))
        good = expected(answer.status, said.expect)
        text = f"the answer was {answer.status}" if good else f"the answer was {answer.status}, expected {' or '.join(said.expect)}"
        return Result(Outcome.SUCCESS if good else Outcome.FAILURE, text, answer.body[-OUTPUT_BYTES:], 0 if good else 1)


def expected(status: int, expect: Collection[str]) -> bool:
    """Whether a status is one of those: `200`, `200-299`."""
    ranges = [(int(first), int(last or first)) for first, _, last in (text.partition("-") for text in expect)]
    return any(first <= status <= last for first, last in ranges)
