"""What a master remembers beyond its own life, and for how long (spec: mesos-v1, sections 0 and 13.5)."""

from __future__ import annotations

import msgspec
import pytest

from kernel.errors import StoreError
from kernel.mainloop import Persist
from kernel.master import agents, registry
from kernel.master import effects as e
from kernel.master.registry import AgentRecord, FrameworkRecord
from kernel.wire import scheduler
from kernel.wire.attributes import parse_attributes
from kernel.wire.framework import FrameworkCapability
from kernel.wire.ids import AgentID, TaskID
from kernel.wire.task import AgentInfo
from tests.builders import framework_id, framework_info, register, resources
from tests.kernel.master.conductor import Conductor

AGENT = AgentInfo("host", 5051, resources("cpus:4;ports:[1-9]"), parse_attributes("rack:r1;floor:2"), AgentID("M-S0"))
FRAMEWORK = framework_info("f", FrameworkCapability.MULTI_ROLE, roles=("a",), failover_timeout=9.0, id=framework_id("M-0000"))


def stored(*writes: Persist) -> list[tuple[str, bytes]]:
    return [(write.key, write.value) for write in writes if write.value is not None]


class TestRecords:
    def test_they_are_read_as_they_were_written(self) -> None:
        agent = AgentRecord(AGENT, "10.0.0.1", 1.5, unreachable_wall_s=2.5)
        framework = FrameworkRecord(FRAMEWORK, 3.5, removed_wall_s=4.5)
        found = registry.load(stored(registry.keep_agent("M-S0", agent), registry.keep_framework("M-0000", framework)))
        assert found.agents == {"M-S0": agent}
        assert found.frameworks == {"M-0000": framework}

    def test_forgetting_is_a_write_too(self) -> None:
        assert registry.forget_agent("M-S0") == Persist("agents/M-S0", None)
        assert registry.forget_framework("x") == Persist("frameworks/x", None)

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"info": 1}', b"\xff"])
    def test_one_that_cannot_be_read_stops_the_start(self, body: bytes) -> None:
        """A master that started without it would break what it promised."""
        with pytest.raises(StoreError, match="agents/M-S0"):
            registry.load([("agents/M-S0", body)])
        with pytest.raises(StoreError, match="frameworks/f"):
            registry.load([("frameworks/f", body)])

    def test_one_of_a_later_release_is_read_as_far_as_it_is_known(self) -> None:
        (write,) = stored(registry.keep_agent("M-S0", AgentRecord(AGENT, "10.0.0.1", 1.5)))
        later = msgspec.json.encode(msgspec.json.decode(write[1]) | {"drained": True})
        assert registry.load([("agents/M-S0", later), ("weights/a", b"2")]).agents["M-S0"].ip == "10.0.0.1"


class TestRemovedFrameworks:
    def test_their_ids_are_spent_in_the_next_master_too_and_they_are_shown(self) -> None:
        c = Conductor()
        fid = c.subscribe(info=framework_info("web"))
        c.call(fid, scheduler.Teardown())
        state = Conductor(c.stored, "M2").core.state
        assert fid in state.removed_ids
        assert state.completed[fid].info.name == "web"
        assert state.completed[fid].unregistered_wall_s == c.core.state.completed[fid].unregistered_wall_s

    def test_the_oldest_is_forgotten_when_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry, "REMOVED_MAX", 3)
        c = Conductor()
        for name in ("e", "d", "c", "b", "a"):
            c.later(1)
            c.subscribe(name, info=framework_info("f", id=framework_id(name)))
            c.give(e.StreamClosed(name))
        assert list(c.core.state.removed_ids) == ["c", "b", "a"]
        assert sorted(c.stored) == ["frameworks/a", "frameworks/b", "frameworks/c"]
        again = Conductor(c.stored, "M2")
        assert list(again.core.state.removed_ids) == ["c", "b", "a"]  # As they were removed, not by name.
        again.later(1)
        again.subscribe("s", info=framework_info("f", id=framework_id("x")))
        again.give(e.StreamClosed("s"))
        assert list(again.core.state.removed_ids) == ["b", "a", "x"]


class TestLostAgents:
    def lost(self, c: Conductor, *names: str) -> list[str]:
        """Agents that become unreachable one after the other; their ids."""
        ids = []
        for link, name in enumerate(names, 1):
            ids.append(c.agent(link, register(name)))
            c.later(10)
        return ids

    def test_one_unreachable_or_gone_stays_so_in_the_next_master(self) -> None:
        c = Conductor()
        first, second = self.lost(c, "a", "b")
        c.give(e.MarkAgentGone(first))
        state = Conductor(c.stored, "M2").core.state
        assert list(state.gone) == [first]
        assert list(state.unreachable) == [second]
        assert state.unreachable[second].wall_s == c.core.state.unreachable[second].wall_s
        assert not state.agents

    def test_the_oldest_are_forgotten_when_there_are_too_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """RegistryGcByCount."""
        monkeypatch.setattr(agents, "REMEMBERED_MAX", 1)
        c = Conductor()
        _, second, third = self.lost(c, "z", "y", "x")
        c.give(e.MarkAgentGone(third))
        c.later(agents.FORGET_S)
        assert list(c.core.state.unreachable) == [second]
        assert list(c.core.state.gone) == [third]
        assert sorted(c.stored) == [f"agents/{second}", f"agents/{third}"]

    def test_they_are_forgotten_after_two_weeks_and_their_tasks_are_unknown(self) -> None:
        """RegistryGcByAge."""
        c = Conductor()
        fid = c.subscribe(info=framework_info("f", FrameworkCapability.PARTITION_AWARE))
        first, second = self.lost(c, "a", "b")
        c.give(e.MarkAgentGone(second))
        wanted = scheduler.Reconcile((scheduler.ReconcileTask(TaskID("t"), AgentID(first)),))
        c.later(agents.REMEMBERED_S - 3600)
        c.take("s")
        c.call(fid, wanted)
        assert [status.state.value for status in c.statuses()] == ["TASK_UNREACHABLE"]
        c.later(3600 + agents.FORGET_S)
        c.call(fid, wanted)
        assert [status.state.value for status in c.statuses()] == ["TASK_UNKNOWN"]
        assert c.stored.keys() == {f"frameworks/{fid}"}
