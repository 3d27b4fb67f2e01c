"""One identity for every spelling of a number, by rules that do not change unseen."""

from __future__ import annotations

import re
from hashlib import sha256

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneMetadata, PhoneNumberFormat

from gateway.policy import identity as rules
from gateway.policy.identity import VERSION, identity, spellings

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
PEOPLE = (0, 1, 2)  # fixed, mobile, either


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("4407911123456", "447911123456"),
        ("44007911123456", "447911123456"),
        ("4901711234567", "491711234567"),  # as long as a German number may be
        ("5215512345678", "525512345678"),
        ("520445512345678", "525512345678"),
        ("5491112345678", "541112345678"),
        ("54111512345678", "541112345678"),
        ("540111512345678", "541112345678"),
        ("54221151234567", "542211234567"),
        ("789123456789", "79123456789"),
        ("3606201234567", "36201234567"),
        ("114155552671", "14155552671"),
        ("37580291234567", "375291234567"),
        ("370861212345", "37061212345"),
        ("5501511987654321", "5511987654321"),
        ("22997123456", "2290197123456"),
        ("24107123456", "24177123456"),
        ("241077123456", "24177123456"),
    ],
)
def test_spellings_of_one_number_have_one_identity(written: str, meant: str):
    assert identity(written) == identity(meant) == meant


@pytest.mark.parametrize(
    "digits",
    [
        "390612345678",  # Italy keeps its zero,
        "3780549886377",  # and San Marino,
        "2250701234567",  # Ivory Coast,
        "242061234567",  # Congo
        "22607123456",  # and Burkina Faso theirs
        "551187654321",  # Brazil's ninth digit makes another number
        "5511987654321",
        "46701740605",
        "8613800138000",
    ],
)
def test_digits_that_belong_to_a_number_stay(digits: str):
    assert identity(digits) == digits


@pytest.mark.parametrize("region", REGIONS)
def test_every_country_s_own_trunk_prefix_is_no_part_of_an_identity(region: str):
    metadata = PhoneMetadata.metadata_for_region(region)
    prefix = metadata.national_prefix if metadata else None
    for kind in PEOPLE:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is None or metadata is None:
            continue
        digits = phonenumbers.format_number(example, PhoneNumberFormat.E164)[1:]
        code = str(example.country_code)
        with_prefix = f"{code}{prefix or ''}{digits[len(code) :]}"
        assert identity(with_prefix) == identity(digits)


@pytest.mark.parametrize("region", REGIONS)
def test_a_number_that_people_have_is_dialled_by_its_identity_or_known_to_differ(region: str):
    for kind in PEOPLE:
        example = phonenumbers.example_number_for_type(region, kind)
        if example is not None:
            digits = phonenumbers.format_number(example, PhoneNumberFormat.E164)[1:]
            assert identity(digits) == digits or region in {"AR", "GA", "RW"}


numbers = st.from_regex(r"\A[1-9][0-9]{6,14}\Z")
ruled = st.sampled_from(["1", "7", "36", "52", "54", "55", "229", "241", "370", "375", "692", "993", "44", "39"])


@settings(deadline=None)
@given(numbers | st.builds(lambda code, rest: code + rest, ruled, st.from_regex(r"\A[0-9]{4,11}\Z")))
def test_identity_is_stable_and_every_spelling_leads_back(digits: str):
    own = identity(digits)
    assert identity(own) == own
    for other in spellings(own):
        assert other != own
        assert identity(other) == own


@pytest.mark.parametrize(
    ("own", "others"),
    [
        ("447911123456", {"4407911123456", "44007911123456", "440007911123456"}),
        ("525512345678", {"5215512345678", "52015512345678", "520445512345678", "520455512345678"}),
        ("393331234567", set()),
        ("34612345678", set()),
    ],
)
def test_the_other_spellings_are_finite_and_few(own: str, others: set[str]):
    assert set(spellings(own)) == others
    assert all(len(spellings(identity(digits))) < 12 for digits in ("5491112345678", "5511987654321", "24177123456"))


def test_rules_that_change_have_another_version():
    """Names in the store are made of identities: raise VERSION with any change, and say how stores are migrated."""
    table = [
        (
            plan.code,
            plan.first,
            [(r.written.pattern, r.before, r.canonical and r.canonical.pattern) for r in plan.rules],
        )
        for plan in rules._PLANS
    ]
    assert (VERSION, sha256(repr(table).encode()).hexdigest()[:16]) == (1, "c95395cc47ac7c2e")


def test_country_codes_are_no_prefixes_of_each_other():
    codes = [plan.code for plan in rules._PLANS]
    assert len(codes) == len(set(codes))
    assert not any(a != b and re.match(a, b) for a in codes for b in codes)
