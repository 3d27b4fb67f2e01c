"""Any body at all is read or refused with its faults at their places."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.problems import HttpProblem
from gateway.api.requests import MAX_FAULTS, decode_batch, decode_single, destination, read_head
from gateway.intake.submission import Submission

words = st.text(max_size=20)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from([*Submission.__struct_encode_fields__, "messages", "colour"])
bodies = st.binary(max_size=60) | (st.dictionaries(fields, trees) | trees).map(msgspec.json.encode)


@settings(max_examples=300)
@given(bodies)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for decode in (decode_single, decode_batch):
        for wrapped in (body, b'{"messages":[' + body + b"]}"):
            try:
                decode(wrapped)
            except HttpProblem as refusal:
                assert refusal.body.status == 400
                assert refusal.body.errors


def test_a_malformed_batch_names_its_first_twenty_faults() -> None:
    with pytest.raises(HttpProblem) as refusal:
        decode_batch(msgspec.json.encode({"messages": [{"to": 1}] * 100}))
    assert [error.field for error in refusal.value.body.errors] == [f"messages[{i}].to" for i in range(MAX_FAULTS)]


def test_a_message_cut_off_inside_a_batch() -> None:
    for body in (b'{"messages":[{"to":"1","text":"x"},', b'{"messages":[0\x00]}', b'{"messages":[{"to":"\xff"}]}'):
        with pytest.raises(HttpProblem) as refusal:
            decode_batch(body)
        assert refusal.value.body.status == 400


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"", "", "is empty"),
        (b'{"messages": ', "", "truncated (byte 13)"),
        (b'{"messages": +46}', "", "(byte 13)"),
        (b"{bad", "", "the body is not JSON: object keys must be strings (byte 1)"),
        (b"\xff", "", "UTF-8 (byte 0)"),
        (b'{"messages":[{"to":"1","text":"x"},{"to":"\xff"}]}', "", "the body is not UTF-8 (byte 42)"),
        (b'{"messages":[{"to":1,"text":"x"},{"to":"\xff"}]}', "messages[1]", "the message is not UTF-8 (byte 7)"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(body: bytes, field: str, words: str) -> None:
    with pytest.raises(HttpProblem) as refusal:
        decode_batch(body)
    error = refusal.value.body.errors[-1]
    assert error.field == field
    assert words in error.detail


def test_the_headers_that_matter() -> None:
    head = read_head([(b"host", b"x"), (b"content-length", b"12"), (b"authorization", b"Bearer k"), (b"expect", b"")])
    assert head == (b"Bearer k", b"", b"", 12, True, None)
    assert read_head([(b"idempotency-key", b"")]).idempotency_key == b""
    assert read_head([]).length == -1


def test_a_plus_decoded_as_a_space_is_read_as_a_plus() -> None:
    assert destination(" 46701740605", "") == destination("+46701740605", "") == "46701740605"
    assert destination(" 13612345678", "") == "13612345678"  # which without + might be Chinese


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"to":"1","text":"x","to":"2"}', "to"),
        (b'{"to":"1","text":"x","to" : "2"}', "to"),
        (b'{"to"\n\t: "1","text":"x","to":"2"}', "to"),
        (b'{"to":"1","text":"x","brand":null,"brand":"b"}', "brand"),
        (b'{"to":"1","text":"x","\\u0074o":"1"}', "to"),
        (b'{"to":"1","text":"x","metadata":{"a":{"b":1,"c":[{"d":1,"d":2}]}}}', "metadata.a.c[0].d"),
        (b'{"to":"1","template":"t","vars":{"a":"1","a":"2"}}', "vars.a"),
        (b'{"to":"1","text":"\\"a\\":b","text":"y"}', "text"),
        (b'{"to":"1","text":"a\\u003a","to":"2"}', "to"),
        (b'{"to":"1","text":"a\\u003Ab","metadata":{"b":1,"b":1}}', "metadata.b"),
        (b'{"to":"1","text":"x","send_at":"2026-11-21T08:00:00+0200","to":"2"}', "to"),
    ],
)
def test_a_duplicate_key_is_refused_by_name(body: bytes, place: str) -> None:
    for decode, sent, found in (
        (decode_single, body, place),
        (decode_batch, b'{"messages":[{"to":"1","text":"x"},' + body + b"]}", f"messages[1].{place}"),
    ):
        with pytest.raises(HttpProblem) as refusal:
            decode(sent)
        (error,) = refusal.value.body.errors
        assert (error.field, error.code) == (found, "malformed")
        assert "duplicate key" in error.detail


@pytest.mark.parametrize(
    "message",
    [
        {"to": "1", "text": 'she said: "a": b, "c" : d and \\":'},
        {"to": "1", "text": "x", "brand": None, "metadata": {"a": [{"b": 1}, {"b": '":'}]}},
        {"to": "1", "template": "t", "vars": {'":': "x", "b": 1}},
        {"to": "1", "text": "x", "metadata": {"n": 10**400}},
    ],
)
def test_what_only_looks_like_a_duplicate_key_is_accepted(message: dict[str, object]) -> None:
    for one in (json.dumps(message), json.dumps(message, indent=1, separators=(" , ", " : "))):
        assert decode_single(one.encode()).to == "1"
        assert decode_batch(f'{{"messages":[{one},{one}]}}'.encode())[1].to == "1"


@given(st.recursive(words | st.none() | st.integers(), lambda inner: st.dictionaries(words, inner) | st.lists(inner)))
def test_no_metadata_without_repeated_fields_is_refused_for_them(tree: object) -> None:
    decode_single(msgspec.json.encode({"to": "1", "text": "x", "metadata": {"a": tree}}))


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\\\\\\ud83d", b"\\ud83d\\u0041"])
def test_half_an_emoji_is_named_and_belongs_to_its_message(half: bytes) -> None:
    bad = b'{"to":"1","text":"a ' + half + b'"}'
    with pytest.raises(HttpProblem) as refusal:
        decode_single(bad)
    assert "a lone surrogate" in refusal.value.body.errors[0].detail
    with pytest.raises(HttpProblem) as refusal:
        decode_batch(b'{"messages":[{"to":"1","text":"x"},' + bad + b"]}")
    (error,) = refusal.value.body.errors
    assert error.field == "messages[1]"
    assert "a lone surrogate" in error.detail
    whole = b'{"to":"1","text":"\\ud83d\\ude00 \\\\ud83d"}'
    assert decode_single(whole).text == "\U0001f600 \\ud83d"


def test_json_of_any_depth_is_read_or_refused() -> None:
    for depth in (10, 200, 500, 900, 980, 995, 2000, 100_000):
        tree = b'{"a":' * depth + b"1" + b"}" * depth
        try:
            decode_single(b'{"to":"1","text":"x","text":"y","metadata":' + tree + b"}")
        except HttpProblem as refusal:
            assert refusal.body.status == 400


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"to": 1}, 'expected a string of at most 32 characters, such as "+46701740605"; got a number'),
        ({"category": "sms"}, 'expected one of "emergency", "marketing", "otp", "transactional"; got \'sms\''),
        ({"priority": 7}, "expected an integer from 0 to 3"),
        ({"send_at": "tomorrow"}, 'expected a date-time with a UTC offset, such as "2026-11-21T08:00:00Z"'),
        ({"send_at": "2026-11-21T08:00:00"}, 'expected a date-time with a UTC offset, such as "2026-11-21T08:00:00Z"'),
        ({"brand": "x" * 65}, 'expected a string of at most 64 characters, such as "shop"'),
        ({"metadata": []}, 'expected an object, such as {"order": 1017}; got an array'),
        (
            {"vars": {"a": []}},
            "expected an object whose values are a string of at most 1000 characters or an integer from",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_what_is_allowed(fields: dict[str, object], said: str) -> None:
    message = {"to": "+46701740605", "text": "x"} | fields
    (name,) = fields
    for decode, body, place in (
        (decode_single, message, name),
        (decode_batch, {"messages": [message]}, f"messages[0].{name}"),
    ):
        with pytest.raises(HttpProblem) as refusal:
            decode(msgspec.json.encode(body))
        (error,) = refusal.value.body.errors
        assert error.field == place
        assert error.detail.startswith(said)
        assert "`" not in error.detail


def test_a_body_of_the_wrong_type_is_refused_with_the_expected_one() -> None:
    for decode, body, said in (
        (decode_single, b"[]", "expected a JSON object; got an array"),
        (decode_batch, b'{"messages":1}', "expected an array, such as [{"),
        (decode_batch, b'"x"', "expected a JSON object; got a string"),
    ):
        with pytest.raises(HttpProblem) as refusal:
            decode(body)
        assert refusal.value.body.errors[0].detail.startswith(said)
