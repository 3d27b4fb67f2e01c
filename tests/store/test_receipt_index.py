"""Receipts found by (carrier, id) alone, wherever the message lives."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.carriers.receipts_by_id import ParkedReceiptRelocator, ProgressById
from gateway.model import (
    NewMessage,
    PartState,
    Reason,
    ReceiptFact,
    ReceiptMatch,
    Recipient,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store.errors import StoreUnavailable
from gateway.store.layout import FunctionConstant
from gateway.store.receipt_index import IndexedId, ReceiptIndex
from tests.servers import Server
from tests.store.message_driver import OWNER, MessageDriver

NOBODY = Recipient("", bytes(16), 0)


class IndexDriver(MessageDriver):
    """A driver with an index of ids."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.index = ReceiptIndex(self.store, self.link)
        self.by_id = ProgressById(self.store, self.index, "north")
        self.relocator = ParkedReceiptRelocator(self.store, self.index, OWNER)

    def progress(self, *answers: SubmitResult, receipts: tuple[ReceiptFact, ...] = ()) -> list[ReceiptMatch]:
        return self.run(self.by_id.progress(OWNER, answers, receipts))

    def said(self, *ids: bytes, state: PartState = PartState.DELIVERED) -> tuple[ReceiptFact, ...]:
        return (ReceiptFact("north", ids, NOBODY, state, "000"),)

    def sending(self, digits: str = "46700000001") -> tuple[NewMessage, SubmitResult]:
        """A message that is leased, and the answer that brings the id ``id-1``."""
        message = self.message(digits)
        self.accept(message)
        (leased,) = self.take().leased
        answer = self.sent(leased, b"id-1")
        answer.recipient = leased.recipient.key
        return message, answer

    def parked_keys(self) -> int:
        return sum(
            self.run(self.link.command(p, "HLEN", self.link.tags[p] + b"jk")) for p in range(self.store.partitions)
        )


@pytest.fixture(scope="module")
def shared(single_server: Server) -> Iterator[IndexDriver]:
    single_server.flush()
    driver = IndexDriver(single_server.url)
    yield driver
    driver.close()


@pytest.fixture
def driver(shared: IndexDriver) -> IndexDriver:
    shared.reset()
    return shared


def test_a_receipt_without_its_recipient(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    assert driver.index.partition("north", b"id-1") != message.recipient.partition  # or this would prove less
    assert driver.progress(answer) == []
    assert driver.progress(receipts=driver.said(b"id-1")) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED
    assert driver.progress(receipts=driver.said(b"id-1")) == [ReceiptMatch.REPEATED]
    assert driver.parked_keys() == 0


def test_before_its_answer_it_is_parked(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    assert driver.progress(receipts=driver.said(b"id-1", state=PartState.ACCEPTED)) == [ReceiptMatch.PARKED]
    assert driver.progress(receipts=driver.said(b"id-1", state=PartState.UNDELIVERED)) == [ReceiptMatch.PARKED]
    assert driver.progress(receipts=driver.said(b"id-1", state=PartState.ACCEPTED)) == [ReceiptMatch.PARKED]
    assert driver.parked_keys() == 1
    driver.progress(answer)
    assert driver.record(message).state is State.UNDELIVERED  # the final one was kept
    assert driver.parked_keys() == 0


@pytest.mark.parametrize("whole", [False, True], ids=["each", "last"])
@pytest.mark.parametrize(
    "first", [PartState.ACCEPTED, PartState.RECEIPT_UNKNOWN, PartState.RECEIPT_UNREADABLE], ids=lambda state: state.name
)
def test_a_final_receipt_takes_the_place_of_one_that_is_none(
    driver: IndexDriver, first: PartState, whole: bool
) -> None:
    message, answer = driver.sending()
    for state in (first, PartState.DELIVERED, first):
        (receipt,) = driver.said(b"id-1", state=state)
        receipt.whole = whole
        assert driver.progress(receipts=(receipt,)) == [ReceiptMatch.PARKED]
    driver.progress(answer)
    assert driver.record(message).state is State.DELIVERED


def test_in_the_same_call_as_its_answer(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    assert driver.progress(answer, receipts=driver.said(b"id-1")) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED


def test_other_forms_of_the_id(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    driver.progress(answer)
    assert driver.progress(receipts=driver.said(b"x", b"id-1", b"y")) == [ReceiptMatch.APPLIED]
    assert driver.record(message).state is State.DELIVERED
    assert driver.parked_keys() == 0  # nothing is left of the unknown forms


def test_the_newest_message_of_an_id_counts(driver: IndexDriver) -> None:
    old, first = driver.sending()
    driver.progress(first)
    driver.later(3_700_000)
    new, second = driver.sending()
    driver.progress(second)
    driver.progress(receipts=driver.said(b"id-1"))
    assert [driver.record(message).state for message in (old, new)] == [State.SENT, State.DELIVERED]


class Broken:
    """A store that is away when an answer is to be stored."""

    async def progress(self, *_: object) -> list[ReceiptMatch]:
        raise StoreUnavailable("away")


def test_a_crash_between_index_and_answer_loses_nothing(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    driver.progress(receipts=driver.said(b"id-1"))
    with pytest.raises(StoreUnavailable):
        driver.run(ProgressById(Broken(), driver.index, "north").progress(OWNER, [answer]))
    assert driver.parked_keys() == 1
    driver.later(61_000)
    unknown = SubmitResult(answer.id, answer.lease, "north", Resolution.UNKNOWN, Reason.NO_ANSWER, 0, 0, 1, [])
    driver.progress(unknown)
    driver.run(driver.relocator.look())  # found by the index, parked with its message
    assert (driver.relocator.found, driver.parked_keys()) == (1, 0)
    driver.later(61_000)
    driver.sweep()
    assert driver.record(message).state is not State.SENDING
    late = driver.progress(answer)
    assert late == []
    assert driver.record(message).state is State.DELIVERED


def test_repeating_changes_nothing(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    driver.progress(receipts=driver.said(b"id-1"))
    given = [IndexedId(b"id-1", message.id, 0, message.recipient.key)]
    first, second = (driver.run(driver.index.index("north", given)) for _ in range(2))
    assert [(fact.ids, fact.state) for fact in first] == [((b"id-1",), PartState.DELIVERED)]
    assert [fact.ids for fact in second] == [(b"id-1",)]
    driver.progress(answer)
    driver.progress(answer)
    assert driver.record(message).state is State.DELIVERED


def test_a_receipt_of_an_unknown_id_becomes_an_orphan_and_is_deleted(driver: IndexDriver) -> None:
    driver.progress(receipts=driver.said(b"nobody"))
    driver.later(59_000)
    driver.run(driver.relocator.look())
    before = driver.relocator.orphans
    driver.later(2_000)
    driver.run(driver.relocator.look())
    driver.run(driver.relocator.look())
    assert (driver.relocator.orphans - before, driver.parked_keys()) == (1, 1)
    driver.later(25 * 3_600_000)
    driver.run(driver.relocator.look())
    assert driver.parked_keys() == 0


def test_receipts_parked_in_the_index_are_bounded_in_number(driver: IndexDriver) -> None:
    """A carrier may send more of it in a day than a store holds."""
    tag = driver.link.tags[0]
    names = [b"north\0%d" % number for number in range(FunctionConstant.PARKED_MOST + 5)]
    for start in range(0, len(names), 5000):
        some = names[start : start + 5000]
        driver.run(driver.link.command(0, "HSET", tag + b"jk", *[word for name in some for word in (name, b"\3000")]))
        for score, name in enumerate(some[:10] if not start else ()):
            driver.run(driver.link.command(0, "ZADD", tag + b"jo", driver.now + 3_600_000 + score, name))
    driver.run(driver.relocator.look())
    assert driver.parked_keys() == FunctionConstant.PARKED_MOST
    assert driver.run(driver.link.command(0, "ZCARD", tag + b"jo")) == 5


def test_the_index_lives_as_long_as_the_id_map(driver: IndexDriver) -> None:
    message, answer = driver.sending()
    driver.progress(answer)
    partition = driver.index.partition("north", b"id-1")
    (name,) = driver.run(driver.link.command(partition, "KEYS", "*j:north:*"))
    left = driver.run(driver.link.command(partition, "TTL", name))
    assert 72 * 3600 < left <= 73 * 3600
    assert message.recipient.digits.encode() not in name
