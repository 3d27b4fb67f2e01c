"""Whatever an app writes into a submission, the check answers; it never raises."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.problems import KINDS
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionProblem
from gateway.intake.validation import CheckedSubmission, check
from tests.intake.fakes import NOON, OTHER, SHOP, hasher

RIGHTS = AccountRights(OTHER, hasher())

words = st.text(max_size=64) | st.sampled_from(
    ["Europe/Stockholm", "\x00", "../..", "https://a.b/c", "https://[", "http://a:b", "+46701740605", "UTC", ""]
)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
instants = st.datetimes(timezones=st.just(UTC)) | st.none()
submissions = st.builds(
    Submission,
    to=words,
    text=st.text(min_size=1, max_size=300),
    sender=st.none() | words,
    category=st.sampled_from([None, "otp", "transactional", "marketing", "emergency"]),
    brand=st.none() | words,
    client_ref=st.none() | words,
    callback_url=st.none() | words,
    send_at=instants,
    expires_at=instants,
    time_zone=st.none() | words,
    on_quiet=st.sampled_from([None, "defer", "reject"]),
    encoding=st.sampled_from([None, "gsm7", "latin1", "ucs2"]),
    metadata=st.none() | st.dictionaries(words, trees, max_size=3),
    reason=st.none() | words,
)


@given(submissions)
def test_the_check_never_raises(asked: Submission) -> None:
    for submission in (asked, msgspec.structs.replace(asked, to="+46701740605", brand=None, category="otp")):
        result = check(submission, RIGHTS, NOON)
        assert isinstance(result, CheckedSubmission) or (isinstance(result, SubmissionProblem) and result.code in KINDS)


def test_a_text_may_have_255_segments() -> None:
    checked = check(Submission(to="+46701740605", text="x" * 39_015), AccountRights(SHOP, hasher()), NOON)
    assert isinstance(checked, CheckedSubmission)
    assert checked.segments == 255


@pytest.mark.parametrize(
    ("text", "encoding", "expected"),
    [
        ("hello", None, ("gsm7", 1)),
        ("hello", "ucs2", ("ucs2", 1)),
        ("h€llo", "gsm7", ("gsm7", 1)),
        ("你" * 71, None, ("ucs2", 2)),
        ("é" * 161, "latin1", ("latin1", 2)),
    ],
)
def test_segments_of_a_text(text: str, encoding: Any, expected: tuple[str, int]) -> None:
    checked = check(Submission(to="46701740605", text=text, encoding=encoding), AccountRights(SHOP, hasher()), NOON)
    assert isinstance(checked, CheckedSubmission)
    assert (checked.encoding, checked.segments) == expected


def test_repr_of_rights_names_the_account_and_its_categories() -> None:
    assert repr(AccountRights(SHOP, hasher())) == "<AccountRights of shop: marketing+otp+transactional>"


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**300])
def test_an_integer_of_more_than_64_bits_is_refused(number: int) -> None:
    asked = Submission(to="+46701740605", text="x", metadata={"order": [number]})
    result = check(asked, AccountRights(SHOP, hasher()), NOON)
    assert isinstance(result, SubmissionProblem)
    assert (result.code, result.field) == ("invalid_value", "metadata")


CONTROLS = [chr(code) for code in (0, 1, 8, 0xB, 0xC, 0xE, 0x1B, 0x1F, 0x7F, 0x80, 0x85, 0x9F)]


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_are_refused_in_every_field(control: str) -> None:
    rights = AccountRights(SHOP, hasher())
    for fields, field in (
        ({"text": f"a{control}b"}, "text"),
        ({"text": "x", "client_ref": f"a{control}b"}, "client_ref"),
        ({"text": "x", "metadata": {"a": [{"b": f"a{control}b"}]}}, "metadata"),
        ({"text": "x", "metadata": {f"a{control}b": 1}}, "metadata"),
        ({"template": "shipped", "vars": {"number": f"1{control}", "of {number": "2"}}, "vars"),
    ):
        found = check(Submission(to="+46701740605", **fields), rights, NOON)
        assert isinstance(found, SubmissionProblem)
        if field != "vars" or found.field == "vars":
            assert (found.code, found.field) == ("invalid_value", field)
            assert f"U+{ord(control):04X}" in found.detail
    found = check(Submission(to="+46701740605", text="x", sender=f"S{control}"), AccountRights(OTHER, hasher()), NOON)
    assert isinstance(found, SubmissionProblem)
    assert found.field == "from"


def test_line_breaks_and_tabs_are_text_and_so_is_a_backslash() -> None:
    asked = Submission(to="+46701740605", text="a\r\nb\tc\u00a0\u200b", metadata={"a": "b\n\\u0001 \\b", "c": "\t"})
    assert isinstance(check(asked, AccountRights(SHOP, hasher()), NOON), CheckedSubmission)
    found = check(msgspec.structs.replace(asked, client_ref="a\nb"), AccountRights(SHOP, hasher()), NOON)
    assert isinstance(found, SubmissionProblem)
    assert found.field == "client_ref"
