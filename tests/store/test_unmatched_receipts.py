"""Receipts of unknown ids by the thousand: what they cost the store in memory and work."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import pytest

from gateway.model import OnUnknown, ReceiptFact, ReceiptMatch
from gateway.store import layout, library
from tests.servers import Server
from tests.store.message_driver import HOUR, MessageDriver
from tests.store.test_resent_copies import lost

MOST = 250
HERE = "46700000001"


@pytest.fixture
def small(single_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[MessageDriver]:
    """A store whose partitions keep few parked receipts."""
    sizes = {name: one.value for name, one in layout.FunctionConstant.__members__.items()} | {"PARKED_MOST": MOST}
    monkeypatch.setitem(library.VOCABULARY, "Size", IntEnum("Size", sizes))
    single_server.run("FLUSHALL")
    driver = MessageDriver(single_server.url)
    driver.reset()
    yield driver
    driver.close()


def strangers(driver: MessageDriver, first: int, count: int, recipients: int = 1) -> list[ReceiptFact]:
    """Receipts of unknown ids for one recipient, or for so many of its partition."""
    home = driver.hasher.recipient(HERE).partition
    near = (driver.hasher.recipient(str(int(HERE) + n)) for n in itertools.count())
    whose = list(itertools.islice((one for one in near if one.partition == home), recipients))
    return [driver.unmatched_receipt(whose[n % recipients], b"f%06d" % n) for n in range(first, first + count)]


def calls(driver: MessageDriver, command: str) -> int:
    """How often the server has carried a command out."""
    (stats,) = driver.run(driver.link.everywhere("INFO", "commandstats"))
    for line in stats.decode().splitlines():
        if line.startswith(f"cmdstat_{command}:"):
            return int(line.split("calls=")[1].split(",")[0])
    return 0


def sweep(driver: MessageDriver) -> Any:
    return driver.run(driver.store.sweep(driver.hasher.recipient(HERE).partition))


def test_parked_receipts_are_bounded_in_number_and_the_oldest_go_first(small: MessageDriver) -> None:
    for first in range(0, MOST + 230, 10):
        small.report(receipts=strangers(small, first, 10, 10))
        small.later(1)
    overflowed = []
    while True:
        swept = sweep(small)
        overflowed.append(swept.overflowed)
        if not swept.more:
            break
    assert overflowed == [100, 100, 30], "a bounded number per call, so that other calls do not wait"
    left = sorted(name[-7:] for name in small.places(small.hasher.recipient(HERE).partition).parked)
    assert left == [b"f%06d" % number for number in range(230, MOST + 230)]


def test_orphans_go_before_those_that_still_wait_for_their_ids(small: MessageDriver) -> None:
    small.report(receipts=strangers(small, 0, 100, 10))
    small.later(61_000)
    sweep(small)
    small.report(receipts=strangers(small, 1000, MOST, 10))
    assert sweep(small).overflowed == 100
    assert small.run(small.store.depths()).parked == MOST
    left = small.places(small.hasher.recipient(HERE).partition).parked
    assert {name[-7:] for name in left} == {b"f%06d" % number for number in range(1000, 1000 + MOST)}


def test_nothing_is_left_of_a_flood_when_its_time_is_over(small: MessageDriver) -> None:
    for first in range(0, 3 * MOST, MOST):
        small.report(receipts=strangers(small, first, MOST, 10))
        while sweep(small).more:
            pass
    for wait in (61_000, 26 * HOUR):
        small.later(wait)
        while sweep(small).more:
            pass
    places = small.places(small.hasher.recipient(HERE).partition)
    assert (places.parked, places.parked_list) == (set(), set())


def test_many_receipts_for_one_recipient_are_compared_with_what_was_lost_once(driver: MessageDriver) -> None:
    one, two = (driver.message(on_unknown=OnUnknown.NEVER) for _ in "12")
    for message in (one, two):
        lost(driver, message)
    before = calls(driver, "hget")
    assert driver.report(receipts=strangers(driver, 0, 50)) == [ReceiptMatch.PARKED] * 50
    assert calls(driver, "hget") - before < 50 * 8, "each is parked, but not all of them looked at for each"


def test_a_flood_of_receipts_for_one_recipient_drives_out_nothing_but_itself(driver: MessageDriver) -> None:
    other = driver.unmatched_receipt(driver.hasher.recipient(HERE), b"theirs", carrier="south")
    driver.report(receipts=[other])
    driver.later(1)
    for first in range(0, 1000, 50):
        driver.report(receipts=strangers(driver, first, 50))
    places = driver.places(driver.hasher.recipient(HERE).partition)
    assert places.parked == places.parked_list
    ids = sorted(name.partition(b"\0")[2][8:] for name in places.parked)
    assert ids.pop() == b"theirs"
    assert len(ids) < 200
    assert ids == [b"f%06d" % number for number in range(1000 - len(ids), 1000)], "the newest are kept"
    assert sweep(driver).overflowed == 1000 - len(ids), "and the dropped ones are counted"
    assert sweep(driver).overflowed == 0


def test_the_newest_receipt_of_many_still_proves_that_a_lost_message_was_sent(driver: MessageDriver) -> None:
    driver.report(
        receipts=[driver.unmatched_receipt(driver.hasher.recipient(HERE), b"f%06d" % n, sure=False) for n in range(500)]
    )
    driver.later(5000)
    message = driver.message(on_unknown=OnUnknown.NEVER)
    lost(driver, message)
    driver.later(1)
    assert driver.report(receipts=[driver.unmatched_receipt(message.recipient, b"mine")]) == [ReceiptMatch.APPLIED]
