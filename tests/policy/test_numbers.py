"""Regions, zones and kinds, compared with phonenumbers' own full path."""

from __future__ import annotations

import subprocess
import sys

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import timezone

from gateway.policy import numbers
from gateway.policy.numbers import describe
from gateway.policy.zones import in_country


@pytest.fixture(autouse=True)
def nothing_is_known() -> None:
    """What was asked before decides which number speaks for its prefix."""
    numbers._prefixes.clear()
    numbers._blocks.clear()


@pytest.mark.parametrize(
    ("digits", "region", "zones", "kind"),
    [
        ("8613800138000", "CN", ("Asia/Shanghai",), "mobile"),
        ("46701740605", "SE", ("Europe/Stockholm",), "mobile"),
        ("33612345678", "FR", ("Europe/Paris",), "mobile"),
        ("14155552671", "US", ("America/Los_Angeles",), "fixed_or_mobile"),
        ("12083551234", "US", ("America/Boise", "America/Los_Angeles"), "fixed_or_mobile"),
        ("16135550123", "CA", ("America/Toronto",), "fixed_or_mobile"),
        ("12424570000", "BS", ("America/Nassau",), "mobile"),
        ("447911170000", "GG", ("Europe/Guernsey",), "mobile"),
        ("447400123456", "GB", ("Europe/London",), "mobile"),
        ("77710285036", "KZ", ("Asia/Almaty", "Asia/Aqtobe"), "mobile"),
        ("34612345678", "ES", ("Atlantic/Canary", "Europe/Madrid"), "mobile"),
        ("883510001234567", "", (), "unknown"),
    ],
)
def test_region_zones_and_kind(digits: str, region: str, zones: tuple[str, ...], kind: str):
    number = describe(digits)
    assert (number.region, number.zones) == (region, zones)
    assert number.kind == kind or kind == "unknown"


def test_numbers_that_the_zone_table_gets_wrong():
    assert len(describe("18005551234").zones) > 30  # toll-free: answered anywhere
    assert len(describe("61412345678").zones) > 3  # Australian mobiles
    russia = describe("79123456789").zones
    assert len(russia) > 8
    assert "Asia/Almaty" not in russia  # Kazakhstan's
    assert not any("Unknown" in zone for zone in describe("870773111632").zones)


def test_a_number_of_no_plan_says_nothing_about_its_neighbours():
    odd = describe("79091")  # too short for any plan
    assert (odd.region, odd.kind) == ("RU", "unknown")
    assert describe("79091234567").kind == "mobile"
    assert describe("79091") == odd
    exchange = describe("12061234567")  # none begins with 1; still the area code is Seattle's
    assert (exchange.region, exchange.zones, exchange.kind) == ("US", ("America/Los_Angeles",), "unknown")
    assert describe("12065550123").kind == "fixed_or_mobile"


def test_facts_about_a_number_do_not_depend_on_earlier_look_ups():
    """The Bahamas have toll-free numbers, which belong to no zone, within their area code."""
    kinds = phonenumbers.PhoneNumberType.values()
    examples = {
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)[1:]
        for region in phonenumbers.SUPPORTED_REGIONS
        for kind in kinds
        if (number := phonenumbers.example_number_for_type(region, kind)) is not None
    } | {"12423001234", "12424570000"}
    alone = {}
    for digits in examples:
        numbers._prefixes.clear()
        numbers._blocks.clear()
        alone[digits] = describe(digits)
    for backwards in (False, True):
        numbers._prefixes.clear()
        numbers._blocks.clear()
        for digits in sorted(examples, reverse=backwards):
            assert describe(digits) == alone[digits]


def test_premium_and_satellite_numbers_are_told_apart():
    for digits in ("979123456789", "870773111632", "8821234567890", "883510001234567", "881612345678"):
        assert describe(digits).by_name == "satellite or international"
    assert describe("19005551234").by_name == "premium-rate"
    assert describe("447012345678").by_name == "personal"
    assert {describe(digits).by_name for digits in ("8613800138000", "46701740605", "18005551234")} == {""}


@settings(deadline=None)
@given(region=st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), tail=st.integers(0, 999))
def test_no_premium_number_passes_for_an_ordinary_one(region: str, tail: int):
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.PREMIUM_RATE)
    if example is None:
        return
    digits = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[1:-3] + f"{tail:03}"
    if phonenumbers.number_type(phonenumbers.parse("+" + digits)) == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        assert describe(digits).by_name == "premium-rate"


def test_possible_is_about_the_length():
    assert describe("8613800138000").possible
    assert not describe("14155552").possible
    assert not describe("3361234567").possible


regions = st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS))


@settings(deadline=None)  # the first number of a country loads its metadata
@given(region=regions, kind=st.sampled_from([0, 1, 2]), tail=st.integers(0, 9999), cut=st.integers(1, 4))
def test_as_phonenumbers_says_narrowed_to_the_country(region: str, kind: int, tail: int, cut: int):
    example = phonenumbers.example_number_for_type(region, kind)
    if example is None:
        return
    digits = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[1:]
    digits = digits[:-cut] + str(tail).zfill(4)[-cut:]
    parsed = phonenumbers.parse("+" + digits)
    if not phonenumbers.is_valid_number(parsed):
        return
    number = describe(digits)
    assert number.region == phonenumbers.region_code_for_number(parsed)
    assert number.zones == in_country(timezone.time_zones_for_number(parsed), number.region)


@settings(deadline=None)  # the same
@given(st.from_regex(r"\A[1-9][0-9]{6,14}\Z"))
def test_any_digits_have_a_description(digits: str):
    number = describe(digits)
    assert number == describe(digits)
    assert number.zones == tuple(sorted(number.zones))


def test_the_geocoder_stays_out():
    code = "import sys, gateway.policy.decide; assert 'phonenumbers.geocoder' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
