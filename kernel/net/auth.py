"""HTTP basic authentication from a credentials file (spec: mesos-v1, section 10.1).

Secrets stay in here: they are in no message, log line or text form.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import msgspec

from kernel.errors import ConfigError
from kernel.net.errors import HttpError

T = TypeVar("T")


class Credential(msgspec.Struct, frozen=True):
    """Who someone is (principal) and the proof of it (secret, plain text)."""

    principal: str
    secret: str

    def __repr__(self) -> str:
        return f"Credential(principal={self.principal!r})"

    __str__ = __repr__

    def header(self) -> str:
        """Return the value of the Authorization header."""
        return "Basic " + base64.b64encode(f"{self.principal}:{self.secret}".encode()).decode("ascii")


class _CredentialsFile(msgspec.Struct):
    credentials: tuple[Credential, ...]


def load_credentials(path: str) -> tuple[Credential, ...]:
    """Read `{"credentials": [{"principal", "secret"}]}` from a path or `file://path`. Raises ConfigError."""
    return _read(path, _CredentialsFile).credentials


def load_credential(path: str) -> Credential:
    """Read the one `{"principal", "secret"}` a client or agent shows. Raises ConfigError."""
    return _read(path, Credential)


def _read(path: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(Path(path.removeprefix("file://")).read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"credentials: cannot read {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"credentials: {path} is not as it must be: {error}") from error


class Authenticator:
    """Knows who may call. realms: those in which a caller must prove who he is; elsewhere all are anonymous."""

    def __init__(self, credentials: Collection[Credential], realms: Collection[str]) -> None:
        self._secrets = {credential.principal: credential.secret.encode() for credential in credentials}
        self._realms = frozenset(realms)

    def principal(self, realm: str | None, authorization: str | None) -> str | None:
        """Return the caller's principal, None where none is asked for. Raises HttpError 401."""
        if realm not in self._realms:
            return None
        name, secret = _parse_basic(authorization)
        known = self._secrets.get(name)
        # A secret is compared for unknown principals too, so that the time taken does not tell who exists.
        if hmac.compare_digest(secret, known if known is not None else b"\0") and known is not None:
            return name
        raise HttpError(401, "Authentication required", {"WWW-Authenticate": f'Basic realm="{realm}"'})


def _parse_basic(authorization: str | None) -> tuple[str, bytes]:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return "", b""
    try:
        name, _, secret = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return name.decode(), secret
    except (binascii.Error, ValueError):
        return "", b""
