"""Limits on how much an account may send to ranges of numbers, applied to a slice of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.intake.durable_write import read_in_time
from gateway.intake.submission import SubmissionProblem
from gateway.intake.validated import ValidatedSubmission
from gateway.model import Recipient
from gateway.policy.velocity import VelocityLimit, VelocityTable, nearest
from gateway.store.velocity_counts import VelocityWant

if TYPE_CHECKING:
    from gateway.store.messages import MessageStore
    from gateway.store.velocity_counts import VelocityCounts


class VelocityLimits:
    """Count what was validated against the limits, before it is decided."""

    def __init__(self, counts: VelocityCounts, store: MessageStore) -> None:
        self._counts = counts
        self._store = store

    async def over_limit(
        self,
        validated: Sequence[ValidatedSubmission],
        shared: VelocityTable,
        reference: Callable[[ValidatedSubmission], bytes],
        now: int,
    ) -> dict[int, SubmissionProblem]:
        """Return the index of each submission that exceeds a limit -> its problem. Raises StoreError.

        ``shared``: the limits of all accounts, beside the account's own. ``now``: ms UTC. Repeats of accepted messages
        pass, since they are answered with the first one; they are looked up only when a limit is exceeded.
        """
        groups: dict[tuple[str, VelocityLimit], list[ValidatedSubmission]] = {}
        for each in validated:
            if limit := nearest(each.rights.velocity, shared, each.checked.digits):
                groups.setdefault((each.rights.name, limit), []).append(each)
        if not groups:
            return {}
        wants = [VelocityWant(account, limit, len(group)) for (account, limit), group in groups.items()]
        grants = await read_in_time(self._counts.take(wants, now))
        over: dict[int, SubmissionProblem] = {}
        references: dict[int, tuple[Recipient, bytes]] = {}
        for want, grant, group in zip(wants, grants, groups.values(), strict=True):
            for each in group[grant.count :]:
                over[each.index] = _problem(want.velocity, grant.room_at, now)
                if name := reference(each):
                    references[each.index] = (each.recipient, name)
        if references:
            first_ids = await read_in_time(self._store.by_references(list(references.values())))
            for index, first_id in zip(references, first_ids, strict=True):
                if first_id is not None:
                    del over[index]
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
