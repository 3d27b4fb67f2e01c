"""What people write, and the digits that are dialled for it."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat

from gateway.policy.dialling import InvalidNumber, is_country, parse_e164
from gateway.policy.identity import identity
from gateway.policy.numbers import describe


@pytest.mark.parametrize("text", ["+8613800138000", "8613800138000", "+46701740605", "+2907000", "+14155552671"])
def test_e164_with_and_without_plus(text: str):
    assert parse_e164(text) == text.removeprefix("+")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("+", "is empty"),
        ("0046701740605", "begins with 0"),
        ("0701740605", "begins with 0"),
        ("+46 70 174", "contains ' '"),
        ("+46-70174", "contains '-'"),
        ("++4670174060", r"contains '\+'"),
        ("tel:+467017", "contains 't'"),
        ("٤٦٧٠١٧٤٠٦٠", "contains"),
        ("²46701740605", "contains"),
        ("+4670", "too few"),
        ("+1234567890123456", "at most 15"),
        ("+99912345678", r"\+999, which is not a country"),
        ("+21012345678", r"\+210"),
    ],
)
@pytest.mark.parametrize("country", ["", "SE"])
def test_invalid_numbers_say_why(text: str, country: str, reason: str):
    if country and text.isascii() and text.isdigit():
        return  # may be a number at home
    with pytest.raises(InvalidNumber, match=reason):
        parse_e164(text, country)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("+4155552671", "after [+]41 come 9 or 12 digits, not 8"),
        ("+123456789012345", "after [+]1 come 10 digits, not 14"),
        ("+4479111", "after [+]44 come 7, 9 or 10 digits, not 5"),
        ("+22507123456", "after [+]225 come 10"),  # Ivory Coast of before 2021
        ("+336123456789", "after [+]33 come"),
    ],
)
def test_a_number_that_no_plan_has_is_refused_with_the_lengths_it_may_have(text: str, lengths: str):
    with pytest.raises(InvalidNumber, match=lengths):
        parse_e164(text)


@pytest.mark.parametrize(
    ("text", "dialled"),
    [
        ("+4407911123456", "447911123456"),
        ("4407911123456", "447911123456"),
        ("+4901711234567", "491711234567"),
        ("+54111512345678", "5491112345678"),
        ("+789123456789", "79123456789"),
        ("+3606201234567", "36201234567"),
        ("+114155552671", "14155552671"),
        ("+22997123456", "2290197123456"),
        ("+390612345678", "390612345678"),
        ("+5215512345678", "5215512345678"),  # as given: some carriers want it
        ("+5491112345678", "5491112345678"),
    ],
)
def test_a_trunk_prefix_is_not_dialled(text: str, dialled: str):
    assert parse_e164(text) == dialled


def test_a_mexican_number_with_the_old_1_is_where_the_number_is():
    assert describe("5215512345678") == describe("525512345678")


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("4155552671", "in North America it is [+]14155552671"),  # impossible in Switzerland
        ("4792345678", "may be [+]4792345678 or, in North America, [+]14792345678"),
        ("13612345678", "may be [+]13612345678 or, in China, [+]8613612345678"),
        ("13800138000", "in China"),
    ],
)
def test_digits_without_plus_that_may_be_two_numbers_are_refused_with_both(text: str, reading: str):
    with pytest.raises(InvalidNumber, match=reading):
        parse_e164(text)
    if describe(text).possible:
        assert parse_e164("+" + text) == text


@pytest.mark.parametrize("text", ["46701740605", "46711234567", "14155552671", "4791234567", "6591234567"])
def test_digits_without_plus_that_can_be_one_number_only_are_taken(text: str):
    assert parse_e164(text) == text


@pytest.mark.parametrize(
    ("text", "country", "dialled"),
    [
        ("0701740605", "SE", "46701740605"),
        ("701740605", "SE", "46701740605"),
        ("0046701740605", "SE", "46701740605"),
        ("46701740605", "SE", "46701740605"),
        ("8613800138000", "SE", "8613800138000"),
        ("4155552671", "US", "14155552671"),
        ("14155552671", "US", "14155552671"),
        ("01146701740605", "US", "46701740605"),
        ("13612345678", "CN", "8613612345678"),
        ("8613612345678", "CN", "8613612345678"),
        ("89123456789", "RU", "79123456789"),
        ("3331234567", "IT", "393331234567"),
        ("0612345678", "IT", "390612345678"),
        ("5512345678", "MX", "525512345678"),
        ("4915112345678", "DE", "4915112345678"),  # and not a fixed line of 04915
        ("015112345678", "DE", "4915112345678"),
        ("493012345678", "DE", "493012345678"),
        ("62811726842", "ID", "62811726842"),
        ("447911123456", "SE", "447911123456"),
        ("5599988887777", "BR", "5599988887777"),
        ("55999887777", "BR", "5555999887777"),  # a mobile of the area 55
        ("+13612345678", "CN", "13612345678"),  # + is never doubted
    ],
)
def test_a_default_country_reads_numbers_as_they_are_written_there(text: str, country: str, dialled: str):
    assert parse_e164(text, country) == dialled


@pytest.mark.parametrize("text", ["12", "0999", "011", "0"])
def test_a_number_invalid_in_the_default_country_is_refused(text: str):
    with pytest.raises(InvalidNumber, match="default_country"):
        parse_e164(text, "SE")


def test_countries():
    assert is_country("SE")
    assert not any(map(is_country, ("EU", "XX", "", "001")))


@settings(deadline=None)
@given(region=st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), tail=st.integers(0, 999))
def test_subscribers_numbers_are_accepted_in_international_and_national_form(region: str, tail: int):
    example = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
    if example is None:
        return
    e164 = phonenumbers.format_number(example, PhoneNumberFormat.E164)[1:-3] + f"{tail:03}"
    parsed = phonenumbers.parse("+" + e164)
    if not phonenumbers.is_valid_number(parsed):
        return
    assert parse_e164("+" + e164) == e164
    assert identity(parse_e164(e164, region)) == identity(e164)
    metadata = PhoneMetadata.metadata_for_region(region)
    trunk = (metadata and metadata.national_prefix) or ""
    national = trunk + phonenumbers.national_significant_number(parsed)
    assert identity(parse_e164(national, region)) == identity(e164)
    if trunk:
        assert identity(parse_e164(f"+{parsed.country_code}{national}")) == identity(e164)


@settings(deadline=None)
@given(st.text("+0123456789 -a", max_size=18), st.sampled_from(["", "SE", "US", "AR", "CN"]))
def test_whatever_is_written_is_a_possible_number_or_refused(text: str, country: str):
    try:
        digits = parse_e164(text, country)
    except InvalidNumber as error:
        assert len(str(error)) > 5
        return
    assert describe(digits).possible
    assert identity(identity(digits)) == identity(digits)
