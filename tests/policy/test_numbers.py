"""E.164, regions and zones, compared with phonenumbers' own full path."""

from __future__ import annotations

import subprocess
import sys

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import timezone

from gateway.policy.numbers import InvalidNumber, describe, parse_e164
from gateway.policy.zones import in_country


@pytest.mark.parametrize("text", ["+8613800138000", "8613800138000", "+46701740605", "+2907000", "+123456789012345"])
def test_e164_with_and_without_plus(text: str):
    assert parse_e164(text) == text.removeprefix("+")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("+", "is empty"),
        ("0046701740605", "begins with 0"),
        ("0701740605", "begins with 0"),
        ("+46 70 174", "holds ' '"),
        ("+46-70174", "holds '-'"),
        ("++4670174060", r"holds '\+'"),
        ("tel:+467017", "holds 't'"),
        ("٤٦٧٠١٧٤٠٦٠", "holds"),
        ("²46701740605", "holds"),
        ("+4670", "too few"),
        ("+1234567890123456", "15 at most"),
        ("+99912345678", r"\+999, which is no country"),
        ("+21012345678", r"\+210"),
    ],
)
def test_what_is_not_e164_says_why(text: str, reason: str):
    with pytest.raises(InvalidNumber, match=reason):
        parse_e164(text)


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


def test_traps_of_the_zone_table():
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
