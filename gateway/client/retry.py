"""When a call is repeated, and how long to wait before."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from gateway.client.errors import ClientError


class Retry(msgspec.Struct, frozen=True):
    """The retry policy: at most ``tries`` attempts within ``patience`` seconds.

    Delays double from ``first`` to ``longest`` seconds, with jitter. Retry-After is honoured; a Retry-After beyond
    ``patience`` ends the attempts.
    """

    tries: int = 6
    patience: float = 30.0
    first: float = 0.2
    longest: float = 5.0

    def pause(self, error: ClientError, tried: int, spent: float, chance: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        ``tried``: attempts made; ``spent``: seconds since the first one; ``chance``: random number from 0 to 1.
        """
        if not error.retryable or tried >= self.tries:
            return None
        pause: float = min(self.longest, self.first * 2 ** (tried - 1)) * (0.5 + chance / 2)
        if error.retry_after is not None:
            pause = error.retry_after + pause / 4
        return pause if spent + pause <= self.patience else None


def seconds_of(retry_after: str, now: datetime) -> float | None:
    """Return a Retry-After header (seconds or an HTTP date, RFC 9110, 10.2.3) in seconds; None when it is neither."""
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
