"""A lane is shared by its accounts' weights: within one take, and over messages that go back unwritten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby

from gateway.model import LeasedMessage, Reason, Resolution
from tests.store.message_driver import OWNER, MessageDriver

ROW = 16
"""Messages in a row from one account while others wait (``QUANTUM`` of ``take.lua``)."""


def accept(driver: MessageDriver, account: str, count: int, *, weight: int = 1, segments: int = 1) -> None:
    driver.accept(*[driver.message(account=account, weight=weight, segments=segments) for _ in range(count)])


def accounts(leased: Iterable[LeasedMessage]) -> list[str]:
    return [one.envelope.account for one in leased]


def rows(leased: Iterable[LeasedMessage]) -> list[tuple[str, int]]:
    """Whose messages come one after the other, and how many."""
    return [(name, len(list(some))) for name, some in groupby(accounts(leased))]


# ---- within one take


def test_one_take_changes_between_the_accounts_that_wait_and_does_not_empty_them_one_by_one(
    driver: MessageDriver,
) -> None:
    for name in ("a", "b", "c"):
        accept(driver, name, 100)
    assert rows(driver.take(limit=6 * ROW).leased) == [(name, ROW) for name in ("a", "b", "c", "a", "b", "c")]


def test_one_take_gives_an_account_of_three_times_the_weight_three_times_as_much(driver: MessageDriver) -> None:
    accept(driver, "a", 200)
    accept(driver, "b", 200, weight=3)
    assert Counter(accounts(driver.take(limit=8 * ROW).leased)) == {"a": 2 * ROW, "b": 6 * ROW}


def test_one_take_counts_parts_and_not_messages(driver: MessageDriver) -> None:
    accept(driver, "a", 200)
    accept(driver, "b", 200, segments=4)
    assert Counter(accounts(driver.take(limit=10 * ROW).leased)) == {"a": 5 * ROW, "b": 5 * ROW // 4}


def test_an_account_that_is_alone_fills_a_take(driver: MessageDriver) -> None:
    accept(driver, "a", 100)
    assert accounts(driver.take(limit=100).leased) == ["a"] * 100


def test_when_one_account_has_no_more_the_others_have_the_rest_of_the_take(driver: MessageDriver) -> None:
    accept(driver, "a", 3)
    accept(driver, "b", 100)
    assert rows(driver.take(limit=50).leased) == [("a", 3), ("b", 47)]


# ---- from take to take


def test_the_order_goes_on_in_the_next_take_where_this_one_ended(driver: MessageDriver) -> None:
    for name in ("a", "b", "c"):
        accept(driver, name, 100)
    assert [rows(driver.take(limit=ROW).leased) for _ in range(4)] == [[(name, ROW)] for name in ("a", "b", "c", "a")]


def test_an_account_that_was_away_has_saved_no_turns(driver: MessageDriver) -> None:
    accept(driver, "a", 1000)
    for _ in range(3):
        driver.take(limit=200)
    accept(driver, "b", 1000)
    shares = Counter(accounts(driver.take(limit=600).leased))
    assert shares["b"] > shares["a"] > 150


def test_an_account_that_returns_at_once_has_used_its_turn(driver: MessageDriver) -> None:
    accept(driver, "a", ROW)
    accept(driver, "b", 100)
    assert rows(driver.take(limit=ROW).leased) == [("a", ROW)]
    accept(driver, "a", ROW)
    assert rows(driver.take(limit=ROW).leased) == [("b", ROW)]


# ---- what goes back unwritten


def untake(driver: MessageDriver, leased: Iterable[LeasedMessage]) -> None:
    driver.run(driver.store.untake(OWNER, [(one.id, one.lease) for one in leased]))


def test_what_went_back_unwritten_has_cost_its_account_no_turn_while_more_of_it_waits(driver: MessageDriver) -> None:
    accept(driver, "a", 40)
    accept(driver, "b", 40)
    first = driver.take(limit=ROW).leased
    untake(driver, first)
    again = driver.take(limit=ROW).leased
    assert ([one.id for one in again], accounts(again)) == ([one.id for one in first], ["a"] * ROW)
    assert rows(driver.take(limit=ROW).leased) == [("b", ROW)]


def test_what_went_back_unwritten_has_cost_its_account_no_turn_when_it_was_all_that_it_had(
    driver: MessageDriver,
) -> None:
    accept(driver, "a", ROW)
    accept(driver, "b", 40)
    first = driver.take(limit=ROW).leased
    untake(driver, first)
    again = driver.take(limit=ROW).leased
    assert ([one.id for one in again], accounts(again)) == ([one.id for one in first], ["a"] * ROW)
    assert rows(driver.take(limit=ROW).leased) == [("b", ROW)]


def test_what_goes_back_is_given_back_by_parts_and_weight(driver: MessageDriver) -> None:
    """Twelve messages of four parts at weight three cost sixteen. Four of them go back: ten and two thirds stay."""
    accept(driver, "a", 40, weight=3, segments=4)
    accept(driver, "b", 40)
    leased = driver.take(limit=48).leased
    assert rows(leased) == [("a", 12)]
    untake(driver, leased[8:])
    assert rows(driver.take(limit=11).leased) == [("b", 11)]  # more than ten and two thirds, less than sixteen
    assert rows(driver.take(limit=4).leased) == [("a", 1)]


def test_a_try_that_the_carrier_put_off_has_cost_its_account_a_turn(driver: MessageDriver) -> None:
    """Else an account whose messages are always refused would come first for ever."""
    accept(driver, "a", 40)
    accept(driver, "b", ROW)
    leased = driver.take(limit=2 * ROW).leased
    assert rows(leased) == [("a", ROW), ("b", ROW)]
    put_off = [
        driver.answer(one, Resolution.RETRY, due=driver.now + 1000, reason=Reason.CARRIER_RETRY) for one in leased[ROW:]
    ]
    driver.report(*put_off)
    driver.later(1000)
    assert rows(driver.take(limit=ROW + 1).leased) == [("a", ROW), ("b", 1)]
