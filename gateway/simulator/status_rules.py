"""The command_status of each submit: the rate limit first, then the status rules. Time is an argument."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from random import Random

from gateway.simulator.faults import Faults, StatusRule

MAX_KEYS = 200_000
"""(destination, text) pairs that ``first`` rules remember; beyond it they start over."""

_FORMS = defaultdict(set[str], {b"R": {"any", "relative"}, b"+": {"any", "absolute"}, b"-": {"any", "absolute"}})
"""Forms of a validity_period by its last octet."""


def has_passed(validity: bytes, clock: int, wall: float) -> bool:
    """Whether an absolute validity is past at ``wall`` (s since the epoch), read ``clock`` minutes ahead of UTC."""
    if len(validity) != 16 or validity[-1:] not in (b"+", b"-"):
        return False
    try:
        until = datetime.strptime(validity[:12].decode(), "%y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return True
    return until.timestamp() - clock * 60 <= wall


class StatusRules:
    """Decides the command_status of each submit. ``count`` numbers the submits from 1."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._full_at = 0.0  # when the bucket is full again, on the clock of ``now``
        self._seen: dict[tuple[StatusRule, bytes, bytes], int] = {}

    def throttled(self, faults: Faults, now: float) -> bool:
        """Take one token from the bucket of ``faults.rate``; return True when it is empty."""
        room = (faults.burst or max(1.0, faults.rate / 10)) / faults.rate
        begins = max(self._full_at, now)
        if begins + 1 / faults.rate - now > room + 1e-9:
            return True
        self._full_at = begins + 1 / faults.rate
        return False

    def status(self, rules: list[StatusRule], count: int, dest: bytes, payload: bytes, validity: bytes = b"") -> int:
        """Return the status of the first rule that applies, 0 when none does."""
        for rule in rules:
            if self._applies(rule, count, dest, payload, validity):
                return rule.status
        return 0

    def _applies(self, rule: StatusRule, count: int, dest: bytes, payload: bytes, validity: bytes) -> bool:
        if rule.validity and rule.validity not in _FORMS[validity[-1:]]:
            return False
        if rule.dest and not dest.startswith(rule.dest.encode()):
            return False
        if rule.every and count % rule.every:
            return False
        if rule.prob and self._random.random() >= rule.prob:
            return False
        return not rule.first or self._is_among_first(rule, dest, payload)

    def _is_among_first(self, rule: StatusRule, dest: bytes, payload: bytes) -> bool:
        if len(self._seen) >= MAX_KEYS:
            self._seen.clear()
        key = (rule, dest, payload)
        seen = self._seen[key] = self._seen.get(key, 0) + 1
        return seen <= rule.first
