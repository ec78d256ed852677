"""kill -9 of agent and launcher at any moment: no task, exit status, update or check is lost or doubled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster import Cluster
from tests.e2e.outliving import outlive
from tests.e2e.processes import left

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("count", "agents", "launchers"), [(20, 4, 1), pytest.param(200, 20, 5, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_processes_outlive_agent_and_launcher(start_cluster: Callable[..., Cluster], count: int, agents: int, launchers: int) -> None:
    cluster = start_cluster(agents=1, only="master,agent", environ={"MESETA_RESOURCES": "cpus:64;mem:16000"})
    outlive(cluster, count, agents, launchers)
    cluster.down()
    assert not left(cluster)
