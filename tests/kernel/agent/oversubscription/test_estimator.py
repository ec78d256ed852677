"""How much is lent of what tasks do not use."""

from __future__ import annotations

import pytest

from kernel.agent.isolators.limits import Usage
from kernel.agent.oversubscription.config import EstimatorParameters, as_slack, controller_kind, fixed_slack
from kernel.agent.oversubscription.estimator import usage_slack
from kernel.agent.oversubscription.usage import History, Use, Work
from kernel.errors import ConfigError
from kernel.wire.resources import Resources

ALL = EstimatorParameters(share=1.0, margin=0.0)
LONG = 1000.0


def work(name: str = "t", cpus: float = 1.0, mem: float = 1024.0, lent: float = 0.0) -> Work:
    return Work(("f", name), (name,), round(cpus * 1000), round(mem * 1000), round(lent * 1000))


def use(cpus: float, mem: float = 0.0, observed_s: float = LONG) -> Use:
    return Use(0, 0, round(cpus * 1000), round(mem * 1000), observed_s)


def lends(cpus: float, **more: float) -> Resources:
    return as_slack({name: round(amount * 1000) for name, amount in {"cpus": cpus, **more}.items()})


class TestUsageSlack:
    def test_what_tasks_were_given_less_the_most_they_used(self) -> None:
        assert usage_slack(ALL, [(work(cpus=2), use(0.5)), (work("u", cpus=1), use(0.2))]) == lends(2.3)

    def test_nothing_runs_so_nothing_is_lent(self) -> None:
        assert usage_slack(ALL, []) == Resources()

    def test_never_more_than_a_share_of_what_they_were_given(self) -> None:
        assert usage_slack(EstimatorParameters(share=0.25), [(work(cpus=4), use(0.0))]) == lends(1)

    def test_a_margin_is_left_for_them(self) -> None:
        assert usage_slack(EstimatorParameters(share=1, margin=0.5), [(work(cpus=4), use(2.0))]) == lends(1)

    @pytest.mark.parametrize("known", [None, use(0.0, observed_s=59.9)])
    def test_nothing_of_a_task_that_is_not_known_for_long(self, known: Use | None) -> None:
        assert usage_slack(ALL, [(work(), known)]) == Resources()

    def test_what_one_uses_beyond_its_own_is_taken_off_the_others(self) -> None:
        assert usage_slack(ALL, [(work(cpus=2), use(0.0)), (work("u", cpus=1), use(2.5, observed_s=1))]) == lends(0.5)
        assert usage_slack(ALL, [(work(cpus=1), use(0.0)), (work("u", cpus=1), use(2.5))]) == Resources()

    def test_what_is_lent_already_is_not_lent_again(self) -> None:
        assert usage_slack(ALL, [(work(cpus=2), use(1.0)), (work("r", cpus=1, lent=1), use(0.0))]) == lends(1)

    def test_memory_is_lent_only_where_an_operator_says_so(self) -> None:
        works = [(work(cpus=1, mem=1024), use(0.0, 200))]
        assert usage_slack(ALL, works) == lends(1)
        assert usage_slack(EstimatorParameters(share=1, margin=0, memory=True), works) == lends(1, mem=768)

    def test_small_changes_change_nothing(self) -> None:
        assert usage_slack(ALL, [(work(), use(0.501))]) == usage_slack(ALL, [(work(), use(0.599))]) == lends(0.4)


class TestHistory:
    def observed(self, *samples: tuple[float, float, int], window_s: float = 60.0) -> Use | None:
        """samples: at_s, seconds of cpus used by then, MiB."""
        history = History(window_s)
        for at_s, cpu_s, mem in samples:
            history.observe(at_s, {"t": Usage(user_s=cpu_s / 2, system_s=cpu_s / 2, mem_bytes=1 << 40, rss_bytes=mem << 20)}, {"t"})
        return history.use(work())

    def test_one_measurement_says_nothing_of_cpus(self) -> None:
        assert self.observed((0, 5, 10)) is None

    def test_the_last_measurement_and_the_peak(self) -> None:
        assert self.observed((0, 0, 10), (10, 10, 50), (20, 12, 20)) == Use(200, 20_000, 1000, 50_000, 20)

    def test_a_peak_is_forgotten_when_the_window_has_passed(self) -> None:
        assert self.observed((0, 0, 10), (10, 10, 90), (40, 13, 20), (71, 13, 10)) == Use(0, 10_000, 100, 20_000, 71)

    def test_time_that_went_with_a_process_is_no_negative_use(self) -> None:
        assert self.observed((0, 100, 1), (10, 40, 1)) == Use(0, 1000, 0, 1000, 10)

    def test_a_measurement_that_comes_late_is_passed_over(self) -> None:
        assert self.observed((0, 0, 1), (10, 10, 1), (10, 50, 1)) == Use(1000, 1000, 1000, 1000, 10)

    def test_containers_that_ended_are_forgotten(self) -> None:
        history = History(60)
        usage = {"t": Usage(user_s=0.0, system_s=0.0)}
        for at_s in (0, 1, 2):
            history.observe(at_s, usage, {"t"})
        assert history.use(work()) is not None
        history.observe(3, usage, set())
        assert history.use(work()) is None

    def test_an_executor_is_known_when_all_its_containers_are(self) -> None:
        history = History(60)
        pod = Work(("f", "e"), ("a", "b"))
        counted, uncounted = Usage(user_s=1.0, system_s=0.0), Usage()
        for at_s in (0, 1):
            history.observe(at_s, {"a": counted, "b": uncounted}, {"a", "b"})
        assert history.use(pod) is None
        for at_s in (2, 4):
            history.observe(at_s, {"a": Usage(user_s=at_s, system_s=0.0), "b": counted}, {"a", "b"})
        assert history.use(pod) == Use(1000, 0, 1000, 0, 2)


class TestFixed:
    def test_it_lends_what_it_is_told(self) -> None:
        assert fixed_slack("fixed", EstimatorParameters(resources="cpus:4;mem:1024")) == lends(4, mem=1024)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [("", "needs what to lend"), ("cpus(a):1", "only scalars"), ("ports:[1-2]", "only scalars"), ("cpus:x", "resources")],
    )
    def test_what_cannot_be_lent_is_refused_by_name(self, text: str, problem: str) -> None:
        with pytest.raises(ConfigError, match=f"resource-estimator-parameters: resources.*{problem}|{problem}"):
            fixed_slack("fixed", EstimatorParameters(resources=text))

    def test_another_estimator_takes_no_amounts(self) -> None:
        with pytest.raises(ConfigError, match="only the estimator fixed"):
            fixed_slack("usage", EstimatorParameters(resources="cpus:4"))


@pytest.mark.parametrize(
    ("estimator", "controller", "kind"),
    [("noop", "", "noop"), ("usage", "", "usage"), ("fixed", "", "usage"), ("fixed", "noop", "noop"), ("usage", "load", "load")],
)
def test_whoever_lends_takes_back_unless_told_otherwise(estimator: str, controller: str, kind: str) -> None:
    assert controller_kind(estimator, controller) == kind
