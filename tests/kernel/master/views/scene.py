"""A small cluster with something of everything, as views show it."""

from __future__ import annotations

import json
from typing import Any

from kernel.master import views
from kernel.wire.attributes import parse_attributes
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import ContainerID
from kernel.wire.task import (
    CommandInfo,
    ContainerStatus,
    DiscoveryInfo,
    Environment,
    Label,
    Labels,
    NetworkInfo,
    Secret,
    SecretType,
    SecretValue,
    TaskState,
    Variable,
    VariableType,
    Visibility,
)
from kernel.wire.task import IPAddress as IP
from tests.builders import accept, executor, framework_info, register, task
from tests.kernel.master.conductor import Conductor

WALL_S = 1_700_000_000.0
LABELS = Labels((Label("tier", "front"), Label("bare")))
PASSWORD = CommandInfo(
    value="run-executor",
    environment=Environment((Variable("PASSWORD", VariableType.SECRET, secret=Secret(SecretType.VALUE, value=SecretValue(b"hunter2"))),)),
)


def show(conductor: Conductor, name: str, **query: str) -> Any:
    """A view, decoded."""
    return json.loads(b"".join(views.render(conductor.core.state, name, query)))


def cluster() -> Conductor:
    """Framework M-0000 "web" in eng/web on agent M-S0: task "site" runs, task "job" waits in executor "x", both on one
    offer; agent M-S1 is offered whole. Times are WALL_S, the update of "site" one second later."""
    c = Conductor()
    info = framework_info(
        "web",
        FrameworkCapability.MULTI_ROLE,
        FrameworkCapability.PARTITION_AWARE,
        FrameworkCapability.RESERVATION_REFINEMENT,
        roles=("eng/web",),
        hostname="sched",
        webui_url="http://sched/",
        principal="p",
        failover_timeout=3600.0,
        labels=LABELS,
    )
    fid = c.subscribe(info=info)
    attributes = parse_attributes("rack:r1;size:2.5;lanes:[1-3]")
    aid = c.agent(1, register("1", "cpus:4;mem:4096;disk:1000;ports:[31000-31009]", attributes=attributes))
    (offer,) = c.offers()
    site = task(
        "site",
        aid,
        "cpus:1;mem:64;ports:[31000-31001]",
        labels=LABELS,
        discovery=DiscoveryInfo(Visibility.CLUSTER, name="site"),
        command=CommandInfo(value="serve", user="www"),
    )
    c.call(fid, accept([offer.id.value], site, task("job", aid, executor=executor("x", command=PASSWORD, labels=LABELS))))
    c.wait(1.0)
    status = ContainerStatus(ContainerID("C"), (NetworkInfo(ip_addresses=(IP(ip_address="10.0.0.1"),)),), executor_pid=7)
    c.update(1, fid, "site", TaskState.TASK_RUNNING, healthy=True, container_status=status)
    c.agent(2, register("2", "cpus:2;mem:1024"))
    return c
