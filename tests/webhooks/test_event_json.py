"""From entries of a stream to JSON: which account gets which event."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.model import EnvelopeHeader, Reason, State
from gateway.store.ids import new_ids, text
from gateway.store.layout import EVENT, SUMMARY
from gateway.store.webhook_queues import MessageSummary, QueueAddress, StreamEntry
from gateway.webhooks.event_json import (
    EventRef,
    Subscription,
    WebhookEvent,
    WebhookEventData,
    chunks,
    rfc3339,
    wanted_events,
    write_looked_up,
    write_summarized,
)

ONE, OTHER = new_ids(1_800_000_000_000, [0, 0])


def summary_of(
    ref: str = "order-1", url: str = "", carrier_id: str = "c0ffee", to: str = "46701234567"
) -> MessageSummary:
    return MessageSummary(EnvelopeHeader(to, "sender", "shop", 2, "brand", ref, url), 2, carrier_id, 1_800_000_000_000)


KNOWN = summary_of()


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


def refs_of(entries: list[StreamEntry], subscriptions: Mapping[bytes, Subscription]) -> list[tuple[bytes, int]]:
    return [(one.id, one.at) for one in wanted_events(entries, subscriptions)]


def test_only_wanted_events_are_taken() -> None:
    sent = packed(state=State.SENT, final=False, carrier=b"north", carrier_id=b"abc")
    entries = [entry(sent, packed(), packed(OTHER, account=b"bank")), entry(packed(OTHER))]
    assert refs_of(entries, {}) == []
    assert refs_of(entries, {b"shop": Subscription("shop")}) == [(ONE, len(sent)), (OTHER, 0)]
    assert refs_of(entries, {b"shop": Subscription("shop", everything=True)}) == [
        (ONE, 0),
        (ONE, len(sent)),
        (OTHER, 0),
    ]
    assert refs_of(entries, {b"bank": Subscription("bank")}) == [(OTHER, len(sent) + len(packed()))]


SHOP = Subscription("shop")


def one(event: bytes, subscription: Subscription = SHOP) -> list[EventRef]:
    return wanted_events([entry(event)], {b"shop": subscription})


def test_an_event_as_endpoints_get_it() -> None:
    event = packed(carrier=b"north", error=b"001")
    queues = write_looked_up(one(event), {ONE: KNOWN})
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
    """Though the record has it by the time an earlier move is posted."""

    def date(event: bytes, summary: MessageSummary) -> str | None:
        ((written,),) = write_looked_up(one(event), {ONE: summary}).values()
        return msgspec.json.decode(written, type=WebhookEvent, strict=True).data.done_at

    undated = KNOWN._replace(done_at=0)
    assert date(packed(), undated) is None
    assert date(packed(reason=Reason.CANCELED), KNOWN) is None


def test_a_message_whose_record_is_gone_has_its_event_all_the_same() -> None:
    ((written,),) = write_looked_up(one(packed(carrier_id=b"xyz")), {}).values()
    event = msgspec.json.decode(written, type=WebhookEvent, strict=True)
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
    summary = summary_of(client_ref, to="123", carrier_id="")
    subscription = Subscription(name.decode())
    ((written,),) = write_looked_up(wanted_events([entry(event)], {name: subscription}), {ONE: summary}).values()
    data = WebhookEventData(
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


def test_a_message_may_name_its_endpoint() -> None:
    named = summary_of(url="https://elsewhere.example/")
    assert list(write_looked_up(one(packed()), {ONE: named})) == [QueueAddress("shop", "https://elsewhere.example/")]
    stranger = Subscription("shop", own=False)
    assert list(write_looked_up(one(packed(), stranger), {ONE: named})) == [
        QueueAddress("shop", "https://elsewhere.example/")
    ]
    assert write_looked_up(one(packed(), stranger), {ONE: KNOWN}) == {}


def test_entries_with_summaries_need_no_lookup() -> None:
    """The short way and the long way write the same."""
    sent, shop, bank = packed(state=State.SENT, final=False), packed(carrier=b"north"), packed(OTHER, account=b"bank")
    summaries = b"".join(
        SUMMARY.pack(where, 2, 1_800_000_000, 6, 8) + b"c0ffee" + envelope
        for where, envelope in ((len(sent), b"envelope"), (len(sent) + len(shop), b"of bank!"))
    )
    given = StreamEntry(sent + shop + bank, 1_800_000_000_123, summaries)
    asked: list[bytes] = []

    def open_header(sealed: bytes) -> EnvelopeHeader:
        asked.append(sealed)
        return KNOWN.header

    subscriptions = {b"shop": SHOP}
    assert write_summarized([given], subscriptions, open_header) == write_looked_up(
        wanted_events([given], subscriptions), {ONE: KNOWN}
    )
    assert asked == [b"envelope"]  # envelopes of other accounts stay sealed
    assert write_summarized([given, entry(shop)], subscriptions, open_header) is None
    assert write_summarized([given], {b"shop": Subscription("shop", everything=True)}, open_header) is None
    assert write_summarized([StreamEntry(sent, 1_800_000_000_123, b"")], subscriptions, open_header) == {}


def test_chunks_are_no_larger_than_the_batch() -> None:
    events = write_looked_up(
        wanted_events([entry(*[packed(sequence=n) for n in range(5)])], {b"shop": Subscription("shop")}), {ONE: KNOWN}
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
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_an_event_that_cannot_be_written_does_not_stop_others() -> None:
    """A carrier's name that is no UTF-8; a sealed envelope that opens to nonsense."""
    bad, good = packed(sequence=3, carrier=b"\xff\xfe"), packed()
    unwritable: list[bytes] = []
    queues = write_looked_up(one(bad) + one(good), {ONE: KNOWN}, lambda event, error: unwritable.append(event[:20]))
    assert [len(some) for some in queues.values()] == [1]
    assert unwritable == [ONE + (3).to_bytes(4, "big")]

    def open_header(sealed: bytes) -> EnvelopeHeader:
        if sealed == b"nonsense":
            raise msgspec.DecodeError("nonsense")
        return KNOWN.header

    summaries = b"".join(
        SUMMARY.pack(where, 2, 0, 0, 8) + envelope for where, envelope in ((0, b"nonsense"), (len(good), b"envelope"))
    )
    both = StreamEntry(good + packed(OTHER), 1_800_000_000_123, summaries)
    queues = (
        write_summarized([both], {b"shop": SHOP}, open_header, lambda event, error: unwritable.append(event[:20])) or {}
    )
    assert [len(some) for some in queues.values()] == [1]
    assert unwritable[1:] == [ONE + (4).to_bytes(4, "big")]
