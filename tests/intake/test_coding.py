"""What an app is told of its text is what its carrier will be sent."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.carriers.submit import SubmitEncoder
from gateway.config import CarrierTlv, Route
from gateway.intake.coding import DEFAULT_CODING, NO_DEMAND, coding_of, count_for, demands_of, split_for
from gateway.intake.policy_context import PolicyContext
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionProblem
from gateway.intake.validation import CheckedSubmission, check
from gateway.model import Content
from gateway.smpp.text import TextError
from tests.carriers.test_submit import NOW, carrier, leased
from tests.intake.fakes import NOON, SHOP, hasher

KEYS = [
    {"alphabet": alphabet, "default_alphabet": default, "long_messages": long}
    for alphabet, default, long in product(
        ("gsm7", "latin1"), ("gsm7", "latin1", "ascii"), ("udh8", "udh16", "sar", "payload")
    )
]


@given(
    st.text(st.sampled_from("abc @[€éäåçΩ½`你😀\x1b\n"), min_size=1, max_size=330),
    st.sampled_from(KEYS),
    st.sampled_from(["", "gsm7", "latin1", "ucs2"]),
)
def test_the_segments_told_are_the_parts_sent(text: str, keys: dict[str, Any], asked: str) -> None:
    speaking = carrier(**keys)
    try:
        counted = count_for(text, asked, coding_of(speaking))
    except TextError:
        with pytest.raises(TextError):
            split_for(text, asked, coding_of(speaking), 1)
        return
    sent = SubmitEncoder(speaking).encode(leased(content=Content(text, asked)), NOW)
    assert len(sent) == (1 if keys["long_messages"] == "payload" else counted.segments)
    assert split_for(text, asked, coding_of(speaking), 1).alphabet is counted.alphabet


@pytest.mark.parametrize(
    ("keys", "text", "encoding", "segments"),
    [
        ({}, "x" * 150, "gsm7", 1),
        ({"alphabet": "latin1"}, "x" * 150, "latin1", 2),
        ({"alphabet": "latin1"}, "Ω", "ucs2", 1),
        ({"default_alphabet": "ascii"}, "x" * 160, "gsm7", 1),
        ({"default_alphabet": "ascii"}, "é" * 71, "ucs2", 2),
        ({"default_alphabet": "latin1"}, "é" * 160, "gsm7", 1),
        ({"default_alphabet": "latin1"}, "[" * 81, "gsm7", 2),
        ({"long_messages": "udh16"}, "x" * 306, "gsm7", 3),
        ({"long_messages": "udh8"}, "x" * 306, "gsm7", 2),
        ({"long_messages": "payload"}, "x" * 306, "gsm7", 2),  # the carrier cuts it; so much it costs
    ],
)
def test_segments_are_those_of_the_carrier_of_the_route(
    keys: dict[str, Any], text: str, encoding: str, segments: int
) -> None:
    checked = checked_for(Submission(to="+46701740605", text=text), keys)
    assert isinstance(checked, CheckedSubmission)
    assert (checked.encoding, checked.segments, checked.route) == (encoding, segments, "north")


@pytest.mark.parametrize("keys", [{}, {"alphabet": "latin1"}, {"default_alphabet": "ascii"}])
def test_an_alphabet_that_the_text_does_not_fit_is_refused_at_any_carrier(keys: dict[str, Any]) -> None:
    problem = checked_for(Submission(to="+46701740605", text="你", encoding="gsm7"), keys)
    assert isinstance(problem, SubmissionProblem)
    assert (problem.code, problem.field) == ("encoding_mismatch", "text")


def test_what_the_carrier_requires_is_checked_by_intake() -> None:
    keys = {"tlvs": (CarrierTlv(tag=0x1401, metadata="template_id", templates={"shipped": "1107"}, required=True),)}
    asked = Submission(to="+46701740605", text="hello")
    problem = checked_for(asked, keys)
    assert isinstance(problem, SubmissionProblem)
    assert (problem.code, problem.field) == ("invalid_value", "metadata.template_id")
    assert "0x1401" in problem.detail
    told = Submission(to="+46701740605", text="hello", metadata={"template_id": 1107})
    assert isinstance(checked_for(told, keys), CheckedSubmission)
    filled = Submission(to="+46701740605", template="shipped", vars={"number": "7"})
    assert isinstance(checked_for(filled, keys), CheckedSubmission)


def test_the_carrier_that_counts_is_the_one_that_most_messages_go_to() -> None:
    latin = carrier(alphabet="latin1")
    other = carrier(alphabet="gsm7")
    carriers = (latin, type(latin)(name="south", hosts=other.hosts, system_id="gw", password="pw"))
    routes = (
        Route(name="a", carriers=("north", "south")),
        Route(name="b", carriers=("south", "north")),
        Route(name="c", carriers=("south", "north"), weights=(1, 3)),
    )
    demands = demands_of(routes, carriers)
    assert set(demands) == {"a", "c"}  # the usual is not kept
    assert demands["a"].coding == coding_of(latin) != DEFAULT_CODING
    assert NO_DEMAND.coding == DEFAULT_CODING


class OneRoute(PolicyContext):
    """A policy context whose messages all go to one carrier."""

    def __init__(self, keys: dict[str, Any]) -> None:
        self.demands = demands_of([Route(name="north", carriers=("north",))], [carrier(**keys)])

    def route(self, *_: Any) -> str:
        return "north"


def checked_for(asked: Submission, keys: dict[str, Any]) -> CheckedSubmission | SubmissionProblem:
    return check(asked, AccountRights(SHOP, hasher()), NOON, OneRoute(keys))
