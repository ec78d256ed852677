"""Why tasks wait, as the leading master says it (`GET /explain`)."""

from __future__ import annotations

import msgspec

from kernel.errors import PeerError
from kernel.net.auth import Credential
from kernel.net.session import fetch, open_session
from kernel.wire.explanation import Explanation

ANSWER_S = 5.0


async def why(master: str, framework_id: str, credential: Credential | None) -> str | None:
    """What keeps the framework's tasks waiting, and what would help; None when nothing is known there, or nobody answers."""
    headers = {"Authorization": credential.header()} if credential is not None else {}
    try:
        async with open_session(headers) as http:
            answer = await fetch(http, "GET", f"{master}/explain?framework_id={framework_id}", timeout_s=ANSWER_S)
        if answer.status != 200:
            return None
        explanation = msgspec.json.decode(answer.body, type=Explanation)
    except (PeerError, msgspec.MsgspecError, ValueError):
        return None
    said = dict.fromkeys(f"{demand.reason}; {demand.unblocks}" if demand.unblocks else demand.reason for demand in explanation.demands)
    return "; ".join(said) or None
