"""The same id in an answer and in its receipt: every way in which carriers make the two differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp.message_id import (
    FormKind,
    apply,
    forms_of,
    kinds_between,
    normalise_id,
    receipted_id,
    shape_of,
)
from tests.smpp.peers import id_forms

UUID = b"550e8400-e29b-41d4-a716-446655440000"


@pytest.mark.parametrize(
    ("answered", "kind", "receipted"),
    [
        (b"AbC-9", FormKind.AS_IS, b"AbC-9\0"),
        (b"abc", FormKind.LOWER, b"ABC"),
        (b"ABC", FormKind.UPPER, b"abc"),
        (b"23", FormKind.STRIPPED, b"023"),
        (b"b8be19", FormKind.STRIPPED_LOWER, b"00B8BE19"),
        (b"B8BE19", FormKind.STRIPPED_UPPER, b"00b8be19"),
        (b"00B8BE19", FormKind.PADDED_8, b"B8BE19"),
        (b"00b8be19", FormKind.PADDED_8_LOWER, b"B8BE19"),
        (b"00B8BE19", FormKind.PADDED_8_UPPER, b"b8be19"),
        (b"0489708364", FormKind.PADDED_10, b"489708364"),
        (b"00000000000000ff", FormKind.PADDED_16_LOWER, b"FF"),
        (b"00000000000000FF", FormKind.PADDED_16_UPPER, b"ff"),
        (b"00000000000000ff", FormKind.PADDED_16, b"ff"),
        (b"00000000000000000012", FormKind.PADDED_20, b"12"),
        (b"1d305b4c", FormKind.WITHOUT_0X, b"0x1d305b4c"),
        (b"1d305b4c", FormKind.WITHOUT_0X_LOWER, b"0X1D305B4C"),
        (b"1D305B4C", FormKind.WITHOUT_0X_UPPER, b"0x1d305b4c"),
        (b"0x1d305b4c", FormKind.WITH_0X, b"1d305b4c"),
        (b"0x1d305b4c", FormKind.WITH_0X_LOWER, b"1D305B4C"),
        (b"0x1D305B4C", FormKind.WITH_0X_UPPER, b"1d305b4c"),
        (UUID, FormKind.WITH_DASHES, UUID.replace(b"-", b"")),
        (UUID, FormKind.WITH_DASHES_LOWER, UUID.replace(b"-", b"").upper()),
        (UUID.upper(), FormKind.WITH_DASHES_UPPER, UUID.replace(b"-", b"")),
        (UUID.replace(b"-", b""), FormKind.WITHOUT_DASHES, UUID),
        (UUID.replace(b"-", b""), FormKind.WITHOUT_DASHES_LOWER, UUID.upper()),
        (UUID.replace(b"-", b"").upper(), FormKind.WITHOUT_DASHES_UPPER, UUID),
        (b"489708364", FormKind.DECIMAL, b"1D305B4C"),
        (b"489708364", FormKind.DECIMAL, b"0x1d305b4c"),
        (b"0489708364", FormKind.DECIMAL_10, b"1d305b4c"),
        (b"00000000000489708364", FormKind.DECIMAL_20, b"1d305b4c"),
        (b"1d305b4c", FormKind.HEX, b"0489708364"),
        (b"70BA8A69", FormKind.HEX_UPPER, b"1891273321"),
        (b"00b8be19", FormKind.HEX_8, b"12107289"),
        (b"00B8BE19", FormKind.HEX_8_UPPER, b"0012107289"),
        (b"0000000000b8be19", FormKind.HEX_16, b"12107289"),
        (b"0000000000B8BE19", FormKind.HEX_16_UPPER, b"12107289"),
        (b"0xb8be19", FormKind.HEX_0X, b"12107289"),
        (b"0xB8BE19", FormKind.HEX_0X_UPPER, b"12107289"),
        (b"4471", FormKind.WITHOUT_SUFFIX, b"4471-1"),
        (b"4471.a", FormKind.WITHOUT_SUFFIX, b"4471.a:46700000001"),
        (b"4471", FormKind.WITHOUT_PREFIX, b"smsc1:4471"),
    ],
)
def test_an_id_is_found_again_and_its_form_named(answered: bytes, kind: FormKind, receipted: bytes) -> None:
    assert (kind, answered.strip(b"\0")) in forms_of(receipted)
    assert kind in kinds_between(receipted, answered)
    assert apply(kind, receipted) == answered.strip(b"\0")


def test_every_kind_has_its_example() -> None:
    parameters = next(
        mark.args[1] for mark in test_an_id_is_found_again_and_its_form_named.pytestmark if mark.name == "parametrize"
    )
    assert {kind for _, kind, _ in parameters} == set(FormKind)


@pytest.mark.parametrize(("one", "other"), [(b"023", b"23"), (b"AbC", b"ABC"), (b"00", b"0"), (b"0x1f", b"1f")])
def test_zeros_and_case_are_never_the_plain_form(one: bytes, other: bytes) -> None:
    for form in ("auto", "as-is"):
        assert normalise_id(one, form) != receipted_id(other, form)
    assert id_forms(one, "as-is") == (one,)
    assert kinds_between(one, other) != []
    assert FormKind.AS_IS not in kinds_between(one, other)


def test_the_plain_form_comes_first_and_is_only_trimmed() -> None:
    assert forms_of(b" AbC \0")[0] == (FormKind.AS_IS, b"AbC")
    assert normalise_id(b"AbC-9\0", "auto") == b"AbC-9"


@pytest.mark.parametrize(
    ("answered", "form", "receipted"),
    [
        (b"1d305b4c", "hex-to-dec", b"0489708364"),
        (b"1D305B4C\0", "hex-to-dec", b"489708364"),
        (b"0489708364", "dec-to-hex", b"1D305B4C"),
        (b"AbC-9", "as-is", b"AbC-9"),
        (b"xyz", "hex-to-dec", b"XYZ"),
    ],
)
def test_a_form_that_is_set_leads_to_one_key(answered: bytes, form: Any, receipted: bytes) -> None:
    assert id_forms(receipted, form) == (normalise_id(answered, form),)


@given(st.integers(0, 2**64 - 1), st.booleans())
def test_either_side_may_be_hexadecimal_and_upper_case(number: int, hexadecimal: bool) -> None:
    dec, hexa = b"%d" % number, b"%X" % number
    answered, receipted = (hexa, dec) if hexadecimal else (dec, hexa)
    for shown in (receipted, receipted.lower(), receipted.rjust(20, b"0")):
        assert answered in id_forms(shown, "auto")


@given(st.binary(max_size=300))
def test_any_octets_have_forms_a_shape_and_never_raise(raw: bytes) -> None:
    forms = forms_of(raw)
    assert [kind for kind, form in forms if form == forms[0][1]] == [FormKind.AS_IS]
    assert all(form for _, form in forms[1:])
    assert id_forms(raw, "auto")[0] == normalise_id(raw, "auto")
    assert all(apply(kind, raw) == form for kind, form in forms)
    assert shape_of(raw).isascii()


@pytest.mark.parametrize(
    ("raw", "shape"),
    [
        (b"0489708364", "decimal 10"),
        (b"1d305b4c", "hex 8"),
        (UUID, "uuid"),
        (UUID.replace(b"-", b""), "dashless uuid"),
        (b"0x1D305B4C", "0x hex 8"),
        (b"msg4471zz", "alnum 9"),
        (b"msg4471zz-1", "alnum 9+suffix"),
        (UUID + b":1", "uuid+suffix"),
        (b"a!b", "other 3"),
        (b"a b:1", "other 3+suffix"),
        (b"\0 ", "empty"),
    ],
)
def test_shapes_for_logs_name_no_id(raw: bytes, shape: str) -> None:
    assert shape_of(raw) == shape
