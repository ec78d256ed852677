"""The command line of a daemon, made from its config; Mesos's flags and which of them we know.

Flags may be written with `_` or `-`, booleans as `--x`, `--no-x` or `--x=true`. A flag of Mesos that the config does
not have is accepted with a warning, any other is refused with the nearest name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, TypeVar

import click
from msgspec import Struct

from kernel import config

C = TypeVar("C", bound=Struct)

# All flags of Mesos 1.11 (spec sections 11.1 to 11.3). A flag has an effect exactly if the daemon's config has it.
# Booleans are marked, as they take no value.
_BOTH = """
    ip port advertise_ip advertise_port hostname hostname_lookup=bool ip_discovery_command domain log_dir logging_level
    logbufsecs quiet=bool external_log_file authenticate_http_readonly=bool authenticate_http_readwrite=bool
    http_authenticators firewall_rules hooks modules modules_dir zk_session_timeout memory_profiling=bool
    acls authorizers credentials
"""
_MASTER = """
    zk quorum work_dir registry registry_fetch_timeout registry_store_timeout registry_gc_interval registry_max_agent_age
    registry_max_agent_count log_auto_initialize=bool rate_limits authenticate_frameworks=bool authenticate_agents=bool
    authenticate_http_frameworks=bool authenticators http_framework_authenticators authentication_v0_timeout
    allocation_interval allocator role_sorter framework_sorter allocator_agent_recovery_factor allocator_recovery_timeout
    fair_sharing_excluded_resource_names filter_gpu_resources=bool min_allocatable_resources offer_timeout
    agent_ping_timeout max_agent_ping_timeouts agent_reregister_timeout agent_removal_rate_limit
    recovery_agent_removal_limit max_completed_frameworks max_completed_tasks_per_framework
    max_unreachable_tasks_per_framework max_operator_event_stream_subscribers offer_constraints_re2_max_mem
    offer_constraints_re2_max_program_size publish_per_framework_metrics=bool require_agent_domain=bool roles weights
    root_submissions=bool cluster webui_dir whitelist master_contender master_detector
"""
_AGENT = """
    master work_dir runtime_dir launcher_dir resources attributes default_role containerizers isolation launcher
    image_providers image_provisioner_backend image_gc_config docker docker_socket docker_registry docker_config
    docker_store_dir docker_remove_delay docker_kill_orphans=bool docker_stop_timeout sandbox_directory
    default_container_info default_container_dns default_container_shm_size cgroups_hierarchy cgroups_root
    cgroups_enable_cfs=bool cgroups_limit_swap=bool cgroups_destroy_timeout switch_user=bool
    executor_registration_timeout executor_reregistration_timeout executor_reregistration_retry_interval
    executor_shutdown_grace_period executor_environment_variables http_command_executor=bool
    http_executor_domain_sockets=bool http_heartbeat_interval recover recovery_timeout strict=bool
    reconfiguration_policy registration_backoff_factor authentication_backoff_factor authentication_timeout_min
    authentication_timeout_max credential http_credentials jwt_secret_key authenticate_http_executors=bool authorizer
    gc_delay gc_disk_headroom disk_watch_interval gc_non_executor_container_sandboxes=bool container_disk_watch_interval
    enforce_container_disk_quota=bool fetcher_cache_size fetcher_cache_dir fetcher_stall_timeout hadoop_home
    frameworks_home max_completed_executors_per_framework resource_estimator qos_controller
    oversubscribed_resources_interval qos_correction_interval_min revocable_cpu_low_priority=bool network_cni_config_dir
    network_cni_plugins_dir nvidia_gpu_devices allowed_devices effective_capabilities bounding_capabilities
    seccomp_config_dir seccomp_profile_name disallow_sharing_agent_pid_namespace=bool
    disallow_sharing_agent_ipc_namespace=bool resource_provider_config_dir csi_plugin_config_dir disk_profile_adaptor
    container_logger systemd_enable_support=bool systemd_runtime_directory agent_features
"""
# Flags of parts of the agent that the sections leave out: isolators, image stores, plugins.
_AGENT_PARTS = """
    appc_simple_discovery_uri_prefix appc_store_dir authenticatee cgroups_cpu_enable_pids_and_tids_count=bool docker_ignore_runtime=bool
    docker_mesos_image docker_volume_checkpoint_dir docker_volume_chown=bool egress_rate_limit_per_container
    egress_unique_flow_per_container=bool enforce_container_ports=bool ephemeral_ports_per_container eth0_name
    host_path_volume_force_creation lo_name network_cni_metrics=bool network_cni_root_dir_persist=bool
    network_enable_snmp_statistics=bool network_enable_socket_statistics_details=bool network_enable_socket_statistics_summary=bool
    perf_duration perf_events perf_interval secret_resolver volume_gid_range xfs_kill_containers=bool xfs_project_range
"""


def _table(text: str) -> dict[str, bool]:
    names = (entry.partition("=") for entry in text.split())
    return {name: kind == "bool" for name, _, kind in names}


MASTER_FLAGS: Mapping[str, bool] = _table(_BOTH + _MASTER)  # Name -> whether it is boolean.
AGENT_FLAGS: Mapping[str, bool] = _table(_BOTH + _AGENT + _AGENT_PARTS)


class LogFormatter(logging.Formatter):
    """One line for each record, whatever of others' text is in it: nobody can forge a line or steer a terminal."""

    _ESCAPED: ClassVar[dict[int, str]] = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).translate(self._ESCAPED)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname).1s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _DaemonCommand(click.Command):
    """Takes the spellings of Mesos that click does not: `--x=true` for a boolean."""

    def __init__(self, booleans: Collection[str], **options: Any) -> None:
        super().__init__(**options)
        self._booleans = booleans

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [self._plain(argument) for argument in args])

    def _plain(self, argument: str) -> str:
        flag, given, text = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not (given and flag.startswith("--") and name in self._booleans):
            return argument
        return config.shown(name if config.parse("bool", text, flag) else "no_" + name)


def daemon_command(
    name: str,
    config_type: type[C],
    run: Callable[[C], None],
    *,
    help: str,
    mesos_flags: Mapping[str, bool] | None = None,
) -> click.Command:
    """The click command of `meseta serve NAME`: reads the config (file, environment, flags) and calls `run` with it.

    mesos_flags: name -> whether boolean, of flags that are accepted even if the config has no such setting.
    """
    settable = config.fields(config_type)
    without_effect = {flag: boolean for flag, boolean in (mesos_flags or {}).items() if flag not in settable}
    booleans = {field.flag for field in settable.values() if field.kind == "bool"}
    booleans |= {flag for flag, boolean in without_effect.items() if boolean}

    def callback(config_file: str | None, **given: Any) -> None:
        _log_to_stderr()
        flags = {flag: value for flag, value in given.items() if value is not None}
        run(config.load(config_type, flags=flags, environ=os.environ, file=config_file, without_effect=without_effect))

    def option(flag: str, **attributes: Any) -> click.Option:
        names = config.shown(flag) + (f"/{config.shown('no_' + flag)}" if flag in booleans else "")
        return click.Option([flag, names], default=None, **attributes)

    params: list[click.Parameter] = [
        click.Option(["config_file", "--config"], metavar="FILE", help="TOML file; environment and flags win over it."),
        *(option(f.flag, metavar=None if f.kind == "bool" else f.kind.upper(), help=f.help + _default(f)) for f in settable.values()),
        *(option(flag, hidden=True) for flag in without_effect),
    ]
    settings = {"token_normalize_func": lambda token: token.replace("_", "-"), "help_option_names": ["-h", "--help"]}
    return _DaemonCommand(booleans, name=name, callback=callback, params=params, help=help, context_settings=settings)


def _default(field: config.Field) -> str:
    if field.required:
        return "  [required]"
    if field.default in (None, "", (), {}):
        return ""
    if field.kind == "duration":
        return f"  [default: {field.default:g}secs]"
    return f"  [default: {str(field.default).lower() if field.kind == 'bool' else field.default}]"
