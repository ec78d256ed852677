"""How long things take, as metrics (spec: mesos-v1, section 5.4). Pure: cores use it."""

from __future__ import annotations

from collections import deque

from msgspec import Struct

WINDOW_S = 3600.0
SAMPLES_MAX = 1000
_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "p9999": 0.9999}


class Timer:
    """How long something takes. total: how often it was measured."""

    __slots__ = ("_samples", "_window_s", "total")

    def __init__(self, window_s: float = WINDOW_S, samples_max: int = SAMPLES_MAX) -> None:
        """window_s: how old a sample may be, against the newest. samples_max: how many are kept."""
        self.total = 0
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque(maxlen=samples_max)  # When it ended, how long it took; both in seconds.

    def record(self, took_s: float, now_s: float) -> None:
        self.total += 1
        self._samples.append((now_s, took_s))

    def copy(self) -> Timer:
        """As it is now; what is measured from here on is not in it."""
        copied = Timer(self._window_s)
        copied.total, copied._samples = self.total, self._samples.copy()
        return copied

    def numbers(self, name: str) -> dict[str, float]:
        """Milliseconds: the last duration as `name`, and below it how the last ones are spread, when there are at least two.
        Nothing while there is none."""
        samples = self._samples
        if not samples:
            return {}
        newest_s, last_s = samples[-1]
        found = {name: last_s * 1e3}
        took_ms = sorted([took_s * 1e3 for at_s, took_s in samples if at_s >= newest_s - self._window_s])
        if len(took_ms) > 1:
            found |= {f"{name}/count": float(len(took_ms)), f"{name}/min": took_ms[0], f"{name}/max": took_ms[-1]}
            found |= {f"{name}/{label}": _percentile(took_ms, share) for label, share in _SHARES.items()}
        return found


class Tally(Struct, frozen=True, gc=False):
    """The same where there are too many of them to keep samples: how often, in all, the last and the longest; in seconds."""

    count: int = 0
    total_s: float = 0.0
    last_s: float = 0.0
    max_s: float = 0.0

    def with_one(self, took_s: float) -> Tally:
        return Tally(self.count + 1, self.total_s + took_s, took_s, max(self.max_s, took_s))

    def numbers(self, name: str) -> dict[str, float]:
        """Milliseconds: the last duration as `name`, the longest and their sum below it, with their count. Nothing while there is none."""
        if not self.count:
            return {}
        return {
            name: self.last_s * 1e3,
            f"{name}/count": float(self.count),
            f"{name}/max": self.max_s * 1e3,
            f"{name}/total": self.total_s * 1e3,
        }


def _percentile(ordered: list[float], share: float) -> float:
    """Between the two nearest values, as far as the share lies between them."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
