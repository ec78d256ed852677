"""Whether an agent may go on with what runs here under other settings than before (spec: mesos-v1, section 8.3). Pure.

Only what an operator wrote can be a contradiction: an amount that was detected and is detected anew stays as it was while tasks run,
whatever the machine says by now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from kernel.agent.state import Node
from kernel.errors import ConfigError
from kernel.wire.attributes import format_attribute
from kernel.wire.resources import Resource, Resources
from kernel.wire.task import Attribute
from kernel.wire.values import span_contains, to_spans

EQUAL, ADDITIVE, ANY = "equal", "additive", "any"


def settle(before: Node, now: Node, policy: str) -> Node:
    """What to announce while tasks run that were placed when `before` was announced. policy: `equal`, nothing may differ;
    `additive`, an agent may gain, but not lose; `any`, all may differ. Raises ConfigError naming what differs, and the ways out."""
    if policy == ANY:
        return now
    settled = _carried(before, now)
    differing = list(_losses(before, settled) if policy == ADDITIVE else _differences(before, settled))
    if not differing:
        return settled
    rule = "with --reconfiguration-policy=additive an agent may gain, but not lose"
    raise ConfigError(
        f"tasks run here that were placed under other settings: {'; '.join(differing)}. "
        f"Start the agent with the old settings, or {'so that it only gains' if policy == ADDITIVE else rule}, "
        "or end the tasks first: --recover=cleanup does that and leaves, the start after it is that of a new agent"
    )


def _carried(before: Node, now: Node) -> Node:
    """`now`, with the amounts of `before` where both were detected."""
    names = {resource.name for resource in before.resources} & set(before.detected) & set(now.detected)
    if not names:
        return now
    kept = tuple(resource for resource in before.resources if resource.name in names)
    others = tuple(resource for resource in now.resources if resource.name not in names)
    total = Resources.of((*kept, *others)).messages()
    return replace(now, resources=total, gpus=before.gpus if "gpus" in names else now.gpus)


def _differences(before: Node, now: Node) -> Iterator[str]:
    """All that differs, in words."""
    names = sorted({resource.name for resource in (*before.resources, *now.resources)})
    for name in names:
        old, new = _amount(before.resources, name), _amount(now.resources, name)
        if old != new:
            yield _changed("resources", str(old), str(new))
    if _indexes(before) != _indexes(now):
        yield _changed("GPUs", ", ".join(map(str, _indexes(before))), ", ".join(map(str, _indexes(now))))
    old_attributes, new_attributes = _texts(before.attributes), _texts(now.attributes)
    if old_attributes != new_attributes:
        gone, fresh = old_attributes - new_attributes, new_attributes - old_attributes
        yield _changed("attributes", "; ".join(sorted(gone)), "; ".join(sorted(fresh)))
    yield from _place(before, now, domain_may_come=False)


def _losses(before: Node, now: Node) -> Iterator[str]:
    """What is less than it was, or another, in words."""
    for name in sorted({resource.name for resource in before.resources}):
        old, new = _amount(before.resources, name), _amount(now.resources, name)
        if not new.contains(old):
            yield _changed("resources", str(old), str(new))
    if not set(_indexes(before)) <= set(_indexes(now)):
        yield _changed("GPUs", ", ".join(map(str, _indexes(before))), ", ".join(map(str, _indexes(now))))
    for attribute in before.attributes:
        same_name = [other for other in now.attributes if other.name == attribute.name]
        if not any(_covers(other, attribute) for other in same_name):
            yield _changed("attributes", _text(attribute), "; ".join(map(_text, same_name)))
    yield from _place(before, now, domain_may_come=True)


def _place(before: Node, now: Node, *, domain_may_come: bool) -> Iterator[str]:
    if before.hostname != now.hostname:
        yield _changed("hostname", before.hostname, now.hostname)
    if before.domain != now.domain and not (before.domain is None and domain_may_come):
        yield "domain is another"


def _covers(now: Attribute, before: Attribute) -> bool:
    if now.ranges is not None and before.ranges is not None:
        return span_contains(to_spans(now.ranges.range, "attributes"), to_spans(before.ranges.range, "attributes"))
    return now == before


def _amount(resources: Iterable[Resource], name: str) -> Resources:
    return Resources.of(resource for resource in resources if resource.name == name)


def _indexes(node: Node) -> tuple[int, ...]:
    return tuple(sorted(gpu.index for gpu in node.gpus))


def _texts(attributes: Iterable[Attribute]) -> frozenset[str]:
    return frozenset(map(_text, attributes))


def _text(attribute: Attribute) -> str:
    return f"{attribute.name}:{format_attribute(attribute)}"


def _changed(what: str, old: str, new: str) -> str:
    return f"{what} were `{old or 'none'}`, are `{new or 'none'}`" if what != "hostname" else f"hostname was `{old}`, is `{new}`"
