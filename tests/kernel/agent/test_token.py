"""Tokens of executors: made so that others can read them, believed only when this agent made them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.agent.token import BadToken, Claims, sign, verify

CLAIMS = Claims(cid="c", eid="e", fid="f")
KEY = b"key"


def packed(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: object, claims: object, key: bytes = KEY) -> str:
    """As any other implementation would make it."""
    text = f"{packed(header)}.{packed(claims)}"
    return f"{text}.{packed(hmac.new(key, text.encode(), hashlib.sha256).digest())}"


def test_it_is_a_json_web_token() -> None:
    header, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in sign(CLAIMS, KEY).split("."))
    assert json.loads(header) == {"alg": "HS256", "typ": "JWT"}
    assert json.loads(claims) == {"cid": "c", "eid": "e", "fid": "f"}


@given(st.builds(Claims, st.text(), st.text(), st.text()), st.binary(min_size=1))
def test_what_was_signed_is_believed(claims: Claims, key: bytes) -> None:
    assert verify(sign(claims, key), key) == claims


def test_others_that_have_the_key_may_make_them() -> None:
    assert verify(token({"typ": "JWT", "alg": "HS256"}, {"fid": "f", "eid": "e", "cid": "c", "iat": 1}), KEY) == CLAIMS


ALL = {"fid": "f", "eid": "e", "cid": "c"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "\ud800",
        "é.é.é",
        sign(CLAIMS, KEY) + "x",
        sign(CLAIMS, KEY)[:-1],
        sign(CLAIMS, KEY) + ".",
        sign(CLAIMS, b"other"),
        sign(CLAIMS, b""),
        token({"alg": "none"}, ALL),
        token({"alg": "HS512"}, ALL),
        token({}, ALL),
        token([], ALL),
        token({"alg": "HS256"}, {"fid": "f", "eid": "e"}),
        token({"alg": "HS256"}, {**ALL, "cid": 1}),
        token({"alg": "HS256"}, []),
        f"{packed({'alg': 'none'})}.{packed(ALL)}.",
        ".".join([sign(CLAIMS, KEY).split(".")[0], packed({**ALL, "cid": "other"}), sign(CLAIMS, KEY).split(".")[2]]),
    ],
)
def test_nothing_else_is(text: str) -> None:
    with pytest.raises(BadToken):
        verify(text, KEY)


@given(st.text() | st.lists(st.text(), min_size=3, max_size=3).map(".".join) | st.binary().map(lambda data: packed(data) + "..x"))
def test_garbage_is_no_token(text: str) -> None:
    with pytest.raises(BadToken):
        verify(text, KEY)
