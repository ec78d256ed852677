"""What a container is given: program, environment, sandbox, user."""

from __future__ import annotations

import msgspec
import pytest

from kernel.agent.config import AgentConfig
from kernel.agent.containerizer.kinds import Containerizer
from kernel.agent.effects import LaunchContainer, LauncherState
from kernel.agent.token import Claims, verify
from kernel.wire.command import URI, CommandInfo, Environment, Variable
from kernel.wire.common import DurationInfo
from kernel.wire.container import ContainerInfo, ContainerType, DockerInfo
from kernel.wire.resources import Resources
from tests.builders import executor
from tests.kernel.agent.desk import CONFIG, Desk, command, framework, register, running


def launch(config: AgentConfig = CONFIG, of: CommandInfo | None = None, checkpoint: bool = False, user: str = "ann") -> LaunchContainer:
    desk = running(config, framework("f", checkpoint=checkpoint, user=user))
    desk.run_task(command("t", command=of or CommandInfo(value="x")))
    return desk.one(LaunchContainer)


def test_the_environment_is_that_of_every_executor() -> None:
    made = launch()
    assert made.env == {
        "MESOS_FRAMEWORK_ID": "f",
        "MESOS_EXECUTOR_ID": "t",
        "MESOS_DIRECTORY": made.directory,
        "MESOS_SANDBOX": made.directory,
        "MESOS_SLAVE_ID": "m-S1",
        "MESOS_SLAVE_PID": "slave(1)@127.0.0.1:5051",
        "MESOS_AGENT_ENDPOINT": "127.0.0.1:5051",
        "MESOS_HTTP_COMMAND_EXECUTOR": "0",
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        "LIBPROCESS_PORT": "0",
        "LIBPROCESS_IP": "127.0.0.1",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def test_checkpointing_frameworks_are_told_how_long_to_wait() -> None:
    env = launch(checkpoint=True).env
    found = {name: env[name] for name in ("MESOS_CHECKPOINT", "MESOS_RECOVERY_TIMEOUT", "MESOS_SUBSCRIPTION_BACKOFF_MAX")}
    assert found == {
        "MESOS_CHECKPOINT": "1",
        "MESOS_RECOVERY_TIMEOUT": "15mins",
        "MESOS_SUBSCRIPTION_BACKOFF_MAX": "2secs",
    }
    assert "MESOS_CHECKPOINT" not in launch().env


def test_the_command_wins_over_the_agent_and_the_agent_over_its_operator() -> None:
    config = msgspec.structs.replace(CONFIG, executor_environment_variables={"A": "operator", "B": "operator", "MESOS_SLAVE_ID": "no"})
    env = launch(config, CommandInfo(value="x", environment=Environment((Variable("A", value="task"), Variable("PATH", value="/p"))))).env
    assert (env["A"], env["B"], env["MESOS_SLAVE_ID"], env["PATH"]) == ("task", "operator", "m-S1", "/p")


def test_a_custom_executor_gets_the_token_of_its_run() -> None:
    desk = Desk(key=b"key")
    desk.give(LauncherState(()))
    register(desk, framework("f"))
    container = desk.run_task(command("t", executor=executor("e")))
    env = desk.one(LaunchContainer).env
    assert verify(env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"], b"key") == Claims(container, "e", "f")
    desk.run_task(command("u"))
    assert "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" not in desk.one(LaunchContainer).env


def test_what_a_framework_says_of_its_ids_is_not_what_its_executor_may_claim() -> None:
    lies = Environment((Variable("MESOS_EXECUTOR_ID", value="another"), Variable("MESOS_FRAMEWORK_ID", value="another")))
    desk = Desk(key=b"key")
    desk.give(LauncherState(()))
    register(desk, framework("f"))
    container = desk.run_task(command("t", executor=executor("e", command=CommandInfo(value="x", environment=lies))))
    env = desk.one(LaunchContainer).env
    assert env["MESOS_EXECUTOR_ID"] == "another"
    assert verify(env["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"], b"key") == Claims(container, "e", "f")


def test_without_a_key_there_are_no_tokens() -> None:
    desk = running()
    desk.run_task(command("t", executor=executor("e")))
    assert "MESOS_EXECUTOR_AUTHENTICATION_TOKEN" not in desk.one(LaunchContainer).env


@pytest.mark.parametrize(
    ("of", "executable", "argv"),
    [
        (CommandInfo(value="a | b", arguments=("ignored",)), "/bin/sh", ("sh", "-c", "a | b")),
        (CommandInfo(value=""), "/bin/sh", ("sh", "-c", "")),
        (CommandInfo(shell=False, value="prog"), "prog", ("prog",)),
        (CommandInfo(shell=False, value="/bin/prog", arguments=("zero", "one")), "/bin/prog", ("zero", "one")),
    ],
)
def test_what_is_executed(of: CommandInfo, executable: str, argv: tuple[str, ...]) -> None:
    made = launch(of=of)
    assert (made.executable, made.argv) == (executable, argv)


@pytest.mark.parametrize("of", [CommandInfo(), CommandInfo(shell=False), CommandInfo(shell=False, value="")])
def test_a_task_without_a_command_fails(of: CommandInfo) -> None:
    desk = running()
    assert desk.run_task(command("t", command=of)) == ""
    (status,) = desk.updates()
    assert "a command needs a value" in (status.message or "")


@pytest.mark.parametrize(
    ("switch", "own", "of_framework", "expected"),
    [(True, "bob", "ann", "bob"), (True, None, "ann", "ann"), (True, None, "", None), (False, "bob", "ann", None)],
)
def test_as_whom(switch: bool, own: str | None, of_framework: str, expected: str | None) -> None:
    config = msgspec.structs.replace(CONFIG, switch_user=switch)
    assert launch(config, CommandInfo(value="x", user=own), user=of_framework).user == expected


def test_the_sandbox_is_where_mesos_has_it() -> None:
    made = launch()
    runs = "/work/slaves/m-S1/frameworks/f/executors/t/runs"
    assert made.directory == f"{runs}/{made.container_id}"
    assert made.links == ((f"{runs}/latest", made.container_id),)


def test_a_task_is_told_its_allocation_role() -> None:
    desk = running()
    info = msgspec.structs.replace(command("t"), resources=Resources.parse("cpus:1").messages("dev"))
    desk.run_task(info)
    assert desk.one(LaunchContainer).env["MESOS_ALLOCATION_ROLE"] == "dev"


def test_files_to_fetch_come_with_the_container() -> None:
    uris = (URI("http://h/a.tgz"), URI("/b", executable=True))
    assert launch(of=CommandInfo(value="x", uris=uris)).uris == uris
    desk = running()
    desk.run_task(command("t", executor=executor("e", command=CommandInfo(value="x", uris=uris))))
    assert desk.one(LaunchContainer).uris == uris


def test_an_executor_is_told_its_own_grace() -> None:
    desk = running()
    desk.run_task(command("t", executor=executor("e", shutdown_grace_period=DurationInfo(90_000_000_000))))
    made = desk.one(LaunchContainer)
    assert made.env["MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD"] == "90secs"
    assert made.env["MESOS_EXECUTOR_ID"] == "e"
    assert made.argv == ("sh", "-c", "run-executor")


@pytest.mark.parametrize(
    ("asked", "shell", "argv"),
    [
        (CommandInfo(value="echo x"), True, ("sh", "-c", "echo x")),
        (CommandInfo(shell=False, value="a", arguments=("b",)), False, ("a", "b")),
        (CommandInfo(shell=False, arguments=("b",)), False, ("b",)),
        (CommandInfo(shell=False), False, ()),
        (CommandInfo(), False, ()),
    ],
)
def test_what_a_docker_container_runs_and_as_whom(asked: CommandInfo, shell: bool, argv: tuple[str, ...]) -> None:
    """Value and arguments follow the image's entry point; the framework's user is none of the image's."""
    desk = running(msgspec.structs.replace(CONFIG, switch_user=True), framework("f", user="ann"))
    container = ContainerInfo(ContainerType.DOCKER, docker=DockerInfo("i"))
    desk.run_task(command("t", command=asked, container=container))
    made = desk.one(LaunchContainer)
    assert (made.shell, made.argv, made.user, made.containerizer) == (shell, argv, None, Containerizer.DOCKER)
    desk.run_task(command("u", command=msgspec.structs.replace(asked, user="bob"), container=container))
    assert desk.one(LaunchContainer).user == "bob"


@pytest.mark.parametrize(("kind", "enabled"), [(ContainerType.DOCKER, "mesos"), (ContainerType.MESOS, "docker")])
def test_a_containerizer_that_is_switched_off_runs_nothing(kind: ContainerType, enabled: str) -> None:
    desk = running(msgspec.structs.replace(CONFIG, containerizers=(enabled,)))
    docker = DockerInfo("i") if kind is ContainerType.DOCKER else None
    assert desk.run_task(command("t", container=ContainerInfo(kind, docker=docker))) == ""
    (status,) = desk.updates()
    assert f"--containerizers={enabled}" in str(status.message)
