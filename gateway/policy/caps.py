"""Caps on how often one number may be written to: rolling windows, counted once per message, never per part."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.model import Cap, Category


def count_scope(scope: bytes, category: Category) -> bytes:
    """The scope a category counts under, so that codes and advertising of one account do not share a count."""
    return scope[:7] + bytes((scope[7] ^ (0x40 + category),))


def full(caps: Sequence[Cap], used: Sequence[int]) -> Cap | None:
    """The longest cap without room for one more, given what stands under each; None when all have room."""
    taken = [cap for cap, count in zip(caps, used, strict=False) if count >= cap.limit]
    return max(taken, key=lambda cap: cap.window, default=None)


def again_at(cap: Cap, now: int) -> int:
    """When to ask again (ms): a full window divided by its limit is the pace at which room returns."""
    return now + cap.window * 1000 // cap.limit
