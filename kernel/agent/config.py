"""The settings of an agent. Names and defaults are those of Mesos where it has them (spec: mesos-v1, section 11)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from kernel.agent.images.collection import ImageGcConfig
from kernel.agent.oversubscription.config import ControllerParameters, EstimatorParameters
from kernel.config import Setting

Duration = Annotated[float, Meta(ge=0)]
RECONNECT, CLEANUP = "reconnect", "cleanup"


class AgentConfig(Struct, frozen=True, kw_only=True):
    """Checked when made. What is left empty is detected at start (`kernel.agent.detect`)."""

    work_dir: Annotated[str, Setting("Where state and sandboxes are kept.", kind="path")]
    master: Annotated[str, Setting("The master: http://host:port, host:port or zk://h1:2181,h2:2181/path.")] = "http://127.0.0.1:5050"
    zk_session_timeout_s: Annotated[
        float, Setting("Timeout of the session with the ZooKeeper of --master.", kind="duration", flag="zk_session_timeout"), Meta(ge=1)
    ] = 10.0
    ip: Annotated[str, Setting("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Setting("Port to listen on."), Meta(ge=0, le=65535)] = 5051
    advertise_ip: Annotated[str, Setting("Address told to others, when not the one listened on.")] = ""
    advertise_port: Annotated[int, Setting("Port told to others, when not the one listened on."), Meta(ge=0, le=65535)] = 0
    hostname: Annotated[str, Setting("Name told to others; default: the advertised address.")] = ""
    insecure: Annotated[bool, Setting("Listen on any address, asking only those whom a flag says to ask.")] = False
    http_credentials: Annotated[
        str, Setting("File of principals and secrets that may call; with it, whoever calls is asked.", kind="path")
    ] = ""
    authenticate_http_readonly: Annotated[bool | None, Setting("Ask who reads (default: with --http-credentials).")] = None
    authenticate_http_readwrite: Annotated[bool | None, Setting("Ask who operates (default: with --http-credentials).")] = None
    authenticate_http_executors: Annotated[bool, Setting("Ask custom executors for the token that they are started with.")] = False
    jwt_secret_key: Annotated[
        str, Setting("File with the key that signs these tokens (default: made when they are asked for).", kind="path")
    ] = ""
    credential: Annotated[str, Setting("File with the credential presented to the master.", kind="path")] = ""
    resources: Annotated[str, Setting("`name(role):value;...` or JSON; what is not named is detected.")] = ""
    attributes: Annotated[str, Setting("`key:value;...`, for frameworks to choose agents by.")] = ""
    nvidia_gpu_devices: Annotated[
        tuple[str, ...] | None, Setting("Numbers of the GPUs to offer, as nvidia-smi counts them (default: all).", kind="list")
    ] = None
    nvidia_device_dir: Annotated[str, Setting("Where the device files of GPUs are.", kind="path")] = "/dev"
    default_role: Annotated[str, Setting("Role of resources that name none.")] = "*"
    domain: Annotated[dict[str, Any] | None, Setting("Fault domain, as JSON.", kind="json")] = None
    switch_user: Annotated[bool, Setting("As root, run tasks as CommandInfo.user, else FrameworkInfo.user.")] = True
    executor_registration_timeout_s: Annotated[
        Duration, Setting("How long a custom executor may take to subscribe.", kind="duration", flag="executor_registration_timeout")
    ] = 60.0
    executor_reregistration_timeout_s: Annotated[
        Annotated[float, Meta(ge=0, le=15)],
        Setting("How long executors may take to come back after a restart.", kind="duration", flag="executor_reregistration_timeout"),
    ] = 2.0
    executor_shutdown_grace_period_s: Annotated[
        Duration, Setting("Between SHUTDOWN and the end of an executor.", kind="duration", flag="executor_shutdown_grace_period")
    ] = 5.0
    recovery_timeout_s: Annotated[
        Duration, Setting("How long executors wait for an agent that is away.", kind="duration", flag="recovery_timeout")
    ] = 900.0
    recover: Annotated[
        Literal["reconnect", "cleanup"], Setting("What to do with what runs here already: go on with it, or end it and leave for good.")
    ] = "reconnect"
    reconfiguration_policy: Annotated[
        Literal["equal", "additive", "any"],
        Setting("How an agent with running tasks may differ from what it was: not at all, by what it gains (additive), or any way."),
    ] = "equal"
    strict: Annotated[bool, Setting("Do not start when part of what was kept cannot be read; else go on without it.")] = True
    resource_estimator: Annotated[
        Literal["noop", "fixed", "usage"],
        Setting("How much is lent as revocable of what tasks were given: nothing, always as much, or what they do not use."),
    ] = "noop"
    resource_estimator_parameters: Annotated[
        EstimatorParameters, Setting('JSON, e.g. {"resources": "cpus:4"} for fixed, {"share": 0.5, "memory": true} for usage.', kind="json")
    ] = EstimatorParameters()
    oversubscribed_resources_interval_s: Annotated[
        float,
        Setting("How often it is measured what tasks use, for both.", kind="duration", flag="oversubscribed_resources_interval"),
        Meta(ge=0.1),
    ] = 15.0
    qos_controller: Annotated[
        Literal["", "noop", "load", "usage"],
        Setting("When it is taken back: never, by the machine's load, or as others need it (default: usage, where anything is lent)."),
    ] = ""
    qos_controller_parameters: Annotated[
        ControllerParameters, Setting('JSON, e.g. {"load_threshold_5min": 6} for load, {"memory_least": 0.1} for usage.', kind="json")
    ] = ControllerParameters()
    qos_correction_interval_min_s: Annotated[
        Duration, Setting("The least time between two corrections.", kind="duration", flag="qos_correction_interval_min")
    ] = 0.0
    revocable_cpu_low_priority: Annotated[bool, Setting("Who has revocable cpus gets the least of what is left to share.")] = True
    isolation: Annotated[
        tuple[str, ...] | None,
        Setting(
            "What holds containers: cgroups/cpu, cgroups/mem, cgroups/pids, gpu/nvidia, disk/du (default: what root can have), or posix.",
            kind="list",
        ),
    ] = None
    cgroups_root: Annotated[str, Setting("Folder of our control groups in each hierarchy.")] = "meseta"
    cgroups_enable_cfs: Annotated[bool, Setting("Hold tasks to their cpus also while others leave some unused.")] = False
    container_pids_max: Annotated[int, Setting("Processes and threads a container may have; 0 for any number."), Meta(ge=0)] = 4096
    gc_delay_s: Annotated[
        Duration, Setting("Age at which a sandbox is removed; less on a full disk.", kind="duration", flag="gc_delay")
    ] = 604800.0
    gc_disk_headroom: Annotated[
        float, Setting("Part of the disk to keep free: sandboxes are removed the earlier, the nearer it is."), Meta(ge=0, le=1)
    ] = 0.1
    disk_watch_interval_s: Annotated[
        float, Setting("How often the disk is looked at for that.", kind="duration", flag="disk_watch_interval"), Meta(gt=0)
    ] = 60.0
    gc_non_executor_container_sandboxes: Annotated[
        bool, Setting("Remove sandboxes of tasks in a default executor while that still runs.")
    ] = False
    docker_registry: Annotated[
        str, Setting("Where images come from: a folder of archives (NAME:TAG.tar), or whatever skopeo reaches.", kind="path")
    ] = "https://registry-1.docker.io"
    docker_store_dir: Annotated[str, Setting("Where images are unpacked (default: in the work dir).", kind="path")] = ""
    image_gc_config: Annotated[
        ImageGcConfig | None,
        Setting('JSON: when images are removed, e.g. {"image_disk_headroom": 0.1} (default: by PRUNE_IMAGES only).', kind="json"),
    ] = None
    sandbox_directory: Annotated[str, Setting("Where a container with an image sees its sandbox.")] = "/mnt/mesos/sandbox"
    network_cni_config_dir: Annotated[
        str, Setting("Folder of CNI configurations, for networks of containers with images (`bridge` is there without).", kind="path")
    ] = ""
    network_cni_plugins_dir: Annotated[str, Setting("Folders of CNI plugins, a colon between two.")] = "/opt/cni/bin:/usr/lib/cni"
    seccomp_config_dir: Annotated[str, Setting("Folder of seccomp profiles for containers with images.", kind="path")] = ""
    seccomp_profile_name: Annotated[str, Setting("The one for those that ask for none (default: as Docker has it, built in).")] = ""
    container_disk_watch_interval_s: Annotated[
        float,
        Setting("How often it is measured what sandboxes take of the disk.", kind="duration", flag="container_disk_watch_interval"),
        Meta(gt=0),
    ] = 15.0
    enforce_container_disk_quota: Annotated[bool, Setting("End containers that take more of the disk than they were given.")] = False
    container_logger_max_stdout_size: Annotated[
        int, Setting("Size at which a task's stdout is rotated; 0 for never.", kind="size"), Meta(ge=0)
    ] = 10 << 20
    container_logger_max_stderr_size: Annotated[int, Setting("The same for stderr.", kind="size"), Meta(ge=0)] = 10 << 20
    container_logger_max_files: Annotated[int, Setting("Rotated files that are kept of each."), Meta(ge=0, le=1000)] = 5
    containerizers: Annotated[
        tuple[str, ...] | None,
        Setting("mesos, docker or both (default: both; a Docker engine is looked for when a task asks for one).", kind="list"),
    ] = None
    docker_socket: Annotated[str, Setting("Socket of the Docker engine.", kind="path")] = "/var/run/docker.sock"
    docker_config: Annotated[str, Setting("File with credentials for registries, as `docker login` writes it.", kind="path")] = ""
    docker_remove_delay_s: Annotated[
        Duration, Setting("How long a docker container is kept after its end.", kind="duration", flag="docker_remove_delay")
    ] = 21600.0
    docker_kill_orphans: Annotated[bool, Setting("End docker containers of this agent that it does not know.")] = True
    executor_environment_variables: Annotated[dict[str, str], Setting("Variables for all executors and tasks, as JSON.", kind="json")] = {}
    fetcher_cache_bytes: Annotated[
        int, Setting("How much is kept of what is fetched with `cache`; 0: nothing.", kind="size", flag="fetcher_cache_size"), Meta(ge=0)
    ] = 2 << 30
    fetcher_cache_dir: Annotated[str, Setting("Where it is kept (default: in the work dir).", kind="path")] = ""
    fetcher_stall_timeout_s: Annotated[
        Annotated[float, Meta(gt=0)],
        Setting("How long nothing may come before a fetch is given up.", kind="duration", flag="fetcher_stall_timeout"),
    ] = 60.0
    fetcher_bytes_max: Annotated[
        int, Setting("What all files fetched for a container may have together, extracted ones included.", kind="size"), Meta(ge=0)
    ] = 16 << 30
    fetcher_commands: Annotated[
        dict[str, tuple[str, ...]],
        Setting('JSON: which command fetches a scheme, e.g. {"s3": ["aws", "s3", "cp", "{uri}", "{path}"]}.', kind="json"),
    ] = {}
    hadoop_home: Annotated[str, Setting("Where bin/hadoop is, for hdfs and other schemes (default: looked up in PATH).", kind="path")] = ""
    frameworks_home: Annotated[str, Setting("Where relative paths of files to fetch begin.", kind="path")] = ""
    max_completed_executors_per_framework: Annotated[int, Setting("History kept, per framework."), Meta(ge=0)] = 150

    @property
    def public_ip(self) -> str:
        return self.advertise_ip or self.ip

    @property
    def public_port(self) -> int:
        return self.advertise_port or self.port

    @property
    def public_hostname(self) -> str:
        return self.hostname or self.public_ip
