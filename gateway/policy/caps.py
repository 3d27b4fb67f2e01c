"""Frequency caps per recipient: rolling windows, counted per message and not per part."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import Cap, Category, Facts


def count_scope(scope: bytes, category: Category) -> bytes:
    """Return the scope a category counts under: one-time passwords and marketing of an account count apart."""
    return scope[:7] + bytes((scope[7] ^ (0x40 + category),))


def room_at(caps: Sequence[Cap], facts: Facts, now: int) -> int:
    """Return when all caps counted in ``facts`` have room for one more (ms UTC), 0 when they have room now."""
    latest = 0
    for index, (cap, count) in enumerate(zip(caps, facts.used, strict=False)):
        if count >= cap.limit:
            known = facts.room_at[index] if facts.room_at else 0
            latest = max(latest, max(known, now + 1) if known else by_pace(cap, now))
    return latest


def by_pace(cap: Cap, now: int) -> int:
    """Return when to check a full cap again (ms UTC): room returns at window divided by limit on average."""
    return now + cap.window * 1000 // cap.limit
