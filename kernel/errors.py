"""The roots of our exceptions, by what the catcher should do. Others live beside what raises them."""

from __future__ import annotations


class KernelError(Exception):
    """Root of our errors. The level below says what the catcher should do."""


class CallError(KernelError):
    """The call is wrong: names the field and what is allowed. No retry. HTTP 400."""


class NotFound(CallError):
    """What the call names does not exist. HTTP 404."""


class Forbidden(CallError):
    """The caller may not do this, or not now (a framework that is not subscribed). HTTP 403."""


class Conflict(CallError):
    """The call is well formed but the state does not allow it. HTTP 409."""


class NotSupported(CallError):
    """The call is known and not built. HTTP 501."""


class Unavailable(KernelError):
    """The call is fine. Retry later, perhaps at another master. HTTP 503."""


class PeerError(KernelError):
    """The other side broke the protocol. Close the link; it will reconcile."""


class StoreError(KernelError):
    """Something could not be made durable. The daemon stops: nothing unwritten may be announced."""


class ConfigError(KernelError):
    """A setting is wrong: names it, its value and what is allowed. Exit status 2."""
