"""How often frameworks may call the scheduler API (`--rate_limits`; spec: mesos-v1, section 10.3).

Calls beyond the rate wait; those for which there is no place in the queue are refused. Mesos never limited the v1 API. Pure:
the edge does the waiting.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from kernel.errors import ConfigError, Unavailable

Rate = Annotated[float, Meta(gt=0)]
Capacity = Annotated[int, Meta(ge=1)]


class Limit(Struct, frozen=True, forbid_unknown_fields=True):
    """For the frameworks of one principal together. qps: calls a second; capacity: how many may wait. None: any number."""

    principal: str
    qps: Rate | None = None
    capacity: Capacity | None = None


class RateLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """limits: by principal. aggregate_default_...: for all other frameworks together."""

    limits: tuple[Limit, ...] = ()
    aggregate_default_qps: Rate | None = None
    aggregate_default_capacity: Capacity | None = None


class _Queue:
    """Calls that go on one after the other, evenly spaced. free_s: when the next may."""

    __slots__ = ("capacity", "free_s", "name", "qps")

    def __init__(self, name: str, qps: float, capacity: int | None) -> None:
        self.name, self.qps, self.capacity = name, qps, capacity
        self.free_s = 0.0

    def enter(self, calls: int, now_s: float) -> float:
        wait_s = max(0.0, self.free_s - now_s)
        if self.capacity is not None and wait_s * self.qps > self.capacity:
            raise Unavailable(f"{self.name} may make {self.qps:g} calls a second, and {self.capacity} wait already; try again later")
        self.free_s = now_s + wait_s + calls / self.qps
        return wait_s


class RateLimiter:
    """The queues in force."""

    def __init__(self, limits: RateLimits) -> None:
        """Raises ConfigError when a principal is named twice."""
        self._queues: dict[str | None, _Queue | None] = {}
        for limit in limits.limits:
            if limit.principal in self._queues:
                raise ConfigError(f"--rate-limits: the principal '{limit.principal}' is named twice")
            name = f"principal '{limit.principal}'"
            self._queues[limit.principal] = _Queue(name, limit.qps, limit.capacity) if limit.qps is not None else None
        others, capacity = limits.aggregate_default_qps, limits.aggregate_default_capacity
        self._others = _Queue("frameworks without a limit of their own together", others, capacity) if others is not None else None

    def enter(self, principal: str | None, calls: int, now_s: float) -> float:
        """Take places in the queue of a principal; return after how many seconds its calls may go on. Raises Unavailable."""
        queue = self._queues.get(principal, self._others)
        return 0.0 if queue is None else queue.enter(calls, now_s)
