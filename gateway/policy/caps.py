"""Caps on how often one number may be written to: rolling windows, counted once per message, never per part."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import Cap, Category, Facts


def count_scope(scope: bytes, category: Category) -> bytes:
    """The scope a category counts under, so that codes and advertising of one account do not share a count."""
    return scope[:7] + bytes((scope[7] ^ (0x40 + category),))


def room_at(caps: Sequence[Cap], facts: Facts, now: int) -> int:
    """When all caps that ``facts`` tells about have room for one more (ms); 0 when they have it now."""
    latest = 0
    for place, (cap, count) in enumerate(zip(caps, facts.used, strict=False)):
        if count >= cap.limit:
            told = facts.room_at[place] if facts.room_at else 0
            latest = max(latest, max(told, now + 1) if told else by_pace(cap, now))
    return latest


def by_pace(cap: Cap, now: int) -> int:
    """When to ask again about a full cap (ms): its window divided by its limit is the pace at which room returns."""
    return now + cap.window * 1000 // cap.limit
