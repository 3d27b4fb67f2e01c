"""Counts messages refused again and again with statuses that blame the carrier's pace or session. Pure, bounded."""

from __future__ import annotations

MOST = 1000
"""Messages remembered; the one refused longest ago is forgotten first."""


class RepeatedRefusals:
    """How often each message was refused, and how much the carrier had accepted at its first refusal."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<RepeatedRefusals {len(self._seen)} messages>"

    def again(self, message: bytes, accepted: int) -> tuple[int, bool]:
        """Count a refusal; return how many there are by now, and whether anything was ``accepted`` since the first."""
        times, first = self._seen.pop(message, (0, accepted))
        self._seen[message] = times + 1, first
        if len(self._seen) > MOST:
            del self._seen[next(iter(self._seen))]
        return times + 1, accepted > first

    def forget(self, message: bytes) -> None:
        """Forget a message of which a part was accepted."""
        self._seen.pop(message, None)
