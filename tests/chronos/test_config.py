"""Settings of a scheduler: Chronos' flags, what goes together, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from chronos.config import WITHOUT_EFFECT, ChronosConfig
from chronos.gates import Gate
from chronos.main import authenticator, check
from kernel import config
from kernel.errors import ConfigError


def made(**flags: Any) -> ChronosConfig:
    return config.load(ChronosConfig, flags={"work_dir": "/w", **flags}, environ={}, without_effect=WITHOUT_EFFECT)


CHRONOS_FLAGS = """
    master zk_hosts zk_path zk_timeout zk_auth hostname http_port http_address https_port disable_http http_credentials http_realm
    ssl_keystore_path ssl_keystore_password user failover_timeout mesos_framework_name mesos_role mesos_checkpoint mesos_task_cpu
    mesos_task_mem mesos_task_disk schedule_horizon task_epsilon leader_max_idle_time failure_retry disable_after_failures
    reconciliation_interval decline_offer_duration revive_offers_for_new_jobs min_revive_offers_interval job_history_limit cluster_name
    webui_url cassandra_contact_points graphite_host_port mail_server mail_from mail_user mail_password mail_ssl raven_dsn slack_url
    mattermost_url http_notification_url http_notification_credentials
    mesos_authentication_principal mesos_authentication_secret_file
"""


def test_chronos_flags_are_taken() -> None:
    """The reference's, section 11; 2.x ones too."""
    assert set(CHRONOS_FLAGS.split()) <= {*config.fields(ChronosConfig), *WITHOUT_EFFECT}


def test_what_they_mean() -> None:
    settings = made(
        zk_hosts="zk://a:1,b:2/ignored",
        zk_path="/chronos/state",
        mesos_role="web, batch",
        failure_retry="5000",
        limit="owner:me@x=2,label:team=a=3",
        master="http://a:5050,http://b:5050",
        history_age="2days",
    )
    assert settings.ensemble == "zk://a:1,b:2/chronos/state"
    assert settings.roles == ("web", "batch")
    assert settings.settings.retry_ms == 5000
    assert settings.settings.limits == {Gate("owner", "me@x"): 2, Gate("label", "team=a"): 3}
    assert settings.masters == ["http://a:5050", "http://b:5050"]
    assert settings.keep.age_ms == 2 * 86_400_000
    check(settings)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({"limit": "team=3"}, "--limit"),
        ({"limit": "owner:me=0"}, "--limit"),
        ({"raven_dsn": "https://x"}, "--raven_dsn"),
        ({"slack_url": "ftp://x"}, "--slack_url"),
        ({"http_address": "0.0.0.0"}, "--credentials"),
        ({"http_address": "nowhere"}, "--http_address"),
        ({"hostname": "a b"}, "--hostname"),
        ({"hostname": ""}, "--hostname"),
        ({"hostname": "http://a"}, "--hostname"),
        ({"http_credentials": "me:", "http_address": "0.0.0.0"}, "--http_credentials"),
        ({"http_credentials": "/no/such/file", "http_address": "0.0.0.0"}, "/no/such/file"),
        ({"zk": "http://x"}, "zk://"),
        ({"master": "ftp://x"}, "--master"),
        ({"master": " , "}, "--master"),
        ({"logging_level": "LOUD"}, "--logging_level"),
        ({"mesos_role": "web, a//b"}, "--mesos_role"),
        ({"webui_url": "chronos.example:4400"}, "--webui_url"),
        ({"slack_url": "http://"}, "--slack_url"),
        ({"mattermost_url": "http:// x"}, "--mattermost_url"),
        ({"http_notification_credentials": "me"}, "--http_notification_credentials"),
        ({"mail_server": "mail:smtp"}, "--mail_server"),
        ({"mail_server": ":25"}, "--mail_server"),
        ({"mail_server": "smtp://mail:25"}, "--mail_server"),
        ({"mesos_authentication_secret_file": "/secret"}, "--mesos_authentication_principal"),
    ],
)
def test_what_is_refused_names_the_flag(flags: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        check(made(**flags))


def test_credentials_of_chronos_are_asked_for() -> None:
    known = authenticator(made(http_credentials="me:secret"))
    assert known is not None
    assert authenticator(made()) is None
