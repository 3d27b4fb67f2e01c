"""Which media type is chosen by an ``Accept``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.content_negotiation import JSON, NDJSON, negotiate
from gateway.api.problems import HttpProblem

FORMS = (JSON, NDJSON)


@pytest.mark.parametrize(
    ("accept", "usual", "chosen"),
    [
        ("", NDJSON, NDJSON),
        ("*/*", NDJSON, NDJSON),
        ("*/*", JSON, JSON),
        ("application/json", NDJSON, JSON),
        ("application/x-ndjson", JSON, NDJSON),
        ("Application/X-NDJSON ; charset=utf-8", JSON, NDJSON),
        ("application/json, text/plain, */*", NDJSON, NDJSON),  # wanted as much as anything
        ("application/json;q=0.9, application/x-ndjson", JSON, NDJSON),
        ("application/json, */*;q=0.1", NDJSON, JSON),
        ("application/*", NDJSON, NDJSON),
        ("application/x-ndjson;q=0, */*", NDJSON, JSON),
        ("text/html, application/json;q=nonsense", NDJSON, JSON),
    ],
)
def test_the_media_type_chosen(accept: str, usual: bytes, chosen: bytes) -> None:
    assert negotiate([(b"host", b"x"), (b"accept", accept.encode())], usual, FORMS) == chosen


def test_several_headers_are_one_list() -> None:
    headers = [(b"accept", b"text/html"), (b"accept", NDJSON)]
    assert negotiate(headers, JSON, FORMS) == NDJSON
    assert negotiate([], JSON, FORMS) == JSON


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "text/*, image/png"])
def test_an_unavailable_media_type_is_406(accept: str) -> None:
    with pytest.raises(HttpProblem) as caught:
        negotiate([(b"accept", accept.encode())], JSON, FORMS)
    assert (caught.value.body.status, caught.value.body.code) == (406, "not_acceptable")


@given(st.binary(max_size=80))
def test_any_header_is_answered(accept: bytes) -> None:
    try:
        assert negotiate([(b"accept", accept)], NDJSON, FORMS) in FORMS
    except HttpProblem as refused:
        assert refused.body.status == 406
