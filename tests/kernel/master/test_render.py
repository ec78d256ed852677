"""The state as v1 messages."""

from __future__ import annotations

from kernel.master import render
from kernel.wire.resources import Resources
from kernel.wire.task import (
    CommandInfo,
    ContainerInfo,
    ContainerType,
    Environment,
    Secret,
    SecretReference,
    SecretType,
    SecretValue,
    Variable,
    VariableType,
    Volume,
    VolumeMode,
    VolumeSource,
    VolumeSourceType,
)
from tests.builders import accept, executor, register, task
from tests.kernel.master.conductor import Conductor

VALUE = Secret(SecretType.VALUE, value=SecretValue(b"hunter2"))
REFERENCE = Secret(SecretType.REFERENCE, reference=SecretReference("vault", "key"))


class TestSecrets:
    def test_lose_their_values_wherever_they_are(self):
        variables = (Variable("A", value="plain"), Variable("B", VariableType.SECRET, secret=VALUE))
        assert render.without_secrets(CommandInfo(environment=Environment(variables))) == CommandInfo(
            environment=Environment((variables[0], Variable("B", VariableType.SECRET, secret=Secret(SecretType.VALUE))))
        )
        volume = Volume(VolumeMode.RO, "/etc/key", source=VolumeSource(VolumeSourceType.SECRET, secret=VALUE))
        shown = render.without_secrets(ContainerInfo(ContainerType.MESOS, volumes=(volume,)))
        assert shown.volumes[0].source == VolumeSource(VolumeSourceType.SECRET, secret=Secret(SecretType.VALUE))

    def test_that_are_only_named_stay(self):
        command = CommandInfo(environment=Environment((Variable("A", VariableType.SECRET, secret=REFERENCE),)))
        assert render.without_secrets(command) is command

    def test_of_nothing_are_nothing(self):
        assert render.without_secrets(None) is None


class TestTaskUser:
    def test_is_the_commands_or_the_executors(self):
        assert render.task_user(task("t", "a", command=CommandInfo(user="www"))) == "www"
        assert render.task_user(task("t", "a", executor=executor("x", command=CommandInfo(user="ops")))) == "ops"
        assert render.task_user(task("t", "a")) is None


class TestUsedResources:
    def test_unite_ranges_and_sets_and_add_up_the_rest(self):
        c = Conductor()
        fid = c.subscribe()
        text = "cpus:4;mem:4096;ports:[1-9];nics:{a,b};tokens:8"
        for link in (1, 2):
            aid = c.agent(link, register(str(link), text))
            (offer,) = c.offers()
            c.call(fid, accept([offer.id.value], task(f"t{link}", aid, f"cpus:1;mem:32;ports:[{link}-{link + 1}];nics:{{a}};tokens:2")))
        framework = c.core.state.frameworks[fid]
        assert render.used_resources(framework) == Resources.parse("cpus:2;mem:64;ports:[1-3];nics:{a};tokens:4")
        assert render.offered_resources(framework) == Resources()
