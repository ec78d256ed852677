"""How those who only want to know the master read its address: a fixed one, or an ensemble that knows."""

from __future__ import annotations

from kernel.election.election import Detector
from kernel.election.standalone import FixedDetector, parse_address

ZK = "zk://"
ZK_SESSION_S = 10.0


def find_master(master: str, session_s: float = ZK_SESSION_S) -> Detector:
    """Return who tells where the leading master is. master: `host:port`, `http://host:port`, or `zk://...` as in
    `kernel.zookeeper.parse_url`; for the latter there must be a running event loop. Raises ConfigError."""
    if not master.startswith(ZK):
        return FixedDetector(parse_address(master))
    from kernel.election.zookeeper import ZookeeperDetector  # kazoo is only for those who have an ensemble.
    from kernel.zookeeper import parse_url

    return ZookeeperDetector(parse_url(master), session_s)
