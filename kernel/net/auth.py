"""HTTP basic authentication from a credentials file (spec: mesos-v1, section 10.1).

Secrets stay in here: they are in no message, log line or text form.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import os
import stat
from collections.abc import Collection, Mapping
from typing import TypeVar

import msgspec

from kernel.errors import ConfigError
from kernel.net.errors import HttpError

log = logging.getLogger(__name__)

SECRET_BYTES_MAX = 16 * 1024 * 1024

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
    credentials = _read(path, _CredentialsFile).credentials
    seen: set[str] = set()
    for credential in credentials:
        _check(credential, path)
        if credential.principal in seen:
            raise ConfigError(f"credentials: {path} names the principal '{credential.principal}' twice")
        seen.add(credential.principal)
    return credentials


def load_credential(path: str) -> Credential:
    """Read the one `{"principal", "secret"}` a client or agent shows. Raises ConfigError."""
    credential = _read(path, Credential)
    _check(credential, path)
    return credential


def _check(credential: Credential, path: str) -> None:
    """Refuse what nobody could show (RFC 7617 ends the name at the first colon), and what anybody could."""
    if not credential.principal or ":" in credential.principal:
        raise ConfigError(f"credentials: {path}: a principal must not be empty nor have a colon in it")
    if not credential.secret:
        raise ConfigError(f"credentials: {path}: the secret of '{credential.principal}' is empty")


def _read(path: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(read_secret(path), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigError(f"credentials: {path} is not as it must be: {error}") from error


def read_secret(path: str) -> bytes:
    """Return the content of a file (path or `file://path`) that is nobody else's business. Raises ConfigError."""
    try:
        with open(path.removeprefix("file://"), "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(SECRET_BYTES_MAX)
    except (OSError, ValueError) as error:
        raise ConfigError(f"credentials: cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        log.warning("credentials: every user of this machine may read or write %s; `chmod o-rwx` it", path)
    return content


def authenticator(
    file: str | None, file_flag: str, asked: Mapping[str, tuple[str, bool | None]], *, exposed: bool, insecure: bool
) -> Authenticator | None:
    """Make the authenticator that the settings ask for: with credentials, everyone in every realm must prove who he is.

    asked: realm -> its flag and what that was set to, None for not at all. A realm may be left open by its flag set to false
    where only this machine can call (not exposed); with insecure those are asked whose flag is true. Raises ConfigError.
    """
    if not file:
        for flag, wanted in asked.values():
            if wanted:
                raise ConfigError(f"{flag}: needs {file_flag}")
        return None
    credentials = load_credentials(file)
    if insecure:
        return Authenticator(credentials, [realm for realm, (_, wanted) in asked.items() if wanted])
    for flag, wanted in asked.values():
        if wanted is False and exposed:
            raise ConfigError(f"{flag}: cannot be false where others than this machine can call, but with --insecure")
    return Authenticator(credentials, [realm for realm, (_, wanted) in asked.items() if wanted is not False])


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
        if hmac.compare_digest(secret, known or b"\0") and known:
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
