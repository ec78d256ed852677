"""How errors look in HTTP: the statuses of `kernel.errors`, and those that only HTTP knows."""

from __future__ import annotations

from collections.abc import Mapping

from kernel.errors import CallError, Conflict, Forbidden, KernelError, NotFound, NotSupported, PeerError, Unavailable


class HttpError(KernelError):
    """The request is refused for a reason of HTTP itself (method, media type, size, authentication)."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}


class Redirect(KernelError):
    """The request belongs to another daemon, the one at `address` (host:port). HTTP 307, path and query kept."""

    def __init__(self, address: str) -> None:
        super().__init__(f"ask {address}")
        self.address = address


_STATUS: dict[type[KernelError], int] = {
    NotFound: 404,
    Forbidden: 403,
    Conflict: 409,
    NotSupported: 501,
    CallError: 400,
    Unavailable: 503,
    PeerError: 400,
}


def status_of(error: KernelError) -> int:
    """Return the HTTP status an error is answered with; 500 where the caller can do nothing about it."""
    if isinstance(error, HttpError):
        return error.status
    for kind in type(error).__mro__:
        if kind in _STATUS:
            return _STATUS[kind]
    return 500
