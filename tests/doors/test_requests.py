"""Any body at all is read or refused with its faults at their places."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.doors.problems import HttpProblem
from gateway.doors.requests import MAX_FAULTS, decode_batch, decode_single, destination, read_head
from gateway.pipeline.submission import Submission

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


def test_a_batch_of_nonsense_names_the_first_twenty() -> None:
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
        (b'{"messages": ', "", "too early (byte 13)"),
        (b'{"messages": +46}', "", "(byte 13)"),
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


def test_a_plus_may_have_become_a_space() -> None:
    assert destination(" 46701740605", "") == destination("+46701740605", "") == "46701740605"
    assert destination(" 13612345678", "") == "13612345678"  # which without + might be Chinese
