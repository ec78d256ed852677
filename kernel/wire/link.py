"""The order of frames on an agent link, kept the same way by the sockets and by the simulator."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Verdict(Enum):
    """What to do with a frame that came in."""

    TAKE = "take"
    REPEAT = "repeat"  # Had it already: drop it quietly.
    BROKEN = "broken"  # One is missing: close the link, the agent registers anew.


class FrameOrder(Struct):
    """Numbers the frames sent and checks the numbers of those received on one link."""

    sent: int = 0
    received: int = 0

    def next_number(self) -> int:
        """Return the number for the next frame to send."""
        self.sent += 1
        return self.sent

    def check(self, number: int) -> Verdict:
        """Judge a received frame by its number."""
        if number <= self.received:
            return Verdict.REPEAT
        if number > self.received + 1:
            return Verdict.BROKEN
        self.received = number
        return Verdict.TAKE
