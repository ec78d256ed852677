"""What is refused of quotas and weights: the field, the value and what is allowed are named (spec: mesos-v1, 6.4, 7.4 and 13.4)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from kernel.errors import CallError, Conflict
from kernel.master import quota_validation as v
from kernel.master.allocator import Quota
from kernel.wire.operator import QuotaConfig, WeightInfo
from kernel.wire.resources import Resources
from kernel.wire.values import Scalar
from tests.builders import resources


def config(role: str = "eng", guarantees: dict[str, float] | None = None, limits: dict[str, float] | None = None) -> QuotaConfig:
    return QuotaConfig(role, *({name: Scalar(value) for name, value in (amounts or {}).items()} for amounts in (guarantees, limits)))


def quota(guarantees: dict[str, int] | None = None, limits: dict[str, int] | None = None) -> Quota:
    return Quota(*({name: value * 1000 for name, value in (amounts or {}).items()} for amounts in (guarantees, limits)))


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        ([config("")], "quota_configs[0].role: must be set"),
        ([config("a//b")], "quota_configs[0].role: the role 'a//b'"),
        ([config("-a")], "must not start with '-'"),
        ([config("a b")], "white space"),
        ([config("a/../b")], "'..' as a component"),
        ([config(), config()], "quota_configs[1].role: 'eng' appears twice"),
        ([config("ops")], "quota_configs[0].role: 'ops' is not one of this master's roles (eng)"),
        ([config(limits={"cpus": -1})], "quota_configs[0].limits.cpus: -1 is not allowed; a number from 0 to 1000000000000 is"),
        ([config(limits={"cpus": math.nan})], "quota_configs[0].limits.cpus: nan is not allowed"),
        ([config(limits={"cpus": math.inf})], "inf is not allowed"),
        ([config("eng", {"cpus": 1e13})], "quota_configs[0].guarantees.cpus: 10000000000000.0 is not allowed"),
        ([config("eng", {"mem": 2.0**41})], "a number from 0 to 1099511627776 is"),
        ([config("eng", {"disk": 2.0**41})], "a number from 0 to 1099511627776 is"),
        ([config("eng", {"cpus": 0.0005})], "quota_configs[0].guarantees.cpus: 0.0005 is too precise; thousandths are the least"),
        ([config("eng", {"cpus": 1.2345})], "too precise"),
        ([config("eng", {"gpus": 0.5})], "gpus are whole numbers"),
        ([config("eng", {"": 1})], "'' is not the name of a resource"),
        ([config("eng", {"cpus;mem": 1})], "is not the name of a resource"),
        ([config("eng", {"cpus": 2}, {"cpus": 1.5})], "quota_configs[0].guarantees.cpus: 2 is above the limit of 'eng', 1.5"),
    ],
)
def test_what_is_wrong_with_one_is_told(configs: list[QuotaConfig], text: str) -> None:
    with pytest.raises(CallError) as error:
        v.quotas_of(configs, {"eng"} if configs[0].role in ("eng", "ops") else None)
    assert text in str(error.value)


def test_thousandths_are_exact() -> None:
    for value in (0.001, 0.1, 1.001, 999_999_999.999, 4096.0, 1e12):
        assert v.thousandths(value, "cpus", "f") == round(value * 1000)
    assert v.quotas_of([config("*", {"cpus": 0}, {"cpus": 0, "mem": 1.5})], None) == {"*": Quota({}, {"cpus": 0, "mem": 1500})}


@pytest.mark.parametrize(
    ("infos", "text"),
    [
        ([WeightInfo(0.0, "a")], "weight_infos[0].weight: 0.0 is not allowed; a number above 0, from 0.001 to 1000000, is"),
        ([WeightInfo(1e308, "a")], "weight_infos[0].weight: 1e+308 is not allowed"),
        ([WeightInfo(1e-308, "a")], "weight_infos[0].weight: 1e-308 is not allowed"),
        ([WeightInfo(-1.5, "a")], "weight_infos[0].weight: -1.5 is not allowed"),
        ([WeightInfo(math.nan, "a")], "nan is not allowed"),
        ([WeightInfo(math.inf, "a")], "inf is not allowed"),
        ([WeightInfo(1.0)], "weight_infos[0].role: must be set"),
        ([WeightInfo(1.0, "a"), WeightInfo(1.0, "/b")], "weight_infos[1].role"),
        ([WeightInfo(1.0, "a"), WeightInfo(1.0, "a")], "weight_infos[1].role: 'a' appears twice"),
        ([WeightInfo(1.0, "x")], "'x' is not one of this master's roles (a)"),
    ],
)
def test_wrong_weights_are_told(infos: list[WeightInfo], text: str) -> None:
    """ZeroWeight, NegativeWeight, MissingRole, UnknownRole."""
    with pytest.raises(CallError) as error:
        v.weights_of(infos, {"a"} if any(info.role == "x" for info in infos) else None)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ("", "guarantee: must name at least one resource"),
        ("ports:[1-2]", "guarantee[0]: 'ports' is not a scalar"),
        ("cpus(eng):2", "guarantee[0]: must not be reserved"),
    ],
)
def test_what_is_wrong_with_the_older_form_is_told(parts: str, text: str) -> None:
    """InvalidSetRequest, SetRequestWithInvalidData."""
    with pytest.raises(CallError) as error:
        v.legacy_quota(resources(parts) if parts else ())
    assert text in str(error.value)


def test_the_older_form_limits_to_what_it_guarantees() -> None:
    assert v.legacy_quota(Resources.parse("cpus:2;mem:100").messages()) == quota({"cpus": 2, "mem": 100}, {"cpus": 2, "mem": 100})
    with pytest.raises(CallError, match=r"guarantee\[1\].name: 'cpus' appears twice"):
        v.legacy_quota(Resources.parse("cpus:2").messages() * 2)


@pytest.mark.parametrize(
    ("quotas", "text"),
    [
        ({"a": quota({}, {"cpus": 2}), "a/b": quota({}, {"cpus": 3})}, "limits.cpus of 'a/b': 3 is above 2, the limit of 'a'"),
        ({"a": quota({}, {"cpus": 2}), "a/b/c": quota({}, {"cpus": 3})}, "limits.cpus of 'a/b/c': 3 is above 2, the limit of 'a'"),
        ({"a": quota({"cpus": 2}), "a/b": quota({"cpus": 1}), "a/c": quota({"cpus": 2})}, "guarantees.cpus of 'a': 2 is below 3"),
        ({"a": quota({"cpus": 2}), "a/b/x": quota({"cpus": 1}), "a/c": quota({"cpus": 2})}, "guarantees.cpus of 'a': 2 is below 3"),
        ({"a": quota({}, {"cpus": 2}), "a/b": quota({"cpus": 1}), "a/c": quota({"cpus": 2})}, "limits.cpus of 'a': 2 is below 3"),
        ({"a": quota({"cpus": 2}), "a/b": quota({}), "a/b/c": quota({"cpus": 3})}, "guarantees.cpus of 'a': 2 is below 3"),
        ({"a": quota({}, {"cpus": 0}), "a/b": quota({"cpus": 1})}, "limits.cpus of 'a': 0 is below 1"),
    ],
)
def test_roles_below_are_within_those_above(quotas: dict[str, Quota], text: str) -> None:
    with pytest.raises(CallError) as error:
        v.check_hierarchy(quotas)
    assert text in str(error.value)


def test_what_fits_is_allowed() -> None:
    v.check_hierarchy(
        {
            "a": quota({"cpus": 3}, {"cpus": 8}),
            "a/b": quota({"cpus": 1}, {"cpus": 8}),
            "a/c": quota({"cpus": 2, "mem": 50}),
            "ab": quota({"cpus": 100}),
            "z/y/x": quota({"cpus": 1}, {"cpus": 1}),
        }
    )


@pytest.mark.parametrize(
    ("before", "after", "fits"),
    [
        ({}, {"a": {"cpus": 4}}, True),
        ({}, {"a": {"cpus": 5}}, False),
        ({"a": {"cpus": 3}}, {"a": {"cpus": 3}, "b": {"cpus": 2}}, False),
        ({"a": {"cpus": 9}}, {"a": {"cpus": 6}}, True),  # Less than before: the way out must be open.
        ({}, {"a": {"cpus": 4}, "a/b": {"cpus": 4}}, True),
        ({}, {"a/b": {"cpus": 3}, "a/c": {"cpus": 2}}, False),
        ({}, {"a": {"mem": 1}}, False),
    ],
)
def test_guarantees_fit_the_cluster(before: dict[str, Any], after: dict[str, Any], fits: bool) -> None:
    """InsufficientResources, SingleAgent and MultipleAgents: the older call answers with a conflict."""
    told = [{role: quota(amounts) for role, amounts in each.items()} for each in (before, after)]
    if fits:
        v.check_capacity(*told, {"cpus": 4000})
        return
    with pytest.raises(CallError, match=r"would be guaranteed in all, and all agents have (4|0) \(force"):
        v.check_capacity(*told, {"cpus": 4000})
    with pytest.raises(Conflict):
        v.check_capacity(*told, {"cpus": 4000}, legacy=True)


def test_limits_leave_room_for_what_is_used() -> None:
    """ValidateLimitAgainstConsumed."""
    used = {"a": {"cpus": 3000}}
    v.check_consumed({}, {"a": quota({}, {"cpus": 3})}, used)
    v.check_consumed({"a": quota({}, {"cpus": 1})}, {"a": quota({}, {"cpus": 2})}, used)  # It was forced before; it is raised now.
    for before in ({}, {"a": quota({}, {"cpus": 4})}):
        with pytest.raises(CallError, match=r"limits.cpus of 'a': 2 is below 3"):
            v.check_consumed(before, {"a": quota({}, {"cpus": 2})}, used)


def test_resources_are_known() -> None:
    v.check_known({"a": quota({"gpus": 1}, {"bandwidth": 1})}, {"bandwidth": 1})
    with pytest.raises(CallError, match="no agent has such a scalar resource; allowed are bandwidth, cpus, disk, gpus, mem"):
        v.check_known({"a": quota({}, {"cpu": 1})}, {"bandwidth": 1})
