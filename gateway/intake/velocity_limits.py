"""Intake's limits by destination: what of a slice may come in, and what the rest is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.intake.durable_write import in_time
from gateway.intake.submission import SubmissionProblem
from gateway.intake.validated import ValidatedSubmission
from gateway.model import Recipient
from gateway.policy.velocity import VelocityLimit, VelocityTable, nearest
from gateway.store.velocity_counts import VelocityGrant, VelocityWant


class DestinationCounts(Protocol):
    """Who counts (``gateway.store.velocity_counts.VelocityCounts``)."""

    async def take(self, wants: Sequence[VelocityWant], now: int) -> list[VelocityGrant]: ...


class VelocityReferences(Protocol):
    """Who knows repeats by their references."""

    async def by_references(self, wanted: Sequence[tuple[Recipient, bytes]]) -> list[bytes | None]: ...


class VelocityLimits:
    """``over`` before what was checked is decided."""

    def __init__(self, counts: DestinationCounts, store: VelocityReferences) -> None:
        self._counts = counts
        self._store = store

    async def over(
        self,
        cases: Sequence[ValidatedSubmission],
        everybody: VelocityTable,
        reference: Callable[[ValidatedSubmission], bytes],
        now: int,
    ) -> dict[int, SubmissionProblem]:
        """Place of each case that is too much -> what its sender is told. ``now``: ms UTC. Raises StoreError.

        Repeats of what was accepted are let through, for they are answered with it; that is looked up only when there
        is too much.
        """
        groups: dict[tuple[str, VelocityLimit], list[ValidatedSubmission]] = {}
        for case in cases:
            if limit := nearest(case.rights.velocity, everybody, case.checked.digits):
                groups.setdefault((case.rights.name, limit), []).append(case)
        if not groups:
            return {}
        wants = [VelocityWant(account, limit, len(some)) for (account, limit), some in groups.items()]
        over: dict[int, SubmissionProblem] = {}
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


def _problem(limit: VelocityLimit, room_at: int, now: int) -> SubmissionProblem:
    where = f"to numbers that begin with +{limit.prefix}" if limit.prefix else "to all numbers together"
    detail = f"this account may send {limit.limit} messages in {_span(limit.window // 1000)} {where}"
    return SubmissionProblem("velocity_limit", detail, "to", retry_at=room_at, wait=max(0, room_at - now) / 1000)


def _span(seconds: int) -> str:
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % unit == 0:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"
