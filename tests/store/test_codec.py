"""A record reads back as it was packed, and Python and Lua mean the same bytes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import (
    Cap,
    Category,
    Check,
    Content,
    DecisionDetail,
    Envelope,
    NewMessage,
    OnUnknown,
    Permission,
    Reason,
    Recipient,
    State,
)
from gateway.store import layout
from gateway.store.codec import pack_decision, pack_new, read_leased, read_redecide
from gateway.store.crypto import Vault
from gateway.store.ids import new_ids
from gateway.store.library import build_library
from gateway.store.records import TimelineStep, read_record

VAULT = Vault({1: bytes(32)}, 1)
NOW = 1_795_000_000_123

instants = st.integers(0, 2**53)
scopes = st.binary(min_size=8, max_size=8)
words = st.text(max_size=20)


@st.composite
def messages(draw: st.DrawFn) -> NewMessage:
    partition = draw(st.integers(0, 1023))
    digits = draw(st.text("0123456789", min_size=3, max_size=15))
    recipient = Recipient(digits, draw(st.binary(min_size=16, max_size=16)), partition)
    category = draw(st.sampled_from(Category))
    caps = draw(st.lists(st.builds(Cap, scopes, st.integers(0, 1000), st.integers(1, 2**31)), max_size=4))
    return NewMessage(
        new_ids(NOW, [partition])[0],
        recipient,
        draw(st.sampled_from([State.QUEUED, State.SCHEDULED, State.DEFERRED, State.HELD])),
        draw(st.sampled_from(Reason)),
        draw(instants),
        category,
        draw(st.sampled_from(OnUnknown)),
        draw(words),
        draw(st.integers(1, 65535)),
        draw(st.integers(1, 255)),
        Permission(
            draw(instants),
            draw(instants),
            draw(instants),
            draw(st.sampled_from(Check)),
            draw(scopes),
            draw(scopes),
            draw(scopes),
            tuple(caps),
            draw(st.integers(0, 2**32 - 1)),
        ),
        Envelope(digits, draw(words), draw(words), int(category), draw(words), metadata={"a": [1, None]}),
        Content(draw(words), data=draw(st.binary(max_size=200))),
    )


@settings(deadline=None)  # a shared machine
@given(messages())
def test_a_record_reads_back(message: NewMessage) -> None:
    raw = pack_new(message, VAULT, message.due)
    record = read_record(message.id, raw, VAULT)
    permission = message.permission
    assert (record.id, record.recipient) == (message.id, message.recipient)
    assert (record.state, record.reason, record.category) == (message.state, message.reason, message.category)
    assert (record.route, record.account, record.segments) == (
        message.route,
        message.envelope.account,
        message.segments,
    )
    assert (record.opens, record.closes, record.expires) == (permission.opens, permission.closes, permission.expires)
    assert (record.envelope, record.content) == (message.envelope, message.content)
    assert (record.accepted_at, record.moved_at, record.due) == (NOW, NOW, message.due)
    put_off = message.due and message.state in (State.SCHEDULED, State.DEFERRED)
    decision = DecisionDetail(message.due) if put_off else None
    assert record.timeline == (TimelineStep(message.state, message.reason, NOW, decision=decision),)
    assert (record.parts, record.carrier, record.final) == ((), "", False)

    leased = read_leased(message.id, raw, 7, VAULT)
    assert (leased.lease, leased.recipient, leased.route) == (7, message.recipient, message.route)
    assert (leased.closes, leased.expires) == (permission.closes, permission.expires)
    assert (leased.envelope, leased.content) == (message.envelope, message.content)
    again = read_redecide(message.id, raw, Reason.QUIET_HOURS, 9, VAULT)
    assert (again.token, again.reason, again.state) == (9, Reason.QUIET_HOURS, message.state)


def test_a_refused_message_keeps_no_content() -> None:
    message = NewMessage(
        new_ids(NOW, [0])[0],
        Recipient("4670", bytes(16), 0),
        State.REJECTED,
        Reason.OPTED_OUT,
        0,
        Category.MARKETING,
        OnUnknown.NEVER,
        "",
        1,
        1,
        Permission(0, 0, 0, 0, bytes(8), bytes(8)),
        Envelope("4670", "", "shop", 2, ""),
        Content("hello"),
    )
    record = read_record(message.id, pack_new(message, VAULT, 5), VAULT)
    assert (record.content, record.final, record.due, record.opens) == (None, True, 5, 0)


def test_the_head_is_described_once() -> None:
    assert layout.RecordHead._fields == tuple(name for name, _ in layout.HEAD_FIELDS)
    assert layout.HEAD_FIELDS[0] == ("reference_number", "H")  # accept writes it over


def test_formats_in_the_notation_of_luas_struct() -> None:
    assert layout.lua_format(layout.PERMISSION) == ">I8I8I4c8c8c8"
    assert layout.lua_format(layout.CAP) == ">c8I4I4"


def test_the_library_is_plain_lua_and_named_by_its_content() -> None:
    library = build_library()
    assert library.source.startswith(f"#!lua name={library.name}\n")
    assert library.function("take") in library.source
    for word in ("State.", "Reason.", "Format.", "r.state", "--"):
        assert word not in library.source
    assert build_library() == library
    assert build_library("return 0").name != library.name


def test_an_unknown_word_in_a_function_is_found_when_the_library_is_built() -> None:
    from gateway.store.library import _plain

    with pytest.raises(KeyError):
        _plain("r.no_such_field", {})
    with pytest.raises(KeyError):
        _plain("x = State.NOWHERE", {})
    with pytest.raises(KeyError):
        _plain("x = Format.NOTHING", {})


texts = st.text(max_size=30)


@given(
    st.builds(
        DecisionDetail,
        st.integers(0, 2**48),
        st.none() | st.lists(texts, max_size=9).map(tuple),
        st.none() | st.lists(texts, max_size=45).map(tuple),
        st.none() | st.just("1-8d3d60b7-tz2026f"),
    )
)
def test_what_policy_said_fits_a_step_of_the_timeline(decision: DecisionDetail) -> None:
    packed = pack_decision(decision)
    kept = msgspec.msgpack.decode(packed, type=DecisionDetail)
    assert len(packed) <= 250
    assert (kept.next_at, kept.policy_version) == (decision.next_at, decision.policy_version)
    for some, every in ((kept.rules, decision.rules), (kept.zones, decision.zones)):
        if some != every:
            assert some is not None
            assert every is not None
            assert some == (*every[: len(some) - 1], "…")
    if len(msgspec.msgpack.encode(decision)) <= 250:
        assert kept == decision
