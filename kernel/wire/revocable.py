"""Slack: resources of an agent that are given to somebody who does not use them, offered once more as revocable (spec: mesos-v1, 8.9)."""

from __future__ import annotations

from kernel.wire.resources import Resources


def revocable(resources: Resources) -> Resources:
    """The part that may be taken back at any time."""
    return resources.where(lambda key: key.revocable) if resources.other is not None else Resources()


def firm(resources: Resources) -> Resources:
    """The rest of it."""
    return resources.where(lambda key: not key.revocable, plain=True) if resources.other is not None else resources
