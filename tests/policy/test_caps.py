"""Caps count per category, and say when to ask again."""

from __future__ import annotations

from gateway.model import Cap, Category
from gateway.policy.caps import again_at, count_scope, full

MINUTE, HOUR, DAY = Cap(b"a" * 8, 1, 60), Cap(b"a" * 8, 5, 3600), Cap(b"a" * 8, 10, 86400)


def test_full_names_the_longest_cap_without_room():
    caps = (MINUTE, HOUR, DAY)
    assert full(caps, (0, 0, 0)) is None
    assert full(caps, (1, 1, 1)) is MINUTE
    assert full(caps, (1, 5, 9)) is HOUR
    assert full(caps, (0, 4, 10)) is DAY
    assert full(caps, ()) is None
    assert full((), (1,)) is None


def test_again_at_the_pace_of_the_cap():
    assert again_at(MINUTE, 1000) == 61_000
    assert again_at(HOUR, 0) == 720_000


def test_categories_do_not_share_a_count():
    scopes = {count_scope(b"a" * 8, category) for category in Category}
    assert len(scopes) == len(Category)
    assert b"a" * 8 not in scopes
    assert all(len(scope) == 8 for scope in scopes)
