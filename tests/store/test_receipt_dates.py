"""A carrier's date stays with the part that its receipt is about, wherever the receipt waited; the first one counts."""

from __future__ import annotations

import msgspec

from gateway.model import PartState, ReceiptFact, ReceiptMatch, Recipient, State
from gateway.store.crypto import Vault
from gateway.store.receipt_index import IndexedId, ReceiptIndex
from gateway.store.webhook_queues import WebhookQueues
from gateway.webhooks.event_json import Subscription, WebhookEvent, rfc3339, write_summarized
from tests.store.message_driver import OWNER, MessageDriver

DONE, LATER = 1_799_999_940_000, 1_799_999_950_000


def dated(
    driver: MessageDriver, recipient: Recipient, one: bytes, at: int, state: PartState = PartState.DELIVERED
) -> ReceiptFact:
    return msgspec.structs.replace(driver.receipt(recipient, one, state=state), at=at)


def test_every_part_has_its_own_and_a_repeat_changes_none(driver: MessageDriver) -> None:
    message = driver.message(segments=2)
    who = message.recipient
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a", b"b"), receipts=[dated(driver, who, b"a", DONE)])
    receipts = [dated(driver, who, b"a", LATER), dated(driver, who, b"b", LATER), dated(driver, who, b"b", DONE)]
    assert driver.report(receipts=receipts) == [ReceiptMatch.REPEATED, ReceiptMatch.APPLIED, ReceiptMatch.REPEATED]
    record = driver.record(message)
    assert (record.state, [part.done_at for part in record.parts]) == (State.DELIVERED, [DONE, LATER])
    webhook_queues = WebhookQueues(
        driver.link, driver.hasher, Vault({1: bytes(32)}, 1), partitions=driver.store.partitions, keep=1
    )
    summary = driver.run(webhook_queues.summaries([message.id]))[message.id]
    assert (summary.done_at, summary.carrier_id) == (LATER, "a"), "a message is done when its last part is"


def test_the_event_of_its_end_brings_the_date_along(driver: MessageDriver) -> None:
    message = driver.message()
    webhook_queues = WebhookQueues(
        driver.link, driver.hasher, Vault({1: bytes(32)}, 1), partitions=driver.store.partitions, keep=1
    )
    driver.run(webhook_queues.follow())
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a"), receipts=[dated(driver, message.recipient, b"a", DONE)])
    (tail,) = driver.run(webhook_queues.read(OWNER, [message.recipient.partition], finals_only=True))
    ((event,),) = (
        write_summarized(tail.entries, {b"shop": Subscription("shop")}, webhook_queues.open_header) or {}
    ).values()
    assert msgspec.json.decode(event, type=WebhookEvent).data.done_at == rfc3339(DONE)


def test_every_event_tells_what_was_known_at_its_move(driver: MessageDriver) -> None:
    """However late it is posted: of an account that wants all, nothing is looked up."""
    message = driver.message()
    message.envelope.metadata = {"order": [1, "två"]}
    webhook_queues = WebhookQueues(
        driver.link, driver.hasher, Vault({1: bytes(32)}, 1), partitions=driver.store.partitions, keep=1
    )
    driver.run(webhook_queues.follow())
    driver.run(webhook_queues.want_all(["shop"]))
    driver.accept(message)
    driver.report(driver.sent(driver.take().leased[0], b"a"))
    driver.report(receipts=[dated(driver, message.recipient, b"a", DONE)])
    (tail,) = driver.run(webhook_queues.read(OWNER, [message.recipient.partition]))
    subscriptions = {b"shop": Subscription("shop", everything=True)}
    ((*events,),) = (write_summarized(tail.entries, subscriptions, webhook_queues.open_header) or {}).values()
    data = [msgspec.json.decode(event, type=WebhookEvent).data for event in events]
    assert [(one.status, one.carrier_message_id, one.done_at) for one in data] == [
        ("queued", None, None),
        ("sending", None, None),
        ("sent", "a", None),
        ("delivered", "a", rfc3339(DONE)),
    ]
    assert all((one.to, one.metadata) == (f"+{message.envelope.to}", {"order": [1, "två"]}) for one in data)
    ((end,),) = (
        write_summarized(tail.entries, {b"shop": Subscription("shop")}, webhook_queues.open_header) or {}
    ).values()
    assert msgspec.json.decode(end)["type"] == "message.delivered"
    driver.run(webhook_queues.want_all([]))
    other = driver.message()
    driver.accept(other)
    (tail,) = driver.run(webhook_queues.read(OWNER, [other.recipient.partition]))
    assert write_summarized(tail.entries[-1:], subscriptions, webhook_queues.open_header) is None, (
        "an event without a summary is looked up"
    )


def test_a_receipt_that_came_early_keeps_its_date(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    early = dated(driver, message.recipient, b"a", DONE, PartState.UNDELIVERED)
    assert driver.report(receipts=[early]) == [ReceiptMatch.PARKED]
    driver.report(driver.sent(leased, b"a"))
    record = driver.record(message)
    assert (record.state, record.parts[0].done_at) == (State.UNDELIVERED, DONE)
    assert record.timeline[-1].error == "000"


def test_one_that_settles_a_message_without_an_id(driver: MessageDriver) -> None:
    message = driver.message()
    driver.accept(message)
    (leased,) = driver.take().leased
    receipt = msgspec.structs.replace(driver.unmatched_receipt(message.recipient, b"unheard-of"), at=DONE)
    assert driver.report(driver.sent(leased, b""), receipts=[receipt]) == [ReceiptMatch.APPLIED]
    assert driver.record(message).parts[0].done_at == DONE


def test_one_that_is_found_by_its_id_alone(driver: MessageDriver) -> None:
    index = ReceiptIndex(driver.store, driver.link)
    message = driver.message()
    nobody = ReceiptFact("north", (b"a",), Recipient("", bytes(16), 0), PartState.DELIVERED, "000", DONE)
    assert driver.run(index.locate("north", [nobody])) == [None]
    (early,) = driver.run(index.index("north", [IndexedId(b"a", message.id, 0, message.recipient.key)]))
    (found,) = driver.run(index.locate("north", [nobody]))
    assert found is not None
    assert (early.at, early.error, found.at, found.error) == (DONE, "000", DONE, "000")
