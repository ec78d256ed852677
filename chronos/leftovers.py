"""What a scheduler that led before has not sent: it sends it also while another leads, for nobody else has its outbox."""

from __future__ import annotations

import logging

from chronos.history import History
from chronos.notifier import Mail, Notifier
from kernel.clock import SystemClock
from kernel.errors import StoreError

log = logging.getLogger(__name__)


async def send_leftovers(history: History, mail: Mail, authorization: str = "") -> None:
    """Send what is in the outbox of a history until cancelled."""
    try:
        if unsent := await history.unsent():
            log.info("%d notifications are left from when this scheduler led", len(unsent))
            notifier = Notifier(mail, history.sent, SystemClock(), authorization)
            notifier.put(unsent)
            await notifier.run()
    except StoreError as error:  # It ends this scheduler once it is to lead.
        log.error("what is left to be told stays unsent: %s", error)
