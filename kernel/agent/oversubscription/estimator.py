"""How much may be lent of what tasks were given and do not use (spec: mesos-v1, section 8.9). Pure.

What nobody was given is no slack: it is offered for good.
"""

from __future__ import annotations

from collections.abc import Iterable

from kernel.agent.oversubscription.config import EstimatorParameters, as_slack
from kernel.agent.oversubscription.usage import Use, Work
from kernel.wire.resources import Resources

# What is lent is a whole number of these, thousandths: so that it is another only when that matters.
STEPS = {"cpus": 100, "mem": 64_000}


def usage_slack(parameters: EstimatorParameters, works: Iterable[tuple[Work, Use | None]]) -> Resources:
    """What executors without revocable resources were given, less the most they used within the window and a margin; never more than a
    share of it. Of one that is not known for long enough nothing is lent, what one uses beyond its own is taken off the others'."""
    given = dict.fromkeys(STEPS, 0)
    unused = dict.fromkeys(STEPS, 0)
    for work, use in works:
        if work.revocable:
            continue
        given["cpus"] += work.cpus
        given["mem"] += work.mem
        if use is not None:
            lends = use.observed_s >= parameters.warm_up_s
            for name, own, peak in (("cpus", work.cpus, use.peak_cpus), ("mem", work.mem, use.peak_mem)):
                left = own - round(peak * (1 + parameters.margin))
                unused[name] += left if lends else min(0, left)
    if not parameters.memory:
        del unused["mem"]
    amounts = {}
    for name, amount in unused.items():
        amount = min(amount, int(given[name] * parameters.share))
        amounts[name] = max(0, amount) // STEPS[name] * STEPS[name]
    return as_slack(amounts)
