"""Zones of countries and numbers, held against zone.tab for every country that has telephone numbers."""

from __future__ import annotations

from importlib import resources

import phonenumbers
import pytest
from phonenumbers.tzdata import TIMEZONE_DATA

from gateway.policy.numbers import describe
from gateway.policy.quiet_hours import known_zone
from gateway.policy.zones import chosen, clock, in_country


def zone_tab() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for line in resources.files("tzdata").joinpath("zoneinfo/zone.tab").read_text().splitlines():
        if not line.startswith("#"):
            country, _, zone, *_ = line.split("\t")
            found.setdefault(country, set()).add(zone)
    return found


ZONE_TAB = zone_tab()
KINDS = range(11)  # every phonenumbers.PhoneNumberType that has examples
ANYWHERE = {"toll_free", "shared_cost", "premium", "voip", "personal", "uan", "pager", "voicemail"}


def examples(region: str) -> set[str]:
    """Example numbers of a country of every kind, and one in each range that the zone table knows."""
    found = [phonenumbers.example_number_for_type(region, kind) for kind in KINDS]
    digits = {phonenumbers.format_number(one, phonenumbers.PhoneNumberFormat.E164)[1:] for one in found if one}
    code = str(phonenumbers.country_code_for_region(region))
    ranges = [prefix for prefix in TIMEZONE_DATA if prefix.startswith(code) and len(prefix) > len(code)]
    lengths = {len(one) for one in digits}
    return digits | {prefix.ljust(length, "2") for prefix in ranges for length in lengths if length >= len(prefix)}


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_zones_of_subscribers_numbers_are_in_their_country(region: str):
    for digits in examples(region):
        number = describe(digits)
        if number.region in ZONE_TAB and number.kind not in ANYWHERE:
            assert number.zones, digits
            assert set(number.zones) <= ZONE_TAB[number.region], digits


@pytest.mark.parametrize(
    ("digits", "zones"),
    [
        ("211977123456", ("Africa/Juba",)),  # phonenumbers: Nairobi
        ("50581234567", ("America/Managua",)),  # Chicago
        ("212650123456", ("Africa/Casablanca",)),  # the Canaries
        ("213551234567", ("Africa/Algiers",)),  # Paris
        ("218912345678", ("Africa/Tripoli",)),  # Bucharest
        ("970599123456", ("Asia/Gaza", "Asia/Hebron")),  # Bucharest
        ("299221234", ("America/Nuuk",)),  # Godthab
        ("97798412345678"[:13], ("Asia/Kathmandu",)),  # Katmandu
        ("298211234", ("Atlantic/Faroe",)),  # Faeroe
        ("914412345678", ("Asia/Kolkata",)),  # Calcutta
        ("541112345678", ("America/Argentina/Buenos_Aires",)),
    ],
)
def test_a_library_s_foreign_zones_and_old_spellings_are_put_right(digits: str, zones: tuple[str, ...]):
    assert set(zones) <= set(describe(digits).zones)
    assert set(describe(digits).zones) <= ZONE_TAB[describe(digits).region]


def test_aliases_are_resolved_before_zones_are_compared():
    assert in_country(("Pacific/Ponape",), "FM") == ("Pacific/Pohnpei",)
    assert in_country(("Pacific/Truk",), "FM") == ("Pacific/Chuuk",)
    assert in_country(("America/Godthab", "America/Scoresbysund"), "GL") == ("America/Nuuk", "America/Scoresbysund")


def test_zones_that_are_none_of_the_country_s_give_way_to_all_of_them():
    assert in_country(("Africa/Nairobi",), "SS") == ("Africa/Juba",)
    assert set(in_country((), "AU")) == ZONE_TAB["AU"]
    assert in_country(("Europe/Belgrade", "Etc/Unknown"), "XK") == ("Europe/Belgrade",)  # Kosovo: no zone of its own


def test_every_name_in_use_has_a_clock():
    for zones in ZONE_TAB.values():
        assert all(known_zone(clock(zone)) for zone in zones)


def test_an_app_chooses_among_the_zones_of_the_country():
    assert chosen("America/New_York", ("America/Los_Angeles",), "US") == ("America/New_York",)
    assert chosen("Asia/Calcutta", ("Asia/Kolkata",), "IN") == ("Asia/Calcutta",)  # the same clock by its old name
    assert chosen("America/Toronto", ("America/New_York", "America/Toronto"), "US") == ("America/Toronto",)


def test_a_zone_abroad_counts_beside_those_at_home():
    assert chosen("America/New_York", ("Asia/Shanghai",), "CN") == ("America/New_York", "Asia/Shanghai")
    assert chosen("UTC", ("Asia/Shanghai",), "CN") == ("Asia/Shanghai", "UTC")


def test_a_number_of_no_country_takes_the_zone_it_is_given():
    assert chosen("Asia/Tokyo", (), "") == ("Asia/Tokyo",)
