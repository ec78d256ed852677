"""The objects that older endpoints share."""

from __future__ import annotations

from kernel.wire.legacy import without_secrets
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

VALUE = Secret(SecretType.VALUE, value=SecretValue(b"hunter2"))
REFERENCE = Secret(SecretType.REFERENCE, reference=SecretReference("vault", "key"))


class TestSecrets:
    def test_lose_their_values_wherever_they_are(self):
        variables = (Variable("A", value="plain"), Variable("B", VariableType.SECRET, secret=VALUE))
        assert without_secrets(CommandInfo(environment=Environment(variables))) == CommandInfo(
            environment=Environment((variables[0], Variable("B", VariableType.SECRET, secret=Secret(SecretType.VALUE))))
        )
        volume = Volume(VolumeMode.RO, "/etc/key", source=VolumeSource(VolumeSourceType.SECRET, secret=VALUE))
        shown = without_secrets(ContainerInfo(ContainerType.MESOS, volumes=(volume,)))
        assert shown.volumes[0].source == VolumeSource(VolumeSourceType.SECRET, secret=Secret(SecretType.VALUE))

    def test_that_are_only_named_stay(self):
        command = CommandInfo(environment=Environment((Variable("A", VariableType.SECRET, secret=REFERENCE),)))
        assert without_secrets(command) is command

    def test_of_nothing_are_nothing(self):
        assert without_secrets(None) is None
