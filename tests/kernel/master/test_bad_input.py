"""What operators may not ask for about quotas, weights, reservations and volumes: refused whole over HTTP, with the API's status and a text
that names the field, the value and what is allowed; nothing has changed, nothing is written."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from kernel.master import views
from kernel.wire import operator
from kernel.wire.operator import QuotaConfig, WeightInfo
from kernel.wire.values import Scalar
from tests.builders import at, create, launch, reserve, reserved, volume
from tests.kernel.master.edge import edge, run
from tests.kernel.master.test_operations import Stage, used_by

API, FORM = "/api/v1", "application/x-www-form-urlencoded"
AGENT = "M-S0"


def stage() -> Stage:
    """An agent with 4 cpus; of one that is reserved for "eng" a task lives, and a volume of it is there. "eng" may have 3 cpus."""
    c = Stage()
    used = reserved("cpus:1", "eng")
    c.operate(reserve(*used), reserve(*reserved("disk:100", "eng")), create(volume("v", 100, "eng")))
    c.accept(launch(used_by(used, "t", c.aid)))
    c.give(operator.UpdateQuota(True, (QuotaConfig("eng", {"cpus": Scalar(2.0)}, {"cpus": Scalar(3.0)}),)))
    c.give(operator.UpdateWeights((WeightInfo(2.0, "eng"),)))
    return c


def quota(role: str = "ops", guarantee: Any = None, limit: Any = None, **amounts: Any) -> dict[str, Any]:
    """Of two of which the first is right: it must not be set either."""

    def config(role: str, guarantees: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
        parts = {"guarantees": guarantees, "limits": limits}
        return {"role": role, **{part: {name: {"value": value} for name, value in given.items()} for part, given in parts.items()}}

    limits = amounts or ({} if limit is None else {"cpus": limit})
    configs = [config("good", {}, {"cpus": 1}), config(role, {} if guarantee is None else {"cpus": guarantee}, limits)]
    return {"type": "UPDATE_QUOTA", "update_quota": {"force": False, "quota_configs": configs}}


def weights(weight: Any, role: str = "ops") -> dict[str, Any]:
    return {"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "good", "weight": 3}, {"role": role, "weight": weight}]}}


def resource(value: Any, role: str = "eng", name: str = "cpus", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "reservations": [{"type": "DYNAMIC", "role": role}], **more}


def reserving(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RESERVE_RESOURCES", "reserve_resources": {"agent_id": {"value": AGENT}, "resources": resources}}


def unreserving(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"type": "UNRESERVE_RESOURCES", "unreserve_resources": {"agent_id": {"value": AGENT}, "resources": resources}}


def creating(*ids: str, role: str = "eng", size: Any = 1) -> dict[str, Any]:
    disks = [{"persistence": {"id": name}, "volume": {"mode": "RW", "container_path": "data"}} for name in ids]
    volumes = [resource(size, role, "disk", disk=disk) for disk in disks]
    return {"type": "CREATE_VOLUMES", "create_volumes": {"agent_id": {"value": AGENT}, "volumes": volumes}}


CALLS: list[tuple[str, dict[str, Any], int, str]] = [
    # Amounts.
    ("a negative limit", quota(limit=-1), 400, r"quota_configs\[1\]\.limits\.cpus: -1.0 is not allowed; a number from 0 to \d+ is"),
    ("a negative guarantee", quota(guarantee=-0.5), 400, r"quota_configs\[1\]\.guarantees\.cpus: -0.5 is not allowed; a number from 0"),
    ("infinity", quota(limit="Infinity"), 400, r"limits\.cpus: inf is not allowed; a number from 0 to"),
    ("no number", quota(limit="NaN"), 400, r"limits\.cpus\.value: expected a number, got a string, 'NaN'"),
    ("more digits than thousandths", quota(limit=1.23456), 400, r"limits\.cpus: 1.23456 is too precise; thousandths are the least"),
    ("a huge limit", quota(limit=1e30), 400, r"limits\.cpus: 1e\+30 is not allowed; a number from 0 to 10+ is"),
    (
        "an unknown resource",
        quota(widgets=1),
        400,
        r"limits\.widgets of 'ops': no agent has such a scalar resource; allowed are cpus, disk",
    ),
    ("what is no resource's name", quota(**{"a b": 1}), 400, r"quota_configs\[1\]\.limits: 'a b' is not the name of a resource"),
    ("half a gpu", quota(gpus=0.5), 400, r"limits\.gpus: 0.5 is not allowed; gpus are whole numbers"),
    ("a negative reservation", reserving(resource(-1)), 400, r"reserve\.resources\[0\].*-1"),
    ("a huge reservation", reserving(resource(1e30)), 400, r"reserve\.resources\[0\].*1e\+30"),
    (
        "more than there is",
        reserving(resource(50)),
        409,
        r"^reserve\.resources: \{cpus:50\} is needed, \{cpus:3\} is unused on agent 'M-S0'$",
    ),
    (
        "what the agent has not",
        reserving(resource(1, name="widgets")),
        409,
        r"^reserve\.resources: \{widgets:1\} is needed, none of that is unused",
    ),
    ("a reservation of nothing", reserving(resource(0)), 400, r"^reserve\.resources: all of it is 0; amounts must be above 0"),
    ("a negative volume", creating("w", size=-1), 400, r"create\.volumes\[0\].*-1"),
    # Quotas that do not fit.
    ("a limit below the guarantee", quota(guarantee=2, limit=1), 400, r"guarantees\.cpus: 2 is above the limit of 'ops', 1"),
    ("a child's limit above its parent's", quota("eng/a", limit=4), 400, r"limits\.cpus of 'eng/a': 4 is above 3, the limit of 'eng'"),
    ("a child's guarantee above its parent's", quota("eng/a", guarantee=3, limit=3), 400, r"guarantees\.cpus of 'eng': 2 is below 3"),
    ("more than the cluster has", quota(guarantee=40), 400, r"guarantees\.cpus: .*all agents have 4 \(force"),
    ("less than is used", quota("eng", limit=0.5), 400, r"'?eng'?.*0\.5"),
    # Weights.
    ("a weight of zero", weights(0), 400, r"weight_infos\[1\]\.weight: 0.0 is not allowed; a number above 0, from 0.001 to 1000000, is"),
    ("a negative weight", weights(-2), 400, r"weight_infos\[1\]\.weight: -2.0 is not allowed"),
    ("a huge weight", weights(1e300), 400, r"weight_infos\[1\]\.weight: 1e\+300 is not allowed"),
    ("an infinite weight", weights("Infinity"), 400, r"weight_infos\[1\]\.weight: inf is not allowed"),
    ("a weight that is no number", weights("NaN"), 400, r"weight_infos\[1\]\.weight: expected a number, got a string, 'NaN'"),
    # Roles.
    *(
        (f"{what} for the role {role!r}", call, 400, rf"role: .*{re.escape(repr(role))}.* must not")
        for role in ("a b", "/a", "a//b", "-a", "..")
        for what, call in (
            ("a quota", quota(role, limit=1)),
            ("a weight", weights(1, role)),
            ("a reservation", reserving(resource(1, role))),
        )
    ),
    (
        "a reservation for *",
        reserving(resource(1, "*")),
        400,
        r"reserve\.resources\[0\]\.reservations\[0\]\.role: .*'\*' cannot be reserved",
    ),
    ("a volume of *", creating("w", role="*"), 400, r"create\.volumes\[0\]\.reservations\[0\]\.role: .*'\*' cannot be reserved"),
    # What is used, or there already.
    (
        "unreserving what a task uses",
        unreserving(resource(1)),
        409,
        r"^unreserve\.resources: \{cpus.*eng.*:1\} is needed, none of that is unused on agent 'M-S0'$",
    ),
    ("unreserving what is not reserved", unreserving(resource(1, "ops")), 409, r"ops.* is needed"),
    ("a volume that is there", creating("v"), 400, r"persistence\.id: role 'eng' has a volume 'v' here already"),
    ("a volume twice", creating("w", "w"), 400, r"create\.volumes: the volume 'w' is named twice"),
    ("a volume with a slash", creating("a/b"), 400, r"persistence\.id: 'a/b' contains a slash"),
]


def seen(c: Stage) -> Any:
    """All that could have changed."""
    told = [json.loads(b"".join(views.render(c.core.state, name, {}))) for name in ("state", "roles", "quota", "weights")]
    return told, dict(c.stored), c.core.state.operation_number


@pytest.mark.parametrize(("call", "status", "text"), [case[1:] for case in CALLS], ids=[case[0] for case in CALLS])
def test_it_is_refused_whole(call: dict[str, Any], status: int, text: str) -> None:
    refused("POST", API, json.dumps(call), "application/json", status, text)


@pytest.mark.parametrize(
    ("method", "path", "body", "media", "status", "text"),
    [
        ("POST", "/quota", json.dumps({"role": "ops", "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": -1}}]}),
         "application/json", 400, r"guarantee\[0\]\.cpus: -1.0 is not allowed"),
        ("PUT", "/weights", '[{"role":"ops","weight":0}]', "application/json", 400, r"weight: 0.0 is not allowed"),
        ("PUT", "/weights", '[{"role":"ops","weight":NaN}]', "application/json", 400, r"not valid JSON"),
        ("POST", "/reserve", urlencode({"slaveId": AGENT, "resources": json.dumps([resource(-1)])}), FORM, 400, r"resources\[0\].*-1"),
        ("POST", "/reserve", urlencode({"slaveId": AGENT, "resources": json.dumps([resource(1, "*")])}), FORM, 400, r"'\*' cannot be"),
        ("POST", "/unreserve", urlencode({"slaveId": AGENT, "resources": json.dumps([resource(1)])}), FORM, 409, r"is unused on agent"),
    ],
)  # fmt: skip
def test_so_it_is_at_the_older_endpoints(method: str, path: str, body: str, media: str, status: int, text: str) -> None:
    refused(method, path, body, media, status, text)


def refused(method: str, path: str, body: str, media: str, status: int, text: str) -> None:
    c = stage()
    before = seen(c)

    async def test() -> None:
        async with (
            edge(lambda message: c.core.receive(message, at(c.time_s))) as master,
            master.client.request(method, master.url + path, data=body, headers={"Content-Type": media}) as answer,
        ):
            told = await answer.text()
            assert answer.status == status, told
            assert re.search(text, told), told

    run(test)
    assert seen(c) == before
