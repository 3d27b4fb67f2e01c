from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.carriers.validity import (
    KEPT,
    MAX_VALIDITY,
    PROOFS,
    PermissionEnded,
    Validity,
    ValidityRefusals,
    ValidityRefused,
    absolute_time,
    relative_time,
)
from gateway.model import Category, LeasedMessage
from gateway.policy.quiet_hours import LAST_MINUTE
from tests.carriers.test_submit import NOW, carrier, leased

EXPIRY, SCHEDULE, SYSTEM = 0x62, 0x61, 0x08
FOREVER = 2**63 - 1


def text(message: LeasedMessage, refusals: ValidityRefusals | None = None, **settings: Any) -> bytes:
    return Validity(carrier(**settings), refusals or ValidityRefusals("north")).text(message, NOW)


def marketing(**changes: Any) -> LeasedMessage:
    return leased(category=Category.MARKETING, **changes)


def instant(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp())  # type: ignore[arg-type]


# The field --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "date", "written"),
    [
        ("", (2026, 7, 1, 12, 0, 5), b"260701120005000+"),
        ("Asia/Kolkata", (2026, 7, 1, 12), b"260701173000022+"),
        ("Asia/Kathmandu", (2026, 7, 1, 23), b"260702044500023+"),
        ("Europe/Berlin", (2026, 7, 1, 12), b"260701140000008+"),
        ("Europe/Berlin", (2026, 12, 1, 12), b"261201130000004+"),  # no daylight saving
        ("America/New_York", (2026, 12, 1, 2), b"261130210000020-"),
    ],
)
def test_absolute_times_are_the_message_centres_own_with_their_offset(
    zone: str, date: tuple[int, ...], written: bytes
) -> None:
    assert absolute_time(instant(*date), zone) == written
    assert len(written) == 16


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, b"000000000001000R"),
        (59, b"000000000059000R"),
        (600, b"000000001000000R"),
        (86_399, b"000000235959000R"),
        (30 * 86_400, b"000030000000000R"),
    ],
)
def test_relative_times(seconds: int, written: bytes) -> None:
    assert relative_time(seconds) == written
    assert len(written) == 16


def test_a_message_is_valid_until_it_expires() -> None:
    assert text(leased()) == absolute_time((NOW + 60_000) // 1000)
    assert text(leased(), time_zone="Asia/Tokyo") == absolute_time((NOW + 60_000) // 1000, "Asia/Tokyo")
    assert text(leased(), validity="relative") == relative_time(60)
    assert text(leased(), validity="none") == b""


@pytest.mark.parametrize("expires", [0, NOW - 1, NOW + MAX_VALIDITY + 1])
def test_no_validity_is_written_for_an_expiry_that_is_missing_past_or_too_far_ahead(expires: int) -> None:
    assert text(leased(expires=expires)) == b""


def test_marketing_ends_with_the_permitted_hours_and_is_never_without_a_validity() -> None:
    closing = NOW + 3_600_000
    assert text(marketing(expires=NOW + 86_400_000, closes=closing - LAST_MINUTE)) == absolute_time(closing // 1000)
    assert text(marketing(expires=NOW + 1_800_000, closes=closing - LAST_MINUTE)) == absolute_time(
        (NOW + 1_800_000) // 1000
    )
    assert text(marketing(expires=0, closes=closing - LAST_MINUTE)) == absolute_time(closing // 1000)
    month = absolute_time((NOW + MAX_VALIDITY) // 1000)
    assert text(marketing(expires=NOW + 365 * 86_400_000, closes=FOREVER)) == month


def test_a_relative_validity_of_marketing_allows_for_the_way() -> None:
    assert text(marketing(expires=FOREVER, closes=NOW + 3_600_000 - LAST_MINUTE), validity="relative") == relative_time(
        3598
    )


@pytest.mark.parametrize("form", ["absolute", "relative", "none"])
@pytest.mark.parametrize("left", [0, -5, -90_000])
def test_marketing_is_not_begun_in_the_last_minute(form: str, left: int) -> None:
    with pytest.raises(PermissionEnded) as caught:
        text(marketing(expires=NOW + 86_400_000, closes=NOW + left), validity=form)
    assert caught.value.at == NOW + left
    assert text(marketing(expires=NOW + 86_400_000, closes=NOW + 1)) != b""
    assert text(leased(closes=NOW + left)) != b""  # the law of hours is about marketing alone


# Carriers that refuse it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [EXPIRY, SCHEDULE])
def test_what_is_refused_for_its_validity_goes_once_more_without(status: int) -> None:
    refusals, message = ValidityRefusals("north"), leased()
    assert refusals.again(message, [0, status], 0.0)
    assert text(message, refusals) == b""
    assert text(leased(id=b"another message!"), refusals) != b""
    assert not refusals.again(message, [status], 1.0)
    assert refusals.omitted == 1


def test_other_refusals_say_nothing_of_the_validity() -> None:
    refusals = ValidityRefusals("north")
    assert not refusals.again(leased(), [SYSTEM], 0.0)
    assert text(leased(), refusals) != b""


def test_marketing_is_never_sent_without() -> None:
    refusals, message = ValidityRefusals("north"), marketing(closes=FOREVER)
    assert not refusals.again(message, [EXPIRY], 0.0)
    for number in range(PROOFS):
        refused(refusals, number)
    with pytest.raises(ValidityRefused):
        text(message, refusals)
    assert text(leased(), refusals) == b""


def refused(refusals: ValidityRefusals, number: int, *, accepted: bool = True) -> None:
    message = leased(id=b"%016d" % number)
    assert refusals.again(message, [EXPIRY], 0.0)
    refusals.ended(message, accepted=accepted)


def test_three_in_a_row_prove_that_the_carrier_refuses_all() -> None:
    refusals = ValidityRefusals("north")
    for number in range(PROOFS - 1):
        refused(refusals, number)
    refused(refusals, 98, accepted=False)  # it was something else
    for number in range(PROOFS - 1):
        refused(refusals, number)
    assert (refusals.off, refusals.any) == (False, False)
    refused(refusals, 99)
    assert refusals.off
    assert text(leased(id=b"never seen be4!!"), refusals) == b""


def test_what_is_remembered_is_bounded() -> None:
    refusals = ValidityRefusals("north")
    for number in range(KEPT + 10):
        refusals.again(leased(id=b"%016d" % number), [EXPIRY], 0.0)
    assert len(refusals._without) == KEPT
    assert not refusals.omits(b"%016d" % 0)
    assert refusals.omits(b"%016d" % (KEPT + 9))
