"""Intake's limits by destination: what of a slice may come in, and what the rest is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.model import Recipient
from gateway.pipeline.cases import Case
from gateway.pipeline.submission import Problem
from gateway.pipeline.writes import in_time
from gateway.policy.velocity import Velocities, Velocity, nearest
from gateway.store.velocity import Let, Want


class Counts(Protocol):
    """Who counts (``gateway.store.velocity.VelocityCounts``)."""

    async def take(self, wants: Sequence[Want], now: int) -> list[Let]: ...


class References(Protocol):
    """Who knows repeats by their references."""

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]: ...


class VelocityLimits:
    """``over`` before what was checked is decided."""

    def __init__(self, counts: Counts, store: References) -> None:
        self._counts = counts
        self._store = store

    async def over(
        self, cases: Sequence[Case], everybody: Velocities, reference: Callable[[Case], bytes], now: int
    ) -> dict[int, Problem]:
        """Place of each case that is too much -> what its sender is told. ``now``: ms UTC. Raises StoreError.

        Repeats of what was accepted are let through, for they are answered with it; that is looked up only when there
        is too much.
        """
        groups: dict[tuple[str, Velocity], list[Case]] = {}
        for case in cases:
            if limit := nearest(case.rights.velocity, everybody, case.checked.digits):
                groups.setdefault((case.rights.name, limit), []).append(case)
        if not groups:
            return {}
        wants = [Want(account, limit, len(some)) for (account, limit), some in groups.items()]
        over: dict[int, Problem] = {}
        named: dict[int, tuple[Recipient, bytes]] = {}
        for want, let, some in zip(wants, await in_time(self._counts.take(wants, now)), groups.values(), strict=True):
            for case in some[let.count :]:
                over[case.place] = _problem(want.velocity, let.room_at, now)
                if name := reference(case):
                    named[case.place] = (case.recipient, name)
        if named:
            firsts = await in_time(self._store.by_references(list(named.values())))
            for place, first in zip(named, firsts, strict=True):
                if first is not None:
                    del over[place]
        return over


def _problem(limit: Velocity, room_at: int, now: int) -> Problem:
    where = f"to numbers that begin with +{limit.prefix}" if limit.prefix else "to all numbers together"
    detail = f"this account may send {limit.limit} messages in {_span(limit.window // 1000)} {where}"
    return Problem("velocity_limit", detail, "to", retry_at=room_at, wait=max(0, room_at - now) / 1000)


def _span(seconds: int) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
