"""Caps count per category, and say when to ask again."""

from __future__ import annotations

from gateway.model import Cap, Category, Facts
from gateway.policy.caps import by_pace, count_scope, room_at

MINUTE, HOUR, DAY = Cap(b"a" * 8, 1, 60), Cap(b"a" * 8, 5, 3600), Cap(b"a" * 8, 10, 86400)


CAPS = (MINUTE, HOUR, DAY)


def test_there_is_room_when_no_cap_is_full_or_nothing_is_known():
    assert room_at(CAPS, Facts(used=(0, 4, 9)), 1000) == 0
    assert room_at(CAPS, Facts(), 1000) == 0
    assert room_at((), Facts(used=(1,)), 1000) == 0


def test_room_is_there_when_the_last_full_cap_has_it():
    """By what the store knows; a cap that a batch has filled itself is estimated by its pace."""
    assert room_at(CAPS, Facts(used=(1, 5, 9), room_at=(61_000, 2_000_000, 0)), 1000) == 2_000_000
    assert room_at(CAPS, Facts(used=(1, 4, 10), room_at=(61_000, 0, 0)), 1000) == by_pace(DAY, 1000)
    assert room_at(CAPS, Facts(used=(1, 0, 0), room_at=(900, 0, 0)), 1000) == 1001, "the store's clock is behind"


def test_the_pace_of_a_cap():
    assert by_pace(MINUTE, 1000) == 61_000
    assert by_pace(HOUR, 0) == 720_000


def test_categories_do_not_share_a_count():
    scopes = {count_scope(b"a" * 8, category) for category in Category}
    assert len(scopes) == len(Category)
    assert b"a" * 8 not in scopes
    assert all(len(scope) == 8 for scope in scopes)
