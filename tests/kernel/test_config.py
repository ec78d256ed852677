"""The loader of configs: three sources in order, the spellings of Mesos, and what is said of a mistake."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import pytest
from msgspec import Meta, Struct

from kernel import config
from kernel.config import Setting, SettingError


class Config(Struct, frozen=True, kw_only=True):
    work_dir: Annotated[str, Setting("Where state is kept.", kind="path")]
    port: Annotated[int, Setting("Port."), Meta(ge=0, le=65535)] = 5051
    gc_delay_s: Annotated[float, Setting("Age.", kind="duration", flag="gc_delay"), Meta(ge=0)] = 60.0
    cache_bytes: Annotated[int, Setting("Size.", kind="size", flag="fetcher_cache_size")] = 2 << 30
    strict: Annotated[bool, Setting("Whether.")] = True
    roles: Annotated[tuple[str, ...] | None, Setting("Which.", kind="list")] = None
    domain: Annotated[dict[str, Any] | None, Setting("Where.", kind="json")] = None
    hostname: Annotated[str | None, Setting("Name.")] = None
    internal: int = 7  # Not settable.


def load(
    flags: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    file: Path | None = None,
    without_effect: tuple[str, ...] = (),
) -> Config:
    given = {"work_dir": "/w", **(flags or {})}
    return config.load(
        Config, flags=given, environ=environ or {}, file=str(file) if file is not None else None, without_effect=without_effect
    )


def test_later_sources_win(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('port = 1\nhostname = "from-file"\n"gc-delay" = "2mins"\nroles = ["a", "b"]\n')
    made = load({"port": "3"}, {"MESOS_PORT": "2", "MESOS_HOSTNAME": "from-mesos", "MESETA_HOSTNAME": "from-meseta"}, file)
    assert (made.port, made.hostname, made.gc_delay_s, made.roles) == (3, "from-meseta", 120.0, ("a", "b"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("15secs", 15.0), ("1.5mins", 90.0), ("100ms", 0.1), ("2hrs", 7200.0), ("1weeks", 604800.0), ("0ns", 0.0), ("5", 5.0), ("5m", 300.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert load({"gc_delay": text}).gc_delay_s == pytest.approx(seconds)


@pytest.mark.parametrize(("text", "count"), [("2GB", 2 << 30), ("512MB", 512 << 20), ("1kb", 1024), ("7B", 7), ("7", 7), ("1TB", 1 << 40)])
def test_sizes(text: str, count: int) -> None:
    assert load({"fetcher_cache_size": text}).cache_bytes == count


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("false", False), ("0", False), (True, True), (False, False)])
def test_booleans(text: str | bool, value: bool) -> None:
    assert load({"strict": text}).strict is value


def test_values_come_from_files(tmp_path: Path) -> None:
    name, domain = tmp_path / "name", tmp_path / "domain.json"
    name.write_text("node-7\n")
    domain.write_text('{"fault_domain": {}}')
    made = load({"hostname": f"file://{name}", "domain": f"file://{domain}", "work_dir": "file:///var/lib/x"})
    assert (made.hostname, made.domain, made.work_dir) == ("node-7", {"fault_domain": {}}, "/var/lib/x")
    assert load({"domain": str(domain)}).domain == load({"domain": '{"fault_domain": {}}'}).domain


@pytest.mark.parametrize(
    ("flag", "text", "message"),
    [
        ("port", "many", "--port: 'many' is not a whole number"),
        ("port", "70000", "--port: Expected `int` <= 65535"),
        ("gc_delay", "15 parsecs", "--gc-delay: '15 parsecs' is not a duration like 15secs, 1.5mins or 2hrs"),
        ("gc_delay", "-1secs", "--gc-delay: Expected `float` >= 0.0"),
        ("gc_delay", "1.2.3", "--gc-delay: '1.2.3' is not a duration like 15secs, 1.5mins or 2hrs"),
        ("fetcher_cache_size", "2XB", "--fetcher-cache-size: '2XB' is not a size like 512MB or 2GB"),
        ("strict", "perhaps", "--strict: 'perhaps' is not true or false"),
        ("domain", "{", "--domain: not JSON"),
        ("hostname", "file:///no/such", "--hostname: cannot read /no/such"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(flag: str, text: str, message: str) -> None:
    with pytest.raises(SettingError) as raised:
        load({flag: text})
    assert str(raised.value).startswith(message)
    assert raised.value.field == config.shown(flag)


def test_the_source_of_a_mistake_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"^MESOS_PORT: "):
        load(environ={"MESOS_PORT": "x"})
    file = tmp_path / "agent.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(SettingError, match=r"agent\.toml: prot: no such setting; did you mean --port\?"):
        load(file=file)
    file.write_text("port = = 1\n")
    with pytest.raises(SettingError, match=r"^--config: .* is not TOML"):
        load(file=file)


def test_a_required_setting_must_come_from_somewhere() -> None:
    with pytest.raises(SettingError, match="--work-dir: required; give --work-dir or set MESETA_WORK_DIR"):
        config.load(Config, flags={}, environ={})
    assert config.load(Config, flags={}, environ={"MESOS_WORK_DIR": "/x"}).work_dir == "/x"


def test_a_flag_without_effect_warns(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        load({"hadoop_home": "/x"}, {"MESOS_QOS_CONTROLLER": "y"}, without_effect=("hadoop_home", "qos_controller"))
    assert {record.getMessage() for record in caplog.records} == {
        "--hadoop-home has no effect in Meseta",
        "MESOS_QOS_CONTROLLER has no effect in Meseta",
    }


def test_other_variables_of_the_environment_are_nobodys_business() -> None:
    assert load(environ={"MESOS_SANDBOX": "/mnt", "MESETA_MASTER": "http://x"}) == load()


def test_what_has_no_setting_cannot_be_set() -> None:
    with pytest.raises(SettingError, match="--internal: no such setting"):
        load({"internal": "8"})
