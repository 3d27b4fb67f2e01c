"""From entries of a stream to JSON: who hears what."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import EnvelopeHeader, Reason, State
from gateway.store.ids import new_ids, text
from gateway.store.layout import EVENT, TOLD
from gateway.store.webhook_queues import MessageSummary, QueueAddress, StreamEntry
from gateway.webhooks.event_format import (
    Data,
    EventRef,
    Subscription,
    WebhookEvent,
    addressed,
    as_told,
    chunks,
    iso,
    wanted,
)

ONE, OTHER = new_ids(1_800_000_000_000, [0, 0])


def seen(ref: str = "order-1", url: str = "", carrier_id: str = "c0ffee", to: str = "46701234567") -> MessageSummary:
    return MessageSummary(EnvelopeHeader(to, "sender", "shop", 2, "brand", ref, url), 2, carrier_id, 1_800_000_000_000)


SIGHT = seen()


def packed(
    message: bytes = ONE,
    sequence: int = 4,
    state: State = State.DELIVERED,
    *,
    final: bool = True,
    account: bytes = b"shop",
    carrier: bytes = b"",
    carrier_id: bytes = b"",
    error: bytes = b"",
    reason: Reason = Reason.RECEIPT,
) -> bytes:
    lengths = len(account), len(carrier), len(carrier_id), len(error)
    head = EVENT.pack(message, sequence, state, State.SENT, reason, final, 0, 2, *lengths)
    return head + account + carrier + carrier_id + error


def entry(*events: bytes) -> StreamEntry:
    return StreamEntry(b"".join(events), 1_800_000_000_123, None)


def told(entries: list[StreamEntry], subscriptions: Mapping[bytes, Subscription]) -> list[tuple[bytes, int]]:
    return [(one.id, one.at) for one in wanted(entries, subscriptions)]


def test_only_what_is_wanted_is_taken() -> None:
    sent = packed(state=State.SENT, final=False, carrier=b"north", carrier_id=b"abc")
    entries = [entry(sent, packed(), packed(OTHER, account=b"bank")), entry(packed(OTHER))]
    assert told(entries, {}) == []
    assert told(entries, {b"shop": Subscription("shop")}) == [(ONE, len(sent)), (OTHER, 0)]
    assert told(entries, {b"shop": Subscription("shop", everything=True)}) == [(ONE, 0), (ONE, len(sent)), (OTHER, 0)]
    assert told(entries, {b"bank": Subscription("bank")}) == [(OTHER, len(sent) + len(packed()))]


SHOP = Subscription("shop")


def one(event: bytes, subscription: Subscription = SHOP) -> list[EventRef]:
    return wanted([entry(event)], {b"shop": subscription})


def test_an_event_as_receivers_get_it() -> None:
    event = packed(carrier=b"north", error=b"001")
    queues = addressed(one(event), {ONE: SIGHT})
    assert list(queues) == [QueueAddress("shop", "")]
    ((count, plain),) = chunks(queues[QueueAddress("shop", "")], 100)
    assert count == 1
    assert msgspec.json.decode(plain) == {
        "id": f"{text(ONE)}.4",
        "type": "message.delivered",
        "time": "2027-01-15T08:00:00.123Z",
        "account": "shop",
        "sequence": 4,
        "data": {
            "message_id": text(ONE),
            "client_ref": "order-1",
            "to": "+46701234567",
            "status": "delivered",
            "previous_status": "sent",
            "reason": "receipt",
            "carrier": "north",
            "carrier_message_id": "c0ffee",
            "smpp_status": 0,
            "receipt_error": "001",
            "segments": 2,
            "parts_accepted": 2,
            "done_at": "2027-01-15T08:00:00.000Z",
        },
    }


def test_only_a_receipt_brings_the_carriers_date() -> None:
    """Though the record has it by the time an earlier move is told of."""

    def date(event: bytes, summary: MessageSummary) -> str | None:
        ((told_of,),) = addressed(one(event), {ONE: summary}).values()
        return msgspec.json.decode(told_of, type=WebhookEvent, strict=True).data.done_at

    undated = SIGHT._replace(done_at=0)
    assert date(packed(), undated) is None
    assert date(packed(reason=Reason.CANCELED), SIGHT) is None


def test_a_message_whose_record_is_gone_is_told_of_all_the_same() -> None:
    ((told_of,),) = addressed(one(packed(carrier_id=b"xyz")), {}).values()
    event = msgspec.json.decode(told_of, type=WebhookEvent, strict=True)
    assert event.data.to is None
    assert event.data.client_ref is None
    assert event.data.carrier_message_id == "xyz"


@given(
    *(st.text(max_size=20) for _ in range(2)),
    st.binary(max_size=12),
    st.binary(max_size=12),
    st.sampled_from(State),
    st.sampled_from(Reason),
)
def test_the_json_is_what_the_type_says(
    ref: str, account: str, carrier_id: bytes, error: bytes, state: State, reason: Reason
) -> None:
    name = account.encode("utf-8", "replace")
    lengths = len(name), 5, len(carrier_id), len(error)
    head = EVENT.pack(ONE, 7, state, 0, reason, 1, 0x411, 3, *lengths)
    event = head + name + b"north" + carrier_id + error
    client_ref = ref.encode("utf-8", "replace").decode()
    summary = seen(client_ref, to="123", carrier_id="")
    subscription = Subscription(name.decode())
    ((written,),) = addressed(wanted([entry(event)], {name: subscription}), {ONE: summary}).values()
    data = Data(
        text(ONE),
        client_ref or None,
        "+123",
        state.name.lower(),
        None,
        reason.name.lower() if reason else None,
        "north",
        carrier_id.decode("latin-1") or None,
        0x411,
        error.decode("utf-8", "replace") or None,
        2,
        3,
        "2027-01-15T08:00:00.000Z" if reason is Reason.RECEIPT else None,
    )
    expected = WebhookEvent(
        f"{text(ONE)}.7", f"message.{state.name.lower()}", "2027-01-15T08:00:00.123Z", subscription.account, 7, data
    )
    if subscription.account:
        assert msgspec.json.decode(written, type=WebhookEvent) == expected
        assert msgspec.json.encode(expected) == written.encode()


def test_a_message_may_name_its_receiver() -> None:
    named = seen(url="https://elsewhere.example/")
    assert list(addressed(one(packed()), {ONE: named})) == [QueueAddress("shop", "https://elsewhere.example/")]
    stranger = Subscription("shop", own=False)
    assert list(addressed(one(packed(), stranger), {ONE: named})) == [
        QueueAddress("shop", "https://elsewhere.example/")
    ]
    assert addressed(one(packed(), stranger), {ONE: SIGHT}) == {}


def test_entries_that_bring_along_what_is_told_need_no_record() -> None:
    """The short way and the long way write the same."""
    sent, shop, bank = packed(state=State.SENT, final=False), packed(carrier=b"north"), packed(OTHER, account=b"bank")
    told = b"".join(
        TOLD.pack(where, 2, 1_800_000_000, 6, 8) + b"c0ffee" + envelope
        for where, envelope in ((len(sent), b"envelope"), (len(sent) + len(shop), b"of bank!"))
    )
    given = StreamEntry(sent + shop + bank, 1_800_000_000_123, told)
    asked: list[bytes] = []

    def reveal(sealed: bytes) -> EnvelopeHeader:
        asked.append(sealed)
        return SIGHT.header

    subscriptions = {b"shop": SHOP}
    assert as_told([given], subscriptions, reveal) == addressed(wanted([given], subscriptions), {ONE: SIGHT})
    assert asked == [b"envelope"]  # of accounts that nobody hears of nothing is opened
    assert as_told([given, entry(shop)], subscriptions, reveal) is None
    assert as_told([given], {b"shop": Subscription("shop", everything=True)}, reveal) is None
    assert as_told([StreamEntry(sent, 1_800_000_000_123, b"")], subscriptions, reveal) == {}


def test_pieces_are_no_larger_than_asked_for() -> None:
    events = addressed(
        wanted([entry(*[packed(sequence=n) for n in range(5)])], {b"shop": Subscription("shop")}), {ONE: SIGHT}
    )
    cut = chunks(events[QueueAddress("shop", "")], 2)
    assert [count for count, _ in cut] == [2, 2, 1]
    assert [event["sequence"] for event in msgspec.json.decode(b"[" + b",".join(p for _, p in cut) + b"]")] == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_instants() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000Z"


def test_an_event_that_cannot_be_written_keeps_no_other_back() -> None:
    """A carrier's name that is no UTF-8; a sealed envelope that opens to nonsense."""
    bad, good = packed(sequence=3, carrier=b"\xff\xfe"), packed()
    spoilt: list[bytes] = []
    queues = addressed(one(bad) + one(good), {ONE: SIGHT}, lambda event, error: spoilt.append(event[:20]))
    assert [len(some) for some in queues.values()] == [1]
    assert spoilt == [ONE + (3).to_bytes(4, "big")]

    def reveal(sealed: bytes) -> EnvelopeHeader:
        if sealed == b"nonsense":
            raise msgspec.DecodeError("nonsense")
        return SIGHT.header

    told = b"".join(
        TOLD.pack(where, 2, 0, 0, 8) + envelope for where, envelope in ((0, b"nonsense"), (len(good), b"envelope"))
    )
    both = StreamEntry(good + packed(OTHER), 1_800_000_000_123, told)
    queues = as_told([both], {b"shop": SHOP}, reveal, lambda event, error: spoilt.append(event[:20])) or {}
    assert [len(some) for some in queues.values()] == [1]
    assert spoilt[1:] == [ONE + (4).to_bytes(4, "big")]
