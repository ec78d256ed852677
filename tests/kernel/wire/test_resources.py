"""Resources: what may be said of them, how they add up, and their text form."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import CallError
from kernel.wire.common import Label, Labels, Volume, VolumeMode
from kernel.wire.resources import (
    EMPTY,
    AllocationInfo,
    DiskInfo,
    DiskMount,
    DiskPath,
    DiskSource,
    DiskSourceType,
    Form,
    Key,
    Persistence,
    Range,
    Ranges,
    ReservationInfo,
    ReservationType,
    Resource,
    Resources,
    RevocableInfo,
    Scalar,
    Set,
    SharedInfo,
    ValueType,
)

STATIC, DYNAMIC = ReservationType.STATIC, ReservationType.DYNAMIC
parse = Resources.parse


def scalar(name: str, value: float, **fields: Any) -> Resource:
    return Resource(name, ValueType.SCALAR, Scalar(value), **fields)


def ranges(name: str, *pairs: tuple[int, int], **fields: Any) -> Resource:
    return Resource(name, ValueType.RANGES, ranges=Ranges(tuple(Range(*pair) for pair in pairs)), **fields)


def volume(persistence_id: str, size: float = 10, **fields: Any) -> Resource:
    disk = DiskInfo(Persistence(persistence_id), Volume(VolumeMode.RW, "data"))
    return scalar("disk", size, disk=disk, reservations=(ReservationInfo(STATIC, "db"),), **fields)


def mount(root: str, size: float = 10) -> Resource:
    return scalar("disk", size, disk=DiskInfo(source=DiskSource(DiskSourceType.MOUNT, mount=DiskMount(root))))


# ---- Arithmetic -----------------------------------------------------------------------------------------

milli = st.integers(0, 10**9)
spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)), max_size=5)


@st.composite
def amounts(draw: st.DrawFn) -> Resources:
    """Anything that can be added without overlapping: scalars of all kinds, reserved or not."""
    total = Resources(draw(milli), draw(milli), draw(milli), 1000 * draw(st.integers(0, 8)))
    for name, role, revocable in draw(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("rs"), st.booleans()), max_size=4)):
        key = Key(name, reservations=(ReservationInfo(STATIC, role),), revocable=revocable)
        total += Resources(other={key: draw(st.integers(1, 10**6))})
    return total


@st.composite
def mixtures(draw: st.DrawFn) -> Resources:
    """Scalars, ranges and sets."""
    messages = [ranges("ports", *[(begin, begin + length)]) for begin, length in draw(spans)]
    items = draw(st.frozensets(st.sampled_from("wxyz")))
    messages.append(Resource("zones", ValueType.SET, set=Set(tuple(items))))
    return draw(amounts()) + Resources.of(messages)


@given(mixtures(), mixtures(), mixtures())
def test_the_order_of_adding_does_not_matter(a: Resources, b: Resources, c: Resources) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)


@given(st.lists(mixtures(), max_size=4))
def test_many_are_added_at_once_as_one_by_one(parts: list[Resources]) -> None:
    one_by_one = EMPTY
    for part in parts:
        one_by_one += part
    assert Resources.sum(parts) == one_by_one
    assert Resources.of(message for part in parts for message in part.messages()) == one_by_one


def test_many_ports_are_read_and_taken_in_no_time() -> None:
    """One call may name so many, and all else waits for it: adding them up pair by pair took minutes."""
    ports = [ranges("ports", (3 * number, 3 * number)) for number in range(20_000)]
    whole = Resources.of(ports)
    rest = whole
    for port in ports:
        rest -= Resources.of([port])
    assert not rest
    assert Resources.sum(Resources.of([port]) for port in ports) == whole


@given(amounts(), amounts())
def test_what_was_added_can_be_taken_away_exactly(a: Resources, b: Resources) -> None:
    assert (a + b) - b == a
    assert (a + b).without(b) == a


@given(mixtures(), mixtures())
def test_a_sum_contains_its_parts_and_a_difference_gives_back_the_whole(a: Resources, b: Resources) -> None:
    whole = a + b
    assert whole.contains(a)
    assert whole.contains(b)
    assert (whole - a) + a == whole
    assert whole - whole == EMPTY


@given(mixtures(), mixtures())
def test_taking_away_more_than_there_is_is_an_error(a: Resources, b: Resources) -> None:
    if a.contains(b):
        assert (a - b) + b == a
    else:
        with pytest.raises(ValueError, match="does not contain"):
            a - b
        assert not a.without(b) or a.contains(a.without(b))


@given(mixtures())
def test_messages_say_the_same_as_the_value(a: Resources) -> None:
    assert Resources.of(a.messages("role")) == a
    assert Resources.of(a.messages(form=Form.PRE)) == a
    assert Resources.of(a.messages(form=Form.ENDPOINT)) == a


@given(
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 8)), max_size=6),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 8)), max_size=6),
)
def test_ranges_are_sets_of_numbers(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    def numbers(pairs: list[tuple[int, int]]) -> set[int]:
        return {number for begin, length in pairs for number in range(begin, begin + length + 1)}

    def of(pairs: list[tuple[int, int]]) -> Resources:
        total = EMPTY
        for begin, length in pairs:
            total += Resources.of([ranges("ports", (begin, begin + length))])
        return total

    x, y = of(a), of(b)
    assert (x + y).scalars().get("ports", 0) == 1000 * len(numbers(a) | numbers(b))
    assert x.without(y).scalars().get("ports", 0) == 1000 * len(numbers(a) - numbers(b))
    assert x.contains(y) == (numbers(a) >= numbers(b))


def test_a_thousand_small_shares_given_back_are_what_was_taken() -> None:
    total = parse("cpus:100")
    share = parse("cpus:0.1")
    for _ in range(1000):
        total -= share
    assert not total
    assert total == EMPTY


def test_scalars_are_rounded_to_thousandths() -> None:
    assert Resources.of([scalar("cpus", 1.0004)]).cpus == 1000
    assert Resources.of([scalar("cpus", 1.0006)]).cpus == 1001
    assert Resources.of([scalar("cpus", 0.1 + 0.2)]) == parse("cpus:0.3")
    assert parse("cpus:0.001") + parse("cpus:0.002") == parse("cpus:0.003")


def test_ranges_that_touch_become_one() -> None:
    assert parse("ports:[1-9,10-20]") == parse("ports:[1-20]")
    assert str(parse("ports:[10-20]") + parse("ports:[1-9]")) == "ports:[1-20]"
    assert str(parse("ports:[1-20]") - parse("ports:[5-5]")) == "ports:[1-4, 6-20]"


def test_sets_join_and_are_compared_as_sets() -> None:
    assert parse("zones:{a,b}").contains(parse("zones:{b}"))
    assert parse("zones:{a}") + parse("zones:{b}") == parse("zones:{b,a}")


def test_zero_and_empty_amounts_disappear() -> None:
    assert Resources.of([scalar("cpus", 0), scalar("x", 0), ranges("ports"), Resource("s", ValueType.SET, set=Set())]) == EMPTY
    assert EMPTY.messages() == ()


def test_quantities_count_ranges_by_size_and_sets_by_items() -> None:
    assert parse("cpus:1.5;cpus(eng):1;ports:[1-10];zones:{a,b}").scalars() == {"cpus": 2500, "ports": 10_000, "zones": 2000}


def test_reserved_and_revocable_amounts_are_kept_apart() -> None:
    plain, reserved = parse("cpus:2"), parse("cpus(eng):1")
    revocable = Resources.of([scalar("cpus", 1, revocable=RevocableInfo())])
    total = plain + reserved + revocable
    assert not plain.contains(reserved)
    assert not total.contains(parse("cpus:3"))
    assert total - reserved - revocable == plain


# ---- Disks ----------------------------------------------------------------------------------------------


def test_persistent_volumes_and_mount_disks_are_whole_or_absent() -> None:
    for whole, part in ((volume("a"), volume("a", 5)), (mount("/m"), mount("/m", 5))):
        total = Resources.of([whole])
        assert not total.contains(Resources.of([part]))
        assert total.scalars() == {"disk": 10_000}
        assert total - Resources.of([whole]) == EMPTY


def test_volumes_and_mounts_of_equal_size_stay_two() -> None:
    total = Resources.of([volume("a"), volume("b"), mount("/1"), mount("/2")])
    assert len(total.messages()) == 4
    assert Resources.of(total.messages()) == total


def test_path_disks_of_one_root_merge() -> None:
    path = scalar("disk", 3, disk=DiskInfo(source=DiskSource(DiskSourceType.PATH, path=DiskPath("/p"))))
    assert [message.scalar for message in Resources.of([path, path]).messages()] == [Scalar(6.0)]


def test_raw_disks_merge_unless_they_have_an_id() -> None:
    raw, named = DiskSource(DiskSourceType.RAW), DiskSource(DiskSourceType.RAW, id="x")
    assert len(Resources.of([scalar("disk", 1, disk=DiskInfo(source=raw))] * 2).messages()) == 1
    assert len(Resources.of([scalar("disk", 1, disk=DiskInfo(source=named))] * 2).messages()) == 2


def test_shared_volumes_count_their_users() -> None:
    shared = volume("a", shared=SharedInfo())
    one, two = Resources.of([shared]), Resources.of([shared, shared])
    assert two - one == one
    assert two.contains(one)
    assert not one.contains(two)
    assert two.scalars() == {"disk": 10_000}


# ---- Reservations ---------------------------------------------------------------------------------------

LABELS = Labels((Label("k", "v"),))
DYNAMIC_ENG = ReservationInfo(DYNAMIC, "eng", "ops", LABELS)


@pytest.mark.parametrize(
    ("fields", "stack"),
    [
        ({}, ()),
        ({"role": "*"}, ()),
        ({"role": "eng"}, (ReservationInfo(STATIC, "eng"),)),
        ({"role": "eng", "reservation": ReservationInfo(principal="ops", labels=LABELS)}, (DYNAMIC_ENG,)),
        ({"reservations": (DYNAMIC_ENG,)}, (DYNAMIC_ENG,)),
        ({"role": "eng", "reservations": (DYNAMIC_ENG,)}, (DYNAMIC_ENG,)),
        (
            {"role": "eng", "reservation": ReservationInfo(principal="ops", labels=LABELS), "reservations": (DYNAMIC_ENG,)},
            (DYNAMIC_ENG,),
        ),
        (
            {"reservations": (ReservationInfo(STATIC, "eng"), ReservationInfo(DYNAMIC, "eng/db"))},
            (ReservationInfo(STATIC, "eng"), ReservationInfo(DYNAMIC, "eng/db")),
        ),
    ],
)
def test_every_form_of_reservation_is_understood(fields: dict[str, Any], stack: tuple[ReservationInfo, ...]) -> None:
    (message,) = Resources.of([scalar("cpus", 1, **fields)]).messages()
    assert message.reservations == stack
    assert (message.role, message.reservation) == (None, None)


def test_pre_refinement_form_has_the_role_and_at_most_one_reservation() -> None:
    dynamic = Resources.of([scalar("cpus", 1, reservations=(DYNAMIC_ENG,))])
    (message,) = dynamic.messages(form=Form.PRE)
    assert (message.role, message.reservation, message.reservations) == ("eng", ReservationInfo(principal="ops", labels=LABELS), ())
    (message,) = parse("cpus(eng):1").messages(form=Form.PRE)
    assert (message.role, message.reservation, message.reservations) == ("eng", None, ())
    assert [message.role for message in parse("cpus:1;ports:[1-2]").messages(form=Form.PRE)] == ["*", "*"]
    refined = Resources.of([scalar("cpus", 1, reservations=(ReservationInfo(STATIC, "a"), ReservationInfo(DYNAMIC, "a/b")))])
    with pytest.raises(ValueError, match="refined"):
        refined.messages(form=Form.PRE)


def test_endpoint_form_says_both_ways_what_both_can_say() -> None:
    (message,) = Resources.of([scalar("cpus", 1, reservations=(DYNAMIC_ENG,))]).messages(form=Form.ENDPOINT)
    assert (message.role, message.reservation, message.reservations) == (
        "eng",
        ReservationInfo(principal="ops", labels=LABELS),
        (DYNAMIC_ENG,),
    )
    stack = (ReservationInfo(STATIC, "a"), ReservationInfo(DYNAMIC, "a/b"))
    (message,) = Resources.of([scalar("cpus", 1, reservations=stack)]).messages(form=Form.ENDPOINT)
    assert (message.role, message.reservation, message.reservations) == (None, None, stack)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"role": "a b"}, "role"),
        ({"role": "*", "reservation": ReservationInfo(principal="p")}, "reservation"),
        ({"reservation": ReservationInfo(principal="p")}, "reservation"),
        ({"role": "eng", "reservation": ReservationInfo(DYNAMIC)}, "reservation"),
        ({"reservations": (ReservationInfo(STATIC),)}, "reservations[0].role"),
        ({"reservations": (ReservationInfo(STATIC, "*"),)}, "reservations[0].role"),
        ({"reservations": (ReservationInfo(role="eng"),)}, "reservations[0].type"),
        ({"reservations": (DYNAMIC_ENG, ReservationInfo(STATIC, "eng/db"))}, "reservations[1].type"),
        ({"reservations": (DYNAMIC_ENG, ReservationInfo(DYNAMIC, "ops"))}, "reservations[1].role"),
        ({"role": "ops", "reservations": (DYNAMIC_ENG,)}, "role"),
        ({"role": "eng", "reservation": ReservationInfo(principal="x"), "reservations": (DYNAMIC_ENG,)}, "reservation"),
    ],
)
def test_wrong_or_contradicting_reservations_are_refused_by_name(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(CallError) as refused:
        Resources.of([scalar("cpus", 1, **fields)], "task.resources")
    assert str(refused.value).startswith(f"task.resources[0].{field}: ")


# ---- Validation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 0.0004, 5e-324, 1e300])
@pytest.mark.parametrize("name", ["cpus", "anything"])
def test_numbers_that_are_no_amounts_are_refused(name: str, value: float) -> None:
    with pytest.raises(CallError, match=r"^resources\[0\]\.scalar\.value: "):
        Resources.of([scalar(name, value)])


@pytest.mark.parametrize("reserved", [{}, {"role": "eng"}])
def test_gpus_are_whole(reserved: dict[str, Any]) -> None:
    assert Resources.of([scalar("gpus", 2, **reserved)]).scalars() == {"gpus": 2000}
    with pytest.raises(CallError, match="whole"):
        Resources.of([scalar("gpus", 0.5, **reserved)])


MOUNT_WITH_PATH = DiskSource(DiskSourceType.MOUNT, path=DiskPath("/"))
RAW_WITH_MOUNT = DiskSource(DiskSourceType.RAW, mount=DiskMount("/"))


@pytest.mark.parametrize(
    "message",
    [
        scalar("", 1),
        Resource("cpus", ValueType.SCALAR),
        Resource("cpus", ValueType.TEXT),
        Resource("cpus", ValueType.RANGES, Scalar(1)),
        Resource("cpus", ValueType.SCALAR, Scalar(1), Ranges()),
        ranges("ports", (2, 1)),
        ranges("ports", (1, 5), (5, 9)),
        ranges("ports", (0, 2**64)),
        ranges("ports", (-1, 3)),
        Resource("zones", ValueType.SET, set=Set(("a", "a"))),
        scalar("cpus", 1, disk=DiskInfo()),
        scalar("disk", 1, disk=DiskInfo(source=DiskSource(DiskSourceType.UNKNOWN))),
        scalar("disk", 1, disk=DiskInfo(source=MOUNT_WITH_PATH)),
        scalar("disk", 1, disk=DiskInfo(source=RAW_WITH_MOUNT)),
        scalar("disk", 1, shared=SharedInfo()),
    ],
)
def test_malformed_messages_are_refused(message: Resource) -> None:
    with pytest.raises(CallError, match=r"^resources\[1\]"):
        Resources.of([scalar("cpus", 1), message])


def test_ranges_may_come_in_any_order() -> None:
    assert Resources.of([ranges("ports", (5, 9), (1, 4))]) == parse("ports:[1-9]")


def test_the_allocation_is_written_and_not_read() -> None:
    value = parse("cpus:1;ports:[1-2]")
    messages = value.messages("eng")
    assert {message.allocation_info for message in messages} == {AllocationInfo("eng")}
    assert Resources.of(messages) == value


# ---- Text form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["cpus:1.5; mem:32", "cpus(eng):1; cpus(ops):0.001", "ports:[1-9, 20-30]", "zones:{a, b}", "disk:10; gpus:2; x:1"],
)
def test_text_is_printed_as_it_is_read(text: str) -> None:
    assert str(parse(text)) == text


def test_spaces_are_ignored_and_equal_names_add_up() -> None:
    assert parse(" cpus : 1 ; cpus:2;; ports : [ 1 - 9 ] ; ") == parse("cpus:3;ports:[1-9]")


def test_the_default_role_holds_where_none_is_written() -> None:
    assert parse("cpus:1;mem(*):2", default_role="eng") == parse("cpus(eng):1;mem:2")


def test_a_json_array_is_read_too() -> None:
    value = parse("cpus:1.5;ports:[1-9]")
    assert parse(msgspec.json.encode(value.messages()).decode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "cpus", "cpus:", "cpus:x", "cpus:NaN", "cpus:inf", "cpus:-1", "cpus:1_0", ":1", "(r):1", "cpus(r:1", "cpus(a b:1", "cpus():1",
        "ports:[1-9", "ports:1-9]", "ports:[9-1]", "ports:[1]", "ports:[1-2-3]", "ports:[1-2,[3-4]]", "ports:{[1-2]}", "s:{a", "s:a}",
        "s:{a{b}}", "[{}]", "[1]", "[", '[{"name": "cpus", "type": "SCALAR"}]', "cpus:{a};gpus:0.5",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(CallError, match=r"^resources"):
        parse(text)


@given(st.text(alphabet="cpusm:;[]{}()-,.0123456789 \t\n*/aN"))
def test_no_text_does_worse_than_an_error(text: str) -> None:
    try:
        value = parse(text)
    except CallError:
        return
    assert parse(str(value)) == value
