"""Content: something, and no more than a concatenation can count."""

from __future__ import annotations

import pytest

from gateway.policy.content import fault


@pytest.mark.parametrize(
    ("segments", "most", "expected"),
    [
        (0, 255, "content_empty"),
        (1, 255, None),
        (255, 255, None),
        (256, 255, "content_too_long"),
        (4, 3, "content_too_long"),
    ],
)
def test_segments(segments: int, most: int, expected: str | None):
    assert fault(segments, most) == expected
