"""A carrier's date stays with the part that its receipt is about, wherever the receipt waited; the first one counts."""

from __future__ import annotations

import msgspec

from gateway.model import PartState, ReceiptFact, ReceiptMatch, Recipient, State
from gateway.store.crypto import Vault
from gateway.store.receipt_index import IndexedId, ReceiptIndex
from gateway.store.webhook_queues import WebhookQueues
from gateway.webhooks.event_format import Subscription, WebhookEvent, as_told, iso
from tests.store.test_scripts import OWNER, Desk

DONE, LATER = 1_799_999_940_000, 1_799_999_950_000


def dated(desk: Desk, recipient: Recipient, one: bytes, at: int, state: PartState = PartState.DELIVERED) -> ReceiptFact:
    return msgspec.structs.replace(desk.receipt(recipient, one, state=state), at=at)


def test_every_part_has_its_own_and_a_repeat_changes_none(desk: Desk) -> None:
    message = desk.message(segments=2)
    who = message.recipient
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a", b"b"), receipts=[dated(desk, who, b"a", DONE)])
    receipts = [dated(desk, who, b"a", LATER), dated(desk, who, b"b", LATER), dated(desk, who, b"b", DONE)]
    assert desk.report(receipts=receipts) == [ReceiptMatch.REPEATED, ReceiptMatch.APPLIED, ReceiptMatch.REPEATED]
    record = desk.record(message)
    assert (record.state, [part.done_at for part in record.parts]) == (State.DELIVERED, [DONE, LATER])
    webhook_queues = WebhookQueues(
        desk.link, desk.hasher, Vault({1: bytes(32)}, 1), partitions=desk.store.partitions, keep=1
    )
    summary = desk.run(webhook_queues.summaries([message.id]))[message.id]
    assert (summary.done_at, summary.carrier_id) == (LATER, "a"), "a message is done when its last part is"


def test_the_event_of_its_end_brings_the_date_along(desk: Desk) -> None:
    message = desk.message()
    webhook_queues = WebhookQueues(
        desk.link, desk.hasher, Vault({1: bytes(32)}, 1), partitions=desk.store.partitions, keep=1
    )
    desk.run(webhook_queues.follow())
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a"), receipts=[dated(desk, message.recipient, b"a", DONE)])
    (tail,) = desk.run(webhook_queues.read(OWNER, [message.recipient.partition], ends=True))
    ((event,),) = (as_told(tail.entries, {b"shop": Subscription("shop")}, webhook_queues.reveal) or {}).values()
    assert msgspec.json.decode(event, type=WebhookEvent).data.done_at == iso(DONE)


def test_every_event_tells_what_was_known_at_its_move(desk: Desk) -> None:
    """However late it is posted: of an account that wants all, nothing is looked up."""
    message = desk.message()
    message.envelope.metadata = {"order": [1, "två"]}
    webhook_queues = WebhookQueues(
        desk.link, desk.hasher, Vault({1: bytes(32)}, 1), partitions=desk.store.partitions, keep=1
    )
    desk.run(webhook_queues.follow())
    desk.run(webhook_queues.hear_all(["shop"]))
    desk.accept(message)
    desk.report(desk.sent(desk.take().leased[0], b"a"))
    desk.report(receipts=[dated(desk, message.recipient, b"a", DONE)])
    (tail,) = desk.run(webhook_queues.read(OWNER, [message.recipient.partition]))
    subscriptions = {b"shop": Subscription("shop", everything=True)}
    ((*events,),) = (as_told(tail.entries, subscriptions, webhook_queues.reveal) or {}).values()
    told = [msgspec.json.decode(event, type=WebhookEvent).data for event in events]
    assert [(one.status, one.carrier_message_id, one.done_at) for one in told] == [
        ("queued", None, None),
        ("sending", None, None),
        ("sent", "a", None),
        ("delivered", "a", iso(DONE)),
    ]
    assert all((one.to, one.metadata) == (f"+{message.envelope.to}", {"order": [1, "två"]}) for one in told)
    ((end,),) = (as_told(tail.entries, {b"shop": Subscription("shop")}, webhook_queues.reveal) or {}).values()
    assert msgspec.json.decode(end)["type"] == "message.delivered"
    desk.run(webhook_queues.hear_all([]))
    other = desk.message()
    desk.accept(other)
    (tail,) = desk.run(webhook_queues.read(OWNER, [other.recipient.partition]))
    assert as_told(tail.entries[-1:], subscriptions, webhook_queues.reveal) is None, "what was not told is looked up"


def test_a_receipt_that_came_early_keeps_its_date(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    early = dated(desk, message.recipient, b"a", DONE, PartState.UNDELIVERED)
    assert desk.report(receipts=[early]) == [ReceiptMatch.PARKED]
    desk.report(desk.sent(leased, b"a"))
    record = desk.record(message)
    assert (record.state, record.parts[0].done_at) == (State.UNDELIVERED, DONE)
    assert record.timeline[-1].error == "000"


def test_one_that_settles_a_message_without_an_id(desk: Desk) -> None:
    message = desk.message()
    desk.accept(message)
    (leased,) = desk.take().leased
    receipt = msgspec.structs.replace(desk.stranger(message.recipient, b"unheard-of"), at=DONE)
    assert desk.report(desk.sent(leased, b""), receipts=[receipt]) == [ReceiptMatch.APPLIED]
    assert desk.record(message).parts[0].done_at == DONE


def test_one_that_is_found_by_its_id_alone(desk: Desk) -> None:
    index = ReceiptIndex(desk.store, desk.link)
    message = desk.message()
    nobody = ReceiptFact("north", (b"a",), Recipient("", bytes(16), 0), PartState.DELIVERED, "000", DONE)
    assert desk.run(index.locate("north", [nobody])) == [None]
    (early,) = desk.run(index.index("north", [IndexedId(b"a", message.id, 0, message.recipient.key)]))
    (found,) = desk.run(index.locate("north", [nobody]))
    assert found is not None
    assert (early.at, early.error, found.at, found.error) == (DONE, "000", DONE, "000")
