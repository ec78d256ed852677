"""Tokens by which an executor proves which it is: JSON Web Tokens signed with the agent's key (spec: mesos-v1, section 10.1).

HS256 (RFC 7515, 7518) alone: a token that names another way to be signed, or none, is no token. Pure.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec
from msgspec import Struct


class Claims(Struct, frozen=True, omit_defaults=True):
    """Who holds a token: one run (container) of an executor of a framework."""

    cid: str
    eid: str
    fid: str


class _Header(Struct, frozen=True):
    alg: str
    typ: str = "JWT"


class BadToken(Exception):
    """A token that this key has not signed."""


_HEADER = _Header("HS256")
_decode_header = msgspec.json.Decoder(_Header).decode
_decode_claims = msgspec.json.Decoder(Claims).decode


def sign(claims: Claims, key: bytes) -> str:
    """Return the token; always the same for the same claims."""
    text = _pack(msgspec.json.encode(_HEADER)) + b"." + _pack(msgspec.json.encode(claims))
    return (text + b"." + _pack(_signature(text, key))).decode("ascii")


def verify(token: str, key: bytes) -> Claims:
    """Return what a token claims. Raises BadToken."""
    try:
        text, _, signature = token.encode("ascii").rpartition(b".")
        header, _, claims = text.partition(b".")
        if not hmac.compare_digest(_unpack(signature), _signature(text, key)):
            raise BadToken
        if _decode_header(_unpack(header)).alg != _HEADER.alg:
            raise BadToken
        return _decode_claims(_unpack(claims))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise BadToken from error


def _signature(text: bytes, key: bytes) -> bytes:
    return hmac.digest(key, text, hashlib.sha256)


def _pack(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unpack(text: bytes) -> bytes:
    return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
