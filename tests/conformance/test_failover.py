"""What a master that has just begun to lead still knows, and what it says of operations (spec: mesos-v1, 2.16, 13.5 and 13.7)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from kernel.errors import CallError
from kernel.master import effects as e
from kernel.master import views
from kernel.wire import operator, scheduler
from kernel.wire.agent import ShutdownFramework
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, OperationID
from kernel.wire.offer import OperationState
from tests.builders import accept_operations, framework_id, framework_info, register, reserve, reserved
from tests.kernel.master.conductor import Conductor

AID, FID = "M-S0", "M-0000"
AWAY = framework_info("f", failover_timeout=3600.0)


def led() -> Conductor:
    c = Conductor()
    c.subscribe(info=AWAY)
    c.agent()
    return c


def show(c: Conductor, name: str) -> Any:
    return json.loads(b"".join(views.render(c.core.state, name, {})))


def test_weights_are_recovered_from_the_registry() -> None:
    c = led()
    c.give(operator.UpdateWeights((operator.WeightInfo(2.5, "eng"),)))
    assert show(Conductor(c.stored, "M2"), "weights") == [{"role": "eng", "weight": 2.5}]


def test_a_framework_that_has_not_come_back_can_be_torn_down() -> None:
    later = Conductor(led().stored, "M2")
    later.give(e.TeardownFramework(FID))
    assert later.subscribe(info=framework_info("f", id=framework_id(FID))) == ""
    assert later.take("s")[-1].error.message == "Framework has been removed"
    later.agent(1, register("1", agent_id=AID, frameworks=(framework_info("f", id=framework_id(FID)),)))
    assert [message.framework_id for message in later.take(1) if isinstance(message, ShutdownFramework)] == [FID]


def test_tearing_down_what_nobody_knows_is_refused() -> None:
    with pytest.raises(CallError, match="framework_id"):
        led().give(e.TeardownFramework("nobody"))


def lost(c: Conductor) -> None:
    c.give(e.LinkClosed(1))
    c.later(700)


@pytest.mark.parametrize(
    ("happens", "agent_id", "state"),
    [
        (lambda c: None, AID, OperationState.OPERATION_UNKNOWN),
        (lost, AID, OperationState.OPERATION_UNREACHABLE),
        (lambda c: c.give(e.MarkAgentGone(AID)), AID, OperationState.OPERATION_GONE_BY_OPERATOR),
        (lambda c: None, "nobody", OperationState.OPERATION_UNKNOWN),
        (lambda c: None, None, OperationState.OPERATION_UNKNOWN),
    ],
    ids=["agent known", "agent unreachable", "agent marked gone", "agent unknown", "no agent named"],
)
def test_of_an_unknown_operation_is_told_what_is_known_of_its_agent(happens: Any, agent_id: str | None, state: OperationState) -> None:
    c = led()
    happens(c)
    c.take("s")
    wanted = scheduler.ReconcileOperation(OperationID("op"), AgentID(agent_id) if agent_id is not None else None)
    c.call(FID, scheduler.ReconcileOperations((wanted,)))
    (status,) = [event.update_operation_status.status for event in c.take("s") if event.update_operation_status is not None]
    assert (status.operation_id, status.state, status.uuid) == (OperationID("op"), state, None)


def test_operations_of_an_agent_that_is_marked_gone_are_told_so() -> None:
    c = Conductor()
    capable = (FrameworkCapability.MULTI_ROLE, FrameworkCapability.RESERVATION_REFINEMENT)
    fid = c.subscribe(info=framework_info("f", *capable, roles=("eng",), failover_timeout=3600.0))
    c.agent()
    (offer,) = c.offers()
    wanted = replace(reserve(*reserved("cpus:1", "eng")), id=OperationID("op"))
    c.call(fid, accept_operations([offer.id.value], wanted))
    c.take("s")
    c.give(e.MarkAgentGone(AID))
    (status,) = [event.update_operation_status.status for event in c.take("s") if event.update_operation_status is not None]
    assert (status.operation_id, status.state) == (OperationID("op"), OperationState.OPERATION_GONE_BY_OPERATOR)


def test_of_an_operation_on_an_agent_that_is_waited_for_is_told_that_it_is_recovering() -> None:
    later = Conductor(led().stored, "M2")
    later.subscribe(info=framework_info("f", id=framework_id(FID), failover_timeout=3600.0))
    later.take("s")
    later.call(FID, scheduler.ReconcileOperations((scheduler.ReconcileOperation(OperationID("op"), AgentID(AID)),)))
    (status,) = [event.update_operation_status.status for event in later.take("s")]
    assert status.state is OperationState.OPERATION_RECOVERING
