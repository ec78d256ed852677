"""What an operator may say of lending slack and taking it back. Values only; docs/decisions/oversubscription.md says why they are so."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from kernel.errors import CallError, ConfigError
from kernel.wire.resources import Key, Resources, ValueType

NOOP, FIXED, USAGE, LOAD = "noop", "fixed", "usage", "load"
PARAMETERS = "--resource-estimator-parameters"

Part = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0)]


class EstimatorParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """resources: what `fixed` lends, such as `cpus:4;mem:1024`. Of `usage`: share, how much of what tasks were given is lent at most;
    margin, by how much more than they used at most they may use; window_s, how long it is remembered what they used; warm_up_s, how
    long a task is looked at before anything of its is lent; memory, whether memory is lent, too."""

    resources: str = ""
    share: Part = 0.5
    margin: Annotated[float, Meta(ge=0)] = 0.1
    window_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    warm_up_s: Seconds = 60.0
    memory: bool = False


class ControllerParameters(Struct, frozen=True, forbid_unknown_fields=True):
    """Of `load`, as in Mesos: load_threshold_5min, load_threshold_15min, the load average above which all that is lent is taken back
    (None: any is fine). Of `usage`: busy, the part of its cpus in use from which the agent counts as busy; patience, how many
    measurements in a row must find too little left; memory_least, the part of the machine's memory that is to be available. Of both:
    calm_s, for how long nothing is lent after something was taken back."""

    load_threshold_5min: Annotated[float, Meta(ge=0)] | None = None
    load_threshold_15min: Annotated[float, Meta(ge=0)] | None = None
    busy: Part = 0.9
    patience: Annotated[int, Meta(ge=1, le=1000)] = 2
    memory_least: Part = 0.05
    calm_s: Seconds = 60.0


def controller_kind(estimator: str, controller: str) -> str:
    """Who takes back. Unless an operator says otherwise, whoever lends also takes back."""
    return controller or (NOOP if estimator == NOOP else USAGE)


def fixed_slack(estimator: str, parameters: EstimatorParameters) -> Resources:
    """What the estimator `fixed` lends; nothing for another one. Raises ConfigError."""
    if estimator != FIXED:
        if parameters.resources:
            raise ConfigError(f"{PARAMETERS}: resources: only the estimator {FIXED} lends what it is told")
        return Resources()
    try:
        given = Resources.parse(parameters.resources, field=f"{PARAMETERS}: resources")
    except CallError as error:
        raise ConfigError(str(error)) from error
    if not given:
        raise ConfigError(f"{PARAMETERS}: resources: the estimator {FIXED} needs what to lend, such as `cpus:4;mem:1024`")
    for key in given.other or ():
        if key != Key(key.name) or key.kind is not ValueType.SCALAR:
            raise ConfigError(f"{PARAMETERS}: resources: {key.name}: only scalars that are reserved for nobody can be lent")
    return as_slack(given.scalars())


def as_slack(amounts: dict[str, int]) -> Resources:
    """Amounts in thousandths by name, as revocable resources."""
    return Resources.made_of((Key(name, revocable=True), amount) for name, amount in amounts.items())
