"""The settings of a scheduler of jobs: Chronos' flags where they have a meaning, under their names (spec: chronos-v1, 11), and ours."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from chronos.extension import is_http_url
from chronos.gates import Gate
from chronos.history import Keep
from chronos.job import Defaults
from chronos.life import Settings
from chronos.notifier import SMTP_PORT, Mail, mail_server
from chronos.notify import Channels, sentry_target
from chronos.validation import Limits
from kernel.config import Setting
from kernel.errors import ConfigError
from kernel.net.auth import Credential, load_credential, read_secret

# Flags of Chronos that mean nothing here; each is accepted with a warning. TLS is for a proxy in front, metrics are read, not pushed.
_SILENT = """
    zk_timeout zk_auth http_realm https_port ssl_keystore_path ssl_keystore_password mesos_checkpoint schedule_horizon task_epsilon
    leader_max_idle_time reconciliation_interval decline_offer_duration min_revive_offers_interval
    cassandra_contact_points cassandra_port cassandra_keyspace cassandra_table cassandra_stat_count_table cassandra_consistency
    cassandra_ttl cassandra_user cassandra_password graphite_host_port graphite_reporting_interval graphite_group_prefix
"""
WITHOUT_EFFECT = dict.fromkeys(_SILENT.split(), False) | {"disable_http": True, "revive_offers_for_new_jobs": True}


class ChronosConfig(Struct, frozen=True, kw_only=True):
    """One scheduler's settings."""

    master: Annotated[str, Setting("Master: http://HOST:5050, several with commas, or zk://HOST:PORT[,...]/PATH.")] = (
        "http://127.0.0.1:5050"
    )
    work_dir: Annotated[str, Setting("Folder that holds the jobs (without --zk) and the history.", kind="path")]
    zk: Annotated[
        str | None, Setting("With several schedulers, their ZooKeeper: zk://[USER:PASSWORD@]HOST:PORT[,...]/PATH. It holds the jobs.")
    ] = None
    zk_hosts: Annotated[str | None, Setting("The same as Chronos had it: HOST:PORT[,...].")] = None
    zk_path: Annotated[str, Setting("Path below --zk_hosts.")] = "/chronos/state"
    zk_session_timeout_s: Annotated[
        float,
        Setting("How soon a leading scheduler that is silent loses the lead.", kind="duration", flag="zk_session_timeout"),
        Meta(ge=1),
    ] = 10.0
    store_timeout_s: Annotated[
        float,
        Setting("How long a ZooKeeper that does not answer is waited for.", kind="duration", flag="store_timeout"),
        Meta(gt=0),
    ] = 60.0

    http_address: Annotated[str, Setting("Address to listen on; others than loopback need --credentials or --insecure.")] = "127.0.0.1"
    http_port: Annotated[int, Setting("Port to listen on."), Meta(ge=0, le=65535)] = 4400
    hostname: Annotated[str | None, Setting("Name that others reach this machine by (default: its address).")] = None
    webui_url: Annotated[str | None, Setting("Where this scheduler's API is, as the master tells (default: hostname and port).")] = None
    credentials: Annotated[str | None, Setting("File of principals and secrets that may call.", kind="path")] = None
    http_credentials: Annotated[
        str | None, Setting("USER:PASSWORD that may call, as Chronos had it, which ps shows; or a file as of --credentials.", kind="path")
    ] = None
    insecure: Annotated[bool, Setting("Listen on any address without asking who calls.")] = False
    cors: Annotated[bool, Setting("Let pages of any site read, also where nobody is asked who calls.")] = False
    logging_level: Annotated[str, Setting("Least level that is logged: INFO, WARNING, ERROR.")] = "INFO"

    mesos_framework_name: Annotated[str, Setting("Name of the framework.")] = "chronos"
    mesos_role: Annotated[str, Setting("Role whose share is used; several with commas, the first being a job's that names none.")] = "*"
    credential: Annotated[
        str | None, Setting("File with the principal and secret this scheduler shows to master and agents.", kind="path")
    ] = None
    mesos_authentication_principal: Annotated[str | None, Setting("The same as Chronos had it: the principal.")] = None
    mesos_authentication_secret_file: Annotated[str | None, Setting("File with its secret.", kind="path")] = None
    user: Annotated[str, Setting("Whom jobs run as that do not say.")] = "root"
    failover_timeout_s: Annotated[
        float, Setting("How long running jobs outlive the scheduler.", kind="duration", flag="failover_timeout"), Meta(ge=0)
    ] = 604_800.0
    mesos_task_cpu: Annotated[float, Setting("Cores of a job that does not say."), Meta(gt=0)] = 0.1
    mesos_task_mem: Annotated[float, Setting("MiB of memory of a job that does not say."), Meta(gt=0)] = 128.0
    mesos_task_disk: Annotated[float, Setting("MiB of disk of a job that does not say."), Meta(gt=0)] = 256.0

    failure_retry_ms: Annotated[
        int, Setting("Milliseconds before a failed attempt is tried again.", flag="failure_retry"), Meta(ge=0, le=86_400_000)
    ] = 60_000
    disable_after_failures: Annotated[int, Setting("Failures in a row that disable a job; 0 for none."), Meta(ge=0)] = 0
    limit: Annotated[
        tuple[str, ...], Setting("How many runs an owner or a label may have at a time: owner:NAME=N, label:KEY=VALUE=N; with commas.")
    ] = ()
    min_interval_s: Annotated[
        float, Setting("How near two runs of one job may lie at least.", kind="duration", flag="min_interval"), Meta(ge=0.01)
    ] = 1.0

    history_age_s: Annotated[
        float, Setting("How long a run stays in the history; 0 for ever.", kind="duration", flag="history_age"), Meta(ge=0)
    ] = 90 * 86_400.0
    history_runs: Annotated[int, Setting("How many runs of a job stay in the history; 0 for any number."), Meta(ge=0)] = 10_000
    job_history_limit: Annotated[int, Setting("How many tasks a job's statistics show."), Meta(ge=0, le=1000)] = 5

    celery_broker: Annotated[str | None, Setting("URL of the broker of Celery jobs that name none.")] = None
    celery_backend: Annotated[str | None, Setting("URL of its result back end (default: the broker).")] = None

    cluster_name: Annotated[str, Setting("Shown in notifications.")] = ""
    mail_server: Annotated[str, Setting("HOST:PORT of the SMTP server that notifications go by.")] = ""
    mail_from: Annotated[str, Setting("Their sender.")] = ""
    mail_user: Annotated[str, Setting("User of that server.")] = ""
    mail_password: Annotated[str, Setting("Password there; as file://PATH nobody sees it.")] = ""
    mail_ssl: Annotated[bool, Setting("Speak TLS from the beginning.")] = False
    slack_url: Annotated[str, Setting("Webhook of Slack.")] = ""
    mattermost_url: Annotated[str, Setting("Webhook of Mattermost.")] = ""
    raven_dsn: Annotated[str, Setting("DSN of Sentry.")] = ""
    http_notification_url: Annotated[str, Setting("URL that notifications are posted to.")] = ""
    http_notification_credentials: Annotated[str, Setting("USER:PASSWORD there.")] = ""
    notify_interval_s: Annotated[
        float,
        Setting("How often a job tells a channel of the same occasion, at most.", kind="duration", flag="notify_interval"),
        Meta(ge=0),
    ] = 60.0

    @property
    def ensemble(self) -> str | None:
        """`zk://...`, in whichever way it was said."""
        if self.zk is not None or self.zk_hosts is None:
            return self.zk
        hosts = self.zk_hosts.removeprefix("zk://").partition("/")[0]
        return f"zk://{hosts}/{self.zk_path.strip('/')}"

    @property
    def principal(self) -> Credential | None:
        """What this scheduler shows. Raises ConfigError."""
        if self.credential:
            return load_credential(self.credential)
        if not self.mesos_authentication_principal:
            if self.mesos_authentication_secret_file:
                raise ConfigError("--mesos_authentication_principal: --mesos_authentication_secret_file needs it")
            return None
        if not self.mesos_authentication_secret_file:
            raise ConfigError("--mesos_authentication_secret_file: --mesos_authentication_principal needs it")
        return Credential(self.mesos_authentication_principal, read_secret(self.mesos_authentication_secret_file).decode().strip())

    @property
    def roles(self) -> tuple[str, ...]:
        return tuple(role.strip() for role in self.mesos_role.split(",") if role.strip()) or ("*",)

    @property
    def masters(self) -> list[str]:
        return [self.master] if self.master.startswith("zk://") else [part.strip() for part in self.master.split(",") if part.strip()]

    @property
    def defaults(self) -> Defaults:
        return Defaults(self.mesos_task_cpu, self.mesos_task_mem, self.mesos_task_disk, self.user)

    @property
    def settings(self) -> Settings:
        """Raises ConfigError."""
        return Settings(self.failure_retry_ms, self.disable_after_failures, dict(map(_limit, self.limit)))

    @property
    def limits(self) -> Limits:
        return Limits(interval_ms_min=round(self.min_interval_s * 1000))

    @property
    def keep(self) -> Keep:
        return Keep(round(self.history_age_s * 1000), self.history_runs)

    @property
    def mail(self) -> Mail:
        return Mail(self.mail_server, self.mail_from, self.mail_user, self.mail_password, self.mail_ssl)

    @property
    def channels(self) -> Channels:
        """Raises ConfigError."""
        if self.raven_dsn:
            try:
                sentry_target(self.raven_dsn)
            except ValueError as error:
                raise ConfigError(f"--raven_dsn: {error}") from None
        for flag in ("slack_url", "mattermost_url", "http_notification_url"):
            url = getattr(self, flag)
            if url and not is_http_url(url):
                raise ConfigError(f"--{flag}: a URL of http or https is due")
        if self.http_notification_credentials and ":" not in self.http_notification_credentials:
            raise ConfigError("--http_notification_credentials: USER:PASSWORD is due")
        if self.mail_server:
            try:
                mail_server(self.mail_server, SMTP_PORT)
            except ValueError as error:
                raise ConfigError(f"--mail_server: {error}") from None
        return Channels(
            self.cluster_name,
            bool(self.mail_server),
            self.slack_url,
            self.mattermost_url,
            self.http_notification_url,
            self.raven_dsn,
            round(self.notify_interval_s * 1000),
        )


def _limit(text: str) -> tuple[Gate, int]:
    said, _, number = text.rpartition("=")
    kind, colon, name = said.partition(":")
    known = kind in ("owner", "label") and colon and name and (kind == "owner" or "=" in name)
    if not known or not (number.isascii() and number.isdigit() and 0 < int(number) < 1_000_000):
        raise ConfigError(f"--limit: {text!r} is not owner:NAME=N or label:KEY=VALUE=N")
    return Gate(kind, name), int(number)
