"""Basic authentication: who is let in, and that secrets stay secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.errors import ConfigError
from kernel.net.auth import Authenticator, Credential, load_credential, load_credentials
from kernel.net.errors import HttpError

OPS = Credential("ops", "s3:ü")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!",
        "Bearer abc",
        Credential("ops", "wrong").header(),
        Credential("ops", "").header(),
        Credential("nobody", "s3:ü").header(),
        Credential("nobody", "\0").header(),
        Credential("", "").header(),
        "Basic /////w==",
    ],
)
def test_whoever_cannot_prove_a_principal_is_refused(authorization: str | None) -> None:
    with pytest.raises(HttpError) as refused:
        Authenticator([OPS], ["r"]).principal("r", authorization)
    assert refused.value.status == 401
    assert refused.value.headers == {"WWW-Authenticate": 'Basic realm="r"'}


@pytest.mark.parametrize("authorization", [OPS.header(), OPS.header().replace("Basic", "basic")])
def test_a_proven_principal_is_let_in(authorization: str) -> None:
    assert Authenticator([OPS], ["r"]).principal("r", authorization) == "ops"


def test_outside_of_the_realms_all_are_anonymous() -> None:
    authenticator = Authenticator([OPS], ["r"])
    assert authenticator.principal("other", OPS.header()) is None
    assert authenticator.principal(None, None) is None


def test_a_credential_does_not_show_its_secret() -> None:
    assert "s3" not in f"{OPS} {OPS!r} {[OPS]}"


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_credentials_are_read_from_a_file(tmp_path: Path, form: str) -> None:
    path = tmp_path / "credentials"
    path.write_text('{"credentials": [{"principal": "ops", "secret": "s3"}]}')
    assert load_credentials(form.format(path)) == (Credential("ops", "s3"),)
    path.write_text('{"principal": "ops", "secret": "s3"}')
    assert load_credential(form.format(path)) == Credential("ops", "s3")


@pytest.mark.parametrize(
    ("principal", "secret", "problem"),
    [
        ("", "s3", "a principal must not be empty"),
        ("", "", "a principal must not be empty"),
        ("a:b", "s3", "nor have a colon"),
        ("ops", "", "the secret of 'ops' is empty"),
    ],
)
def test_what_nobody_or_everybody_could_show_is_no_credential(tmp_path: Path, principal: str, secret: str, problem: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(json.dumps({"credentials": [{"principal": principal, "secret": secret}]}))
    with pytest.raises(ConfigError, match=problem):
        load_credentials(str(path))
    path.write_text(json.dumps({"principal": principal, "secret": secret}))
    with pytest.raises(ConfigError, match=problem):
        load_credential(str(path))


def test_nothing_at_all_proves_nobody() -> None:
    """Also to whoever makes an authenticator without a file."""
    for authorization in (None, "", Credential("", "").header()):
        with pytest.raises(HttpError):
            Authenticator([Credential("", "")], ["r"]).principal("r", authorization)


def test_a_principal_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text('{"credentials": [{"principal": "ops", "secret": "s3cret"}, {"principal": "ops", "secret": "other"}]}')
    with pytest.raises(ConfigError, match="names the principal 'ops' twice") as told:
        load_credentials(str(path))
    assert "s3cret" not in str(told.value)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True), (0o602, True)])
def test_a_file_that_everybody_can_read_is_warned_about(tmp_path: Path, mode: int, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "credential"
    path.write_text('{"principal": "ops", "secret": "s3cret"}')
    path.chmod(mode)
    load_credential(str(path))
    assert (f"every user of this machine may read or write {path}" in caplog.text) is warned
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("content", ["", "ops s3cret", '{"credentials": [{"principal": "ops", "secret": ["s3cret"]}]}', None])
def test_a_wrong_file_is_told_without_its_content(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "credentials"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="credentials: ") as told:
        load_credentials(str(path))
    assert "s3cret" not in str(told.value)
