"""JSON as the v1 API reads and writes it: spec mesos-v1, section 1.6, line by line."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from kernel.errors import CallError
from kernel.wire import executor, operator
from kernel.wire.codec import CODECS, JSON, decode, encode
from kernel.wire.common import TimeInfo
from kernel.wire.ids import AgentID, ExecutorID, FrameworkID, OfferID, TaskID
from kernel.wire.offer import Filters, Launch, Offer, Operation, OperationType
from kernel.wire.operator import QuotaConfig
from kernel.wire.resources import AllocationInfo, Resource, Scalar, ValueType
from kernel.wire.scheduler import Accept, Call, Event, Kill, Message, Offers, Reconcile, Request, Subscribe
from kernel.wire.task import (
    CapabilityInfo,
    CheckInfo,
    CommandInfo,
    ContainerInfo,
    ContainerType,
    DiscoveryInfo,
    Environment,
    FrameworkCapability,
    FrameworkInfo,
    HealthCheck,
    HTTPCheckInfo,
    IPAddress,
    Label,
    Labels,
    LinuxCapability,
    MasterInfo,
    RLimit,
    TaskInfo,
    TaskState,
    TaskStatus,
    Variable,
    VariableType,
)


def read(kind: type[Any], **fields: object) -> Any:
    return decode(json.dumps(fields).encode(), kind)


# ---- Writing --------------------------------------------------------------------------------------------


def test_offers_are_written_as_the_api_says() -> None:
    cpus = Resource("cpus", ValueType.SCALAR, scalar=Scalar(3.5), allocation_info=AllocationInfo("web"))
    offer = Offer(
        OfferID("7c-O12"), FrameworkID("7c-0000"), AgentID("7c-S1"), "n1", resources=(cpus,), allocation_info=AllocationInfo("web")
    )
    event = Event("OFFERS", offers=Offers((offer,)))
    assert json.loads(encode(event)) == json.loads(
        '{"type":"OFFERS","offers":{"offers":[{"id":{"value":"7c-O12"},"framework_id":{"value":"7c-0000"},"agent_id":{"value":"7c-S1"},'
        '"hostname":"n1","allocation_info":{"role":"web"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":3.5},'
        '"allocation_info":{"role":"web"}}]}]}}'
    )
    assert decode(encode(event), Event) == event


def test_what_is_unset_or_empty_is_left_out() -> None:
    assert encode(Event("HEARTBEAT")) == b'{"type":"HEARTBEAT"}'
    assert encode(Reconcile()) == b"{}"
    assert encode(TaskInfo("", TaskID("t"), AgentID("a"))) == b'{"name":"","task_id":{"value":"t"},"agent_id":{"value":"a"}}'


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (FrameworkInfo("root", "f"), '{"user":"root","name":"f","failover_timeout":0.0,"checkpoint":false}'),
        (CommandInfo(), '{"shell":true}'),
        (CheckInfo(), '{"delay_seconds":15.0,"interval_seconds":10.0,"timeout_seconds":20.0}'),
        (
            HealthCheck(),
            '{"delay_seconds":15.0,"interval_seconds":10.0,"timeout_seconds":20.0,"consecutive_failures":3,"grace_period_seconds":10.0}',
        ),
        (HTTPCheckInfo(80), '{"port":80,"protocol":"IPv4"}'),
        (Variable("A"), '{"name":"A","type":"VALUE"}'),
        (IPAddress(), '{"protocol":"IPv4"}'),
        (Filters(), '{"refuse_seconds":5.0}'),
        (MasterInfo("m", 16777343), '{"id":"m","ip":16777343,"port":5050}'),
        (operator.DrainAgent(AgentID("a")), '{"agent_id":{"value":"a"},"mark_gone":false}'),
    ],
)
def test_declared_defaults_are_printed_except_deprecated_ones(message: object, text: str) -> None:
    assert encode(message).decode() == text


def test_defaults_set_on_purpose_are_printed_too() -> None:
    assert encode(read(CommandInfo, shell=True)) == encode(CommandInfo(shell=True)) == b'{"shell":true}'


def test_lists_of_the_operator_api_are_printed_when_empty() -> None:
    assert encode(operator.GetAgents()) == b'{"agents":[],"recovered_agents":[]}'
    assert encode(operator.GetTasks()) == b'{"tasks":[],"unreachable_tasks":[],"completed_tasks":[]}'
    assert encode(operator.GetRoles()) == b"{}"


def test_integral_doubles_keep_their_point() -> None:
    assert encode(Scalar(1.0)) == b'{"value":1.0}'
    assert encode(read(Filters, refuse_seconds=3)) == b'{"refuse_seconds":3.0}'


@pytest.mark.parametrize("text", ["plain", 'quo"te\\', "é", "\u2028", "日本", "😀 and more", "\x00\x1f\x7f", "mixed é😀\n"])
def test_only_ascii_is_written(text: str) -> None:
    body = encode(Label("k", text))
    assert body.isascii()
    assert json.loads(body) == {"key": "k", "value": text}
    assert decode(body, Label) == Label("k", text)


def test_json_is_the_only_codec_yet() -> None:
    assert dict(CODECS) == {"application/json": JSON}


# ---- Reading: what the mapping table allows ---------------------------------------------------------------


def test_unknown_fields_are_ignored() -> None:
    call = b'{"type":"KILL","slave_id":{"value":"old"},"kill":{"task_id":{"value":"t","x":[1]},"later":null}}'
    assert decode(call, Call) == Call(type="KILL", kill=Kill(TaskID("t")))


def test_null_is_absent_wherever_it_stands() -> None:
    assert read(Kill, task_id={"value": "t"}, agent_id=None, kill_policy=None) == Kill(TaskID("t"))
    assert read(Filters, refuse_seconds=None) == Filters(5.0)
    assert read(Subscribe, framework_info={"user": "u", "name": "n", "roles": None, "labels": None}).framework_info == FrameworkInfo(
        "u", "n"
    )
    assert read(Reconcile, tasks=[None]) == Reconcile()
    assert read(TaskInfo, name="n", task_id={"value": "t"}, agent_id={"value": "a"}, limits={"cpus": None}).limits == {}


def test_one_value_is_a_list_of_it() -> None:
    assert read(Accept, offer_ids={"value": "o"}, operations={"type": "LAUNCH", "launch": {}}) == Accept(
        (OfferID("o"),), (Operation(OperationType.LAUNCH, launch=Launch()),)
    )
    assert read(CapabilityInfo, capabilities="CHOWN") == CapabilityInfo((LinuxCapability.CHOWN,))
    assert read(CommandInfo, arguments="one").arguments == ("one",)
    assert read(CommandInfo, arguments=[]).arguments == ()


@pytest.mark.parametrize(("value", "text"), [(7, "7"), (-1, "-1"), (1.5, "1.5"), (True, "true"), (False, "false")])
def test_numbers_and_booleans_are_text_where_text_is_due(value: object, text: str) -> None:
    assert read(TaskID, value=value) == TaskID(text)
    assert read(Labels, labels=[{"key": "k", "value": value}]) == Labels((Label("k", text),))


@pytest.mark.parametrize("value", [80, "80", 80.0])
def test_integers_may_come_as_text(value: object) -> None:
    assert read(HTTPCheckInfo, port=value) == HTTPCheckInfo(80)


@pytest.mark.parametrize("value", [2.5, "2.5", "25e-1", "+2.50"])
def test_doubles_may_come_as_text(value: object) -> None:
    assert read(Filters, refuse_seconds=value) == Filters(2.5)


@pytest.mark.parametrize(("value", "number"), [("Infinity", math.inf), ("-Infinity", -math.inf)])
def test_doubles_may_be_infinite(value: str, number: float) -> None:
    assert read(Filters, refuse_seconds=value).refuse_seconds == number


@pytest.mark.parametrize(("value", "flag"), [(True, True), (False, False), ("true", True), ("false", False)])
def test_booleans_may_come_as_text(value: object, flag: bool) -> None:
    assert read(CommandInfo, shell=value).shell is flag


def test_all_leniencies_at_once_inside_each_other() -> None:
    body = {
        "framework_id": {"value": 3},
        "type": "ACCEPT",
        "kill": None,
        "accept": {
            "offer_ids": {"value": 1},
            "operations": {
                "type": "LAUNCH",
                "launch": {
                    "task_infos": {
                        "name": 1,
                        "task_id": {"value": 2},
                        "agent_id": {"value": "a"},
                        "resources": {"name": "cpus", "type": "SCALAR", "scalar": {"value": "0.5"}, "role": "*", "disk": None},
                        "command": {"shell": "false", "value": True, "environment": {"variables": {"name": "N", "value": 1}}},
                    }
                },
            },
            "filters": {},
        },
    }
    call = decode(json.dumps(body).encode(), Call)
    assert call.framework_id == FrameworkID("3")
    assert call.accept is not None
    assert call.accept.filters == Filters(5.0)
    launch = call.accept.operations[0].launch
    assert launch is not None
    assert launch.task_infos == (
        TaskInfo(
            "1",
            TaskID("2"),
            AgentID("a"),
            resources=(Resource("cpus", ValueType.SCALAR, scalar=Scalar(0.5), role="*"),),
            command=CommandInfo(shell=False, value="true", environment=Environment((Variable("N", value="1"),))),
        ),
    )


def test_a_repeated_key_counts_as_its_last() -> None:
    assert decode(b'{"value":"a","value":"b"}', TaskID) == TaskID("b")
    assert decode(b'{"value":"a","value":2}', TaskID) == TaskID("2")


# ---- Reading: enums ---------------------------------------------------------------------------------------


def test_an_unknown_name_leaves_an_optional_enum_unset() -> None:
    assert read(Operation, type="TELEPORT", launch={}) == Operation(launch=Launch())
    assert read(Variable, name="A", type="NEWER").type is VariableType.VALUE
    info = read(FrameworkInfo, user="u", name="n", capabilities=[{"type": "MULTI_ROLE"}, {"type": "NEWER"}])
    assert [capability.type for capability in info.capabilities] == [FrameworkCapability.MULTI_ROLE, None]


def test_an_unknown_name_is_dropped_from_a_list_of_enums() -> None:
    assert read(CapabilityInfo, capabilities=["CHOWN", "NEWER", "KILL"]).capabilities == (LinuxCapability.CHOWN, LinuxCapability.KILL)
    assert read(CapabilityInfo, capabilities="NEWER") == CapabilityInfo()


def test_an_unknown_name_is_refused_where_an_enum_is_required() -> None:
    with pytest.raises(CallError, match=r"^state: unknown name 'TASK_NEWER'$"):
        read(TaskStatus, task_id={"value": "t"}, state="TASK_NEWER")


@pytest.mark.parametrize("value", [1, "1", 1.0, True, {}])
def test_an_enum_is_never_a_number(value: object) -> None:
    with pytest.raises(CallError, match=r"^status\.state: "):
        read(executor.Update, status={"task_id": {"value": "t"}, "state": value})
    if value != "1":  # As text it is a name, and one we do not know.
        with pytest.raises(CallError, match=r"^accept\.operations\[0\]\.type: expected a string"):
            read(Call, accept={"operations": [{"type": value}]})


def test_types_of_calls_are_text_so_that_a_newer_one_can_be_named_in_the_answer() -> None:
    assert read(Call, type="NEWER").type == "NEWER"


def test_values_of_enums_are_their_v1_names() -> None:
    assert TaskState.TASK_RUNNING.value == "TASK_RUNNING"
    assert read(TaskStatus, task_id={"value": "t"}, state="TASK_RUNNING").state is TaskState.TASK_RUNNING


# ---- Reading: what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"kill":{}}', "kill.task_id: required, but missing"),
        ('{"kill":{"task_id":null}}', "kill.task_id: required, but missing"),
        ('{"kill":{"task_id":{}}}', "kill.task_id.value: required, but missing"),
        ('{"kill":{"task_id":"t"}}', "kill.task_id: expected an object, got a string"),
        ('{"kill":[]}', "kill: expected an object, got a list"),
        ('{"accept":{"operations":[{"launch":{}},{"type":1}]}}', "accept.operations[1].type: expected a string, got an integer"),
        ('{"accept":{"offer_ids":["o"]}}', "accept.offer_ids[0]: expected an object, got a string"),
        ('{"accept":{"filters":{"refuse_seconds":"soon"}}}', "accept.filters.refuse_seconds: expected a number, got a string, 'soon'"),
        ('{"accept":{"filters":{"refuse_seconds":true}}}', "accept.filters.refuse_seconds: expected a number, got true or false"),
        (
            '{"acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"%"}}',
            "acknowledge.uuid: invalid base64 encoded string",
        ),
        ('{"failure":1,"type":{}}', "type: expected a string, got an object"),
        ("null", "the body: expected an object, got null"),
        ("[]", "the body: expected an object, got a list"),
        ("7", "the body: expected an object, got an integer"),
    ],
)
def test_errors_name_the_field_in_plain_words(body: str, error: str) -> None:
    with pytest.raises(CallError) as caught:
        decode(body.encode(), Call)
    assert str(caught.value) == error


@pytest.mark.parametrize("value", ["NaN", "nan", "inf", "infinity", "1e999", "", " 1", "0x10", "1_0", "\u0661"])
def test_other_text_is_no_number(value: str) -> None:
    with pytest.raises(CallError, match="refuse_seconds: expected a number"):
        read(Filters, refuse_seconds=value)


@pytest.mark.parametrize("value", ["", "5.0", "1e3", "0x10", "1_0", " 5", "\u0663", 5.5, True])
def test_other_text_is_no_integer(value: object) -> None:
    with pytest.raises(CallError, match="port: expected an integer"):
        read(HTTPCheckInfo, port=value)


@pytest.mark.parametrize("value", ["True", "1", 1, 0, "yes"])
def test_other_values_are_no_boolean(value: object) -> None:
    with pytest.raises(CallError, match="shell: expected true or false"):
        read(CommandInfo, shell=value)


@pytest.mark.parametrize("value", ["AAA", "AA-_", "A A=", 5])
def test_bytes_are_standard_base64_with_padding(value: object) -> None:
    with pytest.raises(CallError, match="data: "):
        read(Message, agent_id={"value": "a"}, executor_id={"value": "e"}, data=value)
    assert read(Message, agent_id={"value": "a"}, executor_id={"value": "e"}, data="AA+/") == Message(
        AgentID("a"), ExecutorID("e"), b"\x00\x0f\xbf"
    )


@pytest.mark.parametrize("value", [-1, 2**32, "-1", "4294967296", 10**40, 1e300])
def test_integers_have_the_bounds_of_their_type(value: object) -> None:
    with pytest.raises(CallError, match="port: expected an integer"):
        read(HTTPCheckInfo, port=value)


def test_64_bits_are_kept_whole_and_never_exceeded() -> None:
    assert read(RLimit, hard=2**64 - 1, soft="18446744073709551615") == RLimit(hard=2**64 - 1, soft=2**64 - 1)
    assert encode(RLimit(hard=2**64 - 1)) == b'{"hard":18446744073709551615}'
    for value in (2**64, str(2**64), 10**400, 1e300):
        with pytest.raises(CallError, match="hard: expected an integer, got one beyond 64 bits"):
            read(RLimit, hard=value)
    with pytest.raises(CallError):
        decode(b'{"hard":' + b"9" * 10_000 + b"}", RLimit)
    with pytest.raises(CallError):
        read(Filters, refuse_seconds=10**400)


def test_long_digits_in_text_do_no_harm() -> None:
    text = "1" * 100
    assert read(TaskID, value=text) == TaskID(text)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"{",
        b'{"type":"KILL"',
        b"{} {}",
        b"{'type':'KILL'}",
        b'{"type":KILL}',
        b'{"type":NaN}',
        b'{"accept":{"filters":{"refuse_seconds":NaN}}}',
        b'{"accept":{"filters":{"refuse_seconds":Infinity}}}',
        b'{"accept":{"filters":{"refuse_seconds":1e999}}}',
        b'{"type":"\xff"}',
        b'{"type":"\xed\xa0\x80"}',
        b'{"type":"\\ud800"}',
        b'{"type":"\\ud800\\u0041"}',
        b'\xef\xbb\xbf{"type":"KILL"}',
        '{"type":"KILL"}'.encode("utf-16"),
        b"[" * 100_000,
        b'{"type":"KILL","x":' + b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_what_is_not_json_is_a_call_error(body: bytes) -> None:
    with pytest.raises(CallError):
        decode(body, Call)


def test_what_the_sender_made_up_is_cut_in_the_error() -> None:
    with pytest.raises(CallError) as caught:
        read(TaskStatus, task_id={"value": "t"}, state="x" * 100_000)
    assert len(str(caught.value)) < 1_000


# ---- Extensions and exceptions ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [{"seconds": 60}, {"seconds": "60", "nanos": 0}, "60s", "60.000s"])
def test_the_grace_of_a_drain_is_an_object_or_text(value: object) -> None:
    drain = read(operator.DrainAgent, agent_id={"value": "a"}, max_grace_period=value)
    assert drain.max_grace_period.nanoseconds == 60_000_000_000


@pytest.mark.parametrize(("text", "nanoseconds"), [("1.5s", 1_500_000_000), ("-1.5s", -1_500_000_000), ("0.000000001s", 1)])
def test_fractions_of_a_drain_grace(text: str, nanoseconds: int) -> None:
    assert read(operator.DrainAgent, agent_id={"value": "a"}, max_grace_period=text).max_grace_period.nanoseconds == nanoseconds


@pytest.mark.parametrize("value", ["60", "60secs", "s", "1e3s", "999999999999s", {"seconds": 10**13}, 60])
def test_other_graces_are_refused(value: object) -> None:
    with pytest.raises(CallError, match="max_grace_period"):
        read(operator.DrainAgent, agent_id={"value": "a"}, max_grace_period=value)


def test_a_request_without_our_extension_is_one_unnamed_task() -> None:
    request = read(Request, requests=[{"resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]}]).requests[0]
    assert (request.name, request.role, request.count, request.min, request.priority, request.prefer) == ("", None, 1, None, 0, ())


@pytest.mark.parametrize(
    "fields",
    [{"count": 0}, {"count": 1_000_001}, {"min": 0}, {"priority": 2**31}, {"name": "x" * 256}, {"prefer": [{"value": "a"}] * 1_001}],
)
def test_a_request_is_bounded(fields: dict[str, object]) -> None:
    with pytest.raises(CallError, match=rf"^requests\[0\]\.{next(iter(fields))}: "):
        read(Request, requests=[fields])


def test_an_empty_container_is_no_particular_one() -> None:
    """As clients send it that fill in nothing (clients, 13)."""
    assert read(ContainerInfo).type is ContainerType.MESOS


def test_an_empty_discovery_lacks_what_is_required() -> None:
    with pytest.raises(CallError, match=r"^visibility: required"):
        read(DiscoveryInfo)


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        (
            '{"limits":{"mem":{"value":"1"},"cpus":{"value":"NaN"}}}',
            QuotaConfig,
            "limits.cpus.value: expected a number, got a string, 'NaN'",
        ),
        ('{"limits":{"cpus":{"value":[]}}}', QuotaConfig, "limits.cpus.value: expected a number, got a list"),
        ('{"limits":{"cpus":{"value":1e400}}}', QuotaConfig, "limits[...].value: number out of range"),
        ('{"nanoseconds":"1.5"}', TimeInfo, "nanoseconds: expected an integer, got a string, '1.5'"),
        (f'{{"nanoseconds":"{"x" * 1000}"}}', TimeInfo, f"nanoseconds: expected an integer, got a string, '{'x' * 39}..."),
    ],
)
def test_where_a_number_is_due_the_key_of_a_map_and_the_text_are_told(body: str, kind: type, error: str) -> None:
    with pytest.raises(CallError) as caught:
        decode(body.encode(), kind)
    assert str(caught.value) == error
