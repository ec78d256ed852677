"""What a scheduler that led before has not sent: it sends it also while another leads, for nobody else has its outbox."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from chronos.history import History
from chronos.notifier import Mail, Notifier
from kernel.clock import SystemClock
from kernel.errors import StoreError

log = logging.getLogger(__name__)


async def send_leftovers(path: Path, mail: Mail, authorization: str = "") -> None:
    """Send what is in the outbox of the history at `path`, if there is one, until cancelled; then nobody has it open."""
    try:
        history = _opened(path)
        if history is None:
            return
        try:
            if unsent := await history.unsent():
                log.info("%d notifications are left from when this scheduler led", len(unsent))
                notifier = Notifier(mail, history.sent, SystemClock(), authorization)
                notifier.put(unsent)
                await notifier.run()
        finally:
            await asyncio.shield(history.close())
    except StoreError as error:  # It ends this scheduler once it is to lead.
        log.error("what is left to be told stays unsent: %s", error)


def _opened(path: Path) -> History | None:
    return History(path) if path.exists() else None
