"""Quotas and weights in the master: in force, in the registry, after a failover (spec: mesos-v1, 4.1, 7.1, 7.4, 13.4 and 13.7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernel.errors import CallError, Conflict
from kernel.master import effects as e
from kernel.master import views
from kernel.wire import operator, scheduler
from kernel.wire.operator import QuotaConfig, WeightInfo
from kernel.wire.resources import Resources
from kernel.wire.task import TaskState
from kernel.wire.values import Scalar
from tests.builders import accept, framework_info, register, resources, task
from tests.kernel.master import invariants
from tests.kernel.master.conductor import Conductor


def config(role: str, guarantee: str = "", limit: str = "") -> QuotaConfig:
    def amounts(text: str) -> dict[str, Scalar]:
        return {name: Scalar(float(amount)) for name, amount in (part.split(":") for part in text.split(";") if part)}

    return QuotaConfig(role, amounts(guarantee), amounts(limit))


def update(*configs: QuotaConfig, force: bool = False, dry_run: bool = False) -> operator.UpdateQuota:
    return operator.UpdateQuota(force, configs, dry_run)


def legacy(role: str, guarantee: str, force: bool = False) -> operator.SetQuota:
    return operator.SetQuota(operator.QuotaRequest(force, role, resources(guarantee)))


def show(c: Conductor, name: str) -> Any:
    return json.loads(b"".join(views.render(c.core.state, name, {})))


def roles(c: Conductor) -> dict[str, Any]:
    return {role["name"]: role for role in show(c, "roles")["roles"]}


def kept(c: Conductor) -> dict[str, Any]:
    return {key: json.loads(body) for key, body in c.stored.items() if key.startswith(("quotas/", "weights/"))}


def cluster(agents: int = 2, **config: Any) -> Conductor:
    """Agents of 4 cpus and 1024 mem each."""
    c = Conductor(**config)
    for link in range(1, agents + 1):
        c.agent(link, register(str(link), "cpus:4;mem:1024"))
    return c


class TestSetting:
    def test_quotas_are_written_and_told(self) -> None:
        c = cluster()
        c.give(update(config("eng", "cpus:1", "cpus:6;mem:0"), config("eng/batch", limit="cpus:2")))
        assert kept(c) == {
            "quotas/eng": {"guarantees": {"cpus": 1000}, "limits": {"cpus": 6000, "mem": 0}},
            "quotas/eng/batch": {"guarantees": {}, "limits": {"cpus": 2000}},
        }
        assert show(c, "get_quota")["get_quota"]["status"] == {
            "infos": [
                {"role": "eng", "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1.0}, "role": "*"}]},
                {"role": "eng/batch"},
            ],
            "configs": [
                {"role": "eng", "guarantees": {"cpus": {"value": 1.0}}, "limits": {"cpus": {"value": 6.0}, "mem": {"value": 0.0}}},
                {"role": "eng/batch", "limits": {"cpus": {"value": 2.0}}},
            ],
        }
        assert show(c, "quota") == show(c, "get_quota")["get_quota"]["status"]

    def test_one_that_says_nothing_is_told_until_it_is_removed_or_the_master_ends(self) -> None:
        c = cluster()
        c.give(update(config("eng", "cpus:1")))
        c.give(update(config("eng")))
        assert kept(c) == {}
        assert show(c, "quota")["configs"] == [{"role": "eng"}]
        with pytest.raises(CallError, match="'eng' has a quota already"):
            c.give(legacy("eng", "cpus:1"))
        assert show(Conductor(c.stored, "M2"), "quota") == {}
        c.give(operator.RemoveQuota("eng"))
        assert show(c, "quota") == {}

    def test_update_quota_multiple_roles_is_all_or_nothing(self) -> None:
        c = cluster()
        c.give(update(config("a", "cpus:2")))
        before = dict(c.stored)
        for wrong in (config("b", "cpus:7"), config("a/b", "cpus:3"), config("c", "cpus:2", "cpus:1"), config("d", limit="cpu:1")):
            with pytest.raises(CallError):
                c.give(update(config("z", "cpus:1"), wrong))
        assert c.stored == before
        assert show(c, "quota")["configs"] == [{"role": "a", "guarantees": {"cpus": {"value": 2.0}}}]

    def test_capacity_is_what_agents_have_not_what_is_free(self) -> None:
        """AvailableResourcesAfterRescinding; disconnected agents count, too."""
        c = cluster()
        c.subscribe(info=framework_info("f", role="other"))
        c.give(e.LinkClosed(2))
        c.give(update(config("a", "cpus:8")))
        with pytest.raises(CallError, match="9 would be guaranteed in all, and all agents have 8"):
            c.give(update(config("b", "cpus:1")))
        c.give(update(config("b", "cpus:1"), force=True))
        c.give(update(config("b", "cpus:0.5")))

    def test_a_limit_below_what_is_used_must_be_forced_and_ends_no_task(self) -> None:
        c = cluster(1)
        fid = c.subscribe(info=framework_info("f", role="eng/x"))
        offer = c.offers()[0]
        c.call(fid, accept([offer.id.value], task("t", offer.agent_id.value, "cpus:2;mem:100")))
        c.update(1, fid, "t", TaskState.TASK_RUNNING)
        with pytest.raises(CallError, match=r"limits.cpus of 'eng': 1 is below 2"):
            c.give(update(config("eng", limit="cpus:1")))
        c.give(update(config("eng", limit="cpus:1"), force=True))
        assert roles(c)["eng"]["quota"] == {
            "role": "eng",
            "guarantee": {},
            "limit": {"cpus": 1.0},
            "consumed": {"cpus": 2.0, "mem": 100.0},
        }
        assert c.core.state.frameworks[fid].live["TASK_RUNNING"] == 1
        invariants.check(c.core.state)

    def test_a_dry_run_changes_nothing(self) -> None:
        c = cluster()
        c.give(update(config("a", "cpus:2"), dry_run=True))
        assert kept(c) == {}
        assert show(c, "quota") == {}
        with pytest.raises(CallError):
            c.give(update(config("a", "cpus:20"), dry_run=True))

    def test_set_existing_quota_is_refused(self) -> None:
        c = cluster()
        c.give(legacy("eng", "cpus:2;mem:100"))
        assert kept(c) == {"quotas/eng": {"guarantees": {"cpus": 2000, "mem": 100000}, "limits": {"cpus": 2000, "mem": 100000}}}
        with pytest.raises(CallError, match="'eng' has a quota already"):
            c.give(legacy("eng", "cpus:1"))
        with pytest.raises(Conflict):
            c.give(legacy("b", "cpus:7"))
        c.give(legacy("b", "cpus:7", force=True))
        c.give(operator.RemoveQuota("b"))
        with pytest.raises(CallError, match="'b' has no quota"):
            c.give(operator.RemoveQuota("b"))

    def test_roles_not_allowed_are_refused(self) -> None:
        """SetForNonExistentRole, UnknownRole."""
        c = cluster(roles_allowed=("eng",))
        for call in (update(config("ops", "cpus:1")), legacy("ops", "cpus:1"), operator.UpdateWeights((WeightInfo(2.0, "ops"),))):
            with pytest.raises(CallError, match="'ops' is not one of this master's roles"):
                c.give(call)


class TestInForce:
    def test_offers_beyond_a_new_limit_are_rescinded(self) -> None:
        """RescindOffersEnforcingLimits."""
        c = cluster()
        c.subscribe(info=framework_info("f", role="eng"))
        assert len(c.offers()) == 2
        c.give(update(config("eng", limit="cpus:4;mem:1024")))
        events = c.take("s")
        assert [event.type for event in events] == ["RESCIND"]
        invariants.check(c.core.state)
        c.give(update(config("eng", limit="cpus:6;mem:1024")))
        assert [Resources.of(offer.resources).cpus for offer in c.offers()] == [2000]

    def test_offers_of_others_are_rescinded_for_a_new_guarantee(self) -> None:
        """RescindOffersForUpdateQuotaGuarantees."""
        c = cluster()
        c.subscribe(info=framework_info("f", role="other"))
        c.take("s")
        c.give(update(config("eng", "cpus:3;mem:1024")))
        assert [event.type for event in c.take("s")] == ["RESCIND", "OFFERS"]  # 1 of 4 cpus is not needed.
        c.subscribe("q", framework_info("Q", role="eng"))
        (offer,) = c.offers("q")
        assert Resources.of(offer.resources) == Resources.parse("cpus:3;mem:1024")

    def test_a_launch_counts_at_once(self) -> None:
        c = cluster()
        c.give(update(config("eng", limit="cpus:5;mem:1500")))
        fid = c.subscribe(info=framework_info("f", role="eng"))
        offers = c.offers()
        assert sum(Resources.of(offer.resources).cpus for offer in offers) == 5000
        c.call(fid, accept([offers[0].id.value], task("t", offers[0].agent_id.value, "cpus:3;mem:10")))
        c.wait(10)
        assert roles(c)["eng"]["quota"]["consumed"] == {"cpus": 3.0, "mem": 10.0}
        held = {name: roles(c)["eng"]["allocated"].get(name, 0) + roles(c)["eng"]["offered"].get(name, 0) for name in ("cpus", "mem")}
        assert held == {"cpus": 5.0, "mem": 1500.0}
        invariants.check(c.core.state)

    def test_a_guaranteed_request_is_served_first(self) -> None:
        c = cluster(1)
        c.give(update(config("eng", "cpus:3")))
        for stream, role in (("o", "other"), ("q", "eng")):
            fid = c.subscribe(stream, framework_info(stream, role=role))
            wanted = scheduler.ResourceRequest(resources=resources("cpus:1;mem:10"), count=4, role=role)
            c.call(fid, scheduler.Request((wanted,)), stream)
        assert sum(Resources.of(offer.resources).cpus for offer in c.offers("q")) == 3000
        assert sum(Resources.of(offer.resources).cpus for offer in c.offers("o")) == 1000


class TestShown:
    def test_roles_tell_quota_consumption_and_share(self) -> None:
        """RolesEndpointContainsQuota and ContainsConsumedQuota: reservations count; a role that only has a quota is known."""
        c = Conductor()
        c.agent(1, register("1", "cpus:4;mem:1024;cpus(eng/x):2"))
        c.give(update(config("eng", "cpus:1", "cpus:8"), config("idle", limit="mem:64")))
        assert roles(c)["eng"]["quota"] == {"role": "eng", "guarantee": {"cpus": 1.0}, "limit": {"cpus": 8.0}, "consumed": {"cpus": 2.0}}
        assert roles(c)["idle"]["quota"]["limit"] == {"mem": 64.0}
        fid = c.subscribe(info=framework_info("f", role="eng/x"))
        assert roles(c)["eng"]["share"] == 1.0
        c.call(fid, scheduler.Suppress())
        assert roles(c)["eng/x"]["suppressed"] == [fid]

    def test_quota_metrics(self) -> None:
        c = cluster(1)
        c.give(update(config("eng", "cpus:1", "cpus:3;mem:256")))
        fid = c.subscribe(info=framework_info("f", role="eng/x"))
        offer = c.offers()[0]
        c.call(fid, accept([offer.id.value], task("t", offer.agent_id.value, "cpus:2;mem:100")))
        numbers = {name: value for part in views.render(c.core.state, "metrics") for name, value in part.items() if "/quota/" in name}
        prefix = "allocator/mesos/quota/roles/eng/resources"
        found = {name.removeprefix(f"{prefix}/"): value for name, value in numbers.items() if name.startswith(prefix)}
        assert found == {
            "cpus/guarantee": 1.0,
            "cpus/limit": 3.0,
            "cpus/consumed": 2.0,
            "cpus/offered_or_allocated": 2.0,
            "cpus/headroom": 1.0,
            "cpus/unmet": 0.0,
            "mem/limit": 256.0,
            "mem/consumed": 100.0,
            "mem/offered_or_allocated": 100.0,
            "mem/headroom": 156.0,
        }
        assert numbers["allocator/mesos/quota/roles/eng/x/resources/cpus/consumed"] == 2.0


class TestWeights:
    def test_they_are_written_told_and_in_force_for_roles_nobody_is_in_too(self) -> None:
        c = cluster(0)
        c.give(operator.UpdateWeights((WeightInfo(2.0, "eng/x"), WeightInfo(0.5, "b"))))
        assert kept(c) == {"weights/eng/x": 2.0, "weights/b": 0.5}
        assert show(c, "weights") == [{"weight": 0.5, "role": "b"}, {"weight": 2.0, "role": "eng/x"}]
        assert show(c, "get_weights")["get_weights"]["weight_infos"] == show(c, "weights")
        assert {name: role["weight"] for name, role in roles(c).items()} == {"b": 0.5, "eng": 1.0, "eng/x": 2.0}
        again = Conductor(c.stored, "M2")
        assert show(again, "weights") == show(c, "weights")
        assert again.core.state.allocator._state.tree.weights == {"eng/x": 2.0, "b": 0.5}

    def test_every_offer_is_rescinded_if_a_framework_is_in_one_of_the_roles(self) -> None:
        c = cluster()
        c.subscribe("a", framework_info("a", role="eng/x"))
        c.subscribe("b", framework_info("b", role="ops"))
        c.take("a"), c.take("b")
        c.give(operator.UpdateWeights((WeightInfo(2.0, "nobody"),)))
        assert not c.take("a")
        c.give(operator.UpdateWeights((WeightInfo(2.0, "eng"),)))
        assert [event.type for event in c.take("a")][:2] == ["RESCIND", "RESCIND"]

    def test_a_wrong_one_changes_nothing(self) -> None:
        c = cluster(0)
        with pytest.raises(CallError, match=r"weight_infos\[1\].weight: 0.0"):
            c.give(operator.UpdateWeights((WeightInfo(2.0, "a"), WeightInfo(0.0, "b"))))
        assert kept(c) == {}
        assert show(c, "weights") == []


class TestAfterFailover:
    def lost(self, agents: int, **options: Any) -> Conductor:
        """A master that starts with these agents to wait for, and a quota."""
        c = cluster(agents)
        c.give(update(config("eng", "cpus:1", "cpus:4")))
        return Conductor(c.stored, "M2", **options)

    def back(self, c: Conductor, *links: int) -> None:
        for link in links:
            agent_id = next(agent_id for agent_id, agent in c.core.state.agents.items() if agent.info.hostname == f"host-{link}")
            c.agent(link, register(str(link), "cpus:4;mem:1024", agent_id=agent_id))

    def test_quotas_are_recovered(self) -> None:
        assert show(self.lost(1), "quota")["configs"] == [
            {"role": "eng", "guarantees": {"cpus": {"value": 1.0}}, "limits": {"cpus": {"value": 4.0}}}
        ]

    def test_nothing_is_offered_until_most_agents_are_back(self) -> None:
        c = self.lost(5)
        c.subscribe(info=framework_info("f", role="other"))
        self.back(c, 1, 2, 3)
        assert c.offers() == []
        self.back(c, 4)
        assert len(c.offers()) == 4

    def test_nor_for_longer_than_the_timeout(self) -> None:
        c = self.lost(5, allocator_recovery_timeout_s=60.0, agent_reregister_timeout_s=3600.0)
        c.subscribe(info=framework_info("f", role="other"))
        self.back(c, 1)
        c.wait(59)
        assert c.offers() == []
        c.wait(3)
        assert len(c.offers()) == 1

    def test_recover_quota_empty_cluster(self) -> None:
        """With no agents to wait for, it is not stuck; nor with a factor of 0."""
        c = cluster(0)
        c.give(update(config("eng", "cpus:1"), force=True))
        again = Conductor(c.stored, "M2")
        again.subscribe(info=framework_info("f", role="eng"))
        again.agent(1, register("1", "cpus:4;mem:1024"))
        assert len(again.offers()) == 1
        again = self.lost(5, allocator_agent_recovery_factor=0.0)
        again.subscribe(info=framework_info("f", role="eng"))
        self.back(again, 1)
        assert len(again.offers()) == 1

    def test_without_quotas_nobody_waits(self) -> None:
        c = self.lost(5)
        c.subscribe(info=framework_info("f", role="eng"))
        self.back(c, 1)
        assert c.offers() == []
        c.give(operator.RemoveQuota("eng"))
        assert len(c.offers()) == 1
